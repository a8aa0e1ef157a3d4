"""Timers for one call, or for two calls in turn."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def take_turns(
    ours: Callable[[], object], reference: Callable[[], object], repetitions: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of `ours` and of `reference`, measured in turn after one unmeasured turn.

    Alternating spreads a disturbance of the machine over both.
    """
    ours(), reference()
    pairs = [(seconds_of(ours), seconds_of(reference)) for _ in range(repetitions)]
    return [a for a, _ in pairs], [b for _, b in pairs]
