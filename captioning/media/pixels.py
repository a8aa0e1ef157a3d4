"""Decoded pixels → RGB of 8 bits: deep ones stretched, colours converted to sRGB, transparency filled."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_NARROW_SHARE = 1 / 4
"""Deep pixels that use no more of their range than this are stretched: 12 and 14 bits in 16, thermal pictures."""
_OUTLIERS = 0.1
"""Per cent of the darkest and of the brightest pixels that do not count: dead and hot ones of a sensor."""
_ONE_COLOUR = 8
_SAME_COLOUR = 2
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the picture as its orientation, 1 to 8 as EXIF counts, says that it is to be shown."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image, profile: bytes = b"") -> tuple[Image.Image, tuple[str, ...]]:
    """Return a copy in sRGB of 8 bits, and notes on what had to be done; `profile` is the picture's colour profile."""
    notes: list[str] = []
    if image.mode.startswith("I") or image.mode == "F":
        grey, note = stretch(np.asarray(image))
        image, notes = Image.fromarray(grey), [note]
    if profile:
        image, note = _convert_profile(image, profile)
        notes.append(note)
    if not image.has_transparency_data:
        return (image.copy() if image.mode == "RGB" else image.convert("RGB")), tuple(filter(None, notes))
    layers = image.convert("RGBA")
    filled = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    extents: Sequence[tuple[int, int]] = filled.getextrema()  # type: ignore[assignment]
    if layers.getchannel("A").getextrema() != (255, 255) and all(high - low <= _ONE_COLOUR for low, high in extents):
        notes.append("one colour once its transparency is filled with white")
    return filled, tuple(filter(None, notes))


def stretch(values: NDArray[np.generic]) -> tuple[NDArray[np.uint8], str]:
    """Return values deeper than 8 bits as 8 bits, and a note where they were stretched.

    A file does not say its range: the next full one is taken, or the range in use where that is only a small part.
    """
    deep = values.astype(np.float64)
    finite = np.isfinite(deep)
    known = deep[finite] if finite.any() else np.zeros(1)
    low, high = (float(value) for value in np.percentile(known, [_OUTLIERS, 100 - _OUTLIERS], method="nearest"))
    highest = float(known.max())
    if np.issubdtype(values.dtype, np.floating):
        ceiling = max(1.0, highest)
    else:
        ceiling = 65535.0 if values.dtype.itemsize == 2 or 255 < highest <= 65535 else max(255.0, highest)
    floor, note = 0.0, ""
    if high > low and (high - low <= ceiling * _NARROW_SHARE or low < 0):
        note = f"stretched from {low:g}–{high:g}, the range that it uses of {ceiling:g}"
        floor, ceiling = low, high
    deep[~finite] = floor
    return ((deep.clip(floor, ceiling) - floor) * (255 / (ceiling - floor))).round().astype(np.uint8), note


def _convert_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """Return the picture in sRGB, its transparency kept; where the profile is of no use, as it is with a note."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _PROFILE_MODES[source.profile.xcolor_space.strip()]
        colours = _take_colours(image, mode)
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
        if mode == "RGB" and _changes_nothing(transform):
            return image, ""
        converted = ImageCms.applyTransform(colours, transform)
        if converted is None:
            return image, ""
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError, TypeError):
        return image, "its colour profile is broken or of another kind of picture and is ignored"
    if image.has_transparency_data:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted, ""


def _take_colours(image: Image.Image, mode: str) -> Image.Image:
    """Return the colours alone in a profile's mode. Raises `ValueError` where the picture has other colours."""
    has = {"1": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGBA": "RGB", "RGBX": "RGB"}.get(image.mode, image.mode)
    if has not in (mode, "L" if mode == "RGB" else mode):
        raise ValueError(f"a profile for {mode} does not fit {image.mode}")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    return image.convert(mode)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform leaves all colours nearly as they are, as the profile of sRGB itself does."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(9, 81, 3)
    after = ImageCms.applyTransform(Image.fromarray(cube), transform)
    return after is not None and int(np.abs(np.asarray(after, int) - cube).max()) <= _SAME_COLOUR
