"""The status line: which model answers, where, how fast, and why this one."""

from __future__ import annotations

from typing import Any

import gradio as gr

from captioning.core.types import CaptionerStatus
from captioning.ui.parts import make_part, next_serial


def make_status_line() -> gr.HTML:
    """The status line, waiting for the first model."""
    return make_part("common/status_line", waiting_value("getting the model ready…"), "cs-status")


def waiting_value(text: str) -> dict[str, Any]:
    """What the line shows while nothing can be asked yet."""
    return {"serial": next_serial(), "state": "waiting", "items": [{"text": text}], "reason": ""}


def failed_value() -> dict[str, Any]:
    """What the line shows when there is no model at all."""
    return {"serial": next_serial(), "state": "failed", "items": [{"text": "no model is ready"}], "reason": ""}


def status_value(status: CaptionerStatus) -> dict[str, Any]:
    """What the line shows of a captioner."""
    pictures = "picture" if status.cached_images == 1 else "pictures"
    items = [
        {"text": status.title, "title": status.model_id},
        {
            "text": " · ".join((status.device, status.precision, *_engine_words(status.engine))),
            "title": f"where it runs, in which precision, and what computes: {status.engine}",
        },
        {
            "text": f"{status.cached_images} {pictures} cached",
            "title": f"{status.encoded_images} encoded so far; {status.cached_bytes / 2**20:.1f} MB kept in memory",
        },
    ]
    if status.encode_seconds is not None:
        items.append({"text": f"encode {status.encode_seconds:.2f} s", "title": "last time a new picture was encoded"})
    if status.tokens_per_second is not None:
        items.append({"text": f"{status.tokens_per_second:.0f} tokens/s", "title": "last time captions were written"})
    if status.models_in_memory > 1:
        items.append(
            {
                "text": f"{status.models_in_memory} models in memory",
                "title": f"{status.model_bytes / 1e6:,.0f} MB of weights; where room runs out, the one not used for "
                "longest leaves",
            }
        )
    if status.models_left:
        items.append(
            {
                "text": f"{', '.join(status.models_left)} left memory",
                "title": "made room for the model loaded last; it is loaded again when it is asked",
            }
        )
    return {"serial": next_serial(), "state": "ready", "items": items, "reason": status.reason}


def _engine_words(engine: str) -> tuple[str, ...]:
    """What computes, where it is not what everybody expects."""
    name = engine.split(" ")[0]
    return () if name == "torch" else (name,)
