"""How a step sees its photographs: changed anew every time, or as features that a frozen encoder computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from captioning import runtime
from captioning.models.families.patch_captioner.clip_encoder import ClipEncoder
from captioning.training.augment import augment
from captioning.training.options import TrainingOptions
from captioning.training.start import Start

_BATCH = 64


class Sight(Protocol):
    """What a network sees of photographs."""

    def encode(self, places: Tensor, seed: int) -> tuple[Tensor, Tensor | None]:
        """States `[N, prefix + patches, hidden]` of the photographs at `places`, and their embeddings if learnt."""
        ...


class FreshSight:
    """Every time other crops and colours, made on the device, and seen by the network as it is then."""

    def __init__(self, start: Start, pixels: NDArray[Any], options: TrainingOptions, device: torch.device) -> None:
        self._network = start.network
        self._pixels = hold(torch.from_numpy(pixels), device)
        self._strength = options.augmentation
        self._device = device
        recipe = start.pixels
        self._size = recipe.shape
        assert start.layout.grid is not None
        self._cells = start.layout.grid
        # Pixels arrive in 0…1, the recipe begins with 0…255.
        self._scale = recipe.scale * 255
        self._mean, self._std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (recipe.mean, recipe.std))

    def pixel_values(self, places: Tensor, seed: int) -> Tensor:
        """The photographs randomly changed and normalised `[N, 3, H, W]`."""
        pixels = self._pixels[places.to(self._pixels.device)].to(self._device)
        generator = torch.Generator().manual_seed(seed)
        changed = augment(pixels, self._size, self._cells, generator, self._strength)
        return (changed * self._scale - self._mean) / self._std

    def encode(self, places: Tensor, seed: int) -> tuple[Tensor, Tensor | None]:
        """States and embeddings of the photographs at `places`."""
        return self._network.encode(self.pixel_values(places, seed))


class KeptSight:
    """What a frozen encoder saw, once and for all, in half precision."""

    def __init__(
        self, sight: FreshSight, encoder: ClipEncoder, num_photos: int, device: torch.device,
        report: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self._encoder = encoder
        self._device = device
        seen = torch.empty(num_photos, *_states_shape(encoder), dtype=torch.float16)
        with torch.no_grad():
            for first in range(0, num_photos, _BATCH):
                places = torch.arange(first, min(first + _BATCH, num_photos))
                seen[places] = encoder.look(sight.pixel_values(places, 0)).half().cpu()
                report(int(places[-1]) + 1, num_photos)
        self._seen = hold(seen, device)

    def encode(self, places: Tensor, seed: int) -> tuple[Tensor, Tensor | None]:
        """States of the photographs at `places`; the embedding is the frozen encoder's own."""
        seen = self._seen[places.to(self._seen.device)].to(self._device, torch.float32)
        return self._encoder.read(seen), None


def make_sight(
    start: Start,
    pixels: NDArray[Any],
    options: TrainingOptions,
    device: torch.device,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Sight:
    """How photographs `pixels [N, 3, side, side]` are seen; `report` hears of features computed (done, total).

    Features are kept where the encoder is frozen, pictures stay as they are, and half of the free memory holds them.
    """
    fresh = FreshSight(start, pixels, options, device)
    encoder = start.frozen_encoder
    if encoder is None or options.augmentation:
        return fresh
    num_states, width = _states_shape(encoder)
    if len(pixels) * num_states * width * 2 > runtime.free_bytes(torch.device("cpu")) // 2:
        return fresh
    return KeptSight(fresh, encoder, len(pixels), device, report)


def hold(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device where half of its free memory holds them, else where they are."""
    if device.type == "cpu" or values.numel() * values.element_size() > runtime.free_bytes(device) // 2:
        return values
    return values.to(device)


def _states_shape(encoder: ClipEncoder) -> tuple[int, int]:
    """How many states a picture has, and how wide each is."""
    vision = encoder.vision.config
    return encoder.num_prefix_tokens + (vision.image_size // vision.patch_size) ** 2, vision.hidden_size
