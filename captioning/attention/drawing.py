"""Maps as pictures: overlays, pictures weighted or hidden by a map, a grid of all tokens, and a GIF of them in turn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from captioning.attention.hiding import hide_patches, rank_patches
from captioning.attention.views import pixel_boxes, sample_map
from captioning.core.errors import OptionsError
from captioning.core.types import PatchLayout, Picture
from captioning.media.images import open_image

# Evenly spaced colours of a scale, low to high. Magma and viridis are perceptually uniform: van der Walt & Smith 2015.
_ANCHORS: Mapping[str, str] = {
    "magma": "000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf",
    "viridis": "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
    "red-cyan": "00ffff 808080 ff0000",
    "jet": "000080 0000ff 0080ff 00ffff 80ff80 ffff00 ff8000 ff0000 800000",
}
COLOUR_MAPS = tuple(_ANCHORS)
"""Names of colour scales, the default first."""
Mode = Literal["overlay", "map", "weighted"]
MODES: tuple[Mode, ...] = ("overlay", "map", "weighted")
"""The ways to show a map: over the picture, by itself, or by the picture's brightness; the default first."""
LONGEST_SIDE = 1024
"""The longest side in pixels of overlays in files."""
_CELL, _LABEL = 224, 22
_LIGHT, _DARK = (255, 255, 255), (20, 20, 24)


@dataclass(frozen=True, slots=True)
class Brush:
    """The drawing settings of maps: opacity in 0…1, colour scale, and whether patches are blended or keep edges.

    `mode` is "overlay" (over the picture), "map" (by itself) or "weighted" (the picture's own brightness).
    """

    opacity: float = 0.6
    colour_map: str = COLOUR_MAPS[0]
    smooth: bool = True
    mode: Mode = "overlay"

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise OptionsError(f"The opacity must be between 0 and 1, not {self.opacity}.")
        colour_table(self.colour_map)  # raises for an unknown name
        if self.mode not in MODES:
            raise OptionsError(f"A map is not shown by {self.mode!r}; choose from {', '.join(MODES)}.")


@cache
def colour_table(name: str = "magma") -> NDArray[np.uint8]:
    """Return the 256 colours of a scale, low to high, `[256, 3]`. Raises `OptionsError` for an unknown name."""
    if name not in _ANCHORS:
        raise OptionsError(f"There is no colour map {name!r}; choose from {', '.join(COLOUR_MAPS)}.")
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _ANCHORS[name].split()], np.float64)
    steps = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(steps, np.arange(len(anchors)), channel) for channel in anchors.T]
    table: NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    table.flags.writeable = False
    return table


_BRUSH = Brush()


def paint_map(picture: Picture, heat: NDArray[np.float32], layout: PatchLayout, brush: Brush = _BRUSH) -> Image.Image:
    """Draw a map `[patches]` of values in 0…1 as the brush says, at the picture's size."""
    if brush.mode == "weighted":
        return weight_picture(picture, heat, layout, brush.smooth).image
    if brush.mode == "map":
        brush = replace(brush, opacity=1.0, smooth=False)
    return overlay(picture, heat, layout, brush)


def overlay(picture: Picture, heat: NDArray[np.float32], layout: PatchLayout, brush: Brush = _BRUSH) -> Image.Image:
    """Draw a map `[patches]` of values in 0…1 over the picture, at the picture's size.

    Regions that the model does not receive stay unchanged.
    """
    pixels = np.asarray(picture.image, np.float32)
    height, width = pixels.shape[:2]
    levels = np.rint(sample_map(heat, layout, height, width, brush.smooth).clip(0, 1) * 255).astype(np.uint8)
    share = brush.opacity * _covered_pixels(layout, height, width)[..., None]
    mixed = pixels * (1 - share) + colour_table(brush.colour_map)[levels] * share
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _covered_pixels(layout: PatchLayout, height: int, width: int) -> NDArray[np.bool_]:
    covered = np.zeros((height, width), np.bool_)
    for left, top, right, bottom in pixel_boxes(layout, height, width):
        covered[top:bottom, left:right] = True
    return covered


def weight_picture(picture: Picture, heat: NDArray[np.float32], layout: PatchLayout, smooth: bool = True) -> Picture:
    """Return the picture, bright where a map `[patches]` of values in 0…1 is hot and black where it is cold."""
    pixels = np.asarray(picture.image, np.float32)
    weights = sample_map(heat, layout, pixels.shape[0], pixels.shape[1], smooth).clip(0, 1)
    return open_image(Image.fromarray(np.rint(pixels * weights[..., None]).astype(np.uint8)), picture.name)


def hide_hottest(picture: Picture, heat: NDArray[np.float32], layout: PatchLayout, share: float = 0.25) -> Picture:
    """Return the picture with the hottest `share` of its patches, 0…1, filled with its mean colour."""
    if not 0 <= share <= 1:
        raise OptionsError(f"The share of patches to hide must be between 0 and 1, not {share}.")
    hidden = np.zeros(len(heat), np.bool_)
    hidden[rank_patches(heat)[: round(share * len(heat))]] = True
    return hide_patches(picture, layout, hidden)


def shrink(picture: Picture, longest: int = LONGEST_SIDE) -> Picture:
    """Return the picture with no side longer than `longest` pixels.

    Layouts are in fractions of the picture, so they still fit.
    """
    if max(picture.image.size) <= longest:
        return picture
    image = picture.image.copy()
    image.thumbnail((longest, longest))
    return Picture(image, picture.image_id, picture.name, picture.note)


def token_grid(
    picture: Picture,
    maps: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    labels: Sequence[str],
    layout: PatchLayout,
    brush: Brush = _BRUSH,
    columns: int = 6,
) -> Image.Image:
    """Draw all maps `[tokens, patches]` in a grid, each over the picture and under its label."""
    small = shrink(picture, _CELL)
    width, height = small.image.size
    columns = max(1, min(columns, len(labels)))
    rows = max(1, -(-len(labels) // columns))
    gap = 6
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + _LABEL + gap) + gap), _LIGHT)
    for number, (label, heat) in enumerate(zip(labels, maps, strict=True)):
        row, column = divmod(number, columns)
        left, top = gap + column * (width + gap), gap + row * (height + _LABEL + gap)
        _write(sheet, label, (left, top), width, _DARK)
        sheet.paste(paint_map(small, heat, layout, brush), (left, top + _LABEL))
    return sheet


def walk_gif(
    picture: Picture,
    maps: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    labels: Sequence[str],
    layout: PatchLayout,
    brush: Brush = _BRUSH,
    seconds: float = 0.8,
) -> bytes:
    """Return a GIF of the maps `[tokens, patches]` in turn, each with its label for `seconds`.

    Raises `OptionsError` where there are none.
    """
    if not labels:
        raise OptionsError("There is no token to walk through; write a caption first.")
    small = shrink(picture, 480)
    width, height = small.image.size
    frames = []
    for label, heat in zip(labels, maps, strict=True):
        frame = Image.new("RGB", (width, height + _LABEL), _DARK)
        _write(frame, label, (4, 0), width - 8, _LIGHT)
        frame.paste(paint_map(small, heat, layout, brush), (0, _LABEL))
        frames.append(frame.quantize(128, dither=Image.Dither.NONE))
    file = io.BytesIO()
    # Disposal 2 keeps every frame, even one equal to the frame before, so that all words are shown equally long.
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=round(seconds * 1000), loop=0, disposal=2
    )
    return file.getvalue()


def to_png(image: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _write(image: Image.Image, text: str, place: tuple[int, int], width: int, colour: tuple[int, int, int]) -> None:
    """Write one line of text, shortened to fit into `width` pixels."""
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    text = " ".join(text.split()) or "·"
    while len(text) > 1 and pen.textlength(text, font=font) > width:
        text = text[:-2] + "…"
    pen.text((place[0], place[1] + 2), text, fill=colour, font=font)
