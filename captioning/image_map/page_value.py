"""The page value of an image map, and the map as one HTML file that works without network.

The same scripts draw the page and the file from the same data. The file also holds small pictures, neighbours and
Plotly.
"""

from __future__ import annotations

import gzip
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioning.core.page_scripts import bundle_scripts
from captioning.core.standalone_page import make_page, to_base64
from captioning.image_map import ImageMap, MapQuality, nearest, thumbnail

K = 10
"""Nearest neighbours of a picture that count as its true ones when a map's quality is measured."""
NUM_NEIGHBOURS = 8
"""The number of similar pictures that are shown for a chosen one."""
_MANY = 1500
"""Above this number of pictures, thumbnails are smaller, so that the file can still be sent."""

MakeThumbnail = Callable[[Path, int, int], str]
"""A picture's file, the longer side in pixels and the JPEG quality → a `data:` address."""


def plotly_file() -> Path:
    """Return the path of plotly.js in the installed plotly package."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def describe_points(made: ImageMap) -> dict[str, Any]:
    """Return a map's points and the note below it; `describe_findings` has the rest."""
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
    """Return for each picture the index of the first identical one, `[n]`."""
    first: dict[str, int] = {}
    return [first.setdefault(image_id, place) for place, image_id in enumerate(image_ids)]


def describe_findings(made: ImageMap) -> dict[str, Any]:
    """Return the parts that are computed after the points: captions, names of groups, and the map's quality."""
    points, measured = made.points, made.quality
    return {
        "captions": list(points.captions),
        "clusterNames": list(points.cluster_names),
        "recall": None if points.recall is None else np.round(points.recall, 3).tolist(),
        "k": K if measured is None else measured.k,
        "quality": None if measured is None else describe_quality(made, measured),
    }


def describe_quality(made: ImageMap, measured: MapQuality) -> dict[str, Any]:
    """Return the map's quality: figures in columns, and a sentence that explains them."""
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
    """Return the map as one HTML page that works from a file without network, with small copies of the pictures.

    `model` is the title of the model whose features the map shows. `on_picture` is called before each copy, as in
    `write_pictures`.
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
        [plotly_file().read_text(encoding="utf-8"), bundle_scripts("common/part.js", "map/map.js") + _START],
        images="data: blob:",
        # Plotly's WebGL points compile functions at run time; the page still cannot fetch anything.
        more="'unsafe-eval'",
    )


def _all_neighbours(made: ImageMap) -> list[list[tuple[int, float]]]:
    """Return the most similar pictures of each picture, by cosine in feature space, with their cosines."""
    indices, similarities = nearest(made.points.embeds, NUM_NEIGHBOURS)
    return [
        [(other, round(similarity, 4)) for other, similarity in zip(row, alike, strict=True)]
        for row, alike in zip(indices.tolist(), similarities.tolist(), strict=True)
    ]


# What Gradio gives to the script of a part, in a file of its own.
_START = """
(async () => {
  performance.mark('cs-start'); // Plotly has been read
  const text = JSON.parse(document.getElementById('cs-data').textContent);
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const props = { value: await new Response(stream).json() };
  const context = { element: document.getElementById('cs-map'), props, watch: () => {}, trigger: () => {} };
  modules['map/map.js'].mount(modules['common/part.js'].makePart(context));
})();
"""
