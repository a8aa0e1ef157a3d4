"""The Map tab as a person meets it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WORDS, Gate
from tests.map_pictures import ColourLoader, make_folder, make_picture

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]

DRAWN = '.cs-map[data-map="drawn"]'
DONE = '.cs-map-progress[data-phase="done"]'
PICTURES = ".cs-map-pictures img"
GALLERY = ".cs-map-gallery"
CHOSEN = ".cs-map-chosen"
DROP = """(node, names) => {
  const refuse = (_, reject) => reject(new DOMException('No access', 'NotReadableError'));
  const files = names.map((name) => ({ isFile: true, name, file: refuse }));
  const album = { name: 'album', createReader: () => ({ readEntries: (resolve) => resolve(files.splice(0)) }) };
  const event = new Event('drop', { cancelable: true });
  event.dataTransfer = { items: [{ webkitGetAsEntry: () => album }], files: [] };
  node.dispatchEvent(event);
}"""
"""Drops a folder with files of some names, none of which may be read."""
HOSTILE = "${alert(1)}<img src=x onerror=alert(2)>{{7*7}}"


def open_map(open_page: OpenPage, loader: ColourLoader, **options: Any) -> Any:
    page = open_page(loader, **options)
    tab = page.get_by_role("tab", name="Map", exact=True)
    if tab.count():
        tab.click()
    else:  # a narrow page keeps the last tabs in a menu
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text="Map").click()
    page.wait_for_selector(".cs-intake")
    return page


def draw_folder(page: Any, folder: Path, done: bool = True) -> None:
    page.locator(".cs-intake-folder").set_input_files(folder)
    page.wait_for_selector(DRAWN, timeout=120_000)  # the first UMAP of a process compiles
    if done:
        page.wait_for_selector(DONE)
    settle(page)


def make_few(tmp_path: Path) -> Path:
    """Too few pictures for UMAP, which is slow the first time."""
    return make_folder(tmp_path / "pictures", each=3)


def settle(page: Any) -> None:
    """Until the pictures were laid out for what is in view."""
    page.wait_for_timeout(450)


def middle(box: dict[str, float]) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def lasso_all(page: Any) -> None:
    stage = page.locator(".cs-map-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    for across, down in ((0.99, 0.01), (0.99, 0.98), (0.01, 0.98), (0.01, 0.02)):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=4)
    page.mouse.up()


def places(page: Any) -> list[list[float]]:
    """Where Plotly has the points."""
    found: list[list[float]] = page.evaluate(
        "() => { const [trace] = document.querySelector('.cs-map-plot').data; return [[...trace.x], [...trace.y]]; }"
    )
    return found


def test_a_folder_becomes_a_map_to_hover_click_lasso_search_colour_and_zoom(
    open_page: OpenPage, tmp_path: Path
) -> None:
    page = open_map(open_page, ColourLoader())
    draw_folder(page, make_folder(tmp_path / "pictures"))
    assert "18 pictures on the map" in page.locator(".cs-map-progress .cs-state").inner_text()
    shown = int(page.locator(".cs-map-stage").get_attribute("data-pictures"))
    assert page.locator(PICTURES).count() == shown > 3
    assert page.locator(".cs-map-share").inner_text() == f"{shown} of 18 shown as pictures"

    page.locator(".cs-map-stage").scroll_into_view_if_needed()
    place = middle(page.locator(PICTURES).first.bounding_box())
    page.mouse.move(*place)
    page.wait_for_selector(".cs-map-hover:visible")
    name = page.locator(".cs-map-hover strong").inner_text()
    assert name.endswith(".png")
    assert any(word in page.locator(".cs-map-hover span").inner_text() for word in WORDS)

    page.mouse.click(*place)
    page.wait_for_selector(f"{CHOSEN} .cs-map-tiles button >> nth=7")
    assert page.locator(f"{CHOSEN} h2").inner_text() == name
    folder = name.split("/")[1]
    labels = page.locator(f"{CHOSEN} .cs-map-tiles button").evaluate_all("all => all.map(b => b.title)")
    assert all(f"/{folder}/" in label for label in labels[:5]), "the nearest in feature space are of its colour"
    assert "true neighbours are near it" in page.locator(".cs-map-facts").inner_text()
    page.locator(f"{CHOSEN} .cs-map-tiles button").first.click()
    page.wait_for_function("(old) => document.querySelector('.cs-map-chosen h2').textContent !== old", arg=name)
    page.get_by_role("button", name="Close").click()

    page.get_by_role("button", name="Lasso").click()
    lasso_all(page)
    page.wait_for_selector(f"{GALLERY} h2:has-text('18 selected')")
    with page.expect_download() as download:
        page.locator(GALLERY).get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "map-18-selected.csv"
    with page.expect_download() as download:
        page.locator(GALLERY).get_by_role("button", name="ZIP").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        assert len(archive.namelist()) == 18
    page.locator(GALLERY).get_by_role("button", name="Clear").click()
    assert page.locator(GALLERY).is_hidden()

    page.get_by_label("Search by file name").fill("green-")
    page.wait_for_selector(f"{GALLERY} h2:has-text('6 found')")
    settle(page)
    assert page.locator(PICTURES).count() <= 6
    page.get_by_label("Search by file name").fill("")
    page.wait_for_selector(GALLERY, state="hidden")

    page.get_by_label("Colour by", exact=True).select_option("folder")
    page.locator(".cs-map-legend button", has_text="red").click()
    page.wait_for_selector(f"{GALLERY} h2:has-text(': 6')")
    page.locator(GALLERY).get_by_role("button", name="Clear").click()
    page.get_by_label("Colour by", exact=True).select_option("word")
    page.get_by_label("Word of the caption to colour by").fill("dog")
    page.wait_for_selector(".cs-map-legend button:has-text('“dog”')")
    page.get_by_label("Colour by", exact=True).select_option("recall")
    page.wait_for_selector(".cs-map-legend:has-text('true neighbours near it')")

    before = page.locator(PICTURES).first.bounding_box()
    page.get_by_role("button", name="Zoom in").click()
    settle(page)
    assert page.locator(PICTURES).count() == 0 or page.locator(PICTURES).first.bounding_box() != before
    page.get_by_role("button", name="Show the whole map").click()
    settle(page)
    assert page.locator(PICTURES).count() > 3


def test_new_pictures_move_nothing_and_a_refit_moves_everything_in_sight(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_map(open_page, ColourLoader())
    draw_folder(page, make_few(tmp_path))
    before = places(page)
    page.locator(".cs-intake-files").set_input_files(make_picture(tmp_path / "new.png", "blue", 77))
    page.wait_for_selector('.cs-map[data-change="added"][data-map="drawn"]')
    page.wait_for_selector(f"{GALLERY} h2:has-text('1 new picture')")
    after = places(page)
    assert [axis[:-1] for axis in after] == before
    page.wait_for_selector(DONE)

    page.get_by_role("button", name="Layout").click()
    page.get_by_label("PCA").check()
    page.get_by_role("button", name="Refit").click()
    page.wait_for_selector('.cs-map[data-change="refit"][data-map="drawn"]')
    assert len(places(page)[0]) == 10
    assert len(places(page)[1]) == 10
    assert "laid out anew" in page.locator(".cs-map-progress .cs-state").inner_text()

    page.get_by_label("draw a new map").check()
    page.locator(".cs-intake-files").set_input_files([make_picture(tmp_path / f"{n}.png", "red", n) for n in range(3)])
    page.wait_for_selector('.cs-map[data-change="new"][data-map="drawn"]')
    assert len(places(page)[0]) == 3


def open_folder(page: Any, folder: Path) -> None:
    """Name a folder of this machine."""
    page.locator(".cs-intake-folder-box summary").click()
    page.get_by_label("Path of a folder").fill(str(folder))
    page.get_by_role("button", name="Open", exact=True).click()
    page.wait_for_selector(DONE)
    settle(page)


def test_a_refit_that_leaves_pictures_out_shows_nothing_under_the_numbers_of_before(
    open_page: OpenPage, tmp_path: Path
) -> None:
    page = open_map(open_page, ColourLoader())
    folder = make_few(tmp_path)
    open_folder(page, folder)
    page.get_by_label("Search by file name").fill("green-")
    page.wait_for_selector(f"{GALLERY} h2:has-text('3 found')")
    page.locator(f"{GALLERY} .cs-map-tiles button").first.click()
    page.wait_for_selector(f"{CHOSEN}:visible")

    (folder / "blue" / "blue-0.png").unlink()
    page.get_by_role("button", name="Layout").click()
    page.get_by_role("button", name="Refit").click()
    page.wait_for_selector('.cs-map[data-change="new"][data-map="drawn"] .cs-map-stage[aria-label*="of 8 pictures"]')
    assert page.locator(CHOSEN).is_hidden()
    assert page.locator(GALLERY).is_hidden()
    across, down = places(page)
    assert len(across) == len(down) == 8
    assert None not in (*across, *down)


class Losing:
    """Answers requests to an address with nonsense for the first few times; then they go through."""

    def __init__(self, page: Any, address: str, times: int) -> None:
        self.left = times
        page.route(address, self._handle)

    def _handle(self, route: Any) -> None:
        if self.left > 0:
            self.left -= 1
            route.fulfill(status=200, body="// neither JSON nor a library")
        else:
            route.continue_()


def test_requests_that_are_lost_are_made_again_and_what_stays_missing_is_said(
    open_page: OpenPage, tmp_path: Path
) -> None:
    page = open_map(open_page, ColourLoader(delay=0.1))
    plotly = Losing(page, "**/plotly*", 1)
    asked = Losing(page, "**/component_server/*", 4)
    draw_folder(page, make_few(tmp_path))
    page.wait_for_selector(f"{PICTURES}[src^='data:'] >> nth=3", timeout=30_000)
    page.locator(".cs-map-stage").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"{CHOSEN} .cs-map-caption:not(.is-missing)")
    assert plotly.left == asked.left == 0

    sent = Losing(page, "**/upload*", 1)
    like = page.get_by_label("A picture to find what looks like it")
    like.set_input_files(make_picture(tmp_path / "query.png", "green", 5))
    page.wait_for_selector(f"{GALLERY} h2:has-text('query.png could not be sent; try again.')")
    assert sent.left == 0
    like.set_input_files(tmp_path / "query.png")
    page.wait_for_selector(f"{GALLERY} h2:has-text('Most like query.png')")

    asked.left = 1000
    like.set_input_files(tmp_path / "query.png")
    page.wait_for_selector(".cs-map-note:has-text('The server cannot be reached')")
    assert page.get_by_role("button", name="Find by picture…").is_enabled()
    asked.left = 0
    like.set_input_files(tmp_path / "query.png")
    page.wait_for_selector(".cs-map-note:has-text('The server cannot be reached')", state="hidden")


@pytest.mark.slow
def test_a_map_that_cannot_be_drawn_says_so(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_map(open_page, ColourLoader())
    Losing(page, "**/plotly*", 1000)
    page.locator(".cs-intake-folder").set_input_files(make_few(tmp_path))
    page.wait_for_selector(".cs-map-note:has-text('The map could not be drawn')")
    assert page.locator(".cs-map-stage").is_hidden()


def test_what_cannot_be_taken_in_is_said(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_map(open_page, ColourLoader())
    held: list[Any] = []
    page.route("**/upload*", lambda route: held.append(route))
    files = page.locator(".cs-intake-files")
    files.set_input_files([make_picture(tmp_path / f"{n}.png", "red", n) for n in range(3)])
    page.wait_for_selector(".cs-intake button:has-text('Stop')")
    page.locator(".cs-intake").evaluate(DROP, arg=["locked.png"])
    page.wait_for_selector(".cs-intake .cs-error:has-text('Files are being sent already')")
    assert len(held) == 3
    for route in held:
        route.continue_()
    page.unroute("**/upload*")
    page.wait_for_selector(DRAWN)
    assert page.locator(".cs-intake .cs-error").count() == 0
    page.locator(".cs-intake").evaluate(DROP, arg=["locked.png"])
    page.wait_for_selector(".cs-intake:has-text('1 could not be sent: album/locked.png')")
    page.locator(".cs-intake").evaluate(DROP, arg=[])
    page.wait_for_selector(".cs-intake:has-text('There is no file in that')")


@pytest.mark.slow
def test_a_picture_finds_its_like_and_a_point_opens_in_the_caption_tab(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_map(open_page, ColourLoader())
    draw_folder(page, make_few(tmp_path))
    page.get_by_label("A picture to find what looks like it").set_input_files(
        make_picture(tmp_path / "query.png", "green", 5)
    )
    page.wait_for_selector(f"{GALLERY} h2:has-text('Most like query.png')")
    titles = page.locator(f"{GALLERY} .cs-map-tiles button").evaluate_all("all => all.map(b => b.title)")
    assert all("/green/" in title for title in titles[:3])
    page.locator(f"{GALLERY} .cs-map-tiles button").first.click()
    page.wait_for_selector(f"{CHOSEN}:visible")
    page.get_by_role("button", name="Open in Caption").click()
    page.wait_for_selector("#cs-picture img")
    page.wait_for_selector('#cs-captions .cs-caption-cards[data-phase="done"]')
    assert re.match(r"green-\d\.png", page.locator("#cs-captions .cs-state").inner_text())


@pytest.mark.slow
def test_points_are_reached_by_keyboard_and_read_aloud(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_map(open_page, ColourLoader())
    draw_folder(page, make_few(tmp_path))
    stage = page.locator(".cs-map-stage")
    assert "Map of 9 pictures" in stage.get_attribute("aria-label")
    stage.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"{CHOSEN}:visible")
    spoken = page.locator(".cs-map-spoken")
    first = spoken.inner_text()
    assert ".png" in first
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert page.locator(f"{CHOSEN} h2").inner_text() in spoken.inner_text()
    page.keyboard.press("Escape")
    page.wait_for_selector(CHOSEN, state="hidden")
    page.get_by_role("button", name="List all").click()
    tiles = page.locator(f"{GALLERY} .cs-map-tiles button")
    assert tiles.count() == 9
    tiles.nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{CHOSEN}:visible")


@pytest.mark.slow
def test_captioning_is_followed_and_stopped_and_the_map_stays(open_page: OpenPage, tmp_path: Path) -> None:
    gate = Gate(10)
    loader = ColourLoader(step_gate=gate)
    page = open_map(open_page, loader)
    draw_folder(page, make_few(tmp_path), done=False)
    page.wait_for_selector(".cs-map-progress .cs-state:has-text('Captioning')")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector('.cs-map-progress[data-phase="stopped"]')
    gate.open()
    page.wait_for_timeout(1000)
    assert loader.fakes["embedded"].steps <= 11, "ten steps before Stop, and the one that was under way"
    assert page.locator(PICTURES).count() > 3


@pytest.mark.slow
def test_reading_pictures_is_followed_and_stopped(open_page: OpenPage, tmp_path: Path) -> None:
    gate = Gate(3)
    loader = ColourLoader(picture_gate=gate)
    page = open_map(open_page, loader)
    page.locator(".cs-intake-folder").set_input_files(make_few(tmp_path))
    page.wait_for_selector("text=/Looking at [2-9] of 9/")
    page.locator(".cs-map-progress").get_by_role("button", name="Stop").click()
    page.wait_for_selector("text=Stopped; nothing was changed.")
    gate.open()
    page.wait_for_timeout(900)
    assert loader.fakes["embedded"].encoded <= 4, "three pictures before Stop, and the one that was under way"


def test_names_labels_and_captions_that_look_like_markup_stay_text(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.conftest.WORDS", tuple(f"{HOSTILE}{n}" for n in range(6)))
    name = "<b>${alert(3)}<svg onload=alert(4)>.png"
    folder = tmp_path / "pictures"
    for number, colour in enumerate(("red", "green", "blue")):
        make_picture(folder / f"{number}.png", colour)
    (folder / "0.png").rename(folder / name.replace("/", ""))
    rows = [f'"{file.name}","{HOSTILE}"' for file in sorted(folder.iterdir())]
    (folder / "list.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    page = open_map(open_page, ColourLoader())
    page.locator(".cs-intake-files").set_input_files(sorted(folder.iterdir()))
    page.wait_for_selector(DONE)
    settle(page)
    page.get_by_role("button", name="List all").click()
    page.locator(f"{GALLERY} .cs-map-tiles button").first.click()
    page.wait_for_selector(f"{CHOSEN}:visible")
    shown = page.locator(".cs-map-side").inner_text()
    assert "${alert(1)}<img src=x onerror=alert(2)>{{7*7}}" in shown
    assert "${alert(3)}" in page.locator(f"{GALLERY} button[title*='alert(3)']").get_attribute("title")
    page.get_by_label("Colour by", exact=True).select_option("label")
    assert HOSTILE in page.locator(".cs-map-legend").inner_text()
    page.locator(".cs-map-stage").scroll_into_view_if_needed()
    page.mouse.move(*middle(page.locator(PICTURES).first.bounding_box()))
    page.wait_for_selector(".cs-map-hover:visible")
    assert HOSTILE in page.locator(".cs-map-hover").inner_text()
    assert page.locator(".cs-map svg[onload], .cs-map img[onerror], .cs-map b").count() == 0


@pytest.mark.slow
def test_what_cannot_be_used_is_said_and_the_next_works(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_map(open_page, ColourLoader())
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    page.locator(".cs-intake-files").set_input_files(broken)
    page.wait_for_selector(".cs-map-progress .cs-error:has-text('broken.png')")
    assert str(tmp_path) not in page.locator(".cs-map-progress").inner_text()
    page.locator(".cs-intake-folder-box summary").click()
    page.get_by_label("Path of a folder").fill(str(tmp_path / "nowhere"))
    page.get_by_role("button", name="Open", exact=True).click()
    page.wait_for_selector(".cs-map-progress .cs-error:has-text('There is no')")
    page.get_by_label("Path of a folder").fill(str(make_folder(tmp_path / "pictures", each=2)))
    page.get_by_role("button", name="Open", exact=True).click()
    page.wait_for_selector(DRAWN)
    page.wait_for_selector(DONE)
    assert page.locator(".cs-map-progress .cs-error:visible").count() == 0
    page.locator(".cs-intake-files").set_input_files([broken, make_picture(tmp_path / "one.png", "red", 9)])
    page.wait_for_selector(".cs-map-list:has-text('1 file was left out')")
    page.wait_for_selector(".cs-map-list:has-text('broken.png')")


@pytest.mark.slow
def test_the_saved_file_is_a_map_that_asks_nobody(open_page: OpenPage, browser: Any, tmp_path: Path) -> None:
    page = open_map(open_page, ColourLoader())
    draw_folder(page, make_few(tmp_path))
    with page.expect_download() as download:
        page.get_by_role("button", name="HTML").click()
    saved = tmp_path / "map.html"
    download.value.save_as(saved)
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    assert len(json.loads(Path(download.value.path()).read_text(encoding="utf-8"))["points"]) == 9

    troubles: list[str] = []
    context = browser.new_context(offline=True)
    alone = context.new_page()
    alone.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    alone.on("pageerror", lambda error: troubles.append(str(error)))
    alone.on("request", lambda r: troubles.append(r.url) if not r.url.startswith(("data:", "blob:", "file:")) else None)
    alone.goto(saved.as_uri())
    alone.wait_for_selector(DRAWN)
    alone.wait_for_timeout(450)
    alone.mouse.click(*middle(alone.locator(PICTURES).first.bounding_box()))
    alone.wait_for_selector(f"{CHOSEN} .cs-map-tiles button >> nth=7")
    assert re.search(r"\d of its \d+ true neighbours", alone.locator(".cs-map-facts").inner_text())
    assert alone.get_by_role("button", name="Open in Caption").count() == 0
    context.close()
    assert troubles == []


@pytest.mark.slow
@pytest.mark.parametrize("size", ["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_tab_is_accessible(open_page: OpenPage, tmp_path: Path, theme: str, size: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_map(open_page, ColourLoader(), theme=theme, size=size)

    def check() -> None:
        page.wait_for_timeout(400)
        results = axe.run(page)
        assert results.violations_count == 0, results.generate_report()

    check()
    draw_folder(page, make_few(tmp_path))
    page.get_by_role("button", name="Layout").click()
    page.locator(".cs-map-belief summary").click()
    page.get_by_role("button", name="List all").click()
    page.locator(f"{GALLERY} .cs-map-tiles button").first.click()
    page.wait_for_selector(f"{CHOSEN}:visible")
    check()
    width = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page scrolls sideways"
