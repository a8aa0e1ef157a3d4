"""A Markdown page of the results."""

from __future__ import annotations

from collections.abc import Sequence

from captioning.bench.cases import CASES
from captioning.bench.result import BenchResult


def as_table(results: Sequence[BenchResult]) -> str:
    """Return the page: one row a result, and the machine it was measured on."""
    import platform

    import torch
    import transformers

    rows = "\n".join(_row(result) for result in results)
    return f"""# Speed

Written by `make bench`. In every row ours and the reference took turns in one run; medians ± half the range.
The reference of models is transformers' own `generate` at BLIP base size, float32, one prompt after the other; other
references are named in the row. The machine's limit is what its matrix rate and memory bandwidth, measured in the same
run, would allow for the same work. What was chosen and what was tried: [speed.md](speed.md).

| case | ours | reference | ratio | limit | setting |
|---|---|---|---|---|---|
{rows}

{platform.machine()}{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__},
transformers {transformers.__version__}, Python {platform.python_version()}.
"""


def _row(result: BenchResult) -> str:
    ours = f"{result.value:.2f} ± {result.spread:.2f} {result.unit}"
    plain = "–" if result.reference is None else f"{result.reference:.2f} ± {result.reference_spread:.2f} {result.unit}"
    ratio = "–" if result.ratio is None else f"**{result.ratio:.2f}×**"
    limit = "–" if result.limit is None else f"{result.limit:.2f} {result.unit}"
    return f"| {CASES[result.case].title} | {ours} | {plain} | {ratio} | {limit} | {result.setting} |"


def _processor() -> str:
    from captioning.core.runtime import cpu_has_bfloat16

    return " with bfloat16" if cpu_has_bfloat16() else " without bfloat16"
