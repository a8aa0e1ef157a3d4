"""Anything that may be a picture → an RGB picture with an id, or one clear sentence."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile

from captioning.core.errors import ImageError
from captioning.core.settings import get_settings
from captioning.core.types import Picture

_MOST_COUNTED = 300
"""Frames of an animation; a small file can hold millions, and to count them is to walk through all."""
_PILLOWS_LIMIT = Image.MAX_IMAGE_PIXELS or 0
# Pillow warns of what the limit on pixels, checked before anything is decoded, refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

ImageSource = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.generic]


def open_image(source: ImageSource, name: str | None = None) -> Picture:
    """Read a picture from a path, bytes, a PIL image or an array `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]`.

    Turns it upright as its EXIF data says, puts transparency on white, takes the first frame of an animation
    (and notes it). Arrays are unsigned 8 or 16-bit integers, booleans, or floats in 0…1. Raises `ImageError` for
    what is no picture, is cut off, has no pixels, or has more than the settings allow.
    """
    if isinstance(source, Image.Image):
        return _finish(source, name or "picture")
    if isinstance(source, np.ndarray):
        return _finish(_from_array(source, name or "array"), name or "array")
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), len(source), name or "picture")
    path = Path(source)
    name = name or shown_name(path.name)
    try:
        with path.open("rb") as file:
            return _decode(file, path.stat().st_size, name)
    except IsADirectoryError as error:
        raise ImageError(f"{name} is a folder; give a picture file.") from error
    except (FileNotFoundError, ValueError) as error:  # no file system takes a name with a NUL in it
        raise ImageError(f"There is no file {name}; check its name.") from error
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror or 'input error'}).") from error


def shown_name(name: str) -> str:
    """A file's name as valid text: what is no UTF-8 in it, which Python holds as lone surrogates, becomes �."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)


def open_undecoded(file: Path | IO[bytes], name: str) -> Image.Image:
    """A picture's head as Pillow reads it. Raises `ImageError` for more pixels than allowed, and what Pillow raises."""
    limit = get_settings().max_image_pixels
    # Pillow's own limit, the whole process's, must not refuse what ours allows; below ours it guards others as before.
    Image.MAX_IMAGE_PIXELS = max(_PILLOWS_LIMIT, limit)
    try:
        image = Image.open(file)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name)) from error
    if image.width * image.height > limit:
        image.close()
        raise ImageError(_too_large(name))
    return image


def _decode(file: IO[bytes], size: int, name: str) -> Picture:
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes); choose another file.")
    limit = get_settings().max_upload_bytes
    if size > limit:
        raise ImageError(f"{name} has {size / 2**20:,.0f} MB; choose a picture file under {limit / 2**20:,.0f} MB.")
    try:
        with open_undecoded(file, name) as image:
            return _finish(image, name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture in a format that can be read (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF and others)."
        ) from error
    except (MemoryError, Image.DecompressionBombError) as error:  # also of a picture within the picture
        raise ImageError(_too_large(name)) from error
    except Exception as error:  # decoders raise nearly anything on damaged files: TypeError, SyntaxError, struct.error
        raise ImageError(f"{name} is damaged or cut off and cannot be decoded; save or upload it again.") from error


def _too_large(name: str) -> str:
    limit = get_settings().max_image_pixels
    return f"{name} has too many pixels; make it smaller than {limit / 1e6:g} megapixels."


def _finish(image: Image.Image, name: str) -> Picture:
    width, height = image.size
    if not width or not height:
        raise ImageError(f"{name} has no pixels ({width}×{height}).")
    if width * height > get_settings().max_image_pixels:
        raise ImageError(_too_large(name))
    notes = []
    # MPO, what phones write, holds a second view of the same photograph: not an animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        frames = _count_frames(image)
        notes.append(f"first of {f'more than {_MOST_COUNTED}' if frames > _MOST_COUNTED else frames} frames")
        image.seek(0)
    image.load()
    image = ImageOps.exif_transpose(image)
    rgb = to_rgb(image)
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    digest.update(rgb.tobytes())
    return Picture(rgb, digest.hexdigest(), name, ", ".join(notes))


def _count_frames(image: Image.Image) -> int:
    """How many frames an animation has; beyond what a note tells, nobody looks for more."""
    if not isinstance(image, GifImageFile | TiffImageFile):
        return int(getattr(image, "n_frames", 1))  # the file's head says it
    count = 1
    with suppress(EOFError):
        while count <= _MOST_COUNTED:
            if isinstance(image, GifImageFile):
                image._seek(count, update_image=False)  # `seek` would decode every frame on the way
            else:
                image.seek(count)
            count += 1
    return count


def to_rgb(image: Image.Image) -> Image.Image:
    """A copy in RGB: grey of 16 bits or floats scaled to 8, transparency on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_array(_scale_deep(np.asarray(image)), "picture").convert("RGB")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    if image.mode == "RGB":
        return image.copy()
    return image.convert("RGB")


def _scale_deep(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values deeper than 8 bits → 8 bits; a file does not say its range, so the next full one is taken."""
    grey = np.nan_to_num(values.astype(np.float64))
    highest = grey.max(initial=0.0)
    if not np.issubdtype(values.dtype, np.floating):
        ceiling = 65535.0 if values.dtype.itemsize == 2 or 255 < highest <= 65535 else max(255.0, highest)
    else:
        ceiling = max(1.0, highest)
    return (grey.clip(0, ceiling) * (255 / ceiling)).round().astype(np.uint8)


def _from_array(values: NDArray[np.generic], name: str) -> Image.Image:
    if values.size == 0:
        raise ImageError(f"{name} has no pixels (shape {values.shape}).")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ImageError(f"{name} has the shape {values.shape}; give [H, W], [H, W, 3] or [H, W, 4].")
    if values.shape[0] * values.shape[1] > get_settings().max_image_pixels:
        raise ImageError(_too_large(name))
    if values.dtype == np.bool_:
        pixels = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype == np.uint8:
        pixels = values.astype(np.uint8, copy=False)
    elif values.dtype == np.uint16:
        pixels = (values.astype(np.uint32) // 257).astype(np.uint8)
    elif np.issubdtype(values.dtype, np.floating):
        floats = values.astype(np.float64)
        if not np.isfinite(floats).all() or floats.min() < 0 or floats.max() > 1:
            raise ImageError(f"{name} holds floats outside 0…1; scale them, or give unsigned 8-bit integers.")
        pixels = (floats * 255).round().astype(np.uint8)
    else:
        raise ImageError(f"{name} holds {values.dtype} values; give unsigned 8 or 16-bit integers or floats in 0…1.")
    return Image.fromarray(np.ascontiguousarray(pixels))
