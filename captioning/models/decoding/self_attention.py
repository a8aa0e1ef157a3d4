"""What decoders share that read picture and words as one sequence: a picture is read once, then words follow.

Their words look at the picture inside self-attention, where they also look at each other, at the instruction and
at separators. Only the columns of the picture are shown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.models.attention_layers import Recorded, recorded_weights, scaled_heads
from captioning.models.tokens import TokenizerAdapter

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache

    from captioning.core.types import PatchLayout


@dataclass(frozen=True, slots=True)
class Opening:
    """What a decoder has read before the first of its start tokens: the picture, and what an instruction says.

    `keys` has keys and values `[N, heads, S, head_dim]` of every layer; `columns [prefix + patches]` are the places
    of the picture's states among the S; `next_position` is that of the first start token.
    """

    keys: Sequence[tuple[Tensor, Tensor]]
    columns: Tensor
    next_position: int


@dataclass(slots=True)
class SequenceCache:
    """The keys and values that a batch of rows has so far: of the opening, then of the words."""

    keys: DynamicCache
    opening: Opening


class SelfAttentionDecoder(TokenizerAdapter, ABC):
    """The half of a network that writes; a family adds the half that looks, and says how both are read.

    `word_layers` are the attention layers of picture and words, `mixers` the layers that mix their heads, in order.
    `encoder_layers` are the attention layers of the encoder, where it keeps one state a patch all the way.
    """

    module: nn.Module
    word_layers: Sequence[nn.Module]
    mixers: Sequence[nn.Module]
    encoder_layers: Sequence[nn.Module] = ()
    _last: tuple[Tensor, PatchLayout, Opening] | None = None
    _remembers = True

    @abstractmethod
    def read_picture(self, states: Tensor, layout: PatchLayout) -> Opening:
        """Read everything that comes before the start tokens, `states [N, prefix + patches, hidden]` in its midst."""

    @abstractmethod
    def read_words(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, keys: DynamicCache, need_weights: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Go on with words: logits `[rows, new, vocab]` and, if asked for, weights `[rows, heads, new, S + words]`.

        `attention_mask [rows, words]` covers words old and new; `keys` grows by the new ones.
        """

    def start(self, states: Tensor, layout: PatchLayout) -> SequenceCache:
        """A fresh cache for rows that see `states [rows, prefix + patches, hidden]`; equal rows are read once."""
        rows = len(states)
        same_picture = rows == 1 or bool((states == states[:1]).all())
        return _fresh_cache(self._open(states[:1] if same_picture else states, layout), rows)

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: SequenceCache) -> Tensor:
        """Logits `[rows, new, vocab]`; positions are counted without padding."""
        return self._read(input_ids, attention_mask, cache, need_weights=False)[0]

    def select(self, cache: SequenceCache, rows: Tensor) -> SequenceCache:
        """The cache with its rows replaced by `rows` of the old one, in place."""
        cache.keys.reorder_cache(rows)
        return cache

    def attend(self, input_ids: Tensor, states: Tensor, head_mask: Tensor | None, layout: PatchLayout) -> Tensor:
        """Attention to the picture's columns `[layers, N, heads, L, prefix + patches]` from one pass.

        `head_mask [layers, heads]` scales each head's output before the layer mixes the heads, for the picture's
        tokens as for the words.
        """
        import torch

        with self.scaled_heads(head_mask):
            cache = _fresh_cache(self._open(states, layout), len(states))
            weights = self._read(input_ids, torch.ones_like(input_ids), cache, need_weights=True)[1]
        if len(weights) != len(self.mixers):
            raise RuntimeError(
                f"{len(weights)} attention maps for {len(self.mixers)} layers; load the model with eager attention"
            )
        return torch.stack([layer[..., cache.opening.columns] for layer in weights])

    def recorded_weights(self) -> AbstractContextManager[Recorded]:
        """Keep the weights of all attention layers inside this block."""
        return recorded_weights(self.module, words=self.word_layers, encoder=self.encoder_layers)

    @contextmanager
    def scaled_heads(self, head_mask: Tensor | None) -> Iterator[None]:
        """Scale what each head hands on, `head_mask [layers, heads]`, inside this block."""
        # A picture that some heads did not see is another one, and nothing to remember.
        remembers, self._remembers = self._remembers, head_mask is None
        try:
            with scaled_heads(self.mixers, head_mask):
                yield
        finally:
            self._remembers = remembers

    def _read(
        self, input_ids: Tensor, attention_mask: Tensor, cache: SequenceCache, need_weights: bool
    ) -> tuple[Tensor, Sequence[Any]]:
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
        positions = positions + cache.opening.next_position
        return self.read_words(input_ids, attention_mask, positions, cache.keys, need_weights)

    def _open(self, states: Tensor, layout: PatchLayout) -> Opening:
        """Read a picture, or remember the last one: every caption, score and trace of it begins with the same."""
        import torch

        if torch.is_grad_enabled() or not self._remembers:
            return self.read_picture(states, layout)
        if self._last is not None:
            known, place, opening = self._last
            if torch.equal(known, states) and np.array_equal(place.boxes, layout.boxes) and place.grid == layout.grid:
                return opening
        opening = self.read_picture(states, layout)
        self._last = (states, layout, opening)
        return opening


def _fresh_cache(opening: Opening, rows: int) -> SequenceCache:
    """A cache of that many rows; the opening itself stays as it is."""
    from transformers import DynamicCache

    keys = DynamicCache()
    for number, (key, value) in enumerate(opening.keys):
        keys.update(key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1), number)
    return SequenceCache(keys, opening)
