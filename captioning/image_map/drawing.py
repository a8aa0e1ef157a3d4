"""The map as a picture: points, and thumbnails where there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from captioning.core.errors import ImageError
from captioning.media.collection import NamedImage
from captioning.media.images import open_image

_GROUND, _OUTSIDE = (250, 250, 248), (150, 150, 150)
# Okabe & Ito 2008: colour-blind people can tell these apart too.
_COLOURS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (120, 94, 60),
)  # fmt: skip
_RADIUS, _MARGIN, _GAP = 4, 60, 4


def draw_map(
    images: Sequence[NamedImage],
    positions: NDArray[np.float32],
    clusters: Sequence[int] | NDArray[np.int64] = (),
    size: tuple[int, int] = (1600, 1100),
    thumbnail: int = 72,
) -> Image.Image:
    """Draw all points `[n, 2]` in the colours of their groups, and thumbnails of those that have room for one.

    Both axes have the same scale, so that distances are true. A picture that cannot be read stays a point.
    """
    canvas = Image.new("RGB", size, _GROUND)
    if not len(positions):
        return canvas
    pen = ImageDraw.Draw(canvas)
    pixels = _to_pixels(positions, size)
    colours = [_colour(int(cluster)) for cluster in clusters] or [_COLOURS[0]] * len(pixels)
    for (x, y), colour in zip(pixels, colours, strict=True):
        pen.ellipse((x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS), fill=colour)
    for place in _points_with_room(pixels, thumbnail + _GAP):
        try:
            small = open_image(images[place].path).image
        except ImageError:
            continue
        small.thumbnail((thumbnail - 4, thumbnail - 4), Image.Resampling.LANCZOS)
        left, top = (int(centre - side / 2) for centre, side in zip(pixels[place], small.size, strict=True))
        frame = (left - 2, top - 2, left + small.width + 1, top + small.height + 1)
        pen.rectangle(frame, fill=colours[place])
        canvas.paste(small, (left, top))
    return canvas


def _to_pixels(positions: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    """Convert map positions to pixels of the picture; the y axis points upwards on the map."""
    low, high = positions.min(axis=0).astype(np.float64), positions.max(axis=0).astype(np.float64)
    room = np.array(size, np.float64) - 2 * _MARGIN
    scale = float((room / (high - low).clip(1e-9)).min()) if (high > low).any() else 1.0
    centred = (positions - (low + high) / 2) * scale * np.array([1, -1])
    return np.asarray(centred + np.array(size) / 2, np.float64)


def _points_with_room(pixels: NDArray[np.float64], room: float) -> Iterator[int]:
    """Yield the points whose thumbnail overlaps none of those yielded before."""
    taken = np.empty((0, 2))
    for place, centre in enumerate(pixels):
        if not (np.abs(taken - centre).max(axis=1, initial=0) < room).any() if len(taken) else True:
            taken = np.vstack((taken, centre))
            yield place


def _colour(cluster: int) -> tuple[int, int, int]:
    return _OUTSIDE if cluster < 0 else _COLOURS[cluster % len(_COLOURS)]
