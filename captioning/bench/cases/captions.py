"""Captions of one picture: one, five, five more of a picture that is known, and by beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from captioning.bench.result import BenchCase, BenchResult, beside
from captioning.bench.setup import NEW_TOKENS, OPTIONS, PROMPTS, Setup, check_count
from captioning.bench.timing import take_turns

_OTHER_PROMPTS = ("a picture of", "the man", "the sky above", "a dog", "people who")


def _measure(setup: Setup, case: str, prompts: Sequence[str], num_beams: int, repetitions: int) -> BenchResult:
    options = replace(OPTIONS, num_beams=num_beams)

    def ours() -> None:
        (features,) = setup.captioner.encode([setup.new_picture()])
        captions = setup.captioner.decode(features, prompts, options)
        if num_beams == 1:  # a beam may end early and still be searched to the end
            check_count(min(len(c.token_ids) - c.num_prompt_tokens for c in captions))

    def reference() -> None:
        picture = setup.new_picture()
        check_count(min(setup.plain.caption(picture, prompt, num_beams) for prompt in prompts))

    step_bytes = setup.plain.step_bytes(setup.limit.item_bytes)
    limit = setup.limit.seconds(setup.plain.encode_flops, NEW_TOKENS * step_bytes)
    return beside(case, *take_turns(ours, reference, repetitions), limit, setup.describe(setup.captioner))


def _one_caption(setup: Setup, repetitions: int) -> list[BenchResult]:
    return [_measure(setup, "one_caption", PROMPTS[:1], 1, repetitions)]


def _five_prompts(setup: Setup, repetitions: int) -> list[BenchResult]:
    return [_measure(setup, "five_prompts", PROMPTS, 1, repetitions)]


def _four_beams(setup: Setup, repetitions: int) -> list[BenchResult]:
    return [_measure(setup, "four_beams", PROMPTS[:1], 4, repetitions)]


def _five_more(setup: Setup, repetitions: int) -> list[BenchResult]:
    """Other prompts on a picture that was captioned before; the plain way cannot know that it was."""
    picture = setup.new_picture()
    (features,) = setup.captioner.encode([picture])
    setup.captioner.decode(features, PROMPTS, OPTIONS)
    asked = 0

    def ours() -> None:
        nonlocal asked
        asked += 1
        # Another number of words each time, or the captions themselves would be remembered.
        prompts = [f"{prompt} {'and ' * asked}".strip() for prompt in _OTHER_PROMPTS]
        (known,) = setup.captioner.encode([picture])
        captions = setup.captioner.decode(known, prompts, OPTIONS)
        check_count(min(len(c.token_ids) - c.num_prompt_tokens for c in captions))

    def reference() -> None:
        check_count(min(setup.plain.caption(picture, prompt) for prompt in _OTHER_PROMPTS))

    limit = setup.limit.seconds(0, NEW_TOKENS * setup.plain.step_bytes(setup.limit.item_bytes))
    turns = take_turns(ours, reference, repetitions)
    return [beside("five_more", *turns, limit, setup.describe(setup.captioner))]


CASES = (
    BenchCase("one_caption", "one caption of a new picture, BLIP base size", _one_caption, quick=True),
    BenchCase("five_prompts", "five prompts on a new picture, BLIP base size", _five_prompts, quick=True),
    BenchCase("five_more", "five more prompts on a known picture, BLIP base size", _five_more),
    BenchCase("four_beams", "one caption by four beams, BLIP base size", _four_beams),
)
