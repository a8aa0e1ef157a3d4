"""The tokenizer view, and teacher forcing: a typed caption beside what the model would have written at each place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr

from captioning.captions.prompts import DEFAULT_PROMPT
from captioning.core.cancellation import Job
from captioning.core.errors import ImageError, PromptError
from captioning.core.settings import get_settings
from captioning.core.types import TeacherForcing, TextToken
from captioning.media.images import open_image
from captioning.serving.loading import LoadCaptioner
from captioning.ui.page import Page
from captioning.ui.parts import make_part, next_serial
from captioning.web.jobs import Done, Failed, Progress, Runs

Listener = Callable[..., Any]
EXAMPLE_TEXT = "Two cheetahs are running through the tall grass, aren't they?"
EXAMPLE_CAPTION = "a dog running through the grass"
HINT = "There is no picture yet; choose one in the Caption tab or under Picture, and score a caption of it here."
_MOST_CHARACTERS = 2000


class WordSection:
    """The section's parts and what they do."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._runs, self._token_runs = Runs(), Runs()
        with gr.Row(equal_height=False, elem_classes="cs-columns", elem_id="cs-tokenizer"):
            with gr.Column(scale=4, min_width=300):
                self.text = gr.Textbox(EXAMPLE_TEXT, label="Any text", lines=2, max_lines=6, elem_id="cs-any-text")
            with gr.Column(scale=7, min_width=320):
                self.tokens = make_part("model/text_tokens", tokens_value(), "cs-tokens")
        with gr.Row(equal_height=False, elem_classes="cs-columns"):
            with gr.Column(scale=4, min_width=300):
                self.prompt = gr.Textbox(DEFAULT_PROMPT, label="Prompt", max_lines=1, elem_id="cs-forced-prompt")
                self.caption = gr.Textbox(
                    EXAMPLE_CAPTION,
                    label="Caption of the picture in hand",
                    info="true or false; the model is asked what it would have written after each word of it",
                    lines=2,
                    max_lines=6,
                    elem_id="cs-forced-caption",
                )
                self.start = gr.Button("Score", variant="primary", elem_id="cs-score")
            with gr.Column(scale=7, min_width=320):
                self.forcing = make_part("model/teacher_forcing", forcing_value("idle", message=HINT), "cs-forcing")

    def connect(self, opened: Listener) -> None:
        """Hang the handlers on the listener of the section's opening and on its own controls."""
        page = self._page
        asked = [page.picture, page.model_id, self.prompt, self.caption]
        # The part's script says when typing paused: an event a letter would fill the queue while a model loads.
        for listener in (opened, self.tokens.text_typed):
            listener(self._tokenize, [page.model_id, self.text], self.tokens, **page.model_event())
        for listener in (self.start.click, self.prompt.submit, self.caption.submit):
            listener(self._force, asked, self.forcing, **page.model_event())
        opened(self._force_if_any, asked, self.forcing, **page.model_event())

    async def _tokenize(self, request: gr.Request, model_id: str, text: str | None) -> AsyncIterator[Any]:
        """Split the typed text, in place of what was typed before."""
        work = partial(read_tokens, self._page.load, model_id, text or "")
        async for state in self._token_runs.follow(request, work):
            match state:
                case Progress(_, seconds):
                    yield {self.tokens: tokens_value(doing=f"Reading the text… {seconds:.0f} s")}
                case Done(value):
                    yield {self.tokens: value}
                case Failed(sentence):
                    yield {self.tokens: tokens_value(message=sentence)}

    async def _force(
        self, request: gr.Request, path: str | None, model_id: str, prompt: str | None, caption: str | None
    ) -> AsyncIterator[Any]:
        """Score the typed caption."""

        def work(job: Job[None]) -> tuple[TeacherForcing, str]:
            if path is None:
                raise ImageError(HINT)
            check_length(prompt or "")
            check_length(caption or "")
            return force(self._page.load, path, model_id, (prompt or "").strip(), (caption or "").strip(), job)

        async for state in self._runs.follow(request, work):
            match state:
                case Progress(_, seconds):
                    yield {self.forcing: forcing_value("busy", message=f"Scoring… {seconds:.0f} s")}
                case Done((forcing, heading)):
                    yield {self.forcing: forcing_value("done", forcing, heading)}
                case Failed(sentence):
                    yield {self.forcing: forcing_value("failed", message=sentence)}

    async def _force_if_any(
        self, request: gr.Request, path: str | None, model_id: str, prompt: str | None, caption: str | None
    ) -> AsyncIterator[Any]:
        """Score the typed caption where there are one and a picture."""
        if path is None or not caption:
            yield gr.skip()
            return
        async for update in self._force(request, path, model_id, prompt, caption):
            yield update


def read_tokens(load: LoadCaptioner, model_id: str, text: str, job: Job[None]) -> dict[str, Any]:
    """What the tokenizer view shows of a text; runs in a worker. Raises `PromptError` for one beyond the limit."""
    if len(text) > _MOST_CHARACTERS:
        raise PromptError(f"A text of {len(text):,} characters is too long; keep it under {_MOST_CHARACTERS:,}.")
    captioner = load(model_id, report=lambda _: job.check())
    return tokens_value(captioner.tokenize(text), len(text), captioner.spec.title)


def check_length(text: str) -> None:
    """Raise `PromptError` for a text longer than a prompt may be."""
    limit = get_settings().max_prompt_characters
    if len(text) > limit:
        raise PromptError(f"A text of {len(text):,} characters is too long; keep it under {limit}.")


def force(
    load: LoadCaptioner, path: str, model_id: str, prompt: str, caption: str, job: Job[None]
) -> tuple[TeacherForcing, str]:
    """A caption as the model would have gone on at each word, and a heading; runs in a worker."""
    captioner = load(model_id, report=lambda _: job.check())
    picture = open_image(path)
    (features,) = captioner.encode([picture])
    job.check()
    if not captioner.spec.capabilities.supports_prompt:
        prompt = ""
    return captioner.teacher_force(features, prompt, caption), f"{picture.title} · {captioner.spec.title}"


def tokens_value(
    tokens: Sequence[TextToken] = (), characters: int = 0, title: str = "", *, doing: str = "", message: str = ""
) -> dict[str, Any]:
    """What `assets/model/text_tokens.js` draws."""
    return {
        "serial": next_serial(),
        "title": title,
        "characters": characters,
        "doing": doing,
        "message": message,
        "tokens": [[token.token_id, token.token] for token in tokens],
    }


def forcing_value(
    phase: str, forcing: TeacherForcing | None = None, heading: str = "", *, message: str = ""
) -> dict[str, Any]:
    """What `assets/model/teacher_forcing.js` draws: one row a position, with the likeliest token there."""
    value = {"serial": next_serial(), "phase": phase, "message": message, "heading": heading, "rows": []}
    if forcing is None:
        return value
    rows = zip(forcing.inputs, forcing.labels, forcing.log_probs, forcing.alternatives, strict=True)
    value["num_prompt_tokens"] = forcing.num_prompt_tokens
    value["rows"] = [
        {
            "input": source.token,
            "label": label.token,
            "log_prob": round(log_prob, 4),
            "guess": choices[0].token,
            "guess_log_prob": round(choices[0].log_prob, 4),
            "agrees": choices[0].token_id == label.token_id,
            "ids": [source.token_id, label.token_id, choices[0].token_id],
        }
        for source, label, log_prob, choices in rows
    ]
    return value
