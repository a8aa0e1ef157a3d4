"""What is remembered, up to a size in bytes, and one computation for all who ask for the same."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

from captioning.core.cancellation import LOOK_SECONDS, check_wanted
from captioning.core.types import Caption

Value = TypeVar("Value")
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
        """Return the value, now the most recently used, or `None`."""
        with self._lock:
            entry = self._values.get(key)
            if entry is None:
                return None
            self._values.move_to_end(key)
            return entry[0]

    def count(self, counts: Callable[[Any], bool]) -> int:
        """Return the number of keys that count."""
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
