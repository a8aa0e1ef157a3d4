"""An animated picture (GIF, WebP, PNG) → an MP4 that a browser's player shows; every frame keeps its time."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from captioning.core.errors import VideoError
from captioning.core.whole_files import whole_file
from captioning.media.clip_index import OnFrame, index_clip
from captioning.media.frame_readers import fit_size, read_frames

_UNIT = Fraction(1, 1000)
_LONGEST_SIDE = 1280
_CHUNK = 32
"""Frames held in memory at a time."""


def animation_to_mp4(path: str | os.PathLike[str], out: Path, on_frame: OnFrame | None = None) -> None:
    """Write an animated picture as H.264 to `out`, at most 1,280 pixels wide or high.

    Raises `VideoError` for what does not move or cannot be read; then, and where `on_frame` raises, nothing is left.
    """
    import av

    index = index_clip(path, on_frame=on_frame)
    try:
        with whole_file(out) as partial, av.open(str(partial.absolute()), "w", format="mp4") as container:
            stream = container.add_stream("libx264", options={"crf": "16", "preset": "veryfast"})
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _UNIT
            # The encoder wants even sides.
            sides = fit_size(index.size, _LONGEST_SIDE)
            stream.width, stream.height = (max(2, side - side % 2) for side in sides)
            for start in range(0, len(index), _CHUNK):
                numbers = range(start, min(start + _CHUNK, len(index)))
                for frame in read_frames(index, numbers, max_side=_LONGEST_SIDE).frames:
                    picture = av.VideoFrame.from_ndarray(np.asarray(frame.image.image), format="rgb24")
                    picture.pts, picture.time_base = round(frame.seconds / _UNIT), _UNIT
                    container.mux(stream.encode(picture))
                    if on_frame is not None:
                        on_frame(frame.index + 1, len(index))
            container.mux(stream.encode())
    except av.error.FFmpegError as error:
        raise VideoError(f"{index.name} cannot be turned into a clip for the player ({error.strerror}).") from error
