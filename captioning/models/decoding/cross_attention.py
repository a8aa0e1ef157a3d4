"""A decoder whose words look at the picture in cross-attention: everything that follows from its declared layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from captioning.models.attention_layers import Recorded, recorded_weights, scaled_heads
from captioning.models.tokens import TokenizerAdapter

if TYPE_CHECKING:
    from torch import Tensor, nn

    from captioning.core.types import PatchLayout
    from captioning.models.decoding.text_decoder import TextCache, TextDecoder
    from captioning.models.decoding.text_layers import TextLayers


class CrossAttentionDecoder(TokenizerAdapter, ABC):
    """The half of a network that writes; a family adds the half that looks, and declares the layers of both.

    Steps, traces, scaled heads, explanations and training all run `text_layers`. `encoder_layers` are the attention
    layers of the encoder, for explanations; there are none where the encoder is no Transformer.
    """

    module: nn.Module
    encoder_layers: Sequence[nn.Module] = ()
    _writer: TextDecoder | None = None

    @abstractmethod
    def text_layers(self) -> TextLayers:
        """Return the decoder's layers and what they do."""

    def start(self, states: Tensor, layout: PatchLayout | None = None) -> TextCache:
        """Return a fresh cache for rows that see `states [rows, prefix + patches, hidden]`; `layout` is not needed."""
        return self._decoder.start(states)

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: TextCache) -> Tensor:
        """Return logits `[rows, new, vocab]`; with gradients enabled, dropout runs where the module is in training."""
        return self._decoder.step(input_ids, attention_mask, cache)

    def select(self, cache: TextCache, rows: Tensor) -> TextCache:
        """Replace the cache's rows by `rows` of the old ones, in place."""
        return self._decoder.select(cache, rows)

    def teach(self, input_ids: Tensor, states: Tensor) -> Tensor:
        """Return logits `[N, L, vocab]` of whole captions, for training, dropout included."""
        layers = self._decoder.layers
        return layers.head(layers.read(input_ids, layers.project(states), Recorded()))

    def attend(
        self, input_ids: Tensor, states: Tensor, head_mask: Tensor | None, layout: PatchLayout | None = None
    ) -> Tensor:
        """Return cross-attention `[layers, N, heads, L, prefix + patches]` from one pass.

        `head_mask [layers, heads]` scales each head's output before the layer mixes the heads.
        """
        import torch

        layers, record = self._decoder.layers, Recorded()
        with self.scaled_heads(head_mask):
            layers.read(input_ids, layers.project(states), record)
        return torch.stack([weights for (weights,) in record.cross])

    def scaled_heads(self, head_mask: Tensor | None) -> AbstractContextManager[None]:
        """Scale what each head of the cross-attention hands on, inside this block."""
        return scaled_heads([layer.picture.output for layer in self._decoder.layers.layers], head_mask)

    @contextmanager
    def recorded_weights(self) -> Iterator[Recorded]:
        """Keep the weights of all attention layers inside this block."""
        with recorded_weights(self.module, encoder=self.encoder_layers) as record:
            self._decoder.record = record
            try:
                yield record
            finally:
                self._decoder.record = None

    @property
    def _decoder(self) -> TextDecoder:
        if self._writer is None:
            from captioning.models.decoding.text_decoder import TextDecoder

            # It forgets every picture: training changes the weights that a picture's keys are made with.
            self._writer = TextDecoder(self.text_layers(), remembers=False)
        return self._writer

    def __getstate__(self) -> dict[str, Any]:
        """Leave the decoder out of a copy: its layers are those of this network's module, not of the copy's."""
        return {name: value for name, value in self.__dict__.items() if name != "_writer"}
