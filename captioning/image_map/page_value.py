"""An image map's data as it travels to a page, and the map as one HTML file that asks no network.

The page and the file are drawn by the same scripts from the same data; the file brings small pictures, neighbours and
Plotly along.
"""

from __future__ import annotations

import gzip
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioning.core.assets import read_script
from captioning.core.standalone_page import make_page, to_base64
from captioning.image_map import ImageMap, MapQuality, nearest, thumbnail

SCRIPTS = (
    "map/ask",
    "map/plot",
    "map/colours",
    "map/callouts",
    "map/names",
    "map/thumbnails",
    "map/panel",
    "map/belief",
    "map/picture",
    "map/stage",
    "map/pointing",
    "map/map",
)
"""The map's own scripts, in the order they build on each other."""
K = 10
"""How many neighbours of a picture are its true ones when a map's quality is measured."""
NUM_NEIGHBOURS = 8
"""How many of the pictures most like a chosen one are shown."""
_MANY = 1500
"""Beyond so many pictures each is kept smaller, so that the file stays one that can be sent."""

MakeThumbnail = Callable[[Path, int, int], str]
"""A picture's file, the longer side in pixels and the quality of a JPEG → a `data:` address."""


def plotly_file() -> Path:
    """The plotly.js that the installed plotly package brings."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def describe_points(made: ImageMap) -> dict[str, Any]:
    """The points of a map, and what is said below it; the rest is in `describe_findings`."""
    points = made.points
    horizontal, vertical = np.round(made.projection.positions.astype(np.float64), 4).T.tolist()
    return {
        "note": made.projection.note,
        "names": [image.name for image in points.images],
        "labels": [image.label for image in points.images],
        "folders": [image.folder for image in points.images],
        "copies": first_copies(points.image_ids),
        "clusters": [int(cluster) for cluster in points.clusters],
        "x": horizontal,
        "y": vertical,
    }


def first_copies(image_ids: Sequence[str]) -> list[int]:
    """The same number for identical pictures, `[n]`: the place of the first of them."""
    first: dict[str, int] = {}
    return [first.setdefault(image_id, place) for place, image_id in enumerate(image_ids)]


def describe_findings(made: ImageMap) -> dict[str, Any]:
    """What is found out after the points: captions, names of groups, and how far the map can be believed."""
    points, measured = made.points, made.quality
    return {
        "captions": list(points.captions),
        "clusterNames": list(points.cluster_names),
        "recall": None if points.recall is None else np.round(points.recall, 3).tolist(),
        "k": K if measured is None else measured.k,
        "quality": None if measured is None else describe_quality(made, measured),
    }


def describe_quality(made: ImageMap, measured: MapQuality) -> dict[str, Any]:
    """How far the map can be believed: numbers in columns, and what they mean in a sentence."""
    this = {"umap": "This map", "pca": "This map (PCA)"}.get(made.projection.method, "This map")
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
        if not any(image.label for image in made.points.images):
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


def map_to_html(
    made: ImageMap,
    model: str,
    make_thumbnail: MakeThumbnail = thumbnail,
    on_picture: Callable[[int, int, str], None] = lambda *_: None,
) -> str:
    """The map as a page that works from a file with no network; `model` is the title of whose features it shows.

    It holds small copies of the pictures; `on_picture` hears of each before it is made, as in `write_pictures`.
    """
    count = len(made.points.images)
    side, quality = (128, 72) if count <= _MANY else (72, 60)
    thumbnails = []
    for number, image in enumerate(made.points.images):
        on_picture(number, count, image.name)
        thumbnails.append(make_thumbnail(image.path, side, quality))
    value = {
        "map": describe_points(made)
        | describe_findings(made)
        | {"id": "file", "title": model, "change": "new", "after": None, "working": False},
        "answers": {
            "thumbnails": thumbnails,
            "neighbours": _all_neighbours(made),
        },
    }
    title = f"Image map: {count:,} pictures, by {model}"
    return make_page(
        title,
        f'<main id="cs-map"><h1>{html.escape(title)}</h1><div class="cs-part"></div></main>',
        to_base64(gzip.compress(json.dumps(value).encode(), 6, mtime=0)),
        [plotly_file().read_text(encoding="utf-8"), _START.replace("SCRIPT", read_script(*SCRIPTS))],
        images="data: blob:",
        # Plotly's fast points compile their drawing programs at run time; nothing can be fetched.
        more="'unsafe-eval'",
    )


def _all_neighbours(made: ImageMap) -> list[list[tuple[int, float]]]:
    """For each picture those most like it, by cosine in feature space, with their similarities."""
    indices, similarities = nearest(made.points.embeds, NUM_NEIGHBOURS)
    return [
        [(other, round(similarity, 4)) for other, similarity in zip(row, alike, strict=True)]
        for row, alike in zip(indices.tolist(), similarities.tolist(), strict=True)
    ]


# What the page gives to its scripts, in a file of its own.
_START = """
(async () => {
  performance.mark('cs-start'); // Plotly has been read
  const text = JSON.parse(document.getElementById('cs-data').textContent);
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const element = document.getElementById('cs-map');
  const props = { value: await new Response(stream).json() };
  const watch = () => {}, trigger = () => {}, server = {}, upload = () => Promise.resolve(null);
  SCRIPT
})();
"""
