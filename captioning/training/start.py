"""What a run begins with: an untrained captioner, one on CLIP's image encoder, or a model that is trained further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captioning.core.errors import CapabilityError, ModelFilesError, OptionsError
from captioning.core.types import PatchLayout, Picture
from captioning.models import get_family, list_families
from captioning.models.families.patch_captioner import CLIP_DECODER, MODEL_TYPE, PatchCaptionerNetwork
from captioning.models.families.patch_captioner.clip_encoder import SHAPE_FIELDS, ClipEncoder
from captioning.models.families.patch_captioner.config import PACKAGE, PACKAGED_SHAPE, PatchNetworkConfig
from captioning.models.families.patch_captioner.network import ConvolutionalEncoder, PatchNetwork
from captioning.models.families.patch_captioner.packaged_encoder import (
    MAX_NAME_WORDS,
    PackagedEncoder,
    read_weights,
)
from captioning.models.family import ModelFamily
from captioning.models.network import TrainableNetwork
from captioning.models.pixels import PixelRecipe
from captioning.models.sources import hub
from captioning.models.sources.parts import fetch_part, find_part, load_image_encoder
from captioning.training.data import Photo, make_tokenizer, plain_words
from captioning.training.options import CONVOLUTIONAL, PACKAGED, StartOptions, TrainingOptions

DEFAULT_CLIP = "openai/clip-vit-base-patch32"
_WITHOUT_HUB = (
    "give --encoder clip:FOLDER with a copy of a CLIP, or --encoder efficientnet-lite2, which needs no network"
)
FrozenEncoder = ClipEncoder | ConvolutionalEncoder | PackagedEncoder
"""An encoder of our own that training may leave as it is: what it sees of a picture can be kept."""


@dataclass(frozen=True, slots=True)
class Start:
    """A network to be fitted, and its family.

    `origin` tells this start from others, so that a run is resumed with what it began with. `summary` describes the
    network on its card, and `base_model` names the one whose weights it has.
    """

    network: TrainableNetwork
    family: ModelFamily
    origin: Mapping[str, Any]
    summary: str
    base_model: str | None = None

    @property
    def pixels(self) -> PixelRecipe:
        """Return the recipe by which the network receives pixels."""
        return self.network.pixels

    @property
    def layout(self) -> PatchLayout:
        """Return the layout of the patches of a picture of the network's own shape."""
        height, width = self.pixels.shape
        return self.network.preprocess(Picture(Image.new("RGB", (width, height)), "blank")).layout

    @property
    def frozen_encoder(self) -> FrozenEncoder | None:
        """The image encoder, where it stays as it was trained."""
        encoder = getattr(self.network.module, "image_encoder", None)
        if isinstance(encoder, ConvolutionalEncoder):
            return encoder if encoder.frozen else None
        return encoder if isinstance(encoder, ClipEncoder | PackagedEncoder) else None

    def side(self, options: TrainingOptions) -> int:
        """Pixels along a side at which photographs are held; a little more than it sees where it sees crops of them."""
        if self.pixels.detail is not None:
            return self.pixels.detail
        height, width = self.pixels.shape
        return max(height, width) * (10 if options.augmentation else 9) // 9


def make_start(photos: Sequence[Photo], options: TrainingOptions, beginning: StartOptions) -> Start:
    """Return the network, tokenizer and options that a run on `photos` begins with.

    Raises `OptionsError` for a shape that cannot be, an encoder that cannot be frozen or captions longer than the
    network has room for, `CapabilityError` for a family that is not trained further, and whatever opening a model may
    raise.
    """
    start = _make_start(photos, options, beginning)
    room = start.network.max_tokens
    if options.max_tokens > room:
        raise OptionsError(
            f"The network has room for {room} tokens and cannot learn captions of {options.max_tokens}; add "
            f"--max-tokens {room}, or less."
        )
    return start


def _make_start(photos: Sequence[Photo], options: TrainingOptions, beginning: StartOptions) -> Start:
    if beginning.start_from is not None:
        start = start_from(beginning.start_from)
        if options.freeze_encoder:
            _freeze_encoder(start)
        return start
    if options.freeze_encoder:
        raise OptionsError("An encoder is frozen where a model is trained further; leave out --freeze-encoder.")
    if beginning.encoder == CONVOLUTIONAL:
        return _start_fresh(photos, options, beginning.shape)
    if beginning.encoder == PACKAGED:
        return _start_on_package(photos, options, beginning.shape)
    name = beginning.encoder.partition(":")[2]
    return _start_on_clip(name or DEFAULT_CLIP, photos, options, beginning.shape)


def _start_fresh(photos: Sequence[Photo], options: TrainingOptions, shape: Mapping[str, Any]) -> Start:
    tokenizer = make_tokenizer(photos, vocab_size=options.vocab_size)
    config = _make_config({"vocab_size": tokenizer.get_vocab_size(), **shape})
    torch.manual_seed(options.seed)
    network = PatchCaptionerNetwork(PatchNetwork(config), tokenizer)
    summary = (
        f"A convolutional encoder that keeps a {config.grid_size}×{config.grid_size} grid of patches, and a "
        f"{_describe_decoder(config)}: {_millions(network.module)}, trained from scratch."
    )
    origin = {"config": config.to_dict(), "tokenizer": tokenizer.to_str()}
    return Start(network, get_family(MODEL_TYPE), origin, summary)


def _start_on_package(photos: Sequence[Photo], options: TrainingOptions, shape: Mapping[str, Any]) -> Start:
    """Make a fresh decoder on the encoder that a package ships, which stays out of the model's folder."""
    weights = read_weights()
    names = [plain_words(name) for name in read_class_names()]
    tokenizer = make_tokenizer(photos, names, options.vocab_size)
    config = _make_config({"vocab_size": tokenizer.get_vocab_size(), **PACKAGED_SHAPE, **shape})
    torch.manual_seed(options.seed)
    network = PatchCaptionerNetwork(PatchNetwork(config), tokenizer)
    encoder = network.module.image_encoder
    assert isinstance(encoder, PackagedEncoder)
    encoder.vision.load_state_dict(weights)
    for ids, name in zip(encoder.name_ids, names, strict=True):
        words = network.text_to_ids(name)[:MAX_NAME_WORDS]
        ids[: len(words)] = torch.tensor(words)
    learnt = sum(p.numel() for p in network.module.parameters() if p.requires_grad)
    summary = (
        f"The image encoder of the package {PACKAGE} (EfficientNet-Lite2, trained on ImageNet), frozen and no part of "
        f"this folder, which keeps a {config.grid_size}×{config.grid_size} grid of patches, and a "
        f"{_describe_decoder(config)}: {_millions(network.module)}, {learnt / 1e6:.1f} million of them trained."
    )
    origin = {"config": config.to_dict(), "tokenizer": tokenizer.to_str()}
    return Start(network, get_family(MODEL_TYPE), origin, summary)


def _start_on_clip(name: str, photos: Sequence[Photo], options: TrainingOptions, shape: Mapping[str, Any]) -> Start:
    """Make a fresh decoder on CLIP's image encoder; its weights become part of the model."""
    part = find_part(name, _WITHOUT_HUB)
    if part.config.get("model_type") not in ("clip", "clip_vision_model"):
        raise ModelFilesError(f"{part.name} is no CLIP ({part.described}); choose one, such as {DEFAULT_CLIP}.")
    folder = fetch_part(part)
    recipe = PixelRecipe.read(folder)
    vision = load_image_encoder(part, folder, torch.float32)
    tokenizer = make_tokenizer(photos, vocab_size=options.vocab_size)
    look = {field: getattr(vision.config, field) for field in SHAPE_FIELDS}
    sizes = {"image_size": look["image_size"], "patch_size": look["patch_size"]}
    if set(shape) & set(sizes):
        raise OptionsError("CLIP's picture size is its own; leave out --image-size, or choose another CLIP.")
    colours = {"image_mean": recipe.mean, "image_std": recipe.std}
    values = {"vocab_size": tokenizer.get_vocab_size(), "clip_vision": look, **sizes, **colours}
    config = _make_config({**values, **CLIP_DECODER, **shape})
    torch.manual_seed(options.seed)
    network = PatchCaptionerNetwork(PatchNetwork(config), tokenizer)
    encoder = network.module.image_encoder
    assert isinstance(encoder, ClipEncoder)
    encoder.vision.load_state_dict(vision.state_dict())
    learnt = sum(p.numel() for p in network.module.parameters() if p.requires_grad)
    summary = (
        f"The image encoder of {part.name}{_at(part.revision)}, frozen and part of this folder, which keeps a "
        f"{config.grid_size}×{config.grid_size} grid of patches, and a {_describe_decoder(config)}: "
        f"{_millions(network.module)}, {learnt / 1e6:.1f} million of them trained."
    )
    origin = {"clip": part.name, "revision": part.revision, "config": config.to_dict(), "tokenizer": tokenizer.to_str()}
    return Start(network, get_family(MODEL_TYPE), origin, summary, part.name)


def start_from(model_id: str) -> Start:
    """Open a model to be trained further, as it is.

    Raises `CapabilityError` for a family that is not trained here, and whatever opening a model may raise.
    """
    spec = hub.resolve_spec(model_id)
    family = get_family(spec.family)
    if family.save is None:
        able = ", ".join(f.name for f in list_families() if f.save is not None)
        raise CapabilityError(
            f"{spec.title} is a {family.name}, a family that is not trained further here; choose a model of {able}."
        )
    network: Any = hub.open_network(spec, torch.device("cpu"), torch.float32)
    summary = f"{spec.title}{_at(spec.revision or '')}, trained further: {_millions(network.module)}."
    origin = {"from": model_id, "revision": spec.revision or ""}
    return Start(network, family, origin, summary, model_id)


def read_class_names() -> list[str]:
    """ImageNet's 1,000 classes under their commonest names, in the order of the encoder's classifier."""
    return (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()


def _freeze_encoder(start: Start) -> None:
    encoder = getattr(start.network.module, "image_encoder", None)
    if isinstance(encoder, PackagedEncoder):
        return  # it always is
    if not isinstance(encoder, ConvolutionalEncoder):
        raise OptionsError(
            "Only the convolutional encoder of a patch_captioner can be frozen; leave out --freeze-encoder."
        )
    encoder.requires_grad_(False)


def _make_config(values: Mapping[str, Any]) -> PatchNetworkConfig:
    try:
        return PatchNetworkConfig(**values)
    except ValueError as error:
        raise OptionsError(f"The network cannot have this shape: {error}.") from error


def _describe_decoder(config: PatchNetworkConfig) -> str:
    return f"Transformer decoder of {config.num_layers} layers and {config.num_heads} heads that looks at it"


def _millions(module: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} million parameters"


def _at(revision: str) -> str:
    return f" at revision {revision}" if revision else ""
