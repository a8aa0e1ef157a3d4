"""The Caption tab: one picture, several prompts side by side, written token by token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from captioning.captions.export import captions_to_csv, captions_to_json
from captioning.core.cancellation import Job
from captioning.core.errors import ImageError, Stopped
from captioning.core.messages import explain
from captioning.core.types import Caption, CaptionerStatus, DecodingOptions
from captioning.media.images import open_image
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.header import menu_choices
from captioning.ui.branches import MOST_BRANCHES, Choice, Written, read_branch, read_choice, write_branch
from captioning.ui.caption_cards import HINT, Step, cards_value, make_caption_cards
from captioning.ui.comparison import Comparison, compare_models, comparison_value, make_comparison, read_models
from captioning.ui.decoding import make_decoding_controls, read_options
from captioning.ui.page import CarriedCaption, Page
from captioning.ui.parts import next_serial
from captioning.ui.picture import chosen_sample, list_samples, make_picture_input, make_sample_strip
from captioning.ui.prompt_list import describe_prompts, make_prompt_list, read_prompts
from captioning.ui.status import status_value
from captioning.ui.tab import Tab, current_tab
from captioning.web.jobs import Done, Run, Runs, follow
from captioning.web.links import take_linked
from captioning.web.visitor import invites_names

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
                with gr.Row(elem_id="cs-export"):
                    self.json_file = gr.DownloadButton("Save JSON", interactive=False, size="sm", elem_id="cs-json")
                    self.csv_file = gr.DownloadButton("Save CSV", interactive=False, size="sm", elem_id="cs-csv")
                self.comparison = make_comparison("cs-comparison")
        self._connect()

    def _connect(self) -> None:
        page = self._page
        inputs = [self.picture, page.model_id, self.prompts, *self.decoding.inputs]
        outputs = [self.cards, page.status, self.json_file, self.csv_file, self.written]
        for asked in (self.start.click, self.prompts.captions_wanted):
            asked(self._caption, inputs, [*outputs, page.picture], **page.model_event())
        self.picture.change(self._caption_if_any, inputs, [*outputs, page.picture], **page.model_event())
        page.model_id.change(self._caption_again, inputs, outputs, **page.model_event())
        self.cards.stop_wanted(self._stop, None, None, **page.event(queue=False))
        self.cards.branch_wanted(self._branch, self.written, outputs, **page.model_event())
        self.cards.attention_wanted(self._open_in_attention, self.written, [page.carried, page.tabs], **page.event())
        self.cards.branch_dropped(self._drop_branch, self.written, outputs, **page.event(queue=False))
        self.compare.click(
            self._compare,
            [self.picture, page.model_id, self.others, *inputs[2:]],
            [self.comparison, page.status],
            **page.model_event(),
        )
        self.comparison.stop_wanted(self._stop_comparison, None, None, **page.event(queue=False))
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
        session = request.session_hash or ""
        run = self._runs.start(session)
        step = Step("")
        try:
            if path is None:
                raise ImageError(NO_PICTURE)
            options = read_options(method, *values)
            step = Step("Getting the model ready", read_prompts(prompts), options.num_captions)
            yield {self.cards: cards_value("busy", step), self.written: None} | self._no_files()
            work = partial(write_captions, self._page.load, path, model_id, step.prompts, options)
            async for event in follow(work, run.stop):
                if isinstance(event, Done):
                    step, heading, status, end_token = event.result
                    written = Written(path, model_id, step, heading, event.seconds, end_token)
                    yield {self._page.status: status_value(status)} | self._show(written) | once_read
                else:
                    step = event.update or step
                    cards = {self.cards: cards_value("busy", step, seconds=event.seconds)}
                    if event.update is None:
                        yield cards
                        continue
                    yield cards | once_read
                    once_read = {}  # said again, it would bring the picture back where another was chosen meanwhile
        except Stopped:
            if not run.superseded:
                yield {self.cards: cards_value("stopped", step)}
        except Exception as error:
            yield {self.cards: cards_value("failed", message=explain(error))} | self._no_files()
        finally:
            self._runs.finish(session, run)

    async def _caption_if_any(
        self, request: gr.Request, path: str | None, *asked: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """Caption a picture as soon as it is there; where it was taken away, clear the cards."""
        if path is None:
            self._runs.supersede(request.session_hash or "")
            nothing = {self.cards: cards_value("idle", message=HINT), self.written: None, self._page.picture: None}
            yield nothing | self._no_files()
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
        session = request.session_hash or ""
        run = self._runs.start(session)
        try:
            choice = read_choice(written, event)
            assert written is not None
            async for update in self._follow_branch(written, choice, run):
                yield update
        except Exception as error:
            if not run.superseded:
                yield {self.cards: cards_value("failed", message=explain(error))} | self._no_files()
        finally:
            self._runs.finish(session, run)

    async def _follow_branch(self, written: Written, choice: Choice, run: Run) -> AsyncIterator[dict[Any, Any]]:
        before, branch = written.branches.get(choice.place, ())[-(MOST_BRANCHES - 1) :], choice.start()
        status: dict[Any, Any] = {}
        # The oldest makes room at once: what is clicked meanwhile goes by the numbers that the page shows.
        written = written.with_branches(choice.place, before)
        yield {self.cards: written.with_branches(choice.place, [*before, branch]).value(), self.written: written}
        try:
            async for event in follow(partial(write_branch, self._page.load, written, choice), run.stop):
                if isinstance(event, Done):
                    caption, state = event.result
                    branch = replace(branch, caption=caption, writing=False)
                    status = {self._page.status: status_value(state)}
                elif event.update is not None:
                    branch = replace(branch, caption=event.update)
                    yield {self.cards: written.with_branches(choice.place, [*before, branch]).value()}
        except Exception as error:
            if run.superseded:
                return
            sentence = "" if isinstance(error, Stopped) else explain(error)
            branch = replace(branch, writing=False, error=sentence)
        yield status | self._show(written.with_branches(choice.place, [*before, branch]))

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
        session = request.session_hash or ""
        run = self._comparisons.start(session)
        state = Comparison("Getting the models ready")
        try:
            if path is None:
                raise ImageError(NO_PICTURE)
            options = replace(read_options(method, *values), num_captions=1)
            models, asked = read_models(others), read_prompts(prompts)
            yield {self.comparison: comparison_value("busy", state)}
            work = partial(compare_models, self._page.load, path, model_id, models, asked, options)
            async for event in follow(work, run.stop):
                if isinstance(event, Done):
                    state, status = event.result
                    shown = comparison_value("done", state, seconds=event.seconds)
                    yield {self.comparison: shown, self._page.status: status_value(status)}
                else:
                    state = event.update or state
                    yield {self.comparison: comparison_value("busy", state, seconds=event.seconds)}
        except Stopped:
            if not run.superseded:
                yield {self.comparison: comparison_value("stopped", state)}
        except Exception as error:
            yield {self.comparison: comparison_value("failed", message=explain(error))}
        finally:
            self._comparisons.finish(session, run)

    def _stop_comparison(self, request: gr.Request) -> None:
        self._comparisons.stop(request.session_hash or "")

    def _stop(self, request: gr.Request) -> None:
        self._runs.stop(request.session_hash or "")

    def _take_sample(self, event: gr.EventData) -> str:
        return chosen_sample(event, self.picture.GRADIO_CACHE)

    def _take_picture(self, in_hand: str | None, here: str | None) -> Any:
        """Open on the picture in hand."""
        return gr.skip() if in_hand is None or in_hand == here else in_hand

    def _describe_prompts(self, model_id: str, prompts: Any) -> dict[str, Any]:
        """Lock the prompts where the model takes none."""
        return describe_prompts(self._page.load(model_id).spec, prompts)

    def _no_files(self) -> dict[Any, Any]:
        return {file: gr.update(value=None, interactive=False) for file in (self.json_file, self.csv_file)}

    def _show(self, written: Written) -> dict[Any, Any]:
        """What was written, on the cards and as files."""
        files = self._files(Path(written.path).name, written.captions())
        return {self.cards: written.value(), self.written: written} | files

    def _files(self, name: str, captions: Sequence[Caption]) -> dict[Any, Any]:
        """The captions as files to save."""
        named = [(name, caption) for caption in captions]
        texts = {self.json_file: (captions_to_json(named), "json"), self.csv_file: (captions_to_csv(named), "csv")}
        updates = {}
        for button, (text, suffix) in texts.items():
            file_name = f"{Path(name).stem}-captions.{suffix}"
            path = save_bytes_to_cache(text.encode(), file_name, button.GRADIO_CACHE)
            updates[button] = gr.update(value=path, interactive=True)
        return updates


def write_captions(
    load: LoadCaptioner, path: str, model_id: str, prompts: Sequence[str], options: DecodingOptions, job: Job[Step]
) -> tuple[Step, str, CaptionerStatus, str | None]:
    """All captions of a picture, a heading that says by whom, the model's status, and the text of its end token.

    Runs in a worker. A model that takes no prompt writes without one, and cannot go on from a word: its end token
    is `None`.
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
    note = f" ({picture.note})" if picture.note else ""
    heading = f"{picture.name}{note} · {captioner.spec.title}"
    end_token = captioner.end_token.token if captioner.spec.capabilities.supports_prompt else None
    return Step("", prompts, each, captions), heading, captioner.status(), end_token


def build(page: Page) -> None:
    """Draw the tab where the page is being built."""
    CaptionTab(page)


TAB = Tab("Caption", "caption", build)
