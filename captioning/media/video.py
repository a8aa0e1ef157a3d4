"""A clip → evenly spaced frames with their times, or one clear sentence."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import numpy as np

from captioning.core.errors import VideoError
from captioning.core.settings import get_settings
from captioning.core.types import VideoFrame
from captioning.media.clip_index import ClipIndex, OnFrame, index_clip
from captioning.media.frame_readers import Backend, read_frames

DEFAULT_FRAMES = 16
_TIME = re.compile(r"(?:\d{1,6}:){0,2}\d{1,9}(?:\.\d{0,9})?", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames sampled from `start` to `end` of a clip, in seconds.

    `skipped` counts frames that were wanted and could not be decoded; `backend` says who decoded; `note` tells of
    what is not plain.
    """

    index: ClipIndex
    start: float
    end: float
    frames: tuple[VideoFrame, ...]
    skipped: int
    backend: str
    note: str = ""


def clip_note(index: ClipIndex, note: str = "") -> str:
    """Return what a clip and its reader have to tell, in a few words; nothing where all is plain."""
    return "; ".join(filter(None, (index.display.note, note)))


def sample_frames(
    path: str | os.PathLike[str],
    count: int = DEFAULT_FRAMES,
    start: float | str | None = None,
    end: float | str | None = None,
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
    start: float | str | None = None,
    end: float | str | None = None,
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
    read = read_frames(index, wanted, max_side=max_side, backend=backend, on_frame=on_frame)
    skipped = len(wanted) - len(read.frames)
    return Clip(index, begin, finish, read.frames, skipped, read.backend, clip_note(index, read.note))


def read_time(value: object, argument: str) -> float:
    """Return a time in seconds: a number, or text like `83`, `1:23` or `0:01:23.5`. Raises `VideoError`."""
    if isinstance(value, str) and _TIME.fullmatch(value.strip()):
        seconds = 0.0
        for part in value.strip().split(":"):
            seconds = 60 * seconds + float(part)
        return seconds
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    raise VideoError(
        f"{argument} must be a time from 0 on, in seconds or as minutes and seconds (1:23), not {str(value)[:40]!r}."
    )


def check_range(index: ClipIndex, start: float | str | None, end: float | str | None) -> tuple[float, float]:
    """Begin and end in seconds, within the clip's pictures. Raises `VideoError` where nothing lies between them."""
    first = float(index.seconds[0])
    begin = max(first, 0.0 if start is None else read_time(start, "start"))
    finish = index.duration if end is None else min(read_time(end, "end"), index.duration)
    if begin >= index.duration:
        raise VideoError(f"{index.name} is {index.duration:.2f} s long; start before that, not at {begin:g} s.")
    if finish <= begin and begin == first > 0:
        raise VideoError(f"The pictures of {index.name} begin at {first:.2f} s; end after that, not at {finish:g} s.")
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
