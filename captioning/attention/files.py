"""Where a model looked, as a folder of files: a picture a word, all words together, a walk, the numbers, a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captioning.attention.drawing import Brush, overlay, shrink, to_png, token_grid, walk_gif
from captioning.attention.export import trace_to_json, trace_to_npz
from captioning.attention.page_value import (
    explorer_html,
    first_word,
    look_value,
    pack_weights,
    picture_file,
    shown_maps,
)
from captioning.attention.views import TRACED, Head, Maps, Scale, View, check_positions, default_view, map_tokens
from captioning.captions.words import word_groups, word_text
from captioning.core.contract import Captioner
from captioning.core.errors import OptionsError
from captioning.core.types import Caption, CaptionTrace, ModelSpec, Picture
from captioning.core.whole_files import write_whole


@dataclass(frozen=True, slots=True)
class Paint:
    """How maps are drawn: the scale of their values, and the brush."""

    scale: Scale = "shared"
    brush: Brush = field(default_factory=Brush)


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A caption's trace and the maps `[tokens, patches]` of all its tokens, which share a scale, in one view."""

    picture: Picture
    spec: ModelSpec
    trace: CaptionTrace
    view: View
    maps: Maps


def choose_view(spec: ModelSpec, method: str | None, layer: int | str | None, head: int | str | None) -> View:
    """The view that measured best for a model, changed where something was asked for; layer "mean" is all of them.

    Raises `OptionsError` where layer or head belong to no method that has them.
    """
    first = default_view(spec)
    if method is None and layer is None and head is None:
        return first
    chosen = method or (first.method if first.method in TRACED else "attention")
    base = first if chosen == first.method else View(chosen)
    if chosen not in TRACED and (layer is not None or head is not None):
        raise OptionsError(f"{chosen} has no layers and heads to choose from; leave them out, or take attention.")
    return View(
        chosen, _asked_layer(layer, base), _asked_head(head, base), base.measured and (layer, head) == (None, None)
    )


def _asked_layer(layer: int | str | None, base: View) -> int | None:
    if isinstance(layer, str):
        if layer != "mean":
            raise OptionsError(f"There is no layer {layer!r}; choose a number from 0 on, or mean.")
        return None
    return base.layer if layer is None else layer


def _asked_head(head: int | str | None, base: View) -> Head:
    if head is None:
        return base.head
    if isinstance(head, str) and head not in ("mean", "max"):
        raise OptionsError(f"There is no head {head!r}; choose a number from 0 on, mean or max.")
    return "max" if head == "max" else "mean" if isinstance(head, str) else head


def find_positions(caption: Caption, word: str | None, position: int | None) -> tuple[int, ...]:
    """The positions of a word wherever it stands, or of one token, or of all.

    Raises `OptionsError` for a word or a position that the caption does not have.
    """
    if position is not None:
        return tuple(check_positions(caption, [position]))
    if word is None:
        return tuple(range(len(caption.token_ids)))
    groups = {group: word_text(caption, group) for group in word_groups(caption)}
    found = [at for group, text in groups.items() if text.casefold() == word.strip().casefold() for at in group]
    if not found:
        raise OptionsError(
            f"The caption has no word {word!r}; choose from {', '.join(dict.fromkeys(groups.values()))}."
        )
    return tuple(found)


def look(captioner: Captioner, picture: Picture, caption: Caption, view: View) -> Sight:
    """Trace a caption and map all its tokens. Raises what `trace` and `map_tokens` raise."""
    (features,) = captioner.encode([picture])
    trace = captioner.trace(features, caption)
    maps = map_tokens(captioner, picture, caption, view.method, view.layer, view.head)
    return Sight(picture, captioner.spec, trace, view, maps)


def write_files(sight: Sight, paint: Paint, folder: Path, positions: Sequence[int]) -> list[Path]:
    """Write a PNG a token, `grid.png`, `walk.gif`, `trace.npz`, `trace.json` and `explorer.html`; which ones.

    Pictures are of the tokens at `positions`, on the scale of all; numbers and page hold every token.
    Raises `OSError` where the folder cannot be written.
    """
    caption, layout = sight.trace.caption, sight.trace.layout
    labels = [caption.tokens[position].strip() for position in positions]
    shown = shown_maps(sight.trace, sight.view, paint.scale, computed=sight.maps)[list(positions)]
    opens = _opens_with(caption, paint, positions)
    picture = shrink(sight.picture)
    own = [
        (f"{position:02d}-{_slug(label)}.png", lambda heat=heat: to_png(overlay(picture, heat, layout, paint.brush)))
        for position, label, heat in zip(positions, labels, shown, strict=True)
    ]
    files: list[tuple[str, Callable[[], bytes]]] = [
        *own,
        ("grid.png", lambda: to_png(token_grid(picture, shown, labels, layout, paint.brush))),
        ("walk.gif", lambda: walk_gif(picture, shown, labels, layout, paint.brush)),
        ("trace.npz", lambda: trace_to_npz(sight.trace, sight.picture.name, {sight.view.method: sight.maps})),
        ("trace.json", lambda: trace_to_json(sight.trace, sight.picture.name, sight.view, opens).encode()),
        ("explorer.html", lambda: _explorer(sight, opens).encode()),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in files:
        write_whole(folder / name, make())
    return [folder / name for name, _ in files]


def _opens_with(caption: Caption, paint: Paint, positions: Sequence[int]) -> dict[str, Any]:
    """How the files open as a page: painted as they are, on the word that was asked for."""
    return {
        "chosen": positions[0] if len(positions) < len(caption.token_ids) else first_word(caption),
        "scaling": paint.scale,
        "colours": paint.brush.colour_map,
        "opacity": paint.brush.opacity,
        "smooth": paint.brush.smooth,
        "merged": False,
        "mode": "overlay",
    }


def _explorer(sight: Sight, opens: Mapping[str, Any]) -> str:
    maps = {} if sight.view.method in TRACED else {sight.view.method: sight.maps}
    value = look_value(sight.trace, sight.spec, sight.picture, sight.view, paint=opens, maps=maps)
    return explorer_html(value, picture_file(sight.picture), pack_weights(sight.trace))


def _slug(label: str) -> str:
    """A token as part of a file name on any system."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "token"
