"""BERT's decoder as layers, and BLIP's, which has BERT's names."""

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


def bert_layers(words: Any, head: Layer, num_heads: int) -> TextLayers:
    """Return the layers of a BERT model `words` with cross-attention, and a head that makes logits of its states."""
    embeddings, layers = words.embeddings, list(words.encoder.layer)
    # Every word is of the first kind: this decoder reads one text, not two.
    kinds = getattr(embeddings, "token_type_embeddings", None)

    def embed(input_ids: Tensor, positions: Tensor) -> Tensor:
        states = embeddings.word_embeddings(input_ids) + embeddings.position_embeddings(positions)
        embedded: Tensor = embeddings.LayerNorm(states if kinds is None else states + kinds.weight[0])
        return embedded

    return TextLayers(
        embed=embed,
        layers=[_layer(layer) for layer in layers],
        head=head,
        num_heads=num_heads,
        norm_first=False,
        dropout=Dropout(embeddings.dropout, layers[0].output.dropout, layers[0].attention.self.dropout),
    )


def _layer(layer: Any) -> TextLayer:
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
