"""Long work in a thread that a page follows, sees progress of, and can stop.

A tab's handler is a loop over `Runs.follow(...)`: it names the work, and what the page shows of each state. It never
blocks the server and catches nothing; the newest state comes about twenty times a second. When a run ends early (Stop,
a newer run, a page that was left) the work hears `Stopped` at its next step, or where it waits for the model, which
frees the model for others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import gradio as gr

from captioning.core.cancellation import Job, work_for
from captioning.core.errors import LimitError, Stopped
from captioning.core.messages import explain
from captioning.core.settings import get_settings
from captioning.web.visitor import current_session

Update = TypeVar("Update")
Result = TypeVar("Result")

POLL_SECONDS = 0.05
HEARTBEAT_SECONDS = 0.5
"""A page that was left is noticed when something is said to it, so something is said this often."""


@dataclass(frozen=True, slots=True)
class Progress(Generic[Update]):
    """Work goes on: its newest state, `None` before the first, and the seconds since the start."""

    update: Update | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """Work is done, after so many seconds."""

    result: Result
    seconds: float


@dataclass(frozen=True, slots=True)
class Halted:
    """The person stopped the work."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The work failed, and this sentence says why."""

    sentence: str


@dataclass(slots=True)
class _Run:
    """One run of a session. `superseded` says that a newer run took its place and it shall fall silent."""

    stop: threading.Event = field(default_factory=threading.Event)
    superseded: bool = False


class Runs:
    """The runs of one kind, at most one a session: a newer one stops the one before. Thread-safe."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()

    async def follow(
        self, request: gr.Request, work: Callable[[Job[Update]], Result]
    ) -> AsyncGenerator[Progress[Update] | Done[Result] | Halted | Failed, None]:
        """Run `work` in place of the session's run before; yield its states, then how it ended.

        A run that a newer one took the place of ends without another word.
        """
        session = request.session_hash or ""
        run = self._start(session)
        ending: Halted | Failed | None = None
        try:
            async for state in follow(work, run.stop):
                yield state
        except Stopped:
            ending = Halted()
        except Exception as error:
            ending = Failed(explain(error))
        finally:
            self._finish(session, run)
        if ending is not None and not run.superseded:
            yield ending

    def stop(self, request: gr.Request) -> None:
        """Stop the session's run, if there is one; a handler of its own."""
        with self._lock:
            run = self._runs.get(request.session_hash or "")
        if run is not None:
            run.stop.set()

    def supersede(self, request: gr.Request) -> None:
        """Stop the session's run and let it fall silent: what it was about is gone."""
        session = request.session_hash or ""
        self._finish(session, self._start(session))

    def _start(self, session: str) -> _Run:
        run = _Run()
        with self._lock:
            old = self._runs.get(session)
            if old is not None:
                old.superseded = True
                old.stop.set()
            self._runs[session] = run
        return run

    def _finish(self, session: str, run: _Run) -> None:
        """Forget a run that is over, and stop what is left of it."""
        run.stop.set()
        with self._lock:
            if self._runs.get(session) is run:
                del self._runs[session]


class Visitors:
    """A count of the jobs that each visitor has under way. Thread-safe."""

    def __init__(self) -> None:
        self._jobs: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, visitor: str, most: int) -> Iterator[None]:
        """Take a place for one more job of a visitor. Raises `LimitError` where there are `most` already."""
        with self._lock:
            if self._jobs[visitor] >= most:
                running = "something" if most == 1 else f"{most} things"
                which = "it" if most == 1 else "one of them"
                raise LimitError(f"You have {running} running here already; wait for {which}, or stop it.")
            self._jobs[visitor] += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs -= Counter({visitor: 1})


_visitors = Visitors()


async def follow(
    work: Callable[[Job[Update]], Result], stop: threading.Event | None = None
) -> AsyncGenerator[Progress[Update] | Done[Result], None]:
    """Run `work` in a thread of its own; yield its states as they come, the newest again twice a second, and `Done`.

    Raises what `work` raises, and `Stopped` as soon as `stop` is set, even where the work cannot hear it yet.
    Raises `LimitError` where the visitor has too much under way, or the work takes too long. Closing the generator
    sets `stop`.
    """
    settings = get_settings()
    visitor = current_session()
    with _visitors.place(visitor, settings.visitor_jobs) if visitor else nullcontext():
        async with aclosing(_follow(work, stop or threading.Event(), settings.job_seconds)) as events:
            async for event in events:
                yield event


async def _follow(
    work: Callable[[Job[Update]], Result], stop: threading.Event, most_seconds: float
) -> AsyncGenerator[Progress[Update] | Done[Result], None]:
    job: Job[Update] = Job(stop)
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(result)  # type: ignore[arg-type]
        else:
            outcome.set_exception(error)

    def target() -> None:
        work_for(job.check)
        try:
            result, error = work(job), None
        except BaseException as caught:
            result, error = None, caught
        with suppress(RuntimeError):  # a closed loop: the server is going down, and nobody is left to tell
            loop.call_soon_threadsafe(settle, result, error)

    latest: Update | None = None
    started = spoken = time.monotonic()
    # With the context of the event: a GPU that is lent by the call is lent to the visitor who asks.
    threading.Thread(target=copy_context().run, args=(target,), name="captionscope-worker", daemon=True).start()
    try:
        while True:
            await asyncio.wait((outcome,), timeout=POLL_SECONDS)
            now = time.monotonic()
            if stop.is_set():  # first: a result that comes in the same moment must not show after a newer run's
                raise Stopped("Stopped.")
            if outcome.done():
                yield Done(outcome.result(), now - started)
                return
            if now - started > most_seconds:
                raise LimitError(
                    f"This took longer than {most_seconds:g} s, the longest that this server gives; ask for less."
                )
            update = job.take()
            if update is not None or now - spoken >= HEARTBEAT_SECONDS:
                latest = latest if update is None else update
                spoken = now
                yield Progress(latest, now - started)
    finally:
        stop.set()
        if not outcome.cancel() and not outcome.cancelled():
            outcome.exception()  # looked at, so that asyncio does not report an error that nobody waits for


async def answer(work: Callable[[Job[None]], Result]) -> Result:
    """Run the work of an endpoint and return its result; being cancelled stops it.

    Raises `gr.Error` with a sentence where the work fails.
    """
    try:
        async for event in follow(work):
            if isinstance(event, Done):
                return event.result
        raise Stopped("Stopped.")
    except Exception as error:
        raise gr.Error(explain(error), print_exception=False) from error
