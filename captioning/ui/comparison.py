"""Captions of several models beside each other: what `assets/caption/comparison.js` draws as a table."""

from __future__ import annotations

from typing import Any

import gradio as gr

from captioning.captions.comparison import Comparison
from captioning.ui.caption_cards import Phase, caption_json
from captioning.ui.parts import make_part, next_serial


def make_comparison(elem_id: str) -> gr.HTML:
    """The table, hidden until models are compared; raises `stop_wanted` where Stop is clicked."""
    return make_part("caption/comparison", comparison_value("idle"), elem_id)


def comparison_value(
    phase: Phase, state: Comparison | None = None, *, message: str = "", seconds: float = 0.0
) -> dict[str, Any]:
    """What the table shows."""
    state = state or Comparison("")
    return {
        "serial": next_serial(),
        "phase": phase,
        "doing": state.doing,
        "picture": state.picture,
        "seconds": round(seconds, 2),
        "message": message,
        "prompts": list(state.prompts),
        "models": [
            {
                "title": column.title,
                "model_id": column.model_id,
                "state": column.state,
                "takes_prompts": column.takes_prompts,
                "error": column.error,
                "captions": [caption_json(caption, complete=False) for caption in column.captions],
            }
            for column in state.columns
        ],
    }
