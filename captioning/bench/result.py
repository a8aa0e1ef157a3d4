"""What a case measures, and how two ways of doing the same are measured beside each other."""

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
    """One measured case: medians over the repetitions, in `unit`; `spread` is half the range of ours.

    `reference` is the plain way, `ratio` how many times ours goes into it, and `limit` what the machine's
    own matrix rate and memory bandwidth, measured in the same run, would allow; `None` where there is no such thing.
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
    """A case by name; `run` takes what all share and how often to repeat. `quick` ones are part of a short run.

    Results come as they are measured; `run` raises `NotMeasuredError` for what this machine cannot measure.
    """

    name: str
    title: str
    run: Callable[[Setup, int], Iterable[BenchResult]]
    quick: bool = False


class NotMeasuredError(CaptioningError):
    """What a case needs is missing on this machine."""


def alone(case: str, ours: list[float], setting: str, unit: str = "s") -> BenchResult:
    """A case that no plain way stands beside."""
    return BenchResult(case, statistics.median(ours), unit, None, None, None, _spread(ours), None, len(ours), setting)


def beside(
    case: str, ours: list[float], reference: list[float], limit: float | None, setting: str, unit: str = "s"
) -> BenchResult:
    """A case and the plain way."""
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
