"""GPT-2 as layers, with the cross-attention that captioning models add to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captioning.models.decoding.text_layers import (
    Dropout,
    Layer,
    PictureAttention,
    TextLayer,
    TextLayers,
    WordAttention,
)

if TYPE_CHECKING:
    from torch import Tensor


def gpt2_layers(words: Any, head: Layer, num_heads: int) -> TextLayers:
    """Return the layers of a GPT-2 model `words` with cross-attention, and a head that makes logits of its states."""
    first = words.h[0].attn
    return TextLayers(
        embed=lambda input_ids, positions: words.wte(input_ids) + words.wpe(positions),
        layers=[_layer(block) for block in words.h],
        head=lambda x: head(words.ln_f(x)),
        num_heads=num_heads,
        norm_first=True,
        dropout=Dropout(words.drop, first.resid_dropout, first.attn_dropout),
    )


def _layer(block: Any) -> TextLayer:
    words, picture, net = block.attn, block.crossattention, block.mlp

    def project_words(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values = words.c_attn(x).chunk(3, dim=-1)
        return query, keys, values

    def project_picture(states: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = picture.c_attn(states).chunk(2, dim=-1)
        return keys, values

    return TextLayer(
        words=WordAttention(project_words, words.c_proj, block.ln_1, words.scaling),
        picture=PictureAttention(picture.q_attn, project_picture, picture.c_proj, block.ln_cross_attn, picture.scaling),
        # Without the net's own dropout, which belongs to every part that is added.
        feed_forward=lambda x: net.c_proj(net.act(net.c_fc(x))),
        feed_forward_norm=block.ln_2,
    )
