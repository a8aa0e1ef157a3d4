"""The Video tab: a clip captioned by the average of its frames, and what each moment adds to the caption."""

from __future__ import annotations

from captioning.tabs.video.tab import VideoTab
from captioning.ui.page import Page
from captioning.ui.tab import Tab


def build(page: Page) -> None:
    """Draw the tab where the page is being built."""
    VideoTab(page)


TAB = Tab("Video", "video", build)
