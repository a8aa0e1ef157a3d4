"""Which captioners are in memory beside each other."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from dataclasses import replace

from captioning.core.types import CaptionerStatus
from captioning.serving.shared_captioner import SharedCaptioner

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
        """Return the captioner, now the most recently used, or `None`."""
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
        """Return the status of a captioner, and of the other models in memory."""
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
