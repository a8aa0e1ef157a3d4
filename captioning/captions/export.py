"""Captions as files that say how they came about: model, revision, options, seed and prompt."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from captioning.captions.words import caption_note
from captioning.core.errors import OptionsError
from captioning.core.formats import Format
from captioning.core.types import (
    Caption,
    DecodingOptions,
    VideoFrame,
    plain_dict,
)

if TYPE_CHECKING:
    from captioning.captions.clip_captions import Segment

_OPTION_NAMES = tuple(plain_dict(DecodingOptions()))
CSV_COLUMNS = ("image", "prompt", "text", "mean_log_prob", "seconds", "model", "revision", *_OPTION_NAMES)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def caption_record(caption: Caption, name: str) -> dict[str, Any]:
    """One caption of the picture called `name`, as JSON carries it; `log_probs` are in nats, one a token.

    `note` says what of the prompt the tokenizer does not know, and that nothing was added to it.
    """
    return {
        "image": name,
        "prompt": caption.prompt,
        "text": caption.text,
        "tokens": list(caption.tokens),
        "token_ids": list(caption.token_ids),
        "log_probs": list(caption.log_probs),
        "seconds": caption.seconds,
        "note": caption_note(caption),
    }


def captions_document(
    captions: Sequence[tuple[str, Caption]],
    model_id: str,
    revision: str | None,
    options: DecodingOptions,
    note: str = "",
) -> dict[str, Any]:
    """Named captions with the model, its revision and the options that made them; `errors` is empty.

    `note` is what there is to tell of the one picture or clip that they are about.
    """
    return {
        "model": model_id,
        "revision": revision,
        "options": plain_dict(options),
        "captions": [caption_record(caption, name) for name, caption in captions],
        "notes": [{"image": captions[0][0], "note": note}] if note and captions else [],
        "errors": [],
    }


def captions_to_json(captions: Sequence[tuple[str, Caption]]) -> str:
    """Named captions of one run, each with its alternatives, as an indented JSON document."""
    if not captions:
        return json.dumps({"captions": [], "errors": []}, indent=2)
    first = captions[0][1]
    document = captions_document(captions, first.model_id, first.revision, first.options)
    for record, (_, caption) in zip(document["captions"], captions, strict=True):
        record["num_prompt_tokens"] = caption.num_prompt_tokens
        record["mean_log_prob"] = caption.mean_log_prob
        record["alternatives"] = [[choice._asdict() for choice in choices] for choices in caption.alternatives]
    return json.dumps(document, ensure_ascii=False, indent=2)


def captions_to_csv(captions: Sequence[tuple[str, Caption]]) -> str:
    """Named captions as CSV, one a row, with the columns `CSV_COLUMNS`.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name, caption in captions:
        row = {
            "image": as_cell(name),
            "prompt": as_cell(caption.prompt),
            "text": as_cell(caption.text),
            "mean_log_prob": caption.mean_log_prob,
            "seconds": round(caption.seconds, 3),
            "model": as_cell(caption.model_id),
            "revision": caption.revision,
        }
        writer.writerow(row | plain_dict(caption.options))
    return file.getvalue()


FORMATS: tuple[Format[Sequence[tuple[str, Caption]]], ...] = (
    Format("json", "JSON", "captions.json", "captions and tokens", lambda named: captions_to_json(named).encode()),
    Format("csv", "CSV", "captions.csv", "captions for a spreadsheet", lambda named: captions_to_csv(named).encode()),
)
"""Every file that is made of named captions."""


def as_cell(cell: str) -> str:
    """Return a text for a CSV cell, with an apostrophe in front where a spreadsheet would run it as a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def frame_records(frames: Sequence[VideoFrame]) -> list[dict[str, Any]]:
    """Return the sampled frames of a clip as JSON: number in the clip and time in seconds."""
    return [{"index": frame.index, "seconds": round(frame.seconds, 6)} for frame in frames]


def segment_records(segments: Sequence[Segment], frames: Sequence[VideoFrame]) -> list[dict[str, Any]]:
    """Return a clip's segments as JSON: times in seconds, and the numbers of their frames in the clip."""
    return [
        {
            "start": round(segment.start, 6),
            "end": round(segment.end, 6),
            "text": segment.text,
            "frames": [frames[place].index for place in segment.frames],
        }
        for segment in segments
    ]


def segments_to_srt(segments: Sequence[Segment]) -> str:
    """Return a clip's segments as subtitles, without those that have no words."""
    blocks: list[str] = []
    for segment in segments:
        # An arrow would read as a line of times, and a blank line as the end of the block.
        text = " ".join(segment.text.split()).replace("-->", "→")
        if text:
            times = f"{_srt_time(segment.start)} --> {_srt_time(segment.end)}"
            blocks.append(f"{len(blocks) + 1}\n{times}\n{text}\n")
    return "\n".join(blocks)


def _srt_time(seconds: float) -> str:
    total = round(seconds * 1000)
    return f"{total // 3_600_000:02d}:{total // 60_000 % 60:02d}:{total // 1000 % 60:02d},{total % 1000:03d}"


@dataclass(frozen=True, slots=True)
class ClipCaptions:
    """The captions of a clip, with its sampled frames as `frame_records` has them, and no pictures.

    `segments` and their records are there once every frame was captioned by itself.
    """

    name: str
    captions: Sequence[Caption]
    options: DecodingOptions
    frames: Sequence[dict[str, Any]]
    seconds: float
    skipped: int = 0
    segments: Sequence[Segment] | None = None
    timeline: Sequence[dict[str, Any]] = ()
    note: str = ""


def clip_to_json(clip: ClipCaptions) -> str:
    """Return a clip's captions, its sampled frames and its timeline, if there is one, as an indented JSON document."""
    first = clip.captions[0]
    named = [(clip.name, caption) for caption in clip.captions]
    document = captions_document(named, first.model_id, first.revision, clip.options, clip.note)
    document |= {"frames": list(clip.frames), "seconds": clip.seconds, "skipped": clip.skipped}
    if clip.segments is not None:
        document["timeline"] = list(clip.timeline)
    return json.dumps(document, ensure_ascii=False, indent=2)


def _clip_to_srt(clip: ClipCaptions) -> str:
    if clip.segments is None:
        raise OptionsError("Subtitles need a caption for every frame; choose Caption every frame under Timeline first.")
    return segments_to_srt(clip.segments)


CLIP_FORMATS: tuple[Format[ClipCaptions], ...] = (
    Format("json", "JSON", "captions.json", "captions, frames and timeline", lambda clip: clip_to_json(clip).encode()),
    Format("srt", "SRT", "captions.srt", "subtitles", lambda clip: _clip_to_srt(clip).encode()),
)
"""Every file that is made of the captions of one clip."""
