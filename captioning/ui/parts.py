"""Parts of the page that are drawn by our own scripts from plain JSON.

A part's template is static and its script puts every text in with `textContent`, so nothing that a person typed
or a model wrote is ever evaluated as markup, template or code.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import gradio as gr

from captioning.core.assets import read_script

_TEMPLATE = '<div class="cs-part"></div>'
_serials = itertools.count(time.time_ns() // 1000)


def make_part(script: str | tuple[str, ...], value: Any, elem_id: str, **options: Any) -> gr.HTML:
    """A part drawn by `assets/{script}.js`, or by several, starting from a JSON value; `options` go to `gr.HTML`."""
    return gr.HTML(
        value=value,
        html_template=_TEMPLATE,
        js_on_load=read_script(*([script] if isinstance(script, str) else script)),
        apply_default_css=False,
        elem_id=elem_id,
        **options,
    )


def next_serial() -> int:
    """A number that grows with every value sent, also across restarts, so that a part can ignore late ones."""
    return next(_serials)
