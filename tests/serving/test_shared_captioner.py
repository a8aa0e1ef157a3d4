from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captioning.core.cancellation import work_for
from captioning.core.errors import CapabilityError, Stopped
from captioning.core.types import (
    NUM_ALTERNATIVES,
    Capabilities,
    Caption,
    CaptionTrace,
    DecodingOptions,
    ImageFeatures,
    Picture,
    TokenAlternative,
)
from captioning.serving import loading
from captioning.serving.loaded_models import ModelShelf
from captioning.serving.loading import load_captioner
from captioning.serving.memory import ByteBoundedCache, SingleFlight, caption_bytes
from captioning.serving.shared_captioner import SharedCaptioner
from tests.conftest import FAKE_SPEC, FakeCaptioner, at_once

GREEDY = DecodingOptions()


def picture(name: str) -> Picture:
    return Picture(Image.new("RGB", (8, 8)), name)


def test_least_recently_used_values_leave_when_the_bytes_run_out() -> None:
    kept = ByteBoundedCache[str](100)
    kept.put("a", "A", 40)
    kept.put("b", "B", 40)
    assert kept.get("a") == "A"
    kept.put("c", "C", 40)
    assert kept.get("b") is None
    assert (kept.get("a"), kept.get("c"), kept.num_bytes) == ("A", "C", 80)
    kept.put("a", "AA", 60)
    assert (kept.get("a"), kept.num_bytes) == ("AA", 100)


def test_a_value_larger_than_the_cache_is_not_kept_and_throws_nothing_out() -> None:
    kept = ByteBoundedCache[str](100)
    kept.put("a", "A", 40)
    kept.put("huge", "H", 101)
    assert kept.get("huge") is None
    assert (kept.get("a"), kept.num_bytes) == ("A", 40)
    kept.put("a", "AA", 101)  # what it stood for is no more
    assert (kept.get("a"), kept.num_bytes, len(kept)) == (None, 0, 0)


def measured_bytes(value: Any, seen: set[int]) -> int:
    """Memory of a value and all that it holds, what is held twice counted once."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    parts = [getattr(value, f.name) for f in fields(value)] if is_dataclass(value) else value
    inside = parts if isinstance(parts, tuple | list) else ()
    return sys.getsizeof(value) + sum(measured_bytes(part, seen) for part in inside)


@pytest.mark.parametrize("tokens", [1, 5, 25, 500])
def test_captions_are_charged_what_they_take(tokens: int) -> None:
    texts = tuple(f" token{n}" for n in range(tokens))
    alternatives = tuple(
        tuple(TokenAlternative(1000 + 5 * n + k, f" other{n}-{k}", -0.5 - 5 * n - k) for k in range(NUM_ALTERNATIVES))
        for n in range(tokens)
    )
    log_probs = tuple(-0.25 - n for n in range(tokens))
    ids = tuple(range(1000, 1000 + tokens))
    caption = Caption("m", "r", "i", "", GREEDY, "".join(texts), ids, texts, 0, log_probs, alternatives, 0.1)
    assert caption_bytes(caption) == pytest.approx(measured_bytes(caption, set()), rel=0.2)


def test_long_captions_fill_the_cache_sooner() -> None:
    captioner = SharedCaptioner(FakeCaptioner(), 10**6)
    (features,) = captioner.encode([picture("one")])
    before = captioner.status().cached_bytes
    written = captioner.decode(features, ["a", "b"], GREEDY)
    assert captioner.status().cached_bytes - before == sum(map(caption_bytes, written))


def test_a_known_picture_is_not_encoded_again() -> None:
    fake = FakeCaptioner()
    shared = SharedCaptioner(fake)
    first = shared.encode([picture("a"), picture("b"), picture("a")])
    assert [f.image_id for f in first] == ["a", "b", "a"]
    assert shared.encode([picture("b")])[0] is first[1]
    assert fake.encoded == shared.status().encoded_images == 2
    assert shared.status().cached_images == 2


def test_another_prompt_on_a_known_picture_encodes_nothing_and_writes_only_what_is_new() -> None:
    fake = FakeCaptioner()
    shared = SharedCaptioner(fake)
    (features,) = shared.encode([picture("a")])
    before = shared.decode(features, ["one", "two"], GREEDY)
    steps = fake.steps
    again = shared.decode(features, ["two", "one"], GREEDY)
    assert again == [before[1], before[0]]
    assert fake.steps == steps
    mixed = shared.decode(features, ["one", "three", "two"], GREEDY)
    assert [c.prompt for c in mixed] == ["one", "three", "two"]
    assert mixed[0] is before[0]
    assert fake.encoded == 1


def test_known_captions_stand_in_their_places_while_new_ones_stream() -> None:
    shared = SharedCaptioner(FakeCaptioner())
    (features,) = shared.encode([picture("a")])
    (known,) = shared.decode(features, ["one"], GREEDY)
    heard: list[Sequence[Caption]] = []
    shared.decode(features, ["new", "one"], GREEDY, heard.append)
    assert len(heard) > 1
    assert all(captions[1] is known for captions in heard)
    assert len(heard[0][0].token_ids) < len(heard[-1][0].token_ids)


def test_other_options_are_another_caption() -> None:
    shared = SharedCaptioner(FakeCaptioner())
    (features,) = shared.encode([picture("a")])
    long = shared.decode(features, ["one"], GREEDY)[0]
    short = shared.decode(features, ["one"], DecodingOptions(max_new_tokens=2))[0]
    assert len(short.token_ids) < len(long.token_ids)


def test_traces_are_kept_unless_heads_are_masked() -> None:
    shared = SharedCaptioner(FakeCaptioner())
    (features,) = shared.encode([picture("a")])
    (caption,) = shared.decode(features, ["one"], GREEDY)
    assert shared.trace(features, caption) is shared.trace(features, caption)
    mask = np.ones((2, 3), np.float32)
    assert shared.trace(features, caption, mask) is not shared.trace(features, caption, mask)


def test_one_computation_serves_all_who_wait() -> None:
    fake = FakeCaptioner(encode_delay=0.05, delay=0.005)
    shared = SharedCaptioner(fake)

    def visit(name: str) -> list[Caption]:
        (features,) = shared.encode([picture(name)])
        return shared.decode(features, ["one"], GREEDY)

    results = at_once(visit, "a" * 8)
    assert all(result == results[0] for result in results)
    assert fake.encoded == 1
    assert fake.steps == 7


def test_only_one_piece_of_model_work_runs_at_a_time() -> None:
    running: list[int] = []
    most: list[int] = []

    class Watched(FakeCaptioner):
        def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
            running.append(1)
            most.append(len(running))
            time.sleep(0.01)
            result = super().encode(images)
            running.pop()
            return result

    shared = SharedCaptioner(Watched())
    at_once(shared.encode, [[picture(str(number))] for number in range(6)])
    assert len(most) == 6
    assert max(most) == 1


def test_a_stopped_caption_frees_the_model_and_is_written_anew() -> None:
    shared = SharedCaptioner(FakeCaptioner())
    (features,) = shared.encode([picture("a")])

    def stop(_: Sequence[Caption]) -> None:
        raise Stopped("enough")

    with pytest.raises(Stopped):
        shared.decode(features, ["one"], GREEDY, stop)
    assert len(shared.decode(features, ["one"], GREEDY)[0].token_ids) == 8


def test_who_waits_for_a_failure_computes_instead() -> None:
    flights = SingleFlight()
    started, fail = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def failing() -> int:
        started.set()
        fail.wait(5)
        raise ValueError("mine")

    def first() -> None:
        try:
            flights.run("key", failing)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    started.wait(5)
    waiting: list[int] = []
    second = threading.Thread(target=lambda: waiting.append(flights.run("key", lambda: 7)))
    second.start()
    fail.set()
    thread.join(5)
    second.join(5)
    assert waiting == [7]
    assert [str(error) for error in errors] == ["mine"]


def test_who_is_not_wanted_any_more_waits_for_no_computation_of_others() -> None:
    flights, begun, end = SingleFlight(), threading.Event(), threading.Event()

    def compute() -> str:
        begun.set()
        end.wait(10)
        return "made"

    def check() -> None:
        raise Stopped("Stopped.")

    def follow() -> str:
        work_for(check)
        return flights.run("key", lambda: "made twice")

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(flights.run, "key", compute)
        assert begun.wait(10)
        assert isinstance(pool.submit(follow).exception(timeout=5), Stopped)
        end.set()
        assert leader.result(10) == "made"


def test_status_tells_what_was_done() -> None:
    shared = SharedCaptioner(FakeCaptioner(delay=0.001)).chosen_because("because")
    assert shared.status().encode_seconds is None
    (features,) = shared.encode([picture("a")])
    shared.decode(features, ["one"], GREEDY)
    status = shared.status()
    assert status.reason == "because"
    assert status.encode_seconds is not None
    assert status.tokens_per_second is not None
    assert status.tokens_per_second > 0


def captioner_of(title: str, num_bytes: int) -> SharedCaptioner:
    fake = FakeCaptioner(replace(FAKE_SPEC, title=title))
    fake.num_bytes = num_bytes
    return SharedCaptioner(fake)


def test_the_captioner_not_asked_for_longest_leaves_when_the_bytes_run_out() -> None:
    shelf = ModelShelf(100)
    captioners = {name: captioner_of(name, 40) for name in "abc"}
    for name in "ab":
        shelf.put((name, "", ""), captioners[name])
    assert shelf.get(("a", "", "")) is captioners["a"]
    shelf.put(("c", "", ""), captioners["c"])
    assert shelf.get(("b", "", "")) is None
    status = shelf.status(captioners["c"])
    assert (status.models_in_memory, status.model_bytes, status.models_left) == (2, 80, ("b",))
    assert (status.title, status.cached_images) == ("c", 0)


def test_room_is_made_before_a_model_is_loaded_and_one_that_is_too_large_stays_alone() -> None:
    shelf = ModelShelf(100)
    small, huge = captioner_of("small", 40), captioner_of("huge", 500)
    shelf.put(("small", "", ""), small)
    shelf.make_room(60)
    assert shelf.get(("small", "", "")) is small
    shelf.make_room(500)
    assert shelf.get(("small", "", "")) is None
    shelf.put(("huge", "", ""), huge)
    assert shelf.get(("huge", "", "")) is huge
    assert shelf.status(huge).models_left == ("small",)
    # One that left is still counted by whoever works with it.
    assert shelf.status(small).models_in_memory == 2


def test_many_threads_may_load_and_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # A collection a load is right for models, and takes minutes for hundreds of fakes beside much else in memory.
    monkeypatch.setattr("captioning.serving.loaded_models.gc.collect", lambda: 0)
    shelf = ModelShelf(100)

    def visit(number: int) -> None:
        for turn in range(50):
            key = (str((number + turn) % 5), "", "")
            if shelf.get(key) is None:
                shelf.make_room(40)
                shelf.put(key, captioner_of(key[0], 40))
            shelf.status(captioner_of("own", 1))

    at_once(visit, range(6))
    assert sum(shelf.get((str(number), "", "")) is not None for number in range(5)) <= 2


def test_only_who_asked_for_auto_is_told_why_it_is_that_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_shelf", ModelShelf(10**9))
    monkeypatch.setattr(loading, "load_uncached", lambda *_, **__: FakeCaptioner())
    monkeypatch.setattr(loading, "choose_model", lambda: ("embedded", "auto: nothing else is here"))
    first, named, second = (load_captioner(name) for name in ("auto", "embedded", "auto"))
    assert first.is_same_model(named)
    assert first.is_same_model(second)
    assert first.status().reason == second.status().reason == "auto: nothing else is here"
    assert not named.status().reason
    monkeypatch.setattr(loading, "_shelf", ModelShelf(10**9))
    load_captioner("embedded")
    assert load_captioner("auto").status().reason == "auto: nothing else is here"
    assert load_captioner("auto").status().models_in_memory == 1


def test_what_is_inside_is_looked_up_once() -> None:
    shared = SharedCaptioner(FakeCaptioner())
    assert shared.info() is shared.info()
    assert [token.token for token in shared.tokenize("a dog")] == ["a", " dog"]


def test_captions_that_end_at_once_leave_the_measured_speed_alone() -> None:
    shared = SharedCaptioner(FakeCaptioner(num_words=0))
    (features,) = shared.encode([picture("a")])
    shared.decode(features, ["one"], GREEDY)
    assert shared.status().tokens_per_second is None


def test_an_explanation_is_computed_once_a_position_and_kept_within_the_bytes() -> None:
    fake = FakeCaptioner(replace(FAKE_SPEC, capabilities=Capabilities(explanation_methods=("relevance",))))
    shared = SharedCaptioner(fake)
    image = picture("a")
    (features,) = shared.encode([image])
    (caption,) = shared.decode(features, [""], GREEDY)
    first = shared.explain(image, caption, [0, 3], "relevance")
    again = shared.explain(image, caption, [3, 1, 0, 3], "relevance")
    assert fake.explained == 3
    np.testing.assert_array_equal(again[[2, 0]], first)
    np.testing.assert_array_equal(again[0], again[3])
    assert shared.explain(image, caption, [], "relevance").shape == (0, 16)
    with pytest.raises(CapabilityError, match="choose from relevance"):
        shared.explain(image, caption, [0], "gradient_attention")
    assert shared.explain(picture("b"), caption, [0], "relevance").tolist() != first[:1].tolist()
    small = SharedCaptioner(fake, max_bytes=4 * first[0].nbytes)  # a quarter is for results: one map
    for position in range(5):
        small.explain(image, caption, [position], "relevance")
    assert small.status().cached_bytes <= first[0].nbytes


def test_explanations_asked_for_at_once_are_computed_once() -> None:
    class Slow(FakeCaptioner):
        def explain(
            self, image: Picture, caption: Caption, positions: Sequence[int], method: str
        ) -> NDArray[np.float32]:
            time.sleep(0.1)
            return super().explain(image, caption, positions, method)

    fake = Slow(replace(FAKE_SPEC, capabilities=Capabilities(explanation_methods=("relevance",))))
    shared = SharedCaptioner(fake)
    (features,) = shared.encode([picture("a")])
    (caption,) = shared.decode(features, [""], GREEDY)
    at_once(lambda name: shared.explain(picture(name), caption, [1], "relevance"), "a" * 4)
    assert fake.explained == 1


def test_who_comes_right_after_a_computation_finds_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCaptioner(replace(FAKE_SPEC, capabilities=Capabilities(explanation_methods=("relevance",))))
    shared = SharedCaptioner(fake)
    image = picture("a")
    (features,) = shared.encode([image])
    run = SingleFlight.run
    asked: list[Callable[[], Any]] = []

    def run_and_ask_again(flights: SingleFlight, key: Hashable, compute: Callable[[], Any]) -> Any:
        made = run(flights, key, compute)
        if asked:
            asked.pop()()
        return made

    def ask_twice(ask: Callable[[], Any]) -> None:
        asked.append(ask)
        ask()

    monkeypatch.setattr(SingleFlight, "run", run_and_ask_again)
    ask_twice(lambda: shared.decode(features, ["one", "two"], GREEDY))
    steps = fake.steps
    (caption,) = shared.decode(features, ["one"], GREEDY)
    assert fake.steps == steps == 7
    ask_twice(lambda: shared.explain(image, caption, [0, 1], "relevance"))
    assert fake.explained == 2
    traces: list[CaptionTrace] = []
    ask_twice(lambda: traces.append(shared.trace(features, caption)))
    assert traces[0] is traces[1]


def test_a_private_view_finds_its_own_and_what_is_shared() -> None:
    fake = FakeCaptioner()
    shared = SharedCaptioner(fake)
    one, two = (shared.private_to(name, frozenset({"sample"})) for name in ("one", "two"))
    for view in (one, two, one, two):
        (features, sample) = view.encode([picture("a"), picture("sample")])
        view.decode(features, ["x"], GREEDY)
        view.decode(sample, ["x"], GREEDY)
    assert fake.encoded == 3
    assert one.status().cached_images == two.status().cached_images == 2
    assert shared.private_to("three", frozenset()).status().cached_images == 1
    assert one.status().encoded_images == shared.status().encoded_images == 3
    assert one.status().tokens_per_second == two.status().tokens_per_second is not None


def test_private_views_wait_for_no_computation_of_others() -> None:
    fake = FakeCaptioner(encode_delay=0.2)
    shared = SharedCaptioner(fake)
    views = [shared.private_to(name, frozenset()) for name in ("one", "two")]
    at_once(lambda view: view.encode([picture("a")]), views)
    assert fake.encoded == 2


def test_a_view_of_a_captioner_counts_as_one_model_in_memory() -> None:
    shelf = ModelShelf(10**9)
    shared = SharedCaptioner(FakeCaptioner(), shelf=shelf)
    shelf.put(("embedded", "cpu", "float32"), shared)
    status = shared.private_to("one", frozenset()).status()
    assert (status.models_in_memory, status.model_bytes) == (1, shared.num_bytes)
