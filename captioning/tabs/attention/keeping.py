"""What is seen, as a file to take along; and a saved view, opened again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from captioning.attention.drawing import Brush, overlay, shrink, to_png, token_grid, walk_gif, weight_picture
from captioning.attention.export import trace_from_json, trace_to_json, trace_to_npz
from captioning.attention.page_value import explorer_html, pack_weights, picture_file, shown_maps
from captioning.attention.views import Maps, View
from captioning.captions.words import word_groups, word_text
from captioning.core.cancellation import Job
from captioning.core.errors import ImageError, OptionsError
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.attention.looking import (
    Asked,
    Seen,
    Sight,
    Step,
    computed_maps,
    describe_look,
    look_again,
    read_paint,
    read_view,
)
from captioning.ui.parts import next_serial

_NO_SAVED_VIEW = "That file is no saved view; choose a JSON file that the explorer wrote."


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A view with everything a file of it needs: all maps [words, patches] in 0…1, their labels, and the chosen one."""

    sight: Sight
    seen: Seen
    view: View
    paint: Mapping[str, Any]
    maps: Maps
    labels: tuple[str, ...]
    chosen: int

    @property
    def brush(self) -> Brush:
        """How the page paints it."""
        return Brush(self.paint["opacity"], self.paint["colours"], self.paint["smooth"])


def render_file(load: LoadCaptioner, seen: Seen, kind: str, view: Any, job: Job[Step]) -> tuple[bytes, str]:
    """A file of what is seen, and its name; runs in a worker.

    Raises `OptionsError` for what the page would not send.
    """
    if kind not in KINDS:
        raise OptionsError(f"There is no file of the kind {kind[:40]!r}; choose from {', '.join(KINDS)}.")
    sight = look_again(load, seen, lambda _: job.check())
    chosen, positions, paint = read_view(view, sight.trace, sight.spec)
    computed = computed_maps(sight, seen, chosen.method, job.show)
    caption, merged = seen.caption, paint["merged"]
    groups = word_groups(caption) if merged else tuple((at,) for at in range(len(caption.token_ids)))
    scene = Scene(
        sight,
        seen,
        chosen,
        {**paint, "chosen": positions[0]},
        shown_maps(sight.trace, chosen, paint["scaling"], merged, computed),
        tuple(word_text(caption, group) for group in groups),
        next(number for number, group in enumerate(groups) if positions[0] in group),
    )
    make, suffix = KINDS[kind]
    return make(scene), f"{Path(sight.picture.name).stem or 'picture'}-{suffix}"


def _one_map(scene: Scene) -> bytes:
    picture, layout = shrink(scene.sight.picture), scene.sight.trace.layout
    heat, brush = scene.maps[scene.chosen], scene.brush
    if scene.paint["mode"] == "weighted":
        return to_png(weight_picture(picture, heat, layout, brush.smooth).image)
    if scene.paint["mode"] == "map":
        brush = replace(brush, opacity=1.0, smooth=False)
    return to_png(overlay(picture, heat, layout, brush))


def _all_maps(scene: Scene) -> bytes:
    return to_png(token_grid(scene.sight.picture, scene.maps, scene.labels, scene.sight.trace.layout, scene.brush))


def _walk(scene: Scene) -> bytes:
    return walk_gif(scene.sight.picture, scene.maps, scene.labels, scene.sight.trace.layout, scene.brush)


def _numbers(scene: Scene) -> bytes:
    return trace_to_npz(scene.sight.trace, scene.sight.picture.name, scene.seen.maps)


def _saved_view(scene: Scene) -> bytes:
    return trace_to_json(scene.sight.trace, scene.sight.picture.name, scene.view, scene.paint).encode()


def _one_file_explorer(scene: Scene) -> bytes:
    sight, look = scene.sight, describe_look(replace(scene.seen, view=scene.view, paint=scene.paint), scene.sight)
    return explorer_html(look, picture_file(sight.picture), pack_weights(sight.trace)).encode()


KINDS: Mapping[str, tuple[Callable[[Scene], bytes], str]] = {
    "png": (_one_map, "attention.png"),
    "grid": (_all_maps, "attention-words.png"),
    "gif": (_walk, "attention.gif"),
    "npz": (_numbers, "attention.npz"),
    "json": (_saved_view, "attention.json"),
    "html": (_one_file_explorer, "attention.html"),
}
"""How each kind of file is made, and how its name ends."""

KEPT_NOTHING: dict[str, Any] = {"serial": 0, "phase": "idle"}
"""The part that saves files, before the first."""


def kept_value(phase: str, file: dict[str, Any] | None = None, name: str = "", *, message: str = "") -> dict[str, Any]:
    """What `assets/common/kept_file.js` saves."""
    return {"serial": next_serial(), "phase": phase, "file": file, "name": name, "message": message}


def read_saved_view(saved: str | None, path: str | None, model_id: str) -> Asked:
    """The view of a JSON file, to be looked at on the picture at `path` with the model in use.

    Raises `OptionsError` for a file that is no saved view, and `ImageError` where there is no picture.
    """
    if saved is None:
        raise OptionsError("There is no file; choose a JSON file that the explorer wrote.")
    try:
        text = Path(saved).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(_NO_SAVED_VIEW) from error
    known = trace_from_json(text)
    chosen = known.shown.get("chosen")
    if isinstance(chosen, bool) or not isinstance(chosen, int):
        raise OptionsError(_NO_SAVED_VIEW)
    if path is None:
        raise ImageError(
            f"This view was saved from {known.image[:100]}, and the file does not hold the picture itself; choose that "
            "picture first, then open the file again."
        )
    caption = known.trace.caption
    paint = {**read_paint(known.shown), "chosen": chosen}
    return Asked(path, model_id, caption.prompt, caption=caption, saved_from=known.image, view=known.view, paint=paint)
