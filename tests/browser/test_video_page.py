"""The Video tab as a person meets it."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clips import make_clip, paint
from tests.conftest import FakeLoader, Gate
from tests.tiny_models import write_tiny_summarizer

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]

DONE = '#cs-clip-captions .cs-caption-cards[data-phase="done"]'


def open_video(open_page: OpenPage, loader: FakeLoader, **options: Any) -> Any:
    page = open_page(loader, **options)
    page.get_by_role("tab", name="Video").click()
    page.wait_for_selector("#cs-clip-samples .cs-sample")
    return page


def take_away(page: Any) -> None:
    page.locator("#cs-clip").get_by_role("button", name=re.compile("remove|clear", re.I)).first.click()


def upload(page: Any, path: Path) -> None:
    page.locator("#cs-clip input[type=file]").first.set_input_files(path)


def upload_animation(page: Any, path: Path) -> None:
    """Drop an animated picture where clips are dropped."""
    data, kind = base64.b64encode(path.read_bytes()).decode(), mimetypes.guess_type(path.name)[0]
    transfer = page.evaluate_handle(
        """([data, name, type]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [data, path.name, kind],
    )
    zone = page.locator("#cs-clip")
    zone.evaluate(
        "(node, transfer) => node.querySelector('button, video').dispatchEvent(new DragEvent('drop', "
        "{ dataTransfer: transfer, bubbles: true, cancelable: true }))",
        transfer,
    )


def test_a_clip_is_uploaded_captioned_compared_drawn_as_a_timeline_and_stopped(
    open_page: OpenPage, tmp_path: Path
) -> None:
    loader = FakeLoader()
    page = open_video(open_page, loader)
    upload(page, make_clip(tmp_path / "clip.mp4"))
    page.wait_for_selector(DONE)
    assert page.locator("#cs-film li").count() == 16
    assert page.get_by_role("button", name=re.compile("trim", re.I)).count() == 0, "it would ask another host"
    state = page.locator("#cs-clip-captions .cs-state")
    assert "the average of 16 frames" in state.inner_text()
    captions = page.locator("#cs-clip-captions .cs-card .cs-text")
    assert re.sub(r"\s+", " ", captions.first.inner_text()).startswith("a video of ")

    number = page.locator("#cs-frames input[type=range]")
    number.focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    page.locator("#cs-clip-start").click()
    page.wait_for_function("() => document.querySelectorAll('#cs-film li').length === 8")
    page.wait_for_selector(DONE)
    assert "the average of 8 frames" in state.inner_text()

    page.locator("#cs-counts").get_by_role("button", name="Find out").click()
    page.wait_for_selector('#cs-counts .cs-panel[data-phase="done"]')
    assert page.locator("#cs-counts .cs-count").all_inner_texts()[:2] == ["1 frame", "2 frames"]
    assert page.locator("#cs-counts .cs-new").count() > 0

    page.locator("#cs-timeline").get_by_role("button", name="Caption every frame").click()
    page.wait_for_selector('#cs-timeline .cs-panel[data-phase="done"]')
    assert 1 <= page.locator("#cs-timeline .cs-segments li").count() <= 8
    with page.expect_download() as download:
        page.locator("#cs-clip-files").get_by_role("button", name="Save SRT").click()
    assert download.value.suggested_filename == "clip-captions.srt"
    assert "00:00:00,000 --> " in Path(download.value.path()).read_text(encoding="utf-8")
    with page.expect_download() as download:
        page.locator("#cs-clip-files").get_by_role("button", name="Save JSON").click()
    document = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert len(document["frames"]) == 8
    assert document["timeline"]

    page.locator("#cs-word .cs-across-word").nth(3).click()
    page.wait_for_selector('#cs-word .cs-panel[data-phase="done"]')
    assert page.locator("#cs-word .cs-across li").count() == 8

    fake = loader.fakes["embedded"]
    encoded, fake.picture_gate = fake.encoded, Gate(3)
    take_away(page)
    upload(page, make_clip(tmp_path / "long.mp4", numbers=range(100, 160)))
    page.wait_for_selector("text=/Looking at frame [2-9] of 8/")
    page.locator("#cs-clip-captions").get_by_role("button", name="Stop").click()
    page.wait_for_selector('#cs-clip-captions .cs-caption-cards[data-phase="stopped"]')
    fake.picture_gate.open()
    page.wait_for_timeout(1200)
    assert fake.encoded <= encoded + 4, "three frames before Stop, and the one that was under way"


@pytest.mark.slow
def test_a_panel_can_be_stopped_and_keeps_what_it_found(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = open_video(open_page, loader)
    page.locator("#cs-clip-samples .cs-sample").first.click()
    page.wait_for_selector(DONE)
    loader.fakes["embedded"].step_gate = gate = Gate(5 * 7)  # the words of five frames
    page.locator("#cs-timeline").get_by_role("button", name="Caption every frame").click()
    page.wait_for_selector("#cs-timeline .cs-segments li >> nth=1")
    page.locator("#cs-timeline .cs-segment-time").first.focus()
    gate.let_through(5 * 7)
    page.wait_for_selector("#cs-timeline .cs-segments li >> nth=3")
    assert page.evaluate("() => document.activeElement.className") == "cs-segment-time", "the list grows around it"
    page.locator("#cs-timeline").get_by_role("button", name="Stop").click()
    page.wait_for_selector('#cs-timeline .cs-panel[data-phase="stopped"]')
    gate.open()
    assert 0 < page.locator("#cs-timeline .cs-segments li").count() < 16


@pytest.mark.slow
def test_what_is_no_clip_is_one_sentence_and_the_next_one_works(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_video(open_page, FakeLoader())
    page.locator("#cs-clip-start").click()
    page.wait_for_selector("#cs-clip-captions .cs-message.cs-error")
    assert "There is no clip yet" in page.locator("#cs-clip-captions .cs-message").inner_text()
    broken = tmp_path / "broken.mp4"
    broken.write_text("no clip at all", encoding="utf-8")
    upload(page, broken)
    page.wait_for_selector("#cs-clip-captions .cs-message:has-text('broken.mp4 is not a video')")
    assert str(tmp_path) not in page.locator("#cs-clip-captions .cs-message").inner_text()
    page.locator("#cs-clip-samples .cs-sample").first.click()
    page.wait_for_selector(DONE)
    take_away(page)
    page.wait_for_selector('#cs-clip-captions .cs-caption-cards[data-phase="idle"]')
    assert page.locator("#cs-film li:visible").count() == 0
    assert page.locator("#cs-timeline:visible").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", ["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_tab_is_accessible(open_page: OpenPage, theme: str, size: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_video(open_page, FakeLoader(), theme=theme, size=size)

    def check() -> None:
        page.wait_for_timeout(400)
        results = axe.run(page)
        assert results.violations_count == 0, results.generate_report()

    check()
    page.get_by_role("button", name="Part of the clip").click()
    page.locator("#cs-clip-samples .cs-sample").first.click()
    page.wait_for_selector(DONE)
    page.locator("#cs-counts").get_by_role("button", name="Find out").click()
    page.locator("#cs-timeline").get_by_role("button", name="Caption every frame").click()
    page.locator("#cs-word .cs-across-word").nth(3).click()
    for part in ("counts", "timeline", "word"):
        page.wait_for_selector(f'#cs-{part} .cs-panel[data-phase="done"]')
    check()
    width = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page scrolls sideways"


def test_an_animated_picture_is_captioned_and_its_frames_summed_up(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_video(open_page, FakeLoader())
    frames = [Image.fromarray(paint(number)) for number in range(0, 200, 50)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=500)
    upload_animation(page, tmp_path / "moving.gif")
    page.wait_for_selector(DONE)
    assert page.locator("#cs-film li").count() == 4
    page.get_by_role("button", name="Sum up with a text model").click()
    page.locator("#cs-summarizer textarea").fill(str(write_tiny_summarizer(tmp_path / "bert2bert", positions=400)))
    page.locator("#cs-summary").get_by_role("button", name="Sum up").click()
    page.wait_for_selector("#cs-summary .cs-summary:not([hidden])")
    assert page.locator("#cs-summary .cs-summary").inner_text().strip()

    broken = tmp_path / "<b>broken.gif"
    broken.write_text("no picture")
    upload_animation(page, broken)
    page.wait_for_function("() => document.querySelector('#cs-clip-captions').innerText.includes('not a video')")
    assert page.locator("#cs-film li:visible").count() == 0
    assert page.locator("#cs-timeline:visible").count() == 0

    upload_animation(page, tmp_path / "moving.gif")  # the player has shown it all the while
    page.wait_for_selector(DONE)
    assert page.locator("#cs-film li").count() == 4
