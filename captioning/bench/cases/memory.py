"""The memory of the process after many pictures: it must stop growing once the cache is full."""

from __future__ import annotations

from pathlib import Path

from captioning.bench.result import BenchCase, BenchResult, NotMeasuredError, result_with_reference
from captioning.bench.setup import OPTIONS, PROMPTS, Setup, new_picture

_PICTURES, _CACHE_BYTES = 500, 32 * 2**20


def _resident_megabytes() -> float:
    """Return this process's resident memory in 10⁶ bytes.

    Raises `NotMeasuredError` where the system has no `/proc/self/status`.
    """
    path = Path("/proc/self/status")
    if not path.is_file():
        raise NotMeasuredError("This system does not tell a process's memory in /proc; measure it on Linux.")
    status = path.read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024 / 1e6


def _memory(setup: Setup, repetitions: int) -> list[BenchResult]:
    """Measure resident memory at the end; the reference is the memory when the cache was first full."""
    from captioning.serving.loading import load_uncached
    from captioning.serving.shared_captioner import SharedCaptioner

    captioner = SharedCaptioner(load_uncached("embedded", "cpu"), max_bytes=_CACHE_BYTES)
    held, filled_at, filled = 0, 0, 0.0
    for number in range(_PICTURES):
        (features,) = captioner.encode([new_picture(number)])
        captioner.decode(features, PROMPTS[:1], OPTIONS)
        cached = captioner.own_status().cached_images
        if not filled_at and cached == held:
            filled_at, filled = number, _resident_megabytes()
        held = cached
    note = f"cache of {_CACHE_BYTES // 2**20} MB, full after {filled_at} pictures; the reference is then"
    return [
        result_with_reference(
            "memory_500", [_resident_megabytes()], [filled], None, setup.describe(captioner, note), "MB"
        )
    ]


CASES = (BenchCase("memory_500", "memory after 500 different pictures, embedded captioner", _memory),)
