"""Maps equal what an independent decode sees, one step after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio
import numpy as np
import torch
from numpy.typing import NDArray

from captioning.attention.views import select, to_grid
from captioning.core.types import DecodingOptions, Picture
from captioning.media.images import open_image
from captioning.models.captioner import NetworkCaptioner
from captioning.models.files import embedded_folder
from tests.models.conftest import open_tiny
from tests.tiny_models import drawing

CHEETAH = Path(gradio.__file__).parent / "media_assets" / "images" / "cheetah.jpg"


def write_with_blip(network: Any, picture: Picture, count: int) -> tuple[list[int], list[NDArray[np.float32]]]:
    """transformers' own decoder, fed one token at a time, its likeliest word each time."""
    module = network.module
    with torch.no_grad():
        states = module.vision_model(pixel_values=network.preprocess(picture).pixel_values[None])[0]
        ids, past, seen = [network.start_ids[0]], None, []
        for _ in range(count):
            output = module.text_decoder(
                torch.tensor([ids[-1:]]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                position_ids=torch.tensor([[len(ids) - 1]]),
                encoder_hidden_states=states,
                past_key_values=past,
                use_cache=True,
                output_attentions=True,
            )
            past = output.past_key_values
            seen.append(torch.stack(output.cross_attentions)[:, 0, :, -1].numpy())
            ids.append(int(output.logits[0, -1].argmax()))
    return ids[1:], seen


def write_with_torch(network: Any, picture: Picture, count: int) -> tuple[list[int], list[NDArray[np.float32]]]:
    """torch's own attention layer on everything written so far, again for every word: no cache, nothing kept."""
    module = network.module
    decoder = module.text_decoder
    with torch.no_grad():
        states = module.image_encoder(network.preprocess(picture).pixel_values[None])[0]
        ids, seen = [network.start_ids[0]], []
        for _ in range(count):
            x = decoder.tokens(torch.tensor([ids])) + decoder.positions(torch.arange(len(ids)))
            later = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
            weights = []
            for layer in decoder.layers:
                y = layer.self_norm(x)
                x = x + layer.self_attention(y, y, y, attn_mask=later, need_weights=False)[0]
                read, looked = layer.cross_attention(
                    layer.cross_norm(x), states, states, need_weights=True, average_attn_weights=False
                )
                x = x + read
                x = x + layer.ffn(layer.ffn_norm(x))
                weights.append(looked[0, :, -1])
            seen.append(torch.stack(weights).numpy())
            ids.append(int((decoder.norm(x)[0, -1] @ decoder.tokens.weight.T).argmax()))
    return ids[1:], seen


def check(captioner: NetworkCaptioner, picture: Picture, ids: list[int], seen: list[NDArray[np.float32]]) -> int:
    """Compare every head's map of every token that was written; how many there are."""
    (features,) = captioner.encode([picture])
    (caption,) = captioner.decode(features, [""], DecodingOptions(max_new_tokens=len(ids)))
    assert list(caption.token_ids) == ids[: len(caption.token_ids)]
    if not caption.token_ids:
        return 0
    trace = captioner.trace(features, caption)
    assert trace.layout.grid is not None
    prefix, grid = features.num_prefix_tokens, trace.layout.grid
    for token in range(len(caption.token_ids)):
        for layer in range(seen[0].shape[0]):
            for head in range(seen[0].shape[1]):
                expected = seen[token][layer, head, prefix:].reshape(grid)
                actual = to_grid(select(trace, layer, head), trace.layout)[token]
                np.testing.assert_allclose(actual, expected, atol=1e-5)
    return len(caption.token_ids)


def test_maps_of_tiny_blip_equal_its_own_decoder_step_by_step(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    captioner = tiny_captioners["blip"]
    lengths = set()
    for seed in range(6):
        lengths.add(check(captioner, drawing(seed), *write_with_blip(captioner._network, drawing(seed), 6)))
    assert max(lengths) >= 4


def test_maps_of_the_embedded_model_equal_torchs_own_attention_step_by_step() -> None:
    captioner = open_tiny(embedded_folder())
    picture = open_image(CHEETAH)
    assert check(captioner, picture, *write_with_torch(captioner._network, picture, 8)) >= 2
