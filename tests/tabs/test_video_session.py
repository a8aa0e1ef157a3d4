"""What the Video tab shows in one session, from asking to the end."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from captioning.core.settings import get_settings
from captioning.serving.loading import LoadCaptioner
from captioning.serving.memory import ByteBoundedCache
from captioning.tabs.video import work as video
from captioning.tabs.video.tab import VideoTab
from captioning.ui import clip_parts
from captioning.ui.page import Page
from tests.clips import make_clip, paint
from tests.conftest import FakeLoader

REQUEST: Any = SimpleNamespace(session_hash="me")
PROMPTS = ["a video of"]


class Visit:
    """The tab in one session: handlers see its values as they are when they start, as on a page."""

    def __init__(self, load: LoadCaptioner) -> None:
        with gr.Blocks() as self.blocks, gr.Tabs() as tabs, gr.Tab("Video"):
            states = [gr.State(None) for _ in range(4)]
            self.page = Page(load, states[0], states[1], gr.HTML(), states[2], states[3], tabs)
            self.tab = VideoTab(self.page)
        self.values: dict[Any, Any] = {}
        self.decoding = [part.value for part in self.tab.decoding.inputs]

    async def follow(self, updates: AsyncIterator[Any]) -> list[dict[Any, Any]]:
        told = []
        async for update in updates:
            self.values |= update
            told.append(update)
        return told

    async def caption(self, path: Path) -> list[dict[Any, Any]]:
        return await self.follow(
            self.tab._caption(REQUEST, str(path), "auto", {"prompts": PROMPTS}, 4, 0, 0, *self.decoding)
        )

    async def convert(self, animation: Path) -> list[dict[Any, Any]]:
        values = (self.values.get(self.tab.clip), "auto", {"prompts": PROMPTS}, 4, 0, 0, *self.decoding)
        return await self.follow(self.tab._take_animation(REQUEST, str(animation), *values))

    async def look(self, word: int) -> list[dict[Any, Any]]:
        event: Any = SimpleNamespace(word=word)
        return await self.follow(self.tab._look(REQUEST, self.values[self.tab.asked], event))


def make_animation(path: Path, frames: int = 4) -> Path:
    pictures = [Image.fromarray(paint(50 * number)) for number in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=500)
    return path


@pytest.fixture
def visit(fake_loader: FakeLoader) -> Visit:
    return Visit(fake_loader)


def test_words_can_still_be_chosen_where_looking_for_one_fails_at_once(visit: Visit, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    asyncio.run(visit.caption(clip))
    words = visit.values[visit.tab.word]["words"]
    assert len(words) > 3
    clip.unlink()
    told = asyncio.run(visit.look(3))
    assert all(update[visit.tab.word]["words"] == words for update in told)
    value = visit.values[visit.tab.word]
    assert (value["phase"], value["note"]) == ("failed", "")
    assert "choose it again" in value["message"]


def test_an_animation_that_cannot_be_converted_leaves_nothing_of_the_clip_before(visit: Visit, tmp_path: Path) -> None:
    asyncio.run(visit.caption(make_clip(tmp_path / "clip.mp4")))
    assert visit.values[visit.tab.film]["frames"]
    broken = tmp_path / "broken.gif"
    broken.write_text("no picture", encoding="utf-8")
    first, *_ = asyncio.run(visit.convert(broken))
    assert (first[visit.tab.cards]["phase"], first[visit.tab.cards]["doing"]) == ("busy", "Turning it into a clip")
    assert visit.values[visit.tab.cards]["phase"] == "failed"
    assert visit.values[visit.tab.film]["frames"] == []
    assert not visit.values[visit.tab.timeline]["ready"]
    assert visit.tab.clip not in visit.values


def test_converting_an_animation_is_stopped_by_its_owner(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def convert(path: str, out: Path, on_frame: Any) -> None:
        try:
            for number in range(400):
                on_frame(number, 400)
                time.sleep(0.05)
        finally:
            ended.set()

    monkeypatch.setattr(video, "animation_to_mp4", convert)

    async def session() -> None:
        converting = asyncio.create_task(visit.convert(tmp_path / "long.gif"))
        while "frame" not in visit.values.get(visit.tab.cards, {}).get("doing", ""):
            await asyncio.sleep(0.05)
        visit.tab._runs.stop(REQUEST)
        await converting

    asyncio.run(asyncio.wait_for(session(), 30))
    assert visit.values[visit.tab.cards]["phase"] == "stopped"
    assert ended.wait(5)


def test_conversions_wait_for_nobody(visit: Visit) -> None:
    (event,) = [fn for fn in visit.blocks.fns.values() if fn.name == "_take_animation"]
    assert event.trigger_mode == "multiple"
    assert event.concurrency_limit == get_settings().model_events > 1


def test_the_animation_that_the_player_shows_already_is_captioned_again(visit: Visit, tmp_path: Path) -> None:
    path = make_animation(tmp_path / "moving.gif")
    asyncio.run(visit.convert(path))
    assert visit.values[visit.tab.cards]["phase"] == "busy", "the player tells that there is a new clip"
    told = asyncio.run(visit.convert(path))
    assert not any(visit.tab.clip in update for update in told)
    assert visit.values[visit.tab.cards]["phase"] == "done"


def test_small_pictures_are_made_once_a_frame_and_never_where_the_page_is_served(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    class Recorder(io.BytesIO):
        def __init__(self) -> None:
            super().__init__()
            threads.append(threading.current_thread().name)

    monkeypatch.setattr(io, "BytesIO", Recorder)
    monkeypatch.setattr(clip_parts, "_thumbnails", ByteBoundedCache[str](2**20))

    async def session() -> None:
        await visit.caption(make_clip(tmp_path / "clip.mp4", numbers=range(7, 67)))
        await visit.follow(visit.tab._draw_timeline(REQUEST, visit.values[visit.tab.asked]))
        await visit.look(3)

    asyncio.run(session())
    assert visit.values[visit.tab.timeline]["phase"] == visit.values[visit.tab.word]["phase"] == "done"
    assert set(threads) == {"captionscope-worker"}
    assert len(threads) == 5, "four small frames, and the one that becomes the picture in hand"
