"""Running cases in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from captioning.bench.cases import CASES
from captioning.bench.result import BenchResult, NotMeasuredError
from captioning.bench.setup import Setup

Report = Callable[[str], None]
_REPETITIONS, _QUICK_REPETITIONS = 7, 2


def run_cases(names: Sequence[str], quick: bool, report: Report) -> list[BenchResult]:
    """Measure the named cases, or where none is named all, in turn; `quick` repeats less, and only a few of all.

    What cannot be measured here is reported and left out. Raises `NotMeasuredError` where that leaves nothing.
    """
    chosen = names or [name for name, case in CASES.items() if case.quick or not quick]
    setup = Setup()
    results: list[BenchResult] = []
    missing: NotMeasuredError | None = None
    for name in chosen:
        report(f"{name}: {CASES[name].title}")
        try:
            for result in CASES[name].run(setup, _QUICK_REPETITIONS if quick else _REPETITIONS):
                results.append(result)
                found = f"{result.value:.2f} {result.unit}" if result.ratio is None else f"{result.ratio:.2f}×"
                report(f"{name}: {found} ({result.setting})")
        except NotMeasuredError as error:
            report(f"{name}: not measured. {error}")
            missing = error
    if missing is not None and not results:
        raise missing
    return results
