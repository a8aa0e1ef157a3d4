"""The Attention tab as a person meets it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioning.attention.page_value import explorer_html, explorer_value, pack_weights, picture_file
from captioning.attention.views import AttentionView
from captioning.bench.browser import open_document
from captioning.bench.cases.explorer import READY as READY_FILE
from captioning.bench.cases.explorer import large_explorer, time_moves
from captioning.core.types import Capabilities, CaptionTrace, PatchLayout, Picture
from tests.clips import make_clip
from tests.conftest import FAKE_SPEC, FakeCaptioner, FakeLoader, Gate

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]

READY = '#cs-explorer .cs-explorer[data-phase="done"]'
ACTIVE = ".cs-strip-token.is-active"


def open_attention(page: Any) -> None:
    page.get_by_role("tab", name="Attention", exact=True).click()


def look_with(open_page: OpenPage, loader: FakeLoader) -> Any:
    """A page whose Attention tab has looked at a sample."""
    page = open_page(loader)
    open_attention(page)
    look_at_sample(page)
    return page


def look_at_sample(page: Any, number: int = 0) -> None:
    page.locator("#cs-look-samples .cs-sample").nth(number).click()
    page.wait_for_selector(READY)
    page.wait_for_selector(ACTIVE)


def settle(page: Any) -> None:
    """Until what was moved is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def heat(page: Any) -> list[int]:
    """The pixels of the map over the picture."""
    pixels: list[int] = page.evaluate(
        "() => { const c = document.querySelector('.cs-stage-heat');"
        " return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
    )
    return pixels


def explaining_loader(monkeypatch: pytest.MonkeyPatch) -> FakeLoader:
    spec = replace(FAKE_SPEC, capabilities=Capabilities(explanation_methods=("relevance",)))
    monkeypatch.setattr("tests.conftest._fake_spec", lambda name: replace(spec, model_id=name))
    return FakeLoader()


def test_words_are_walked_by_keyboard_and_mouse_without_asking_the_server(open_page: OpenPage) -> None:
    page = look_with(open_page, FakeLoader())
    strip = page.get_by_role("listbox", name="Tokens of the caption")
    assert strip.locator("[role=option]").count() == 10
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    strip.focus()
    page.keyboard.press("Home")
    settle(page)
    first = heat(page)
    assert page.locator(ACTIVE).inner_text() == "a"
    assert re.match(r"a, prompt, 1 of 10, \d+ %", str(page.locator(ACTIVE).get_attribute("aria-label")))
    assert strip.get_attribute("aria-activedescendant") == page.locator(ACTIVE).get_attribute("id")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert heat(page) != first
    page.keyboard.press("ArrowUp")
    settle(page)
    assert page.locator(".cs-layer-text").inner_text() == "1 of 2"
    page.locator(".cs-strip-token").nth(6).hover()
    settle(page)
    assert page.locator(ACTIVE).inner_text() == page.locator(".cs-strip-token").nth(6).inner_text()
    page.mouse.move(5, 5)
    settle(page)
    page.locator(".cs-strip-token").nth(4).click()
    page.get_by_label("Head", exact=True).select_option(label="1")
    settle(page)
    assert "on the picture" in page.locator(".cs-facts-line").inner_text()
    assert "bits" in page.locator(".cs-facts-line").inner_text()
    page.get_by_label("Method").select_option("attention_clean")
    page.locator(".cs-matrix").focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator(".cs-matrix").get_attribute("aria-valuetext").startswith("layer 1, head 2")
    page.locator(".cs-stage-frame").click(position={"x": 40, "y": 40})
    settle(page)
    assert page.locator(".cs-strip-token[data-share]").count() == 10
    assert page.locator(".cs-found").inner_text().startswith("Looked here most:")
    page.locator(".cs-stage-frame").focus()
    page.keyboard.press("Escape")
    settle(page)
    assert page.locator(".cs-strip-token[data-share]").count() == 0
    page.get_by_text("Display", exact=True).click()
    for label, choice in (("Scale", "per_map"), ("Show", "weighted"), ("Show", "map"), ("Colours", "viridis")):
        page.get_by_label(label, exact=True).select_option(choice)
        settle(page)
    page.get_by_label("Order").select_option("entropy")
    page.locator(".cs-word-cell").nth(8).click()
    settle(page)
    assert page.locator(".cs-word-cell").nth(8).get_attribute("aria-pressed") == "true"
    assert asked == []


@pytest.mark.slow
def test_playing_walks_to_the_end_and_stops(open_page: OpenPage) -> None:
    page = look_with(open_page, FakeLoader())
    page.locator(".cs-strip-token").nth(8).click()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelectorAll('.cs-strip-token')[9].classList.contains('is-active')")
    page.get_by_role("button", name="Play").wait_for()


def test_a_caption_is_carried_over_by_one_click_and_a_typed_one_is_looked_at(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    page.locator("#cs-samples .cs-sample").nth(1).click()
    page.wait_for_selector('.cs-caption-cards[data-phase="done"]')
    text = page.locator("#cs-captions .cs-card").nth(1).locator(".cs-text").inner_text()
    page.locator("#cs-captions .cs-card").nth(1).get_by_role("button", name="Open in Attention").click()
    page.wait_for_selector(ACTIVE)
    assert page.get_by_role("tab", name="Attention", exact=True).get_attribute("aria-selected") == "true"
    assert page.locator(".cs-strip").inner_text().split() == text.split()
    page.wait_for_timeout(600)  # the picture that came along does not have another caption written
    assert page.locator(".cs-strip").inner_text().split() == text.split()
    page.locator("#cs-look-text textarea").fill("one ${1+1} <b>bear</b>")
    page.locator("#cs-look-start").click()
    page.wait_for_function("() => document.querySelector('.cs-strip').innerText.includes('${1+1} <b>bear</b>')")
    page.locator("#cs-look-prompt input, #cs-look-prompt textarea").first.fill("")
    page.locator("#cs-look-text textarea").fill("one")
    page.locator("#cs-look-start").click()
    page.wait_for_function("() => document.querySelectorAll('.cs-strip-token').length === 1")
    page.locator("#cs-look-text textarea").fill(" ".join(f"w{n}" for n in range(60)))
    page.locator("#cs-look-start").click()
    page.wait_for_function("() => document.querySelectorAll('.cs-strip-token').length === 60")


@pytest.mark.slow
def test_another_method_is_computed_on_request_and_locks_what_it_does_not_have(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = explaining_loader(monkeypatch)
    page = look_with(open_page, loader)
    before = heat(page)
    method = page.get_by_label("Method")
    assert method.locator("option[disabled]").all_inner_texts() == ["Gradient × attention (not offered by this model)"]
    method.select_option("relevance")
    page.wait_for_function("() => document.querySelector('.cs-locked').textContent.startsWith('Layer and head do not')")
    assert heat(page) != before
    assert page.get_by_role("slider", name="Layer", exact=True).is_disabled()
    assert loader.fakes["embedded"].explained == 10
    page.locator(".cs-matrix").click(position={"x": 5, "y": 5})
    settle(page)
    assert method.input_value() == "attention"


def test_a_method_that_comes_late_does_not_push_away_what_was_chosen_meanwhile(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = explaining_loader(monkeypatch)
    page = look_with(open_page, loader)
    fake, go_on = loader.fakes["embedded"], threading.Event()
    explain = fake.explain
    monkeypatch.setattr(fake, "explain", lambda *about: go_on.wait(60) and explain(*about))
    method = page.get_by_label("Method")
    method.select_option("relevance")
    page.wait_for_selector('#cs-explorer .cs-explorer[data-phase="busy"]')
    page.locator(".cs-matrix").click(position={"x": 5, "y": 5})
    go_on.set()
    page.wait_for_selector(READY)
    settle(page)
    assert method.input_value() == "attention"
    method.select_option("relevance")
    settle(page)
    assert method.input_value() == "relevance", "its maps are here by now"


LABEL_PIXELS = """() => {
  const chart = document.querySelector('.cs-chart');
  return chart.getScreenCTM().a * parseFloat(getComputedStyle(chart.querySelector('text')).fontSize);
}"""


def test_a_word_is_measured_asked_about_again_and_taken_along(open_page: OpenPage, tmp_path: Path) -> None:
    page = look_with(open_page, FakeLoader())
    belief = page.locator("#cs-belief")
    assert re.search(r"about .* changed pictures", belief.inner_text())
    belief.get_by_role("button", name="Measure").click()
    page.wait_for_selector('#cs-belief .cs-panel[data-phase="done"]')
    assert belief.locator("svg[role=img]").count() == 2
    assert "Jain and Wallace, 2019" in belief.inner_text()
    assert belief.locator("tbody tr").count() == 4
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.querySelector('.cs-chart').getBoundingClientRect().width < 390")
    assert page.evaluate(LABEL_PIXELS) >= 11
    page.set_viewport_size({"width": 1360, "height": 900})
    page.get_by_label("Order").select_option("importance")
    page.locator("#cs-again").get_by_role("button", name="Hide").click()
    page.wait_for_selector('#cs-again .cs-panel[data-phase="done"]')
    assert page.locator("#cs-again img").count() == 1
    with page.expect_download() as download:
        page.get_by_role("button", name="Save this map as PNG").click()
    assert download.value.suggested_filename == "cheetah-map.png"
    with Image.open(download.value.path()) as image:
        assert image.format == "PNG"
    page.locator(".cs-strip-token").nth(5).click()
    page.get_by_label("Head", exact=True).select_option(label="2")
    settle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save this view").click()
    download.value.save_as(tmp_path / "view.json")
    page.locator(".cs-strip-token").nth(0).click()
    page.get_by_label("Head", exact=True).select_option(label="mean")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a saved view").click()
    chooser.value.set_files(tmp_path / "view.json")
    page.wait_for_function("() => document.querySelectorAll('.cs-strip-token')[5].classList.contains('is-active')")
    assert page.get_by_label("Head", exact=True).input_value() == "1"


def test_what_was_asked_again_stays_as_it_is_while_more_is_asked(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = look_with(open_page, loader)
    again = page.locator("#cs-again")
    again.get_by_role("button", name="Hide").click()
    page.wait_for_selector('#cs-again .cs-panel[data-phase="done"]')
    again.locator("img").evaluate("picture => { picture.dataset.first = 'yes'; }")
    loader.fakes["embedded"].picture_gate = gate = Gate(0)
    again.get_by_role("button", name="Weigh").click()
    page.wait_for_selector('#cs-again .cs-panel[data-phase="busy"]')
    page.wait_for_timeout(1200)
    assert again.locator("img[data-first]").count() == 1
    gate.open()
    page.wait_for_function("() => document.querySelectorAll('#cs-again img').length === 2")


@pytest.mark.slow
def test_a_frame_of_a_clip_is_opened(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(FakeLoader())
    page.get_by_role("tab", name="Video").click()
    page.locator("#cs-clip input[type=file]").first.set_input_files(make_clip(tmp_path / "clip.mp4"))
    page.wait_for_selector('#cs-clip-captions .cs-caption-cards[data-phase="done"]')
    page.get_by_role("button", name=re.compile("in Attention")).nth(2).click()
    page.wait_for_selector(ACTIVE)
    assert page.locator(".cs-explorer .cs-state").inner_text().startswith("clip-")


@pytest.mark.slow
def test_measuring_can_be_stopped(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = look_with(open_page, loader)
    loader.fakes["embedded"].picture_gate = gate = Gate(1)
    page.locator("#cs-belief").get_by_role("button", name="Measure").click()
    page.locator("#cs-belief").get_by_role("button", name="Stop").click()
    page.wait_for_selector('#cs-belief .cs-panel[data-phase="stopped"]')
    assert "”: ." not in page.locator("#cs-belief").inner_text()
    encoded = loader.fakes["embedded"].encoded
    gate.open()
    page.wait_for_timeout(1000)
    assert loader.fakes["embedded"].encoded <= encoded + 8


def test_what_cannot_be_looked_at_is_one_sentence_and_the_next_one_works(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(FakeLoader())
    open_attention(page)
    message = page.locator("#cs-explorer .cs-message")
    page.locator("#cs-look-start").click()
    page.wait_for_selector("#cs-explorer .cs-message.cs-error")
    assert "There is no picture yet" in message.inner_text()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.locator("#cs-look-picture input[type=file]").set_input_files(broken)
    page.wait_for_selector("#cs-explorer .cs-message:has-text('broken.png is not a picture')")
    look_at_sample(page, 2)
    assert not message.is_visible()


@pytest.mark.slow
def test_large_attention_is_fetched_by_layer(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.tabs.attention.tab.is_large", lambda _: True)
    page = open_page(FakeLoader())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.headers.get("range", "")))
    open_attention(page)
    look_at_sample(page)
    settle(page)
    assert len([part for part in asked if part]) == 2, "the numbers in front, and the mean of layers"
    page.locator(".cs-strip").focus()
    page.keyboard.press("ArrowUp")
    page.wait_for_function("() => document.querySelector('.cs-layer-text').textContent === '1 of 2'")
    page.wait_for_timeout(200)
    assert len([part for part in asked if part]) == 3
    page.get_by_role("button", name="Fetch all layers").click()
    page.get_by_role("button", name="Fetch all layers").wait_for(state="hidden")
    assert len([part for part in asked if part]) == 4


@pytest.mark.slow
def test_a_layer_that_does_not_arrive_is_asked_for_again_only_on_request(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioning.tabs.attention.tab.is_large", lambda _: True)
    page = open_page(FakeLoader())
    open_attention(page)
    look_at_sample(page)
    page.evaluate(
        "() => { window.realFetch = window.fetch; window.asked = 0; window.fetch = (url, options) => {"
        " if (!options?.headers?.Range) return window.realFetch(url, options);"
        " window.asked += 1; return Promise.reject(new Error('the network is down')); }; }"
    )
    page.locator(".cs-strip").focus()
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("#cs-explorer .cs-error:has-text('did not arrive (the network is down)')")
    page.wait_for_timeout(500)
    assert page.evaluate("() => window.asked") == 1
    page.evaluate("() => { window.fetch = window.realFetch; }")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#cs-explorer .cs-error", state="hidden")
    assert page.get_by_role("button", name="Try again").is_hidden()
    page.wait_for_function("() => document.querySelector('.cs-facts-line').textContent.includes('on the picture')")


@pytest.mark.parametrize(("theme", "size", "shape"), [("dark", "narrow", (60, 200)), ("light", "wide", (200, 60))])
def test_one_hot_patch_lights_its_place_and_nothing_else(
    open_page: OpenPage, browser: Any, tmp_path: Path, theme: str, size: str, shape: tuple[int, int]
) -> None:
    width, height = shape
    rows, columns = 5, 3
    document = one_hot_file(width, height, rows, columns, hot=(3, 1))
    (tmp_path / "one.html").write_text(document, encoding="utf-8")
    context = browser.new_context(color_scheme=theme, offline=True)
    page = context.new_page()
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url) if request.url.startswith("http") else None)
    page.goto((tmp_path / "one.html").as_uri())
    page.wait_for_selector(ACTIVE)
    assert page.evaluate("() => document.body.classList.contains('dark')") == (theme == "dark")
    canvas = np.array(heat(page)).reshape(rows, columns, 4)
    bright = canvas[..., :3].sum(axis=-1)
    assert np.argwhere(bright > 100).tolist() == [[3, 1]]
    frame, box = (page.locator(part).bounding_box() for part in (".cs-stage-frame", ".cs-stage-heat"))
    assert frame["width"] / frame["height"] == pytest.approx(width / height, rel=0.02)
    assert box == pytest.approx(frame, abs=1)
    page.locator(".cs-stage-frame").click(position={"x": frame["width"] * 0.5, "y": frame["height"] * 0.7})
    settle(page)
    assert page.locator(".cs-strip-token").first.get_attribute("data-share") == "100 %"
    assert page.locator(".cs-keep").is_hidden()
    assert foreign == []
    context.close()


def test_whole_words_are_whole_in_the_grid_of_layers_and_heads_too(browser: Any) -> None:
    look, weights = look_of_one_hot(100, 100, 4, 4, [(0, 0), (3, 3)])
    look["words"] = [[0, 1]]
    look["view"]["method"] = "relevance"
    document = explorer_html(look, picture_file(teal(100, 100)), weights)
    with open_document(browser, document, READY_FILE) as (page, _):
        assert page.get_by_label("Method").input_value() == "attention", "maps that are not there are not drawn"
        assert grid_bits(page) == "layer 1, head 1 · 0.0 bits"
        page.get_by_text("Display", exact=True).click()
        page.get_by_label("Whole words").check()
        settle(page)
        assert grid_bits(page) == "layer 1, head 1 · 1.0 bits"
        assert "entropy 1.0 of 4.0 bits" in page.locator(".cs-facts-line").inner_text()


def grid_bits(page: Any) -> str:
    """What the grid says of its first cell."""
    page.locator(".cs-matrix").hover(position={"x": 5, "y": 5})
    said: str = page.locator(".cs-matrix-hint").inner_text()
    return said


@pytest.mark.slow
def test_moving_between_words_layers_and_heads_is_quick(browser: Any) -> None:
    with open_document(browser, large_explorer(), READY_FILE) as (page, _):
        assert page.locator(".cs-strip-token").count() == 25
        times = time_moves(page)
        assert page.locator(".cs-layer-text").inner_text() == "11 of 12", "a layer a move"
        assert page.get_by_label("Head", exact=True).input_value() == "10", "a head a move"
        page.locator(".cs-strip").press("ArrowRight")
        settle(page)
        assert str(page.locator(ACTIVE).get_attribute("aria-label")).startswith("word1,")
    medians = {kind: float(np.median(several)) for kind, several in times.items()}
    print("milliseconds from key to painted:", medians)
    assert max(medians.values()) < 50


def one_hot_file(width: int, height: int, rows: int, columns: int, hot: tuple[int, int]) -> str:
    """The explorer in one file, of two words that look at a single patch."""
    look, weights = look_of_one_hot(width, height, rows, columns, [hot, hot])
    return explorer_html(look, picture_file(teal(width, height)), weights)


def teal(width: int, height: int) -> Picture:
    return Picture(Image.new("RGB", (width, height), "teal"), "teal", "teal.png")


def look_of_one_hot(
    width: int, height: int, rows: int, columns: int, hot: list[tuple[int, int]]
) -> tuple[dict[str, Any], bytes]:
    """What the explorer shows of words of which each looks at a single patch, and the weights."""
    captioner, picture = FakeCaptioner(), teal(width, height)
    (features,) = captioner.encode([picture])
    caption = captioner.caption_from_text(features, "", " ".join(["hot"] * len(hot)))
    weights = np.zeros((2, 2, len(hot), rows * columns), np.float32)
    for token, (row, column) in enumerate(hot):
        weights[:, :, token, row * columns + column] = 1
    prefix = np.zeros(weights.shape[:3], np.float32)
    trace = CaptionTrace(caption, weights, prefix, "cross", PatchLayout.from_grid(rows, columns))
    return explorer_value(trace, FAKE_SPEC, picture, AttentionView()), pack_weights(trace)
