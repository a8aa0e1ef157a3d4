"""What the Video tab shows in one session, from asking to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from captioning.tabs.video import VideoTab
from captioning.ui.page import LoadCaptioner, Page
from tests.clips import make_clip
from tests.conftest import FakeLoader

REQUEST: Any = SimpleNamespace(session_hash="me")
PROMPTS = ["a video of"]


class Visit:
    """The tab in one session: handlers see its values as they are when they start, as on a page."""

    def __init__(self, load: LoadCaptioner) -> None:
        with gr.Blocks(), gr.Tabs() as tabs, gr.Tab("Video"):
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

    async def look(self, word: int) -> list[dict[Any, Any]]:
        event: Any = SimpleNamespace(word=word)
        return await self.follow(self.tab._look(REQUEST, self.values[self.tab.asked], event))


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
