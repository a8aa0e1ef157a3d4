"""Measure the seconds that calls take, one alone or two in turn."""

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
    """Seconds of each, alternating, after one unmeasured turn: what disturbs one disturbs the other as well."""
    ours(), reference()
    pairs = [(seconds_of(ours), seconds_of(reference)) for _ in range(repetitions)]
    return [a for a, _ in pairs], [b for _, b in pairs]
