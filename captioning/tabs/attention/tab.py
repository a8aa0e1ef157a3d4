"""The explorer with what goes into it, and the panels below it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import save_bytes_to_cache

from captioning.attention.formats import FORMATS
from captioning.attention.page_value import pack_weights, picture_file
from captioning.attention.views import METHODS, Maps
from captioning.captions.prompts import DEFAULT_PROMPT
from captioning.core.cancellation import Job
from captioning.core.errors import CaptioningError, PromptError
from captioning.core.formats import describe_formats
from captioning.core.types import CaptionerStatus
from captioning.tabs.attention.asking import AgainPanel
from captioning.tabs.attention.believing import BeliefPanel
from captioning.tabs.attention.findings import Findings
from captioning.tabs.attention.keeping import read_saved_view, render_file
from captioning.tabs.attention.looking import (
    Asked,
    Seen,
    Sight,
    Step,
    add_found,
    compute_maps,
    describe_look,
    is_large,
    look_again,
    look_at,
)
from captioning.ui.page import CarriedCaption, Page
from captioning.ui.parts import make_part, next_serial
from captioning.ui.picture import chosen_sample, list_samples, make_picture_input, make_sample_strip
from captioning.ui.status import status_value
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs
from captioning.web.links import Link, linked_file
from captioning.web.saving import SaveStep, Saving

HINT = (
    "Choose a picture, and see where the model looks for each word of its caption: drop one, click a sample, or open a "
    "caption from another tab."
)
NO_PICTURE = "There is no picture yet; drop one, paste one, use the webcam, or click a sample."
NOTHING_SEEN = "There is no caption yet; look at a picture first."


class AttentionTab:
    """The tab's parts and what they do."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._runs = Runs()
        self._findings = Findings()
        self.seen = gr.State(None)
        self.shown = gr.State(None)
        with gr.Row(equal_height=False, elem_classes="cs-columns"):
            with gr.Column(scale=3, min_width=280):
                self.picture = make_picture_input(label="Picture", height=210, elem_id="cs-look-picture")
                self.samples = make_sample_strip("cs-look-samples")
                with gr.Group():
                    self.prompt = gr.Textbox(DEFAULT_PROMPT, label="Prompt", max_lines=1, elem_id="cs-look-prompt")
                    self.text = gr.Textbox(
                        label="Caption of your own",
                        info="Goes on from the prompt. Empty, the model writes it.",
                        max_lines=3,
                        elem_id="cs-look-text",
                    )
                self.start = gr.Button("Look", variant="primary", elem_id="cs-look-start")
                self.reopen = gr.UploadButton(
                    "Open a saved view (JSON)", file_types=[".json"], size="sm", elem_id="cs-look-open"
                )
            with gr.Column(scale=9, min_width=320, elem_id="cs-attention"):
                self.explorer = make_part("attention/explorer", explorer_value("idle", message=HINT), "cs-explorer")
                self.belief = BeliefPanel(page, self.seen, self.explorer, self._findings, self._show_look)
                self.again = AgainPanel(page, self.seen, self._findings)
                self.saving = Saving("cs-kept", self._make_file)

    def connect(self, tab: gr.Tab) -> None:
        """Hang the handlers on the opening of the tab, on what other tabs hand over, and on the tab's own parts."""
        page = self._page
        inputs = [self.picture, page.model_id, self.prompt, self.text]
        outputs = [
            self.explorer,
            self.seen,
            self.shown,
            self.belief.part,
            self.again.part,
            page.status,
            page.carried,
        ]
        chosen = [*outputs, page.picture]
        here = [page.picture, self.picture, self.seen, page.carried]
        tab.select(self._take_picture, here, self.picture, **page.event(queue=False))
        for asked in (self.start.click, self.prompt.submit, self.text.submit):
            asked(self._look, inputs, chosen, **page.model_event())
        self.picture.change(self._look_if_new, [*inputs, self.seen], chosen, **page.model_event())
        self.picture.clear(self._clear, None, outputs, **page.event(queue=False))
        page.model_id.change(self._look_if_open, [*inputs, self.seen, page.carried], outputs, **page.model_event())
        page.carried.change(
            self._look_at_carried,
            page.carried,
            [*chosen, self.picture, self.prompt, self.text],
            **page.model_event(),
        )
        page.link.change(
            self._look_at_linked,
            [page.link, page.model_id, self.prompt],
            [*chosen, self.picture],
            **page.model_event(),
        )
        self.samples.sample_chosen(self._take_sample, None, self.picture, **page.event(queue=False))
        self.explorer.method_wanted(self._compute, [self.seen, self.shown], outputs, **page.model_event())
        self.explorer.work_stopped(self._runs.stop, None, None, **page.event(queue=False))
        self.saving.connect(page, [self.seen], self.explorer.file_wanted)
        self.reopen.upload(self._reopen, [self.reopen, self.picture, page.model_id], outputs, **page.model_event())
        self.belief.connect(self.shown)
        self.again.connect()

    # ---- looking ----

    async def _look(
        self, request: gr.Request, path: str | None, model_id: str, prompt: str, text: str
    ) -> AsyncIterator[Any]:
        """Look at the picture with the caption that was typed, or with what the model writes."""
        if path is None:
            yield self._leave(request, NO_PICTURE)
            return
        async for update in self._follow(request, Asked(path, model_id, prompt or "", text or "")):
            yield update | self._when_seen(update, {self._page.picture: path})

    async def _look_if_new(
        self, request: gr.Request, path: str | None, model_id: str, prompt: str, text: str, seen: Seen | None
    ) -> AsyncIterator[Any]:
        """Look at a picture as soon as it is there; one that came with its caption is looked at already."""
        if path is None or (seen is not None and seen.path == path):
            yield gr.skip()
            return
        async for update in self._look(request, path, model_id, prompt, text):
            yield update

    async def _look_if_open(
        self,
        request: gr.Request,
        path: str | None,
        model_id: str,
        prompt: str,
        text: str,
        seen: Seen | None,
        carried: CarriedCaption | None,
    ) -> AsyncIterator[Any]:
        """Look again with another model at the picture of this tab, which may be another than the one in hand.

        What another tab hands over meanwhile comes with a model of its own.
        """
        if path is None or carried is not None or (seen is not None and seen.model_id == model_id):
            yield gr.skip()
            return
        async for update in self._follow(request, Asked(path, model_id, prompt or "", text or "")):
            yield update

    async def _look_at_carried(self, request: gr.Request, carried: CarriedCaption | None) -> AsyncIterator[Any]:
        """Look at a caption that another tab handed over."""
        if carried is None:
            yield gr.skip()
            return
        caption = carried.caption
        asked = Asked(carried.path, carried.model_id, caption.prompt, caption=caption)
        async for update in self._follow(request, asked, is_carried=True):
            # The picture comes with the caption: before that, its own event would have another one written.
            opened = {self.picture: carried.path, self.prompt: caption.prompt, self.text: ""}
            yield update | self._when_seen(update, {**opened, self._page.picture: carried.path})

    async def _look_at_linked(
        self, request: gr.Request, link: Link | None, model_id: str, prompt: str
    ) -> AsyncIterator[Any]:
        """Look at the sample and the word that a link names."""
        path = linked_file(link, "attention", list_samples(), self.picture.GRADIO_CACHE)
        if link is None or path is None:
            yield gr.skip()
            return
        async for update in self._follow(request, Asked(path, model_id, prompt or "", word=link.word)):
            # As with a carried caption, the picture comes when its caption is there.
            yield update | self._when_seen(update, {self.picture: path, self._page.picture: path})

    def _when_seen(self, update: dict[Any, Any], more: dict[Any, Any]) -> dict[Any, Any]:
        """What goes along with a caption that is looked at, and not before."""
        return more if update.get(self.seen) is not None else {}

    async def _follow(self, request: gr.Request, asked: Asked, *, is_carried: bool = False) -> AsyncIterator[Any]:
        """Look, in place of whatever goes on here. What `is_carried` stays so until it is looked at or given up."""
        self._leave_panels(request)
        before, after = ({}, {self._page.carried: None}) if is_carried else ({self._page.carried: None}, {})
        begin = Step("Getting the model ready")

        def work(job: Job[Step]) -> tuple[Seen, Sight, CaptionerStatus, dict[str, Any]]:
            seen, sight, status = look_at(self._page.load, asked, job)
            return seen, sight, status, self._describe(seen, sight)

        # Without what was seen before: whoever goes back to it meanwhile has it looked at again.
        yield self._nothing() | before | {self.explorer: explorer_value("busy", begin)}
        async for state in self._runs.follow(request, work):
            match state:
                case Progress(step):
                    yield {self.explorer: explorer_value("busy", step or begin)}
                case Done((seen, sight, status, look)):
                    yield after | {
                        self.explorer: explorer_value("done", look=look),
                        self.seen: seen,
                        self.shown: look,
                        self.belief.part: self.belief.ready_value(seen, sight),
                        self.again.part: self.again.ready_value(sight),
                        self._page.status: status_value(status),
                    }
                case Halted():
                    yield self._nothing("stopped", "Stopped; look again whenever you like.") | after
                case Failed(sentence):
                    yield self._nothing("failed", sentence) | after

    def _leave_panels(self, request: gr.Request) -> None:
        """End what goes on about what was seen before."""
        self.belief.supersede(request)
        self.again.supersede(request)

    def _leave(self, request: gr.Request, sentence: str = "") -> dict[Any, Any]:
        """Give up what is seen and all that goes on about it, and say why where that was no wish."""
        self._leave_panels(request)
        self._runs.supersede(request)
        nothing = self._nothing("failed", sentence) if sentence else self._nothing()
        return nothing | {self._page.carried: None}

    def _nothing(self, phase: str = "idle", message: str = HINT) -> dict[Any, Any]:
        """The tab without a caption."""
        return {
            self.explorer: explorer_value(phase, message=message),
            self.seen: None,
            self.shown: None,
            self.belief.part: self.belief.idle_value(),
            self.again.part: self.again.idle_value(),
        }

    def _describe(self, seen: Seen, sight: Sight) -> dict[str, Any]:
        """What the explorer shows, with picture and weights as files that the page may fetch; takes a worker."""
        return describe_look(seen, sight, on_demand=is_large(sight.trace)) | {
            "picture": self._as_file(picture_file(sight.picture), "picture.jpg"),
            "weights": self._as_file(pack_weights(sight.trace), "attention.bin"),
        }

    def _as_file(self, data: bytes, name: str) -> dict[str, Any]:
        return FileData(path=save_bytes_to_cache(data, name, self.explorer.GRADIO_CACHE)).model_dump()

    # ---- more maps ----

    async def _compute(
        self, request: gr.Request, event: gr.EventData, seen: Seen | None, shown: dict[str, Any] | None
    ) -> AsyncIterator[Any]:
        """The maps of another method, for every word."""
        if seen is None or shown is None:
            yield self._leave(request, NOTHING_SEEN)
            return
        method = str(getattr(event, "method", ""))

        def work(job: Job[Step]) -> Maps:
            sight = look_again(self._page.load, seen, lambda _: job.check())
            return compute_maps(sight, method, job.show)

        titles = {known.name: known.title for known in METHODS}
        begin = Step(titles.get(method, "More maps"))
        yield self._show_look(request, seen, shown, begin)
        async for state in self._runs.follow(request, work):
            match state:
                case Progress(step):
                    yield self._show_look(request, seen, shown, step or begin)
                case Done(maps):
                    self._findings.add(request, seen, {method: maps})
                    yield self._show_look(request, seen, shown)
                case Halted():
                    yield self._show_look(request, seen, shown)
                case Failed(sentence):
                    yield self._show_look(request, seen, shown, note=sentence)

    def _show_look(
        self, request: gr.Request, seen: Seen, shown: dict[str, Any], step: Step | None = None, note: str = ""
    ) -> dict[Any, Any]:
        """The explorer with everything that was found of what is seen, during a `step` of work or after it."""
        look = add_found(shown, self._findings.known(request, seen))
        return {self.explorer: explorer_value("busy" if step else "done", step, look=look, note=note)}

    # ---- what goes in ----

    def _take_picture(
        self, in_hand: str | None, here: str | None, seen: Seen | None, carried: CarriedCaption | None
    ) -> Any:
        """Open on the picture in hand, unless it comes with its caption."""
        known = carried is not None or in_hand == here or (seen is not None and seen.path == in_hand)
        if in_hand is None or known:
            return gr.skip()
        return in_hand

    def _take_sample(self, event: gr.EventData) -> str:
        return chosen_sample(event, self.picture.GRADIO_CACHE)

    def _clear(self, request: gr.Request) -> dict[Any, Any]:
        return self._leave(request)

    async def _reopen(
        self, request: gr.Request, saved: str | None, path: str | None, model_id: str
    ) -> AsyncIterator[Any]:
        """Open the view that a JSON file holds, on its picture."""
        try:
            asked = read_saved_view(saved, path, model_id)
        except CaptioningError as error:
            yield self._leave(request, str(error))
            return
        async for update in self._follow(request, asked):
            yield update

    # ---- taking along ----

    def _make_file(
        self, request: gr.Request, event: gr.EventData, job: Job[SaveStep], seen: Seen | None
    ) -> tuple[str, bytes]:
        """Make a file of what is seen."""
        if seen is None:
            raise PromptError(NOTHING_SEEN)
        known = self._findings.known(request, seen)
        kind, view = getattr(event, "kind", None), getattr(event, "view", None)

        def tell(step: Step) -> None:
            job.show(SaveStep(step.doing, step.fraction))

        return render_file(self._page.load, known, kind, view, tell)


def explorer_value(
    phase: str, step: Step | None = None, *, look: dict[str, Any] | None = None, message: str = "", note: str = ""
) -> dict[str, Any]:
    """What `assets/attention/explorer.js` draws: how far work has come, and the caption that is looked at."""
    return {
        "serial": next_serial(),
        "phase": phase,
        "doing": step.doing if step else "",
        "fraction": step.fraction if step else None,
        "message": message,
        "note": note,
        "look": look,
        "files": describe_formats(FORMATS),
    }
