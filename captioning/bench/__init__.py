"""The speed bench: each case runs ours and a reference in turn, so that one ratio compares both on the same machine.

Models are full-size with random weights, because content does not change the work. The reference is usually the loop
that a competent person writes with transformers: float32, one `generate` a prompt. `cases` has one file for each kind
of work. To add a case, add it to the `CASES` of such a file.
"""

from __future__ import annotations

from captioning.bench.cases import CASES
from captioning.bench.report import as_table
from captioning.bench.result import BenchResult
from captioning.bench.run import run_cases

__all__ = ["CASES", "BenchResult", "as_table", "run_cases"]
