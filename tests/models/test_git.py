"""GIT: its pixels, its parts and its attention are those of the library's own class, read whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioning.core.errors import ModelFilesError
from captioning.core.types import DecodingOptions
from captioning.models import get_spec
from captioning.models.captioner import NetworkCaptioner
from captioning.models.families import git
from captioning.models.families.git import GitNetwork
from tests.models.test_blip import edit_json
from tests.tiny_models import drawing

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network(tiny_captioners: dict[str, NetworkCaptioner]) -> GitNetwork:
    network = tiny_captioners["git"]._network
    assert isinstance(network, GitNetwork)
    return network


@pytest.fixture
def folder(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_folders["git"], tmp_path / "spoiled"))


def test_registered_models_name_their_licence_and_size() -> None:
    for name in ("microsoft/git-base-coco", "microsoft/git-base"):
        spec = get_spec(name)
        assert spec.license == "MIT"
        assert spec.download_bytes > 0
        assert spec.capabilities.attention_kind == "self"


@pytest.mark.parametrize("size", [(60, 44), (20, 80), (32, 32), (333, 500)])
def test_pixels_equal_the_librarys_own_processor(network: GitNetwork, tiny_folders: Any, size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = drawing(3, size)
    processor = CLIPImageProcessorPil.from_pretrained(tiny_folders["git"])
    expected = processor(images=picture.image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(network.preprocess(picture).pixel_values.numpy(), expected, atol=1e-5)


def test_patches_lie_in_the_middle_that_is_kept(network: GitNetwork) -> None:
    layout = network.preprocess(drawing(0, (200, 100))).layout
    assert layout.grid == (4, 4)
    np.testing.assert_allclose(layout.boxes[[0, 5, 15]], [[1 / 4, 0, 3 / 8, 1 / 4], [3 / 8, 1 / 4, 1 / 2, 1 / 2],
                                                          [5 / 8, 3 / 4, 3 / 4, 1]])  # fmt: skip


def test_a_trace_equals_the_columns_of_the_whole_sequence(
    tiny_captioners: dict[str, NetworkCaptioner], network: GitNetwork
) -> None:
    captioner, picture = tiny_captioners["git"], drawing(0)
    (features,) = captioner.encode([picture])
    (caption,) = captioner.decode(features, ["the woman"], DecodingOptions(max_new_tokens=9))
    trace = captioner.trace(features, caption)
    with torch.inference_mode():
        ids = torch.tensor([[*network.start_ids, *caption.token_ids]])
        pixels = network.preprocess(picture).pixel_values[None]
        whole = network.module(ids, pixel_values=pixels, output_attentions=True).attentions
    rows = torch.stack(whole)[:, 0, :, 17:-1]
    np.testing.assert_allclose(trace.image_attentions, rows[..., 1:17], atol=1e-5)
    np.testing.assert_allclose(trace.prefix_attentions, rows[..., 0], atol=1e-5)


def test_score_equals_the_whole_models_logits(
    tiny_captioners: dict[str, NetworkCaptioner], network: GitNetwork
) -> None:
    captioner, picture = tiny_captioners["git"], drawing(1)
    (features,) = captioner.encode([picture])
    caption = captioner.caption_from_text(features, "a photo of", "the woman in the park")
    with torch.inference_mode():
        ids = torch.tensor([[*network.start_ids, *caption.token_ids]])
        logits = network.module(ids, pixel_values=network.preprocess(picture).pixel_values[None]).logits[0, 17:-1]
    expected = logits.log_softmax(dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    np.testing.assert_allclose(caption.log_probs, expected, atol=1e-5)


def test_masking_all_heads_of_a_layer_hides_the_picture_from_the_next(network: GitNetwork) -> None:
    pixels = torch.stack([network.preprocess(drawing(seed)).pixel_values for seed in range(2)])
    layout = network.preprocess(drawing(0)).layout
    ids = torch.full((2, 3), network.start_ids[0])
    mask = torch.ones(2, 4)
    mask[0] = 0
    query = network._git.encoder.layer[1].attention.self.query
    seen: list[torch.Tensor] = []
    hook = query.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.inference_mode():
        states, _ = network.encode(pixels)
        network.attend(ids, states, mask, layout)
        network.attend(ids, states, None, layout)
    hook.remove()
    words = [rows for rows in seen if rows.shape[1] == 3]
    torch.testing.assert_close(words[0][0], words[0][1])  # nothing of the pictures reached the words
    assert (words[1][0] - words[1][1]).abs().max() > 1e-3


def test_a_picture_is_read_once_for_all_that_follows(
    tiny_captioners: dict[str, NetworkCaptioner], network: GitNetwork
) -> None:
    captioner = tiny_captioners["git"]
    first, second = captioner.encode([drawing(5), drawing(6)])
    lengths: list[int] = []
    key = network._git.encoder.layer[0].attention.self.key
    hook = key.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    for options in (DecodingOptions(max_new_tokens=3), DecodingOptions(max_new_tokens=3, num_beams=2)):
        captions = captioner.decode(first, ["", "the woman"], options)
    captioner.trace(first, captions[1])
    score = captioner.score([first], captions[1])
    assert lengths.count(17) == 1
    other = captioner.score([second], captions[1])
    assert lengths.count(17) == 2
    hook.remove()
    assert np.abs(other - score).max() > 1e-3


def test_gradients_reach_the_states(network: GitNetwork) -> None:
    model_input = network.preprocess(drawing(0))
    with torch.no_grad():
        states, _ = network.encode(model_input.pixel_values[None])
    states = states.clone().requires_grad_()
    ids = torch.tensor([[network.start_ids[0], 100]])
    network.step(ids, torch.ones_like(ids), network.start(states, model_input.layout))[0, -1].max().backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None
    assert states.grad.abs().max() > 0


def test_a_git_for_films_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", lambda v: v.update(num_image_with_embedding=6))
    with pytest.raises(ModelFilesError, match=r"6 video frames|do not fit"):
        git.load(folder, CPU, torch.float32)


def test_files_of_different_models_are_refused(folder: Path) -> None:
    edit_json(folder / "preprocessor_config.json", lambda v: v.update(crop_size={"height": 48, "width": 48}))
    with pytest.raises(ModelFilesError, match="48 × 48 pixels"):
        git.load(folder, CPU, torch.float32)
