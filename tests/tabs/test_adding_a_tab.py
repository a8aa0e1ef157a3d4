"""The tab that docs/adding-a-tab.md shows, as it stands there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from captioning.ui.page import Page
from tests.conftest import FakeLoader

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-a-tab.md"
REQUEST: Any = SimpleNamespace(session_hash="me")


def read_example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


class Visit:
    """The tab on a page in one session, and what it shows."""

    def __init__(self, loader: FakeLoader) -> None:
        module = ModuleType("many")
        exec(compile(read_example(), str(DOCUMENT), "exec"), module.__dict__)
        with gr.Blocks() as self.blocks, gr.Tabs() as tabs, gr.Tab(module.TAB.title, id=module.TAB.tab_id):
            states = [gr.State(None) for _ in range(4)]
            module.TAB.build(Page(loader, states[0], states[1], gr.HTML(), states[2], states[3], tabs))
        self.shown: dict[str, str] = {}

    def handler(self, name: str) -> Any:
        (found,) = [fn.fn for fn in self.blocks.fns.values() if fn.name == name]
        return found

    async def draw(self, path: str | None) -> None:
        updates: AsyncIterator[dict[Any, str]] = self.handler("draw")(REQUEST, path, "auto")
        async for update in updates:
            self.shown |= {part.label: value for part, value in update.items()}


@pytest.fixture
def visit(fake_loader: FakeLoader) -> Visit:
    return Visit(fake_loader)


def test_the_example_is_short() -> None:
    assert len(read_example().splitlines()) < 60


def test_it_draws_what_it_says(visit: Visit, photo: Path) -> None:
    asyncio.run(visit.draw(str(photo)))
    assert visit.shown["State"] == "20 drawn"
    assert len(visit.shown["Captions"].splitlines()) == 20


def test_it_can_be_stopped(visit: Visit, photo: Path, fake_loader: FakeLoader) -> None:
    fake_loader("auto")
    fake_loader.fakes["embedded"].delay = 0.05

    async def session() -> None:
        drawing = asyncio.create_task(visit.draw(str(photo)))
        while not visit.shown.get("Captions"):
            await asyncio.sleep(0.02)
        visit.handler("stop")(REQUEST)
        await asyncio.wait_for(drawing, 30)

    asyncio.run(session())
    assert visit.shown["State"] == "Stopped."
    assert len(visit.shown["Captions"].splitlines()) < 20


def test_what_is_missing_is_one_sentence(visit: Visit) -> None:
    asyncio.run(visit.draw(None))
    assert visit.shown["State"] == "There is no picture yet; caption one first."
