"""A map as a session holds it, and what the page is told of it."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gradio.data_classes import FileData

from captioning.core.formats import describe_formats
from captioning.image_map import ImageMap
from captioning.image_map.formats import FORMATS
from captioning.image_map.page_value import describe_findings, describe_points, first_copies, plotly_file
from captioning.media.collection import FailedImage
from captioning.media.scratch import Scratch
from captioning.ui.parts import next_serial

Change = Literal["new", "added", "refit"]
_FORMATS = describe_formats(FORMATS)


def new_map_id() -> str:
    """A name for a map that nobody guesses."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, eq=False, kw_only=True)
class MapView(ImageMap):
    """A map that a page shows, by which model, and whether more is being found out about it.

    `map_id` cannot be guessed: who knows it may ask about the map. `scratches` keeps the folders that its pictures
    lie in.
    """

    # Without slots, so that the shelf can refer to it weakly on Python 3.10.
    model_id: str
    title: str
    revision: str | None = None
    working: bool = True
    scratches: tuple[Scratch, ...] = ()
    map_id: str = field(default_factory=new_map_id)


class MapShelf:
    """Finds a map by its name while some session holds it; the newest state of a map is the one that is found."""

    def __init__(self) -> None:
        self._views: weakref.WeakValueDictionary[str, MapView] = weakref.WeakValueDictionary()

    def put(self, view: MapView) -> None:
        """Find this state of the map from now on."""
        self._views[view.map_id] = view

    def get(self, map_id: object) -> MapView | None:
        """The map, or `None` where nobody holds it."""
        return self._views.get(map_id) if isinstance(map_id, str) else None


def map_value(view: MapView | None, change: Change = "new", after: MapView | None = None) -> dict[str, Any]:
    """What `assets/map/map.js` draws: `view`, which differs by `change` from the map that the page shows."""
    if view is None:
        return {"serial": next_serial(), "map": None, "formats": _FORMATS}
    described = describe_map(view) | {"change": change, "after": after.map_id if after else None}
    described["plotly"] = FileData(path=str(plotly_file())).model_dump()
    return {"serial": next_serial(), "map": described, "formats": _FORMATS}


def describe_map(view: MapView) -> dict[str, Any]:
    """The points of a map, and what is said below it; what comes later is in `map_news`."""
    described = describe_points(view) | {"id": view.map_id, "title": view.title}
    return described | {"clusterNames": list(view.cluster_names), "working": view.working}


def map_news(view: MapView, known: int = 0, knows_recall: bool = False) -> dict[str, Any]:
    """What was found out since the page asked last, when it had `known` captions."""
    found = describe_findings(view)
    later = {"captions": found["captions"][known:], "recall": None if knows_recall else found["recall"]}
    return found | later | {"working": view.working}


def progress_value(
    phase: str = "idle",
    doing: str = "",
    fraction: float | None = None,
    message: str = "",
    view: MapView | None = None,
    failed: Sequence[FailedImage] | None = None,
) -> dict[str, Any]:
    """What `assets/map/progress.js` shows: what is being done, and what `view` could not use or holds twice."""
    return {
        "serial": next_serial(),
        "phase": phase,
        "doing": doing,
        "fraction": fraction,
        "message": message,
        "lists": _lists(view, failed if failed is not None else (view.failed if view else ())),
    }


def _lists(view: MapView | None, failed: Sequence[FailedImage]) -> list[dict[str, Any]]:
    lists: list[dict[str, Any]] = []
    if failed:
        what = "1 file was left out" if len(failed) == 1 else f"{len(failed)} files were left out"
        lists.append({"title": what, "rows": [[one.name, one.reason] for one in failed], "open": len(failed) < 4})
    if view is not None and view.others:
        rows = [[kind, f"{count:,}"] for kind, count in view.others.kinds]
        what = "1 file is no picture" if len(view.others) == 1 else f"{len(view.others):,} files are no pictures"
        lists.append({"title": f"{what} that can be read here", "rows": rows, "open": len(rows) < 4})
    groups = copy_groups(view) if view else []
    if groups:
        what = "1 picture is" if len(groups) == 1 else f"{len(groups)} pictures are"
        rows = [[group[0], f"= {', '.join(group[1:])}"] for group in groups]
        lists.append({"title": f"{what} there more than once", "rows": rows, "open": False})
    return lists


def copy_groups(view: MapView) -> list[list[str]]:
    """Names of identical pictures, a list for each that is there more than once."""
    groups: dict[int, list[str]] = {}
    for image, group in zip(view.images, first_copies(view.image_ids), strict=True):
        groups.setdefault(group, []).append(image.name)
    return [names for names in groups.values() if len(names) > 1]
