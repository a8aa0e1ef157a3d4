"""How a step sees its photographs: changed anew every time, or as features that a frozen encoder computed once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captioning import runtime
from captioning.errors import OptionsError
from captioning.models.families.patch_captioner.network import ConvolutionalEncoder
from captioning.training.augment import augment, cut_mix
from captioning.training.data import PhotoSet, fingerprint
from captioning.training.options import TrainingOptions
from captioning.training.start import FrozenEncoder, Start

FEATURES_NAME = "features"
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network saw of a step's photographs.

    `states [N, prefix + patches, hidden]`, and unit `embeds [N, hidden]` where they are learnt. Where pictures were
    mixed, `share` of each is its own and the rest that of its partner, a row of `partners [N]`.
    """

    states: Tensor
    embeds: Tensor | None = None
    partners: Tensor | None = None
    share: float = 1.0


class Sight(Protocol):
    """What a network sees of photographs."""

    def encode(self, places: Tensor, seed: int) -> Seen:
        """What it sees of the photographs at `places`."""
        ...

    def close(self) -> None:
        """Remove what was kept: the run is done, and all of it can be computed again."""
        ...


class FreshSight:
    """Every time other crops and colours, made on the device, and seen by the network as it is then."""

    def __init__(self, start: Start, pixels: NDArray[Any], options: TrainingOptions, device: torch.device) -> None:
        self._network = start.network
        self._pixels = hold(torch.from_numpy(pixels), device)
        self._strength = options.augmentation
        self._device = device
        recipe = start.pixels
        self._size, self._cells = _sizes(start, options.training_size)
        self._mix = options.mix
        # Pixels arrive in 0…1, the recipe begins with 0…255.
        self._scale = recipe.scale * 255
        self._mean, self._std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (recipe.mean, recipe.std))

    def pixel_values(self, places: Tensor, seed: int) -> Tensor:
        """The photographs randomly changed and normalised `[N, 3, H, W]`, each by itself."""
        return self._pixel_values(places, torch.Generator().manual_seed(seed))

    def _pixel_values(self, places: Tensor, generator: torch.Generator) -> Tensor:
        pixels = self._pixels[places.to(self._pixels.device)].to(self._device)
        changed = augment(pixels, self._size, self._cells, generator, self._strength)
        return (changed * self._scale - self._mean) / self._std

    def encode(self, places: Tensor, seed: int) -> Seen:
        """States and embeddings of the photographs at `places`, in so many batches mixed."""
        generator = torch.Generator().manual_seed(seed)
        pixel_values = self._pixel_values(places, generator)
        if not self._mix or float(torch.rand((), generator=generator)) >= self._mix:
            return Seen(*self._network.encode(pixel_values))
        mixed, partners, share = cut_mix(pixel_values, generator)
        return Seen(*self._network.encode(mixed), partners, share)

    def close(self) -> None:
        """Nothing was kept."""


class KeptSight:
    """What a frozen encoder saw of every photograph, once or in several views, kept in half precision.

    Kept in a file of the run's folder, so that a run that is resumed goes on where it was.
    """

    def __init__(
        self, sight: FreshSight, encoder: FrozenEncoder, num_photos: int, views: int, seed: int, path: Path,
        device: torch.device, report: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self._encoder = encoder
        self._device = device
        self._views = views
        self._path = path
        shape = (views, num_photos, *encoder.kept_shape)
        row_bytes = 2 * math.prod(encoder.kept_shape)
        with path.open("ab") as file, torch.no_grad(), runtime.autocast(device):
            for view, first in product(range(views), range(0, num_photos, _BATCH)):
                last = min(first + _BATCH, num_photos)
                if file.tell() >= (view * num_photos + last) * row_bytes:
                    continue
                file.truncate((view * num_photos + first) * row_bytes)
                # Every batch has changes of its own, the same ones whenever it is seen.
                draw = np.random.default_rng((seed, 2, view, first)).integers(2**62)
                seen = encoder.look(sight.pixel_values(torch.arange(first, last), int(draw)))
                file.write(seen.half().cpu().numpy().tobytes())
                file.flush()
                report(view * num_photos + last, views * num_photos)
        # Read where it lies: the system holds as much of it in memory as there is room for.
        self._seen = hold(torch.from_numpy(np.memmap(path, np.float16, "c", shape=shape)), device)

    def encode(self, places: Tensor, seed: int) -> Seen:
        """States of the photographs at `places`, each in a view drawn for it; the embedding is the encoder's own."""
        views = torch.randint(self._views, places.shape, generator=torch.Generator().manual_seed(seed))
        here = self._seen.device
        seen = self._seen[views.to(here), places.to(here)].to(self._device, torch.float32)
        return Seen(self._encoder.read(seen))

    def close(self) -> None:
        """Remove the file of features; nothing can be seen afterwards."""
        self._seen = torch.empty(0)  # not every system deletes a file that is read
        self._path.unlink(missing_ok=True)


def _sizes(start: Start, training_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The height and width that pictures are seen at, and the rows and columns of their patches.

    Raises `OptionsError` for a size that the network cannot see.
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


def make_sight(
    start: Start,
    data: PhotoSet,
    options: TrainingOptions,
    device: torch.device,
    out: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Sight:
    """How photographs are seen; `report` hears of features computed (done, total).

    Features are kept where the encoder is frozen and pictures stay as they are, or where so many views are asked for;
    and where half of the free memory holds them. Raises `OptionsError` for views of an encoder that changes, and for
    kept features of pictures at another size than the network's.
    """
    fresh = FreshSight(start, data.pixels, options, device)
    encoder = start.frozen_encoder
    if encoder is None:
        if options.views:
            raise OptionsError("Only what a frozen encoder sees is kept; add --freeze-encoder, or leave out --views.")
        return fresh
    views = options.views or int(not options.augmentation)
    if views and _sizes(start, options.training_size)[0] != start.pixels.shape:
        raise OptionsError(
            "What a frozen encoder sees is kept of pictures at the size of the model; leave out --training-size, or "
            "look anew at every step: --views 0, and --augmentation above 0."
        )
    num_values = views * len(data.photos) * math.prod(encoder.kept_shape)
    if not views or num_values * 2 > runtime.free_bytes(torch.device("cpu")) // 2:
        return fresh
    told = json.dumps(
        [dict(start.origin), fingerprint(data.photos), views, options.augmentation, options.seed], sort_keys=True
    )
    path = out / f"{FEATURES_NAME}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.f16"
    return KeptSight(fresh, encoder, len(data.photos), views, options.seed, path, device, report)


def hold(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device where half of its free memory holds them, else where they are."""
    if device.type == "cpu" or values.numel() * values.element_size() > runtime.free_bytes(device) // 2:
        return values
    return values.to(device)
