"""The runner of cases, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from captioning.bench.cases import CASES
from captioning.bench.result import BenchResult, NotMeasuredError
from captioning.bench.setup import Setup

ReportLine = Callable[[str], None]
_REPETITIONS, _QUICK_REPETITIONS = 7, 2


def run_cases(names: Sequence[str], quick: bool, report: ReportLine) -> list[BenchResult]:
    """Measure the named cases in turn, or all where `names` is empty; `quick` repeats less and takes only quick cases.

    `report` receives a line for each case and result. A case that cannot be measured here is reported and left out.
    Raises `NotMeasuredError` where no result is left.
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
