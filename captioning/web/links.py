"""Links that open a tab with a sample and a word chosen: `/?tab=attention&sample=cheetah1.jpg&word=5`.

What a link names and nobody knows is left out, so that an old link still opens the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from captioning.ui.page import Page
from captioning.ui.picture import Sample

TOUR = (
    {"tab": "caption", "sample": "cheetah1.jpg"},
    {"tab": "video", "sample": "world.mp4"},
    {"tab": "attention", "sample": "cheetah1.jpg", "word": "5"},
    {"tab": "map", "sample": "photographs"},
    {"tab": "model", "sample": "china.jpg"},
)
"""Links that show every tab at work, in an order that makes a tour."""


@dataclass(frozen=True, slots=True)
class Link:
    """The tab that a link opens, the sample it names there, and the word: itself, or its place, from 1."""

    tab: str
    sample: str = ""
    word: str = ""


def read_link(query: Mapping[str, str], tab_ids: Sequence[str]) -> Link | None:
    """Read what a page's address names: without a tab the first, and `None` where nothing known is named."""
    tab = query.get("tab") or tab_ids[0]
    if tab not in tab_ids or not ("tab" in query or "sample" in query):
        return None
    return Link(tab, query.get("sample") or "", query.get("word") or "")


def tour_links(address: str) -> list[str]:
    """Return the tour's links to a page at an address."""
    return [f"{address.rstrip('/')}/?{urlencode(stop)}" for stop in TOUR]


def linked_file(link: Link | None, tab_id: str, samples: Sequence[Sample], cache_folder: str) -> str | None:
    """Copy the sample that a link names for a tab to where the page may read it; return `None` where it names none."""
    if link is None or link.tab != tab_id:
        return None
    paths = (sample.path for sample in samples if sample.name == link.sample)
    path = next(paths, None)
    return None if path is None else str(save_file_to_cache(path, cache_folder))


def open_links(demo: gr.Blocks, page: Page, tab_ids: Sequence[str]) -> None:
    """When the page is opened by a link, go to its tab and tell all tabs by `page.link`."""

    def open_link(request: gr.Request) -> Any:
        link = read_link(request.query_params, tab_ids)
        return gr.skip() if link is None else {page.link: link, page.tabs: gr.update(selected=link.tab)}

    # Queued: what changes a state outside the queue is not told to those who listen to it.
    demo.load(open_link, None, [page.link, page.tabs], **page.event(concurrency_limit=None))


def take_linked(page: Page, tab_id: str, target: gr.blocks.Block, list_samples: Callable[[], Sequence[Sample]]) -> None:
    """Put the sample that a link names for a tab into the tab's input."""

    def take(link: Link | None) -> Any:
        path = linked_file(link, tab_id, list_samples(), page.tabs.GRADIO_CACHE)
        return gr.skip() if path is None else path

    page.link.change(take, page.link, target, **page.event(queue=False))
