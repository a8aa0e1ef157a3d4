"""Captions and attention as files that say how they came about: model, revision, options, seed and prompt."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from captioning.attention import Maps, View, quantise, restore
from captioning.errors import OptionsError
from captioning.types import (
    Caption,
    CaptionTrace,
    DecodingOptions,
    PatchLayout,
    TokenAlternative,
    VideoFrame,
    plain_dict,
)

if TYPE_CHECKING:
    from captioning.clip import Segment

_OPTION_NAMES = tuple(plain_dict(DecodingOptions()))
CSV_COLUMNS = ("image", "prompt", "text", "mean_log_prob", "seconds", "model", "revision", *_OPTION_NAMES)
_TRACE_KIND = "captionscope trace"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def caption_record(caption: Caption, name: str) -> dict[str, Any]:
    """One caption of the picture called `name`, as JSON carries it; `log_probs` are in nats, one a token."""
    return {
        "image": name,
        "prompt": caption.prompt,
        "text": caption.text,
        "tokens": list(caption.tokens),
        "token_ids": list(caption.token_ids),
        "log_probs": list(caption.log_probs),
        "seconds": caption.seconds,
    }


def captions_document(
    captions: Sequence[tuple[str, Caption]], model_id: str, revision: str | None, options: DecodingOptions
) -> dict[str, Any]:
    """Named captions with the model, its revision and the options that made them; `errors` is empty."""
    return {
        "model": model_id,
        "revision": revision,
        "options": plain_dict(options),
        "captions": [caption_record(caption, name) for name, caption in captions],
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


def as_cell(cell: str) -> str:
    """A text for a cell of a CSV file, with an apostrophe in front where a spreadsheet would run it as a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def frame_records(frames: Sequence[VideoFrame]) -> list[dict[str, Any]]:
    """The sampled frames of a clip, as JSON carries them: number in the clip and time in seconds."""
    return [{"index": frame.index, "seconds": round(frame.seconds, 6)} for frame in frames]


def segment_records(segments: Sequence[Segment], frames: Sequence[VideoFrame]) -> list[dict[str, Any]]:
    """A clip's segments, as JSON carries them: times in seconds, and the numbers of their frames in the clip."""
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
    """A clip's segments as subtitles; one without words is left out."""
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


@dataclass(frozen=True, slots=True, eq=False)
class SavedTrace:
    """A trace that was saved: of the picture called `image`, the view it was seen in, and how that was painted.

    `shown` holds what a page keeps beside the view (position, colours, opacity); it came from a file, so it has to be
    checked before use.
    """

    trace: CaptionTrace
    image: str
    view: View
    shown: Mapping[str, Any]


def trace_to_npz(trace: CaptionTrace, image: str, maps: Mapping[str, Maps] | None = None) -> bytes:
    """A trace of the picture called `image` as a compressed NPZ file.

    It holds `image_attentions`, `prefix_attentions`, `boxes`, `tokens`, `token_ids` and `log_probs` as in
    `CaptionTrace` and `Caption`, `map_NAME [tokens, patches]` for each of `maps`, and in `about` the rest as JSON.
    """
    caption = trace.caption
    about = _about(trace, image) | {"grid": _grid(trace.layout), "kind": trace.kind}
    file = io.BytesIO()
    np.savez_compressed(
        file,
        image_attentions=trace.image_attentions,
        prefix_attentions=trace.prefix_attentions,
        boxes=trace.layout.boxes,
        tokens=np.array(caption.tokens, np.str_),
        token_ids=np.array(caption.token_ids, np.int64),
        log_probs=np.array(caption.log_probs, np.float32),
        about=np.array(json.dumps(about, ensure_ascii=False)),
        allow_pickle=False,
        **{f"map_{name}": values for name, values in (maps or {}).items()},
    )
    return file.getvalue()


def trace_to_json(trace: CaptionTrace, image: str, view: View, shown: Mapping[str, Any] | None = None) -> str:
    """A trace of the picture called `image` and the view of it, as JSON that `trace_from_json` opens again.

    Weights are kept in a byte each, to within half of 1/255 of the largest in their row.
    """
    caption = trace.caption
    levels, largest = quantise(trace.image_attentions)
    document = {
        "kind": _TRACE_KIND,
        "caption": _about(trace, image)
        | {
            "token_ids": list(caption.token_ids),
            "tokens": list(caption.tokens),
            "log_probs": list(caption.log_probs),
            "alternatives": [[list(choice) for choice in choices] for choices in caption.alternatives],
        },
        "view": {"method": view.method, "layer": view.layer, "head": view.head},
        "shown": dict(shown or {}),
        "attention": trace.kind,
        "grid": _grid(trace.layout),
        "boxes": [[round(edge, 9) for edge in box] for box in trace.layout.boxes.tolist()],
        "shape": list(levels.shape),
        "weights": _pack(levels),
        "largest": _pack(largest.astype("<f4")),
        "prefix": _pack(trace.prefix_attentions.astype("<f4")),
    }
    return json.dumps(document, ensure_ascii=False)


def trace_from_json(text: str) -> SavedTrace:
    """Open what `trace_to_json` wrote. Raises `OptionsError` for anything else."""
    try:
        document = json.loads(text)
        if document["kind"] != _TRACE_KIND:
            raise ValueError(document["kind"])
        caption = _read_caption(document["caption"])
        grid = document["grid"] and (int(document["grid"][0]), int(document["grid"][1]))
        layout = PatchLayout(np.array(document["boxes"], np.float64), grid)
        layers, heads, tokens, patches = map(int, document["shape"])
        rows = (layers, heads, tokens)
        weights = _unpack(document["weights"], np.uint8, (*rows, patches))
        largest, prefix = (_unpack(document[name], "<f4", rows) for name in ("largest", "prefix"))
        if document["attention"] not in ("cross", "self") or not np.isfinite((largest, prefix)).all():
            raise ValueError(document["attention"])
        trace = CaptionTrace(caption, restore(weights, largest), prefix, document["attention"], layout)
        view = View(str(document["view"]["method"]), document["view"]["layer"], document["view"]["head"])
        return SavedTrace(trace, str(document["caption"]["image"]), view, dict(document["shown"]))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, OptionsError) as error:
        raise OptionsError("That file is no saved view; choose a JSON file that the explorer wrote.") from error


def _about(trace: CaptionTrace, image: str) -> dict[str, Any]:
    caption = trace.caption
    return {
        "model": caption.model_id,
        "revision": caption.revision,
        "image": image,
        "image_id": caption.image_id,
        "prompt": caption.prompt,
        "num_prompt_tokens": caption.num_prompt_tokens,
        "text": caption.text,
        "options": plain_dict(caption.options),
        "seconds": caption.seconds,
    }


def _read_caption(values: Mapping[str, Any]) -> Caption:
    return Caption(
        model_id=str(values["model"]),
        revision=str(values["revision"]),
        image_id=str(values["image_id"]),
        prompt=str(values["prompt"]),
        options=DecodingOptions(**values["options"]),
        text=str(values["text"]),
        token_ids=tuple(int(token_id) for token_id in values["token_ids"]),
        tokens=tuple(str(token) for token in values["tokens"]),
        num_prompt_tokens=int(values["num_prompt_tokens"]),
        log_probs=tuple(float(log_prob) for log_prob in values["log_probs"]),
        alternatives=tuple(
            tuple(TokenAlternative(int(token_id), str(token), float(log_prob)) for token_id, token, log_prob in choices)
            for choices in values["alternatives"]
        ),
        seconds=float(values["seconds"]),
    )


def _grid(layout: PatchLayout) -> list[int] | None:
    return None if layout.grid is None else list(layout.grid)


def _pack(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _unpack(text: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    values: NDArray[Any] = np.frombuffer(base64.b64decode(text, validate=True), dtype).reshape(shape)
    return values
