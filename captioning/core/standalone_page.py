"""A part of the page as one HTML file: its script, its look and its data inside, and nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from typing import Any

from captioning.core.assets import read_style

# What the page's theme gives to the style sheet, and what Gradio gives to every element.
_THEME = """
body {
  --body-text-color: #18181b; --body-text-color-subdued: #52525b; --body-background-fill: #fafafa;
  --background-fill-primary: #fff; --background-fill-secondary: #fafafa; --border-color-primary: #e4e4e7;
  --button-secondary-background-fill: #fff; --button-secondary-background-fill-hover: #f4f4f5;
  --button-secondary-border-color: #d4d4d8; --button-secondary-text-color: #27272a;
  --input-background-fill: #fff; --input-border-color: #d4d4d8; --input-placeholder-color: #71717a;
  --block-title-text-color: #27272a;
  --text-xs: 11px; --text-sm: 13px; --text-md: 15px; --radius-sm: 4px; --radius-md: 6px; --block-radius: 8px;
  margin: 0; padding: 20px clamp(12px, 3vw, 40px); background-color: var(--body-background-fill);
  color: var(--body-text-color);
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
body.dark {
  --body-text-color: #f4f4f5; --body-text-color-subdued: #a1a1aa; --body-background-fill: #101214;
  --background-fill-primary: #171a1d; --background-fill-secondary: #1f2327; --border-color-primary: #343a40;
  --button-secondary-background-fill: #1f2327; --button-secondary-background-fill-hover: #2a2f34;
  --button-secondary-border-color: #343a40; --button-secondary-text-color: #f4f4f5;
  --input-background-fill: #1f2327; --input-border-color: #343a40; --input-placeholder-color: #a1a1aa;
  --block-title-text-color: #e4e4e7;
}
*, *::before, *::after { box-sizing: border-box; }
h1 { margin: 0 0 12px; font-size: 1.3rem; font-weight: 650; overflow-wrap: anywhere; }
button { font: inherit; }
"""

# Light or dark, as whoever opens the file likes it.
_FOLLOW_THEME = """
const dark = matchMedia('(prefers-color-scheme: dark)');
const follow = () => document.body.classList.toggle('dark', dark.matches);
dark.addEventListener('change', follow);
follow();
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body class="gradio-container">
{body}
<script type="application/json" id="cs-data">{data}</script>
{scripts}
</body>
</html>
"""


def make_page(title: str, body: str, data: Any, scripts: Sequence[str], images: str = "data:", more: str = "") -> str:
    """Return the file: `body` is markup of ours, `data` the JSON that scripts find in the element `cs-data`.

    Nothing but these scripts may run, and pictures come from `images` alone; `more` is what else scripts may do, in
    the words of the Content Security Policy.
    """
    closed = [_closed_in(script) for script in (_FOLLOW_THEME, *scripts)]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in closed)
    return _PAGE.format(
        policy=f"default-src 'none'; img-src {images}; style-src 'unsafe-inline'; script-src {hashes} {more}".rstrip(),
        title=html.escape(title),
        style=_THEME + read_style(),
        body=body,
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        scripts="\n".join(f"<script>{script}</script>" for script in closed),
    )


def to_base64(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def _digest(script: str) -> str:
    return to_base64(hashlib.sha256(script.encode()).digest())


def _closed_in(script: str) -> str:
    """Return a script that does not end its own element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
