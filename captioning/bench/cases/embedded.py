"""The embedded captioner: its captions beside those of plain BLIP base, and pictures encoded to embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from captioning.bench.result import BenchCase, BenchResult, result_with_reference
from captioning.bench.setup import OPTIONS, PROMPTS, Setup
from captioning.bench.timing import seconds_of, take_turns

_COUNT, _BATCH, _REFERENCE_COUNT = 200, 16, 4


def _captions(setup: Setup, case: str, prompts: Sequence[str], repetitions: int) -> list[BenchResult]:
    def ours() -> None:
        (features,) = setup.embedded.encode([setup.new_picture()])
        setup.embedded.decode(features, prompts, OPTIONS)

    def reference() -> None:
        picture = setup.new_picture()
        for prompt in prompts:
            setup.plain.caption(picture, prompt)

    return [
        result_with_reference(case, *take_turns(ours, reference, repetitions), None, setup.describe(setup.embedded))
    ]


def _one(setup: Setup, repetitions: int) -> list[BenchResult]:
    return _captions(setup, "embedded_one", PROMPTS[:1], repetitions)


def _five(setup: Setup, repetitions: int) -> list[BenchResult]:
    return _captions(setup, "embedded_five", PROMPTS, repetitions)


def _embed(setup: Setup, repetitions: int) -> list[BenchResult]:
    """Measure 200 new pictures in batches; the reference is BLIP's image encoder, timed on a few and scaled."""

    def ours() -> None:
        pictures = [setup.new_picture() for _ in range(_COUNT)]
        for start in range(0, _COUNT, _BATCH):
            setup.embedded.encode(pictures[start : start + _BATCH])

    def encode_few() -> None:
        for _ in range(_REFERENCE_COUNT):
            setup.plain.encode(setup.new_picture())

    def reference() -> float:
        return seconds_of(encode_few)

    ours()
    reference()
    pairs = [(seconds_of(ours), reference() * _COUNT / _REFERENCE_COUNT) for _ in range(min(repetitions, 3))]
    mine, plain = ([pair[side] for pair in pairs] for side in (0, 1))
    note = f"the reference is {_REFERENCE_COUNT} pictures through BLIP base, scaled"
    return [result_with_reference("embed_200", mine, plain, None, setup.describe(setup.embedded, note))]


CASES = (
    BenchCase("embedded_one", "one caption by the embedded captioner", _one),
    BenchCase("embedded_five", "five prompts by the embedded captioner", _five, quick=True),
    BenchCase("embed_200", "200 pictures embedded by the embedded captioner", _embed),
)
