"""Endpoints: each is a list of parameters that say what they mean, and the work that they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter as Argument
from inspect import Signature
from typing import Any, TypeAlias

import gradio as gr
from gradio.context import get_blocks_context
from gradio.events import api
from gradio.exceptions import InvalidPathError

from captioning.core import runtime
from captioning.core.cancellation import Job
from captioning.core.options import Option, Parameter
from captioning.ui.page import MODEL_QUEUE
from captioning.web.jobs import answer

Work: TypeAlias = Callable[[Mapping[str, Any], Job[Any]], dict[str, Any]]
"""Work of an endpoint: its arguments by name, checked, and the job that can stop it."""


NOT_UPLOADED = (
    "Only uploaded files are read, and no data URLs; send the file itself, with curl -F image=@photo.jpg "
    "ADDRESS/caption or as image=handle_file('photo.jpg')."
)


with runtime.no_interface_files():  # gradio writes one for a subclass of its page too

    class Dashboard(gr.Blocks):
        """A page whose endpoints fill in trailing arguments that a request leaves out, and refuse server paths."""

        async def preprocess_data(self, block_fn: Any, inputs: list[Any], *others: Any, **more: Any) -> Any:
            """Return a request's values as a function takes them."""
            if block_fn.api_visibility == "public":
                inputs = [*inputs, *(block.value for block in block_fn.inputs[len(inputs) :])]
            try:
                return await super().preprocess_data(block_fn, inputs, *others, **more)
            except InvalidPathError as error:
                raise gr.Error(NOT_UPLOADED, print_exception=False) from error


def model_parameter(first_model: str) -> Parameter:
    """Return the parameter that names a model; `first_model` answers a request without it."""
    return Parameter(
        "model", str, first_model, Option("name of the model: from the page's menu, a folder or a hub name")
    )


def add_endpoint(name: str, about: str, parameters: Sequence[Parameter], work: Work) -> None:
    """Add an endpoint to the page that is being built; its arguments are checked before the work begins."""

    async def run(*values: Any) -> dict[str, Any]:
        given = dict(zip((parameter.name for parameter in parameters), values, strict=True))

        def check_and_work(job: Job[Any]) -> dict[str, Any]:
            for parameter in parameters:
                parameter.check(given[parameter.name])
            return work(given, job)

        return await answer(check_and_work)

    # Gradio reads the names, types and defaults of an endpoint's arguments off its function.
    run.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Argument(
                parameter.name,
                Argument.POSITIONAL_OR_KEYWORD,
                default=Argument.empty if parameter.required else parameter.default,
            )
            for parameter in parameters
        ],
        return_annotation=dict,
    )
    run.__annotations__ = {parameter.name: _hint(parameter) for parameter in parameters} | {"return": dict}
    number = api(run, api_name=name, api_description=about, **MODEL_QUEUE)["id"]
    page = get_blocks_context()
    assert page is not None, "an endpoint is added where a page is being built"
    for block, parameter in zip(page.fns[number].inputs, parameters, strict=True):
        _explain(block, parameter)
    result: Any = page.fns[number].outputs[0]
    result.label = "answer"


def _hint(parameter: Parameter) -> Any:
    return parameter.kind | None if parameter.default is None and not parameter.required else parameter.kind


def _explain(block: Any, parameter: Parameter) -> None:
    """Let the page "Use via API", clients and the OpenAPI document tell what a parameter means."""
    block.label = parameter.name
    block._api_info = {
        **block._api_info,
        "description": parameter.meaning,
        "additional_description": parameter.meaning,
    }
    example = parameter.option.example
    if example is not None:
        block.example_payload = lambda: example
