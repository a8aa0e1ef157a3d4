"""What is seen, as a file to take along; and a saved view, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from captioning.attention.drawing import Brush
from captioning.attention.export import trace_from_json
from captioning.attention.formats import FORMATS, Paint, Scene
from captioning.core.errors import ImageError, OptionsError
from captioning.core.formats import find_format
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.attention.looking import Asked, Seen, Step, Tell, computed_maps, look_again, read_paint, read_view

_NO_SAVED_VIEW = "That file is no saved view; choose a JSON file that the explorer wrote."


def render_file(load: LoadCaptioner, seen: Seen, kind: object, view: Any, tell: Tell) -> tuple[str, bytes]:
    """Return the name and the content of a file of what is seen; runs in a worker.

    Raises `OptionsError` for what the page would not send.
    """
    chosen = find_format(FORMATS, kind)
    sight = look_again(load, seen, lambda _: tell(Step("Making the file")))
    shown, positions, paint = read_view(view, sight.trace, sight.spec)
    computed = computed_maps(sight, seen, shown.method, tell)
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
    return chosen.name_for(Path(sight.picture.name).stem), chosen.make(scene)


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
