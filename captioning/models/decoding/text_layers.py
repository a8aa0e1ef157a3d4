"""A decoder with cross-attention as its family declares it, once: what each layer does, and how the layers are run.

The same declaration writes captions (by torch, or compiled by OpenVINO), shows and scales attention, explains words
and is trained. A picture's keys and values are computed once, and all rows that see one picture ask it together, so
that its keys are read from memory once a step and not once a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from torch import nn

    from captioning.models.attention_layers import Recorded

Layer = Callable[[Tensor], Tensor]


def _unchanged(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, slots=True)
class WordAttention:
    """Self-attention among the words.

    `project` makes queries, keys and values `[N, L, hidden]` of states `[N, L, hidden]`, `output` mixes the heads.
    """

    project: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    output: Layer
    norm: Layer
    scale: float


@dataclass(frozen=True, slots=True)
class PictureAttention:
    """Cross-attention: `query` of the words' states, `project` makes keys and values of the encoder's.

    `output` mixes the heads; its input holds them side by side, so that each can be scaled there.
    """

    query: Layer
    project: Callable[[Tensor], tuple[Tensor, Tensor]]
    output: nn.Module
    norm: Layer
    scale: float


@dataclass(frozen=True, slots=True)
class TextLayer:
    """One layer of a decoder: words, picture, feed-forward net."""

    words: WordAttention
    picture: PictureAttention
    feed_forward: Layer
    feed_forward_norm: Layer


@dataclass(frozen=True, slots=True)
class Dropout:
    """The modules that drop values in training: of embedded words, of what each part adds, of attention weights."""

    embedded: Layer = _unchanged
    added: Layer = _unchanged
    weights: Layer = _unchanged


@dataclass(frozen=True, slots=True)
class TextLayers:
    """A whole decoder.

    `embed` makes states of token ids and positions, both `[N, L]`; `head` makes logits of states. Norms come before
    each part (`norm_first`, as in GPT-2) or after it (as in BERT).
    """

    embed: Callable[[Tensor, Tensor], Tensor]
    layers: Sequence[TextLayer]
    head: Layer
    num_heads: int
    norm_first: bool
    dropout: Dropout = field(default_factory=Dropout)

    def project(self, states: Tensor) -> list[Tensor]:
        """Return keys `[pictures, heads, head_dim, S]` and values `[pictures, heads, S, head_dim]`, layer by layer.

        Every step multiplies with them, so they lie in memory as the products read them.
        """
        kept: list[Tensor] = []
        for layer in self.layers:
            keys, values = (self._split(x) for x in layer.picture.project(states))
            kept += [keys.transpose(2, 3).contiguous(), values.contiguous()]
        return kept

    def run(
        self,
        input_ids: Tensor,
        positions: Tensor,
        mask: Tensor,
        past: Sequence[Tensor],
        pictures: Sequence[Tensor],
        record: Recorded | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return logits `[N, L, vocab]` and the words' keys and values, grown by the L new ones.

        `mask [N, 1, L, past + L]` is added to the scores. `past` are keys and values `[N, heads, past, head_dim]` of
        each layer, `pictures` as `project` has them. Rows that see one picture stand together, equally many a picture.
        With a `record`, the layers keep their attention weights there, and dropout modules run.
        """
        states, grown = self._run_layers(input_ids, positions, mask, past, pictures, record)
        return self.head(states), grown

    def read(self, input_ids: Tensor, pictures: Sequence[Tensor], record: Recorded | None = None) -> Tensor:
        """Return the states of whole texts `[N, L, hidden]`, none of them padded, from one pass; `head` is not run."""
        ones = torch.ones_like(input_ids)
        mask = added_mask(ones, input_ids.shape[1], pictures[0].dtype)
        past = self.no_words(len(input_ids), pictures)
        return self._run_layers(input_ids, ones.cumsum(dim=1) - 1, mask, past, pictures, record)[0]

    def no_words(self, num_rows: int, pictures: Sequence[Tensor]) -> list[Tensor]:
        """Return the keys and values of rows without any word yet."""
        values = pictures[1]
        return [values.new_zeros(num_rows, values.shape[1], 0, values.shape[3])] * len(pictures)

    def _run_layers(
        self,
        input_ids: Tensor,
        positions: Tensor,
        mask: Tensor,
        past: Sequence[Tensor],
        pictures: Sequence[Tensor],
        record: Recorded | None,
    ) -> tuple[Tensor, list[Tensor]]:
        x = self.embed(input_ids, positions)
        x = x if record is None else self.dropout.embedded(x)
        grown: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            place = slice(2 * number, 2 * number + 2)

            def read_words(states: Tensor, layer: TextLayer = layer, place: slice = place) -> Tensor:
                seen, kept = self._read_words(layer.words, states, mask, past[place], record)
                grown.extend(kept)
                return seen

            def read_picture(states: Tensor, layer: TextLayer = layer, place: slice = place) -> Tensor:
                return self._read_picture(layer.picture, states, pictures[place], record)

            x = self._add(x, read_words, layer.words.norm, record)
            x = self._add(x, read_picture, layer.picture.norm, record)
            x = self._add(x, layer.feed_forward, layer.feed_forward_norm, record)
        return x, grown

    def _add(self, x: Tensor, part: Layer, norm: Layer, record: Recorded | None) -> Tensor:
        added = part(norm(x)) if self.norm_first else part(x)
        added = added if record is None else self.dropout.added(added)
        return x + added if self.norm_first else norm(x + added)

    def _read_words(
        self, part: WordAttention, x: Tensor, mask: Tensor, past: Sequence[Tensor], record: Recorded | None
    ) -> tuple[Tensor, list[Tensor]]:
        query, keys, values = (self._split(y) for y in part.project(x))
        kept = [torch.cat((old, new), dim=2) for old, new in zip(past, (keys, values), strict=True)]
        if record is None:
            seen = scaled_dot_product_attention(query, kept[0], kept[1], attn_mask=mask, scale=part.scale)
        else:
            weights = (query @ kept[0].transpose(2, 3) * part.scale + mask).softmax(dim=-1)
            record.words.append([weights])
            seen = self.dropout.weights(weights) @ kept[1]
        return part.output(seen.transpose(1, 2).flatten(2)), kept

    def _read_picture(
        self, part: PictureAttention, x: Tensor, kept: Sequence[Tensor], record: Recorded | None
    ) -> Tensor:
        # [pictures × rows, L, hidden] → [pictures, rows × L, hidden]: the rows of a picture are queries side by side.
        query = (part.query(x) * part.scale).reshape(kept[0].shape[0], -1, x.shape[2])
        weights = (self._split(query) @ kept[0]).softmax(dim=-1)
        if record is not None:
            record.cross.append([weights])
            weights = self.dropout.weights(weights)
        seen = weights @ kept[1]
        mixed: Tensor = part.output(seen.transpose(1, 2).flatten(2).reshape(x.shape[0], x.shape[1], -1))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        """`[N, S, hidden]` → `[N, heads, S, head_dim]`."""
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)


def added_mask(attention_mask: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to scores `[rows, 1, length, total]`: words see those before them, and no padding."""
    total = attention_mask.shape[1]
    ones = torch.ones(length, total, dtype=torch.bool, device=attention_mask.device)
    # A padded place must see something, or its softmax is not a number: it sees itself.
    itself = ones.tril(total - length).triu(total - length)
    seen = (ones.tril(total - length) & attention_mask.bool()[:, None, None, :]) | itself
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
