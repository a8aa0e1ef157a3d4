"""The Map tab: pictures that a model finds alike lie together."""

from __future__ import annotations

from captioning.tabs.image_map.tab import MapTab
from captioning.ui.page import Page
from captioning.ui.tab import Tab


def build(page: Page) -> None:
    """Draw the tab where the page is being built."""
    MapTab(page)


TAB = Tab("Map", "map", build)
