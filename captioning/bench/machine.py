"""What the machine can do at most, measured in the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from captioning.bench.timing import seconds_of


@dataclass(frozen=True, slots=True)
class MachineLimit:
    """What the machine can do at most: floating-point operations and bytes a second, in the named precision."""

    flops_per_second: float
    bytes_per_second: float
    precision: str

    @property
    def item_bytes(self) -> int:
        """Size of a number."""
        return 4 if self.precision == "float32" else 2

    def seconds(self, flops: float, num_bytes: float) -> float:
        """The least time for products of `flops` followed by reading `num_bytes` of weights."""
        return flops / self.flops_per_second + num_bytes / self.bytes_per_second


def measure_machine(dtype: Any) -> MachineLimit:
    """The best of several large matrix products, and of several passes over more memory than the caches hold."""
    import torch

    side = 2048
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    product = _best(lambda: a @ b, 8)
    # A matrix times a vector reads every weight once and does next to nothing with it: a decode step's pattern. In
    # float32, because torch's own product of bfloat16 is slower than memory.
    weights = torch.randn(8192, 8192)
    vector = torch.randn(8192, 1)
    reading = _best(lambda: weights @ vector, 8)
    size = weights.numel() * weights.element_size()
    return MachineLimit(2 * side**3 / product, size / reading, str(dtype).removeprefix("torch."))


def _best(work: Callable[[], object], repetitions: int) -> float:
    work()
    return min(seconds_of(work) for _ in range(repetitions))
