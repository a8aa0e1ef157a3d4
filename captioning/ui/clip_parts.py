"""A clip's parts on the page: the filmstrip, and the panels that say what its frames tell."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioning.attention.drawing import colour_table
from captioning.captions.clip_captions import Segment, Word, mark_changes
from captioning.core.standalone_page import to_base64
from captioning.core.types import PatchLayout, VideoFrame
from captioning.media.video import describe_duration
from captioning.models.helpers.summarizer import Summary
from captioning.serving.memory import ByteBoundedCache
from captioning.ui.parts import make_part, next_serial

PanelPhase = Literal["idle", "busy", "done", "stopped", "failed"]
_THUMBNAIL_SIDE = 200
_thumbnails = ByteBoundedCache[str](32 * 2**20)
"""Those made before, by picture: a panel that grows frame by frame shows each of its frames many times."""
_CLIPPED_SHARE = 98.5
"""Per cent of a word's attention values below the end of the scale: else one patch hides all others."""


@dataclass(frozen=True, slots=True)
class PanelState:
    """What the head of a panel says: whether its action can be taken, what is being done, and how far it is."""

    phase: PanelPhase = "idle"
    ready: bool = False
    doing: str = ""
    fraction: float | None = None
    message: str = ""

    def as_value(self, action: str, about: str) -> dict[str, Any]:
        """The part of a panel's value that all panels share."""
        return {
            "serial": next_serial(),
            "phase": self.phase,
            "ready": self.ready,
            "doing": self.doing,
            "fraction": self.fraction,
            "message": self.message,
            "action": action,
            "about": about,
        }


def make_filmstrip(elem_id: str) -> gr.HTML:
    """The row of frames, empty."""
    return make_part("video/filmstrip", film_value(()), elem_id)


def film_value(frames: Sequence[VideoFrame], repeats: Sequence[bool] = (), facts: str = "") -> dict[str, Any]:
    """What the filmstrip shows: every frame small, its time, and whether it differs little from the one before.

    It makes the small pictures, so that it belongs into a worker where there are frames.
    """
    marks = repeats or [False] * len(frames)
    return {
        "serial": next_serial(),
        "facts": facts,
        "frames": [
            {
                "src": thumbnail(frame),
                "time": describe_duration(frame.seconds),
                "seconds": frame.seconds,
                "repeat": repeat,
            }
            for frame, repeat in zip(frames, marks, strict=True)
        ],
    }


def describe_repeats(repeats: Sequence[bool]) -> str:
    """A few words on how many frames differ little from the one before; none where all differ."""
    count = sum(repeats)
    if not count:
        return ""
    if count == len(repeats) - 1:
        return "nothing moves: all frames look alike"
    return "1 repeat" if count == 1 else f"{count} repeats"


def make_frame_counts(elem_id: str) -> gr.HTML:
    """The panel on the number of frames; raises `panel_wanted` and `panel_stopped`, as all panels do."""
    return make_part("video/frame_counts", counts_value(PanelState()), elem_id)


def counts_value(state: PanelState, rows: Sequence[tuple[int, str]] = ()) -> dict[str, Any]:
    """What the panel shows: captions by number of frames, the words marked that are new against the line before."""
    before = [None, *(text for _, text in rows)]
    return state.as_value(
        "Find out", "The same clip captioned from few frames and from many; new words are marked."
    ) | {
        "rows": [
            {"count": count, "words": mark_changes(earlier, text)}
            for (count, text), earlier in zip(rows, before, strict=False)
        ]
    }


def make_timeline(elem_id: str) -> gr.HTML:
    """The panel with a caption for every frame."""
    return make_part("video/timeline", timeline_value(PanelState()), elem_id)


def timeline_value(state: PanelState, segments: Sequence[dict[str, Any]] = (), average: str = "") -> dict[str, Any]:
    """What the panel shows: segments as `describe_segments` has them, beside the caption of the `average` frame."""
    return state.as_value(
        "Caption every frame", "Each frame captioned by itself; neighbours that say the same become one segment."
    ) | {"average": average, "segments": list(segments)}


def describe_segments(segments: Sequence[Segment], frames: Sequence[VideoFrame]) -> list[dict[str, Any]]:
    """Segments in order, each with a small picture; those with the same caption have the same `kind`.

    Belongs into a worker.
    """
    kinds: dict[str, int] = {}
    return [
        {
            "start": segment.start,
            "end": segment.end,
            "time": f"{describe_duration(segment.start)} – {describe_duration(segment.end)}",
            "text": segment.text,
            "kind": kinds.setdefault(segment.text, len(kinds)),
            "src": thumbnail(frames[segment.frames[0]]),
        }
        for segment in segments
    ]


def make_summary(elem_id: str) -> gr.HTML:
    """The panel with a summary of the captions of all frames."""
    return make_part("video/summary", summary_value(PanelState()), elem_id)


def summary_value(state: PanelState, summary: Summary | None = None) -> dict[str, Any]:
    """What the panel shows: the summary, and who wrote it."""
    value = state.as_value(
        "Sum up", "Each frame captioned by itself, and all these captions summed up by the text model named above."
    )
    if summary is None:
        return value | {"text": "", "note": ""}
    left_out = f" · the last {summary.left_out} captions did not fit into it" if summary.left_out else ""
    return value | {"text": summary.text or "It wrote nothing.", "note": f"by {summary.model}{left_out}"}


def make_word_panel(elem_id: str) -> gr.HTML:
    """The panel on one word; also raises `word_wanted` with the number of a `word`."""
    return make_part("video/word_across", word_value(PanelState()), elem_id)


@dataclass(frozen=True, slots=True, eq=False)
class WordAcross:
    """A word on every frame: `maps [frames, patches]`, and `contributions [frames]` in nats."""

    frames: Sequence[VideoFrame]
    layout: PatchLayout
    maps: NDArray[np.float32]
    contributions: NDArray[np.float32]


def word_value(
    state: PanelState, words: Sequence[Word] = (), chosen: int = -1, frames: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """What the panel shows: the words to choose from, and the chosen one on frames as `describe_across` has them."""
    about = "Where each frame is looked at for a word, and what leaving the frame out would take from it."
    note = "" if words else "Caption a clip, and its words can be chosen here."
    if frames:
        note = (
            "Attention is the mean over layers and heads, on one scale for all frames. The number is how much the "
            "frame adds to the word’s log-probability: with the frame minus without it, in nats."
        )
    return state.as_value("", about if words else "") | {
        "words": [[word.text or "␣", word.is_prompt] for word in words],
        "chosen": chosen,
        "frames": list(frames),
        "colours": to_base64(colour_table().tobytes()),
        "note": note,
    }


def describe_across(across: WordAcross) -> list[dict[str, Any]]:
    """A word on every frame, on one scale. Belongs into a worker."""
    grid = across.layout.grid
    top = float(np.percentile(across.maps, _CLIPPED_SHARE)) or 1.0
    levels = (across.maps / top * 255).clip(0, 255).round().astype(np.uint8)
    boxes = across.layout.boxes
    region = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    return [
        {
            "src": thumbnail(frame),
            "time": describe_duration(frame.seconds),
            "grid": list(grid or (1, len(boxes))),
            "region": region,
            "map": to_base64(row.tobytes()),
            "contribution": round(float(added), 4),
        }
        for frame, row, added in zip(across.frames, levels, across.contributions, strict=True)
    ]


def thumbnail(frame: VideoFrame) -> str:
    """A small JPEG of a frame as a `data:` address, so that it needs no file of its own."""
    known = _thumbnails.get(frame.image.image_id)
    if known is None:
        small = frame.image.image.copy()
        small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=75)
        known = f"data:image/jpeg;base64,{to_base64(file.getvalue())}"
        _thumbnails.put(frame.image.image_id, known, len(known))
    return known
