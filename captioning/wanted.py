"""Whether anybody still waits for what a thread does: who waits for a model asks, and leaves where nobody does."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

LOOK_SECONDS = 0.2
"""How often who waits asks."""


def _always() -> None:
    """Nobody said how one would know."""


_check: ContextVar[Callable[[], None]] = ContextVar("check_wanted", default=_always)


def work_for(check: Callable[[], None]) -> None:
    """From here on, what this context does is wanted until `check` raises `Stopped`."""
    _check.set(check)


def check_wanted() -> None:
    """Raise `Stopped` where nobody waits any more for what this context does."""
    _check.get()()
