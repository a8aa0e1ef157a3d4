"""What all tests share: a captioner that needs no framework, pictures, and a page that uses both."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captioning.attention import views
from captioning.core.contract import DecodingRequest, OnToken, Prefix
from captioning.core.errors import CapabilityError, FeaturesError, HubError, PromptError, UnknownModelError
from captioning.core.settings import get_settings
from captioning.core.types import (
    Capabilities,
    Caption,
    CaptionTrace,
    DecodingOptions,
    ImageFeatures,
    ModelInfo,
    ModelInput,
    ModelSpec,
    ParameterArray,
    PatchLayout,
    Picture,
    TeacherForcing,
    TextToken,
    TokenAlternative,
)
from captioning.serving.shared_captioner import SharedCaptioner

# Tiny models gain nothing from threads, and threads that wait for each other crawl beside any other work.
os.environ["OMP_NUM_THREADS"] = "1"

# Seconds that each step of the fake captioner takes at least; `make test-speeds` sets it.
TOKEN_SECONDS = float(os.environ.get("FAKE_TOKEN_SECONDS", "0"))

WORDS = ("a", "brown", "dog", "runs", "through", "the", "tall", "grass", "near", "two", "small", "trees", "today")
FAKE_SPEC = ModelSpec(
    model_id="embedded",
    family="fake",
    title="Fake captioner",
    license="none",
    capabilities=Capabilities(),
    revision="7",
    summary="Knows thirteen words.",
)


Result = TypeVar("Result")


def at_once(work: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """What `work` gives for each of the `arguments`, in their order, every call in a thread of its own."""
    with ThreadPoolExecutor(len(arguments[0])) as threads:
        return list(threads.map(work, *arguments, timeout=60))


class FakeTensor(np.ndarray[Any, Any]):
    """An array with the methods of a tensor that caches and averages ask for."""

    def numel(self) -> int:
        return self.size

    def element_size(self) -> int:
        return self.itemsize

    def float(self) -> FakeTensor:
        return self

    def norm(self) -> Any:
        return np.linalg.norm(np.asarray(self))


def fake_tensor(values: NDArray[np.float32]) -> Any:
    return values.view(FakeTensor)


class Gate:
    """A gate that lets `passes` threads through and holds the next ones until a test lets more through."""

    def __init__(self, passes: int) -> None:
        self._passes = threading.Semaphore(passes)

    def enter(self) -> None:
        """Wait for a pass. Raise `TimeoutError` after three minutes without one."""
        if not self._passes.acquire(timeout=180):
            raise TimeoutError("No test let this thread through.")

    def let_through(self, passes: int) -> None:
        """Let `passes` more threads through."""
        self._passes.release(passes)

    def open(self) -> None:
        """Hold no thread any longer."""
        self._passes.release(1_000_000)


class FakeCaptioner:
    """Obeys the contract with no model: what it writes follows from picture, prompt, options and nothing else.

    Prompt words keep their spelling; their ids and every generated word come from hashes. `delay` is the time a
    step takes in seconds, `encode_delay` that of a picture. `step_gate` and `picture_gate` hold steps and pictures
    for as long as a test wants. `encoded` counts pictures. It has `num_layers` layers of made-up weights.
    """

    device = "cpu"
    precision = "float32"
    engine = "torch"
    num_bytes = 1_000_000
    num_layers = 3
    end_token = TextToken(1000, "<end>")

    def __init__(
        self, spec: ModelSpec = FAKE_SPEC, delay: float = 0.0, encode_delay: float = 0.0, num_words: int = 7
    ) -> None:
        self.spec = spec
        self.delay = max(delay, TOKEN_SECONDS)
        self.encode_delay = encode_delay
        self.num_words = num_words
        self.step_gate: Gate | None = None
        self.picture_gate: Gate | None = None
        self.encoded = 0
        self.steps = 0
        self.explained = 0
        self._words = {_id_of(word): word for word in WORDS}

    def preprocess(self, image: Picture) -> ModelInput:
        pixels = np.asarray(image.image.resize((32, 32)), np.float32).transpose(2, 0, 1) / np.float32(255)
        return ModelInput(fake_tensor(((pixels - 0.5) * 4).astype(np.float32)), PatchLayout.from_grid(4, 4))

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        time.sleep(self.encode_delay)
        if self.picture_gate is not None:
            self.picture_gate.enter()
        self.encoded += len(images)
        states, embeds = np.ones((17, 4), np.float32), np.full(4, 0.5, np.float32)
        layout = PatchLayout.from_grid(4, 4)
        return [
            ImageFeatures(self.spec.model_id, image.image_id, fake_tensor(states), fake_tensor(embeds), layout, 1)
            for image in images
        ]

    def decode(
        self,
        features: ImageFeatures,
        prefixes: Sequence[Prefix],
        options: DecodingOptions,
        on_token: OnToken | None = None,
    ) -> list[Caption]:
        self._check(features.model_id)
        if not self.spec.capabilities.supports_prompt and any(prefixes):
            raise CapabilityError(f"{self.spec.title} takes no prompt; leave it empty.")
        rows = [(prefix, number) for prefix in prefixes for number in range(options.num_captions)]
        length = min(self.num_words, options.max_new_tokens)
        started = time.perf_counter()
        for step in range(1, length + 1):
            time.sleep(self.delay)
            if self.step_gate is not None:
                self.step_gate.enter()
            self.steps += 1
            if on_token is not None:
                partial = [self._write(features, prefix, number, options, step, started) for prefix, number in rows]
                on_token(() if options.num_beams > 1 else partial)
        return [self._write(features, prefix, number, options, length, started) for prefix, number in rows]

    def decode_together(
        self, requests: Sequence[DecodingRequest], options: DecodingOptions
    ) -> list[list[Caption] | Exception]:
        def write(request: DecodingRequest) -> list[Caption] | Exception:
            try:
                return self.decode(request.features, request.prefixes, options, request.on_token)
            except Exception as error:
                return error

        return [write(request) for request in requests]

    def caption_from_text(self, features: ImageFeatures, prompt: str, text: str) -> Caption:
        self._check(features.model_id)
        return self._caption(features, prompt, prompt.split(), text.split(), DecodingOptions(), 0.0)

    def trace(
        self, features: ImageFeatures, caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> CaptionTrace:
        self._check(caption.model_id)
        shape = (2, 3, len(caption.token_ids))
        weights = np.random.default_rng(0).dirichlet(np.ones(17), size=shape).astype(np.float32)
        return CaptionTrace(caption, weights[..., 1:], weights[..., 0], "cross", features.layout)

    def explain(self, image: Picture, caption: Caption, positions: Sequence[int], method: str) -> NDArray[np.float32]:
        if method not in self.spec.capabilities.explanation_methods:
            choices = ", ".join(self.spec.capabilities.explanation_methods)
            raise CapabilityError(f"{self.spec.title} has no maps by {method!r}; choose from {choices}.")
        self._check(caption.model_id)
        self.explained += len(positions)
        seeds = [_hash(image.image_id, caption.token_ids[position], method) for position in positions]
        maps = [np.random.default_rng(seed).dirichlet(np.ones(16)) for seed in seeds]
        return np.array(maps, np.float32).reshape(-1, 16)

    def score(
        self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        self._check(caption.model_id)
        return np.tile(np.array(caption.log_probs, np.float32), (len(features), 1))

    def teacher_force(self, features: ImageFeatures, prompt: str, text: str) -> TeacherForcing:
        caption = self.caption_from_text(features, prompt, text)
        if not caption.token_ids:
            raise PromptError("The caption is empty; type at least one word.")
        tokens = tuple(map(TextToken, caption.token_ids, caption.tokens))
        return TeacherForcing(
            inputs=(TextToken(1, "<start>"), *tokens),
            labels=(*tokens, self.end_token),
            log_probs=(*caption.log_probs, math.log(0.5)),
            alternatives=(*caption.alternatives, _alternatives("<end>", 0.5)),
            num_prompt_tokens=caption.num_prompt_tokens,
        )

    def tokenize(self, text: str) -> tuple[TextToken, ...]:
        words = text.split()
        return tuple(TextToken(_id_of(word), f" {word}" if place else word) for place, word in enumerate(words))

    def info(self) -> ModelInfo:
        shapes = {"encoder.weight": (64, 48), "encoder.bias": (64,)}
        shapes |= {f"decoder.layers.{n}.linear.weight": (16 + n, 8) for n in range(self.num_layers)}
        arrays = tuple(ParameterArray(name, shape, "float32", math.prod(shape)) for name, shape in shapes.items())
        steps: tuple[tuple[str, tuple[int, ...]], ...] = (
            ("pixel_values", (1, 3, 32, 32)),
            ("patches", (16, 3, 8, 8)),
            ("encoder_hidden_states", (1, 17, 4)),
            ("query", (5, 1, 8)),
            ("key", (17, 1, 4)),
            ("cross_attentions", (1, 3, 5, 17)),
        )
        return ModelInfo(
            self.spec,
            sum(a.elements for a in arrays),
            arrays,
            {"Linear": self.num_layers + 1, "LayerNorm": 2},
            {"type": "words", "vocabulary": 1000},
            steps,
            self.device,
            self.precision,
        )

    def _check(self, model_id: str) -> None:
        if model_id != self.spec.model_id:
            raise FeaturesError(f"These features come from {model_id}; encode the picture again.")

    def _write(
        self,
        features: ImageFeatures,
        prefix: Prefix,
        number: int,
        options: DecodingOptions,
        length: int,
        started: float,
    ) -> Caption:
        prompt = prefix if isinstance(prefix, str) else " ".join(self._words[i] for i in prefix)
        seed = options.seed if options.temperature else 0
        words = [WORDS[_hash(features.image_id, prompt, number, seed, i) % len(WORDS)] for i in range(length)]
        return self._caption(features, prompt, prompt.split(), words, options, time.perf_counter() - started)

    def _caption(
        self,
        features: ImageFeatures,
        prompt: str,
        prompt_words: list[str],
        words: list[str],
        options: DecodingOptions,
        seconds: float,
    ) -> Caption:
        both = [*prompt_words, *words]
        self._words |= {_id_of(word): word for word in both}
        tokens = tuple(word if place == 0 else f" {word}" for place, word in enumerate(both))
        sure = [0.04 + (_hash(word, place) % 93) / 100 for place, word in enumerate(both)]
        return Caption(
            model_id=self.spec.model_id,
            revision=self.spec.revision or "",
            image_id=features.image_id,
            prompt=prompt,
            options=options,
            text=" ".join(both),
            token_ids=tuple(_id_of(word) for word in both),
            tokens=tokens,
            num_prompt_tokens=len(prompt_words),
            log_probs=tuple(math.log(p) for p in sure),
            alternatives=tuple(_alternatives(token, p) for token, p in zip(tokens, sure, strict=True)),
            seconds=seconds,
        )


def _alternatives(token: str, p: float) -> tuple[TokenAlternative, ...]:
    others = [f" {word}" for word in WORDS if word != token.strip()][:4]
    shares = [(1 - p) * share for share in (0.5, 0.25, 0.15, 0.05)]
    pairs = sorted([(token, p), *zip(others, shares, strict=True)], key=lambda pair: -pair[1])
    return tuple(TokenAlternative(_id_of(text.strip()), text, math.log(share)) for text, share in pairs)


def _id_of(word: str) -> int:
    return _hash(word) % 1000


def _hash(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


class FakeDownload:
    """The progress of a download, as the hub's module reports it."""

    def __init__(self, done_bytes: int, total_bytes: int) -> None:
        self.done_bytes = done_bytes
        self.total_bytes = total_bytes


class FakeLoader:
    """Loads fake captioners by name: `embedded`, `wordless` (takes no prompt), and BLIP base after a download.

    `blip_error` fails that download half way; `download_seconds` is how long it takes at least, and it does not end
    before `may_end` is set. The captioners get `step_gate` and `picture_gate`.
    """

    BLIP = "Salesforce/blip-image-captioning-base"

    def __init__(
        self,
        delay: float = 0.0,
        encode_delay: float = 0.0,
        download_seconds: float = 0.0,
        step_gate: Gate | None = None,
        picture_gate: Gate | None = None,
    ) -> None:
        self.delay = delay
        self.encode_delay = encode_delay
        self.download_seconds = download_seconds
        self.step_gate = step_gate
        self.picture_gate = picture_gate
        self.blip_error: Exception | None = None
        self.may_end = threading.Event()
        self.may_end.set()
        self.loaded: dict[str, SharedCaptioner] = {}
        self.fakes: dict[str, FakeCaptioner] = {}
        self._lock = threading.Lock()

    def __call__(self, model_id: str = "auto", *, report: Callable[[Any], None] | None = None) -> SharedCaptioner:
        reason = "auto: BLIP base is not on this machine, and nothing is downloaded unasked"
        name = "embedded" if model_id == "auto" else model_id
        if name == self.BLIP and name not in self.loaded:
            self._download(report)
        if name not in ("embedded", "wordless", self.BLIP):
            raise UnknownModelError(f"There is no model {name!r}; choose from embedded, {self.BLIP}.")
        with self._lock:
            if name not in self.loaded:
                self.fakes[name] = fake = FakeCaptioner(_fake_spec(name), self.delay, self.encode_delay)
                fake.step_gate, fake.picture_gate = self.step_gate, self.picture_gate
                self.loaded[name] = SharedCaptioner(fake)
            captioner = self.loaded[name]
        return captioner.chosen_because(reason) if model_id == "auto" else captioner

    def _download(self, report: Callable[[Any], None] | None) -> None:
        for part in range(1, 11):
            time.sleep(self.download_seconds / 10)
            if part == 10:
                self.may_end.wait(timeout=60)
            if report is not None:
                report(FakeDownload(part * 99_000_000, 990_000_000))
            if self.blip_error is not None and part == 5:
                raise self.blip_error


def _fake_spec(name: str) -> ModelSpec:
    if name == "embedded":
        return FAKE_SPEC
    title = "BLIP base" if name == FakeLoader.BLIP else "Wordless captioner"
    return ModelSpec(name, "fake", title, "none", Capabilities(supports_prompt=name != "wordless"), revision="8")


@pytest.fixture(autouse=True)
def _measured_view() -> Iterator[None]:
    """Open fakes named `embedded` on gradient × attention, whatever measures best for the captioner that ships."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_MEASURED_VIEWS", {"embedded": views.AttentionView("gradient_attention", measured=True)})
        yield


@pytest.fixture
def fake_loader() -> FakeLoader:
    """Loads fake captioners at full speed."""
    return FakeLoader()


@pytest.fixture
def broken_hub() -> HubError:
    """What a hub that cannot be reached raises."""
    return HubError("The hub cannot be reached; check the network, or copy the model into a folder and name that.")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small picture file."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def features_of() -> Callable[[FakeCaptioner, str], ImageFeatures]:
    """Features that a fake captioner makes of a blank picture of some name."""

    def make(captioner: FakeCaptioner, image_id: str) -> ImageFeatures:
        return captioner.encode([Picture(Image.new("RGB", (8, 8)), image_id)])[0]

    return make


@pytest.fixture
def change_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets settings of this process by name until the test ends."""

    def change(**values: str | int) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"CAPTIONSCOPE_{name.upper()}", str(value))
        get_settings.cache_clear()

    yield change
    monkeypatch.undo()
    get_settings.cache_clear()
