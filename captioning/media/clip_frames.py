"""Frames of clips as pictures of a map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from captioning.core.settings import get_settings
from captioning.media.collection import Collection, NamedImage
from captioning.media.video import describe_duration, sample_clip

CLIP_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".3gp"})
CLIP_FRAMES = 48
_FRAME_SIDE = 720

OnStep = Callable[[int, int, str], None]
"""Hears how many steps are done, of how many, and the name of what is next. Raise `Stopped` from it to stop."""


def read_clip(path: Path, name: str, into: Path, on_step: OnStep) -> Collection:
    """Write evenly spaced frames of a clip to the folder `into`: pictures that are named by their times."""
    most = min(CLIP_FRAMES, get_settings().video_frames)

    def on_frame(done: int, total: int) -> None:
        on_step(done, total, f"frames of {name}")

    clip = sample_clip(path, most, max_side=_FRAME_SIDE, name=name, on_frame=on_frame)
    images = []
    for number, frame in enumerate(clip.frames):
        file = into / f"{number:04d}.png"
        frame.image.image.save(file, "PNG", compress_level=1)
        images.append(NamedImage(f"{name} {describe_duration(frame.seconds)}", file, folder=name))
    return Collection(tuple(images))
