"""What a page or a client is told when something goes wrong: one sentence, and never a path or a traceback."""

from __future__ import annotations

import logging

from captioning.core.errors import CaptioningError

UNEXPECTED = "Something went wrong on the server, which is no fault of yours; try again, and tell whoever runs it."
_log = logging.getLogger("captionscope")


def explain(error: BaseException) -> str:
    """Return a sentence for people. An unexpected error is logged in full and shown without details."""
    if isinstance(error, CaptioningError):
        return str(error)
    _log.error("unexpected error", exc_info=error)
    return UNEXPECTED
