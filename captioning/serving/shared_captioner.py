"""The one cached model wrapper: every tab, endpoint and command shares its captioners.

`SharedCaptioner` has the contract's own verbs. It remembers features, captions and traces,
lets one computation serve all who wait for it, and runs one piece of model work at a time, in turn.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from captioning.core import runtime
from captioning.core.contract import BatchCaptioner, DecodingRequest, OnToken, Prefix
from captioning.core.settings import get_settings
from captioning.core.types import (
    Caption,
    CaptionerStatus,
    CaptionTrace,
    DecodingOptions,
    ImageFeatures,
    ModelInfo,
    ModelInput,
    ModelSpec,
    Picture,
    TeacherForcing,
    TextToken,
)
from captioning.serving.batching import DecodingQueue, Turns
from captioning.serving.memory import ByteBoundedCache, SingleFlight, caption_bytes

_MAX_ROWS = 32


@dataclass(slots=True)
class _Record:
    """The state of a captioner and of its last work, for all views of it."""

    encoded_images: int = 0
    encode_seconds: float | None = None
    tokens_per_second: float | None = None
    info: ModelInfo | None = None


class Shelf(Protocol):
    """The place of captioners beside each other in memory."""

    def status(self, captioner: SharedCaptioner) -> CaptionerStatus:
        """Return the status of a captioner, and of the other models in memory."""
        ...


class SharedCaptioner:
    """A captioner of the same contract that many threads may use at once."""

    def __init__(
        self,
        captioner: BatchCaptioner,
        max_bytes: int | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self._captioner = captioner
        self._reason = ""
        self._shelf = shelf
        limit = get_settings().cache_bytes if max_bytes is None else max_bytes
        # A picture takes longest to encode; captions, and traces as large as features, are quickly made again of them.
        self._features = ByteBoundedCache[ImageFeatures](limit * 3 // 4)
        self._results = ByteBoundedCache[Any](limit // 4)
        self._work = Turns()
        # A lent GPU hears one caller at a time.
        self._queue = DecodingQueue(self._decode_batch, self._work, 1 if runtime.ON_ZERO_GPU else _MAX_ROWS)
        self._flights = SingleFlight()
        self._record = _Record()
        self._visitor = ""
        self._shared_ids: frozenset[str] = frozenset()

    @property
    def spec(self) -> ModelSpec:
        """Return the identity of the model, and the capabilities of its architecture."""
        return self._captioner.spec

    @property
    def device(self) -> str:
        """Return the model's device, as torch names it."""
        return self._captioner.device

    @property
    def precision(self) -> str:
        """The type of its weights."""
        return self._captioner.precision

    @property
    def engine(self) -> str:
        """Return the default engine."""
        return self._captioner.engine

    @property
    def num_bytes(self) -> int:
        """Memory its weights take, in bytes."""
        return self._captioner.num_bytes

    @property
    def end_token(self) -> TextToken:
        """The token that ends a caption."""
        return self._captioner.end_token

    def status(self) -> CaptionerStatus:
        """Return what the cache holds, the speed of the last work, and the other models in memory."""
        return self.own_status() if self._shelf is None else self._shelf.status(self)

    def own_status(self) -> CaptionerStatus:
        """Return what the cache holds and the speed of the last work, without other models."""
        return CaptionerStatus(
            model_id=self.spec.model_id,
            title=self.spec.title,
            device=self.device,
            precision=self.precision,
            cached_images=self._features.count(lambda key: key[0] in ("", self._visitor)),
            cached_bytes=self._features.num_bytes + self._results.num_bytes,
            encoded_images=self._record.encoded_images,
            encode_seconds=self._record.encode_seconds,
            tokens_per_second=self._record.tokens_per_second,
            reason=self._reason,
            model_bytes=self.num_bytes,
            engine=self.engine,
        )

    def preprocess(self, image: Picture) -> ModelInput:
        """Return the input that the model receives of a picture, and the layout of its patches."""
        return self._captioner.preprocess(image)

    def without_memory(self) -> SharedCaptioner:
        """Return the same captioner, in the same queue, for changed pictures: it caches none of them."""
        other = copy(self)
        other._features = ByteBoundedCache[ImageFeatures](0)
        return other

    def private_to(self, visitor: str, shared_ids: frozenset[str]) -> SharedCaptioner:
        """Return the same captioner, with the same queue and cache, that finds only the visitor's own entries.

        Pictures of `shared_ids` are everybody's; a clip's average is its visitor's.
        """
        other = copy(self)
        other._visitor, other._shared_ids = visitor, shared_ids
        return other

    def chosen_because(self, reason: str) -> SharedCaptioner:
        """Return the same captioner with the reason of its choice in its status."""
        other = copy(self)
        other._reason = reason
        return other

    def is_same_model(self, other: SharedCaptioner) -> bool:
        """Return whether both use the same weights in memory."""
        return self._captioner is other._captioner

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        """One `ImageFeatures` a picture; only pictures that nobody asked for before cost anything."""
        found: dict[str, ImageFeatures] = {}
        new: dict[str, Picture] = {}
        for image in images:
            known = self._features.get(self._key(image.image_id))
            if known is None:
                new[image.image_id] = image
            else:
                found[image.image_id] = known
        if new:
            ids = tuple(new)
            flight = ("encode", tuple(map(self._key, ids)))
            made = self._flights.run(flight, lambda: self._encode_new(new))
            found |= dict(zip(ids, made, strict=True))
        return [found[image.image_id] for image in images]

    def decode(
        self,
        features: ImageFeatures,
        prefixes: Sequence[Prefix],
        options: DecodingOptions,
        on_token: OnToken | None = None,
    ) -> list[Caption]:
        """Captions for every prefix; the seed decides sampled ones too, so those that are kept need not be written."""
        keys: list[Hashable] = [
            ("caption", self._key(features.image_id), p if isinstance(p, str) else tuple(p), options) for p in prefixes
        ]
        known: dict[int, list[Caption]] = {}
        for place, key in enumerate(keys):
            captions = self._results.get(key)
            if captions is not None:
                known[place] = captions
        missing = [place for place in range(len(prefixes)) if place not in known]
        if missing:
            relay = on_token and _with_known(on_token, known, len(prefixes), options.num_captions)
            flight = ("decode", tuple(keys[place] for place in missing))

            def write() -> list[list[Caption]]:
                wanted = [prefixes[place] for place in missing]
                written = iter(self._queue.write(features, wanted, options, relay))
                new = [list(islice(written, options.num_captions)) for _ in missing]
                for place, captions in zip(missing, new, strict=True):
                    self._results.put(keys[place], captions, sum(map(caption_bytes, captions)))
                return new

            known |= zip(missing, self._flights.run(flight, write), strict=True)
        return [caption for place in range(len(prefixes)) for caption in known[place]]

    def caption_from_text(self, features: ImageFeatures, prompt: str, text: str) -> Caption:
        """Return the caption `prompt` + `text` that a person typed, scored token by token."""
        with self._work:
            return self._captioner.caption_from_text(features, prompt, text)

    def teacher_force(self, features: ImageFeatures, prompt: str, text: str) -> TeacherForcing:
        """Return the caption `prompt` + `text` beside the model's own choice at every position."""
        with self._work:
            return self._captioner.teacher_force(features, prompt, text)

    def tokenize(self, text: str) -> tuple[TextToken, ...]:
        """Return the tokens of a text, without a place in the queue: the tokenizer alone answers."""
        return self._captioner.tokenize(text)

    def trace(
        self, features: ImageFeatures, caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> CaptionTrace:
        """Return the attention of each token, and cache it."""
        if head_mask is not None:
            with self._work:
                return self._captioner.trace(features, caption, head_mask)
        key = ("trace", self._key(features.image_id), caption.token_ids, caption.num_prompt_tokens, caption.options)
        known: CaptionTrace | None = self._results.get(key)
        if known is not None:
            return known

        def compute() -> CaptionTrace:
            with self._work:
                trace = self._captioner.trace(features, caption)
            self._results.put(key, trace, trace.num_bytes)
            return trace

        return self._flights.run(key, compute)

    def explain(self, image: Picture, caption: Caption, positions: Sequence[int], method: str) -> NDArray[np.float32]:
        """Return how much each patch raised the tokens at `positions`, `[positions, patches]`."""
        about = (method, self._key(image.image_id), caption.token_ids, caption.model_id)
        keys = {p: ("explain", *about, p) for p in positions}
        maps: dict[int, Any] = {p: self._results.get(key) for p, key in keys.items()}
        missing = [p for p, known in maps.items() if known is None]
        if missing or not positions:
            flight = ("explain", tuple(keys[p] for p in missing))

            def compute() -> NDArray[np.float32]:
                with self._work:
                    made = self._captioner.explain(image, caption, missing, method)
                for position, one in zip(missing, made, strict=True):
                    self._results.put(keys[position], one, one.nbytes)
                return made

            made = self._flights.run(flight, compute)
            if not positions:
                return made
            maps |= zip(missing, made, strict=True)
        return np.stack([maps[p] for p in positions])

    def score(
        self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Log-probabilities of a caption's tokens given each of `features`, `[features, tokens]`."""
        with self._work:
            return self._captioner.score(features, caption, head_mask)

    def info(self) -> ModelInfo:
        """Return the model's weights, layers, tokenizer and shapes, looked up once."""
        with self._work:
            if self._record.info is None:
                self._record.info = self._captioner.info()
            return self._record.info

    def _key(self, image_id: str) -> tuple[str, str]:
        """Return the part of every cache key that stands for a picture: its owner, if it has one, and its id."""
        return "" if image_id in self._shared_ids else self._visitor, image_id

    def _encode_new(self, new: dict[str, Picture]) -> list[ImageFeatures]:
        with self._work:
            started = time.perf_counter()
            made = self._captioner.encode(list(new.values()))
            self._record.encode_seconds = (time.perf_counter() - started) / len(made)
            self._record.encoded_images += len(made)
        for features in made:
            self._features.put(self._key(features.image_id), features, features.num_bytes)
        return made

    def _decode_batch(
        self, requests: Sequence[DecodingRequest], options: DecodingOptions
    ) -> list[list[Caption] | Exception]:
        started = time.perf_counter()
        written: list[list[Caption] | Exception]
        if len(requests) == 1:
            (only,) = requests
            written = [self._captioner.decode(only.features, only.prefixes, options, only.on_token)]
        else:
            written = self._captioner.decode_together(requests, options)
        seconds = time.perf_counter() - started
        captions = [caption for part in written if not isinstance(part, Exception) for caption in part]
        count = sum(len(caption.token_ids) - caption.num_prompt_tokens for caption in captions)
        if count:  # captions that end at once measure nothing
            self._record.tokens_per_second = count / seconds
        return written


def _with_known(on_token: OnToken, known: dict[int, list[Caption]], count: int, each: int) -> OnToken:
    """Tell of captions being written together with those known already, every one in its place."""
    before = dict(known)

    def relay(written: Sequence[Caption]) -> None:
        if not written:
            on_token(())
            return
        fresh = iter(written)
        captions: list[Caption] = []
        for place in range(count):
            captions += before[place] if place in before else [next(fresh) for _ in range(each)]
        on_token(captions)

    return relay
