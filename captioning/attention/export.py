"""A trace as files that say how it came about: everything as NumPy's arrays, or JSON that opens again."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioning.attention.views import AttentionView, Maps, to_grid
from captioning.core.errors import OptionsError
from captioning.core.types import Caption, CaptionTrace, DecodingOptions, PatchLayout, TokenAlternative, plain_dict

_TRACE_KIND = "captionscope trace"
_PACKED = "<f2"


@dataclass(frozen=True, slots=True, eq=False)
class SavedTrace:
    """A trace that was saved: of the picture called `image`, the view it was seen in, and how that was painted.

    `shown` holds what a page keeps beside the view (position, colours, opacity); it came from a file, so it has to be
    checked before use.
    """

    trace: CaptionTrace
    image: str
    view: AttentionView
    shown: Mapping[str, Any]


def trace_to_npz(trace: CaptionTrace, image: str, maps: Mapping[str, Maps] | None = None) -> bytes:
    """Return a trace of the picture called `image` as a compressed NPZ file.

    It holds `attentions [layers, heads, tokens, prefix + patches]` in one piece, whose first column is the prefix;
    `map_NAME [tokens, rows, columns]` for each of `maps` ([tokens, patches] where patches form no grid); `boxes`,
    `tokens`, `token_ids` and `log_probs` as in `CaptionTrace` and `Caption`; and in `about` the rest as JSON.
    """
    caption = trace.caption
    about = _about(trace, image) | {"grid": _grid(trace.layout), "kind": trace.kind}
    file = io.BytesIO()
    np.savez_compressed(
        file,
        attentions=_in_one_piece(trace),
        boxes=trace.layout.boxes,
        tokens=np.array(caption.tokens, np.str_),
        token_ids=np.array(caption.token_ids, np.int64),
        log_probs=np.array(caption.log_probs, np.float32),
        about=np.array(json.dumps(about, ensure_ascii=False)),
        allow_pickle=False,
        **{f"map_{name}": _in_rows(values, trace.layout) for name, values in (maps or {}).items()},
    )
    return file.getvalue()


def trace_to_json(
    trace: CaptionTrace, image: str, view: AttentionView, maps: Maps, shown: Mapping[str, Any] | None = None
) -> str:
    """Return a trace of the picture called `image` and its view as JSON, which `trace_from_json` opens again.

    `attentions` are in one piece as in NPZ, `shape` says how, in little-endian half precision and base64. `maps`
    [tokens, patches] are those of the view, written as plain rows of numbers.
    """
    caption = trace.caption
    attentions = _in_one_piece(trace)
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
        "shape": list(attentions.shape),
        "attentions": base64.b64encode(attentions.astype(_PACKED).tobytes()).decode(),
        "maps": _round(_in_rows(maps, trace.layout).tolist()),
    }
    return json.dumps(document, ensure_ascii=False)


def _in_one_piece(trace: CaptionTrace) -> NDArray[np.float32]:
    """Return all attention `[layers, heads, tokens, prefix + patches]`; the prefix is the first column."""
    whole: NDArray[np.float32] = np.concatenate((trace.prefix_attentions[..., None], trace.image_attentions), axis=-1)
    return whole


def _in_rows(maps: Maps, layout: PatchLayout) -> Maps:
    """Return maps `[tokens, rows, columns]`, or as they are where the patches form no grid."""
    return maps if layout.grid is None else to_grid(maps, layout)


def _round(values: Any) -> Any:
    """Return nested lists of numbers with six digits each."""
    return [_round(value) for value in values] if isinstance(values, list) else float(f"{values:.6g}")


def trace_from_json(text: str) -> SavedTrace:
    """Open what `trace_to_json` wrote. Raises `OptionsError` for anything else."""
    try:
        document = json.loads(text)
        if document["kind"] != _TRACE_KIND:
            raise ValueError(document["kind"])
        caption = _read_caption(document["caption"])
        grid = document["grid"] and (int(document["grid"][0]), int(document["grid"][1]))
        layout = PatchLayout(np.array(document["boxes"], np.float64), grid)
        packed = np.frombuffer(base64.b64decode(document["attentions"], validate=True), _PACKED)
        attentions = packed.reshape(*map(int, document["shape"])).astype(np.float32)
        if document["attention"] not in ("cross", "self") or not np.isfinite(attentions).all():
            raise ValueError(document["attention"])
        trace = CaptionTrace(caption, attentions[..., 1:], attentions[..., 0], document["attention"], layout)
        view = AttentionView(str(document["view"]["method"]), document["view"]["layer"], document["view"]["head"])
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
