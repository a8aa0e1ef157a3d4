"""A map, or a selection of it, as files to take along."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from captioning.errors import OptionsError
from captioning.image_map import map_document, map_to_csv, map_to_npz, write_pictures
from captioning.map_page import map_to_html
from captioning.tabs.image_map.answers import Thumbnails
from captioning.tabs.image_map.view import MapView
from captioning.types import plain_dict

KINDS = {"csv": "CSV", "json": "JSON", "npz": "NPZ", "zip": "ZIP", "html": "HTML"}
_MOST_ZIP_BYTES = 400 * 2**20


def make_file(view: MapView, kind: object, indices: object, thumbnails: Thumbnails) -> tuple[str, bytes]:
    """Name and content of a file of that `kind`, of all points or of those at `indices`. Raises `OptionsError`."""
    if kind not in KINDS:
        raise OptionsError(f"A map is saved as {', '.join(KINDS.values())}; choose one of them.")
    places = read_places(view, indices)
    name = f"image-map{'' if indices is None else f'-{len(places)}-selected'}.{kind}"
    if kind == "html":
        return name, map_to_html(view.made, view.title, thumbnails.get).encode()
    if kind == "zip":
        return name, zip_pictures(view, places)
    points = view.points.select(places)
    if kind == "npz":
        return name, map_to_npz(points)
    if kind == "csv":
        return name, map_to_csv(points).encode()
    return name, json.dumps(document_of(view, places), ensure_ascii=False, indent=2).encode()


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


def zip_pictures(view: MapView, places: Sequence[int]) -> bytes:
    """The picture files themselves. Raises `OptionsError` beyond what is packed for one person."""
    images = [view.images[place] for place in places]
    if sum(image.path.stat().st_size for image in images if image.path.is_file()) > _MOST_ZIP_BYTES:
        raise OptionsError(f"Those files have more than {_MOST_ZIP_BYTES / 2**20:,.0f} MB together; select fewer.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.zip"
        write_pictures(images, path)
        return path.read_bytes()
