"""Declared layers: they are trained as the library trains its own, and a copied network runs its own weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from captioning.models.captioner import NetworkCaptioner
from tests.models.plain import read_plainly
from tests.tiny_models import drawing

DECLARED = (
    "blip",
    "patch_captioner",
    "vision_encoder_decoder-vit-gpt2",
    "vision_encoder_decoder-deit-bert",
)


@pytest.fixture(params=DECLARED)
def network(request: pytest.FixtureRequest, tiny_captioners: dict[str, NetworkCaptioner]) -> Any:
    """A copy that a test may train."""
    return deepcopy(tiny_captioners[request.param]._network)


def see(network: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two captions, and the states of a picture each."""
    ids = torch.tensor(
        [[*network.start_ids, *network.text_to_ids(text)][:5] for text in ("the woman in the park",) * 2]
    )
    pixels = torch.stack([network.preprocess(drawing(seed)).pixel_values for seed in range(2)])
    with torch.no_grad():
        return ids, network.encode(pixels)[0]


def test_training_reads_whole_captions_as_the_library_does(network: Any) -> None:
    ids, states = see(network)
    expected = read_plainly(network, ids, torch.ones_like(ids), states)[0]
    torch.testing.assert_close(network.teach(ids, states), expected, atol=1e-4, rtol=1e-4)
    twice = network.teach(ids.repeat_interleave(2, dim=0), states)
    torch.testing.assert_close(twice, expected.repeat_interleave(2, dim=0), atol=1e-4, rtol=1e-4)
    assert twice.requires_grad or not any(p.requires_grad for p in network.module.parameters())


def test_training_drops_the_values_that_the_library_would_drop(network: Any) -> None:
    ids, states = see(network)
    still = network.teach(ids, states)
    for part in network.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.3
    torch.testing.assert_close(network.teach(ids, states), still)
    network.module.train()
    torch.manual_seed(0)
    dropped = network.teach(ids, states)
    assert (dropped - still).abs().max() > 0.01
    if hasattr(network.module.config, "model_type"):  # the other's decoder has no way of its own to compare with
        torch.manual_seed(0)
        expected = read_plainly(network, ids, torch.ones_like(ids), states)[0]
        torch.testing.assert_close(dropped, expected, atol=1e-4, rtol=1e-4)


def test_a_step_with_gradients_drops_values_and_one_without_does_not(network: Any) -> None:
    ids, states = see(network)
    for part in network.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.3
    network.module.train()
    with torch.no_grad():
        one, other = (network.step(ids, torch.ones_like(ids), network.start(states)) for _ in range(2))
    torch.testing.assert_close(one, other)
    one, other = (network.step(ids, torch.ones_like(ids), network.start(states)) for _ in range(2))
    assert (one - other).abs().max() > 0.01


def test_a_copy_runs_its_own_weights(network: Any) -> None:
    ids, states = see(network)
    with torch.no_grad():
        before = network.teach(ids, states)
        copied = deepcopy(network)
        for parameter in copied.module.parameters():
            parameter.zero_()
        assert copied.teach(ids, states).std() < 1e-6 < before.std()
        torch.testing.assert_close(network.teach(ids, states), before)
