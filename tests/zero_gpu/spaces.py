"""Stands in for the package `spaces` on ZeroGPU: really forks, really pickles, tells only the names of exceptions."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

_fork = multiprocessing.get_context("fork")
_forked = False
calls: list[tuple[int, int]] = []
"""The process that a call was worked on in, and the seconds that were asked for."""
sent: list[int] = []
"""How many items each call sent, those that nobody waited for included."""
refusal: Exception | None = None
"""What the next calls raise instead of getting a GPU."""


def GPU(task: Callable[..., Iterator[Any]], duration: Callable[..., int]) -> Callable[..., Iterator[Any]]:  # noqa: N802
    """Make a generator function run in a process of its own that a call forks."""

    @wraps(task)
    def call(*args: Any) -> Iterator[Any]:
        assert not _forked, "a worker asked for a GPU of its own"
        if refusal is not None:
            raise refusal
        inbox, outbox, stop = _fork.SimpleQueue(), _fork.SimpleQueue(), _fork.Event()
        process = _fork.Process(target=_serve, args=(task, inbox, outbox, stop), daemon=True)
        process.start()
        assert process.pid is not None
        calls.append((process.pid, duration(*args)))
        sent.append(0)
        inbox.put(args)
        try:
            while True:
                kind, value = outbox.get()
                if kind == "end":
                    return
                if kind == "error":
                    raise RuntimeError(value)
                sent[-1] += 1
                try:
                    yield value
                except GeneratorExit:
                    stop.set()
                    while outbox.get()[0] == "item":
                        sent[-1] += 1
                    raise
        finally:
            inbox.put(None)  # until here it stays, because tensors are fetched from it
            process.join(20)
            assert process.exitcode == 0

    return call


def _serve(task: Callable[..., Iterator[Any]], inbox: Any, outbox: Any, stop: Any) -> None:
    global _forked
    _forked = True
    items = task(*inbox.get())
    try:
        for item in items:
            if stop.is_set():
                items.close()  # type: ignore[attr-defined]
                break
            outbox.put(("item", item))
    except Exception as error:
        outbox.put(("error", type(error).__name__))
    else:
        outbox.put(("end", os.getpid()))
    inbox.get()
