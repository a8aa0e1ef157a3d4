"""What decoders on transformers' own layers share: a picture's keys computed once, and heads on a dimmer.

This is the way of attention, explanations, scaled heads and training, which need the layers themselves; captions are
written by `text_decoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import EncoderDecoderCache

Projection = Callable[["Tensor"], "tuple[Tensor, Tensor]"]
"""A layer's keys and values `[N, heads, S, head_dim]` of encoder states `[N, S, hidden]`."""


class PictureCache:
    """The keys and values that a batch of rows has so far: of the patches, computed once, and of the words.

    `states [1, prefix + patches, hidden]` only tells the layers that there is a picture. `same_picture` says that
    all rows see the same one, so that choosing among rows need not move its keys.
    """

    def __init__(self, keys: EncoderDecoderCache, states: Tensor, same_picture: bool, num_rows: int) -> None:
        self.keys = keys
        self.states = states
        self.same_picture = same_picture
        self.num_rows = num_rows

    @classmethod
    def start(cls, states: Tensor, projections: Sequence[Projection]) -> PictureCache:
        """A fresh cache for rows that see `states [rows, prefix + patches, hidden]`; equal rows are computed once."""
        from transformers import DynamicCache, EncoderDecoderCache

        rows = len(states)
        same_picture = rows == 1 or bool((states == states[:1]).all())
        source = states[:1] if same_picture else states
        patches = DynamicCache()
        for number, project in enumerate(projections):
            keys, values = project(source)
            patches.update(_repeat(keys, rows), _repeat(values, rows), number)
        return cls(EncoderDecoderCache(DynamicCache(), patches), states[:1], same_picture, rows)

    def select(self, rows: Tensor) -> PictureCache:
        """Replace the rows by `rows` of the old ones, in place."""
        self.keys.self_attention_cache.reorder_cache(rows)
        if not (self.same_picture and len(rows) == self.num_rows):
            self.keys.cross_attention_cache.reorder_cache(rows)
        self.num_rows = len(rows)
        return self


def _repeat(x: Tensor, rows: int) -> Tensor:
    """`[1, …]` or `[rows, …]` → `[rows, …]` of its own memory: products over expanded rows copy them every time."""
    return x.expand(rows, *x.shape[1:]).contiguous()


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """`[N, S, hidden]` → `[N, heads, S, head_dim]`."""
    return x.view(*x.shape[:-1], num_heads, -1).transpose(1, 2)


@contextmanager
def scaled_heads(outputs: Sequence[nn.Module], head_mask: Tensor | None) -> Iterator[None]:
    """Scale what each head hands on, `head_mask [layers, heads]`, inside this block.

    `outputs` are the layers that mix the heads of each attention; their inputs hold the heads side by side.
    """

    def scale(factors: Tensor) -> Any:
        return lambda _, inputs: ((inputs[0].unflatten(-1, (len(factors), -1)) * factors.view(-1, 1)).flatten(-2),)

    pairs = zip(outputs, head_mask, strict=True) if head_mask is not None else ()
    hooks = [layer.register_forward_pre_hook(scale(factors)) for layer, factors in pairs]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
