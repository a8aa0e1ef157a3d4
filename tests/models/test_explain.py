"""Explanations, held against their formulas written out on what the libraries' own models return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from captioning.core.types import Caption, DecodingOptions
from captioning.models.captioner import NetworkCaptioner
from captioning.models.explain import relevance_across, relevance_within
from tests.models.plain import read_plainly
from tests.tiny_models import drawing

Passed = dict[str, list[NDArray[np.float64]]]
"""Gradient times attention of each layer, heads first, by what weighs: `encoder`, `words` and `cross`."""


def run_encoder_decoder(network: Any, pixels: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Sequence[Tensor]]]:
    output = network.module(pixel_values=pixels, decoder_input_ids=ids, output_attentions=True)
    parts = {"encoder": output.encoder_attentions, "words": output.decoder_attentions, "cross": output.cross_attentions}
    return output.logits, parts


def run_blip(network: Any, pixels: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Sequence[Tensor]]]:
    looked = network.module.vision_model(pixel_values=pixels, output_attentions=True)
    output = network.module.text_decoder(
        ids, attention_mask=torch.ones_like(ids), encoder_hidden_states=looked[0], output_attentions=True
    )
    return output.logits, {
        "encoder": looked.attentions, "words": output.attentions, "cross": output.cross_attentions
    }  # fmt: skip


def run_ours(network: Any, pixels: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Sequence[Tensor]]]:
    """Attention written out; the encoder is convolutional, so its states stand for themselves."""
    states = network.module.image_encoder(pixels)[0]
    logits, words, cross = read_plainly(network, ids, torch.ones_like(ids), states)
    return logits, {"words": words, "cross": cross}


def run_git(network: Any, pixels: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Sequence[Tensor]]]:
    looked: list[Tensor] = []
    layers = network.module.git.image_encoder.vision_model.encoder.layers
    hooks = [layer.self_attn.register_forward_hook(lambda _, __, output: looked.append(output[1])) for layer in layers]
    output = network.module(ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, output_attentions=True)
    for hook in hooks:
        hook.remove()
    return output.logits[:, -ids.shape[1] :], {"encoder": looked, "words": output.attentions}


RUNS: dict[str, Callable[[Any, Tensor, Tensor], tuple[Tensor, dict[str, Sequence[Tensor]]]]] = {
    "blip": run_blip,
    "patch_captioner": run_ours,
    "vision_encoder_decoder-vit-gpt2": run_encoder_decoder,
    "vision_encoder_decoder-deit-bert": run_encoder_decoder,
    "vision_encoder_decoder-clip-gpt2": run_encoder_decoder,
    "git": run_git,
}


@pytest.fixture(params=RUNS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(captioner: NetworkCaptioner) -> Caption:
    (features,) = captioner.encode([drawing(0)])
    return captioner.decode(features, ["the woman"], DecodingOptions(max_new_tokens=8))[0]


def gradient_times_attention(captioner: NetworkCaptioner, family: str, caption: Caption, position: int) -> Passed:
    """The library's own forward pass with every weight trainable, and torch's own gradients."""
    network = captioner._network
    network.module.requires_grad_(True)
    try:
        pixels = network.preprocess(drawing(0)).pixel_values[None].requires_grad_()
        ids = torch.tensor([[*network.start_ids, *caption.token_ids]])
        logits, parts = RUNS[family](network, pixels, ids)
        row = len(network.start_ids) - 1 + position
        target = torch.log_softmax(logits[0, row], dim=-1)[caption.token_ids[position]]
        passed: Passed = {}
        for name, weights in parts.items():
            gradients = torch.autograd.grad(target, weights, retain_graph=True, allow_unused=True)
            passed[name] = [
                np.zeros(w.shape[1:]) if g is None else (w * g)[0].detach().double().numpy()
                for w, g in zip(weights, gradients, strict=True)
            ]
        return passed
    finally:
        network.module.requires_grad_(False)


def close(maps: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    assert expected.max() > 0
    np.testing.assert_allclose(maps, expected, rtol=2e-3, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize("position", [0, 3])
def test_gradient_attention_equals_its_formula(
    tiny_captioners: dict[str, NetworkCaptioner], family: str, position: int
) -> None:
    captioner = tiny_captioners[family]
    caption = write(captioner)
    passed = gradient_times_attention(captioner, family, caption, position)
    row = len(captioner._network.start_ids) - 1 + position
    prefix = captioner._network.num_prefix_tokens
    patches = len(captioner.preprocess(drawing(0)).layout.boxes)
    if "cross" in passed:
        rows = [layer[:, row, prefix:] for layer in passed["cross"]]
    else:
        rows = [layer[:, prefix + patches + row, prefix : prefix + patches] for layer in passed["words"]]
    expected = np.mean([np.maximum(layer, 0).mean(axis=0) for layer in rows], axis=0)
    close(captioner.explain(drawing(0), caption, [position], "gradient_attention")[0], expected)


@pytest.mark.parametrize("position", [0, 3])
def test_relevance_equals_the_published_rules_step_by_step(
    tiny_captioners: dict[str, NetworkCaptioner], family: str, position: int
) -> None:
    captioner = tiny_captioners[family]
    caption = write(captioner)
    passed = gradient_times_attention(captioner, family, caption, position)
    means = {name: [np.maximum(layer, 0).mean(axis=0) for layer in layers] for name, layers in passed.items()}
    row = len(captioner._network.start_ids) - 1 + position
    looked = np.eye(len(means["encoder"][0]) if "encoder" in means else means["cross"][0].shape[1])
    for layer in means.get("encoder", []):
        looked = looked + layer @ looked
    if "cross" in means:
        expected = bi_modal(looked, means["words"], means["cross"])[row]
    else:
        expected = single_stream(looked, means["words"])[len(looked) + row, : len(looked)]
    prefix = captioner._network.num_prefix_tokens
    close(captioner.explain(drawing(0), caption, [position], "relevance")[0], expected[prefix:])


@pytest.mark.parametrize("position", [0, 3])
def test_input_gradient_is_what_a_word_gains_as_a_patch_grows(
    tiny_captioners: dict[str, NetworkCaptioner], family: str, position: int
) -> None:
    captioner = tiny_captioners[family]
    caption = write(captioner)
    (features,) = captioner.encode([drawing(0)])
    states, prefix, step = features.encoder_hidden_states, captioner._network.num_prefix_tokens, 0.002

    def gain(patch: int) -> float:
        """The slope of the log-probability over the factor that scales this patch's state, at 1."""
        scaled = [states.clone(), states.clone()]
        scaled[0][prefix + patch] *= 1 + step
        scaled[1][prefix + patch] *= 1 - step
        both = [replace(features, encoder_hidden_states=one) for one in scaled]
        more, less = captioner.score(both, caption)[:, position].tolist()
        return float(more - less) / (2 * step)

    slopes = np.array([gain(patch) for patch in range(len(features.layout.boxes))])
    (heat,) = captioner.explain(drawing(0), caption, [position], "input_gradient")
    assert slopes.max() > 0 > slopes.min(), "nothing would show that the negative part is left out"
    np.testing.assert_allclose(heat, slopes.clip(0), atol=0.02 * float(slopes.max()))


def normalise(relevance: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.eye(len(relevance))
    for place, row in enumerate(relevance - np.eye(len(relevance))):
        if row.sum() > 0:
            result[place] += row / row.sum()
    return result


def bi_modal(
    looked: NDArray[np.float64], words: list[NDArray[np.float64]], cross: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    text, picture = np.eye(len(words[0])), np.zeros(cross[0].shape)
    for read, asked in zip(words, cross, strict=True):
        new_text = text + read @ text
        new_picture = picture + read @ picture
        text, picture = new_text, new_picture + normalise(new_text).T @ asked @ normalise(looked)
    return picture


def single_stream(looked: NDArray[np.float64], joint: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    relevance = np.eye(len(joint[0]))
    relevance[: len(looked), : len(looked)] = looked
    for layer in joint:
        relevance = relevance + layer @ relevance
    return relevance


def test_relevance_follows_the_one_patch_that_everything_passes_through() -> None:
    looked = torch.zeros(4, 4)
    looked[:, 2] = 1.0  # all states are made of the third patch
    words, cross = torch.zeros(3, 3), torch.zeros(3, 4)
    words[2, 1] = 1.0  # the last word is made of the one before
    cross[1, 0] = 1.0  # which looked at the first state
    across = relevance_across([looked], [torch.zeros(3, 3), words], [cross, torch.zeros(3, 4)])
    assert across[2].tolist() == pytest.approx([1, 0, 1, 0])
    joint = torch.zeros(7, 7)
    joint[5, 0] = 1.0
    later = torch.zeros(7, 7)
    later[6, 5] = 1.0
    within = relevance_within([looked], [joint, later], -1, torch.arange(4))
    assert within.tolist() == pytest.approx([1, 0, 1, 0])


def test_half_precision_explains_nearly_the_same(
    tiny_folders: dict[str, Any], tiny_captioners: dict[str, NetworkCaptioner]
) -> None:
    from captioning.models.sources import hub

    exact = tiny_captioners["blip"]
    caption = write(exact)
    for dtype in (torch.bfloat16, torch.float16):
        half = NetworkCaptioner(exact.spec, hub.open_network(exact.spec, torch.device("cpu"), dtype))
        for method in exact.spec.capabilities.explanation_methods:
            maps, whole = (c.explain(drawing(0), caption, range(4), method) for c in (half, exact))
            assert maps.dtype == np.float32
            assert np.isfinite(maps).all()
            alike = [np.corrcoef(one, other)[0, 1] for one, other in zip(maps, whole, strict=True)]
            assert min(alike) > 0.8
