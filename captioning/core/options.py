"""Options: what each field of a values class means, written once, beside the field.

A field is annotated `Annotated[int, Option("longest continuation, in tokens", …)]`. Range checks, flags of commands,
controls of the page, parameters of endpoints, settings and tables in documents are made of that, so a new field is
written in one place.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from captioning.core.errors import OptionsError

Values = TypeVar("Values")


@dataclass(frozen=True, slots=True)
class Option:
    """The meaning and the range of a value.

    `help` begins in lower case, so that it can follow a name. On the page the control is called `label`; `slider` holds
    its ends and its step, which may be narrower than the range, and `start` is where it stands, if not at the default.
    `methods` are the decoding methods that the value changes, none for all. `example` shows a value in documents.
    """

    help: str
    label: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    slider: tuple[float, float, float] | None = None
    start: float | None = None
    methods: tuple[str, ...] = ()
    example: Any = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that can be chosen: its name, its type, its default, and what it means.

    A parameter that is `required` has no default; one whose default is `None` may be `None`.
    """

    name: str
    kind: Any
    default: Any
    option: Option
    required: bool = False

    @property
    def flag(self) -> str:
        """The flag of a command."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def meaning(self) -> str:
        """Return the meaning with range or choices and default, on one line."""
        notes = [_range_of(self.option), ", ".join(self.option.choices)]
        if not self.required:
            notes.append("optional" if self.default is None else f"default: {self.default!r}")
        shown = "; ".join(note for note in notes if note)
        return f"{self.option.help} ({shown})" if shown else self.option.help

    def check(self, value: object) -> None:
        """Raise `OptionsError` where a value has another type or leaves its range."""
        if value is None and self.default is None:
            return
        if self.option.choices and value not in self.option.choices:
            choices = ", ".join(self.option.choices)
            raise OptionsError(f"There is no {self.name} {reprlib.repr(value)}; choose from {choices}.")
        objection = self._objection(value)
        if objection is not None:
            raise OptionsError(f"{self.name} {objection}, not {reprlib.repr(value)}.")

    def _objection(self, value: object) -> str | None:
        """Return what a value must be and is not; `None` where all is well."""
        if self.kind is int and (isinstance(value, bool) or not isinstance(value, int)):
            return "must be a whole number"
        if self.kind is float and (isinstance(value, bool) or not isinstance(value, int | float)):
            return "must be a number"
        if self.kind is bool and not isinstance(value, bool):
            return "must be true or false"
        if self.kind is str and not isinstance(value, str):
            return "must be a text"
        if self.kind == list[str] and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            return "must be a list of texts"
        if isinstance(value, int | float) and not _is_within(value, self.option):
            return f"must be {_range_of(self.option)}"
        return None

    def read(self, text: str) -> Any:
        """Return the value that a text stands for. Raises `OptionsError` where it stands for none."""
        value: Any = text
        if self.kind is bool:
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif self.kind in (int, float):
            with suppress(ValueError):  # `check` has the sentence
                value = self.kind(text)
        self.check(value)
        return value


def parameters(kind: Any) -> tuple[Parameter, ...]:
    """Return a parameter for every field of a values class, in their order."""
    return _parameters(kind)


@cache
def _parameters(kind: Any) -> tuple[Parameter, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_make_parameter(f.name, hints[f.name], f.default) for f in fields(kind))


def make(kind: type[Values], given: Mapping[str, Any]) -> Values:
    """Return a values class with the values that its fields are given by name, among others."""
    return kind(**{parameter.name: given[parameter.name] for parameter in parameters(kind)})


def check_fields(value: Any) -> None:
    """Raise `OptionsError` for the first field of a value that has another type or leaves its range."""
    for parameter in parameters(type(value)):
        parameter.check(getattr(value, parameter.name))


def _make_parameter(name: str, hint: Any, default: Any) -> Parameter:
    kind, meaning = get_args(hint)
    option = Option(meaning) if isinstance(meaning, str) else meaning
    if get_origin(kind) is Literal:
        kind, option = str, replace(option, choices=get_args(kind))
    return Parameter(name, kind, default, option, required=default is MISSING)


def _is_within(value: float, option: Option) -> bool:
    """Return whether a number lies in the range; what is no number does not."""
    return (option.low is None or value >= option.low) and (option.high is None or value <= option.high)


def _range_of(option: Option) -> str:
    if option.low is None:
        return ""
    return f"at least {option.low}" if option.high is None else f"between {option.low} and {option.high}"
