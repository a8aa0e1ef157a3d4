"""Absolute times on a GPU; no results where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from captioning.bench.result import BenchCase, BenchResult, result_without_reference
from captioning.bench.setup import OPTIONS, PROMPTS, Setup
from captioning.bench.timing import seconds_of
from captioning.core import runtime

_BATCH = 64


def _gpu(setup: Setup, repetitions: int) -> list[BenchResult]:
    device = runtime.choose_device()
    if device.type == "cpu":
        return []
    return [result for size in ("base", "large") for result in _measure(setup, size, device.type, repetitions)]


def _measure(setup: Setup, size: str, device: str, repetitions: int) -> list[BenchResult]:
    from captioning.serving.loading import load_uncached

    captioner = load_uncached(f"untrained:blip-{size}", device)
    pictures = [setup.new_picture() for _ in range(_BATCH)]

    def caption(prompts: Sequence[str]) -> None:
        (features,) = captioner.encode([setup.new_picture()])
        captioner.decode(features, prompts, OPTIONS)

    def embed() -> None:
        captioner.encode(pictures)

    results = []
    for what, prompts in (("one caption", PROMPTS[:1]), ("five prompts", PROMPTS)):
        caption(prompts)
        times = [seconds_of(partial(caption, prompts)) for _ in range(repetitions)]
        results.append(result_without_reference("gpu", times, setup.describe(captioner, f"{what}, BLIP {size} size")))
    embed()
    rates = [_BATCH / seconds_of(embed) for _ in range(repetitions)]
    setting = setup.describe(captioner, f"pictures embedded, BLIP {size} size, {_BATCH} a batch")
    return [*results, result_without_reference("gpu", rates, setting, "pictures/s")]


CASES = (BenchCase("gpu", "on the GPU", _gpu),)
