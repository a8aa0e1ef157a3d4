"""The loop that writes captions, on a decoder whose every word is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from captioning.core.types import DecodingOptions, PatchLayout
from captioning.models.decoding.loop import write_captions
from captioning.models.decoding.processors import WholeWords, make_filters, process

LAYOUT = PatchLayout.from_grid(1, 1)
VOCAB, END = 50, 49


class Counting:
    """After token t comes t + 1, with odds that say how far off a token is; it counts its steps and what they read."""

    start_ids = (0,)
    end_id = END

    def __init__(self) -> None:
        self.read: list[tuple[int, int]] = []

    def start(self, states: Tensor, layout: PatchLayout) -> Any:
        return len(states)

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: Any) -> Tensor:
        assert attention_mask.shape[0] == len(input_ids)
        self.read.append(tuple(input_ids.shape))  # type: ignore[arg-type]  # two sizes
        return -(torch.arange(VOCAB) - (input_ids[..., None] + 1)).abs().float()

    def select(self, cache: Any, rows: Tensor) -> Any:
        return len(rows)


def states(rows: int) -> Tensor:
    return torch.zeros(rows, 1, 4)


def test_no_step_is_made_whose_words_nobody_reads() -> None:
    decoder = Counting()
    (row,) = write_captions(decoder, states(1), LAYOUT, [[]], DecodingOptions(max_new_tokens=7))
    assert row.token_ids == [1, 2, 3, 4, 5, 6, 7]
    assert not row.done
    assert decoder.read == [(1, 1)] * 7


def test_a_caption_ends_with_its_end_and_waits_for_longer_ones() -> None:
    decoder = Counting()
    rows = write_captions(decoder, states(2), LAYOUT, [[46], [44]], DecodingOptions(max_new_tokens=20))
    assert [row.token_ids for row in rows] == [[46, 47, 48], [44, 45, 46, 47, 48]]
    assert all(row.done for row in rows)
    assert len(decoder.read) == 5


@pytest.mark.parametrize("options", [{"temperature": 1.0, "num_captions": 3}, {"num_beams": 3}])
def test_a_prompt_is_read_once_however_many_captions_go_on_from_it(options: dict[str, Any]) -> None:
    decoder = Counting()
    rows = write_captions(decoder, states(2), LAYOUT, [[1, 2, 3], [5]], DecodingOptions(max_new_tokens=4, **options))
    assert decoder.read[:2] == [(2, 4), (6, 1)]
    assert [row.token_ids[:1] for row in rows] == [[1]] * (len(rows) // 2) + [[5]] * (len(rows) // 2)


def test_captions_drawn_from_one_prompt_have_its_statistics_each_of_its_own() -> None:
    options = DecodingOptions(temperature=2.0, top_k=0, num_captions=4, max_new_tokens=5)
    rows = write_captions(Counting(), states(1), LAYOUT, [[1, 2]], options)
    assert len({tuple(row.token_ids) for row in rows}) > 1
    for row in rows:
        assert len(row.log_probs) == len(row.alternatives) == len(row.token_ids)
        assert row.log_probs[:2] == rows[0].log_probs[:2]
        token_id, log_prob = row.alternatives[0][0]
        assert token_id == 1
        assert log_prob == pytest.approx(row.log_probs[0])


@pytest.mark.parametrize("temperature", [1e-300, 1e-38, 1e-7])
def test_the_least_temperature_writes_what_is_likeliest(temperature: float) -> None:
    options = DecodingOptions(temperature=temperature, top_k=0, max_new_tokens=4)
    (row,) = write_captions(Counting(), states(1), LAYOUT, [[]], options)
    assert row.token_ids == [1, 2, 3, 4]
    assert all(math.isfinite(value) for value in row.log_probs)


def filter_plainly(scores: Tensor, options: DecodingOptions) -> Tensor:
    """The probabilities that are left, as the publications have it: fewest tokens that together reach `top_p`."""
    scores = scores / options.temperature
    if options.top_k:
        least = scores.topk(min(options.top_k, VOCAB), dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    for row in scores:
        order = row.argsort(descending=True).tolist()
        mass, probabilities = 0.0, row.softmax(dim=-1).tolist()
        for token in order:
            if mass >= options.top_p:
                row[token] = float("-inf")
            mass += probabilities[token]
    return scores.softmax(dim=-1)


@pytest.mark.parametrize("chosen", [{}, {"top_k": 0}, {"top_p": 0.6}, {"top_k": 0, "top_p": 0.05}, {"top_k": 400}])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_filters_leave_the_tokens_that_their_definitions_leave(chosen: dict[str, Any], temperature: float) -> None:
    options = DecodingOptions(temperature=temperature, **chosen)
    scores = torch.randn(40, VOCAB, generator=torch.Generator().manual_seed(0)) * 4
    left = process(make_filters(options), torch.zeros(40, 1, dtype=torch.long), scores).softmax(dim=-1)
    torch.testing.assert_close(left, filter_plainly(scores.clone(), options))


class Doubting(Counting):
    """Counting whose scores are all below 0, so that a penalty changes the best of them too."""

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: Any) -> Tensor:
        return super().step(input_ids, attention_mask, cache) - 0.5


def test_a_penalty_reaches_every_token_of_a_row_and_no_padding() -> None:
    options = DecodingOptions(repetition_penalty=5.0, max_new_tokens=1)
    rows = write_captions(Doubting(), states(2), LAYOUT, [[20, 6, 31, 30], [48]], options)
    assert [row.token_ids for row in rows] == [[20, 6, 31, 30, 32], [48]]
    assert rows[1].done


class Rules:
    """A network that keeps words whole: 40 and above begin no word, 7 is never written, 3 never after 2."""

    def not_first(self) -> Tensor:
        return torch.arange(VOCAB) >= 40

    def never_written(self) -> Tensor:
        return torch.arange(VOCAB) == 7

    def not_after(self, token_ids: Any) -> Any:
        return [3] if list(token_ids)[-1:] == [2] else []


@pytest.mark.parametrize("beams", [1, 3])
def test_whole_words_are_one_processor_among_the_others(beams: int) -> None:
    options = DecodingOptions(num_beams=beams, max_new_tokens=2)
    rules = WholeWords(Rules(), [True, False, True, True], 3, torch.device("cpu"))
    prompts = [[9, 39], [9, 39], [9, 6], [9, 2]]
    rows = write_captions(Counting(), states(4), LAYOUT, prompts, options, whole_words=rules)
    written = [row.token_ids[2:] for row in rows]
    assert written[0][0] < 40 <= written[1][0]
    assert 7 not in written[2]
    assert written[3][0] != 3
