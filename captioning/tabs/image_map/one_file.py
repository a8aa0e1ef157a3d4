"""A map as one HTML file: the page's own script and look, the data and Plotly inside, and no address outside it."""

from __future__ import annotations

import gzip
import html
import json

from captioning.assets import read_script
from captioning.image_map import nearest
from captioning.one_file import make_page, to_base64
from captioning.tabs.image_map.answers import NUM_NEIGHBOURS, Thumbnails
from captioning.tabs.image_map.view import MapView, describe_map, map_news, plotly_file

SCRIPTS = (
    "map_plot",
    "map_colours",
    "map_callouts",
    "map_names",
    "map_thumbnails",
    "map_panel",
    "map_belief",
    "map_picture",
    "image_map",
)
"""The map's own scripts, in the order they build on each other."""
_MANY = 1500
"""Beyond so many pictures each is kept smaller, so that the file stays one that can be sent."""
_START = """
(async () => {
  const text = JSON.parse(document.getElementById('cs-data').textContent);
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const element = document.getElementById('cs-map');
  const props = { value: await new Response(stream).json() };
  const watch = () => {}, trigger = () => {}, server = {}, upload = () => Promise.resolve(null);
  SCRIPT
})();
"""


def map_to_html(view: MapView, thumbnails: Thumbnails) -> str:
    """The map as a page that works from a file with no network; it holds small copies of the pictures."""
    count = len(view.images)
    side, quality = (128, 72) if count <= _MANY else (72, 60)
    news = map_news(view)
    found = {key: news[key] for key in ("captions", "clusterNames", "recall", "quality", "k")}
    indices, similarities = nearest(view.embeds, NUM_NEIGHBOURS)
    neighbours = [
        [(other, round(share, 4)) for other, share in zip(row, shares, strict=True)]
        for row, shares in zip(indices.tolist(), similarities.tolist(), strict=True)
    ]
    pictures = [thumbnails.get(image.path, side, quality) for image in view.images]
    value = {
        "map": describe_map(view) | found | {"id": "file", "change": "new", "after": None, "working": False},
        "answers": {"thumbnails": pictures, "neighbours": neighbours},
    }
    title = f"Image map: {count:,} pictures, by {view.title}"
    return make_page(
        title,
        f'<main id="cs-map"><h1>{html.escape(title)}</h1><div class="cs-part"></div></main>',
        to_base64(gzip.compress(json.dumps(value).encode(), 6, mtime=0)),
        [plotly_file().read_text(encoding="utf-8"), _START.replace("SCRIPT", read_script(*SCRIPTS))],
        images="data: blob:",
        # Plotly's fast points compile their drawing programs at run time; nothing can be fetched.
        more="'unsafe-eval'",
    )
