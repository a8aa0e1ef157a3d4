"""The Model tab: what is inside the chosen model, what it receives of a picture, and how it reads words."""

from __future__ import annotations

import gradio as gr

from captioning.tabs.model.net import NetSection
from captioning.tabs.model.patches import PatchSection
from captioning.tabs.model.words import WordSection
from captioning.ui.links import take_linked
from captioning.ui.page import Page
from captioning.ui.picture import list_samples
from captioning.ui.tab import Tab, current_tab


def build(page: Page) -> None:
    """Draw the tab where the page is being built; each section is asked for when it is opened."""
    tab = current_tab()
    with gr.Tabs(elem_id="cs-model-tabs"):
        with gr.Tab("Net", id="net") as net:
            NetSection(page).connect([tab.select, net.select])
        with gr.Tab("Picture", id="picture") as picture:
            PatchSection(page).connect([picture.select])
        with gr.Tab("Words", id="words") as words:
            WordSection(page).connect([words.select])
    take_linked(page, "model", page.picture, list_samples)


TAB = Tab("Model", "model", build)
