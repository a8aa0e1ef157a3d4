"""Who works with a model next, and which requests for captions are written together.

A step of a decoder reads all of its weights, however many rows it writes; so rows of several callers in one batch
cost little more than those of one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future

from captioning.core.cancellation import LOOK_SECONDS, check_wanted
from captioning.core.contract import DecodingRequest, OnToken, Prefix
from captioning.core.errors import OptionsError, Stopped
from captioning.core.settings import get_settings
from captioning.core.types import Caption, DecodingOptions, ImageFeatures

Written = list[list[Caption] | Exception]
Decode = Callable[[Sequence[DecodingRequest], DecodingOptions], Written]


class Turns:
    """A lock that goes to whoever waits longest.

    Who waits may leave when somebody else has done the work, and leaves with `Stopped` when nobody wants it any more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._taken = False

    def take(self, unless: Callable[[], bool] = lambda: False) -> bool:
        """Wait for one's turn and return true, or false as soon as `unless` holds; then there is nothing to release.

        Raises `Stopped` as soon as nobody waits for what the turn is taken for; nothing is to release then, either.
        """
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while not self._changed.wait_for(
                    lambda: unless() or (not self._taken and self._queue[0] is ticket), LOOK_SECONDS
                ):
                    check_wanted()
                if unless():
                    return False
                check_wanted()
                self._taken = True
                return True
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def release(self) -> None:
        """End one's turn."""
        with self._changed:
            self._taken = False
            self._changed.notify_all()

    def look_again(self) -> None:
        """Let everybody who waits ask whether they still have to."""
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: object) -> None:
        self.release()


class _Job:
    """A request that waits or is being written."""

    def __init__(self, features: ImageFeatures, prefixes: Sequence[Prefix], options: DecodingOptions) -> None:
        self.options = options
        self.num_rows = len(prefixes) * max(options.num_captions, options.num_beams)
        layout, states = features.layout, features.encoder_hidden_states
        self.kind: Hashable = (options, layout.grid, layout.boxes.tobytes(), tuple(states.shape))
        self.result: Future[list[Caption]] = Future()
        self.request: DecodingRequest | None = None

    def finish(self, written: list[Caption] | Exception) -> None:
        """Hand the result over, unless that has happened."""
        if self.result.done():
            return
        if isinstance(written, Exception):
            self.result.set_exception(written)
        else:
            self.result.set_result(written)


def _check_rows(num_rows: int, num_prefixes: int) -> None:
    """Memory grows with every row, and one request shall not take that of all others."""
    most = get_settings().max_rows
    if num_rows > most:
        raise OptionsError(
            f"{num_prefixes} prompts with {num_rows // num_prefixes} captions or beams each are {num_rows} at once; "
            f"at most {most} are written side by side, so ask for fewer of either."
        )


class DecodingQueue:
    """Writes captions for many threads: what waits together and has the same options is one batch. Thread-safe.

    Whoever comes first decodes for those that wait behind; each gets its own captions as soon as they are finished,
    hears its own progress, and stops without stopping the others. `max_rows` bounds a batch; 1 lets nobody share.
    """

    def __init__(self, decode: Decode, turns: Turns, max_rows: int) -> None:
        self.max_rows = max_rows
        self._decode = decode
        self._turns = turns
        self._waiting: list[_Job] = []
        self._lock = threading.Lock()

    def write(
        self,
        features: ImageFeatures,
        prefixes: Sequence[Prefix],
        options: DecodingOptions,
        on_token: OnToken | None = None,
    ) -> list[Caption]:
        """Return the result of `Captioner.decode`. Raises its exceptions, and `OptionsError` for too many rows."""
        job = _Job(features, prefixes, options)
        _check_rows(job.num_rows, len(prefixes))

        def on_done(captions: list[Caption]) -> None:
            job.finish(captions)
            self._turns.look_again()

        job.request = DecodingRequest(features, prefixes, on_token, on_done)
        with self._lock:
            self._waiting.append(job)
        try:
            is_my_turn = self._turns.take(unless=job.result.done)
        except Stopped:
            with self._lock:  # unless somebody is writing it already, who hears with the next token
                self._waiting = [one for one in self._waiting if one is not job]
            raise
        if is_my_turn:
            try:
                self._work(job)
            finally:
                self._turns.release()
        return job.result.result()

    def _work(self, job: _Job) -> None:
        batch = self._take_batch(job)
        if not batch:
            return
        try:
            written = self._decode([one.request for one in batch if one.request is not None], batch[0].options)
        except BaseException as error:
            for one in batch:
                one.finish(error if isinstance(error, Exception) else RuntimeError("the decoding was interrupted"))
            if not isinstance(error, Exception):
                raise
            return
        for one, result in zip(batch, written, strict=True):
            one.finish(result)

    def _take_batch(self, job: _Job) -> list[_Job]:
        """Take the job and those behind it that fit; nothing if another thread has taken it already."""
        with self._lock:
            if job not in self._waiting:
                return []
            batch, rows = [job], job.num_rows
            for other in self._waiting:
                if other is not job and other.kind == job.kind and rows + other.num_rows <= self.max_rows:
                    batch.append(other)
                    rows += other.num_rows
            self._waiting = [one for one in self._waiting if one not in batch]
            return batch
