"""The loop that writes captions, on a decoder whose every word is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from captioning.core.types import DecodingOptions, PatchLayout
from captioning.models.decoding.loop import write_captions

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
