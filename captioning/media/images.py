"""Anything that may be a picture → an RGB picture with an id, or one clear sentence."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile

from captioning.core.errors import ImageError
from captioning.core.settings import get_settings
from captioning.core.types import Picture
from captioning.media.deep_colour import deep_format, is_dark, psd_size, read_deep_colour
from captioning.media.kinds import HEIC, HEIC_READ, kind_of, refuse_as_picture, refuse_missing
from captioning.media.metadata import exif_orientation, take_apart
from captioning.media.pixels import to_rgb, turn_upright

_MOST_COUNTED = 300
"""Frames of an animation; a small file can hold millions, and to count them is to walk through all."""
_PILLOWS_LIMIT = Image.MAX_IMAGE_PIXELS or 0
# What is wrong with a file is said in the one sentence of an `ImageError`; Pillow would print it once more.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
logging.getLogger("PIL").addHandler(logging.NullHandler())

ImageSource = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class Undecoded:
    """A picture whose head was read; `orientation` and colour `profile` were read apart from it.

    `note` tells what had to be done already.
    """

    image: Image.Image
    orientation: int = 1
    profile: bytes = b""
    note: str = ""

    def render(self) -> tuple[Image.Image, tuple[str, ...]]:
        """Return the picture decoded, upright, and in sRGB, with notes on it. Raises what Pillow raises."""
        self.image.load()
        rgb, notes = to_rgb(self.image, self.profile)
        return turn_upright(rgb, self.orientation), tuple(filter(None, (self.note, *notes)))


def open_image(source: ImageSource, name: str | None = None) -> Picture:
    """Read a picture from a path, bytes, a PIL image or an array `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]`.

    Turns it upright as its metadata says, converts its colours to sRGB, puts transparency on white, takes the first
    frame of an animation; `note` tells of what is not plain. Arrays are unsigned 8 or 16-bit integers, booleans, or
    floats in 0…1. Raises `ImageError` for what is no picture, is cut off, has no pixels, or has more than the settings
    allow.
    """
    if isinstance(source, np.ndarray):
        source, name = _from_array(source, name or "array"), name or "array"
    if isinstance(source, Image.Image):
        _check_size(source.size, name or "picture")
        return _finish(_with_info(source), name or "picture")
    if isinstance(source, bytes):
        return _decode(source, name or "picture")
    path = Path(source)
    name = name or shown_name(path.name)
    return _decode(_read_file(path, os.fspath(source), name), name)


def _read_file(path: Path, given: str, name: str) -> bytes:
    """Return the bytes of a picture file that is within the limits; `given` is the path as it was written."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise IsADirectoryError
        _check_bytes(size, name)
        return path.read_bytes()
    except IsADirectoryError as error:
        raise ImageError(f"{name} is a folder; give a picture file.") from error
    except (FileNotFoundError, ValueError) as error:  # no file system takes a name with a NUL in it
        raise ImageError(refuse_missing(given, name)) from error
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror or 'input error'}).") from error


def shown_name(name: str) -> str:
    """A file's name as valid text: what is no UTF-8 in it, which Python holds as lone surrogates, becomes �."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)


def open_undecoded(data: bytes, name: str) -> Undecoded:
    """Read a picture's head. Raises `ImageError` for more pixels than allowed, and what Pillow raises."""
    limit = get_settings().max_image_pixels
    # Pillow's own limit, the whole process's, must not refuse what ours allows; below ours it guards others as before.
    Image.MAX_IMAGE_PIXELS = max(_PILLOWS_LIMIT, limit)
    deep = deep_format(data)
    if deep == "psd_pipe":  # Pillow does not read it at all
        _check_size(psd_size(data), name)
        image, note = read_deep_colour(data, deep)
        return Undecoded(image, note=note)
    parts = take_apart(data)
    try:
        image = Image.open(io.BytesIO(parts.pixels))
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name)) from error
    try:
        _check_size(image.size, name)
        note = ""
        if deep and is_dark(image):
            image, note = read_deep_colour(parts.pixels, deep)
    except ImageError:
        image.close()
        raise
    known = _with_info(image)
    return Undecoded(image, max(parts.orientation, known.orientation), parts.profile or known.profile, note)


def _with_info(image: Image.Image) -> Undecoded:
    """A picture with what Pillow kept of its metadata, which is not parsed yet."""
    exif, profile = image.info.get("exif"), image.info.get("icc_profile")
    orientation = exif_orientation(exif) if isinstance(exif, bytes) else 1
    return Undecoded(image, orientation, profile if isinstance(profile, bytes) else b"")


def _check_bytes(size: int, name: str) -> None:
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes); choose another file.")
    limit = get_settings().max_upload_bytes
    if size > limit:
        raise ImageError(f"{name} has {size / 2**20:,.0f} MB; choose a picture file under {limit / 2**20:,.0f} MB.")


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if not width or not height:
        raise ImageError(f"{name} has no pixels ({width}×{height}).")
    if width * height > get_settings().max_image_pixels:
        raise ImageError(_too_large(name))


def _decode(data: bytes, name: str) -> Picture:
    _check_bytes(len(data), name)
    kind = kind_of(data)
    if kind is not None and (kind.remedy or kind.sort == "clip") and not (kind is HEIC and _reads_heic()):
        raise ImageError(refuse_as_picture(name, kind))
    try:
        return _finish(open_undecoded(data, name), name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        # A HEIC file comes here only where it can be read, so that to name its package would be no help.
        raise ImageError(refuse_as_picture(name, HEIC_READ if kind is HEIC else kind)) from error
    except (MemoryError, Image.DecompressionBombError) as error:  # also of a picture within the picture
        raise ImageError(_too_large(name)) from error
    except Exception as error:  # decoders raise nearly anything on damaged files: TypeError, SyntaxError, struct.error
        raise ImageError(f"{name} is damaged or cut off and cannot be decoded; save or upload it again.") from error


def _reads_heic() -> bool:
    """Whether pillow-heif is installed; Pillow then reads HEIC through it."""
    try:
        from pillow_heif import register_heif_opener
    except (ImportError, OSError):
        return False
    register_heif_opener()
    return True


def _too_large(name: str) -> str:
    limit = get_settings().max_image_pixels
    return f"{name} has too many pixels; make it smaller than {limit / 1e6:g} megapixels."


def _finish(head: Undecoded, name: str) -> Picture:
    image, notes = head.image, []
    # MPO and PSD hold a second view or layers of one picture: no animation.
    if image.format not in ("MPO", "PSD") and getattr(image, "is_animated", False):
        frames = _count_frames(image)
        notes.append(f"first of {f'more than {_MOST_COUNTED}' if frames > _MOST_COUNTED else frames} frames")
        image.seek(0)
    rgb, found = head.render()
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    digest.update(rgb.tobytes())
    return Picture(rgb, digest.hexdigest(), name, "; ".join((*notes, *found)))


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
