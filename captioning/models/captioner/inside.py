"""What is inside a network: its weights and layers, and the shapes that a picture passes through."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from PIL import Image

from captioning.core.types import ModelInfo, ModelSpec, ParameterArray, Picture
from captioning.models.network import Network


def describe_network(
    spec: ModelSpec, network: Network, device: torch.device, dtype: torch.dtype, engine: str
) -> ModelInfo:
    """Return what is inside a network; the shapes are those of a picture and a caption of four tokens."""
    module = network.module
    arrays = tuple(
        ParameterArray(name, tuple(p.shape), str(p.dtype).removeprefix("torch."), p.numel())
        for name, p in module.named_parameters()
    )
    leaves = Counter(type(m).__name__ for m in module.modules() if not any(m.children()))
    return ModelInfo(
        spec=spec,
        parameters=sum(a.elements for a in arrays),
        arrays=arrays,
        layer_types=dict(leaves.most_common()),
        tokenizer=network.describe_tokenizer(),
        shapes=_shapes(spec, network, device, dtype),
        device=str(device),
        precision=str(dtype).removeprefix("torch."),
        engine=engine,
    )


def _shapes(
    spec: ModelSpec, network: Network, device: torch.device, dtype: torch.dtype
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    picture = Picture(Image.new("RGB", (64, 48)), "blank")
    model_input = network.preprocess(picture)
    states, embeds = network.encode(model_input.pixel_values[None].to(device, dtype))
    ids = torch.tensor([[*network.start_ids, *[network.end_id] * 4]], device=device)
    layout = model_input.layout
    logits = network.step(ids, torch.ones_like(ids), network.start(states, layout))
    steps: list[tuple[str, Any]] = [
        ("pixel_values", model_input.pixel_values[None]),
        ("encoder_hidden_states", states),
        ("image_embeds", embeds),
        ("input_ids", ids),
    ]
    shapes = [(name, tuple(tensor.shape)) for name, tensor in steps]
    if layout.grid is not None and model_input.pixel_values.ndim == 3:
        channels, height, width = model_input.pixel_values.shape
        patch = (len(layout.boxes), channels, height // layout.grid[0], width // layout.grid[1])
        shapes.insert(1, ("patches", patch))
    kind = spec.capabilities.attention_kind
    if kind is not None:
        weights = network.attend(ids, states, None, layout)[0]
        length, seen = weights.shape[-2:]
        width = _word_width(network, logits.shape[-1])
        shapes += [("query", (length, 1, width)), ("key", (seen, 1, states.shape[-1]))]
        shapes += [("value", shapes[-1][1]), (f"{kind}_attentions", tuple(weights.shape))]
    return (*shapes, ("logits", tuple(logits.shape)))


def _word_width(network: Network, vocab_size: int) -> int:
    """The width of the decoder's states, which is that of its word vectors; 0 where it has no table of them."""
    tables = (p for p in network.module.parameters() if p.ndim == 2 and p.shape[0] == vocab_size)
    return next((table.shape[1] for table in tables), 0)
