"""The one cached model wrapper: every tab, endpoint and command shares its captioners.

`SharedCaptioner` has the contract's own verbs. It remembers features, captions and traces,
lets one computation serve all who wait for it, and runs one piece of model work at a time, in turn.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, wait
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from captioning.core import runtime
from captioning.core.cancellation import LOOK_SECONDS, check_wanted
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

if TYPE_CHECKING:
    from captioning.models.sources.hub import DownloadProgress

Value = TypeVar("Value")
OFFERED_MODEL = "Salesforce/blip-image-captioning-base"
"""What `auto` prefers where it is at hand, and what the page offers where it is not."""
_MAX_ROWS = 32
_TOKEN_BYTES = 1_100  # what a caption takes for each token with its alternatives, measured


def caption_bytes(caption: Caption) -> int:
    """Memory that a caption takes, in bytes, to within a tenth for any but the shortest."""
    return _TOKEN_BYTES * (1 + len(caption.token_ids))


class ByteBoundedCache(Generic[Value]):
    """Values up to a total size in bytes; the one that was not used for longest leaves first. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """The value, now the most recently used, or `None`."""
        with self._lock:
            entry = self._values.get(key)
            if entry is None:
                return None
            self._values.move_to_end(key)
            return entry[0]

    def count(self, counts: Callable[[Any], bool]) -> int:
        """How many of the keys count."""
        with self._lock:
            return sum(map(counts, self._values))

    def put(self, key: Hashable, value: Value, num_bytes: int) -> None:
        """Keep a value; one that is larger than the whole cache is not kept."""
        with self._lock:
            if key in self._values:
                self.num_bytes -= self._values.pop(key)[1]
            if num_bytes > self.max_bytes:
                return
            self._values[key] = (value, num_bytes)
            self.num_bytes += num_bytes
            while self.num_bytes > self.max_bytes:
                _, (_, freed) = self._values.popitem(last=False)
                self.num_bytes -= freed


class SingleFlight:
    """Lets one computation serve everybody who asks for the same while it runs."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def run(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Compute, or wait for whoever computes the same. If they fail or are stopped, the next one computes.

        What is to be found again is kept by `compute` itself: who comes after it looks there. Raises what `compute`
        raises, and `Stopped` as soon as nobody waits for who waits here.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                if flight is None:
                    mine: Future[Any] = Future()
                    self._flights[key] = mine
                    break
            while not wait([flight], LOOK_SECONDS).done:
                check_wanted()
            if flight.exception() is None:
                value: Value = flight.result()
                return value
        try:
            result = compute()
        except BaseException as error:
            with self._lock:
                del self._flights[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._flights[key]
        mine.set_result(result)
        return result


@dataclass(slots=True)
class _Record:
    """What a captioner knows of itself and its last work, for all views of it."""

    encoded_images: int = 0
    encode_seconds: float | None = None
    tokens_per_second: float | None = None
    info: ModelInfo | None = None


class SharedCaptioner:
    """A captioner of the same contract that many threads may use at once."""

    def __init__(
        self,
        captioner: BatchCaptioner,
        max_bytes: int | None = None,
        shelf: ModelShelf | None = None,
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
        """What it is, and what its architecture allows."""
        return self._captioner.spec

    @property
    def device(self) -> str:
        """Where it runs, as torch names it."""
        return self._captioner.device

    @property
    def precision(self) -> str:
        """The type of its weights."""
        return self._captioner.precision

    @property
    def engine(self) -> str:
        """What computes when nobody asks how."""
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
        """What it holds, how fast its last work was, and what else is in memory."""
        return self.own_status() if self._shelf is None else self._shelf.status(self)

    def own_status(self) -> CaptionerStatus:
        """What it holds and how fast its last work was, as if it were alone."""
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
        """What the model receives of a picture, and how it maps back."""
        return self._captioner.preprocess(image)

    def without_memory(self) -> SharedCaptioner:
        """The same captioner, taking turns as before, for changed pictures that nobody asks for again: none is kept."""
        other = copy(self)
        other._features = ByteBoundedCache[ImageFeatures](0)
        return other

    def private_to(self, visitor: str, shared_ids: frozenset[str]) -> SharedCaptioner:
        """The same captioner, taking turns and room as before, that finds nothing again but the visitor's own.

        Pictures of `shared_ids` are everybody's; a clip's average is its visitor's.
        """
        other = copy(self)
        other._visitor, other._shared_ids = visitor, shared_ids
        return other

    def chosen_because(self, reason: str) -> SharedCaptioner:
        """The same captioner in every way, whose status says why it was chosen."""
        other = copy(self)
        other._reason = reason
        return other

    def is_same_model(self, other: SharedCaptioner) -> bool:
        """Whether both are the same weights in memory."""
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
        """The caption `prompt` + `text` that a person typed, scored token by token."""
        with self._work:
            return self._captioner.caption_from_text(features, prompt, text)

    def teacher_force(self, features: ImageFeatures, prompt: str, text: str) -> TeacherForcing:
        """The caption `prompt` + `text` beside what the model would have written at every position."""
        with self._work:
            return self._captioner.teacher_force(features, prompt, text)

    def tokenize(self, text: str) -> tuple[TextToken, ...]:
        """The tokens of a text; waits for nobody, because the model itself is not asked."""
        return self._captioner.tokenize(text)

    def trace(
        self, features: ImageFeatures, caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> CaptionTrace:
        """Where the model looked for each token; kept for the next who asks."""
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
        """Where the picture made the tokens at `positions` likely, `[positions, patches]`; only new ones cost."""
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
        """What is inside the model, looked up once."""
        with self._work:
            if self._record.info is None:
                self._record.info = self._captioner.info()
            return self._record.info

    def _key(self, image_id: str) -> tuple[str, str]:
        """What stands for a picture in every key: whose it is, nobody's where all share it, and its id."""
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


Key = tuple[str, str, str]


class ModelShelf:
    """Captioners up to a total size of weights in bytes; the one not asked for longest leaves first. Thread-safe.

    Whoever still works with one that left keeps it until done. The newest stays, however large it is.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._captioners: OrderedDict[Key, SharedCaptioner] = OrderedDict()
        self._left: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def get(self, key: Key) -> SharedCaptioner | None:
        """The captioner, now the most recently used, or `None`."""
        with self._lock:
            captioner = self._captioners.get(key)
            if captioner is not None:
                self._captioners.move_to_end(key)
            return captioner

    def make_room(self, num_bytes: int) -> None:
        """Let captioners go until one of so many bytes fits beside the others."""
        with self._lock:
            self._left = self._drop_beyond(self.max_bytes - num_bytes, at_least=0)
        if self._left:
            gc.collect()  # networks may refer to themselves in circles

    def put(self, key: Key, captioner: SharedCaptioner) -> None:
        """Keep a captioner that was just loaded, and let others go where they do not fit beside it."""
        with self._lock:
            self._captioners[key] = captioner
            self._left += self._drop_beyond(self.max_bytes, at_least=1)

    def status(self, captioner: SharedCaptioner) -> CaptionerStatus:
        """What a captioner says of itself, and what else is in memory."""
        with self._lock:
            held = list(self._captioners.values())
            left = self._left
        # Without this one, which may have left already.
        others = [other for other in held if not other.is_same_model(captioner)]
        num_bytes = captioner.num_bytes + sum(other.num_bytes for other in others)
        own = captioner.own_status()
        return replace(own, models_in_memory=1 + len(others), model_bytes=num_bytes, models_left=left)

    def _drop_beyond(self, max_bytes: int, at_least: int) -> tuple[str, ...]:
        left = []
        while len(self._captioners) > at_least and sum(c.num_bytes for c in self._captioners.values()) > max_bytes:
            _, captioner = self._captioners.popitem(last=False)
            left.append(captioner.spec.title)
        return tuple(left)


_shelf = ModelShelf(get_settings().model_bytes)
_loading = SingleFlight()


def choose_model() -> tuple[str, str]:
    """What `auto` means on this machine, and why: BLIP base where it lies in the local cache, else `embedded`."""
    from captioning.models import get_spec
    from captioning.models.sources import hub

    blip = get_spec(OFFERED_MODEL)
    if hub.find_local(blip) is not None:
        return blip.model_id, f"auto: {blip.title} is on this machine"
    return "embedded", f"auto: {blip.title} is not on this machine, and nothing is downloaded unasked"


def load_captioner(
    model_id: str = "auto",
    device: str | None = None,
    precision: str | None = None,
    report: Callable[[DownloadProgress], None] | None = None,
) -> SharedCaptioner:
    """The shared captioner of a model: a registry name, a folder, a hub name, or `auto`.

    Everyone who asks for the same model, device and precision gets the same one, and waits for it if somebody
    else loads it already; only who asked for `auto` is told why it is that one. `report` hears the progress of a
    download. Raises `UnknownModelError`, `ModelFilesError` or `HubError`, and `OptionsError` for a device or precision
    that is not to be had; models loaded before stay.
    """
    settings = get_settings()
    reason = ""
    if model_id == "auto":
        model_id, reason = choose_model()
    key = (model_id, device or settings.device, precision or settings.precision)

    def load() -> SharedCaptioner:
        known = _shelf.get(key)  # somebody may have finished loading it since
        if known is not None:
            return known
        captioner = SharedCaptioner(load_uncached(*key, report, _shelf.make_room), shelf=_shelf)
        _shelf.put(key, captioner)
        return captioner

    captioner = _shelf.get(key) or _loading.run(key, load)
    return captioner.chosen_because(reason) if reason else captioner


def load_uncached(
    model_id: str,
    device: str | None = None,
    precision: str | None = None,
    report: Callable[[DownloadProgress], None] | None = None,
    make_room: Callable[[int], None] | None = None,
    engine: str | None = None,
) -> BatchCaptioner:
    """A captioner of one's own that remembers nothing: for measuring on many pictures that are seen once.

    `make_room` hears how many bytes its weights take, as far as its files tell, before they are read.
    """
    from captioning.models.accelerator import lend_to
    from captioning.models.captioner import NetworkCaptioner
    from captioning.models.decoding.choosing import choose_engine
    from captioning.models.sources import hub

    settings = get_settings()
    spec = hub.resolve_spec(model_id)
    chosen_device = runtime.choose_device(device or settings.device, may_be_lent=True)
    dtype = runtime.choose_precision(chosen_device, precision or settings.precision)
    network = hub.open_network(spec, runtime.waiting_device(chosen_device), dtype, report, make_room)
    spec = hub.with_commit(spec)  # which the first download found out
    if not runtime.ON_ZERO_GPU:
        return NetworkCaptioner(spec, network, engine=choose_engine(network, engine or settings.engine))
    captioner = NetworkCaptioner(spec, network, chosen_device)
    lend_to(captioner)
    return captioner
