"""Parts of the page that are drawn by our own scripts from plain JSON.

A part's template is static and its script puts every text in with `textContent`, so nothing that a person typed
or a model wrote is ever evaluated as markup, template or code.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import gradio as gr

from captioning.core.page_scripts import events_of, scripts_address

_TEMPLATE = '<div class="cs-part"></div>'
# Gradio runs this as the body of a plain function, and lets Python listen to the events that are quoted in it. The path
# is absolute, for the page may be open at a deeper address.
_MOUNT = """// EVENTS
const root = new URL(window.gradio_config.root || '/', document.baseURI).pathname.replace(/[/]$/, '');
import(`${root}/ADDRESS/common/part.js`)
.then((page) => page.mountPart('SCRIPT', { element, props, trigger, watch, server, upload }))
.catch((error) => {
console.error(error);
element.querySelector('.cs-part').textContent = 'This part of the page could not be loaded; reload the page.';
});"""
_serials = itertools.count(time.time_ns() // 1000)


def make_part(script: str, value: Any, elem_id: str, **options: Any) -> gr.HTML:
    """Return a part drawn by `assets/{script}.js`, starting from a JSON value; `options` go to `gr.HTML`."""
    events = " ".join(f"'{event}'" for event in events_of(f"{script}.js"))
    mount = _MOUNT.replace("EVENTS", events).replace("ADDRESS", scripts_address()).replace("SCRIPT", script)
    return gr.HTML(
        value=value,
        html_template=_TEMPLATE,
        js_on_load=mount,
        apply_default_css=False,
        elem_id=elem_id,
        **options,
    )


def next_serial() -> int:
    """A number that grows with every value sent, also across restarts, so that a part can ignore late ones."""
    return next(_serials)
