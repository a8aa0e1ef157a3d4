"""Several visitors at once, and one visitor on a machine with a busy core."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from captioning.bench.result import BenchCase, BenchResult, result_with_reference
from captioning.bench.setup import OPTIONS, PROMPTS, Setup
from captioning.bench.timing import seconds_of, take_turns

_VISITORS = 8


def _together(setup: Setup, repetitions: int) -> list[BenchResult]:
    """Measure 8 visitors at once, each with a new picture; the reference is one visitor after another."""
    first_tokens: list[list[float]] = []

    def visit(number: int) -> float:
        started = time.perf_counter()
        first: list[float] = []

        def on_token(_: object) -> None:
            first.append(time.perf_counter() - started)

        (features,) = setup.captioner.encode([setup.new_picture()])
        setup.captioner.decode(features, PROMPTS[:1], OPTIONS, on_token)
        return first[0]

    def ours() -> None:
        with ThreadPoolExecutor(_VISITORS) as pool:
            first_tokens.append(list(pool.map(visit, range(_VISITORS))))

    def reference() -> None:
        for number in range(_VISITORS):
            visit(number)

    turns = take_turns(ours, reference, min(repetitions, 3))
    slowest = statistics.median(max(times) / statistics.mean(times) for times in first_tokens[1:])
    note = f"the reference is one after another; slowest first token {slowest:.2f} × the mean"
    return [result_with_reference("visitors_8", *turns, None, setup.describe(setup.captioner, note))]


def _busy_core(setup: Setup, repetitions: int) -> list[BenchResult]:
    """Measure one caption while another process keeps a core busy; the reference is the quiet machine, in turn."""

    def caption() -> None:
        (features,) = setup.captioner.encode([setup.new_picture()])
        setup.captioner.decode(features, PROMPTS[:1], OPTIONS)

    busy: list[float] = []
    quiet: list[float] = []
    caption()
    for _ in range(repetitions):
        with _busy_process():
            busy.append(seconds_of(caption))
        quiet.append(seconds_of(caption))
    note = "the reference is without the neighbour"
    return [result_with_reference("busy_core", busy, quiet, None, setup.describe(setup.captioner, note))]


@contextmanager
def _busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


CASES = (
    BenchCase("visitors_8", "8 visitors at once, a new picture each, BLIP base size", _together),
    BenchCase("busy_core", "one caption beside a busy core, BLIP base size", _busy_core),
)
