"""What the Map tab shows in the end, when a person does not wait for one thing before asking for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from captioning.tabs.image_map.tab import MapTab
from captioning.tabs.image_map.view import MapView
from captioning.ui.page import LoadCaptioner, Page
from tests.map_pictures import ColourLoader, make_folder

REQUEST: Any = SimpleNamespace(session_hash="me", client=SimpleNamespace(host="127.0.0.1"), headers={})
LAYOUT = ("pca", 0, 15, 0.1)


class Visit:
    """The tab in one session: handlers see its values as they are when they start, as on a page."""

    def __init__(self, load: LoadCaptioner) -> None:
        with gr.Blocks(), gr.Tabs() as tabs, gr.Tab("Map"):
            states = [gr.State(None) for _ in range(4)]
            self.page = Page(load, states[0], states[1], gr.HTML(), states[2], states[3], tabs)
            self.tab = MapTab(self.page)
        self.values: dict[Any, Any] = {}
        self.doings: list[str] = []

    async def follow(self, updates: AsyncIterator[Any]) -> None:
        async for update in updates:
            self.values |= update
            self.doings.append(self.progress["doing"])

    async def open_folder(self, folder: Path) -> None:
        event: Any = SimpleNamespace(kind="folder", folder=str(folder), adds=False)
        await self.follow(self.tab._take(REQUEST, event, "auto", self.values.get(self.tab.view), *LAYOUT))

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
    monkeypatch.setattr("captioning.tabs.image_map.work._TELL_SECONDS", 0.05)
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
    assert "There is no folder" in visit.progress["message"]
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
        visit.tab._stop(REQUEST)
        await visit.until(lambda: len(visit.view.captions) > captions)
        visit.tab._stop(REQUEST)
        await asyncio.gather(captioning, other)
        assert visit.view.map_id == before

    asyncio.run(session())
    assert visit.progress["phase"] == "stopped"
    assert visit.progress["doing"] == "Nothing was changed · stopped"
    assert not visit.view.working
    assert len(visit.view.captions) < 12
