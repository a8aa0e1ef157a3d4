"""Where the keyboard is, and what is read aloud, while parts of the page come and go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_map_page import CHOSEN, DRAWN, GALLERY, draw_folder, make_few, open_map
from tests.browser.test_model_page import caption_a_sample
from tests.conftest import FakeLoader, Gate
from tests.map_pictures import ColourLoader, make_picture

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]

LISTEN = """(selector) => {
  const node = document.querySelector(selector);
  window.heard = { seen: [], said: [] };
  const note = (list, text) => { if (text && list.at(-1) !== text) list.push(text); };
  const hear = () => {
    const spoken = node.cloneNode(true);
    spoken.querySelectorAll('[aria-hidden=true]').forEach((hidden) => hidden.remove());
    note(window.heard.seen, node.textContent);
    note(window.heard.said, spoken.textContent);
  };
  new MutationObserver(hear).observe(node, { childList: true, characterData: true, subtree: true });
  hear();
}"""
"""Notes every text that a live region shows, and what of it is read aloud."""


def heard(page: Any, kind: str) -> list[str]:
    texts: list[str] = page.evaluate("kind => window.heard[kind]", kind)
    return texts


def wait_for_focus(page: Any, selector: str) -> None:
    page.wait_for_function("selector => document.activeElement.matches(selector)", arg=selector)


def wait_for_focus_on(page: Any, part: str, text: str) -> None:
    """Wait until the focus is in a part of the page, on what shows a text."""
    page.wait_for_function(
        "([part, text]) => document.activeElement.closest(part) && document.activeElement.textContent.includes(text)",
        arg=[part, text],
    )


def press(page: Any, button: Any) -> None:
    """Press a button by the keyboard."""
    button.focus()
    page.keyboard.press("Enter")


def test_counting_is_seen_and_not_read_aloud_and_a_pressed_stop_hands_the_focus_on(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioning.image_map.session.MAP_UPDATE_SECONDS", 0.0)  # so that every caption is counted
    gate = Gate(0)
    page = open_map(open_page, ColourLoader(step_gate=gate))
    page.locator(".cs-intake-folder").set_input_files(make_few(tmp_path))
    page.wait_for_selector(DRAWN)
    page.wait_for_selector(".cs-map-progress .cs-state:has-text('Captioning')")
    page.evaluate(LISTEN, ".cs-map-progress [role=status]")
    for count in range(1, 4):
        gate.let_through(7)  # a caption
        page.wait_for_function("count => window.heard.seen.length > count", arg=count)
    assert len(heard(page, "said")) == 1
    assert heard(page, "said")[0].endswith("Captioning")
    press(page, page.locator(".cs-map-progress .cs-stop"))
    page.wait_for_selector('.cs-map-progress[data-phase="stopped"]')
    wait_for_focus(page, ".cs-map-progress .cs-state")
    gate.open()


def test_neighbours_are_walked_by_keyboard_and_a_cleared_gallery_goes_back_to_the_map(
    open_page: OpenPage, tmp_path: Path
) -> None:
    page = open_map(open_page, ColourLoader())
    draw_folder(page, make_few(tmp_path))
    page.locator(".cs-map-stage").focus()
    page.keyboard.press("ArrowRight")
    for _ in range(2):
        page.wait_for_selector(f"{CHOSEN} .cs-map-tiles button")
        before = page.locator(f"{CHOSEN} h2").inner_text()
        press(page, page.locator(f"{CHOSEN} .cs-map-tiles button").first)
        page.wait_for_function(f"before => document.querySelector('{CHOSEN} h2').textContent !== before", arg=before)
        wait_for_focus(page, f"{CHOSEN} h2")
    page.get_by_role("button", name="List all").click()
    press(page, page.locator(GALLERY).get_by_role("button", name="Clear"))
    page.wait_for_selector(GALLERY, state="hidden")
    wait_for_focus(page, ".cs-map-stage")


def test_a_stopped_upload_goes_back_to_the_button_that_began_it(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_map(open_page, ColourLoader())
    held: list[Any] = []
    page.route("**/upload*", lambda route: held.append(route))
    page.get_by_role("button", name="Choose files…").focus()
    files = [make_picture(tmp_path / f"{n}.png", "red", n) for n in range(6)]
    page.locator(".cs-intake-files").set_input_files(files)
    wait_for_focus_on(page, ".cs-intake", "Stop")
    page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    for route in held:
        route.continue_()
    page.wait_for_selector(".cs-intake:has-text('Stopped; nothing was changed.')")
    wait_for_focus_on(page, ".cs-intake", "Choose files")


def test_an_offer_its_cancel_and_the_offer_again_hold_the_focus(open_page: OpenPage) -> None:
    loader = FakeLoader(download_seconds=20)
    page = open_page(loader)
    press(page, page.get_by_role("button", name="Load BLIP base"))
    page.wait_for_selector(".cs-notice .cs-progress-text:has-text('Downloading')")
    wait_for_focus_on(page, ".cs-notice", "Cancel")
    page.evaluate(LISTEN, ".cs-progress-text")
    page.wait_for_function("() => window.heard.seen.length > 2")
    assert heard(page, "said") == ["Downloading BLIP base…"]
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.textContent.startsWith('Load BLIP base')")
    loader.download_seconds = 0.2
    page.keyboard.press("Enter")
    page.wait_for_selector(".cs-notice", state="hidden")
    wait_for_focus(page, ".cs-status")
    assert page.locator(".cs-status [role=status]").text_content() == "BLIP base is ready"


def test_a_stopped_comparison_hands_the_focus_on(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = open_page(loader)
    caption_a_sample(page)
    page.get_by_role("button", name="Compare models").click()
    field = page.locator("#cs-compare input").first
    for name in ("embedded", "wordless"):
        field.fill(name)
        field.press("Enter")
    loader.step_gate = gate = Gate(1)  # of the second, which is loaded now
    page.locator("#cs-compare-start").click()
    page.wait_for_selector('.cs-comparison[data-phase="busy"]')
    press(page, page.locator(".cs-comparison .cs-stop"))
    page.wait_for_selector('.cs-comparison[data-phase="stopped"]')
    wait_for_focus(page, ".cs-comparison-state")
    gate.open()


def test_measuring_again_hands_the_focus_to_stop_and_to_the_heading(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = open_page(loader)
    page.get_by_role("tab", name="Attention", exact=True).click()
    page.locator("#cs-look-samples .cs-sample").first.click()
    belief = page.locator("#cs-belief")
    belief.get_by_role("button", name="Measure").click()
    page.wait_for_selector('#cs-belief .cs-panel[data-phase="done"]')
    loader.fakes["embedded"].picture_gate = gate = Gate(0)
    press(page, belief.get_by_role("button", name="Measure the word in view"))
    wait_for_focus_on(page, "#cs-belief", "Stop")
    gate.open()
    wait_for_focus(page, "#cs-belief h2")
    assert page.locator("#cs-belief .cs-panel").get_attribute("data-phase") == "done"
