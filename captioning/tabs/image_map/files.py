"""A map, or a selection of it, as files to take along."""

from __future__ import annotations

from pathlib import Path

from captioning.core.cancellation import Job
from captioning.core.errors import OptionsError
from captioning.core.formats import find_format
from captioning.image_map.formats import FORMATS, SavedMap
from captioning.tabs.image_map.answers import Thumbnails
from captioning.tabs.image_map.view import MapView
from captioning.web.saving import SaveStep


def make_file(
    view: MapView, kind: object, indices: object, thumbnails: Thumbnails, job: Job[SaveStep]
) -> tuple[str, bytes]:
    """Return name and content of a file of that `kind`, of all points or of those at `indices`; runs in a worker.

    Raises `OptionsError` for what the page would not send.
    """
    chosen = find_format(FORMATS, kind)
    places = read_places(view, indices)
    doing = "Packing picture" if chosen.name == "zip" else "Making small picture"

    def tell(done: int, total: int, _: str) -> None:
        job.show(SaveStep(f"{doing} {done + 1:,} of {total:,}", done / total))

    about = {"model": view.model_id, "revision": view.revision}
    saved = SavedMap(view, view.title, about, places, thumbnails.get, tell)
    name = Path(chosen.file)
    return f"{name.stem}{'' if places is None else f'-{len(places)}-selected'}{name.suffix}", chosen.make(saved)


def read_places(view: MapView, indices: object) -> list[int] | None:
    """Return points by number, `None` for all. Raises `OptionsError` where there is no such point."""
    if indices is None:
        return None
    if not isinstance(indices, list) or not all(isinstance(i, int) and 0 <= i < len(view.images) for i in indices):
        raise OptionsError("Those points are not on this map any more; select them again.")
    if not indices:
        raise OptionsError("Nothing is selected; lasso some points first.")
    return indices
