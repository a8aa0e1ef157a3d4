"""The decoding controls, folded away; each can be moved only where it changes something."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import gradio as gr
from gradio.components import Component

from captioning.core.errors import OptionsError
from captioning.core.options import Parameter, parameters
from captioning.core.types import BEAMS, SAMPLING, DecodingOptions
from captioning.ui.controls import make_control
from captioning.ui.page import Page

GREEDY = "greedy"
METHODS = {"Greedy": GREEDY, "Beams": BEAMS, "Sampling": SAMPLING}


def _applies(parameter: Parameter, method: str) -> bool:
    return not parameter.option.methods or method in parameter.option.methods


PARAMETERS = sorted(
    parameters(DecodingOptions),
    key=lambda parameter: [not _applies(parameter, method) for method in METHODS.values()],
)
"""The decoding options in the page's order: what every method uses, then what beams use, then what sampling uses."""
NAMES = tuple(parameter.name for parameter in PARAMETERS)


@dataclass(frozen=True, slots=True)
class DecodingControls:
    """The method and a control for every field of `DecodingOptions`, in the order of `NAMES`."""

    method: gr.Radio
    controls: tuple[Component, ...]

    @property
    def inputs(self) -> list[Component]:
        """What a handler takes as inputs, to be handed to `read_options`."""
        return [self.method, *self.controls]


def make_decoding_controls(elem_id: str = "cs-decoding") -> DecodingControls:
    """Draw the controls where the page is being built."""
    controls: list[Component] = []
    with gr.Accordion("Decoding", open=False, elem_id=elem_id, elem_classes="cs-decoding"):
        method = gr.Radio(
            list(METHODS.items()),
            value=GREEDY,
            label="Method",
            info="Greedy takes the likeliest word each time; beams compare whole captions; sampling draws.",
        )
        for pair in zip_longest(PARAMETERS[::2], PARAMETERS[1::2]):
            with gr.Row():
                controls += [
                    make_control(parameter, interactive=_applies(parameter, GREEDY)) for parameter in pair if parameter
                ]
    method.change(_enable_for, method, controls, **Page.event(queue=False))
    return DecodingControls(method, tuple(controls))


def read_options(method: str, *values: Any) -> DecodingOptions:
    """The options that the controls say; what does not apply to the method stays at its default.

    Raises `OptionsError` for values that contradict each other or leave their ranges.
    """
    if method not in METHODS.values():
        raise OptionsError(f"There is no method {method!r}; choose from {', '.join(METHODS)}.")
    given = zip(PARAMETERS, values, strict=True)
    return DecodingOptions(**{parameter.name: value for parameter, value in given if _applies(parameter, method)})


def _enable_for(method: str) -> list[dict[str, Any]]:
    """Updates that let exactly those controls be moved that apply."""
    return [gr.update(interactive=_applies(parameter, method)) for parameter in PARAMETERS]
