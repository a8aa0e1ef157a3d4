"""A trace as files that say how it came about: everything as NumPy's arrays, or JSON that opens again."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from captioning.attention.views import Maps, View, quantise, restore
from captioning.core.errors import OptionsError
from captioning.core.types import Caption, CaptionTrace, DecodingOptions, PatchLayout, TokenAlternative, plain_dict

_TRACE_KIND = "captionscope trace"


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
