"""Decoders run the plain way: by the libraries' own layers, on everything written so far, again for every step."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from captioning.models.families.patch_captioner import PatchCaptionerNetwork
from captioning.models.network import Network


class PlainDecoder:
    """`start`, `step` and `select` without any cache."""

    def __init__(self, network: Network) -> None:
        self.start_ids = network.start_ids
        self.end_id = network.end_id
        self._network: Any = network

    def start(self, states: Tensor, layout: Any) -> SimpleNamespace:
        return SimpleNamespace(states=states, ids=torch.zeros(len(states), 0, dtype=torch.long))

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: SimpleNamespace) -> Tensor:
        cache.ids = torch.cat((cache.ids, input_ids), dim=1)
        logits = read_plainly(self._network, cache.ids, attention_mask, cache.states)[0]
        return logits[:, -input_ids.shape[1] :]

    def select(self, cache: SimpleNamespace, rows: Tensor) -> SimpleNamespace:
        return SimpleNamespace(states=cache.states[rows], ids=cache.ids[rows])


def read_plainly(
    network: Any, ids: Tensor, mask: Tensor, states: Tensor
) -> tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]:
    """Logits of whole texts, and what their words weigh of each other and of the picture, layer by layer."""
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    if isinstance(network, PatchCaptionerNetwork):
        return _read_patches(network.module.text_decoder, ids, mask, positions, states)
    decoder = network.module.text_decoder if hasattr(network.module, "text_decoder") else network.module.decoder
    output = decoder(
        ids, attention_mask=mask, position_ids=positions, encoder_hidden_states=states, output_attentions=True
    )
    return output.logits, output.attentions, output.cross_attentions


def _read_patches(
    decoder: Any, ids: Tensor, mask: Tensor, positions: Tensor, states: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    length = ids.shape[1]
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1) | ~mask.bool()[:, None, None, :]
    hidden = hidden & ~torch.eye(length, dtype=torch.bool)
    words, cross = [], []
    x = decoder.tokens(ids) + decoder.positions(positions)
    for layer in decoder.layers:
        read, weights = _attend(layer.self_attention, layer.self_norm(x), layer.self_norm(x), hidden)
        words.append(weights)
        x = x + read
        read, weights = _attend(layer.cross_attention, layer.cross_norm(x), states, torch.tensor(False))
        cross.append(weights)
        x = x + read
        x = x + layer.ffn(layer.ffn_norm(x))
    return decoder.norm(x) @ decoder.tokens.weight.T, words, cross


def _attend(layer: torch.nn.MultiheadAttention, x: Tensor, source: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Attention written out; torch's own returns weights that its gradients do not pass through."""
    parts = zip((x, source, source), layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
    query, keys, values = (
        (y @ weight.T + bias).view(*y.shape[:2], layer.num_heads, -1).transpose(1, 2) for y, weight, bias in parts
    )
    scores = query @ keys.transpose(2, 3) / layer.head_dim**0.5
    weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    return layer.out_proj((weights @ values).transpose(1, 2).flatten(2)), weights
