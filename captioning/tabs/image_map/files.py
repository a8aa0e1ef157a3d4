"""A map, or a selection of it, as files to take along."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gradio.data_classes import FileData
from gradio.processing_utils import save_bytes_to_cache

from captioning.core.cancellation import Job
from captioning.core.errors import OptionsError
from captioning.core.types import plain_dict
from captioning.image_map import map_document, map_to_csv, map_to_npz, write_pictures
from captioning.image_map.page_value import MakeThumbnail, map_to_html
from captioning.media.clip_frames import OnStep
from captioning.tabs.image_map.answers import Thumbnails
from captioning.tabs.image_map.view import MapView
from captioning.ui.parts import next_serial

KINDS = {"csv": "CSV", "json": "JSON", "npz": "NPZ", "zip": "ZIP", "html": "HTML"}
_MOST_ZIP_BYTES = 400 * 2**20


@dataclass(frozen=True, slots=True)
class FileStep:
    """What is being done for a file, and how far it is: a share of 1, or `None` where that cannot be told."""

    doing: str = "Making the file"
    fraction: float | None = None


def file_value(
    phase: str = "idle", step: FileStep | None = None, *, name: str = "", path: str = "", message: str = ""
) -> dict[str, Any]:
    """What `assets/common/download.js` shows, and saves where there is a `path`."""
    told = {"done": f"Saved {name}", "stopped": "Stopped; no file was made."}
    return {
        "serial": next_serial(),
        "phase": phase,
        "doing": step.doing if step is not None else told.get(phase, ""),
        "fraction": None if step is None else step.fraction,
        "message": message,
        "file": FileData(path=path, orig_name=name).model_dump() if path else None,
        "name": name,
    }


def save_file(
    view: MapView, kind: object, indices: object, thumbnails: Thumbnails, cache: str, job: Job[FileStep]
) -> tuple[str, str]:
    """Name of a file of that `kind`, and where it lies for the page; runs in a worker. Raises `OptionsError`."""

    def tell(done: int, total: int, _: str) -> None:
        job.show(FileStep(f"{doing} {done + 1:,} of {total:,}", done / total))

    doing = "Packing picture" if kind == "zip" else "Making small picture"
    name, content = make_file(view, kind, indices, thumbnails, tell)
    job.check()
    return name, str(save_bytes_to_cache(content, name, cache))


def make_file(
    view: MapView, kind: object, indices: object, thumbnails: Thumbnails, on_step: OnStep = lambda *_: None
) -> tuple[str, bytes]:
    """Name and content of a file of that `kind`, of all points or of those at `indices`. Raises `OptionsError`.

    `on_step` hears of each picture that goes in.
    """
    if kind not in KINDS:
        raise OptionsError(f"A map is saved as {', '.join(KINDS.values())}; choose one of them.")
    places = read_places(view, indices)
    name = f"image-map{'' if indices is None else f'-{len(places)}-selected'}.{kind}"
    if kind == "html":
        return name, map_to_html(view, view.title, _tell_each(thumbnails.get, len(places), on_step)).encode()
    if kind == "zip":
        return name, zip_pictures(view, places, on_step)
    points = view.points.select(places)
    if kind == "npz":
        return name, map_to_npz(points)
    if kind == "csv":
        return name, map_to_csv(points).encode()
    return name, json.dumps(document_of(view, places), ensure_ascii=False, indent=2).encode()


def _tell_each(make: MakeThumbnail, total: int, on_step: OnStep) -> MakeThumbnail:
    """The same, telling of each of `total` pictures before it is made."""
    numbers = itertools.count()

    def make_and_tell(path: Path, side: int, quality: int) -> str:
        on_step(next(numbers), total, path.name)
        return make(path, side, quality)

    return make_and_tell


def document_of(view: MapView, places: Sequence[int] | None = None) -> dict[str, Any]:
    """A map, or some of its points, with how it came about, how good it is, and what was left out."""
    points = view.points if places is None else view.points.select(places)
    about = {"model": view.model_id, "options": plain_dict(view.options), "method": view.projection.method}
    return map_document(points, view.quality, view.failed, about)


def read_places(view: MapView, indices: object) -> list[int]:
    """Points by number; all of them for `None`. Raises `OptionsError` where there is no such point."""
    count = len(view.images)
    if indices is None:
        return list(range(count))
    if not isinstance(indices, list) or not all(isinstance(i, int) and 0 <= i < count for i in indices):
        raise OptionsError("Those points are not on this map any more; select them again.")
    if not indices:
        raise OptionsError("Nothing is selected; lasso some points first.")
    return indices


def zip_pictures(view: MapView, places: Sequence[int], on_step: OnStep) -> bytes:
    """The picture files themselves. Raises `OptionsError` beyond what is packed for one person."""
    images = [view.images[place] for place in places]
    if sum(image.path.stat().st_size for image in images if image.path.is_file()) > _MOST_ZIP_BYTES:
        raise OptionsError(f"Those files have more than {_MOST_ZIP_BYTES / 2**20:,.0f} MB together; select fewer.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.zip"
        write_pictures(images, path, on_step)
        return path.read_bytes()
