"""What the menu, the status line and the notice show in the end, whatever is chosen while the first model loads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from captioning.core.errors import HubError
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.tabs.header import Header
from tests.conftest import FakeLoader

REQUEST: Any = SimpleNamespace(session_hash="me")


class SlowLoader(FakeLoader):
    """Gives the first model only when `first_may_come` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.first_may_come = threading.Event()

    def __call__(self, model_id: str = "auto", **options: Any) -> SharedCaptioner:
        if model_id == "auto":
            assert self.first_may_come.wait(30)
        return super().__call__(model_id, **options)


class Visit:
    """The header in one session, and the newest value of each of its parts."""

    def __init__(self, loader: SlowLoader) -> None:
        self.loader = loader
        with gr.Blocks():
            self.header = Header(loader, "auto")
        self.values: dict[Any, Any] = {}

    async def follow(self, updates: AsyncIterator[dict[Any, Any]]) -> None:
        async for update in updates:
            self.values |= update

    async def choose_while_opening(self, wanted: str) -> None:
        """Choose a model before the first is there, which then comes."""
        opening = asyncio.create_task(self.follow(self.header._open_page(REQUEST)))
        await asyncio.sleep(0.1)
        choosing = asyncio.create_task(self.follow(self.header._choose(wanted, "auto", REQUEST)))
        await asyncio.sleep(0.3)
        self.header._choices.stop(REQUEST)
        await asyncio.sleep(0.3)
        self.loader.first_may_come.set()
        self.loader.may_end.set()
        await asyncio.wait_for(asyncio.gather(opening, choosing), 30)

    @property
    def notice(self) -> dict[str, Any]:
        value: dict[str, Any] = self.values[self.header.notice]
        return value

    @property
    def menu(self) -> Any:
        return self.values[self.header.menu]["value"]


@pytest.fixture
def visit() -> Visit:
    return Visit(SlowLoader())


def test_a_choice_that_fails_while_the_first_model_loads_says_why_and_lets_that_one_come(visit: Visit) -> None:
    visit.loader.blip_error = HubError("The hub cannot be reached.")
    asyncio.run(visit.choose_while_opening(FakeLoader.BLIP))
    assert visit.menu == visit.values[visit.header.page.model_id] == "embedded"
    assert visit.values[visit.header.page.status]["state"] == "ready"
    assert visit.notice["error"] == "The hub cannot be reached."
    assert visit.notice["offer"] is not None


def test_a_choice_that_is_cancelled_while_the_first_model_loads_lets_that_one_come(visit: Visit) -> None:
    visit.loader.may_end.clear()
    asyncio.run(visit.choose_while_opening(FakeLoader.BLIP))
    assert visit.menu == visit.values[visit.header.page.model_id] == "embedded"
    assert (visit.notice["error"], visit.notice["progress"]) == ("", None)


def test_a_model_that_is_chosen_while_the_first_one_loads_is_not_pushed_away_by_it(visit: Visit) -> None:
    asyncio.run(visit.choose_while_opening("wordless"))
    assert visit.menu == visit.values[visit.header.page.model_id] == "wordless"
