"""All cases in the order of the table, one file for each kind of work."""

from __future__ import annotations

from captioning.bench.cases import captions, embedded, explorer, frames, gpu, image_map, memory, start, trace, visitors
from captioning.bench.result import BenchCase

_MODULES = (captions, trace, explorer, frames, embedded, image_map, start, visitors, memory, gpu)
CASES: dict[str, BenchCase] = {case.name: case for module in _MODULES for case in module.CASES}
"""Every case by its name."""
