"""A picture file taken apart: what the pixels need, and beside it orientation and colour profile.

Text, camera data and colour profiles are the parts of picture files that programs get wrong most often. The decoder
never sees them, so that none of them can keep it from the pixels.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from captioning.media.tiff import ORIENTATION, PROFILE, keep_entries, read_directory

_MOST_PROFILE = 16 * 2**20
_MOST_TEXT = 2**20
"""Bytes of a compressed text that are looked through for an orientation."""
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
"""Chunks that pixels need although a decoder may skip them: transparency, and the frames of an animation."""
_TIFF_PIXELS = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 290, 291, 292, 293, 317, 318, 319}
    | {320, 321, 322, 323, 324, 325, 332, 333, 334, 336, 338, 339, 340, 341, 343, 346, 347, *range(512, 522)}
    | {529, 530, 531, 532, 559}
)
_EXIF_ITEM = re.compile(rb"(infe.{8}(?:..)?)Exif", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parts:
    """A picture file without its metadata; `orientation` is 1 to 8 as EXIF counts, `profile` a colour profile."""

    pixels: bytes
    orientation: int = 1
    profile: bytes = b""


def take_apart(data: bytes) -> Parts:
    """Separate what a decoder needs from metadata; files of other formats stay as they are."""
    if data[:2] == b"\xff\xd8":
        return _take_jpeg_apart(data)
    if data[:8] == _PNG_MAGIC:
        return _take_png_apart(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _take_webp_apart(data)
    if data[4:8] == b"ftyp":
        # What turns the picture stands elsewhere in these files; EXIF data would only be parsed by the decoder.
        return Parts(_EXIF_ITEM.sub(rb"\1none", data[:65536]) + data[65536:])
    return _take_tiff_apart(data)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data, 1 to 8; 1 where none can be read."""
    directory = read_directory(exif.removeprefix(b"Exif\0\0"))
    number = directory.number(ORIENTATION) if directory is not None else 0
    return number if 1 <= number <= 8 else 1


def _choose_orientation(exif: list[bytes], xmp: list[bytes]) -> int:
    """Return the first orientation that turns the picture, of EXIF data or else of XMP texts."""
    found = [exif_orientation(block) for block in exif]
    if not any(_states_orientation(block) for block in exif):
        found += [int(match[1]) for text in xmp if (match := _XMP_ORIENTATION.search(text))]
    return next((number for number in found if number != 1), 1)


def _states_orientation(exif: bytes) -> bool:
    directory = read_directory(exif.removeprefix(b"Exif\0\0"))
    return directory is not None and 1 <= directory.number(ORIENTATION) <= 8


def _take_jpeg_apart(data: bytes) -> Parts:
    kept, exif, xmp = [data[:2]], list[bytes](), list[bytes]()
    profile: dict[int, bytes] = {}
    end = 2
    for marker, start, end in _jpeg_segments(data):
        body = data[start + 4 : end]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif.append(body)
        elif marker == 0xE1:
            xmp.append(body)
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            profile[body[12] if len(body) > 12 else 0] = body[14:]
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        # Two of them say how colours are coded; short ones are broken.
        is_needed = (marker == 0xE0 and len(body) >= 14) or (marker == 0xEE and len(body) >= 12)
        if is_needed or not is_metadata:
            kept.append(data[start:end])
    kept.append(data[end:])
    joined = b"".join(profile[number] for number in sorted(profile))
    return Parts(b"".join(kept), _choose_orientation(exif, xmp), joined)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of every segment before the first scan."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2 + struct.unpack_from(">H", data, place + 2)[0]
        if marker == 0xDA or marker < 0xC0 or end > len(data):
            return
        yield marker, place, end
        place = end


def _take_png_apart(data: bytes) -> Parts:
    kept, exif, xmp, profile = [_PNG_MAGIC], list[bytes](), list[bytes](), b""
    place = len(_PNG_MAGIC)
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        name, body, end = data[place + 4 : place + 8], data[place + 8 : place + 8 + size], place + 12 + size
        if end > len(data) or not name.isalpha():
            break
        if name[:1].isupper() or name in _PNG_PIXELS:
            kept.append(data[place:end])
        elif name == b"iCCP":
            _, _, packed = body.partition(b"\0")
            profile = _inflate(packed[1:], _MOST_PROFILE) or packed or b"?"
        elif name == b"eXIf":
            exif.append(body)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            _sort_text(name, body, exif, xmp)
        place = end
    kept.append(data[place:])
    return Parts(b"".join(kept), _choose_orientation(exif, xmp), profile)


def _sort_text(name: bytes, body: bytes, exif: list[bytes], xmp: list[bytes]) -> None:
    """Add a text chunk to `exif` or `xmp` where it holds such data."""
    keyword, _, rest = body.partition(b"\0")
    if name == b"iTXt" and keyword == b"XML:com.adobe.xmp":
        text = rest[2:].split(b"\0", 2)[-1]
        xmp.append(_inflate(text, _MOST_TEXT) if rest[:1] == b"\1" else text[:_MOST_TEXT])
    elif name != b"iTXt" and keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
        text = _inflate(rest[1:], _MOST_TEXT) if name == b"zTXt" else rest[:_MOST_TEXT]
        digits = b"".join(text.split()[2:])  # after the profile's name and length
        if re.fullmatch(rb"(?:[0-9a-fA-F]{2})*", digits):
            exif.append(bytes.fromhex(digits.decode("ascii")))


def _inflate(packed: bytes, most: int) -> bytes:
    """Return at most `most` bytes of compressed data; nothing where it is broken."""
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return b""


def _take_webp_apart(data: bytes) -> Parts:
    kept, exif, xmp, profile = list[bytes](), list[bytes](), list[bytes](), b""
    place = 12
    while place + 8 <= len(data):
        name, (size,) = data[place : place + 4], struct.unpack_from("<I", data, place + 4)
        body, end = data[place + 8 : place + 8 + size], place + 8 + size + size % 2
        if end > len(data):
            break
        if name == b"EXIF":
            exif.append(body)
        elif name == b"XMP ":
            xmp.append(body)
        elif name == b"ICCP":
            profile = body
        elif name == b"VP8X" and body:
            # Its first byte lists what the file holds.
            kept.append(data[place : place + 8] + bytes([body[0] & ~0x2C]) + data[place + 9 : end])
        else:
            kept.append(data[place:end])
        place = end
    rest = b"WEBP" + b"".join(kept) + data[place:]
    return Parts(b"RIFF" + struct.pack("<I", len(rest)) + rest, _choose_orientation(exif, xmp), profile)


def _take_tiff_apart(data: bytes) -> Parts:
    directory = read_directory(data)
    if directory is None:
        return Parts(data)
    orientation = directory.number(ORIENTATION, 1)
    pixels = keep_entries(data, directory, _TIFF_PIXELS)
    return Parts(pixels, orientation if 1 <= orientation <= 8 else 1, directory.value(PROFILE))
