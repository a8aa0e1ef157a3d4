"""What the Map tab shows in the end, when a person does not wait for one thing before asking for another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from captioning.core.settings import get_settings
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.image_map.answers import Thumbnails
from captioning.tabs.image_map.tab import MapTab
from captioning.tabs.image_map.view import MapView
from captioning.ui.page import Page
from tests.map_pictures import ColourLoader, make_folder

REQUEST: Any = SimpleNamespace(session_hash="me", client=SimpleNamespace(host="127.0.0.1"), headers={})
LAYOUT = ("pca", 0, 15, 0.1)


class Visit:
    """The tab in one session: handlers see its values as they are when they start, as on a page."""

    def __init__(self, load: LoadCaptioner) -> None:
        with gr.Blocks() as self.blocks, gr.Tabs() as tabs, gr.Tab("Map"):
            states = [gr.State(None) for _ in range(4)]
            self.page = Page(load, states[0], states[1], gr.HTML(), states[2], states[3], tabs)
            self.tab = MapTab(self.page)
        self.values: dict[Any, Any] = {}
        self.doings: list[str] = []
        self.saved: list[dict[str, Any]] = []

    async def follow(self, updates: AsyncIterator[Any]) -> None:
        async for update in updates:
            self.values |= update
            self.doings.append(self.progress["doing"])

    async def open_folder(self, folder: Path) -> None:
        event: Any = SimpleNamespace(kind="folder", folder=str(folder), adds=False)
        await self.follow(self.tab._take(REQUEST, event, "auto", self.values.get(self.tab.view), *LAYOUT))

    async def save(self, kind: str) -> None:
        event: Any = SimpleNamespace(kind=kind, indices=None)
        async for update in self.tab.saving.save(REQUEST, event, self.view):
            self.values |= update
            self.saved.append(update[self.tab.saving.part])

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what the page shows."""
        for _ in range(600):
            if holds():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(self.doings)

    @property
    def view(self) -> MapView:
        view: MapView = self.values[self.tab.view]
        return view

    @property
    def progress(self) -> dict[str, Any]:
        value: dict[str, Any] = self.values[self.tab.progress]
        return value

    @property
    def is_captioning(self) -> bool:
        return self.values.get(self.tab.view) is not None and len(self.view.captions) > 1


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Visit:
    monkeypatch.setattr("captioning.image_map.session.MAP_UPDATE_SECONDS", 0.05)
    return Visit(ColourLoader(delay=0.01))


def test_what_fails_meanwhile_does_not_end_the_captioning_of_the_map(visit: Visit, tmp_path: Path) -> None:
    async def session() -> None:
        captioning = asyncio.create_task(visit.open_folder(make_folder(tmp_path / "pictures", each=3)))
        await visit.until(lambda: visit.is_captioning)
        await visit.open_folder(tmp_path / "nowhere")
        await captioning

    asyncio.run(session())
    assert len(visit.view.captions) == 9
    assert all(visit.view.captions)
    assert not visit.view.working
    assert visit.progress["phase"] == "done"
    assert "There is no " in visit.progress["message"]
    assert any(doing.startswith("Nothing was changed · Captioning") for doing in visit.doings)


def test_what_is_stopped_meanwhile_does_not_end_the_captioning_and_a_second_stop_does(
    visit: Visit, tmp_path: Path
) -> None:
    async def session() -> None:
        captioning = asyncio.create_task(visit.open_folder(make_folder(tmp_path / "pictures", each=4)))
        await visit.until(lambda: visit.is_captioning)
        before = visit.view.map_id
        visit.tab._page.load.fakes["embedded"].encode_delay = 0.2  # type: ignore[attr-defined]
        other = asyncio.create_task(visit.open_folder(make_folder(tmp_path / "more", each=5)))
        await visit.until(lambda: visit.doings[-1].startswith("Looking at"))
        captions = len(visit.view.captions)
        visit.tab._runs.stop(REQUEST)
        await visit.until(lambda: len(visit.view.captions) > captions)
        visit.tab._runs.stop(REQUEST)
        await asyncio.gather(captioning, other)
        assert visit.view.map_id == before

    asyncio.run(session())
    assert visit.progress["phase"] == "stopped"
    assert visit.progress["doing"] == "Nothing was changed · stopped"
    assert not visit.view.working
    assert len(visit.view.captions) < 12


@pytest.mark.parametrize(("kind", "doing"), [("html", "Making small picture"), ("zip", "Packing picture")])
def test_a_large_file_is_followed_and_stopped_and_the_captioning_goes_on(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, doing: str
) -> None:
    def get(*_: Any) -> str:
        time.sleep(0.1)
        return ""

    def write_slowly(images: Any, path: Path, on_image: Any) -> None:
        for number, image in enumerate(images):
            on_image(number, len(images), image.name)
            time.sleep(0.1)
        path.write_bytes(b"packed")

    monkeypatch.setattr(Thumbnails, "get", get)
    monkeypatch.setattr("captioning.image_map.formats.write_pictures", write_slowly)

    async def session() -> None:
        captioning = asyncio.create_task(visit.open_folder(make_folder(tmp_path / "pictures", each=5)))
        await visit.until(lambda: visit.is_captioning)
        saving = asyncio.create_task(visit.save(kind))
        await visit.until(lambda: len(visit.saved) > 3)
        visit.tab.saving.runs.stop(REQUEST)
        await saving
        assert [visit.saved[0]["doing"], visit.saved[-1]["doing"]] == ["Making the file", "Stopped; no file was made."]
        steps = [saved for saved in visit.saved if saved["fraction"] is not None]
        assert steps
        assert all(saved["doing"].startswith(doing) and saved["fraction"] < 1 for saved in steps)
        await visit.save(kind)
        await captioning

    asyncio.run(session())
    last = visit.saved[-1]
    assert (last["phase"], last["name"]) == ("done", {"html": "map.html", "zip": "pictures.zip"}[kind])
    assert Path(last["file"]["path"]).is_file()
    assert len(visit.view.captions) == 15


def test_files_of_maps_are_made_for_several_people_at_once(visit: Visit) -> None:
    (event,) = [fn for fn in visit.blocks.fns.values() if fn.name == "save"]
    assert event.concurrency_limit == get_settings().model_events > 1
