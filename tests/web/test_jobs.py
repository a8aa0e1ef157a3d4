"""Work in a thread that a page follows and can stop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import gradio as gr
import pytest
from gradio.context import LocalContext

from captioning.core.cancellation import Job
from captioning.core.errors import PromptError, Stopped
from captioning.core.settings import Settings
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs, answer, follow
from tests.conftest import FakeCaptioner
from tests.tiny_models import drawing


def test_the_newest_state_arrives_and_then_the_result() -> None:
    def work(job: Job[int]) -> str:
        for number in range(5):
            job.show(number)
            time.sleep(0.12)
        return "done"

    async def main() -> list[Progress[int] | Done[str]]:
        return [event async for event in follow(work)]

    *progress, last = asyncio.run(main())
    assert isinstance(last, Done)
    assert last.result == "done"
    updates = [event.update for event in progress if isinstance(event, Progress)]
    assert updates == sorted(updates, key=lambda update: update or 0)
    assert 4 in updates


def test_states_that_come_too_fast_are_dropped_and_not_queued() -> None:
    def work(job: Job[int]) -> None:
        for number in range(20_000):
            job.show(number)

    async def main() -> int:
        return len([event async for event in follow(work)])

    assert asyncio.run(main()) < 1000


def test_silent_work_is_heard_of_twice_a_second() -> None:
    def work(job: Job[None]) -> None:
        time.sleep(1.3)

    async def main() -> int:
        return len([event async for event in follow(work)])

    assert asyncio.run(main()) == 3


def test_an_error_of_the_work_is_raised() -> None:
    def work(job: Job[None]) -> None:
        raise PromptError("There is no prompt.")

    with pytest.raises(gr.Error, match="There is no prompt"):
        asyncio.run(answer(work))


def test_stop_is_noticed_at_once_even_by_work_that_does_not_listen() -> None:
    stop = threading.Event()
    heard = threading.Event()

    def work(job: Job[None]) -> None:
        time.sleep(0.6)
        try:
            job.check()
        except Stopped:
            heard.set()

    async def main() -> float:
        threading.Timer(0.1, stop.set).start()
        started = time.monotonic()
        with pytest.raises(Stopped):
            async for _ in follow(work, stop):
                pass
        return time.monotonic() - started

    assert asyncio.run(main()) < 0.4
    assert heard.wait(2)


def test_closing_the_generator_stops_the_work() -> None:
    stopped = threading.Event()

    def work(job: Job[int]) -> None:
        try:
            for number in range(1000):
                job.show(number)
                time.sleep(0.02)
        except Stopped:
            stopped.set()

    async def main() -> None:
        events = follow(work)
        await anext(events)
        await events.aclose()

    asyncio.run(main())
    assert stopped.wait(2)


def test_cancelling_stops_the_work() -> None:
    stopped = threading.Event()

    def work(job: Job[None]) -> None:
        try:
            while True:
                job.check()
                time.sleep(0.02)
        except Stopped:
            stopped.set()

    async def main() -> None:
        task = asyncio.create_task(answer(work))
        await asyncio.sleep(0.15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert stopped.wait(2)


class Sessions:
    """Runs of one kind, and what each session is told of them."""

    def __init__(self) -> None:
        self.runs = Runs()
        self.told: dict[str, list[Any]] = {}

    def begin(self, session: str, work: Callable[[Job[Any]], Any]) -> asyncio.Task[None]:
        async def listen() -> None:
            told = self.told.setdefault(session, [])
            async for state in self.runs.follow(request_of(session), work):
                told.append(state)

        return asyncio.create_task(listen())


def request_of(session: str) -> Any:
    return SimpleNamespace(session_hash=session)


def until_stopped(job: Job[Any]) -> None:
    while True:
        job.check()
        time.sleep(0.01)


def test_a_newer_run_silences_only_those_of_its_session() -> None:
    sessions = Sessions()

    async def main() -> None:
        first, other = sessions.begin("a", until_stopped), sessions.begin("b", until_stopped)
        await asyncio.sleep(0.2)
        second = sessions.begin("a", lambda _: "newer")
        await asyncio.wait_for(asyncio.gather(first, second), 5)
        assert not other.done()
        sessions.runs.stop(request_of("b"))
        await asyncio.wait_for(other, 5)

    asyncio.run(main())
    assert [state for state in sessions.told["a"] if not isinstance(state, Progress)] == [Done("newer", ANY)]
    assert sessions.told["b"][-1] == Halted()


def test_a_run_whose_subject_is_gone_falls_silent() -> None:
    sessions = Sessions()

    async def main() -> None:
        run = sessions.begin("a", until_stopped)
        await asyncio.sleep(0.1)
        sessions.runs.supersede(request_of("a"))
        await asyncio.wait_for(run, 5)
        sessions.runs.stop(request_of("a"))  # nothing is there, and nothing happens

    asyncio.run(main())
    assert all(isinstance(state, Progress) for state in sessions.told["a"])


def test_a_run_that_fails_says_so_in_a_sentence_and_leaves_its_place() -> None:
    sessions = Sessions()

    def fail(_: Job[Any]) -> None:
        raise PromptError("There is no prompt.")

    async def main() -> None:
        await sessions.begin("a", fail)
        await sessions.begin("a", lambda _: "next")

    asyncio.run(main())
    assert sessions.told["a"] == [Failed("There is no prompt."), Done("next", ANY)]


def test_a_result_that_comes_as_the_work_is_stopped_is_not_told() -> None:
    stop = threading.Event()

    def work(job: Job[None]) -> None:
        stop.set()

    async def main() -> list[Progress[None] | Done[None]]:
        return [event async for event in follow(work, stop)]

    with pytest.raises(Stopped):
        asyncio.run(main())


def test_work_that_takes_longer_than_the_limit_is_stopped_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.web.jobs.get_settings", lambda: Settings(job_seconds=0))
    stopped = threading.Event()

    def work(job: Job[None]) -> None:
        try:
            while True:
                job.check()
                time.sleep(0.01)
        except Stopped:
            stopped.set()
            raise

    with pytest.raises(gr.Error, match="longer than 0 s"):
        asyncio.run(answer(work))
    assert stopped.wait(2)


def test_a_visitor_has_only_so_many_jobs_at_once_and_gets_their_places_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.web.jobs.get_settings", lambda: Settings(visitor_jobs=2))
    release = threading.Event()

    def work(_: Job[None]) -> str:
        release.wait(5)
        return "done"

    async def ask(session: str) -> str:
        LocalContext.request.set(SimpleNamespace(session_hash=session))  # type: ignore[arg-type]
        return await answer(work)

    async def main() -> list[str | BaseException]:
        first = [asyncio.create_task(ask("a")) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(gr.Error, match="2 things running"):
            await ask("a")
        other = asyncio.create_task(ask("b"))
        await asyncio.sleep(0.1)
        release.set()
        return [*await asyncio.gather(*first, other), await ask("a")]

    assert asyncio.run(main()) == ["done"] * 4


def test_the_work_knows_whose_event_it_serves() -> None:
    async def main() -> object:
        LocalContext.request.set(SimpleNamespace(session_hash="someone"))  # type: ignore[arg-type]
        return await answer(lambda _: LocalContext.request.get(None))

    request = asyncio.run(main())
    assert isinstance(request, SimpleNamespace)
    assert request.session_hash == "someone"


def test_work_that_was_stopped_while_it_waited_for_a_model_leaves_it_alone() -> None:
    captioner, stop, left = FakeCaptioner(), threading.Event(), threading.Event()
    shared = SharedCaptioner(captioner)

    def work(job: Job[None]) -> None:
        try:
            shared.encode([drawing(1)])
        except Stopped:
            left.set()

    async def main() -> None:
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(Stopped):
            async for _ in follow(work, stop):
                pass

    with shared._work:
        asyncio.run(main())
        assert left.wait(5), "it does not wait for its turn any more"
    assert captioner.encoded == 0
    assert len(shared.encode([drawing(1)])) == 1
