"""The Video tab: what it is made of, and what happens when something is asked for."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from captioning.captions.clip_captions import (
    split_words,
)
from captioning.captions.export import CLIP_FORMATS, ClipCaptions
from captioning.captions.prompts import VIDEO_PROMPTS
from captioning.core.cancellation import Job
from captioning.core.errors import VideoError
from captioning.core.formats import find_format
from captioning.core.messages import explain
from captioning.core.settings import get_settings
from captioning.media.video import DEFAULT_FRAMES, Clip
from captioning.models.helpers.summarizer import Summary
from captioning.tabs.video.asked import Asked
from captioning.tabs.video.frames import FrameStore
from captioning.tabs.video.work import (
    Captioned,
    ClipStep,
    Found,
    PanelStep,
    caption_clip,
    caption_frames,
    compare_counts,
    convert_animation,
    list_captions,
    look_across,
    sum_up,
)
from captioning.ui.caption_cards import SCRIPT, Step, cards_value
from captioning.ui.clip_input import chosen_clip, list_clips, make_clip_strip
from captioning.ui.clip_parts import (
    PanelState,
    counts_value,
    film_value,
    make_filmstrip,
    make_frame_counts,
    make_summary,
    make_timeline,
    make_word_panel,
    summary_value,
    timeline_value,
    word_value,
)
from captioning.ui.decoding import make_decoding_controls, read_options
from captioning.ui.page import Page
from captioning.ui.parts import make_part
from captioning.ui.prompt_list import describe_prompts, make_prompt_list, read_prompts
from captioning.ui.status import status_value
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs
from captioning.web.links import take_linked
from captioning.web.saving import SaveStep, Saving
from captioning.web.visitor import check_helper

NO_CAPTIONS = "There are no captions to save yet; caption a clip first."
NO_CLIP = "There is no clip yet; drop one, record one, or click a sample."
HINT = "Choose a clip, and its caption is written here: drop one, record one, or click a sample."


class VideoTab:
    """The tab's parts and what they do."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._store = FrameStore()
        self._runs, self._count_runs, self._time_runs, self._word_runs = Runs(), Runs(), Runs(), Runs()
        self._summary_runs = Runs()
        self.asked, self.captions = gr.State(None), gr.State(None)
        with gr.Row(equal_height=False, elem_classes="cs-columns"):
            with gr.Column(scale=4, min_width=320):
                self.clip = gr.Video(
                    label="Clip, or animated GIF, WebP or PNG",
                    height=300,
                    elem_id="cs-clip",
                    sources=["upload", "webcam"],
                )
                self.samples = make_clip_strip("cs-clip-samples")
                # Not shown: assets/video/animations.js hands it the pictures that go into the clip's zone.
                self.animation = gr.UploadButton("Animation", file_types=["image"], elem_id="cs-animation")
                most = get_settings().video_frames
                self.count = gr.Slider(
                    1, most, min(DEFAULT_FRAMES, most), step=1, label="Frames", buttons=[], elem_id="cs-frames"
                )
                with gr.Accordion("Part of the clip", open=False, elem_id="cs-clip-part"), gr.Row():
                    self.start = gr.Number(0, label="Start, in seconds", minimum=0, min_width=120)
                    self.end = gr.Number(0, label="End (0 is the clip’s own)", minimum=0, min_width=120)
                self.prompts = make_prompt_list("cs-clip-prompts", VIDEO_PROMPTS)
                self.begin = gr.Button("Caption the clip", variant="primary", elem_id="cs-clip-start")
                self.decoding = make_decoding_controls("cs-clip-decoding")
            with gr.Column(scale=7, min_width=320):
                self.film = make_filmstrip("cs-film")
                self.cards = make_part(SCRIPT, cards_value("idle", message=HINT), "cs-clip-captions")
                self.counts = make_frame_counts("cs-counts")
                self.timeline = make_timeline("cs-timeline")
                self.word = make_word_panel("cs-word")
                with gr.Accordion("Sum up with a text model", open=False, elem_id="cs-clip-summary"):
                    self.summarizer = gr.Textbox(
                        label="Text encoder-decoder",
                        placeholder="a folder, or a hub name like patrickvonplaten/bert2bert_cnn_daily_mail",
                        info="What is not on this machine is downloaded when you sum up.",
                        elem_id="cs-summarizer",
                    )
                    self.summary = make_summary("cs-summary")
                self.saving = Saving("cs-clip-files", self._make_file, CLIP_FORMATS)
        self._connect()

    def _connect(self) -> None:
        page = self._page
        inputs = [
            self.clip,
            page.model_id,
            self.prompts,
            self.count,
            self.start,
            self.end,
            *self.decoding.inputs,
        ]
        outputs = [
            self.film,
            self.cards,
            self.counts,
            self.timeline,
            self.word,
            self.summary,
            self.asked,
            self.captions,
            page.picture,
            page.status,
        ]
        for asked in (self.begin.click, self.prompts.captions_wanted):
            asked(self._caption, inputs, outputs, **page.model_event())
        for changed in (self.clip.change, self.count.release):
            changed(self._caption_if_any, inputs, outputs, **page.model_event())
        self.cards.stop_wanted(self._runs.stop, None, None, **page.event(queue=False))
        self.film.frame_wanted(self._open_frame, self.asked, [self.cards, page.picture, page.tabs], **page.event())
        self.samples.sample_chosen(self._take_sample, None, self.clip, **page.event(queue=False))
        take_linked(page, "video", self.clip, list_clips)
        converted = [self.animation, *inputs]
        self.animation.upload(self._take_animation, converted, [self.clip, *outputs], **page.work_event())
        page.model_id.change(self._describe_prompts, [page.model_id, self.prompts], self.prompts, **page.event())
        self.counts.panel_wanted(self._compare, self.asked, [self.counts, page.status], **page.model_event())
        self.timeline.panel_wanted(
            self._draw_timeline, self.asked, [self.timeline, self.captions, page.status], **page.model_event()
        )
        self.word.word_wanted(self._look, self.asked, [self.word, page.status], **page.model_event())
        asked_summary = [self.asked, self.summarizer]
        self.summary.panel_wanted(self._sum_up, asked_summary, [self.summary, page.status], **page.model_event())
        self.saving.connect(page, [self.captions])
        panels = (
            (self.counts, self._count_runs),
            (self.timeline, self._time_runs),
            (self.word, self._word_runs),
            (self.summary, self._summary_runs),
        )
        for part, runs in panels:
            part.panel_stopped(runs.stop, None, None, **page.event(queue=False))

    # ---- the caption ----

    async def _caption(
        self,
        request: gr.Request,
        path: str | None,
        model_id: str,
        prompts: Any,
        count: Any,
        start: Any,
        end: Any,
        method: str,
        *values: Any,
    ) -> AsyncIterator[dict[Any, Any]]:
        """Caption the clip for every prompt; filmstrip, cards, status line and files follow as it goes."""

        def work(job: Job[ClipStep]) -> tuple[Asked, Captioned, str]:
            if path is None:
                raise VideoError(NO_CLIP)
            options = read_options(method, *values)
            asked = Asked(path, model_id, tuple(read_prompts(prompts)), options, _whole(count), start, end or None)
            job.show(ClipStep(Step("Getting the model ready", asked.prompts, options.num_captions)))
            made = caption_clip(self._store, self._page.load, asked, job)
            asked = replace(asked, words=split_words(made.step.captions[0]))
            return asked, made, self._save_frame(made.clip, len(made.clip.frames) // 2)

        shown, sent = ClipStep(Step("Getting the model ready")), None
        yield {self.film: film_value(())} | self._clear(request)
        async for state in self._runs.follow(request, work):
            match state:
                case Progress(update, seconds):
                    shown = update or shown
                    film = {} if shown.film is sent else {self.film: shown.film}
                    sent = shown.film
                    yield {self.cards: cards_value("busy", shown.step, seconds=seconds)} | film
                case Done((asked, made, picture), seconds):
                    yield {
                        self.cards: cards_value("done", made.step, heading=made.heading, seconds=seconds),
                        self.film: made.film,
                        self.asked: asked,
                        self._page.picture: picture,
                        self._page.status: status_value(made.status),
                    } | self._open_panels(asked, made)
                case Halted():
                    yield {self.cards: cards_value("stopped", shown.step)}
                case Failed(sentence):
                    failed = {self.cards: cards_value("failed", message=sentence), self.film: film_value(())}
                    yield failed | self._clear(request)

    async def _caption_if_any(
        self, request: gr.Request, path: str | None, *values: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """Caption a clip as soon as it is there; where it was taken away, clear everything."""
        if path is None:
            self._runs.supersede(request)
            empty = {self.cards: cards_value("idle", message=HINT), self.film: film_value(())}
            yield empty | self._clear(request)
            return
        async for update in self._caption(request, path, *values):
            yield update

    def _clear(self, request: gr.Request) -> dict[Any, Any]:
        """Panels and files as they are before a caption; what the panels work on is stopped."""
        for runs in (self._count_runs, self._time_runs, self._word_runs, self._summary_runs):
            runs.supersede(request)
        return {
            self.asked: None,
            self.captions: None,
            self.counts: counts_value(PanelState()),
            self.timeline: timeline_value(PanelState()),
            self.word: word_value(PanelState()),
            self.summary: summary_value(PanelState()),
        }

    def _open_panels(self, asked: Asked, result: Captioned) -> dict[Any, Any]:
        """Panels that can be used, and the captions that can be saved."""
        ready = PanelState(ready=True)
        caption = result.step.captions[0]
        return {
            self.counts: counts_value(ready),
            self.timeline: timeline_value(ready),
            self.word: word_value(ready, split_words(caption)),
            self.summary: summary_value(ready),
            self.captions: list_captions(asked, result.clip, result.step.captions),
        }

    def _open_frame(self, event: gr.EventData, asked: Asked | None) -> Any:
        """A frame becomes the picture in hand, and the Attention tab opens on it."""
        place = getattr(event, "frame", None)
        if asked is None or isinstance(place, bool) or not isinstance(place, int):
            return gr.skip()
        try:
            clip = self._store.sample(asked, self._page.load(asked.model_id), lambda *_: None)
            if not 0 <= place < len(clip.frames):
                return gr.skip()
            path = self._save_frame(clip, place)
        except Exception as error:
            return {self.cards: cards_value("failed", message=explain(error))}
        return {self._page.picture: path, self._page.tabs: gr.update(selected="attention")}

    def _save_frame(self, clip: Clip, place: int) -> str:
        """A frame as a file: the picture in hand."""
        frame = clip.frames[place]
        file = io.BytesIO()
        frame.image.image.save(file, "PNG")
        name = f"{Path(clip.index.name).stem}-{frame.seconds:.2f}s.png"
        return str(save_bytes_to_cache(file.getvalue(), name, self.clip.GRADIO_CACHE))

    def _make_file(
        self, _: gr.Request, event: gr.EventData, __: Job[SaveStep], captions: ClipCaptions | None
    ) -> tuple[str, bytes]:
        """Make a file of what the page shows of the clip."""
        if captions is None:
            raise VideoError(NO_CAPTIONS)
        chosen = find_format(CLIP_FORMATS, getattr(event, "kind", None))
        return chosen.name_for(Path(captions.name).stem), chosen.make(captions)

    def _take_sample(self, event: gr.EventData) -> str:
        return chosen_clip(event, self.clip.GRADIO_CACHE)

    async def _take_animation(
        self, request: gr.Request, animation: str, path: str | None, *values: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """An animated picture as a clip that the player can show, in place of the clip at `path`."""
        step, made = Step("Turning it into a clip"), ""
        yield {self.cards: cards_value("busy", step), self.film: film_value(())} | self._clear(request)
        async for state in self._runs.follow(request, partial(convert_animation, animation, self.clip.GRADIO_CACHE)):
            match state:
                case Progress(update, seconds):
                    step = update or step
                    yield {self.cards: cards_value("busy", step, seconds=seconds)}
                case Done(made):
                    pass
                case Halted():
                    yield {self.cards: cards_value("stopped", step)}
                case Failed(sentence):
                    yield {self.cards: cards_value("failed", message=sentence)}
        if made and made != path:
            yield {self.clip: made}
        elif made:  # the player has that clip already, so that nothing changes there
            async for update in self._caption(request, path, *values):
                yield update

    def _describe_prompts(self, model_id: str, prompts: Any) -> dict[str, Any]:
        """Lock the prompts where the model takes none."""
        return describe_prompts(self._page.load(model_id).spec, prompts, VIDEO_PROMPTS)

    # ---- the panels ----

    async def _compare(self, request: gr.Request, asked: Asked | None) -> AsyncIterator[dict[Any, Any]]:
        """The caption at 1, 2, 4 … frames."""
        work = partial(compare_counts, self._store, self._page.load)
        async for state, rows in follow_panel(self._count_runs, request, work, asked):
            yield {self.counts: counts_value(state, rows or ())} | self._tell_status(state, asked)

    async def _draw_timeline(self, request: gr.Request, asked: Asked | None) -> AsyncIterator[dict[Any, Any]]:
        """A caption for every frame, merged into segments."""
        work = partial(caption_frames, self._store, self._page.load)
        async for state, line in follow_panel(self._time_runs, request, work, asked):
            value = timeline_value(state)
            if line is not None:
                value = timeline_value(state, line.shown, line.averaged[0].text)
            captions = {}
            if state.phase == "done" and asked is not None and line is not None:
                captions = {self.captions: list_captions(asked, line.clip, line.averaged, line)}
            yield {self.timeline: value} | captions | self._tell_status(state, asked)

    async def _look(
        self, request: gr.Request, asked: Asked | None, event: gr.EventData
    ) -> AsyncIterator[dict[Any, Any]]:
        """One word of the averaged caption on every frame."""
        word = getattr(event, "word", 0)
        work = partial(look_across, self._store, self._page.load, word)
        async for state, found in follow_panel(self._word_runs, request, work, asked):
            # Before the work found anything, and where it fails, words can be chosen all the same.
            words, frames = found or (asked.words if asked is not None else (), ())
            yield {self.word: word_value(state, words, word, frames)} | self._tell_status(state, asked)

    async def _sum_up(
        self, request: gr.Request, asked: Asked | None, model_id: str | None
    ) -> AsyncIterator[dict[Any, Any]]:
        """The captions of all frames, summed up by a text model."""
        name = (model_id or "").strip()

        def work(asked: Asked, job: Job[PanelStep[Summary]]) -> Summary:
            check_helper(name)
            return sum_up(self._store, self._page.load, name, asked, job)

        async for state, found in follow_panel(self._summary_runs, request, work, asked):
            yield {self.summary: summary_value(state, found)} | self._tell_status(state, asked)

    def _tell_status(self, state: PanelState, asked: Asked | None) -> dict[Any, Any]:
        if state.phase != "done" or asked is None:
            return {}
        return {self._page.status: status_value(self._page.load(asked.model_id).status())}


def _whole(count: Any) -> Any:
    """A slider's number, which comes as a float from some browsers."""
    return int(count) if isinstance(count, float) and count.is_integer() else count


async def follow_panel(
    runs: Runs, request: gr.Request, work: Callable[[Asked, Job[PanelStep[Found]]], Found], asked: Asked | None
) -> AsyncIterator[tuple[PanelState, Found | None]]:
    """States of a panel while its work goes on, each with what is found so far."""

    def work_on_clip(job: Job[PanelStep[Found]]) -> Found:
        if asked is None:
            raise VideoError(NO_CLIP)
        return work(asked, job)

    found: Found | None = None
    yield PanelState("busy", ready=asked is not None, doing="Getting ready…"), None
    async for state in runs.follow(request, work_on_clip):
        match state:
            case Progress(step) if step is not None:
                found = step.found or found
                fraction = step.done / step.total if step.total else None
                yield PanelState("busy", ready=True, doing=f"{step.doing}…", fraction=fraction), found
            case Done(result):
                yield PanelState("done", ready=True), result
            case Halted():
                yield PanelState("stopped", ready=True), found
            case Failed(sentence):
                yield PanelState("failed", ready=asked is not None, message=sentence), found
