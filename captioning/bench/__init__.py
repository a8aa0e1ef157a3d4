"""Speed, always as a ratio: ours and the plain way in turn within one run, on the same machine in the same minute.

Models are full-size with random weights, because content does not change the work. The plain way is the loop
that a competent person writes with transformers: float32, one `generate` a prompt. `cases` has one file for each
kind of work; a new one is a file there and a name in its `CASES`.
"""

from __future__ import annotations

from captioning.bench.cases import CASES
from captioning.bench.report import as_table
from captioning.bench.result import BenchResult
from captioning.bench.run import run_cases

__all__ = ["CASES", "BenchResult", "as_table", "run_cases"]
