"""What a tab's file declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from captioning.ui.page import Page


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab's name, its id for links, and the function that draws it where the page is being built."""

    title: str
    tab_id: str
    build: Callable[[Page], None]
