"""What a tab's file declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr
from gradio.context import get_render_context

from captioning.ui.page import Page


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab's name, its id for links, and the function that draws it where the page is being built."""

    title: str
    tab_id: str
    build: Callable[[Page], None]


def current_tab() -> gr.Tab:
    """The tab that is being built, whose `select` says that a person opens it."""
    tab = get_render_context()
    assert isinstance(tab, gr.Tab)
    return tab
