"""What a process takes after many pictures: its caches have a size, and this is where that shows."""

from __future__ import annotations

from pathlib import Path

from captioning.bench.result import BenchCase, BenchResult, NotMeasuredError, beside
from captioning.bench.setup import OPTIONS, PROMPTS, Setup, new_picture

_PICTURES, _CACHE_BYTES = 500, 32 * 2**20


def _resident_megabytes() -> float:
    """Memory of this process that is in use, in 10⁶ bytes. Raises `NotMeasuredError` where the system does not say."""
    path = Path("/proc/self/status")
    if not path.is_file():
        raise NotMeasuredError("This system does not tell a process's memory in /proc; measure it on Linux.")
    status = path.read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024 / 1e6


def _memory(setup: Setup, repetitions: int) -> list[BenchResult]:
    """Resident memory at the end; the reference is where it stood when the cache had filled."""
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
    return [beside("memory_500", [_resident_megabytes()], [filled], None, setup.describe(captioner, note), "MB")]


CASES = (BenchCase("memory_500", "memory after 500 different pictures, embedded captioner", _memory),)
