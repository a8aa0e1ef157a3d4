"""Frames of a clip, from the file to features."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioning.bench.result import BenchCase, BenchResult, result_with_reference
from captioning.bench.setup import Setup
from captioning.bench.timing import take_turns
from captioning.media.images import open_image

if TYPE_CHECKING:
    from captioning.core.types import Picture

_CLIP_SECONDS = 60


def _frames(setup: Setup, case: str, count: int, repetitions: int) -> list[BenchResult]:
    """Measure frames of a clip; the reference decodes the whole clip and encodes one frame after the other."""
    from captioning.captions.clip_captions import encode_frames, frame_side
    from captioning.media.video import sample_clip

    ours_parts: list[tuple[float, float]] = []
    plain_parts: list[tuple[float, float]] = []
    side = frame_side(setup.captioner)

    def ours() -> None:
        started = time.perf_counter()
        frames = sample_clip(path, count, max_side=side).frames
        decoded = time.perf_counter()
        # Without the cache, the same frames are encoded every time.
        encode_frames(setup.uncached, frames)
        ours_parts.append((decoded - started, time.perf_counter() - decoded))

    def reference() -> None:
        started = time.perf_counter()
        pictures = _decode_all(path, count)
        decoded = time.perf_counter()
        for picture in pictures:
            setup.plain.encode(picture)
        plain_parts.append((decoded - started, time.perf_counter() - decoded))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        _write_clip(path)
        times = take_turns(ours, reference, repetitions)
    parts = [[statistics.median(part) for part in zip(*found[1:], strict=True)] for found in (ours_parts, plain_parts)]
    limit = setup.limit.seconds(count * setup.plain.encode_flops, 0)
    (decode, encode), (plain_decode, plain_encode) = parts
    note = f"decode {decode:.2f} s, plain {plain_decode:.2f} s; encode {encode:.2f} s, plain {plain_encode:.2f} s"
    return [result_with_reference(case, *times, limit, setup.describe(setup.uncached, note))]


def _sixteen(setup: Setup, repetitions: int) -> list[BenchResult]:
    return _frames(setup, "frames_16", 16, repetitions)


def _sixty_four(setup: Setup, repetitions: int) -> list[BenchResult]:
    return _frames(setup, "frames_64", 64, min(repetitions, 2))


def _write_clip(path: Path) -> None:
    """Write a minute of 720p at 30 frames a second, similar to a camera's: a drifting picture with noise."""
    import av

    noise = np.random.default_rng(0).integers(0, 256, (45, 160, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    grain = np.random.default_rng(1).integers(0, 12, (8, 720, 1280, 1), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(_CLIP_SECONDS * 30):
            left = number * 2 % 1280
            pixels = noise[:, left : left + 1280] // 2 + grain[number % len(grain)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())


def _decode_all(path: Path, count: int) -> list[Picture]:
    """Decode every frame, and return `count` evenly spaced ones as pictures."""
    import av

    with av.open(str(path)) as container:
        total = container.streams.video[0].frames
        wanted = {int((place + 0.5) * total / count) for place in range(count)}
        pixels = [
            f.to_ndarray(format="rgb24") for number, f in enumerate(container.decode(video=0)) if number in wanted
        ]
    return [open_image(values) for values in pixels]


CASES = (
    BenchCase("frames_16", "16 frames of a 60 s clip of 720p, decoded and encoded, BLIP base size", _sixteen),
    BenchCase("frames_64", "64 frames of the same clip", _sixty_four),
)
