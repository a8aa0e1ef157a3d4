"""What a file is, told from its first bytes: one table of kinds, each with what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from captioning.media.tiff import Directory, read_directory

HEAD_BYTES = 4096
"""As many first bytes as any kind is told by."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: its `title` with an article, what may read it, and a remedy where nothing here does."""

    title: str
    sort: Literal["picture", "moving", "clip", "other"]
    remedy: str = ""


_AS_JPEG = "save it as JPEG or PNG and choose that file"
_IN_BROWSER = "open it in a browser and save a picture of it as PNG"
_UNPACK = "unpack it and choose a picture, or open it on the Map tab or by the command map"
HEIC = Kind(
    "a HEIC photograph", "picture", "install pillow-heif, which reads it (pip install pillow-heif), or save it as JPEG"
)
HEIC_READ = Kind("a HEIC photograph", "picture")
"""The same where pillow-heif is installed."""
RAW = Kind("a raw camera file", "picture", "develop it to JPEG or PNG with a raw converter and choose that file")
FLOAT_TIFF = Kind(
    "a TIFF of floating-point colours, which cannot be read",
    "picture",
    "scale its values to 8 or 16-bit integers, and save it as TIFF or PNG",
)
TIFF = Kind("a TIFF file", "picture")

_BEFORE_TEXT = rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]*>\s*)*?"
"""What may stand before the first element of a text of tags."""

_TABLE: tuple[tuple[bytes, Kind], ...] = (
    (rb"\xff\xd8\xff", Kind("a JPEG picture", "picture")),
    (rb"\x89PNG\r\n\x1a\n", Kind("a PNG picture", "moving")),
    (rb"GIF8[79]a", Kind("a GIF picture", "moving")),
    (rb"RIFF....WEBP", Kind("a WebP picture", "moving")),
    (rb"BM.{4}\0{4}", Kind("a BMP picture", "picture")),
    (rb"....ftypavis", Kind("an AVIF animation", "moving")),
    (rb"....ftyp(?:avif|(?:mif1|miaf).{4}(?:.{4}){0,6}avif)", Kind("an AVIF picture", "picture")),
    (rb"....ftyp(?:hei[a-z]|hev[a-z]|mif1|msf1)", HEIC),
    (rb"....ftypcrx ", RAW),
    (rb"II\*\0.{4}CR\x02", RAW),
    (rb"FUJIFILMCCD-RAW|IIR[OS]\x08\0|MMOR|IIU\0|FOVb|..\x1a\0\0\0HEAPCCDR|\0MRM", RAW),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", Kind("a JPEG XL picture, which cannot be read", "picture", _AS_JPEG)),
    (
        rb"8BPS\0\x02",
        Kind("a Photoshop document for large pictures (PSB), which cannot be read", "picture", _AS_JPEG),
    ),
    (rb"8BPS", Kind("a Photoshop document", "picture")),
    (rb"gimp xcf", Kind("a GIMP document, which cannot be read", "picture", "export it as JPEG or PNG")),
    (rb"v/1\x01|#\?R(?:ADIANCE|GBE)", Kind("a picture of floating-point light, which cannot be read", "picture",
        "tone-map it and save it as JPEG or PNG")),
    (rb"AT&TFORM", Kind("a DjVu document", "other", "save a page of it as PNG")),
    (rb"BPG\xfb|KDT|\xabKTX", Kind("a picture in a format that cannot be read", "picture", _AS_JPEG)),
    (rb".{128}DICM", Kind("a DICOM file", "picture", "export its picture as PNG")),
    (rb".{0,1019}%PDF-", Kind("a PDF document", "other", "save the page or its picture as PNG")),
    (rb"%!PS|\xc5\xd0\xd3\xc6", Kind("a PostScript document", "other", "save it as PNG")),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", Kind("a Windows metafile", "other", "save it as PNG")),
    (_BEFORE_TEXT + rb"<(?:\w+:)?svg\b",
        Kind("an SVG drawing", "other", "export it as PNG: only pictures made of pixels are read")),
    (_BEFORE_TEXT + rb"(?i:<(?:html|head|body|title|meta|script|div|p)\b|<!doctype html)",
        Kind("a web page, not a picture", "other", f"{_IN_BROWSER}, or save the picture itself in place of the page")),
    (_BEFORE_TEXT + rb"<\w|<\?xml", Kind("a text of tags, not a picture", "other", "choose the picture itself")),
    (rb"version https://git-lfs", Kind("a Git LFS pointer, not the file itself", "other", "run git lfs pull")),
    (rb"\0\x05\x16[\x00\x07]", Kind("a companion file of macOS", "other", "choose the file without ._ in its name")),
    (rb"PK(?:\x03\x04|\x05\x06)", Kind("a zip archive or an office document", "other", _UNPACK)),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar", Kind("an archive", "other", _UNPACK)),
    (rb"\x93NUMPY", Kind("a NumPy array", "other", "save it as PNG, or hand the array to open_image")),
    (rb"\x89HDF|CDF[\x01\x02]|SIMPLE  =", Kind("a file of scientific data", "other", "save its picture as PNG")),
    (rb"ID3|fLaC|RIFF....WAVE|\xff[\xf1\xf9\xfb\xf3]", Kind("a sound file", "other", "choose a picture or a clip")),
    (rb"....(?:ftyp|moov|mdat|free|wide|skip)|RIFF....AVI |\x1aE\xdf\xa3|FLV\x01|OggS|0&\xb2u|\0\0\x01[\xb0-\xba]|DKIF|"
        rb"nutm|\x06\x0e\x2b\x34|G.{187}G.{187}G|\0\0(?:\0)?\x01[\x09\x67\x40\x42]", Kind("a video", "clip")),
)  # fmt: skip
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*:/|www\.|data:)", re.IGNORECASE)
_PATTERNS = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _TABLE)


def kind_of(data: bytes) -> Kind | None:
    """Return what a file is; `data` are its first bytes, for kinds of TIFF all of them. `None` where nobody knows."""
    head = data[:HEAD_BYTES]
    known = next((kind for pattern, kind in _PATTERNS if pattern.match(head)), None)
    if known is None and (directory := read_directory(data)) is not None:
        return _kind_of_tiff(directory)
    return known


def _kind_of_tiff(directory: Directory) -> Kind:
    """Return the kind of a TIFF: cameras write raw files in it, and programs colours as floating-point numbers."""
    dng_version, colour_filter = directory.value(50706), directory.number(262) in (32803, 34892)
    preview_of_others = directory.number(254) & 1 and directory.value(330)
    if dng_version or colour_filter or preview_of_others:
        return RAW
    if 3 in directory.numbers(339) and directory.number(277, 1) > 1:
        return FLOAT_TIFF
    return TIFF


def refuse_missing(given: str, name: str) -> str:
    """Return the sentence for a file that is not there; `given` is what was written to name it."""
    if _ADDRESS.match(given):
        return f"{given[:80]} is an address, and nothing is fetched from any; save the file and name that."
    return f"There is no file {name}; check its name."


def refuse_as_picture(name: str, kind: Kind | None) -> str:
    """Return the sentence for a file that cannot be opened as a picture."""
    if kind is None:
        return (
            f"{name} is not a picture in a format that can be read (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF and others)."
        )
    if kind.sort == "clip":
        return f"{name} is a video, not a picture; caption it on the Video tab or by the command video."
    if kind.remedy:
        return f"{name} is {kind.title}; {kind.remedy}."
    if kind is TIFF:
        return f"{name} is a TIFF whose pixels are stored in a way that cannot be read, or is cut off; save it as PNG."
    return f"{name} is damaged or cut off and cannot be decoded; save or upload it again."


def refuse_as_clip(name: str, kind: Kind | None) -> str:
    """Return the sentence for a file that cannot be opened as a clip."""
    if kind is None:
        return f"{name} is not a video in a format that can be read (MP4, MOV, WebM, MKV, AVI, GIF and others)."
    if kind.sort == "picture":
        return f"{name} is a picture, not a video; caption it on the Caption tab or by the command caption."
    if kind.sort == "other":
        return f"{name} is {kind.title}, not a video; choose a video file."
    return f"{name} is damaged or cut off and cannot be opened; save or upload it again."
