"""What is seen, as a file to take along; and a saved view, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from captioning.attention.drawing import Brush
from captioning.attention.export import trace_from_json
from captioning.attention.formats import FORMATS, Paint, Scene
from captioning.core.cancellation import Job
from captioning.core.errors import ImageError, OptionsError
from captioning.core.formats import find_format
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.attention.looking import Asked, Seen, Step, computed_maps, look_again, read_paint, read_view
from captioning.ui.parts import next_serial

_NO_SAVED_VIEW = "That file is no saved view; choose a JSON file that the explorer wrote."


def render_file(load: LoadCaptioner, seen: Seen, kind: object, view: Any, job: Job[Step]) -> tuple[bytes, str]:
    """Return a file of what is seen, and its name; runs in a worker.

    Raises `OptionsError` for what the page would not send.
    """
    chosen = find_format(FORMATS, kind)
    sight = look_again(load, seen, lambda _: job.check())
    shown, positions, paint = read_view(view, sight.trace, sight.spec)
    computed = computed_maps(sight, seen, shown.method, job.show)
    scene = Scene(
        sight.picture,
        sight.spec,
        sight.trace,
        shown,
        Paint(
            paint["scaling"],
            Brush(paint["opacity"], paint["colours"], paint["smooth"], paint["mode"]),
            paint["merged"],
        ),
        seen.maps if computed is None else {**seen.maps, shown.method: computed},
        seen.importance,
        chosen=positions[0],
    )
    return chosen.make(scene), chosen.name_for(sight.picture.name)


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
