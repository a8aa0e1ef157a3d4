"""From a picture to pixel values, by the recipe beside a model's weights, and from patches back to the picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioning.core.errors import ModelFilesError
from captioning.core.types import PatchLayout
from captioning.models.files import name_of

Size = tuple[int, int]
"""Height and width in pixels."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""

_BILINEAR, _BICUBIC = 2, 3
_MOST_PIXELS = 2**24
# What these processors do where their file does not say it; all others resize bilinearly and crop nothing.
_CROPPING = ("CLIP", "DeiT")
_SMOOTH = ("CLIP", "DeiT", "Blip")


class Region(NamedTuple):
    """The part of a picture that pixels show, as fractions of it; outside 0…1 there is only padding."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


@dataclass(frozen=True, slots=True)
class PixelRecipe:
    """Resize, crop about the centre, then `(value · scale - mean) / std` a channel.

    `size` is height and width, one number for the shorter edge, or `None` to keep the picture's own; `crop` is
    height and width or `None`. `resample` is numbered as by Pillow. With `detail`, every picture is first brought to
    a square of that many pixels a side, so that how sharp it is says nothing.
    """

    size: Size | int | None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resample: int = _BICUBIC
    crop: Size | None = None
    scale: float = 1 / 255
    detail: int | None = None

    def __post_init__(self) -> None:
        if self.crop is None and not isinstance(self.size, tuple):
            raise ValueError("pictures of every shape would stay so; size needs height and width, or crop_size")

    @classmethod
    def read(cls, folder: Path) -> PixelRecipe:
        """Read `preprocessor_config.json`, or its part of `processor_config.json`. Raises `ModelFilesError`."""
        for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
            path = folder / name
            if not path.is_file():
                continue
            try:
                values = json.loads(path.read_text(encoding="utf-8"))
                return cls.from_config(values if key is None else values[key])
            except (ValueError, KeyError, TypeError) as error:
                raise ModelFilesError(
                    f"{name_of(folder)}/{name} does not say size, image_mean and image_std in a way that is understood "
                    f"({error}); copy the model again, or choose another one."
                ) from error
        raise ModelFilesError(f"{name_of(folder)} has no preprocessor_config.json; copy the whole model again.")

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> PixelRecipe:
        """Read an image processor's configuration. Raises `KeyError`, `TypeError` or `ValueError`."""
        kind = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
        if values.get("crop_pct") is not None:
            raise ValueError("crop_pct is not supported")
        crops = values.get("do_center_crop", kind.startswith(_CROPPING))
        normalises = values.get("do_normalize", True)
        resample = values.get("resample")
        return cls(
            size=_read_size(values["size"], kind) if values.get("do_resize", True) else None,
            mean=_per_channel(values, "image_mean") if normalises else (0.0, 0.0, 0.0),
            std=_per_channel(values, "image_std") if normalises else (1.0, 1.0, 1.0),
            resample=int(resample) if resample is not None else _BICUBIC if kind.startswith(_SMOOTH) else _BILINEAR,
            crop=_height_and_width(values["crop_size"]) if crops else None,
            scale=float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0,
        )

    def to_config(self) -> dict[str, Any]:
        """What `from_config` reads, as a `preprocessor_config.json` that transformers understands too."""
        values: dict[str, Any] = {
            "image_processor_type": "ViTImageProcessor" if self.crop is None else "CLIPImageProcessor",
            "do_resize": self.size is not None,
            "resample": self.resample,
            "do_center_crop": self.crop is not None,
            "do_rescale": True,
            "rescale_factor": self.scale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        if self.size is not None:
            values["size"] = _size_config(self.size)
        if self.crop is not None:
            values["crop_size"] = _size_config(self.crop)
        return values

    @property
    def shape(self) -> Size:
        """Height and width of what comes out, in pixels."""
        if self.crop is not None:
            return self.crop
        assert isinstance(self.size, tuple)
        return self.size

    def apply(self, image: Image.Image) -> tuple[NDArray[np.float32], Region]:
        """An RGB picture → `pixel_values [3, height, width]`, and the part of the picture that they show."""
        if self.detail is not None:
            image = image.resize((self.detail, self.detail), Image.Resampling(self.resample))
        height, width = self._resized(image.size)
        kept = (0, 0, width, height) if self.crop is None else _centre_box((width, height), self.crop)
        region = Region(kept[0] / width, kept[1] / height, kept[2] / width, kept[3] / height)
        image = _resize_part(image, (width, height), kept, Image.Resampling(self.resample))
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        values = (np.asarray(image, np.float32) * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1)), region

    def _resized(self, size: tuple[int, int]) -> Size:
        """Height and width that a picture of `size` (width, height) is resized to, before anything is cut off."""
        if isinstance(self.size, tuple):
            return self.size
        return (size[1], size[0]) if self.size is None else _fit_short_edge(size, self.size)


def check_shape(recipe: PixelRecipe, wanted: Size, name: str) -> None:
    """Raise `ModelFilesError` unless the recipe makes pictures of the height and width that a model wants."""
    if recipe.shape != wanted:
        made, needed = ("{} × {}".format(*size) for size in (recipe.shape, wanted))
        raise ModelFilesError(
            f"{name}: preprocessor_config.json makes pictures of {made} pixels and config.json wants {needed}; copy "
            "both from one model."
        )


def lay_patches(grid: Size, stride: Size, shape: Size, region: Region) -> PatchLayout:
    """Where patches that begin every `stride` pixels of a picture of `shape` lie on the original one.

    `grid` is rows and columns, `region` the part that the pixels show. Patches are cut off at the picture's edges,
    so that one of nothing but padding has no area.
    """
    rows, columns = grid
    tops, bottoms = _edges(rows, stride[0] / shape[0], region.top, region.bottom)
    lefts, rights = _edges(columns, stride[1] / shape[1], region.left, region.right)
    boxes = np.stack(
        (np.tile(lefts, rows), np.repeat(tops, columns), np.tile(rights, rows), np.repeat(bottoms, columns)), axis=1
    )
    return PatchLayout(boxes, grid)


def _edges(count: int, step: float, low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Begin and end of `count` patches along one axis, as fractions of the picture."""
    edges = (low + (np.arange(count + 1) * step).clip(0, 1) * (high - low)).clip(0, 1)
    return edges[:-1], edges[1:]


def _per_channel(values: Mapping[str, Any], key: str) -> tuple[float, ...]:
    numbers = values[key]
    if not isinstance(numbers, list | tuple) or len(numbers) != 3:
        raise ValueError(f"{key} must be three numbers, not {numbers!r}")
    return tuple(map(float, numbers))


def _read_size(size: Any, kind: str) -> Size | int:
    """What `size` asks for: height and width, or the shorter edge, which is what a bare number means to CLIP."""
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"])
    if isinstance(size, int) and kind.startswith("CLIP"):
        return size
    return _height_and_width(size)


def _size_config(size: Size | int) -> dict[str, int]:
    return {"shortest_edge": size} if isinstance(size, int) else {"height": size[0], "width": size[1]}


def _height_and_width(size: Any) -> Size:
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        return int(size["height"]), int(size["width"])
    raise ValueError(f"the size {size!r} is not supported")


def _fit_short_edge(size: tuple[int, int], edge: int) -> Size:
    """Height and width of a picture of `size` (width, height) whose shorter edge becomes `edge`."""
    width, height = size
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def _centre_box(size: tuple[int, int], crop: Size) -> Box:
    """Where the middle of height and width `crop` lies in a picture of `size` (width, height), or about it."""
    height, width = crop
    # An odd rest goes to the right and the bottom of what is cut off, but to the left and the top of what is added.
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _resize_part(image: Image.Image, size: tuple[int, int], part: Box, resample: Image.Resampling) -> Image.Image:
    """What `part` shows of the picture resized to `size` (width, height); outside of the picture it is black.

    The whole is resized, as other processors do to the last bit, unless it grows too large, as thin pictures do.
    """
    inside = (0, 0, *size)
    if size[0] * size[1] > _MOST_PIXELS:
        inside = max(part[0], 0), max(part[1], 0), min(part[2], size[0]), min(part[3], size[1])
    left, top, right, bottom = (
        edge * length / resized for edge, length, resized in zip(inside, image.size * 2, size * 2, strict=True)
    )
    kept = image.resize((inside[2] - inside[0], inside[3] - inside[1]), resample, (left, top, right, bottom))
    return kept.crop((part[0] - inside[0], part[1] - inside[1], part[2] - inside[0], part[3] - inside[1]))
