"""What is no picture, or no clip, is called by its kind, with what to do about it."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.core.errors import ImageError, VideoError
from captioning.media.clip_index import index_clip
from captioning.media.images import open_image
from captioning.media.kinds import kind_of
from tests.clips import make_clip


def tiff(*entries: tuple[int, int, int]) -> bytes:
    """A TIFF of nothing but a directory of numbers: tag, type and value."""
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0" * 4


KINDS = {
    "heic.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC photograph; install pillow-heif"),
    "mif1.heif": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC photograph"),
    "a.jxl": (b"\xff\x0a\xd8\xe5", "JPEG XL"),
    "b.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    "a.cr2": (b"II*\0\x10\0\0\0CR\2\0", "raw camera file; develop it"),
    "a.cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1", "raw camera file"),
    "a.raf": (b"FUJIFILMCCD-RAW 0201", "raw camera file"),
    "a.dng": (tiff((254, 4, 1), (50706, 1, 1)), "raw camera file"),
    "a.nef": (tiff((254, 4, 1), (330, 4, 900)), "raw camera file"),
    "a.pef": (tiff((262, 3, 32803)), "raw camera file"),
    "a.svg": (b'<?xml version="1.0"?>\n<!-- by hand -->\n<svg xmlns="x">', "SVG drawing; export it as PNG"),
    "b.svg": (b"\xef\xbb\xbf  <svg width='1'/>", "SVG drawing"),
    "a.pdf": (b"%PDF-1.7\n", "PDF document"),
    "page.jpg": (b"<!DOCTYPE html><html><body>not found", "web page"),
    "page.png": (b"\n<html lang=en>", "web page"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
    "a.psb": (b"8BPS\0\2", "PSB"),
    "a.xcf": (b"gimp xcf v011\0", "GIMP"),
    "a.exr": (b"v/1\x01\2\0\0\0", "tone-map"),
    "a.zip": (b"PK\3\4\x14", "zip archive"),
    "._a.jpg": (b"\0\5\x16\7\0\2\0\0", "companion file of macOS"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a.mp3": (b"ID3\4\0\0\0", "sound file"),
    "a.ts": (
        (b"G" + b"\0" * 187) * 3,
        "is a video, not a picture; caption it on the Video tab or by the command video",
    ),
    "a.mkv": (b"\x1aE\xdf\xa3", "is a video"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_no_readable_picture_is_called_by_its_kind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data, says = KINDS[name]
    with pytest.raises(ImageError) as caught:
        open_image(data + b"\0" * 100, name)
    assert str(caught.value).startswith(f"{name} is ")
    assert says in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF", "AVIF"])
def test_a_still_picture_is_sent_to_the_other_command(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.mp4"
    Image.new("RGB", (64, 48), "teal").save(path, kind)
    with pytest.raises(VideoError, match=r"photo\.mp4 is a picture, not a video; .*the command caption\."):
        index_clip(path)


def test_what_is_neither_is_no_video_either(tmp_path: Path) -> None:
    path = tmp_path / "paper.mp4"
    path.write_bytes(b"%PDF-1.7\n" + b"x" * 100)
    with pytest.raises(VideoError, match="a PDF document, not a video"):
        index_clip(path)


def test_a_clip_is_sent_to_the_other_command(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the command video"):
        open_image(make_clip(tmp_path / "clip.mp4", numbers=range(3)).read_bytes(), "clip.jpg")


def test_floating_point_colours_name_the_remedy() -> None:
    data = tiff((256, 4, 2), (257, 4, 2), (258, 3, 32), (277, 3, 3), (339, 3, 3)) + b"\0" * 100
    with pytest.raises(ImageError, match="floating-point colours, which cannot be read; scale its values"):
        open_image(data, "light.tif")


@pytest.mark.parametrize("address", ["https://example.org/a.jpg", "s3://bucket/a.jpg", "data:image/png;base64,AA"])
def test_an_address_is_not_fetched_and_the_sentence_says_so(address: str) -> None:
    with pytest.raises(ImageError, match="is an address, and nothing is fetched"):
        open_image(address)
    with pytest.raises(VideoError, match="is an address, and nothing is fetched"):
        index_clip(address)


@pytest.mark.parametrize("kind", ["PCX", "SGI", "PPM", "ICO", "TGA", "DDS", "JPEG2000", "IM", "MSP", "XBM"])
def test_no_kind_that_pillow_reads_is_taken_for_another(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture"
    pixels = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    image = Image.fromarray(pixels).convert("1") if kind in ("MSP", "XBM") else Image.fromarray(pixels)
    image.save(path, kind)
    assert kind_of(path.read_bytes()) is None
    assert open_image(path).image.size == (32, 32)


def test_a_library_prints_nothing_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "raw.tif").write_bytes(tiff((256, 4, 9), (257, 4, 9), (277, 3, 9), (282, 2, 5)) + b"\0" * 50)
    code = (
        "from captioning import open_image; import sys\ntry: open_image(sys.argv[1])\nexcept Exception as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "raw.tif")], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("raw.tif is a TIFF")
