"""Attention as files, for the command and the page: one map, all maps, a GIF, arrays, a saved view, the explorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from captioning.attention.drawing import Brush, paint_map, shrink, to_png, token_grid, walk_gif
from captioning.attention.export import trace_to_json, trace_to_npz
from captioning.attention.page_value import (
    explorer_html,
    explorer_value,
    first_word,
    pack_weights,
    picture_file,
    share_maps,
)
from captioning.attention.views import TRACED, AttentionView, Maps, Scale, merge_words, view_maps
from captioning.captions.words import word_groups, word_text
from captioning.core.formats import Format
from captioning.core.types import CaptionTrace, ModelSpec, Picture


@dataclass(frozen=True, slots=True)
class Paint:
    """The drawing settings: the scale of the maps, the brush, and whether a word's tokens share one map."""

    scale: Scale = "shared"
    brush: Brush = field(default_factory=Brush)
    merged: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A caption's trace with one view and one painting: the input of every file format.

    `computed` holds maps [tokens, patches] of methods that a trace lacks. `importance` holds [layers, heads] of words,
    by their positions. Pictures show the tokens at `positions`, or all where that is `None`, on the scale of all
    tokens. `chosen` is the position that pages open with, and that the single picture shows.
    """

    picture: Picture
    spec: ModelSpec
    trace: CaptionTrace
    view: AttentionView
    paint: Paint
    computed: Mapping[str, Maps] = field(default_factory=dict)
    importance: Mapping[tuple[int, ...], Maps] = field(default_factory=dict)
    positions: Sequence[int] | None = None
    chosen: int | None = None

    @property
    def opens_at(self) -> int:
        """Return the position that pages open with."""
        if self.chosen is not None:
            return self.chosen
        return first_word(self.trace.caption) if self.positions is None else self.positions[0]

    def maps(self, method: str) -> Maps:
        """Return the maps [tokens, patches] of a method before scaling.

        The scale "minimum" subtracts from each patch the least weight of all tokens.
        """
        view = self.view if method == self.view.method else AttentionView(method)
        return view_maps(self.trace, view, self.paint.scale, self.computed.get(method))


class DrawnWord(NamedTuple):
    """A word or token with its positions and its map [patches] in 0…1."""

    label: str
    positions: tuple[int, ...]
    heat: Maps


def draw_words(scene: Scene) -> list[DrawnWord]:
    """Return the scene's words or tokens that pictures show, with their maps on the scale of all."""
    caption = scene.trace.caption
    maps = scene.maps(scene.view.method)
    groups: tuple[tuple[int, ...], ...] = tuple((position,) for position in range(len(caption.token_ids)))
    if scene.paint.merged:
        groups = word_groups(caption)
        maps = merge_words(maps, groups)
    wanted = set(range(len(caption.token_ids)) if scene.positions is None else scene.positions)
    shown = zip(groups, share_maps(maps, scene.paint.scale), strict=True)
    return [DrawnWord(word_text(caption, group), group, heat) for group, heat in shown if wanted.intersection(group)]


def draw_word(scene: Scene, word: DrawnWord) -> bytes:
    """Return a PNG of one word's map."""
    return to_png(paint_map(shrink(scene.picture), word.heat, scene.trace.layout, scene.paint.brush))


def _one_map(scene: Scene) -> bytes:
    return draw_word(scene, next(word for word in draw_words(scene) if scene.opens_at in word.positions))


def _all_maps(scene: Scene) -> bytes:
    labels, _, maps = zip(*draw_words(scene), strict=True)
    return to_png(token_grid(scene.picture, maps, labels, scene.trace.layout, scene.paint.brush))


def _walk(scene: Scene) -> bytes:
    labels, _, maps = zip(*draw_words(scene), strict=True)
    return walk_gif(scene.picture, maps, labels, scene.trace.layout, scene.paint.brush)


def _numbers(scene: Scene) -> bytes:
    methods = dict.fromkeys((scene.view.method, *scene.computed))
    return trace_to_npz(scene.trace, scene.picture.name, {method: scene.maps(method) for method in methods})


def _saved_view(scene: Scene) -> bytes:
    maps = scene.maps(scene.view.method)
    return trace_to_json(scene.trace, scene.picture.name, scene.view, maps, describe_paint(scene)).encode()


def _one_file_explorer(scene: Scene) -> bytes:
    look = explorer_value(
        scene.trace,
        scene.spec,
        scene.picture,
        scene.view,
        paint=describe_paint(scene),
        maps={name: maps for name, maps in scene.computed.items() if name not in TRACED},
        importance=scene.importance,
    )
    return explorer_html(look, picture_file(scene.picture), pack_weights(scene.trace)).encode()


def describe_paint(scene: Scene) -> dict[str, Any]:
    """Return the settings that a page opens the scene with: the position and the drawing settings."""
    brush = scene.paint.brush
    return {
        "chosen": scene.opens_at,
        "scaling": scene.paint.scale,
        "mode": brush.mode,
        "colours": brush.colour_map,
        "opacity": brush.opacity,
        "smooth": brush.smooth,
        "merged": scene.paint.merged,
    }


FORMATS: tuple[Format[Scene], ...] = (
    Format("png", "PNG", "map.png", "this map", _one_map),
    Format("grid", "PNG of all", "grid.png", "all maps", _all_maps),
    Format("gif", "GIF", "walk.gif", "the walk through the caption", _walk),
    Format("npz", "NPZ", "trace.npz", "the numbers", _numbers),
    Format("json", "JSON", "trace.json", "this view, to be opened again", _saved_view),
    Format("html", "HTML", "explorer.html", "this explorer in one file", _one_file_explorer),
)
"""All file formats of attention."""
