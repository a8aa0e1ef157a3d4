"""What was found of captions since they were looked at, so that nobody who found something else is overwritten."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

import gradio as gr

from captioning.attention.views import Maps
from captioning.serving.memory import ByteBoundedCache
from captioning.tabs.attention.looking import Positions, Seen

_MOST_BYTES = 256 * 2**20


class Findings:
    """Maps and importance by session and caption; bounded in bytes, thread-safe."""

    def __init__(self, max_bytes: int = _MOST_BYTES) -> None:
        self._found = ByteBoundedCache[Seen](max_bytes)
        self._lock = threading.Lock()

    def add(
        self,
        request: gr.Request,
        seen: Seen,
        maps: Mapping[str, Maps] | None = None,
        importance: Mapping[Positions, Maps] | None = None,
    ) -> None:
        """Note what was found of a caption."""
        with self._lock:
            known = self.known(request, seen)
            known = replace(
                known, maps={**known.maps, **(maps or {})}, importance={**known.importance, **(importance or {})}
            )
            arrays = (*known.maps.values(), *known.importance.values())
            self._found.put((request.session_hash, seen.look_id), known, sum(array.nbytes for array in arrays))

    def known(self, request: gr.Request, seen: Seen) -> Seen:
        """Return a caption with everything that was found of it until now."""
        found = self._found.get((request.session_hash, seen.look_id))
        if found is None:
            return seen
        return replace(seen, maps={**seen.maps, **found.maps}, importance={**seen.importance, **found.importance})
