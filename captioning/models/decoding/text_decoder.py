"""One decoder for every family whose words look at the picture in cross-attention: fewer steps, the same weights.

A family says which of its layers do what (`TextLayers`); here they are run with nothing between them. A picture's
keys and values are computed once, and all rows that see one picture ask it together, so that its keys are read from
memory once a step and not once a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from captioning.models.decoding.cross_attention import split_heads

if TYPE_CHECKING:
    from captioning.core.types import PatchLayout

Layer = Callable[[Tensor], Tensor]


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
    """Cross-attention: `query` of the words' states, `project` makes keys and values of the encoder's."""

    query: Layer
    project: Callable[[Tensor], tuple[Tensor, Tensor]]
    output: Layer
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
class TextLayers:
    """A whole decoder as a family declares it.

    `embed` makes states of token ids and positions, both `[N, L]`; `head` makes logits of states. Norms come before
    each part (`norm_first`, as in GPT-2) or after it (as in BERT).
    """

    embed: Callable[[Tensor, Tensor], Tensor]
    layers: Sequence[TextLayer]
    head: Layer
    num_heads: int
    norm_first: bool

    def project(self, states: Tensor) -> list[Tensor]:
        """Keys `[pictures, heads, head_dim, S]` and values `[pictures, heads, S, head_dim]` of each layer in turn.

        Every step multiplies with them, so they lie in memory as the products read them.
        """
        kept: list[Tensor] = []
        for layer in self.layers:
            keys, values = (split_heads(x, self.num_heads) for x in layer.picture.project(states))
            kept += [keys.transpose(2, 3).contiguous(), values.contiguous()]
        return kept

    def run(
        self, input_ids: Tensor, positions: Tensor, mask: Tensor, past: Sequence[Tensor], pictures: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits `[N, L, vocab]` and the words' keys and values, grown by the L new ones.

        `mask [N, 1, L, past + L]` is added to the scores. `past` are keys and values `[N, heads, past, head_dim]` of
        each layer, `pictures` as `project` has them. Rows that see one picture stand together, equally many a picture.
        """
        x = self.embed(input_ids, positions)
        grown: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            place = slice(2 * number, 2 * number + 2)

            def read_words(states: Tensor, layer: TextLayer = layer, place: slice = place) -> Tensor:
                seen, kept = self._read_words(layer.words, states, mask, past[place])
                grown.extend(kept)
                return seen

            def read_picture(states: Tensor, layer: TextLayer = layer, place: slice = place) -> Tensor:
                return self._read_picture(layer.picture, states, pictures[place])

            x = self._add(x, read_words, layer.words.norm)
            x = self._add(x, read_picture, layer.picture.norm)
            x = self._add(x, layer.feed_forward, layer.feed_forward_norm)
        return self.head(x), grown

    def _add(self, x: Tensor, part: Layer, norm: Layer) -> Tensor:
        return x + part(norm(x)) if self.norm_first else norm(x + part(x))

    def _read_words(
        self, part: WordAttention, x: Tensor, mask: Tensor, past: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        query, keys, values = (split_heads(y, self.num_heads) for y in part.project(x))
        kept = [torch.cat((old, new), dim=2) for old, new in zip(past, (keys, values), strict=True)]
        seen = scaled_dot_product_attention(query, kept[0], kept[1], attn_mask=mask, scale=part.scale)
        return part.output(seen.transpose(1, 2).flatten(2)), kept

    def _read_picture(self, part: PictureAttention, x: Tensor, kept: Sequence[Tensor]) -> Tensor:
        # [pictures × rows, L, hidden] → [pictures, rows × L, hidden]: the rows of a picture are queries side by side.
        query = (part.query(x) * part.scale).reshape(kept[0].shape[0], -1, x.shape[2])
        seen = (split_heads(query, self.num_heads) @ kept[0]).softmax(dim=-1) @ kept[1]
        return part.output(seen.transpose(1, 2).flatten(2).reshape(x.shape[0], x.shape[1], -1))


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

    def __init__(self) -> None:
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
        """Keys and values of pictures; those of the last picture are remembered for its next prompts."""
        if len(states) > 1:
            return self.project(states)
        if self._last is None or not torch.equal(self._last[0], states):
            self._last = (states.clone(), self.project(states))
        return self._last[1]


class TextDecoder(PictureDecoder):
    """Any decoder declared as `TextLayers`, run by torch."""

    def __init__(self, layers: TextLayers) -> None:
        super().__init__()
        self._layers = layers

    def project(self, states: Tensor) -> Sequence[Tensor]:
        """Keys and values of pictures."""
        return self._layers.project(states)

    def first_words(self, num_rows: int) -> None:
        """Nothing: the first step knows the sizes."""

    def run(self, input_ids: Tensor, positions: Tensor, mask: Tensor, cache: TextCache) -> Tensor:
        """One step of all rows."""
        past = cache.words
        if past is None:
            values = cache.pictures[1]
            past = [values.new_zeros(len(input_ids), values.shape[1], 0, values.shape[3])] * len(cache.pictures)
        logits, cache.words = self._layers.run(input_ids, positions, mask, past, cache.pictures)
        return logits

    def select_words(self, words: Sequence[Tensor] | None, rows: Tensor) -> list[Tensor] | None:
        """Their keys and values."""
        return None if words is None else [x[rows] for x in words]


def one_a_picture(states: Tensor) -> Tensor:
    """Of rows `[rows, S, hidden]` each of equal neighbours once, where all have equally many; else all of them."""
    if len(states) == 1 or states.stride(0) == 0:
        return states[:1]
    changes = (states[1:] != states[:-1]).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    starts = [0, *(place + 1 for place in changes)]
    lengths = {end - start for start, end in pairwise([*starts, len(states)])}
    return states if len(lengths) > 1 else states[starts]


def added_mask(attention_mask: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """What is added to scores `[rows, 1, length, total]`: words see those before them, and no padding."""
    total = attention_mask.shape[1]
    ones = torch.ones(length, total, dtype=torch.bool, device=attention_mask.device)
    # A padded place must see something, or its softmax is not a number: it sees itself.
    itself = ones.tril(total - length).triu(total - length)
    seen = (ones.tril(total - length) & attention_mask.bool()[:, None, None, :]) | itself
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


def bert_layer(layer: Any) -> TextLayer:
    """A layer of BERT with cross-attention, and of BLIP's decoder, which has BERT's names."""
    words, picture = layer.attention, layer.crossattention
    scale = words.self.attention_head_size**-0.5

    def project_words(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return words.self.query(x), words.self.key(x), words.self.value(x)

    def project_picture(states: Tensor) -> tuple[Tensor, Tensor]:
        return picture.self.key(states), picture.self.value(states)

    return TextLayer(
        words=WordAttention(project_words, words.output.dense, words.output.LayerNorm, scale),
        picture=PictureAttention(
            picture.self.query, project_picture, picture.output.dense, picture.output.LayerNorm, scale
        ),
        feed_forward=lambda x: layer.output.dense(layer.intermediate(x)),
        feed_forward_norm=layer.output.LayerNorm,
    )
