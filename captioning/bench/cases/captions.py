"""Captions of one picture: one, five, five more of a known picture, and one by beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from captioning.bench.result import BenchCase, BenchResult, result_with_reference
from captioning.bench.setup import NEW_TOKENS, OPTIONS, PROMPTS, Setup, check_token_count
from captioning.bench.timing import take_turns

_OTHER_PROMPTS = ("a picture of", "the man", "the sky above", "a dog", "people who")


def _measure(setup: Setup, case: str, prompts: Sequence[str], num_beams: int, repetitions: int) -> BenchResult:
    options = replace(OPTIONS, num_beams=num_beams)

    def ours() -> None:
        (features,) = setup.captioner.encode([setup.new_picture()])
        captions = setup.captioner.decode(features, prompts, options)
        if num_beams == 1:  # the best beam may be short although the search ran all steps
            check_token_count(min(len(c.token_ids) - c.num_prompt_tokens for c in captions))

    def reference() -> None:
        picture = setup.new_picture()
        check_token_count(min(setup.plain.caption(picture, prompt, num_beams) for prompt in prompts))

    step_bytes = setup.plain.step_bytes(setup.limit.item_bytes)
    limit = setup.limit.seconds(setup.plain.encode_flops, NEW_TOKENS * step_bytes)
    return result_with_reference(
        case, *take_turns(ours, reference, repetitions), limit, setup.describe(setup.captioner)
    )


def _one_caption(setup: Setup, repetitions: int) -> list[BenchResult]:
    return [_measure(setup, "one_caption", PROMPTS[:1], 1, repetitions)]


def _five_prompts(setup: Setup, repetitions: int) -> list[BenchResult]:
    return [_measure(setup, "five_prompts", PROMPTS, 1, repetitions)]


def _four_beams(setup: Setup, repetitions: int) -> list[BenchResult]:
    return [_measure(setup, "four_beams", PROMPTS[:1], 4, repetitions)]


def _five_more(setup: Setup, repetitions: int) -> list[BenchResult]:
    """Measure other prompts on a picture that was captioned before; the reference encodes the picture again."""
    picture = setup.new_picture()
    (features,) = setup.captioner.encode([picture])
    setup.captioner.decode(features, PROMPTS, OPTIONS)
    calls = 0

    def ours() -> None:
        nonlocal calls
        calls += 1
        # Another number of words each time, or the captions would come from the cache.
        prompts = [f"{prompt} {'and ' * calls}".strip() for prompt in _OTHER_PROMPTS]
        (known,) = setup.captioner.encode([picture])
        captions = setup.captioner.decode(known, prompts, OPTIONS)
        check_token_count(min(len(c.token_ids) - c.num_prompt_tokens for c in captions))

    def reference() -> None:
        check_token_count(min(setup.plain.caption(picture, prompt) for prompt in _OTHER_PROMPTS))

    limit = setup.limit.seconds(0, NEW_TOKENS * setup.plain.step_bytes(setup.limit.item_bytes))
    turns = take_turns(ours, reference, repetitions)
    return [result_with_reference("five_more", *turns, limit, setup.describe(setup.captioner))]


CASES = (
    BenchCase("one_caption", "one caption of a new picture, BLIP base size", _one_caption, quick=True),
    BenchCase("five_prompts", "five prompts on a new picture, BLIP base size", _five_prompts, quick=True),
    BenchCase("five_more", "five more prompts on a known picture, BLIP base size", _five_more),
    BenchCase("four_beams", "one caption by four beams, BLIP base size", _four_beams),
)
