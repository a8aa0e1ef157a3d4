"""A map as a session holds it, and what the page is told of it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gradio.data_classes import FileData
from numpy.typing import NDArray

from captioning.collection import FailedImage, NamedImage
from captioning.image_map import MapOptions, MapQuality, Projection
from captioning.ui.parts import next_serial

Change = Literal["new", "added", "refit"]
K = 10
"""How many neighbours of a picture are its true ones when a map's quality is measured."""


class Scratch:
    """A folder for unpacked and cut-out pictures that goes when nothing refers to it any more."""

    def __init__(self, parent: str) -> None:
        Path(parent).mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix="map-", dir=parent))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def new_map_id() -> str:
    """A name for a map that nobody guesses."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, eq=False)
class MapView:
    """One state of a map: pictures, their features, and where they lie.

    `embeds [n, hidden]` have unit length; `image_ids [n]` are equal for identical pictures; `clusters [n]` is -1
    outside all clusters. `captions` holds those written so far, in order. `map_id` cannot be guessed: who knows it
    may ask about the map. `scratches` keeps the folders that its pictures lie in.
    """

    # Without slots, so that the shelf can refer to it weakly on Python 3.10.
    model_id: str
    title: str
    images: tuple[NamedImage, ...]
    embeds: NDArray[np.float32]
    image_ids: tuple[str, ...]
    options: MapOptions
    projection: Projection
    clusters: tuple[int, ...]
    failed: tuple[FailedImage, ...] = ()
    captions: tuple[str, ...] = ()
    cluster_names: tuple[str, ...] = ()
    quality: MapQuality | None = None
    working: bool = True
    scratches: tuple[Scratch, ...] = ()
    map_id: str = field(default_factory=new_map_id)

    @property
    def positions(self) -> NDArray[np.float32]:
        """Where the pictures lie, `[n, 2]`."""
        return self.projection.positions

    @property
    def copies(self) -> list[int]:
        """The same number for identical pictures, `[n]`: the place of the first of them."""
        first: dict[str, int] = {}
        return [first.setdefault(image_id, place) for place, image_id in enumerate(self.image_ids)]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """A label a picture; folders stand for labels that nobody gave. `None` where there is neither."""
        labels = tuple(image.label for image in self.images)
        if any(labels):
            return labels
        folders = tuple(image.folder for image in self.images)
        return folders if len(set(folders)) > 1 else None


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


def plotly_file() -> Path:
    """The plotly.js that the installed plotly package brings."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def map_value(view: MapView | None, change: Change = "new", after: MapView | None = None) -> dict[str, Any]:
    """What `assets/image_map.js` draws: `view`, which differs by `change` from the map that the page shows."""
    if view is None:
        return {"serial": next_serial(), "map": None}
    described = describe_map(view) | {"change": change, "after": after.map_id if after else None}
    described["plotly"] = FileData(path=str(plotly_file())).model_dump()
    return {"serial": next_serial(), "map": described}


def describe_map(view: MapView) -> dict[str, Any]:
    """The points of a map, and what is said below it; what comes later is in `map_news`."""
    horizontal, vertical = np.round(view.positions.astype(np.float64), 4).T.tolist()
    return {
        "id": view.map_id,
        "title": view.title,
        "note": view.projection.note,
        "names": [image.name for image in view.images],
        "labels": [image.label for image in view.images],
        "folders": [image.folder for image in view.images],
        "copies": view.copies,
        "clusters": list(view.clusters),
        "clusterNames": list(view.cluster_names),
        "x": horizontal,
        "y": vertical,
        "working": view.working,
    }


def map_news(view: MapView, known: int = 0, knows_recall: bool = False) -> dict[str, Any]:
    """What was found out since the page asked last, when it had `known` captions."""
    quality = view.quality
    recall = None if quality is None or knows_recall else np.round(quality.per_point_recall, 3).tolist()
    return {
        "captions": list(view.captions[known:]),
        "clusterNames": list(view.cluster_names),
        "recall": recall,
        "k": quality.k if quality is not None else K,
        "quality": None if quality is None else describe_quality(view, quality),
        "working": view.working,
    }


def describe_quality(view: MapView, measured: MapQuality) -> dict[str, Any]:
    """How far the map can be believed: numbers in columns, and what they mean in a sentence."""
    this = {"umap": "This map", "pca": "This map (PCA)"}.get(view.projection.method, "This map")
    names = ("trustworthiness", "neighbour_recall", "purity", "silhouette")
    others = (measured.pca, measured.random)
    measures = {
        name: [_rounded(getattr(measured, name)), *(_rounded(getattr(other, name)) for other in others)]
        for name in names
        if getattr(measured, name) is not None
    }
    k, kept = measured.k, measured.neighbour_recall
    labels = ""
    if measured.feature_purity is not None:
        labels = f" In feature space the label purity is {measured.feature_purity:.3f}: more a map can hardly keep."
        if not any(image.label for image in view.images):
            labels += " The names of folders stand for labels."
    return {
        "columns": [this, "PCA", "Random"],
        "measures": measures,
        "verdict": (
            f"On average {kept * k:.1f} of a picture’s {k} nearest in feature space are among its {k} nearest here; "
            f"by chance it would be {measured.random.neighbour_recall * k:.1f}. "
            "Colour by “Whether its place can be trusted” to see which points lie."
        ),
        "about": f"Measured with {k} neighbours. Two dimensions cannot keep all: trust the neighbours beside a picture "
        f"more than its place.{labels}",
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def progress_value(
    phase: str = "idle",
    doing: str = "",
    fraction: float | None = None,
    message: str = "",
    view: MapView | None = None,
    failed: Sequence[FailedImage] | None = None,
) -> dict[str, Any]:
    """What `assets/map_progress.js` shows: what is being done, and what `view` could not use or holds twice."""
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
    groups = copy_groups(view) if view else []
    if groups:
        what = "1 picture is" if len(groups) == 1 else f"{len(groups)} pictures are"
        rows = [[group[0], f"= {', '.join(group[1:])}"] for group in groups]
        lists.append({"title": f"{what} there more than once", "rows": rows, "open": False})
    return lists


def copy_groups(view: MapView) -> list[list[str]]:
    """Names of identical pictures, a list for each that is there more than once."""
    groups: dict[int, list[str]] = {}
    for image, group in zip(view.images, view.copies, strict=True):
        groups.setdefault(group, []).append(image.name)
    return [names for names in groups.values() if len(names) > 1]
