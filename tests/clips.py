"""Clips made for tests: every frame carries its number as black and white squares, in a pattern that shows turning."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

RATE = 10
WIDTH, HEIGHT = 96, 64
_CELLS = (3, 4)
_BITS = 8


def paint(number: int, turns: int = 0) -> NDArray[np.uint8]:
    """A frame that shows its number, turned by `turns` quarters to the left, `[height, width, 3]`."""
    bits = [1, 0, *((number >> bit) & 1 for bit in range(_BITS)), 1, 1]
    cells = np.array(bits, np.uint8).reshape(_CELLS) * np.uint8(200) + np.uint8(28)
    # 84 columns in place of 96 would not be wrong, but many encoders want multiples of 16.
    grey = np.repeat(np.repeat(cells, -(-HEIGHT // 3), 0)[:HEIGHT], WIDTH // 4, 1)
    return np.ascontiguousarray(np.rot90(np.repeat(grey[..., None], 3, 2), turns))


def read_number(image: Image.Image) -> int:
    """The number that a frame shows; fails where it stands on its side or its head."""
    pixels = np.asarray(image.convert("L"))
    height, width = pixels.shape
    rows, columns = _CELLS
    bits = [
        int(pixels[int((r + 0.5) * height / rows), int((c + 0.5) * width / columns)] > 128)
        for r in range(rows)
        for c in range(columns)
    ]
    assert bits[:2] + bits[-2:] == [1, 0, 1, 1], f"the frame is not upright: {bits}"
    return sum(bit << place for place, bit in enumerate(bits[2 : 2 + _BITS]))


def make_clip(
    path: Path,
    codec: str = "libx264",
    numbers: Sequence[int] = tuple(range(30)),
    *,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[float] | None = None,
    gop: int = 12,
    turns: int = 0,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of frames that show `numbers`, ten a second or at `times` in seconds; skip without the encoder."""
    import av

    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"PyAV on this machine cannot write {codec}")
    first = paint(0, turns)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options or {})
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, RATE)
        if codec != "gif":
            stream.codec_context.gop_size = gop
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(paint(number, turns), format="rgb24")
            frame.pts = round(times[place] * 1000) if times else place
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if codec == "libsvtav1" and hasattr(os, "sched_setscheduler"):
        # Where root runs it, this encoder puts its caller, and all that the caller starts, before every other process.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def make_animation(path: Path, count: int = 10, milliseconds: int = 100) -> Path:
    """Write frames that show their numbers as an animated WebP, PNG or GIF."""
    frames = [Image.fromarray(paint(number)) for number in range(count)]
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **options)
    return path


def turn(path: Path, degrees: int) -> Path:
    """Write into an MP4 file that it is to be shown turned clockwise."""
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd")
    place += 4 + (40 if data[place + 4] == 0 else 52)
    cos, sin = round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees)))
    matrix = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    data[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


def trim(path: Path, start: float, end: float) -> Path:
    """Write into an MP4 file that only `start` to `end`, in seconds, is to be shown, as phones trim."""
    data = bytearray(path.read_bytes())
    header, edits = data.find(b"mdhd"), data.find(b"elst")
    (scale,) = struct.unpack_from(">I", data, header + 16)
    (begin,) = struct.unpack_from(">i", data, edits + 16)
    struct.pack_into(">Ii", data, edits + 12, round((end - start) * 1000), begin + round(start * scale))
    path.write_bytes(data)
    return path


def spoil(path: Path, numbers: Sequence[int]) -> Path:
    """Overwrite the data of some frames of an MP4 file, so that they cannot be decoded."""
    import av

    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]
    data = bytearray(path.read_bytes())
    for number in numbers:
        start, size = places[number]
        data[start + 4 : start + size] = b"\xff" * (size - 4)
    path.write_bytes(data)
    return path


def make_sound(path: Path) -> Path:
    """Write a second of silence."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44100)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
