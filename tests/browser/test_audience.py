"""The page before an audience: opened by links, shown large, in any theme and width, in any direction of writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from captioning.serving.shared_captioner import SharedCaptioner
from tests.browser.screenshots import DRAWN, save
from tests.conftest import FakeCaptioner, FakeLoader

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]

SAMPLES = {
    "caption": "lion.jpg",
    "video": "world.mp4",
    "attention": "lion.jpg",
    "map": "photographs",
    "model": "lion.jpg",
}
SELECTED = "#cs-tabs > .tab-wrapper [role=tab][aria-selected=true]"


def follow(open_page: OpenPage, tab: str, more: str = "", loader: FakeLoader | None = None, **options: str) -> Any:
    """Open the link to a tab with a sample, and wait until what it names is drawn."""
    page = open_page(loader or FakeLoader(), link=f"?tab={tab}&sample={SAMPLES[tab]}{more}", **options)
    page.wait_for_selector(DRAWN[tab])
    return page


def test_a_link_opens_a_tab_with_its_sample_and_its_word(open_page: OpenPage) -> None:
    for tab in ("caption", "video"):
        assert follow(open_page, tab).locator(SELECTED).inner_text().lower() == tab
    for word, active in (("of", "of"), ("1", "a")):
        page = follow(open_page, "attention", f"&word={word}")
        assert page.locator(".cs-strip-token.is-active").inner_text() == active
        assert page.locator(".cs-stage-picture").get_attribute("alt") == "lion.jpg"


@pytest.mark.slow
def test_what_a_link_names_and_nobody_knows_is_left_out(open_page: OpenPage) -> None:
    page = open_page(FakeLoader(), link="?tab=nowhere&sample=%3Cimg%20src=x%20onerror=alert(1)%3E&word=$%7B1%7D")
    assert page.locator(SELECTED).inner_text() == "Caption"
    page = follow(open_page, "attention", "&word=%3Cb%3E")
    assert page.locator(".cs-strip-token.is-active").count() == 1
    assert page.locator(".toast-wrap .toast-body").count() == 0


def test_presenting_is_one_key_and_the_next_tab_another_but_not_while_typing(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    decoding = page.get_by_role("button", name="Decoding").first
    assert decoding.is_visible()
    small = page.evaluate("() => parseFloat(getComputedStyle(document.querySelector('.cs-prompts input')).fontSize)")
    page.keyboard.press("PageDown")
    assert page.locator(SELECTED).inner_text() == "Caption"
    page.keyboard.press("Alt+p")
    assert decoding.is_hidden()
    assert (
        page.evaluate("() => parseFloat(getComputedStyle(document.querySelector('.cs-prompts input')).fontSize)")
        > small * 1.2
    )
    page.locator(".cs-prompts input").first.focus()
    page.keyboard.press("PageDown")
    assert page.locator(SELECTED).inner_text() == "Caption"
    page.locator("body").click(position={"x": 2, "y": 2})
    for name in ("Video", "Attention", "Map", "Model", "Model"):
        page.keyboard.press("PageDown")
        page.wait_for_selector(f"{SELECTED}:text-is('{name}')")
    page.keyboard.press("PageUp")
    page.wait_for_selector(f"{SELECTED}:text-is('Map')")
    page.get_by_role("button", name="End presenting").click()
    assert not page.evaluate("() => document.body.classList.contains('cs-presenting')")


SIZES_OF = """(names) => names.map((name) => parseFloat(getComputedStyle(document.querySelector(name)).fontSize))"""
# Gradio's buttons grow over a fifth of a second.
UNTIL_STILL = """(names) => Promise.all(
    names.flatMap((name) => document.querySelector(name).getAnimations()).map((animation) => animation.finished))"""


@pytest.mark.parametrize(
    ("tab", "names"),
    [
        ("caption", ["#cs-name h1", "#cs-captions .cs-line", "#cs-prompts input", "#cs-start"]),
        (
            "attention",
            [".cs-strip", "#cs-look-prompt :is(textarea, input)", "#cs-look-prompt [data-testid=block-info]"],
        ),
        ("model", [".cs-net-panel h2", ".cs-net-panel h3", ".cs-shape"]),
    ],
)
def test_presented_words_are_larger_in_our_own_parts_and_in_gradios(
    open_page: OpenPage, tab: str, names: Sequence[str]
) -> None:
    page = follow(open_page, tab)
    before = page.evaluate(SIZES_OF, names)
    page.keyboard.press("Alt+p")
    page.wait_for_function("() => document.body.classList.contains('cs-presenting')")
    page.evaluate(UNTIL_STILL, names)
    after = page.evaluate(SIZES_OF, names)
    assert [name for name, old, new in zip(names, before, after, strict=True) if new < old * 1.1] == []


class HebrewCaptioner(FakeCaptioner):
    """Writes from right to left."""

    def _caption(
        self, features: Any, prompt: str, prompt_words: list[str], words: list[str], options: Any, seconds: float
    ) -> Any:
        hebrew: Sequence[str] = ("כלב", "חום", "רץ", "בין", "העצים", "היום", "מהר")
        return super()._caption(features, prompt, prompt_words, list(hebrew[: len(words)]), options, seconds)


class HebrewLoader(FakeLoader):
    def __call__(self, model_id: str = "auto", *, report: Any = None) -> SharedCaptioner:
        return self.loaded.setdefault("embedded", SharedCaptioner(HebrewCaptioner()))


def lefts(page: Any, words: str) -> list[float]:
    found: list[float] = page.evaluate(
        "(words) => [...document.querySelectorAll(words)].map((word) => word.getBoundingClientRect().left)", words
    )
    return found


def test_captions_from_right_to_left_run_from_right_to_left(open_page: OpenPage) -> None:
    page = follow(open_page, "caption", loader=HebrewLoader())
    row = page.locator("#cs-captions .cs-caption").last  # the one with no prompt: its words alone give the direction
    boxes = [word.bounding_box()["x"] for word in row.locator(".cs-text .cs-token").all()]
    assert len(boxes) == 7
    assert boxes == sorted(boxes, reverse=True)
    page.get_by_role("tab", name="Attention", exact=True).click()
    page.wait_for_selector(DRAWN["attention"])
    page.locator("#cs-look-prompt :is(input, textarea)").fill("")
    page.get_by_role("button", name="Look", exact=True).click()
    page.wait_for_function("() => document.querySelectorAll('.cs-strip-token').length === 7")
    places = lefts(page, ".cs-strip-token")
    assert places == sorted(places, reverse=True)
    page.locator(".cs-strip").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.querySelectorAll('.cs-strip-token')[1].classList.contains('is-active')")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", list(SAMPLES))
def test_every_tab_is_accessible_at_work_and_presented(open_page: OpenPage, tab: str, theme: str, size: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = follow(open_page, tab, size=size, theme=theme)
    for presents in (False, True):
        if presents:
            page.keyboard.press("Alt+p")
        page.wait_for_timeout(600)
        results = axe.run(page)
        assert results.violations_count == 0, results.generate_report()
        width = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width == 0, "the page scrolls sideways"


@pytest.mark.slow
def test_a_screenshot_stays_within_its_limit(open_page: OpenPage, tmp_path: Path) -> None:
    page = follow(open_page, "caption")
    path = tmp_path / "caption.png"
    assert save(page.screenshot(), path) == path.stat().st_size < 250_000
