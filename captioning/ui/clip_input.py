"""Clips that go in: sample clips one click away."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from PIL import ImageOps

from captioning.core.errors import VideoError
from captioning.media.video import sample_frames
from captioning.ui.parts import make_part
from captioning.ui.picture import Sample, describe_samples

_THUMBNAIL_SIZE = (192, 108)


@cache
def list_clips() -> tuple[Sample, ...]:
    """Those sample clips that are on this machine."""
    folder = Path(gr.__file__).parent / "media_assets" / "videos"
    known = (
        Sample("world.mp4", "The earth at night turns in space", folder / "world.mp4"),
        Sample("a.mp4", "The words “Thanks for watching” build up on grey", folder / "a.mp4"),
    )
    return tuple(sample for sample in known if sample.path.is_file())


def make_clip_strip(elem_id: str) -> gr.HTML:
    """Small frames to click; raises the event `sample_chosen`, which `chosen_clip` understands."""
    return make_part("video/clip_samples", describe_samples(list_clips(), "Sample clips"), elem_id)


def chosen_clip(event: gr.EventData, cache_folder: str) -> str:
    """The file of the clip that was clicked, copied to where the page may read it. Raises `VideoError`."""
    name = getattr(event, "name", None)
    for clip in list_clips():
        if clip.name == name:
            return str(save_file_to_cache(clip.path, cache_folder))
    raise VideoError("There is no such clip; choose one of those shown.")


@cache
def clip_thumbnail(path: Path) -> bytes:
    """Return a small JPEG of the frame at the clip's middle."""
    (frame,) = sample_frames(path, 1, max_side=320)
    file = io.BytesIO()
    ImageOps.fit(frame.image.image, _THUMBNAIL_SIZE).save(file, "JPEG", quality=80)
    return file.getvalue()
