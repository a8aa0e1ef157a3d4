"""Declared layers: trained as the library trains its own, copied with their weights, and enough for a new family."""

from __future__ import annotations

from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioning.core.types import DecodingOptions
from captioning.models.captioner import NetworkCaptioner
from captioning.models.decoding.choosing import choose_engine
from tests.models import made_up_family
from tests.models.made_up_family import FAMILY, SPEC
from tests.models.plain import read_plainly
from tests.tiny_models import drawing

DECLARED = (
    "blip",
    "patch_captioner",
    "vision_encoder_decoder-vit-gpt2",
    "vision_encoder_decoder-deit-bert",
)
GREEDY = DecodingOptions(max_new_tokens=8)
BEAMS = DecodingOptions(max_new_tokens=8, num_beams=3)
SAMPLED = DecodingOptions(max_new_tokens=8, temperature=1.0, num_captions=3)


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


# A made-up family


@pytest.fixture(scope="module")
def made_up() -> NetworkCaptioner:
    return NetworkCaptioner(SPEC, FAMILY.untrained("made-up", torch.device("cpu"), torch.float32))  # type: ignore[misc]


def test_a_new_family_is_short() -> None:
    assert len(Path(made_up_family.__file__).read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.parametrize("options", [GREEDY, BEAMS, SAMPLED], ids=["greedy", "beams", "sampled"])
def test_a_new_family_writes_what_its_scores_say(made_up: NetworkCaptioner, options: DecodingOptions) -> None:
    features, other = made_up.encode([drawing(0), drawing(1)])
    for caption in made_up.decode(features, ["", "words in front"], options):
        scores = made_up.score([features, other], caption)
        np.testing.assert_allclose(scores[0], caption.log_probs, atol=1e-4)
        assert np.abs(scores[0] - scores[1]).max() > 1e-4


def test_a_new_family_is_traced_scaled_and_explained(made_up: NetworkCaptioner) -> None:
    (features,) = made_up.encode([drawing(0)])
    (caption,) = made_up.decode(features, [""], GREEDY)
    trace = made_up.trace(features, caption)
    np.testing.assert_allclose(trace.image_attentions.sum(-1), 1, atol=1e-5)
    mask = np.ones(trace.image_attentions.shape[:2], np.float32)
    mask[1, 0] = 0
    assert np.abs(made_up.score([features], caption, mask) - made_up.score([features], caption)).max() > 1e-5
    for method in SPEC.capabilities.explanation_methods:
        maps = made_up.explain(drawing(0), caption, [0, 1], method)
        assert maps.shape == (2, 9)
        assert maps.max() > 0


def test_a_new_family_is_trained_and_saved(tmp_path: Path) -> None:
    assert FAMILY.untrained is not None
    assert FAMILY.save is not None
    network: Any = FAMILY.untrained("made-up", torch.device("cpu"), torch.float32)
    ids, states = see(network)
    optimizer = torch.optim.Adam(network.module.parameters(), 0.01)
    losses = []
    for _ in range(20):
        logits = network.teach(ids, states)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # missing in the stubs
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    FAMILY.save(network, tmp_path, "")
    loaded: Any = FAMILY.load(tmp_path, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(loaded.teach(ids, states), network.teach(ids, states))


@pytest.mark.skipif(find_spec("openvino") is None, reason="the `fast` extra is not installed")
def test_a_new_family_is_compiled(made_up: NetworkCaptioner) -> None:
    engine = choose_engine(made_up._network, "openvino")
    assert (engine.name, engine.note) == ("openvino", "")
    compiled = NetworkCaptioner(SPEC, made_up._network, engine=engine)
    (features,) = made_up.encode([drawing(0)])
    one, other = (captioner.decode(features, ["", "in"], GREEDY) for captioner in (made_up, compiled))
    assert [caption.token_ids for caption in one] == [caption.token_ids for caption in other]
