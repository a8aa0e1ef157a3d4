"""A map as one HTML file: the page's own script and look, the data and Plotly inside, and no address outside it."""

from __future__ import annotations

import base64
import gzip
import html
import json

from captioning.assets import read_script, read_style
from captioning.image_map import nearest
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
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body class="gradio-container">
<main id="cs-map"><h1>{title}</h1><div class="cs-part"></div></main>
<script type="application/json" id="map-data">{data}</script>
<script>{plotly}</script>
<script>
(async () => {{
  if (matchMedia('(prefers-color-scheme: dark)').matches) document.body.classList.add('dark');
  const text = JSON.parse(document.getElementById('map-data').textContent);
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const element = document.getElementById('cs-map');
  const props = {{ value: await new Response(stream).json() }};
  const watch = () => {{}}, trigger = () => {{}}, server = {{}}, upload = () => Promise.resolve(null);
  {script}
}})();
</script>
</body>
</html>
"""
# Plotly's fast points compile their drawing programs at run time, which 'unsafe-eval' allows; nothing can be fetched.
_POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
_LOOK = """
:root { --body-text-color: #18181b; --body-text-color-subdued: #52525b; --background-fill-primary: #fff;
  --background-fill-secondary: #fafafa; --border-color-primary: #e4e4e7; --block-radius: 8px; --radius-md: 6px;
  --text-xs: 12px; --text-sm: 13.5px; --text-md: 15px; --input-border-color: #d4d4d8; --input-background-fill: #fff;
  --input-placeholder-color: #71717a; --button-secondary-border-color: #d4d4d8;
  --button-secondary-background-fill: #fff; --button-secondary-background-fill-hover: #f4f4f5;
  --button-secondary-text-color: #27272a; --block-title-text-color: #27272a; }
body.dark { --body-text-color: #f4f4f5; --body-text-color-subdued: #a1a1aa; --background-fill-primary: #171a1d;
  --background-fill-secondary: #1f2327; --border-color-primary: #343a40; --input-border-color: #343a40;
  --input-background-fill: #1f2327; --input-placeholder-color: #a1a1aa; --button-secondary-border-color: #343a40;
  --button-secondary-background-fill: #1f2327; --button-secondary-background-fill-hover: #2a2f34;
  --button-secondary-text-color: #f4f4f5; --block-title-text-color: #e4e4e7; }
body { margin: 0; padding: 16px; background-color: #fafafa; color: var(--body-text-color);
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
body.dark { background-color: #101214; }
*, *::before, *::after { box-sizing: border-box; }
h1 { margin: 0 0 12px; font-size: 1.3rem; font-weight: 650; overflow-wrap: anywhere; }
button { font: inherit; }
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
    packed = base64.b64encode(gzip.compress(json.dumps(value).encode(), 6, mtime=0)).decode()
    return _PAGE.format(
        policy=_POLICY,
        title=html.escape(f"Image map: {count:,} pictures, by {view.title}"),
        style=_LOOK + read_style(),
        data=json.dumps(packed),
        plotly=_closed_in(plotly_file().read_text(encoding="utf-8")),
        script=_closed_in(read_script(*SCRIPTS)),
    )


def _closed_in(script: str) -> str:
    """A script that does not end the element it stands in."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
