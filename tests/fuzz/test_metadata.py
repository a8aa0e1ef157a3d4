"""Whatever metadata comes with sound pixels: they are the pixels, turned as a readable orientation says."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from captioning.media.images import open_image
from captioning.media.pixels import turn_upright

PIXELS = np.zeros((24, 40, 3), np.uint8)
PIXELS[:12, :20], PIXELS[:12, 20:], PIXELS[12:, :20] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PICTURE = Image.fromarray(PIXELS)
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")


def encode(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    PICTURE.save(
        file, kind, **({"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}), **options
    )
    return file.getvalue()


def add_to_jpeg(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def add_to_png(data: bytes, name: bytes, body: bytes) -> bytes:
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return data[:33] + chunk + data[33:]


def add_to_webp(data: bytes, name: bytes, body: bytes) -> bytes:
    width, height = PICTURE.size
    flags = {b"EXIF": 8, b"XMP ": 4, b"ICCP": 32}[name]
    head = (
        b"VP8X" + struct.pack("<II", 10, flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    chunk = name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    chunks = (head, chunk, data[12:]) if name == b"ICCP" else (head, data[12:], chunk)
    rest = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(rest)) + rest


def check(data: bytes, orientation: int = 1) -> None:
    """The pixels are there, upright."""
    seen = np.asarray(open_image(data, "picture").image, int)
    expected = np.asarray(turn_upright(PICTURE, orientation), int)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).mean() < 8


@st.composite
def exif_blocks(draw: st.DrawFn) -> tuple[bytes, int]:
    """EXIF data with entries of random types, counts and places, and the orientation that can be read in it."""
    order = draw(st.sampled_from("<>"))
    orientation = draw(st.integers(1, 8))
    kind = draw(st.sampled_from((1, 3, 4, 9)))
    places = {1: "Bxxx", 3: "Hxx", 4: "I", 9: "i"}
    entries = [(0x0112, struct.pack(f"{order}HHI{places[kind]}", 0x0112, kind, 1, orientation))]
    tags = st.sampled_from((0x010F, 0x011A, 0x011B, 0x0128, 0x0131, 0x8769, 0x8825, 0xA005, 0x9286, 0x927C))
    for tag in draw(st.lists(tags, max_size=6, unique=True)):
        form = draw(st.integers(0, 20))
        count = draw(st.sampled_from((0, 1, 2, 7, 1000, 2**32 - 1)))
        entries.append((tag, struct.pack(f"{order}HHII", tag, form, count, draw(st.integers(0, 2**32 - 1)))))
    body = b"".join(entry for _, entry in sorted(entries))
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    return head + body + draw(st.binary(max_size=40)), orientation


@given(exif=exif_blocks(), kind=st.sampled_from(("JPEG", "PNG", "WEBP")))
def test_odd_exif_data_never_keeps_a_picture_from_being_turned(exif: tuple[bytes, int], kind: str) -> None:
    block, orientation = exif
    if kind == "JPEG":
        data = add_to_jpeg(encode("JPEG"), 0xE1, b"Exif\0\0" + block)
    elif kind == "PNG":
        data = add_to_png(encode("PNG"), b"eXIf", block)
    else:
        data = add_to_webp(encode("WEBP"), b"EXIF", block)
    check(data, orientation)


@given(
    body=st.binary(max_size=300),
    start=st.sampled_from((b"", b"Exif\0\0", b"Exif\0\0II*\0", b"ICC_PROFILE\0\1\1", b"MPF\0")),
)
def test_any_segment_or_chunk_leaves_the_pixels_alone(body: bytes, start: bytes) -> None:
    for marker in (*range(0xE0, 0xF0), 0xFE):
        if marker not in (0xE0, 0xEE):  # those two say how colours are coded
            check_shape(add_to_jpeg(encode("JPEG"), marker, start + body))
    for name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"vpAg"):
        check_shape(add_to_png(encode("PNG"), name, start + body))
    for name in (b"EXIF", b"XMP ", b"ICCP"):
        check_shape(add_to_webp(encode("WEBP"), name, start + body))


def check_shape(data: bytes) -> None:
    """The pixels are there, whichever way up."""
    assert sorted(open_image(data, "picture").image.size) == [24, 40]


@given(size=st.sampled_from((10, 2**20, 2**21, 2**23)), name=st.sampled_from((b"zTXt", b"iTXt", b"tEXt")))
def test_a_text_of_any_length_leaves_the_pixels_alone(size: int, name: bytes) -> None:
    text = zlib.compress(b"{}" * size)
    body = {
        b"zTXt": b"workflow\0\0" + text,
        b"iTXt": b"workflow\0\1\0\0\0" + text,
        b"tEXt": b"k\0" + b"x" * min(size, 2**21),
    }
    check(add_to_png(encode("PNG"), name, body[name]))


@given(st.integers(1, 8), st.sampled_from(FORMATS))
def test_every_orientation_is_turned_in_every_format(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    check(encode(kind, exif=exif), orientation)


@given(place=st.integers(0, 130), value=st.integers(0, 255), kind=st.sampled_from(FORMATS))
def test_a_broken_colour_profile_is_ignored_with_a_note(place: int, value: int, kind: str) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[place] = value
    check_shape(encode(kind, icc_profile=bytes(profile)))
    picture = open_image(encode(kind, icc_profile=bytes(profile[:60])), "picture")
    assert "profile is broken" in picture.note
    assert np.abs(np.asarray(picture.image, int) - PIXELS).mean() < 8
