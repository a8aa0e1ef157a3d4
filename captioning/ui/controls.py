"""Controls of the page for options: each is made of what its field says of itself."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from captioning.core.options import Parameter


def make_control(parameter: Parameter, **properties: Any) -> Component:
    """Draw the control of an option where the page is being built: a slider, choices, a box to tick, or a number."""
    option = parameter.option
    start: Any = parameter.default if option.start is None else option.start
    about = {"label": option.label, "info": _as_sentence(option.help), **properties}
    if option.slider is not None:
        low, high, step = option.slider
        return gr.Slider(low, high, start, step=step, min_width=150, buttons=[], **about)
    if option.choices:
        return gr.Radio([(choice.upper(), choice) for choice in option.choices], value=start, **about)
    if parameter.kind is bool:
        return gr.Checkbox(start, **about)
    return gr.Number(start, precision=0 if parameter.kind is int else None, minimum=option.low, min_width=100, **about)


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
