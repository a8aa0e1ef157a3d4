"""Colours of 16 bits, which Pillow reads as 8: FFmpeg keeps them where most of their range lies empty."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from captioning.media.pixels import stretch
from captioning.media.tiff import read_directory

_MOST_OF_8_BITS = 63
"""The brightest of 8 bits below which pixels of 16 bits hold no more than 14."""


def deep_format(data: bytes) -> str:
    """Return FFmpeg's name for a picture file with colours of 16 bits; empty for every other file."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10" and data[25:26] in b"\2\4\6":
        return "png_pipe"
    if data[:6] == b"8BPS\0\1" and data[22:24] == b"\0\x10":
        return "psd_pipe"
    directory = read_directory(data)
    if directory is not None and set(directory.numbers(258)) == {16} and directory.number(277, 1) > 2:
        return "tiff_pipe"
    return ""


def psd_size(data: bytes) -> tuple[int, int]:
    """Return width and height in the head of a Photoshop document."""
    height, width = struct.unpack_from(">II", data, 14)
    return width, height


def is_dark(image: Image.Image) -> bool:
    """Whether 8 bits of each colour hold so little that the 8 bits below matter."""
    bands = [band for band in image.getbands() if band != "A"]
    return all(image.getchannel(band).getextrema()[1] <= _MOST_OF_8_BITS for band in bands)  # type: ignore[operator]


def read_deep_colour(data: bytes, form: str) -> tuple[Image.Image, str]:
    """Return the picture in 8 bits, stretched to the range in use, and a note. Raises what FFmpeg raises."""
    import av

    with av.open(io.BytesIO(data), "r", format=form) as container:
        frame = next(container.decode(video=0))
        values = frame.reformat(format="rgba64le").to_ndarray().astype(np.uint16, copy=False)
    colours, note = stretch(values[..., :3])
    alpha = (values[..., 3:] // 257).astype(np.uint8)
    pixels = colours if int(alpha.min()) == 255 else np.concatenate((colours, alpha), axis=2)
    return Image.fromarray(np.ascontiguousarray(pixels)), note
