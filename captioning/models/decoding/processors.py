"""Logits processors: what changes the scores of the next token before one is chosen.

Each takes the tokens of all rows so far `[rows, length]` and their scores `[rows, vocab]`, as transformers' own do.
Rows are padded on the left with a start token, which every row has and no row writes. transformers is imported only
where one of its processors is needed: greedy captions start without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from captioning.core.types import DecodingOptions
    from captioning.models.network import KeepsWordsWhole

Processor = Callable[[Tensor, Tensor], Tensor]

_LEAST_TEMPERATURE = 1e-6


class WholeWords:
    """A processor for a network that keeps words whole: after a typed prompt the first token begins a new word."""

    def __init__(self, network: KeepsWordsWhole, prompts: Sequence[bool], width: int, device: torch.device) -> None:
        """Set which prompts end in a whole word, and the width of the rows before the first token is written."""
        always = network.never_written().to(device)
        ends_in_word = torch.tensor(prompts, device=device)[:, None]
        self._always = always
        self._first = ends_in_word & network.not_first().to(device) | always
        self._width = width
        self._not_after = network.not_after

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Make impossible the tokens that must not be written, as many rows for each prompt."""
        barred = self._always
        if input_ids.shape[1] == self._width:
            barred = self._first.repeat_interleave(len(scores) // len(self._first), dim=0)
        left = scores.masked_fill(barred, float("-inf"))
        for number, row in enumerate(input_ids.tolist()):
            left[number, list(self._not_after(row))] = float("-inf")
        return left


def make_processors(options: DecodingOptions, whole_words: WholeWords | None) -> list[Processor]:
    """Return the processors of every search: the penalty on repetition, then what must not be written."""
    found: list[Processor] = []
    if options.repetition_penalty != 1.0:
        from transformers import RepetitionPenaltyLogitsProcessor

        found.append(RepetitionPenaltyLogitsProcessor(float(options.repetition_penalty)))
    return found if whole_words is None else [*found, whole_words]


def make_filters(options: DecodingOptions) -> list[Processor]:
    """Return the processors of sampling: temperature, then top-k and nucleus filtering."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    found: list[Processor] = [_from_the_best, TemperatureLogitsWarper(max(options.temperature, _LEAST_TEMPERATURE))]
    if options.top_k:
        found.append(TopKLogitsWarper(options.top_k))
    if options.top_p < 1.0:
        found.append(TopPLogitsWarper(options.top_p))
    return found


def process(processors: Sequence[Processor], input_ids: Tensor, scores: Tensor) -> Tensor:
    """Apply processors one after the other."""
    for processor in processors:
        scores = processor(input_ids, scores)
    return scores


def _from_the_best(_: Tensor, scores: Tensor) -> Tensor:
    """Count scores from the best one down, so that no temperature makes them infinite."""
    return scores - scores.amax(dim=-1, keepdim=True)
