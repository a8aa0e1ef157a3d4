"""A real browser on a real page with fake captioners; every test also fails on console errors and foreign requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NoReturn

import pytest

from captioning.bench.browser import open_chromium
from captioning.bench.result import NotMeasuredError
from captioning.serving.loading import LoadCaptioner
from tests.page_server import serve

# No test may depend on the machine's speed: `make test-speeds` runs them with a processor of a quarter of the speed.
SLOWDOWN = float(os.environ.get("BROWSER_SLOWDOWN", "1"))
SIZES = {"wide": {"width": 1360, "height": 900}, "narrow": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium. Without one the test is skipped, or fails where REQUIRE_BROWSER=1.

    It lives no longer than its module: its driver keeps an event loop running, in which no other can be started.
    """
    with ExitStack() as stack:
        try:
            chromium = stack.enter_context(open_chromium())
        except NotMeasuredError as error:
            _go_without(str(error))
        yield chromium


def _go_without(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Serve a dashboard with a loader and open it; what went wrong unseen is found at the end of the test."""
    troubles: list[str] = []
    with ExitStack() as stack:

        def open_dashboard(
            loader: LoadCaptioner, size: str = "wide", theme: str = "light", ready: bool = True, link: str = ""
        ) -> Any:
            address = stack.enter_context(serve(loader))
            context = browser.new_context(
                viewport=SIZES[size], color_scheme=theme, permissions=["clipboard-read", "clipboard-write"]
            )
            stack.callback(context.close)
            page = context.new_page()
            context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWDOWN})
            page.on("console", lambda m: troubles.append(f"console: {m.text}") if m.type == "error" else None)
            page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
            page.on("request", lambda request: _check_host(request.url, address, troubles))
            page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
            page.set_default_timeout(60_000)
            page.goto(address + link)
            if ready:
                page.wait_for_selector('.cs-status[data-state="ready"]')
            return page

        yield open_dashboard
    assert troubles == []


def _check_host(url: str, address: str, troubles: list[str]) -> None:
    if not url.startswith((address, "data:", "blob:")):
        troubles.append(f"request to another host: {url}")
