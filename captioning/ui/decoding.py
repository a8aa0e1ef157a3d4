"""The decoding controls, folded away; each can be moved only where it changes something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from captioning.core.errors import OptionsError
from captioning.core.types import DecodingOptions
from captioning.ui.page import Page

METHODS = {"Greedy": "greedy", "Beams": "beams", "Sampling": "sampling"}
_APPLIES = {
    "greedy": ("max_new_tokens", "repetition_penalty"),
    "beams": ("max_new_tokens", "num_beams", "repetition_penalty", "length_penalty", "num_captions"),
    "sampling": (
        "max_new_tokens",
        "temperature",
        "top_k",
        "top_p",
        "repetition_penalty",
        "num_captions",
        "seed",
    ),
}
_STARTS = {"num_beams": 4, "temperature": 1.0}
"""Where a control stands when its method is chosen; all others stand at the default of `DecodingOptions`."""


@dataclass(frozen=True, slots=True)
class DecodingControls:
    """The method and a control for every field of `DecodingOptions`, in the order of `NAMES`."""

    method: gr.Radio
    controls: tuple[Component, ...]

    @property
    def inputs(self) -> list[Component]:
        """What a handler takes as inputs, to be handed to `read_options`."""
        return [self.method, *self.controls]


NAMES = (
    "max_new_tokens",
    "num_captions",
    "num_beams",
    "length_penalty",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "seed",
)


def make_decoding_controls(elem_id: str = "cs-decoding") -> DecodingControls:
    """Draw the controls where the page is being built."""
    defaults = DecodingOptions()
    with gr.Accordion("Decoding", open=False, elem_id=elem_id, elem_classes="cs-decoding"):
        method = gr.Radio(
            list(METHODS.items()),
            value="greedy",
            label="Method",
            info="Greedy takes the likeliest word each time; beams compare whole captions; sampling draws.",
        )
        with gr.Row():
            length = _slider("Max new tokens", 1, 100, defaults.max_new_tokens, 1)
            number = _slider("Captions a prompt", 1, 16, defaults.num_captions, 1)
        with gr.Row():
            beams = _slider("Beams", 2, 16, _STARTS["num_beams"], 1)
            favour = _slider("Length penalty", -2, 3, defaults.length_penalty, 0.1)
        with gr.Row():
            heat = _slider("Temperature", 0.1, 2, _STARTS["temperature"], 0.05)
            top_k = _slider("Top k (0 is all)", 0, 100, defaults.top_k, 1)
        with gr.Row():
            top_p = _slider("Top p (1 is all)", 0.05, 1, defaults.top_p, 0.05)
            repeat = _slider("Repetition penalty", 1, 2, defaults.repetition_penalty, 0.05)
        seed = gr.Number(defaults.seed, precision=0, minimum=0, label="Seed (the same seed gives the same captions)")
    controls = (length, number, beams, favour, heat, top_k, top_p, repeat, seed)
    for name, control in zip(NAMES, controls, strict=True):
        control.interactive = name in _APPLIES["greedy"]
    method.change(_enable_for, method, list(controls), **Page.event(queue=False))
    return DecodingControls(method, controls)


def _slider(label: str, low: float, high: float, start: float, step: float) -> gr.Slider:
    return gr.Slider(low, high, start, step=step, label=label, min_width=150, buttons=[])


def read_options(method: str, *values: Any) -> DecodingOptions:
    """The options that the controls say; what does not apply to the method stays at its default.

    Raises `OptionsError` for values that contradict each other or leave their ranges.
    """
    if method not in _APPLIES:
        raise OptionsError(f"There is no method {method!r}; choose from {', '.join(METHODS)}.")
    given = dict(zip(NAMES, values, strict=True))
    return DecodingOptions(**{name: given[name] for name in _APPLIES[method]})


def _enable_for(method: str) -> list[dict[str, Any]]:
    """Updates that let exactly those controls be moved that apply."""
    return [gr.update(interactive=name in _APPLIES[method]) for name in NAMES]
