"""Whether anybody still waits for what a thread does, and what it tells them meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Generic, TypeVar

from captioning.core.errors import Stopped

Update = TypeVar("Update")

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


class Job(Generic[Update]):
    """A worker's link to the page: a place for its newest state, and the request to stop. Thread-safe."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._latest: Update | None = None

    def show(self, update: Update) -> None:
        """Offer the newest state; one that the page did not fetch in time is dropped. Raises `Stopped`."""
        self.check()
        with self._lock:
            self._latest = update

    def check(self) -> None:
        """Raise `Stopped` if nobody waits for the result any more."""
        if self._stop.is_set():
            raise Stopped("Stopped.")

    def take(self) -> Update | None:
        """Return the newest state, unless it was taken before."""
        with self._lock:
            update, self._latest = self._latest, None
        return update
