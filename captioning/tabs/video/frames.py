"""Frames of clips that were read before, so that another count or range decodes only what is new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from captioning.captions.clip_captions import (
    frame_side,
)
from captioning.core.errors import VideoError
from captioning.core.types import VideoFrame
from captioning.media.clip_index import ClipIndex, index_clip
from captioning.media.frame_readers import read_frames
from captioning.media.video import Clip, check_range, choose_frames, clip_note
from captioning.serving.memory import ByteBoundedCache
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.tabs.video.asked import Asked

_FRAME_BYTES = 256 * 2**20


class FrameStore:
    """Frames that were read before, by file, number and size; thread-safe, and bounded in bytes."""

    def __init__(self, max_bytes: int = _FRAME_BYTES) -> None:
        self._frames = ByteBoundedCache[VideoFrame](max_bytes)
        self._indices = ByteBoundedCache[ClipIndex](2**24)

    def index(self, path: str, check: Callable[..., None]) -> ClipIndex:
        """When each frame of a clip is shown."""
        key = self._key(path)
        known = self._indices.get(key)
        if known is None:
            known = index_clip(path, on_frame=check)
            self._indices.put(key, known, 16 * len(known))
        return known

    def sample(
        self, asked: Asked, captioner: SharedCaptioner, on_frame: Callable[[int, int], None], count: int | None = None
    ) -> Clip:
        """Evenly spaced frames of what was asked for; only those that nobody read before are decoded."""
        index = self.index(asked.path, on_frame)
        start, end = check_range(index, asked.start, asked.end)
        wanted = choose_frames(index, count or asked.count, start, end)
        side = frame_side(captioner)
        key = self._key(asked.path)
        known = {number: self._frames.get((key, number, side)) for number in wanted}
        missing = [number for number, frame in known.items() if frame is None]
        used = note = ""
        if missing:
            read = read_frames(index, missing, max_side=side, on_frame=on_frame)
            used, note = read.backend, read.note
            for frame in read.frames:
                width, height = frame.image.image.size
                self._frames.put((key, frame.index, side), frame, 3 * width * height)
                known[frame.index] = frame
        frames = tuple(frame for frame in known.values() if frame is not None)
        return Clip(index, start, end, frames, len(wanted) - len(frames), used, clip_note(index, note))

    def _key(self, path: str) -> tuple[str, int, int]:
        try:
            about = Path(path).stat()
        except OSError as error:
            raise VideoError("The clip is not there any more; choose it again.") from error
        return path, about.st_size, about.st_mtime_ns
