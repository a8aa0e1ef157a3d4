"""What the map's script asks one by one: small pictures, a large one, neighbours, what looks alike, and news.

Each question names a map by its id, which cannot be guessed; an id that nobody holds is answered with nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gradio.utils import get_upload_folder, is_in_or_equal

from captioning.core.errors import ImageError
from captioning.core.messages import explain
from captioning.image_map import nearest, thumbnail
from captioning.image_map.page_value import NUM_NEIGHBOURS
from captioning.media.images import open_image
from captioning.serving.loading import LoadCaptioner
from captioning.serving.memory import ByteBoundedCache
from captioning.tabs.image_map.view import MapShelf, MapView, map_news

THUMBNAIL_SIDE, LARGE_SIDE = 128, 720
NUM_ALIKE = 24
_MOST_ASKED = 64
_THUMBNAIL_BYTES = 64 * 2**20

Answer = Callable[[dict[str, Any]], Any]


class Thumbnails:
    """Small JPEGs of pictures as `data:` addresses; bounded in bytes, thread-safe."""

    def __init__(self, max_bytes: int = _THUMBNAIL_BYTES) -> None:
        self._known = ByteBoundedCache[str](max_bytes)

    def get(self, path: Path, side: int = THUMBNAIL_SIDE, quality: int = 78) -> str:
        """A picture whose longer side has `side` pixels. Empty where the file is gone or unreadable."""
        try:
            # With its time: the same file sent again, by whomever, is another one.
            key = (str(path), path.stat().st_mtime_ns, side, quality)
        except OSError:
            return ""
        known = self._known.get(key)
        if known is None:
            known = thumbnail(path, side, quality)
            if known:
                self._known.put(key, known, len(known))
        return known


def make_answers(shelf: MapShelf, thumbnails: Thumbnails, load: LoadCaptioner) -> list[Answer]:
    """The functions that the script may call."""

    def map_thumbnails(asked: dict[str, Any]) -> dict[str, str]:
        view = shelf.get(_field(asked, "map"))
        if view is None:
            return {}
        indices = _field(asked, "indices")
        wanted = indices[:_MOST_ASKED] if isinstance(indices, list) else []
        places = [place for place in wanted if _is_place(view, place)]
        return {str(place): thumbnails.get(view.images[place].path) for place in places}

    def map_picture(asked: dict[str, Any]) -> str:
        view, place = shelf.get(_field(asked, "map")), _field(asked, "index")
        if view is None or not _is_place(view, place):
            return ""
        return thumbnails.get(view.images[place].path, LARGE_SIDE, 85)

    def map_neighbours(asked: dict[str, Any]) -> list[tuple[int, float]]:
        view, place = shelf.get(_field(asked, "map")), _field(asked, "index")
        return find_neighbours(view, place) if view is not None and _is_place(view, place) else []

    def map_look_alike(asked: dict[str, Any]) -> dict[str, Any]:
        view = shelf.get(_field(asked, "map"))
        if view is None:
            return {"error": "This map has left the server’s memory; draw it again."}
        try:
            return {"found": look_alike(view, load, _field(asked, "path"), _field(asked, "name"))}
        except Exception as error:
            return {"error": explain(error)}

    def map_news_(asked: dict[str, Any]) -> dict[str, Any] | None:
        view = shelf.get(_field(asked, "map"))
        known = _field(asked, "known")
        if view is None or not isinstance(known, int) or known < 0:
            return None
        return map_news(view, known, bool(_field(asked, "knows_recall")))

    map_news_.__name__ = "map_news"
    return [map_thumbnails, map_picture, map_neighbours, map_look_alike, map_news_]


def find_neighbours(view: MapView, place: int, count: int = NUM_NEIGHBOURS) -> list[tuple[int, float]]:
    """The pictures most like one, by cosine in feature space, with their similarities; not itself."""
    indices, similarities = nearest(view.embeds, count + 1, view.embeds[place : place + 1])
    pairs = zip(indices[0].tolist(), similarities[0].tolist(), strict=True)
    return [(other, round(similarity, 4)) for other, similarity in pairs if other != place][:count]


def look_alike(view: MapView, load: LoadCaptioner, path: object, name: object) -> list[tuple[int, float]]:
    """The pictures of a map most like an uploaded one, with their similarities. Raises `ImageError`."""
    if not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()):
        raise ImageError("There is no picture to compare with; choose one.")
    picture = open_image(path, name if isinstance(name, str) else None)
    (features,) = load(view.model_id).encode([picture])
    query = np.asarray(features.image_embeds.float(), np.float32)[None]
    indices, similarities = nearest(view.embeds, NUM_ALIKE, query)
    return [(int(i), round(float(s), 4)) for i, s in zip(indices[0], similarities[0], strict=True)]


def _field(asked: object, name: str) -> Any:
    return asked.get(name) if isinstance(asked, dict) else None


def _is_place(view: MapView, place: object) -> bool:
    return isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(view.images)
