"""The machine's limit: its matrix rate and memory bandwidth, measured in the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from captioning.bench.timing import seconds_of


@dataclass(frozen=True, slots=True)
class MachineLimit:
    """The machine's highest rates: floating-point operations and bytes a second, in the named precision."""

    flops_per_second: float
    bytes_per_second: float
    precision: str

    @property
    def item_bytes(self) -> int:
        """Return the bytes of one number in this precision."""
        return 4 if self.precision == "float32" else 2

    def seconds(self, flops: float, num_bytes: float) -> float:
        """Return the least time for products of `flops` followed by reading `num_bytes` of weights."""
        return flops / self.flops_per_second + num_bytes / self.bytes_per_second


def measure_machine(dtype: Any) -> MachineLimit:
    """Measure the best of several large matrix products, and of several passes over more memory than the cache has."""
    import torch

    side = 2048
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    product = _best(lambda: a @ b, 8)
    # A matrix times a vector reads every weight once and computes little, as a decode step does. In float32, because
    # torch's bfloat16 product is slower than memory.
    weights = torch.randn(8192, 8192)
    vector = torch.randn(8192, 1)
    reading = _best(lambda: weights @ vector, 8)
    size = weights.numel() * weights.element_size()
    return MachineLimit(2 * side**3 / product, size / reading, str(dtype).removeprefix("torch."))


def _best(work: Callable[[], object], repetitions: int) -> float:
    work()
    return min(seconds_of(work) for _ in range(repetitions))
