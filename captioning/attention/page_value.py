"""The page value of the attention explorer, and the explorer as one HTML file that works without network.

The same scripts draw the page and the file from the same data: a JSON description, a picture, and the attention as
bytes. Each is sent once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from captioning.attention.drawing import COLOUR_MAPS, Brush, colour_table
from captioning.attention.views import (
    METHODS,
    TRACED,
    AttentionView,
    Head,
    Maps,
    Scale,
    entropy,
    image_share,
    map_tokens,
    methods_for,
    prefix_share,
    quantise,
    rescale,
    view_maps,
)
from captioning.captions.export import caption_record
from captioning.captions.words import word_groups
from captioning.core.contract import Captioner
from captioning.core.page_scripts import bundle_scripts
from captioning.core.standalone_page import make_page, to_base64
from captioning.core.types import Caption, CaptionTrace, ModelSpec, PatchLayout, Picture, plain_dict

CLIPPED_SHARE = 0.985
_SMALL_WORDS = " a an the of in on at with and is are to by its his her their some two "
_LONGEST_SIDE = 1280
_NOT_OFFERED = "not offered by this model"


def explorer_value(
    trace: CaptionTrace,
    spec: ModelSpec,
    picture: Picture,
    view: AttentionView,
    *,
    paint: Mapping[str, Any] | None = None,
    maps: Mapping[str, Maps] | None = None,
    importance: Mapping[tuple[int, ...], Maps] | None = None,
    on_demand: bool = False,
    look_id: str | None = None,
) -> dict[str, Any]:
    """Return the page value of `assets/attention/explorer.js` for a caption, without the picture and the weights.

    `view` is the view to open with, and `paint` the drawing settings: the position `chosen`, colours, opacity. `maps`
    has [tokens, patches] of methods beyond raw attention. `importance` has [layers, heads] of the words that were
    measured, by their positions. With `on_demand`, the page fetches the weights layer by layer. A new `look_id` makes
    the page open the explorer anew.
    """
    caption, layout = trace.caption, trace.layout
    layers, heads, _, patches = trace.image_attentions.shape
    width, height = picture.image.size
    offered = {method.name for method in methods_for(spec)}
    unmeasured = "" if view.measured else " · which map is best was not measured for this model"
    return {
        "id": look_id or identify(trace),
        "heading": f"{picture.title} · {spec.title}{unmeasured}",
        "name": picture.name,
        "model": spec.model_id,
        "revision": caption.revision,
        "kind": trace.kind,
        "tokens": [[token, round(lp, 4)] for token, lp in zip(caption.tokens, caption.log_probs, strict=True)],
        "words": [list(positions) for positions in word_groups(caption)],
        "num_prompt_tokens": caption.num_prompt_tokens,
        "layers": layers,
        "heads": heads,
        "patches": patches,
        "prefix": int(trace.prefix_attentions.any()),
        "width": width,
        "height": height,
        "grid": None if layout.grid is None else list(layout.grid),
        "region": [round(edge, 6) for edge in _covered_region(layout)],
        "boxes": [[round(edge, 5) for edge in box] for box in layout.boxes.tolist()],
        "methods": [
            {
                "name": method.name,
                "title": method.title,
                "source": method.source,
                "note": method.note,
                "off": "" if method.name in offered else _NOT_OFFERED,
            }
            for method in METHODS
        ],
        "maps": {name: pack_maps(several) for name, several in (maps or {}).items()},
        "importance": pack_importance(importance or {}),
        "view": {
            "method": view.method,
            "layer": view.layer,
            "head": view.head,
            "chosen": first_word(caption),
            **(paint or {}),
        },
        "colours": {name: to_base64(colour_table(name).tobytes()) for name in COLOUR_MAPS},
        "opacity": Brush().opacity,
        "on_demand": on_demand,
    }


def trace_document(
    captioner: Captioner,
    picture: Picture,
    caption: Caption,
    method: str = "attention",
    layer: int | None = None,
    head: Head = "mean",
    scale: Scale = "shared",
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Return a caption and the maps [tokens, patches] of one method as plain JSON, with the box of each patch.

    The scale "minimum" subtracts from each patch the least weight of all tokens. Shares and entropies (bits) have one
    number a token. `check` is called between tokens where each takes its own pass, and may raise `Stopped`. Raises what
    `map_tokens` raises.
    """
    (features,) = captioner.encode([picture])
    trace = captioner.trace(features, caption)
    traced = method in TRACED
    parts = []
    for position in [] if traced else range(len(caption.token_ids)):
        check()
        parts.append(map_tokens(captioner, picture, caption, method, positions=[position]))
    maps = view_maps(trace, AttentionView(method, layer, head), scale, np.concatenate(parts) if parts else None)
    return {
        "model": caption.model_id,
        "revision": caption.revision,
        "options": plain_dict(caption.options),
        "caption": caption_record(caption, picture.name) | {"num_prompt_tokens": caption.num_prompt_tokens},
        "method": method,
        "layer": layer if traced else None,
        "head": head if traced else None,
        "scale": scale,
        "kind": trace.kind,
        "grid": None if trace.layout.grid is None else list(trace.layout.grid),
        "boxes": [[round(edge, 6) for edge in box] for box in trace.layout.boxes.tolist()],
        "maps": [[float(f"{weight:.6g}") for weight in row] for row in maps.tolist()],
        "entropy": [round(bits, 4) for bits in entropy(maps).tolist()],
        "image_share": [round(share, 6) for share in image_share(trace, layer, head).tolist()] if traced else None,
        "prefix_share": [round(share, 6) for share in prefix_share(trace, layer, head).tolist()] if traced else None,
    }


def identify(trace: CaptionTrace) -> str:
    """Return an id of a model's caption of a picture, which is the same for the same caption."""
    caption = trace.caption
    facts = (caption.model_id, caption.revision, caption.image_id, caption.token_ids, caption.num_prompt_tokens)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def first_word(caption: Caption) -> int:
    """Return the position to open with: the first generated word that names something.

    It is the first generated token where all words are small ones, such as "the".
    """
    last = len(caption.tokens) - 1
    for position in range(caption.num_prompt_tokens, last + 1):
        if f" {caption.tokens[position].strip().lower()} " not in _SMALL_WORDS:
            return position
    return min(caption.num_prompt_tokens, last)


def pack_weights(trace: CaptionTrace) -> bytes:
    """Return all attention as bytes, [layers + 1, heads, tokens, patches]; the last layer is the mean of all others.

    Three little-endian float32 numbers come first for each row of patches: the value of one step of its bytes, the
    row's attention to the picture, and its attention to prefix tokens. The bytes follow.
    """
    weights, prefix = (
        np.concatenate((array, array.mean(axis=0, keepdims=True)))
        for array in (trace.image_attentions, trace.prefix_attentions)
    )
    rows, scales = quantise(weights)
    numbers = np.stack((scales / 255, weights.sum(axis=-1), prefix)).astype("<f4")
    return numbers.tobytes() + rows.tobytes()


def pack_maps(maps: Maps) -> dict[str, Any]:
    """Return maps [tokens, patches] as bytes, and the value of one step of the bytes for each token."""
    rows, scales = quantise(maps)
    return {"rows": to_base64(rows.tobytes()), "scales": [float(f"{scale / 255:.6g}") for scale in scales]}


def pack_importance(importance: Mapping[tuple[int, ...], Maps]) -> dict[str, list[list[float]]]:
    """Return the importance of heads [layers, heads], in nats, by the positions of the word, for JSON."""
    return {",".join(map(str, positions)): drops.round(5).tolist() for positions, drops in importance.items()}


def share_maps(maps: Maps, scale: Scale = "shared") -> Maps:
    """Return maps [tokens, patches], or [words, patches], in 0…1, as the explorer draws them.

    A scale that all maps share ends at the weight that 98.5 % of all weights lie below, so that one patch that draws
    every word does not hide the others.
    """
    if scale == "per_map":
        return rescale(maps, "per_map")
    ceiling = np.quantile(maps, CLIPPED_SHARE) or maps.max()
    return rescale(np.minimum(maps, ceiling))


def picture_file(picture: Picture) -> bytes:
    """Return the picture for the explorer: a JPEG of at most 1280 pixels a side."""
    image = picture.image.copy()
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()


def explorer_html(look: Mapping[str, Any], picture: bytes, weights: bytes) -> str:
    """Return the explorer as one HTML file that fetches nothing.

    `look` comes from `explorer_value`, `picture` from `picture_file`, `weights` from `pack_weights`.
    """
    methods = [_lock_missing_maps(method, look["maps"]) for method in look["methods"]]
    whole = {
        **look,
        "methods": methods,
        "on_demand": False,
        "picture": {"url": f"data:image/jpeg;base64,{to_base64(picture)}"},
        "weights_inline": to_base64(gzip.compress(weights, 6, mtime=0)),
    }
    value = {"serial": 1, "phase": "done", "message": "", "in_one_file": True, "look": whole}
    title = f"{look['name']} · Captionscope"
    return make_page(
        title,
        '<main class="cs-part"></main>',
        value,
        [bundle_scripts("common/part.js", "attention/explorer.js") + _START],
    )


def _lock_missing_maps(method: Mapping[str, str], maps: Mapping[str, Any]) -> dict[str, str]:
    """Return a method's entry, locked where the file does not hold its maps."""
    known = method["name"] in TRACED or method["name"] in maps
    return {**method, "off": "" if known else method["off"] or "not computed when this file was saved"}


def _covered_region(layout: PatchLayout) -> Sequence[float]:
    """Return the part of the picture that the patches cover: left, top, right, bottom."""
    lows, highs = layout.boxes.min(axis=0), layout.boxes.max(axis=0)
    return [float(edge) for edge in (lows[0], lows[1], highs[2], highs[3])]


# What Gradio gives to the script of a part, in a file of its own.
_START = """
const props = { value: JSON.parse(document.getElementById('cs-data').textContent) };
const context = { element: document.body, props, watch: () => {}, trigger: () => {} };
modules['attention/explorer.js'].mount(modules['common/part.js'].makePart(context));
"""
