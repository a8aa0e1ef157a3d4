"""Tables of export formats: what a file is called, what it holds, and the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from captioning.core.errors import OptionsError

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Format(Generic[Subject]):
    """A kind of file that is made of a subject.

    `name` is how a page or a client asks for it, `title` what its button says, `file` the end of its name, and `about`
    what it holds, as the end of "Save …".
    """

    name: str
    title: str
    file: str
    about: str
    make: Callable[[Subject], bytes]

    def name_for(self, subject: str) -> str:
        """Return the name of a file that is made of what is called `subject`."""
        return f"{subject or 'picture'}-{self.file}"


def find_format(formats: Sequence[Format[Subject]], name: object) -> Format[Subject]:
    """Return the format of that name. Raises `OptionsError` where the table has none."""
    for known in formats:
        if known.name == name:
            return known
    raise OptionsError(f"There is no format {str(name)[:40]!r}; choose from {', '.join(one.name for one in formats)}.")


def describe_formats(formats: Sequence[Format[Any]]) -> list[list[str]]:
    """Return what a page needs to draw a button for each format: name, title, what the file holds."""
    return [[known.name, known.title, known.about] for known in formats]
