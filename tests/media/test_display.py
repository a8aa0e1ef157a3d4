"""Clips are shown as players show them: matrices, HDR, fields, the film among streams, and one clock."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioning.core.errors import VideoError
from captioning.media.video import read_time, sample_clip
from tests.clips import make_clip, paint, read_number, spoil

MATRICES = {
    (1, 0, 0, 1): lambda shown: shown,
    (-1, 0, 0, 1): lambda shown: shown[:, ::-1],
    (1, 0, 0, -1): lambda shown: shown[::-1],
    (-1, 0, 0, -1): lambda shown: shown[::-1, ::-1],
    (0, 1, 1, 0): lambda shown: shown.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda shown: shown[::-1, ::-1].transpose(1, 0, 2),
    (0, 1, -1, 0): lambda shown: np.rot90(shown, 1),
    (0, -1, 1, 0): lambda shown: np.rot90(shown, -1),
}
"""How a frame that is to be shown is stored under each matrix a, b, c, d: the way back."""


def write(path: Path, frames: list[Any], codec: str = "libx264", pix_fmt: str = "yuv420p", **context: Any) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options=context.pop("options", {}))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for number, frame in enumerate(frames):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("matrix", MATRICES)
def test_the_whole_display_matrix_is_applied(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    import av

    stored = np.ascontiguousarray(MATRICES[matrix](paint(37)))
    path = write(tmp_path / "turned.mp4", [av.VideoFrame.from_ndarray(stored, format="rgb24") for _ in range(4)])
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd")
    place += 4 + (40 if data[place + 4] == 0 else 52)
    a, b, c, d = matrix
    data[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    clip = sample_clip(path, 2)
    assert clip.index.size == (96, 64)
    assert [read_number(frame.image.image) for frame in clip.frames] == [37, 37]


def test_a_picture_stream_before_the_film_is_not_the_film(tmp_path: Path) -> None:
    import av

    path = tmp_path / "thumb.mkv"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream(codec, rate=10) for codec in ("mjpeg", "libx264")]
        for stream, pix_fmt in zip(streams, ("yuvj420p", "yuv420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        for stream, numbers in zip(streams, ([255], range(20)), strict=True):
            for place, number in enumerate(numbers):
                frame = av.VideoFrame.from_ndarray(paint(number), format="rgb24")
                frame.pts = place
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert [read_number(frame.image.image) for frame in sample_clip(path, 4).frames] == [2, 7, 12, 17]


def test_times_count_from_the_start_of_the_sound(tmp_path: Path) -> None:
    import av

    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        sound: Any = container.add_stream("aac", rate=44100)
        sound.layout = "mono"
        film: Any = container.add_stream("libx264", rate=10)
        film.width, film.height, film.pix_fmt = 96, 64, "yuv420p"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 44100, 0
        container.mux(sound.encode(silence))
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(paint(number), format="rgb24")
            frame.pts = 30 + number
            container.mux(film.encode(frame))
        container.mux(film.encode())
        container.mux(sound.encode())
    clip = sample_clip(path, 2)
    assert [frame.seconds for frame in clip.frames] == pytest.approx([3.5, 4.5], abs=0.05)
    assert [frame.index for frame in clip.frames] == [5, 15]
    assert (clip.start, clip.end) == pytest.approx((3.0, 5.0), abs=0.05)
    with pytest.raises(VideoError, match=r"begin at 3\.0. s; end after that"):
        sample_clip(path, 2, end=2)


def encode_pq(light: np.ndarray) -> np.ndarray:
    powered = (light / 10000) ** (1305 / 8192)
    return np.asarray(((3424 / 4096 + 2413 / 128 * powered) / (1 + 2392 / 128 * powered)) ** (2523 / 32))


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_shown_with_the_brightness_of_sdr(tmp_path: Path, transfer: int) -> None:
    import av

    linear = np.array([0.02, 0.05, 0.1, 0.2])[None, :].repeat(64, 0).repeat(24, 1)
    signal = encode_pq(203 * linear) if transfer == 16 else np.sqrt(3 * (linear * 203 / 1000) ** (1 / 1.2))
    grey = np.rint(signal * 65535).astype(np.uint16)[..., None].repeat(3, 2)
    frames = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(grey), format="rgb48le").reformat(format="yuv420p10le")
        for _ in range(3)
    ]
    path = write(
        tmp_path / "hdr.mp4", frames, "libx265", "yuv420p10le", color_trc=transfer, color_primaries=9, colorspace=9,
        options={"x265-params": "log-level=none"},
    )  # fmt: skip
    clip = sample_clip(path, 1)
    seen = np.asarray(clip.frames[0].image.image, float)[32, 12::24, 1]
    expected = 255 * (1.055 * linear[0, 12::24] ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(seen, expected, atol=12)
    assert "tone-mapped" in clip.note


def test_one_field_of_an_interlaced_frame_is_shown(tmp_path: Path) -> None:
    import av

    combed = np.zeros((64, 96, 3), np.uint8)
    combed[::2, :48], combed[1::2, 48:] = 255, 255
    frames = []
    for _ in range(6):
        frame = av.VideoFrame.from_ndarray(combed, format="rgb24").reformat(format="yuv422p")
        frames.append(frame)
    path = write(
        tmp_path / "fields.mpg", frames, "mpeg2video", "yuv422p", bit_rate=8_000_000,
        options={"flags": "+ildct+ilme", "alternate_scan": "1"},
    )  # fmt: skip
    clip = sample_clip(path, 1)
    pixels = np.asarray(clip.frames[0].image.image, int)[..., 0]
    if "interlaced" not in clip.note:
        pytest.skip("the encoder on this machine does not flag fields")
    assert np.abs(np.diff(pixels, axis=0)).max() < 60, "lines of two fields alternate"


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_damaged_frame_is_counted_though_the_decoder_paints_over_it(tmp_path: Path, codec: str) -> None:
    import av

    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(noise, 3 * k, 1)), format="rgb24") for k in range(30)
    ]
    path = write(tmp_path / "spoilt.mp4", frames, codec)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size, p.pts) for p in container.demux(video=0) if p.size and p.pos is not None]
    data = bytearray(path.read_bytes())
    for start, size, _ in places[5:7]:
        middle = start + size // 2
        data[middle : start + size] = (
            np.random.default_rng(1).integers(0, 256, start + size - middle, np.uint8).tobytes()
        )
    path.write_bytes(data)
    clip = sample_clip(path, 30)
    assert 1 <= clip.skipped <= 4
    assert len(clip.frames) + clip.skipped == 30


def test_a_spoilt_group_does_not_take_the_next_one_along(tmp_path: Path) -> None:
    path = spoil(make_clip(tmp_path / "spoilt.mp4", gop=5), [5])
    clip = sample_clip(path, 30)
    assert {*range(5), *range(10, 30)} <= {frame.index for frame in clip.frames}
    assert clip.skipped >= 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:02", 2), ("1:23", 83), ("1:02:03.5", 3723.5), (" 7 ", 7), ("2.5", 2.5), (4, 4), (0.5, 0.5)],
)
def test_times_are_numbers_or_minutes_and_seconds(text: object, seconds: float) -> None:
    assert read_time(text, "start") == seconds


@pytest.mark.parametrize("value", ["soon", "", "-1", "1:2:3:4", -1, float("nan"), True, [1], {"a": 1}])
def test_what_is_no_time_names_the_argument(tmp_path: Path, value: Any) -> None:
    path = make_clip(tmp_path / "clip.mp4", numbers=range(3))
    with pytest.raises(VideoError, match=r"^start must be a time from 0 on"):
        sample_clip(path, 1, start=value)
    with pytest.raises(VideoError, match=r"^end must be a time from 0 on"):
        sample_clip(path, 1, end=value)


def test_a_picture_is_not_told_of_notes_it_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "loop.webp"
    frames = [Image.fromarray(paint(number)) for number in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert sample_clip(path, 3).note == ""
