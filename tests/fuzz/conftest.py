"""How many inputs are tried: few and always the same in `make test`, many and new ones in `make soak`."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

MOST_MEGABYTES = 1500
"""What all inputs of one module together may add to the memory of the process at its peak."""

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("short", max_examples=60, deadline=None, derandomize=True, suppress_health_check=_CHECKS)
settings.register_profile(
    "soak",
    max_examples=int(os.environ.get("SOAK_EXAMPLES", "3000")),
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=_CHECKS,
)
settings.load_profile("soak" if os.environ.get("SOAK") == "1" else "short")


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MOST_MEGABYTES, f"hostile input took {grown:.0f} MB"
