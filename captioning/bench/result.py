"""Cases and results, and the figures of a case with or without a reference."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from captioning.core.errors import CaptioningError

if TYPE_CHECKING:
    from captioning.bench.setup import Setup


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One measured case: medians over the repetitions, in `unit`.

    `spread` and `reference_spread` are half the range. `ratio` is `reference` divided by `value`: above 1, ours is
    faster. `limit` is the time that the machine's matrix rate and memory bandwidth would allow. `None` means that the
    case has no such figure.
    """

    case: str
    value: float
    unit: str
    reference: float | None
    limit: float | None
    ratio: float | None
    spread: float
    reference_spread: float | None
    repetitions: int
    setting: str


@dataclass(frozen=True, slots=True)
class BenchCase:
    """A named case. `quick` cases are part of a short run.

    `run` takes the `Setup` that all cases share and the number of repetitions. It yields results as they are measured,
    and raises `NotMeasuredError` where this machine cannot measure the case.
    """

    name: str
    title: str
    run: Callable[[Setup, int], Iterable[BenchResult]]
    quick: bool = False


class NotMeasuredError(CaptioningError):
    """The error of a case whose requirements this machine lacks."""


def result_without_reference(case: str, ours: list[float], setting: str, unit: str = "s") -> BenchResult:
    """Return the result of a case that has no reference, from the measured values `ours`."""
    return BenchResult(case, statistics.median(ours), unit, None, None, None, _spread(ours), None, len(ours), setting)


def result_with_reference(
    case: str, ours: list[float], reference: list[float], limit: float | None, setting: str, unit: str = "s"
) -> BenchResult:
    """Return the result of a case from the measured values of ours and of the reference."""
    value, plain = statistics.median(ours), statistics.median(reference)
    return BenchResult(
        case=case,
        value=value,
        unit=unit,
        reference=plain,
        limit=limit,
        ratio=plain / value,
        spread=_spread(ours),
        reference_spread=_spread(reference),
        repetitions=len(ours),
        setting=setting,
    )


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / 2
