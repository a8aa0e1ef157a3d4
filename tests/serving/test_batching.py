from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from captioning.core.cancellation import work_for
from captioning.core.contract import DecodingRequest
from captioning.core.errors import PromptError, Stopped
from captioning.core.types import Caption, DecodingOptions, ImageFeatures
from captioning.serving.batching import DecodingQueue, Turns, Written
from tests.conftest import FakeCaptioner
from tests.tiny_models import drawing

OPTIONS = DecodingOptions()


class Recorder:
    """Decodes by the fake captioner, remembers the batches, and lets a test hold the model busy."""

    def __init__(self) -> None:
        self.captioner = FakeCaptioner()
        self.batches: list[int] = []
        self.turns = Turns()

    def __call__(self, requests: Sequence[DecodingRequest], options: DecodingOptions) -> Written:
        self.batches.append(len(requests))
        return self.captioner.decode_together(requests, options)

    def queue(self, max_rows: int = 32) -> DecodingQueue:
        return DecodingQueue(self, self.turns, max_rows)

    def features(self, number: int) -> ImageFeatures:
        return self.captioner.encode([drawing(number)])[0]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def while_busy(queue: DecodingQueue, turns: Turns, works: Sequence[Callable[[], list[Caption]]]) -> list[object]:
    """What each work gives or raises, all begun in order while somebody else has the model."""

    def is_waiting(count: int) -> bool:
        return len(queue._waiting) == count == len(turns._queue)

    with ThreadPoolExecutor(len(works)) as pool:
        turns.take()
        futures = []
        for number, work in enumerate(works):
            futures.append(pool.submit(work))
            wait_for(partial(is_waiting, number + 1))
        turns.release()
        return [future.exception() or future.result() for future in futures]


def test_requests_that_wait_together_are_one_batch_and_each_gets_its_own() -> None:
    recorder = Recorder()
    queue = recorder.queue()
    pictures = [recorder.features(number) for number in range(5)]
    prompts = [["a"], ["a", "the dog"], ["a"], [""], ["on the"]]
    works = [lambda f=f, p=p: queue.write(f, p, OPTIONS) for f, p in zip(pictures, prompts, strict=True)]
    found = while_busy(queue, recorder.turns, works)
    assert recorder.batches == [5]
    for captions, features, mine in zip(found, pictures, prompts, strict=True):
        expected = recorder.captioner.decode(features, mine, OPTIONS)
        assert isinstance(captions, list)
        assert [c.text for c in captions] == [c.text for c in expected]
        assert {c.image_id for c in captions} == {features.image_id}


def test_other_options_and_what_does_not_fit_go_into_other_batches() -> None:
    recorder = Recorder()
    queue = recorder.queue(max_rows=3)
    features = recorder.features(0)
    cases = [(["a", "b"], OPTIONS), (["c", "d"], OPTIONS), (["e"], OPTIONS), (["f"], replace(OPTIONS, seed=1))]
    works = [lambda p=p, o=o: queue.write(features, p, o) for p, o in cases]
    while_busy(queue, recorder.turns, works)
    assert recorder.batches == [2, 1, 1]


def test_who_stops_or_asks_wrongly_leaves_the_neighbours_alone() -> None:
    recorder = Recorder()
    queue = recorder.queue()
    features = recorder.features(0)

    def stop(_: object) -> None:
        raise Stopped("Stopped.")

    def object_to(_: object) -> None:
        raise PromptError("no")

    listeners = [None, stop, object_to, None]
    works = [lambda f=f: queue.write(features, ["a"], OPTIONS, f) for f in listeners]
    one, stopped, wrong, other = while_busy(queue, recorder.turns, works)
    assert isinstance(stopped, Stopped)
    assert isinstance(wrong, PromptError)
    assert isinstance(one, list)
    assert isinstance(other, list)
    assert one[0].text == other[0].text


def test_a_request_that_nobody_wants_any_more_is_not_written() -> None:
    recorder, stop = Recorder(), threading.Event()
    queue = recorder.queue()
    features = recorder.features(0)

    def check() -> None:
        if stop.is_set():
            raise Stopped("Stopped.")

    def work() -> list[Caption]:
        work_for(check)
        return queue.write(features, ["a"], OPTIONS)

    with ThreadPoolExecutor(1) as pool:
        recorder.turns.take()
        waiting = pool.submit(work)
        wait_for(lambda: len(recorder.turns._queue) == 1)
        stop.set()
        assert isinstance(waiting.exception(timeout=5), Stopped)
        assert queue._waiting == []
        recorder.turns.release()
    assert recorder.batches == []


def test_an_error_of_the_model_reaches_everybody_and_the_queue_goes_on() -> None:
    turns, fail = Turns(), True
    recorder = Recorder()

    def decode(requests: Sequence[DecodingRequest], options: DecodingOptions) -> Written:
        if fail:
            raise MemoryError("full")
        return recorder(requests, options)

    queue = DecodingQueue(decode, turns, 32)
    features = recorder.features(0)
    found = while_busy(queue, turns, [lambda: queue.write(features, ["a"], OPTIONS)] * 3)
    assert [type(error) for error in found] == [MemoryError] * 3
    fail = False
    assert queue.write(features, ["a"], OPTIONS)


def test_captions_are_handed_over_before_the_whole_batch_is_done() -> None:
    turns, go_on = Turns(), threading.Event()
    recorder = Recorder()

    def decode(requests: Sequence[DecodingRequest], options: DecodingOptions) -> Written:
        written = recorder(requests, options)
        if len(requests) > 1:
            assert requests[1].on_done is not None
            assert isinstance(written[1], list)
            requests[1].on_done(written[1])
            assert go_on.wait(10)
        return written

    queue = DecodingQueue(decode, turns, 32)
    features = recorder.features(0)

    def second() -> list[Caption]:
        captions = queue.write(features, ["a"], OPTIONS)
        go_on.set()
        return captions

    found = while_busy(queue, turns, [lambda: queue.write(features, ["b"], OPTIONS), second])
    assert all(isinstance(one, list) for one in found)


def test_turns_go_to_whoever_waits_longest() -> None:
    turns, order = Turns(), list[int]()

    def work(number: int) -> None:
        with turns:
            order.append(number)

    def is_waiting(count: int) -> bool:
        return len(turns._queue) == count

    turns.take()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_for(partial(is_waiting, number + 1))
    turns.release()
    for thread in threads:
        thread.join(10)
    assert order == list(range(6))


@pytest.mark.parametrize("max_rows", [1, 32])
def test_many_threads_at_once_get_what_each_gets_alone(max_rows: int) -> None:
    recorder = Recorder()
    queue = recorder.queue(max_rows)
    pictures = [recorder.features(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [(f, p) for f in pictures for p in ("a", "the man", "")]
        found = list(pool.map(lambda job: queue.write(job[0], [job[1]], OPTIONS), jobs))
    for (features, prompt), captions in zip(jobs, found, strict=True):
        assert captions[0].text == recorder.captioner.decode(features, [prompt], OPTIONS)[0].text
    if max_rows == 1:
        assert set(recorder.batches) == {1}
