"""The Caption tab: one picture, several prompts side by side, written token by token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from captioning.captions.branches import write_branch
from captioning.captions.comparison import Comparison, compare_models, read_models
from captioning.captions.export import FORMATS
from captioning.core.cancellation import Job
from captioning.core.errors import ImageError, PromptError
from captioning.core.formats import find_format
from captioning.core.types import Caption, CaptionerStatus, DecodingOptions
from captioning.media.images import open_image
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.header import menu_choices
from captioning.ui.branches import MOST_BRANCHES, Written, read_branch, read_choice
from captioning.ui.caption_cards import HINT, Step, cards_value, make_caption_cards
from captioning.ui.comparison import comparison_value, make_comparison
from captioning.ui.decoding import make_decoding_controls, read_options
from captioning.ui.page import CarriedCaption, Page
from captioning.ui.parts import next_serial
from captioning.ui.picture import chosen_sample, list_samples, make_picture_input, make_sample_strip
from captioning.ui.prompt_list import describe_prompts, make_prompt_list, read_prompts
from captioning.ui.status import status_value
from captioning.ui.tab import Tab, current_tab
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs
from captioning.web.links import take_linked
from captioning.web.saving import SaveStep, Saving
from captioning.web.visitor import invites_names

NO_CAPTIONS = "There are no captions to save yet; caption a picture first."
NO_PICTURE = "There is no picture yet; drop one, paste one, use the webcam, or click a sample."


class CaptionTab:
    """The tab's parts and what they do."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._runs = Runs()
        self._comparisons = Runs()
        self.written = gr.State(None)
        with gr.Row(equal_height=False, elem_classes="cs-columns"):
            with gr.Column(scale=4, min_width=320):
                self.picture = make_picture_input(label="Picture", height=250, elem_id="cs-picture")
                self.samples = make_sample_strip("cs-samples")
                self.prompts = make_prompt_list("cs-prompts")
                self.start = gr.Button("Caption", variant="primary", elem_id="cs-start")
                self.decoding = make_decoding_controls()
                with gr.Accordion("Compare models", open=False, elem_id="cs-compare"):
                    self.others = gr.Dropdown(
                        menu_choices(),
                        multiselect=True,
                        allow_custom_value=True,
                        label="Models",
                        info="Two to four, on the same picture and prompts"
                        + ("; folders and hub names can be typed." if invites_names() else "."),
                    )
                    self.compare = gr.Button("Compare", elem_id="cs-compare-start")
            with gr.Column(scale=7, min_width=320):
                self.cards = make_caption_cards("cs-captions")
                self.saving = Saving("cs-caption-files", self._make_file, FORMATS)
                self.comparison = make_comparison("cs-comparison")
        self._connect()

    def _connect(self) -> None:
        page = self._page
        inputs = [self.picture, page.model_id, self.prompts, *self.decoding.inputs]
        outputs = [self.cards, page.status, self.written]
        for asked in (self.start.click, self.prompts.captions_wanted):
            asked(self._caption, inputs, [*outputs, page.picture], **page.model_event())
        self.picture.change(self._caption_if_any, inputs, [*outputs, page.picture], **page.model_event())
        page.model_id.change(self._caption_again, inputs, outputs, **page.model_event())
        self.cards.stop_wanted(self._runs.stop, None, None, **page.event(queue=False))
        self.cards.branch_wanted(self._branch, self.written, outputs, **page.model_event())
        self.cards.attention_wanted(self._open_in_attention, self.written, [page.carried, page.tabs], **page.event())
        self.cards.branch_dropped(self._drop_branch, self.written, outputs, **page.event(queue=False))
        self.compare.click(
            self._compare,
            [self.picture, page.model_id, self.others, *inputs[2:]],
            [self.comparison, page.status],
            **page.model_event(),
        )
        self.saving.connect(page, [self.written])
        self.comparison.stop_wanted(self._comparisons.stop, None, None, **page.event(queue=False))
        self.samples.sample_chosen(self._take_sample, None, self.picture, **page.event(queue=False))
        take_linked(page, "caption", self.picture, list_samples)
        current_tab().select(self._take_picture, [page.picture, self.picture], self.picture, **page.event(queue=False))
        page.model_id.change(self._describe_prompts, [page.model_id, self.prompts], self.prompts, **page.event())

    async def _caption(self, request: gr.Request, path: str | None, *asked: Any) -> AsyncIterator[dict[Any, Any]]:
        """Caption a picture that a person chose: as soon as it can be read, it is the picture in hand."""
        async for update in self._write(request, {self._page.picture: path}, path, *asked):
            yield update

    async def _write(
        self,
        request: gr.Request,
        once_read: dict[Any, Any],
        path: str | None,
        model_id: str,
        prompts: Any,
        method: str,
        *values: Any,
    ) -> AsyncIterator[dict[Any, Any]]:
        """Write a caption for every prompt; cards, status line and files follow as it goes.

        The updates `once_read` go along as soon as the picture was read.
        """

        def work(job: Job[Step]) -> tuple[Written, CaptionerStatus]:
            if path is None:
                raise ImageError(NO_PICTURE)
            options = read_options(method, *values)
            return write_captions(self._page.load, path, model_id, read_prompts(prompts), options, job)

        step = Step("Getting the model ready")
        yield {self.written: None}
        async for state in self._runs.follow(request, work):
            match state:
                case Progress(update, seconds):
                    step = update or step
                    yield {self.cards: cards_value("busy", step, seconds=seconds)} | (once_read if update else {})
                    # Said again, it would bring the picture back where another was chosen meanwhile.
                    once_read = {} if update else once_read
                case Done((written, status), seconds):
                    written = replace(written, seconds=seconds)
                    yield {self._page.status: status_value(status)} | self._show(written) | once_read
                case Halted():
                    yield {self.cards: cards_value("stopped", step)}
                case Failed(sentence):
                    yield {self.cards: cards_value("failed", message=sentence)}

    async def _caption_if_any(
        self, request: gr.Request, path: str | None, *asked: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """Caption a picture as soon as it is there; where it was taken away, clear the cards."""
        if path is None:
            self._runs.supersede(request)
            yield {self.cards: cards_value("idle", message=HINT), self.written: None, self._page.picture: None}
            return
        async for update in self._caption(request, path, *asked):
            yield update

    async def _caption_again(self, request: gr.Request, path: str | None, *asked: Any) -> AsyncIterator[dict[Any, Any]]:
        """Let another model caption what is here, which need not be the picture in hand."""
        if path is None:
            yield gr.skip()
            return
        async for update in self._write(request, {}, path, *asked):
            yield update

    async def _branch(
        self, request: gr.Request, event: gr.EventData, written: Written | None
    ) -> AsyncIterator[dict[Any, Any]]:
        """Continue a caption from the alternative that was clicked, beside the old one."""
        try:
            choice = read_choice(written, event)
        except PromptError as error:
            self._runs.supersede(request)
            yield {self.cards: cards_value("failed", message=str(error))}
            return
        assert written is not None
        before, branch = written.branches.get(choice.place, ())[-(MOST_BRANCHES - 1) :], choice.start()
        # The oldest makes room at once: what is clicked meanwhile goes by the numbers that the page shows.
        written = written.with_branches(choice.place, before)
        yield {self.cards: written.with_branches(choice.place, [*before, branch]).value(), self.written: written}
        chosen = (choice.caption, choice.position, choice.alternative)
        work = partial(write_branch, self._page.load, written.path, written.model_id, *chosen)
        async for state in self._runs.follow(request, work):
            match state:
                case Progress(None):
                    continue
                case Progress(caption):
                    branch = replace(branch, caption=caption)
                    yield {self.cards: written.with_branches(choice.place, [*before, branch]).value()}
                case Done((caption, status)):
                    branch = replace(branch, caption=caption, writing=False)
                    ended = self._show(written.with_branches(choice.place, [*before, branch]))
                    yield {self._page.status: status_value(status)} | ended
                case Halted() | Failed():
                    sentence = state.sentence if isinstance(state, Failed) else ""
                    branch = replace(branch, writing=False, error=sentence)
                    yield self._show(written.with_branches(choice.place, [*before, branch]))

    def _drop_branch(self, event: gr.EventData, written: Written | None) -> dict[Any, Any]:
        """Take a branch away."""
        place, number = read_branch(event)
        return {} if written is None else self._show(written.without(place, number))

    def _open_in_attention(self, event: gr.EventData, written: Written | None) -> Any:
        """Carry a caption to the Attention tab, and go there."""
        caption = None if written is None else written.caption_at(*read_branch(event))
        if written is None or caption is None:
            return gr.skip()
        carried = CarriedCaption(written.path, written.model_id, caption, next_serial())
        return {self._page.carried: carried, self._page.tabs: gr.update(selected="attention")}

    async def _compare(
        self,
        request: gr.Request,
        path: str | None,
        model_id: str,
        others: Any,
        prompts: Any,
        method: str,
        *values: Any,
    ) -> AsyncIterator[dict[Any, Any]]:
        """Several models, one after the other, on one picture and one set of prompts."""

        def work(job: Job[Comparison]) -> tuple[Comparison, CaptionerStatus]:
            if path is None:
                raise ImageError(NO_PICTURE)
            options = replace(read_options(method, *values), num_captions=1)
            models, asked = read_models(others), read_prompts(prompts)
            return compare_models(self._page.load, path, model_id, models, asked, options, job)

        table = Comparison("Getting the models ready")
        yield {self.comparison: comparison_value("busy", table)}
        async for state in self._comparisons.follow(request, work):
            match state:
                case Progress(update, seconds):
                    table = update or table
                    yield {self.comparison: comparison_value("busy", table, seconds=seconds)}
                case Done((table, status), seconds):
                    shown = comparison_value("done", table, seconds=seconds)
                    yield {self.comparison: shown, self._page.status: status_value(status)}
                case Halted():
                    yield {self.comparison: comparison_value("stopped", table)}
                case Failed(sentence):
                    yield {self.comparison: comparison_value("failed", message=sentence)}

    def _take_sample(self, event: gr.EventData) -> str:
        return chosen_sample(event, self.picture.GRADIO_CACHE)

    def _take_picture(self, in_hand: str | None, here: str | None) -> Any:
        """Open on the picture in hand."""
        return gr.skip() if in_hand is None or in_hand == here else in_hand

    def _describe_prompts(self, model_id: str, prompts: Any) -> dict[str, Any]:
        """Lock the prompts where the model takes none."""
        return describe_prompts(self._page.load(model_id).spec, prompts)

    def _show(self, written: Written) -> dict[Any, Any]:
        """Return the updates that show what was written."""
        return {self.cards: written.value(), self.written: written}

    def _make_file(
        self, _: gr.Request, event: gr.EventData, __: Job[SaveStep], written: Written | None
    ) -> tuple[str, bytes]:
        """Make a file of the captions on the cards, branches included."""
        if written is None:
            raise PromptError(NO_CAPTIONS)
        name, chosen = Path(written.path), find_format(FORMATS, getattr(event, "kind", None))
        return chosen.name_for(name.stem), chosen.make([(name.name, caption) for caption in written.captions()])


def write_captions(
    load: LoadCaptioner, path: str, model_id: str, prompts: Sequence[str], options: DecodingOptions, job: Job[Step]
) -> tuple[Written, CaptionerStatus]:
    """All captions of a picture, and the model's status; runs in a worker.

    A model that takes no prompt writes without one, and cannot go on from a word.
    """
    each = options.num_captions
    picture = open_image(path)
    job.show(Step("Getting the model ready", prompts, each))  # the first state: from here on the picture was read
    captioner = load(model_id, report=lambda _: job.check())
    if not captioner.spec.capabilities.supports_prompt:
        prompts = [""]
    job.show(Step("Looking at the picture", prompts, each))
    (features,) = captioner.encode([picture])
    job.show(Step("Writing", prompts, each))
    steps = 0

    def on_token(captions: Sequence[Caption]) -> None:
        nonlocal steps
        steps += 1
        doing = "Writing" if captions else f"Comparing {options.num_beams} beams, word {steps}"
        job.show(Step(doing, prompts, each, captions))

    captions = captioner.decode(features, prompts, options, on_token)
    heading = f"{picture.title} · {captioner.spec.title}"
    end_token = captioner.end_token.token if captioner.spec.capabilities.supports_prompt else None
    written = Written(path, model_id, Step("", prompts, each, captions), heading, 0.0, end_token)
    return written, captioner.status()


def build(page: Page) -> None:
    """Draw the tab where the page is being built."""
    CaptionTab(page)


TAB = Tab("Caption", "caption", build)
