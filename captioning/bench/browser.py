"""HTML files opened in Chromium, for the cases that measure how soon a page responds.

playwright drives Chromium. The dashboard itself needs neither. Where one of them is missing, the case says so.
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

_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
_TIMEOUT_MILLISECONDS = 120_000

WAIT_FOR_PAINT = """
// The next frame paints all earlier changes. A message that is posted in that frame arrives after it is painted.
const drawn = () => new Promise((resolve) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(null);
}));
"""
"""A JavaScript function, `drawn`, that waits until the next frame is painted."""


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Open the system's Chromium, or the one that playwright installed.

    Raises `NotMeasuredError` where playwright or Chromium is missing.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise NotMeasuredError("playwright is not installed; install requirements-dev.txt.") from error
    path = next((found for name in _CHROMIUM_NAMES if (found := shutil.which(name))), None)
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
    """Open one of our HTML files without network.

    Yields the page and the seconds until the element `ready` was painted.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(document, encoding="utf-8")
        context = browser.new_context(offline=True, viewport={"width": 1360, "height": 900})
        try:
            page = context.new_page()
            page.set_default_timeout(_TIMEOUT_MILLISECONDS)
            page.goto(path.as_uri(), wait_until="commit")
            page.wait_for_selector(ready)
            # By the page's own clock, which starts with the navigation: this process sees the element later.
            milliseconds = page.evaluate(f"async () => {{ {WAIT_FOR_PAINT} await drawn(); return performance.now(); }}")
            yield page, milliseconds / 1000
        finally:
            context.close()
