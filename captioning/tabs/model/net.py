"""Net information: arrays, layers, memory by part, and the shapes a picture passes through; two models side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from captioning.captions.model_report import FORMATS, array_bytes, memory_by_part
from captioning.core.cancellation import Job
from captioning.core.errors import OptionsError
from captioning.core.formats import find_format
from captioning.core.types import ModelInfo
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.header import menu_choices
from captioning.ui.page import Page
from captioning.ui.parts import make_part, next_serial
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs
from captioning.web.saving import SaveStep, Saving
from captioning.web.visitor import invites_names

Listener = Callable[..., Any]
NOBODY = ""
"""What stands in the second menu while only one model is shown."""


class StepWords(NamedTuple):
    """A step of the way from pixels to words: its name for people, its axes, and what it is."""

    title: str
    axes: str
    meaning: str


STEPS = {
    "pixel_values": StepWords("pixels", "N, 3, height, width", "the picture, resized and normalised"),
    "patches": StepWords("patches", "patches, 3, height, width", "the picture cut up, row by row"),
    "encoder_hidden_states": StepWords("features", "N, S, E", "one vector a patch, and one for each prefix token"),
    "image_embeds": StepWords("embedding", "N, E", "one vector for the whole picture; the map is made of it"),
    "input_ids": StepWords("words so far", "N, L", "the start token and four more"),
    "query": StepWords("query", "L, N, E", "what each word asks the picture"),
    "key": StepWords("key", "S, N, E", "what each patch can be asked for"),
    "value": StepWords("value", "S, N, E", "what each patch answers"),
    "cross_attentions": StepWords("weights", "N, heads, L, S", "where each word looks, in every layer"),
    "self_attentions": StepWords("weights", "N, heads, L, S", "where each word looks, among words and picture"),
    "logits": StepWords("next word", "N, L, vocabulary", "a score for every token that may follow"),
}


class NetSection:
    """The section's parts and what they do."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._runs = Runs()
        self.shown, self.infos = gr.State(None), gr.State(())
        with gr.Row(equal_height=False, elem_classes="cs-toolbar"):
            self.other = gr.Dropdown(
                [("Side by side with…", NOBODY), *menu_choices()],
                value=NOBODY,
                label="Side by side with another model" + (", a folder or a hub name" if invites_names() else ""),
                show_label=False,
                container=False,
                allow_custom_value=True,
                elem_id="cs-other-model",
                min_width=240,
            )
            self.saving = Saving("cs-net-files", self._make_file, FORMATS)
        self.net = make_part("model/net", net_value("idle"), "cs-net")

    def connect(self, opened: Listener) -> None:
        """Hang the handlers on the listener of the section's opening and on its own controls."""
        page = self._page
        inputs = [page.model_id, self.other, self.shown]
        outputs = [self.net, self.infos, self.shown]
        for listener in (opened, self.other.input):
            listener(self._show, inputs, outputs, **page.model_event())
        self.saving.connect(page, [self.infos])
        self.net.stop_wanted(self._runs.stop, None, None, **page.event(queue=False))

    async def _show(self, request: gr.Request, model_id: str, other: str | None, shown: Any) -> AsyncIterator[Any]:
        """Show the model in use, and another where one is chosen."""
        wanted = [model_id, *([other.strip()] if other and other.strip() else [])]
        if wanted == shown:
            self._runs.supersede(request)
            yield {self.net: net_value("idle")}
            return
        async for state in self._runs.follow(request, partial(look_inside, self._page.load, wanted)):
            match state:
                case Progress(update, seconds):
                    if seconds > 0.3 or update:
                        yield {self.net: net_value("busy", message=update or "Looking inside")}
                case Done(infos):
                    yield {self.net: net_value("done", infos), self.infos: infos, self.shown: wanted}
                case Halted():
                    yield {self.net: net_value("stopped", message="Stopped.")}
                case Failed(sentence):
                    yield {self.net: net_value("failed", message=sentence)}

    def _make_file(
        self, _: gr.Request, event: gr.EventData, __: Job[SaveStep], infos: Sequence[ModelInfo]
    ) -> tuple[str, bytes]:
        """Make a file of what is shown, named after the first model."""
        if not infos:
            raise OptionsError("No model is shown yet; open Net information first.")
        chosen = find_format(FORMATS, getattr(event, "kind", None))
        return chosen.name_for(infos[0].spec.model_id.rpartition("/")[2].replace(":", "-")), chosen.make(infos)


def look_inside(load: LoadCaptioner, models: Sequence[str], job: Job[str]) -> list[ModelInfo]:
    """What is inside each of the models; runs in a worker."""
    infos = []
    for name in models:
        captioner = load(name, report=lambda progress: job.show(f"Downloading, {progress.done_bytes / 1e6:,.0f} MB"))
        job.check()
        infos.append(captioner.info())
    return infos


def net_value(phase: str, infos: Sequence[ModelInfo] = (), *, message: str = "") -> dict[str, Any]:
    """What `assets/model/net.js` draws: one panel a model."""
    return {"serial": next_serial(), "phase": phase, "message": message, "models": [_panel(info) for info in infos]}


def _panel(info: ModelInfo) -> dict[str, Any]:
    return {
        "title": info.spec.title,
        "parameters": info.parameters,
        "bytes": sum(map(array_bytes, info.arrays)),
        "facts": _facts(info),
        "steps": [_step(name, shape) for name, shape in info.shapes],
        "parts": [part._asdict() for part in memory_by_part(info)],
        "layers": sorted(info.layer_types.items(), key=lambda item: (-item[1], item[0])),
        "arrays": [[a.name, "×".join(map(str, a.shape)), a.dtype, a.elements] for a in info.arrays],
    }


def _step(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    words = STEPS.get(name, StepWords(name, "", ""))
    return {"name": name, "shape": list(shape), **words._asdict()}


def _facts(info: ModelInfo) -> list[tuple[str, str]]:
    """Lines of what the model is, by their labels."""
    spec, capabilities = info.spec, info.spec.capabilities
    looks = {
        "cross": "cross-attention from words to patches",
        "self": "self-attention of words to image tokens",
        None: "not to be seen: the model shows no attention",
    }
    facts = [
        ("Model", spec.model_id),
        ("Family", spec.family),
        ("Licence", spec.license),
        ("Revision", spec.revision or "not versioned"),
        ("Runs on", f"{info.device} in {info.precision}, by {info.engine}"),
        ("Where it looks", looks[capabilities.attention_kind]),
        ("Prompt", "continues one" if capabilities.supports_prompt else "takes none"),
    ]
    return facts + [(f"Tokenizer: {name}", str(value)) for name, value in info.tokenizer.items()]
