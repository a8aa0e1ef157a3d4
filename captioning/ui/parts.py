"""Parts of the page that are drawn by our own scripts from plain JSON.

A part's template is static and its script puts every text in with `textContent`, so nothing that a person typed
or a model wrote is ever evaluated as markup, template or code.
"""

from __future__ import annotations

import itertools
import time
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).resolve().parents[2] / "assets"
_TEMPLATE = '<div class="cs-part"></div>'
_serials = itertools.count(time.time_ns() // 1000)


@cache
def read_script(name: str) -> str:
    """A page script with the helpers that all of them use, as the text of one function's body."""
    helpers, script = (ASSETS / file for file in ("page.js", f"{name}.js"))
    # In a block of its own, so that a script may use a helper's name for something else.
    return f"(() => {{\n{helpers.read_text(encoding='utf-8')}\n{{\n{script.read_text(encoding='utf-8')}\n}}\n}})();"


def make_part(script: str, value: Any, elem_id: str, **options: Any) -> gr.HTML:
    """A part drawn by `assets/{script}.js`, starting from a JSON value; `options` go to `gr.HTML`."""
    return gr.HTML(
        value=value,
        html_template=_TEMPLATE,
        js_on_load=read_script(script),
        apply_default_css=False,
        elem_id=elem_id,
        **options,
    )


def next_serial() -> int:
    """A number that grows with every value sent, also across restarts, so that a part can ignore late ones."""
    return next(_serials)


def read_style() -> str:
    """The style sheet of the page."""
    return (ASSETS / "style.css").read_text(encoding="utf-8")
