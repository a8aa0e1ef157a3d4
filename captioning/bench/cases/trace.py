"""The trace of a caption's attention; the reference is writing the caption."""

from __future__ import annotations

from captioning.bench.result import BenchCase, BenchResult, result_with_reference
from captioning.bench.setup import OPTIONS, PROMPTS, Setup
from captioning.bench.timing import take_turns


def _trace(setup: Setup, repetitions: int) -> list[BenchResult]:
    def caption() -> None:
        (features,) = setup.uncached.encode([setup.new_picture()])
        setup.uncached.decode(features, PROMPTS[:1], OPTIONS)

    (features,) = setup.uncached.encode([setup.new_picture()])
    (written,) = setup.uncached.decode(features, PROMPTS[:1], OPTIONS)
    turns = take_turns(lambda: setup.uncached.trace(features, written), caption, repetitions)
    note = "the reference is one caption of a new picture"
    return [result_with_reference("trace", *turns, None, setup.describe(setup.uncached, note))]


CASES = (BenchCase("trace", "where the model looked for each token, BLIP base size", _trace, quick=True),)
