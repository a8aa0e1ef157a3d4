"""The Attention tab: where the model looked for each word, whether that can be believed, and what follows from it."""

from __future__ import annotations

from captioning.tabs.attention.tab import AttentionTab
from captioning.ui.page import Page
from captioning.ui.tab import Tab, current_tab


def build(page: Page) -> None:
    """Draw the tab where the page is being built; it opens on the picture in hand."""
    AttentionTab(page).connect(current_tab())


TAB = Tab("Attention", "attention", build)
