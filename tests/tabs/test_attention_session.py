"""What the Attention tab shows in the end, when a person does not wait for one thing before asking for another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from captioning.core.types import Capabilities, DecodingOptions
from captioning.media.images import open_image
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.attention import asking, believing, tab
from captioning.tabs.attention.believing import Measured
from captioning.tabs.attention.tab import AttentionTab
from captioning.tabs.model import patches
from captioning.tabs.model.patches import PatchSection
from captioning.ui.page import CarriedCaption, Page
from tests.conftest import FAKE_SPEC, FakeLoader
from tests.tabs.test_attention import VIEW

REQUEST: Any = SimpleNamespace(session_hash="me")
PROMPT = "a photography of"


class Visit:
    """The tab in one session: handlers see its values as they are when they start, as on a page."""

    def __init__(self, load: LoadCaptioner) -> None:
        with gr.Blocks(), gr.Tabs() as tabs, gr.Tab("Attention"):
            states = [gr.State(None) for _ in range(4)]
            self.page = Page(load, states[0], states[1], gr.HTML(), states[2], states[3], tabs)
            self.tab = AttentionTab(self.page)
        self.values: dict[Any, Any] = {}
        self.told: list[dict[Any, Any]] = []

    async def follow(self, updates: AsyncIterator[Any]) -> None:
        async for update in updates:
            if isinstance(update, dict):
                self.told.append(update)
                self.values |= {part: value for part, value in update.items() if part != "__type__"}

    def look(self, path: Path, model_id: str = "auto") -> Coroutine[Any, Any, None]:
        """What the picture's own event does."""
        return self.follow(self.tab._look_if_new(REQUEST, str(path), model_id, PROMPT, "", self.seen))

    def switch_model(self, path: Path, model_id: str) -> Coroutine[Any, Any, None]:
        here = (str(path), model_id, PROMPT, "", self.seen, self.values.get(self.page.carried))
        return self.follow(self.tab._look_if_open(REQUEST, *here))

    def carry(self, carried: CarriedCaption) -> Coroutine[Any, Any, None]:
        """What opening a caption of another tab does."""
        self.values[self.page.carried] = carried
        return self.follow(self.tab._look_at_carried(REQUEST, carried))

    def keep(self, kind: str) -> Coroutine[Any, Any, None]:
        event: Any = SimpleNamespace(kind=kind, view=VIEW)
        return self.follow(self.tab.saving.save(REQUEST, event, self.seen))

    def compute(self, method: str) -> Coroutine[Any, Any, None]:
        event: Any = SimpleNamespace(method=method)
        return self.follow(self.tab._compute(REQUEST, event, self.seen, self.values.get(self.tab.shown)))

    def measure(self, view: Any = None) -> Coroutine[Any, Any, None]:
        event: Any = SimpleNamespace(view=view)
        return self.follow(self.tab.belief._measure(REQUEST, event, self.seen, self.values.get(self.tab.shown)))

    def ask(self, view: Any = None) -> Coroutine[Any, Any, None]:
        event: Any = SimpleNamespace(how="hidden", share=0.25, view=view)
        return self.follow(self.tab.again._ask(REQUEST, event, self.seen, []))

    def clear(self) -> None:
        self.values |= self.tab._clear(REQUEST)

    @property
    def seen(self) -> Any:
        return self.values.get(self.tab.seen)

    @property
    def explorer(self) -> dict[str, Any]:
        value: dict[str, Any] = self.values[self.tab.explorer]
        return value


class Gate:
    """Holds a function back until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def guard(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def wait(*arguments: Any, **options: Any) -> Any:
            self.reached.set()
            assert self.open.wait(30)
            return work(*arguments, **options)

        return wait

    async def let_in(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start work, as far as to the gate."""
        task = asyncio.create_task(work)
        assert await asyncio.to_thread(self.reached.wait, 30)
        return task

    async def let_out(self, task: asyncio.Task[None]) -> None:
        self.open.set()
        await asyncio.wait_for(task, 30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], Gate]:
    """Puts a gate before a function of a module."""

    def put(module: Any, name: str) -> Gate:
        gate = Gate()
        monkeypatch.setattr(module, name, gate.guard(getattr(module, name)))
        return gate

    return put


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Visit:
    spec = replace(FAKE_SPEC, capabilities=Capabilities(explanation_methods=("relevance",)))
    monkeypatch.setattr("tests.conftest._fake_spec", lambda name: replace(spec, model_id=name))
    return Visit(FakeLoader())


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.png"
    Image.new("RGB", (50, 40), "teal").save(path)
    return path


def test_what_is_measured_and_what_is_computed_meanwhile_are_both_shown(
    visit: Visit, photo: Path, gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Measured("dog", (3,), "Attention", importance=np.ones((2, 3), np.float32))
    monkeypatch.setattr(believing, "measure_word", lambda *_: (found, ""))
    measuring = gate(believing, "measure_word")

    async def journey() -> None:
        await visit.look(photo)
        task = await measuring.let_in(visit.measure())
        await visit.compute("relevance")
        await measuring.let_out(task)

    asyncio.run(journey())
    look = visit.explorer["look"]
    assert (set(look["maps"]), set(look["importance"])) == ({"relevance"}, {"3"})
    known = visit.tab._findings.known(REQUEST, visit.seen)
    assert set(known.maps) == {"relevance"}, "files have them too"
    assert set(known.importance) == {(3,)}
    assert not visit.seen.maps, "what a page holds stays as it is"


@pytest.mark.parametrize(
    ("module", "name", "work"),
    [
        (tab, "compute_maps", lambda visit: visit.compute("relevance")),
        (believing, "measure_word", Visit.measure),
        (asking, "ask_again", Visit.ask),
    ],
)
def test_a_picture_that_was_cleared_does_not_come_back(
    visit: Visit, photo: Path, gate: Callable[..., Gate], module: Any, name: str, work: Any
) -> None:
    held = gate(module, name)

    async def journey() -> None:
        await visit.look(photo)
        task = await held.let_in(work(visit))
        visit.clear()
        await asyncio.sleep(0.2)
        await held.let_out(task)

    asyncio.run(journey())
    assert visit.explorer["phase"] == "idle"
    assert visit.explorer["look"] is None
    assert visit.seen is None
    panels = (visit.values[part] for part in (visit.tab.belief.part, visit.tab.again.part))
    assert [panel["phase"] for panel in panels] == ["idle", "idle"]


def test_measuring_that_was_stopped_still_says_what_it_takes(visit: Visit, photo: Path) -> None:
    async def journey() -> None:
        await visit.look(photo)
        load: Any = visit.page.load
        load.fakes["embedded"].encode_delay = 0.1
        measuring = asyncio.create_task(visit.measure(VIEW))
        await asyncio.sleep(0.5)
        visit.tab.belief._runs.stop(REQUEST)
        await asyncio.wait_for(measuring, 30)

    asyncio.run(journey())
    panel = visit.values[visit.tab.belief.part]
    assert panel["phase"] == "stopped"
    assert "changed pictures" in panel["estimate"]


def test_a_saved_view_that_cannot_be_opened_ends_what_was_going_on(
    visit: Visit, photo: Path, gate: Callable[..., Gate]
) -> None:
    computing = gate(tab, "compute_maps")

    async def journey() -> None:
        await visit.look(photo)
        task = await computing.let_in(visit.compute("relevance"))
        await visit.follow(visit.tab._reopen(REQUEST, str(photo), str(photo), "auto"))
        await asyncio.sleep(0.2)
        await computing.let_out(task)

    asyncio.run(journey())
    assert "no saved view" in visit.explorer["message"]
    assert visit.explorer["look"] is None


def test_going_back_to_the_picture_before_shows_that_one(
    visit: Visit, photo: Path, other: Path, gate: Callable[..., Gate]
) -> None:
    async def journey() -> None:
        await visit.look(photo)
        looking = gate(tab, "look_at")
        task = await looking.let_in(visit.look(other))
        looking.open.set()
        await visit.look(photo)
        await task

    asyncio.run(journey())
    assert visit.seen.path == str(photo)
    assert visit.explorer["look"]["name"] == "photo.png"


def test_only_a_picture_that_a_person_chose_is_taken_in_hand(visit: Visit, photo: Path) -> None:
    asyncio.run(visit.look(photo))
    assert visit.values.pop(visit.page.picture) == str(photo)
    asyncio.run(visit.switch_model(photo, FakeLoader.BLIP))
    assert visit.seen.model_id == FakeLoader.BLIP
    assert visit.page.picture not in visit.values


def test_a_model_that_is_chosen_during_a_look_is_the_one_that_looks(
    visit: Visit, photo: Path, gate: Callable[..., Gate]
) -> None:
    async def journey() -> None:
        looking = gate(tab, "look_at")
        task = await looking.let_in(visit.look(photo))
        looking.open.set()
        await visit.switch_model(photo, FakeLoader.BLIP)
        await task

    asyncio.run(journey())
    assert visit.seen.model_id == FakeLoader.BLIP


# ---- captions that other tabs hand over ----


def carried_from(visit: Visit, path: Path, serial: int) -> CarriedCaption:
    """A caption of a picture, as the Caption tab hands it over."""
    captioner = visit.page.load("auto")
    (features,) = captioner.encode([open_image(path)])
    (caption,) = captioner.decode(features, [PROMPT], DecodingOptions())
    return CarriedCaption(str(path), "embedded", caption, serial)


def test_a_caption_that_is_carried_over_another_one_stays_carried_until_it_is_looked_at(
    visit: Visit, photo: Path, other: Path, gate: Callable[..., Gate]
) -> None:
    first, second = carried_from(visit, photo, 1), carried_from(visit, other, 2)

    async def journey() -> None:
        looking = gate(tab, "look_at")
        one = await looking.let_in(visit.carry(first))
        looking.reached.clear()
        two = await looking.let_in(visit.carry(second))
        await one
        assert visit.values[visit.page.carried] is second
        await visit.switch_model(other, FakeLoader.BLIP)
        await looking.let_out(two)

    asyncio.run(journey())
    assert (visit.seen.path, visit.seen.model_id) == (str(other), "embedded")
    assert visit.values[visit.page.carried] is None


def test_another_picture_takes_the_place_of_what_is_carried(
    visit: Visit, photo: Path, other: Path, gate: Callable[..., Gate]
) -> None:
    async def journey() -> None:
        carried = carried_from(visit, photo, 1)
        looking = gate(tab, "look_at")
        task = await looking.let_in(visit.carry(carried))
        looking.open.set()
        await visit.look(other)
        await task

    asyncio.run(journey())
    assert visit.seen.path == str(other)
    assert visit.values[visit.page.carried] is None


# ---- the server ----


def test_pictures_and_weights_are_packed_in_workers(visit: Visit, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()

    def watch(module: Any, name: str) -> None:
        work = getattr(module, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            threads.add(threading.current_thread().name)
            return work(*arguments, **options)

        monkeypatch.setattr(module, name, watched)

    for module, name in ((tab, "picture_file"), (tab, "pack_weights"), (asking, "picture_file")):
        watch(module, name)
    for module in (tab, asking, patches):
        watch(module, "save_bytes_to_cache")

    async def journey() -> None:
        await visit.look(photo)
        await visit.ask(VIEW)
        await visit.keep("png")

    asyncio.run(journey())
    assert visit.values[visit.tab.again.part]["phase"] == visit.values[visit.tab.saving.part]["phase"] == "done"
    with gr.Blocks():
        section = PatchSection(visit.page)
    asyncio.run(visit.follow(section._show(REQUEST, str(photo), "auto", None)))
    assert visit.values[section.patches]["phase"] == "done"
    assert threads == {"captionscope-worker"}


def test_a_file_and_a_cut_up_picture_say_something_while_they_are_made(
    visit: Visit, photo: Path, gate: Callable[..., Gate]
) -> None:
    async def journey(held: Gate, work: Coroutine[Any, Any, None]) -> None:
        task = await held.let_in(work)
        visit.told.clear()
        await asyncio.sleep(1.3)
        await held.let_out(task)

    asyncio.run(visit.look(photo))
    asyncio.run(journey(gate(tab, "render_file"), visit.keep("png")))
    assert [update[visit.tab.saving.part]["phase"] for update in visit.told] == ["busy", "busy", "done"]
    with gr.Blocks():
        section = PatchSection(visit.page)
    shown = section._show(REQUEST, str(photo), "auto", None)
    asyncio.run(journey(gate(patches, "cut_up"), visit.follow(shown)))
    assert [update[section.patches]["phase"] for update in visit.told] == ["busy", "busy", "done"]
