"""A file open in Chromium, and how long it takes to answer: for cases about what a person sees.

playwright drives it, which the dashboard itself does not need; where it or a Chromium is missing, a case says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from captioning.bench.result import NotMeasuredError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_LONGEST_MILLISECONDS = 120_000

DRAWN = """
// Drawings asked for before come with the next frame; a message posted in a frame arrives when it has been painted.
const drawn = () => new Promise((resolve) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(null);
}));
"""
"""JavaScript: a function that waits until the next frame is painted."""


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """The system's Chromium, or the one that playwright installed. Raises `NotMeasuredError` where there is neither."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise NotMeasuredError("playwright is not installed; install requirements-dev.txt.") from error
    path = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            raise NotMeasuredError("There is no Chromium on this machine; install Debian's chromium.") from error
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def open_document(browser: Browser, document: str, ready: str) -> Iterator[tuple[Page, float]]:
    """An HTML file of ours with no network, and how many seconds it took until the element `ready` was painted."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(document, encoding="utf-8")
        context = browser.new_context(offline=True, viewport={"width": 1360, "height": 900})
        try:
            page = context.new_page()
            page.set_default_timeout(_LONGEST_MILLISECONDS)
            page.goto(path.as_uri(), wait_until="commit")
            page.wait_for_selector(ready)
            # On the page's own clock, which starts when it is asked for: this process hears of it later.
            milliseconds = page.evaluate(f"async () => {{ {DRAWN} await drawn(); return performance.now(); }}")
            yield page, milliseconds / 1000
        finally:
            context.close()
