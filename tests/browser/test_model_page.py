"""The Model tab, branches and comparisons as a person meets them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioning.serving.loading import load_captioner
from tests.conftest import FakeCaptioner, FakeLoader, Gate
from tests.models.conftest import WRITERS
from tests.tiny_models import write_tiny_classifier

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]

DONE = '.cs-caption-cards[data-phase="done"]'


def caption_a_sample(page: Any) -> None:
    page.locator(".cs-sample").first.click()
    page.wait_for_selector(DONE)


def open_tab(page: Any, name: str, inside: str = "") -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    if inside:
        page.get_by_role("tab", name=inside, exact=True).click()


def choose_model(page: Any, name: str) -> None:
    field = page.locator("#cs-model input")
    field.fill(name)
    field.press("Enter")


def test_the_model_tab_shows_what_is_inside_and_how_it_sees_and_reads(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCaptioner, "num_layers", 3000)
    page = open_page(FakeLoader())
    caption_a_sample(page)
    open_tab(page, "Model")
    panel = page.locator(".cs-net-panel")
    panel.wait_for()
    assert "Fake captioner" in panel.locator("h2").inner_text()
    assert panel.locator(".cs-arrays tbody tr").count() < 60, "only the rows in view exist"
    panel.get_by_label("Search the arrays").fill("layers.29 weight")
    assert "111 of 3,002 arrays" in panel.get_by_role("status").inner_text()
    panel.get_by_role("button", name="Elements").click()
    assert "decoder.layers.2999.linear.weight" in panel.locator(".cs-arrays code").first.inner_text()
    with page.expect_download() as download:
        page.locator("#cs-net-files").get_by_role("button", name="Save CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert len(rows) == 3002

    other = page.locator("#cs-other-model input")
    other.fill("wordless")
    other.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.cs-net-panel').length === 2")

    page.get_by_role("tab", name="Picture", exact=True).click()
    page.wait_for_selector('.cs-patches[data-phase="done"]')
    assert "32 × 32 pixels, 4 × 4 patches" in page.locator(".cs-patches").inner_text()
    page.get_by_role("slider", name="Patch").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("slider", name="Patch").get_attribute("aria-valuetext") == "patch 5 of 16: row 2, column 1"

    page.get_by_role("tab", name="Words", exact=True).click()
    page.locator("#cs-any-text textarea").fill("a <b>dog</b> ${1+1}")
    page.wait_for_function("() => document.querySelectorAll('.cs-tokens li').length === 3")
    assert page.locator(".cs-piece").all_inner_texts() == ["a", "␣<b>dog</b>", "␣${1+1}"]
    page.wait_for_selector('.cs-forcing[data-phase="done"]')
    page.locator("#cs-forced-caption textarea").fill("two trees")
    page.get_by_role("button", name="Score").click()
    page.wait_for_function("() => document.querySelectorAll('.cs-forcing-table tbody tr').length === 6")


def test_a_text_is_split_when_typing_pauses_and_not_at_every_letter(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    open_tab(page, "Model", "Words")
    page.wait_for_function("() => document.querySelectorAll('.cs-tokens li').length === 10")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "queue/join" in request.url else None)
    field = page.locator("#cs-any-text textarea")
    field.fill("")
    field.press_sequentially("one two three four five six seven eight nine ten eleven", delay=10)
    page.wait_for_function("() => document.querySelectorAll('.cs-tokens li').length === 11")
    assert 1 <= len(asked) <= 5, "of 56 changes"


def test_a_scored_caption_fits_a_narrow_screen(open_page: OpenPage) -> None:
    page = open_page(FakeLoader(), size="narrow", link="?tab=model&sample=lion.jpg")
    page.get_by_role("tab", name="Words", exact=True).click()
    page.wait_for_selector('.cs-forcing[data-phase="done"]')
    frame = page.locator(".cs-forcing-frame")
    assert frame.evaluate("(frame) => frame.scrollWidth - frame.clientWidth") == 0


PATCHES = '.cs-patches[data-phase="done"]'


def test_the_model_tab_follows_the_picture_in_hand_and_another_model_changes_no_picture(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    caption_a_sample(page)
    open_tab(page, "Model", "Picture")
    page.wait_for_selector(f"{PATCHES}:has-text('cheetah.jpg as Fake captioner')")
    # Another picture in another tab, and back to the section that is open here.
    open_tab(page, "Caption")
    page.locator("#cs-samples .cs-sample").nth(1).click()
    page.wait_for_selector(".cs-state:has-text('lion.jpg')")
    page.wait_for_selector(DONE)
    open_tab(page, "Model")
    page.wait_for_selector(f"{PATCHES}:has-text('lion.jpg as Fake captioner')")
    open_tab(page, "Model", "Words")
    page.wait_for_selector(".cs-forcing .cs-state:has-text('lion.jpg')")
    # A picture chosen here, while the Caption tab still holds the one before.
    open_tab(page, "Model", "Picture")
    page.locator("#cs-patch-samples .cs-sample").nth(2).click()
    page.wait_for_selector(f"{PATCHES}:has-text('tower.jpg as Fake captioner')")
    choose_model(page, "wordless")
    page.wait_for_selector(f"{PATCHES}:has-text('tower.jpg as Wordless captioner')")
    page.wait_for_function("() => document.querySelector('#cs-captions .cs-state').textContent.includes('Wordless')")
    assert "lion.jpg" in page.locator("#cs-captions .cs-state").text_content()
    open_tab(page, "Model", "Words")
    page.wait_for_selector(".cs-forcing .cs-state:has-text('tower.jpg')")


def test_a_second_model_that_is_deselected_while_it_loads_does_not_show(open_page: OpenPage) -> None:
    loader = FakeLoader()
    loader.may_end.clear()
    page = open_page(loader)
    open_tab(page, "Model")
    page.wait_for_selector(".cs-net-panel")
    other = page.locator("#cs-other-model input")
    other.fill(FakeLoader.BLIP)
    other.press("Enter")
    page.wait_for_selector('.cs-net[data-phase="busy"]')
    other.fill("Side by side with…")
    other.press("Enter")
    page.wait_for_selector('.cs-net[data-phase="idle"]')
    loader.may_end.set()
    page.wait_for_timeout(1500)
    assert page.locator(".cs-net-panel").count() == 1
    other.fill("embedded")
    other.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.cs-net-panel').length === 2")


def test_words_can_be_looked_at_while_a_branch_is_written_and_no_branch_is_removed_then(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = open_page(loader)
    caption_a_sample(page)
    card = page.locator(".cs-card").first
    text = card.locator(".cs-text").first
    text.locator(".cs-token").nth(4).click()
    page.locator(".cs-popover .cs-branch").first.click()
    page.wait_for_selector(".cs-branches .cs-icon-button:visible")
    loader.fakes["embedded"].step_gate = gate = Gate(2)
    text.locator(".cs-token").nth(4).click()
    page.locator(".cs-popover .cs-branch").nth(1).click()
    page.wait_for_function("() => document.querySelectorAll('.cs-branches .cs-caption').length === 2")
    assert page.locator(".cs-branches .cs-icon-button:visible").count() == 0
    text.focus()
    for key in ("End", "ArrowDown"):
        page.keyboard.press(key)
    before = page.locator(".cs-branches .cs-token").count()
    gate.let_through(1)
    page.wait_for_function(f"() => document.querySelectorAll('.cs-branches .cs-token').length > {before}")
    assert page.locator(".cs-popover").is_visible()
    assert page.evaluate("() => document.querySelector('.cs-popover').contains(document.activeElement)")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_function("() => document.querySelectorAll('.cs-branches .cs-icon-button:not([hidden])').length === 2")
    gate.open()


def test_an_alternative_continues_the_caption_beside_the_old_one(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    caption_a_sample(page)
    card = page.locator(".cs-card").first
    old = card.locator(".cs-text").first.inner_text()
    card.locator(".cs-text .cs-token").nth(4).click()
    card.page.locator(".cs-popover .cs-branch").first.click()
    page.wait_for_selector(".cs-branches .cs-copy:visible")
    new = card.locator(".cs-branches .cs-text").inner_text()
    assert card.locator(".cs-text").first.inner_text() == old != new
    assert new.split()[:4] == old.split()[:4]
    assert "instead of" in card.locator(".cs-story:visible").inner_text()
    # By keyboard, from the new caption.
    card.locator(".cs-branches .cs-text").focus()
    for key in ("End", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("() => document.querySelectorAll('.cs-branches .cs-copy:not([hidden])').length === 2")
    with page.expect_download() as download:
        page.locator("#cs-caption-files").get_by_role("button", name="Save JSON").click()
    document = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert len(document["captions"]) == 8
    card.get_by_role("button", name="Remove this branch").first.click()
    page.wait_for_function("() => document.querySelectorAll('.cs-branches .cs-caption').length === 1")


@pytest.mark.slow
def test_a_branch_can_be_stopped_and_a_new_picture_clears_it(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = open_page(loader)
    caption_a_sample(page)
    loader.fakes["embedded"].step_gate = gate = Gate(2)
    page.locator(".cs-card .cs-text .cs-token").nth(4).click()
    page.locator(".cs-popover .cs-branch").first.click()
    page.wait_for_selector(".cs-branches .cs-token:not(.is-prompt)")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".cs-branches .cs-copy:visible")
    gate.open()
    page.locator(".cs-sample").nth(1).click()
    page.wait_for_function("() => document.querySelector('.cs-state').textContent.includes('lion.jpg')")
    assert page.locator(".cs-branches .cs-caption").count() == 0


@pytest.mark.slow
def test_a_model_that_takes_no_prompt_offers_no_branches(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    choose_model(page, "wordless")
    page.wait_for_selector("text=Wordless captioner takes no prompt")
    caption_a_sample(page)
    page.locator(".cs-card .cs-text .cs-token").nth(2).click()
    assert page.locator(".cs-popover li").count() == 5
    assert page.locator(".cs-popover .cs-branch").count() == 0


@pytest.mark.slow
def test_a_picture_classifier_stands_beside_the_caption(open_page: OpenPage, tmp_path: Path) -> None:
    folder = write_tiny_classifier(tmp_path / "labels", ("cat", "dog", "<b>bird</b>"))
    page = open_page(FakeLoader())
    caption_a_sample(page)
    open_tab(page, "Model", "Picture")
    page.wait_for_selector('.cs-patches[data-phase="done"]')
    page.locator("#cs-classifier input, #cs-classifier textarea").first.fill(str(folder))
    page.get_by_role("button", name=re.compile("Classify")).click()
    page.wait_for_selector('.cs-labels[data-phase="done"]')
    bars = page.locator(".cs-labels .cs-bars")
    assert set(bars.locator(".cs-bar-name").all_inner_texts()) == {"cat", "dog", "<b>bird</b>"}
    assert all(text.endswith("%") for text in bars.locator(".cs-number").all_inner_texts())
    assert page.locator(".cs-card .cs-text").count() > 0, "the captions stay"


@pytest.mark.slow
def test_models_are_compared_as_a_table(open_page: OpenPage) -> None:
    page = open_page(FakeLoader(download_seconds=1))
    caption_a_sample(page)
    page.get_by_role("button", name="Compare models").click()
    page.locator("#cs-compare-start").click()
    page.wait_for_selector(".cs-comparison .cs-error:visible")
    assert "takes 2 to 4 models" in page.locator(".cs-comparison").inner_text()
    field = page.locator("#cs-compare input").first
    for name in ("embedded", "wordless", FakeLoader.BLIP, "no-such-model"):
        field.fill(name)
        field.press("Enter")
    page.locator("#cs-compare-start").click()
    page.wait_for_selector('.cs-comparison[data-phase="done"]')
    table = page.locator(".cs-comparison-table")
    assert table.locator("thead th").count() == 5
    assert table.locator("tbody tr").count() == 6
    assert "There is no model 'no-such-model'" in table.inner_text()
    assert page.locator("#cs-model input").input_value() == "Embedded captioner"


@pytest.mark.slow
@pytest.mark.parametrize("family", WRITERS)
def test_every_family_captions_through_the_page(open_page: OpenPage, tmp_path: Path, family: str) -> None:
    folder = WRITERS[family](tmp_path / family)
    page = open_page(load_captioner)
    choose_model(page, str(folder))
    page.wait_for_function("name => document.querySelector('.cs-status').textContent.includes(name)", arg=family)
    caption_a_sample(page)
    assert any(page.locator(".cs-card .cs-text").all_inner_texts())
    page.locator(".cs-card .cs-text .cs-token").nth(1).click()
    page.locator(".cs-popover .cs-branch").first.click()
    page.wait_for_selector(".cs-branches .cs-copy:visible")
    open_tab(page, "Model")
    page.locator(".cs-net-panel").wait_for()
    page.get_by_role("tab", name="Picture", exact=True).click()
    page.wait_for_selector('.cs-patches[data-phase="done"]')
    page.get_by_role("tab", name="Words", exact=True).click()
    page.wait_for_selector('.cs-forcing[data-phase="done"]')


def write_config(folder: Path, **values: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def write_bad(kind: str, folder: Path) -> Path:
    if kind == "text":
        return write_config(folder, architectures=["GPT2LMHeadModel"], model_type="gpt2", vocab_size=50257)
    if kind == "clip":
        return write_config(
            folder,
            architectures=["CLIPModel"],
            model_type="clip",
            vision_config={},
            text_config={},
            projection_dim=512,
        )
    if kind == "unknown":
        return write_config(folder, architectures=["FluxCapacitor"], model_type="flux", image_size=8, vocab_size=9)
    WRITERS["blip"](folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return folder


@pytest.mark.slow
def test_a_bad_folder_is_one_sentence_and_the_model_in_use_stays(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(load_captioner)
    sentences = {
        "text": "knows only text",
        "clip": "has no decoder that writes",
        "unknown": "FluxCapacitor",
        "half": "cut off",
    }
    before = page.locator("#cs-model input").input_value()
    for kind, sentence in sentences.items():
        choose_model(page, str(write_bad(kind, tmp_path / kind)))
        page.wait_for_function(
            "text => document.querySelector('.cs-notice .cs-error')?.textContent.includes(text)", arg=sentence
        )
        message = page.locator(".cs-notice .cs-error").inner_text()
        assert message.count(". ") == 0, message
        assert "Traceback" not in message
        page.wait_for_function("before => document.querySelector('#cs-model input').value === before", arg=before)
    caption_a_sample(page)
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_tab_is_accessible(open_page: OpenPage, theme: str, size: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(FakeLoader(), theme=theme, size=size)

    def check() -> None:
        page.wait_for_timeout(400)
        results = axe.run(page)
        assert results.violations_count == 0, results.generate_report()
        width = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width == 0, "the page scrolls sideways"

    caption_a_sample(page)
    page.locator(".cs-card .cs-text .cs-token").nth(4).click()
    check()
    page.locator(".cs-popover .cs-branch").first.click()
    page.wait_for_selector(".cs-branches .cs-copy:visible")
    page.get_by_role("button", name="Compare models").click()
    field = page.locator("#cs-compare input").first
    for name in ("embedded", "wordless"):
        field.fill(name)
        field.press("Enter")
    field.press("Escape")
    page.locator("#cs-compare-start").click()
    page.wait_for_selector('.cs-comparison[data-phase="done"]')
    check()
    open_tab(page, "Model")
    page.locator(".cs-net-panel").wait_for()
    check()
    open_tab(page, "Picture")
    page.wait_for_selector('.cs-patches[data-phase="done"]')
    page.locator("#cs-patch-picture").get_by_role("button", name=re.compile("remove|clear", re.I)).click()
    page.wait_for_selector(".cs-patches .cs-empty:visible")
    page.get_by_role("button", name=re.compile("Classify")).click()
    page.wait_for_selector(".cs-labels .cs-error:visible")
    check()
    open_tab(page, "Words")
    page.wait_for_selector('.cs-forcing[data-phase="done"]')
    check()
