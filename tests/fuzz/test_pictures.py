"""Whatever bytes come as a picture: it is one, or there is a sentence."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, features

from captioning.core.errors import ImageError
from captioning.core.types import Picture
from captioning.media.images import open_image
from tests.fuzz.damage import damaged

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "ICO", "PPM", "TGA", "JPEG2000", "DDS", "ICNS", "PCX", "SGI"]


def whole_files() -> list[bytes]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8))
    formats = [name for name in FORMATS if name != "JPEG2000" or features.check("jpg_2000")]
    files = []
    for name in formats:
        file = io.BytesIO()
        picture.save(file, name)
        files.append(file.getvalue())
    frames = io.BytesIO()
    picture.save(frames, "GIF", save_all=True, append_images=[picture.rotate(90), picture.rotate(180)])
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(turned, "JPEG", exif=exif)
    return [*files, frames.getvalue(), turned.getvalue()]


def check(data: bytes) -> None:
    try:
        picture = open_image(data, "hostile")
    except ImageError as error:
        assert str(error).startswith("hostile")
        assert str(error).endswith(".")
    else:
        assert isinstance(picture, Picture)
        assert picture.image.mode == "RGB"


@given(damaged(whole_files()))
def test_a_damaged_picture_is_a_picture_or_a_sentence(data: bytes) -> None:
    check(data)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_picture_or_a_sentence(data: bytes) -> None:
    check(data)


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32, np.float64, np.bool_, np.int64, np.complex64]),
        arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6),
    )
)
def test_any_array_is_a_picture_or_a_sentence(values: np.ndarray) -> None:
    try:
        assert open_image(values).image.mode == "RGB"
    except ImageError as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1)])
def test_a_picture_that_promises_too_much_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    import struct
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    with pytest.raises(ImageError):
        open_image(data, "bomb")
