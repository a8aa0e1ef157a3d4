"""A clip → evenly spaced frames with their times, or one clear sentence."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from captioning.core.errors import VideoError
from captioning.core.settings import get_settings
from captioning.core.types import VideoFrame

if TYPE_CHECKING:
    pass

from captioning.media.clip_index import ClipIndex, OnFrame, index_clip
from captioning.media.frame_readers import Backend, read_frames

DEFAULT_FRAMES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames sampled from `start` to `end` of a clip, in seconds.

    `skipped` counts frames that were wanted and could not be decoded; `backend` says who decoded.
    """

    index: ClipIndex
    start: float
    end: float
    frames: tuple[VideoFrame, ...]
    skipped: int
    backend: str


def sample_frames(
    path: str | os.PathLike[str],
    count: int = DEFAULT_FRAMES,
    start: float | None = None,
    end: float | None = None,
    *,
    max_side: int | None = None,
    backend: Backend = "auto",
    on_frame: OnFrame | None = None,
) -> tuple[VideoFrame, ...]:
    """The frames shown at the middles of `count` equal segments between `start` and `end`, in seconds.

    One frame is the one in the middle. A clip of fewer frames gives each of them once. Frames come upright, their
    longer side at most `max_side` pixels. Raises `VideoError` for what is no clip, is damaged, or is beyond the limits.
    """
    return sample_clip(path, count, start, end, max_side=max_side, backend=backend, on_frame=on_frame).frames


def sample_clip(
    path: str | os.PathLike[str],
    count: int = DEFAULT_FRAMES,
    start: float | None = None,
    end: float | None = None,
    *,
    max_side: int | None = None,
    backend: Backend = "auto",
    name: str | None = None,
    on_frame: OnFrame | None = None,
) -> Clip:
    """Like `sample_frames`, together with what was found out about the clip."""
    index = index_clip(path, name, on_frame)
    begin, finish = check_range(index, start, end)
    wanted = choose_frames(index, count, begin, finish)
    frames, used = read_frames(index, wanted, max_side=max_side, backend=backend, on_frame=on_frame)
    return Clip(index, begin, finish, frames, len(wanted) - len(frames), used)


def check_range(index: ClipIndex, start: float | None, end: float | None) -> tuple[float, float]:
    """Begin and end in seconds, within the clip. Raises `VideoError` where nothing lies between them."""
    begin = 0.0 if start is None else float(start)
    finish = index.duration if end is None else min(float(end), index.duration)
    if not (np.isfinite(begin) and np.isfinite(finish)) or begin < 0:
        raise VideoError("Start and end must be times in seconds, from 0 on.")
    if begin >= index.duration:
        raise VideoError(f"{index.name} is {index.duration:.2f} s long; start before that, not at {begin:g} s.")
    if finish <= begin:
        raise VideoError(f"The end ({finish:g} s) must come after the start ({begin:g} s).")
    return begin, finish


def choose_frames(index: ClipIndex, count: int, start: float, end: float) -> list[int]:
    """Numbers of the frames shown at the middles of `count` equal segments, each once, in order.

    Raises `VideoError` where `count` is out of range.
    """
    most = get_settings().video_frames
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise VideoError(f"The number of frames must be a whole number between 1 and {most}, not {count!r}.")
    times = start + (np.arange(count) + 0.5) * ((end - start) / count)
    # Half a microsecond: times that are equal on paper differ in their last bits.
    shown = np.searchsorted(index.seconds, times + 5e-7, side="right") - 1
    return sorted({int(number) for number in shown.clip(0, len(index) - 1)})


def describe_duration(seconds: float) -> str:
    """A time within a clip, as minutes and seconds: `0:07.5`."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
