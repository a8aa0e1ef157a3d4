"""Decoders that run declared layers step by step: by torch here, compiled in `openvino_engine`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captioning.models.attention_layers import Recorded
from captioning.models.decoding.text_layers import TextLayers, added_mask

if TYPE_CHECKING:
    from captioning.core.types import PatchLayout


class TextCache:
    """What a batch of rows has so far; `words` belongs to whoever runs the layers.

    `pictures` are as `TextLayers.project` has them; row r sees picture r // `rows_each`.
    """

    __slots__ = ("num_rows", "pictures", "words")

    def __init__(self, pictures: Sequence[Tensor], num_rows: int, words: Any) -> None:
        self.pictures = pictures
        self.num_rows = num_rows
        self.words = words

    @property
    def rows_each(self) -> int:
        """Rows that see each picture."""
        return self.num_rows // len(self.pictures[0])


class PictureDecoder(ABC):
    """`start`, `step` and `select` as `decoding.Decoder` wants them, whoever runs the layers."""

    def __init__(self, remembers: bool = True) -> None:
        """`remembers` keeps the keys and values of the last picture for its next prompts."""
        self._remembers = remembers
        self._last: tuple[Tensor, Sequence[Tensor]] | None = None

    def start(self, states: Tensor, layout: PatchLayout | None = None) -> TextCache:
        """A fresh cache for rows that see `states [rows, S, hidden]`; equal neighbours are projected once."""
        return TextCache(self._project_once(one_a_picture(states)), len(states), self.first_words(len(states)))

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: TextCache) -> Tensor:
        """Logits `[rows, new, vocab]`; positions are counted without padding."""
        length, dtype = input_ids.shape[1], cache.pictures[0].dtype
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -length:]
        return self.run(input_ids, positions, added_mask(attention_mask, length, dtype), cache)

    def select(self, cache: TextCache, rows: Tensor) -> TextCache:
        """The cache with its rows replaced by `rows` of the old one, in place."""
        chosen: list[int] = [row // cache.rows_each for row in rows.tolist()]
        count = len(cache.pictures[0])
        each = len(chosen) // count
        if chosen != [number for number in range(count) for _ in range(each)]:
            places = torch.tensor(chosen, device=rows.device)
            cache.pictures = [x[places] for x in cache.pictures]
        cache.words = self.select_words(cache.words, rows)
        cache.num_rows = len(chosen)
        return cache

    @abstractmethod
    def project(self, states: Tensor) -> Sequence[Tensor]:
        """Keys and values of pictures `[pictures, S, hidden]`, those of each layer in turn."""

    @abstractmethod
    def first_words(self, num_rows: int) -> Any:
        """What rows without any word yet have of their words."""

    @abstractmethod
    def run(self, input_ids: Tensor, positions: Tensor, mask: Tensor, cache: TextCache) -> Tensor:
        """The layers once, `cache.words` grown by the new words."""

    @abstractmethod
    def select_words(self, words: Any, rows: Tensor) -> Any:
        """What rows that replace others have of their words."""

    def _project_once(self, states: Tensor) -> Sequence[Tensor]:
        if len(states) > 1 or not self._remembers:
            return self.project(states)
        if self._last is None or not torch.equal(self._last[0], states):
            self._last = (states.clone(), self.project(states))
        return self._last[1]


class TextDecoder(PictureDecoder):
    """Any decoder declared as `TextLayers`, run by torch; attention weights go to `record` while there is one."""

    def __init__(self, layers: TextLayers, remembers: bool = True) -> None:
        super().__init__(remembers)
        self.layers = layers
        self.record: Recorded | None = None

    def project(self, states: Tensor) -> Sequence[Tensor]:
        """Return keys and values of pictures."""
        return self.layers.project(states)

    def first_words(self, num_rows: int) -> None:
        """Return nothing: the first step knows the sizes."""

    def run(self, input_ids: Tensor, positions: Tensor, mask: Tensor, cache: TextCache) -> Tensor:
        """Run one step of all rows."""
        past = self.layers.no_words(len(input_ids), cache.pictures) if cache.words is None else cache.words
        record = self.record
        if record is None and torch.is_grad_enabled():
            # With gradients, plain products are faster on a CPU than a fused kernel, and dropout belongs to training.
            record = Recorded()
        logits, cache.words = self.layers.run(input_ids, positions, mask, past, cache.pictures, record)
        return logits

    def select_words(self, words: Sequence[Tensor] | None, rows: Tensor) -> list[Tensor] | None:
        """Return the keys and values of `rows`."""
        return None if words is None else [x[rows] for x in words]


def one_a_picture(states: Tensor) -> Tensor:
    """Of rows `[rows, S, hidden]` each of equal neighbours once, where all have equally many; else all of them."""
    if len(states) == 1 or states.stride(0) == 0:
        return states[:1]
    changes = (states[1:] != states[:-1]).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    starts = [0, *(place + 1 for place in changes)]
    lengths = {end - start for start, end in pairwise([*starts, len(states)])}
    return states if len(lengths) > 1 else states[starts]
