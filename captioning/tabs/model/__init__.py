"""The Model tab: what is inside the chosen model, what it receives of a picture, and how it reads words."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from captioning.tabs.model.net import NetSection
from captioning.tabs.model.patches import PatchSection
from captioning.tabs.model.words import WordSection
from captioning.ui.page import Page
from captioning.ui.parts import next_serial
from captioning.ui.picture import list_samples
from captioning.ui.tab import Tab, current_tab
from captioning.web.links import take_linked

SECTIONS: dict[str, type[NetSection | PatchSection | WordSection]] = {
    "net": NetSection,
    "picture": PatchSection,
    "words": WordSection,
}
"""The sections by the ids of their tabs; the first is the one that the tab opens on."""


def build(page: Page) -> None:
    """Draw the tab where the page is being built.

    A section works only while it is the one in view: it hears when it is opened, when the whole tab is opened on it,
    and when another model is chosen after that.
    """
    tab = current_tab()
    in_view = gr.State(next(iter(SECTIONS)))
    opened = {name: gr.State(0) for name in SECTIONS}
    inner: dict[str, gr.Tab] = {}
    with gr.Tabs(elem_id="cs-model-tabs"):
        for name, section in SECTIONS.items():
            with gr.Tab(name.capitalize(), id=name) as inner[name]:
                section(page).connect(opened[name].change)

    def open_section(name: str) -> dict[Any, Any]:
        return {opened[name]: next_serial()}

    def open_inner(name: str) -> dict[Any, Any]:
        return {in_view: name} | open_section(name)

    def open_again(name: str, *serials: int) -> dict[Any, Any]:
        return open_section(name) if any(serials) else gr.skip()

    states = list(opened.values())
    # Queued: what changes a state outside the queue is not told to those who listen to it.
    queued = page.event(concurrency_limit=None)
    tab.select(open_section, in_view, states, **queued)
    for name, part in inner.items():
        part.select(partial(open_inner, name), None, [in_view, *states], **queued)
    page.model_id.change(open_again, [in_view, *states], states, **queued)
    take_linked(page, "model", page.picture, list_samples)


TAB = Tab("Model", "model", build)
