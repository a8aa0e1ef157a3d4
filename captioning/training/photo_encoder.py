"""Encoders of a step's photographs: they change and encode them anew each time, or read stored features."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from captioning.core import runtime
from captioning.core.errors import OptionsError
from captioning.models.families.patch_captioner.config import REFERENCE
from captioning.models.families.patch_captioner.network import ConvolutionalEncoder
from captioning.models.families.patch_captioner.packaged_encoder import PackagedEncoder
from captioning.training.augment import augment, cut_mix, lay_over
from captioning.training.data import PhotoSet, fingerprint
from captioning.training.options import TrainingOptions
from captioning.training.start import FrozenEncoder, Start

FEATURES_NAME = "features"
_BATCH = 64
_VIEW_SEED = 0  # independent of the run's seed, so that runs share stored features
_WORTH_COMPILING = 500  # photographs that take about as long to encode as the encoder takes to compile


@dataclass(frozen=True, slots=True)
class EncodedPhotos:
    """The encoded photographs of a step.

    `states [N, prefix + patches, hidden]`, and unit `embeds [N, hidden]` where they are learnt. Where pictures were
    mixed, `share` of each is its own and the rest that of its partner, a row of `partners [N]`.
    """

    states: Tensor
    embeds: Tensor | None = None
    partners: Tensor | None = None
    share: float = 1.0


class PhotoEncoder(Protocol):
    """An encoder of a run's photographs."""

    def encode(self, places: Tensor, seed: int) -> EncodedPhotos:
        """Encode the photographs at `places`, randomly changed by `seed`."""
        ...

    def look(self, places: Tensor) -> Tensor:
        """Return the output of a frozen encoder's `look` for the photographs at `places`, unchanged."""
        ...

    def close(self) -> None:
        """Remove stored features: the run is done, and they can be computed again."""
        ...


class AugmentingEncoder:
    """An encoder that changes photographs at random each time, on the device, and runs the current network."""

    def __init__(self, start: Start, data: PhotoSet, options: TrainingOptions, device: torch.device) -> None:
        self._network = start.network
        self._pixels = move_if_fits(torch.from_numpy(data.pixels), device)
        self._is_scene = torch.tensor([bool(photo.captions) for photo in data.photos])
        # Without photographs for backgrounds there are no scenes.
        self._scene_rate = options.scene_rate if self._is_scene.any() else 0.0
        self._strength = options.augmentation
        self._device = device
        recipe = start.pixels
        self._size, self._cells = _sizes(start, options.training_size)
        self._mix = options.mix
        self._detail = start.pixels.detail
        # The pixels are in 0…1; the recipe expects 0…255.
        self._scale = recipe.scale * 255
        self._mean, self._std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (recipe.mean, recipe.std))

    def pixel_values(self, places: Tensor, seed: int, strength: float | None = None) -> Tensor:
        """Return the photographs randomly changed and normalised `[N, 3, H, W]`; strength 0 changes nothing."""
        return self._pixel_values(places, torch.Generator().manual_seed(seed), strength)

    def _pixel_values(self, places: Tensor, generator: torch.Generator, strength: float | None = None) -> Tensor:
        strength = self._strength if strength is None else strength
        changed = self._augment(places, generator, strength)
        if self._scene_rate and strength:
            drawn = torch.rand(len(places), generator=generator) < self._scene_rate
            things = (drawn & ~self._is_scene[places]).nonzero()[:, 0]
            scenes = self._is_scene.nonzero()[:, 0]
            behind = scenes[torch.randint(len(scenes), (len(things),), generator=generator)]
            if len(things):
                backgrounds = self._augment(behind, generator, strength)
                changed[things] = lay_over(changed[things], backgrounds, generator, self._detail)
        return (changed * self._scale - self._mean) / self._std

    def _augment(self, places: Tensor, generator: torch.Generator, strength: float) -> Tensor:
        pixels = self._pixels[places.to(self._pixels.device)].to(self._device)
        return augment(pixels, self._size, self._cells, generator, strength, self._detail)

    def encode(self, places: Tensor, seed: int) -> EncodedPhotos:
        """Encode the photographs at `places`; a share `mix` of the batches is mixed."""
        generator = torch.Generator().manual_seed(seed)
        pixel_values = self._pixel_values(places, generator)
        if not self._mix or float(torch.rand((), generator=generator)) >= self._mix:
            return EncodedPhotos(*self._network.encode(pixel_values))
        mixed, partners, share = cut_mix(pixel_values, generator)
        return EncodedPhotos(*self._network.encode(mixed), partners, share)

    def look(self, places: Tensor) -> Tensor:
        """Return the output of the encoder for the unchanged photographs."""
        encoder: Any = self._network.module.image_encoder
        looked: Tensor = encoder.look(self.pixel_values(places, 0, strength=0.0))
        return looked

    def close(self) -> None:
        """Do nothing: no features are stored."""


class StoredFeatures:
    """Stored features of every photograph by a frozen encoder, in one or several views, in half precision.

    Each view is a file, so that a resumed run continues it and runs on one encoder can share it.
    """

    def __init__(self, encoder: FrozenEncoder, views: Sequence[FeatureFile], device: torch.device, keep: bool) -> None:
        """Open `views`, whose files are complete; unless `keep`, `close` removes them."""
        self._encoder = encoder
        self._device = device
        self._paths = [view.path for view in views]
        self._keep = keep
        # A memory map: the system keeps as much of the file in memory as there is room for.
        maps = [np.memmap(view.path, np.float16, "c", shape=view.shape) for view in views]
        self._features = [move_if_fits(torch.from_numpy(values), device) for values in maps]

    def encode(self, places: Tensor, seed: int) -> EncodedPhotos:
        """Return states of the photographs at `places`, each in a randomly drawn view, without learnt embeddings."""
        views = torch.randint(len(self._features), places.shape, generator=torch.Generator().manual_seed(seed))
        drawn = zip(views.tolist(), places.tolist(), strict=True)
        seen = torch.stack([self._features[view][place].float() for view, place in drawn]).to(self._device)
        return EncodedPhotos(self._encoder.read(seen))

    def look(self, places: Tensor) -> Tensor:
        """Return the stored features of the photographs at `places` in the first view."""
        return torch.stack([self._features[0][place].float() for place in places.tolist()]).to(self._device)

    def close(self) -> None:
        """Remove the feature files unless other runs share them; nothing can be encoded afterwards."""
        self._features = []  # some systems refuse to delete a file that is mapped
        for path in self._paths if not self._keep else ():
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """A file of one view of every photograph: `[photographs, *encoder.kept_shape]` in half precision."""

    path: Path
    shape: tuple[int, ...]


def compute_features(
    photo_encoder: AugmentingEncoder,
    look: Callable[[Tensor], Tensor],
    view: FeatureFile,
    seed: Sequence[int],
    strength: float,
    report: Callable[[int], None],
) -> None:
    """Compute the missing features of a view, batch by batch; `report` receives the number of finished photographs."""
    num_photos = view.shape[0]
    row_bytes = 2 * math.prod(view.shape[1:])
    with view.path.open("ab") as file, torch.no_grad():
        for first in range(0, num_photos, _BATCH):
            last = min(first + _BATCH, num_photos)
            if file.tell() >= last * row_bytes:
                continue
            file.truncate(first * row_bytes)
            # The seed follows from the batch, so that a resumed run makes the same changes.
            draw = np.random.default_rng((*seed, first)).integers(2**62)
            seen = look(photo_encoder.pixel_values(torch.arange(first, last), int(draw), strength))
            file.write(seen.half().cpu().numpy().tobytes())
            file.flush()
            report(last)


def _fastest_look(encoder: FrozenEncoder, pixel_values: Tensor, num_looks: int) -> Callable[[Tensor], Tensor]:
    """Return the encoder's `look`, compiled by OpenVINO on a processor where it is installed and pays."""

    def look(values: Tensor) -> Tensor:
        with runtime.autocast(values.device):
            return encoder.look(values)

    if num_looks < _WORTH_COMPILING or pixel_values.device.type != "cpu" or find_spec("openvino") is None:
        return look
    from captioning.models.decoding.openvino_engine import compile_function

    return compile_function(encoder.look, pixel_values[:1], runtime.choose_precision(pixel_values.device))


def _sizes(start: Start, training_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the height and width at which pictures are seen, and the rows and columns of their patches.

    Raises `OptionsError` for a size that the network cannot take.
    """
    shape, grid = start.pixels.shape, start.layout.grid
    assert grid is not None
    if not training_size:
        return shape, grid
    encoder = getattr(start.network.module, "image_encoder", None)
    patch = shape[0] // grid[0]
    if not isinstance(encoder, ConvolutionalEncoder) or training_size % patch:
        raise OptionsError(
            f"--training-size is for the convolutional encoder of a patch_captioner, in multiples of {patch} here."
        )
    cells = training_size // patch
    return (training_size, training_size), (cells, cells)


def make_photo_encoder(
    start: Start,
    data: PhotoSet,
    options: TrainingOptions,
    device: torch.device,
    out: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
    features: Path | None = None,
) -> PhotoEncoder:
    """Return the encoder of a run's photographs; `report` receives (done, total) while features are computed.

    Features are stored where the encoder is frozen, where either pictures stay unchanged or `views` asks for several
    versions, and where half of the free memory holds them. The first of several views is the unchanged picture. The
    files lie in `out` until the run ends, or in the folder `features` for other runs on the same encoder. Raises
    `OptionsError` for views of an encoder that learns, and for stored features of pictures at another size than the
    network's.
    """
    fresh = AugmentingEncoder(start, data, options, device)
    encoder = start.frozen_encoder
    if encoder is None:
        if options.views:
            raise OptionsError("Only what a frozen encoder sees is kept; add --freeze-encoder, or leave out --views.")
        return fresh
    num_views = options.views or int(not options.augmentation)
    if num_views and _sizes(start, options.training_size)[0] != start.pixels.shape:
        raise OptionsError(
            "What a frozen encoder sees is kept of pictures at the size of the model; leave out --training-size, or "
            "look anew at every step: --views 0, and --augmentation above 0."
        )
    num_photos = len(data.photos)
    num_values = num_views * num_photos * math.prod(encoder.kept_shape)
    if not num_views or num_values * 2 > runtime.free_bytes(torch.device("cpu")) // 2:
        return fresh
    folder = features or out
    folder.mkdir(parents=True, exist_ok=True)
    start.network.module.to(device).eval()
    look = _fastest_look(encoder, fresh.pixel_values(torch.arange(1), 0), num_views * num_photos)
    strengths = [options.augmentation if num_views == 1 or view else 0.0 for view in range(num_views)]
    views = []
    for number, strength in enumerate(strengths):
        changes = [strength, options.scene_rate if strength else 0.0, _VIEW_SEED, number]
        facts = json.dumps([_encoder_origin(start), fingerprint(data.photos), *changes])
        name = f"{FEATURES_NAME}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.f16"
        view = FeatureFile(folder / name, (num_photos, *encoder.kept_shape))
        done = number * num_photos
        compute_features(
            fresh, look, view, (_VIEW_SEED, 2, number), strength,
            lambda last, done=done: report(done + last, num_views * num_photos),  # type: ignore[misc]
        )  # fmt: skip
        views.append(view)
    return StoredFeatures(encoder, views, device, keep=features is not None)


def _encoder_origin(start: Start) -> str:
    """Return a text that identifies a frozen encoder and the pixels it receives."""
    if isinstance(start.frozen_encoder, PackagedEncoder):
        return json.dumps([REFERENCE, start.pixels.to_config(), start.pixels.detail], sort_keys=True)
    return json.dumps(dict(start.origin), sort_keys=True)


def move_if_fits(values: Tensor, device: torch.device) -> Tensor:
    """Return the values on the device where half of its free memory holds them, else where they are."""
    if device.type == "cpu" or values.numel() * values.element_size() > runtime.free_bytes(device) // 2:
        return values
    return values.to(device)
