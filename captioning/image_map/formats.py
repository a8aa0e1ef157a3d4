"""Maps as files, for the command and the page: a page, tables, arrays, a drawing, and the pictures themselves."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from captioning.core.errors import OptionsError
from captioning.core.formats import Format
from captioning.core.types import plain_dict
from captioning.image_map.drawing import draw_map
from captioning.image_map.export import MapPoints, map_document, map_to_csv, map_to_npz, write_pictures
from captioning.image_map.page_value import MakeThumbnail, map_to_html
from captioning.image_map.session import ImageMap
from captioning.image_map.thumbnails import thumbnail

_MOST_ZIP_BYTES = 400 * 2**20


def _ignore(*_: object) -> None:
    """Ignore the progress."""


@dataclass(frozen=True, slots=True, eq=False)
class SavedMap:
    """A map to save: all points or those at `places`, the title of the model, and further entries of the document.

    `on_picture` receives the number of finished pictures, the total, and the name of the next. An exception raised in
    it stops the work.
    """

    image_map: ImageMap
    title: str
    about: Mapping[str, Any] = field(default_factory=dict)
    places: Sequence[int] | None = None
    make_thumbnail: MakeThumbnail = thumbnail
    on_picture: Callable[[int, int, str], None] = _ignore

    @property
    def points(self) -> MapPoints:
        """Return the points to save."""
        points = self.image_map.points
        return points if self.places is None else points.select(self.places)

    def document(self) -> dict[str, Any]:
        """Return the JSON document of the points, with the map's settings and quality."""
        made = self.image_map
        about = {**self.about, "options": plain_dict(made.options), "method": made.projection.method}
        about["note"] = made.projection.note
        return map_document(self.points, made.quality, made.failed, about, made.others)


def _page(saved: SavedMap) -> bytes:
    return map_to_html(saved.image_map, saved.title, saved.make_thumbnail, saved.on_picture).encode()


def _json(saved: SavedMap) -> bytes:
    return json.dumps(saved.document(), ensure_ascii=False, indent=2).encode()


def _drawing(saved: SavedMap) -> bytes:
    points, file = saved.points, io.BytesIO()
    draw_map(points.images, points.positions, points.clusters).save(file, "PNG")
    return file.getvalue()


def _pictures(saved: SavedMap) -> bytes:
    images = saved.points.images
    if sum(image.path.stat().st_size for image in images if image.path.is_file()) > _MOST_ZIP_BYTES:
        raise OptionsError(f"Those files have more than {_MOST_ZIP_BYTES / 2**20:,.0f} MB together; select fewer.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.zip"
        write_pictures(images, path, saved.on_picture)
        return path.read_bytes()


FORMATS: tuple[Format[SavedMap], ...] = (
    Format("html", "HTML", "map.html", "one file that works with no network", _page),
    Format(
        "csv",
        "CSV",
        "map.csv",
        "names, labels, positions and captions",
        lambda saved: map_to_csv(saved.points).encode(),
    ),
    Format("json", "JSON", "map.json", "the same, and how good the map is", _json),
    Format("npz", "NPZ", "features.npz", "features and positions for NumPy", lambda saved: map_to_npz(saved.points)),
    Format("png", "PNG", "map.png", "a drawing of the map", _drawing),
    Format("zip", "ZIP", "pictures.zip", "the picture files themselves", _pictures),
)
"""All file formats of a map."""
