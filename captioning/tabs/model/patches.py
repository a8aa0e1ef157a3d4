"""The patch view: a picture exactly as the model receives it, as a grid and as a sequence; a classifier beside it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import FileData
from gradio.processing_utils import save_bytes_to_cache
from numpy.typing import NDArray
from PIL import Image

from captioning.core.cancellation import Job
from captioning.core.contract import Captioner
from captioning.core.errors import ImageError, UnknownModelError
from captioning.core.types import PatchLayout, Picture
from captioning.media.images import open_image
from captioning.models.helpers.classifier import LabelProbability, classify
from captioning.serving.loading import LoadCaptioner
from captioning.ui.page import Page
from captioning.ui.parts import make_part, next_serial
from captioning.ui.picture import chosen_sample, make_picture_input, make_sample_strip
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs
from captioning.web.visitor import check_helper

Listener = Callable[..., Any]
HINT = "Choose a picture to see what the model receives of it: drop one, paste one, use the webcam, or click a sample."
LABELS_HINT = "Name a picture classifier, such as a ViT, to see what a model that knows only labels calls the picture."
_LONGEST_SIDE = 1024


class PatchSection:
    """The section's parts and what they do."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._runs = Runs()
        self.shown = gr.State(None)
        self._classifications = Runs()
        with gr.Row(equal_height=False, elem_classes="cs-columns"):
            with gr.Column(scale=4, min_width=300):
                self.picture = make_picture_input(label="Picture", height=250, elem_id="cs-patch-picture")
                self.samples = make_sample_strip("cs-patch-samples")
                with gr.Group():
                    self.classifier = gr.Textbox(
                        label="Classifier beside the caption",
                        info="a folder or hub name; a hub name is downloaded",
                        placeholder="google/vit-base-patch16-224",
                        elem_id="cs-classifier",
                    )
                    self.classify = gr.Button("Classify", elem_id="cs-classify")
                self.labels = make_part("model/labels", labels_value("idle", message=LABELS_HINT), "cs-labels")
            with gr.Column(scale=7, min_width=320):
                self.patches = make_part("model/patches", patches_value("idle", message=HINT), "cs-patches")

    def connect(self, opened: Listener) -> None:
        """Hang the handlers on the listener of the section's opening and on its own controls."""
        page = self._page
        inputs, outputs = [self.picture, page.model_id, self.shown], [self.patches, self.shown]
        opened(self._open, [page.picture, *inputs], [self.picture, *outputs], **page.model_event())
        self.picture.change(self._show_chosen, inputs, [page.picture, *outputs], **page.model_event())
        self.picture.clear(self._clear, None, outputs, **page.event(queue=False))
        self.samples.sample_chosen(self._take_sample, None, self.picture, **page.event(queue=False))
        for asked in (self.classify.click, self.classifier.submit):
            asked(self._classify, [self.picture, self.classifier], self.labels, **page.model_event())

    async def _open(
        self, request: gr.Request, in_hand: str | None, here: str | None, model_id: str, shown: Any
    ) -> AsyncIterator[Any]:
        """Open on the picture in hand, or show the one that is here as the model in use receives it."""
        if in_hand is not None and in_hand != here:
            yield {self.picture: in_hand}  # its own event shows it
            return
        async for update in self._show(request, here, model_id, shown):
            yield update

    def _clear(self, request: gr.Request) -> dict[Any, Any]:
        self._runs.supersede(request)
        return {self.patches: patches_value("idle", message=HINT), self.shown: None}

    def _take_sample(self, event: gr.EventData) -> str:
        return chosen_sample(event, self.picture.GRADIO_CACHE)

    async def _show_chosen(
        self, request: gr.Request, path: str | None, model_id: str, shown: Any
    ) -> AsyncIterator[Any]:
        """Show a picture that a person chose: once that is done, it is the picture in hand."""
        async for update in self._show(request, path, model_id, shown):
            is_done = update.get(self.shown) is not None
            yield update | ({self._page.picture: path} if is_done else {})

    async def _show(self, request: gr.Request, path: str | None, model_id: str, shown: Any) -> AsyncIterator[Any]:
        """Show the picture as the model in use receives it, where it is not shown already."""
        if path is None:  # nothing is there yet; what was taken away is cleared by an event of its own
            yield gr.skip()
            return
        wanted = [path, model_id]
        if wanted == shown:
            self._runs.supersede(request)
            yield gr.skip()
            return
        async for state in self._runs.follow(request, partial(self._cut_up, path, model_id)):
            match state:
                case Progress(_, seconds):
                    message = f"Cutting the picture up… {seconds:.0f} s"
                    yield {self.patches: patches_value("busy", message=message), self.shown: None}
                case Done(value):
                    yield {self.patches: patches_value("done", value), self.shown: wanted}
                case Halted():
                    yield {self.patches: patches_value("idle", message=HINT), self.shown: None}
                case Failed(sentence):
                    yield {self.patches: patches_value("failed", message=sentence), self.shown: None}

    async def _classify(self, request: gr.Request, path: str | None, name: str | None) -> AsyncIterator[Any]:
        """Label the picture by the classifier that was named."""

        def work(job: Job[None]) -> Sequence[LabelProbability]:
            if path is None:
                raise ImageError("There is no picture to label yet; choose one above.")
            if not name or not name.strip():
                raise UnknownModelError("Name a classifier: a folder, or a hub name like google/vit-base-patch16-224.")
            check_helper(name.strip())
            return label_picture(path, name.strip(), job)

        async for state in self._classifications.follow(request, work):
            match state:
                case Progress(_, seconds):
                    yield {self.labels: labels_value("busy", message=f"Labelling… {seconds:.0f} s")}
                case Done(labels):
                    yield {self.labels: labels_value("done", labels)}
                case Halted():
                    yield {self.labels: labels_value("idle", message=LABELS_HINT)}
                case Failed(sentence):
                    yield {self.labels: labels_value("failed", message=sentence)}

    def _cut_up(self, path: str, model_id: str, job: Job[None]) -> dict[str, Any]:
        """The view with its picture as a file that the page may fetch; runs in a worker."""
        value, image = cut_up(self._page.load, path, model_id, job)
        file = io.BytesIO()
        image.save(file, "PNG")
        path = save_bytes_to_cache(file.getvalue(), "model-input.png", self.patches.GRADIO_CACHE)
        return value | {"picture": FileData(path=path).model_dump()}


def cut_up(load: LoadCaptioner, path: str, model_id: str, job: Job[None]) -> tuple[dict[str, Any], Image.Image]:
    """What the patch view says, and the picture it shows; runs in a worker.

    Where the patches form a grid the picture is the model's own input, else the original with its tiles.
    """
    captioner = load(model_id, report=lambda _: job.check())
    picture = open_image(path)
    received = captioner.preprocess(picture)
    layout = received.layout
    shown = received_picture(captioner, picture)
    prefix = captioner.encode([picture])[0].num_prefix_tokens
    if shown is not None and layout.grid is not None:
        rows, columns = layout.grid
        cells = PatchLayout.from_grid(rows, columns).boxes.tolist()
        image = Image.fromarray(shown)
        facts = f"{image.width} × {image.height} pixels, {rows} × {columns} patches"
    else:
        cells = [[round(edge, 5) for edge in box] for box in layout.boxes.tolist()]
        image = picture.image.copy()
        image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        facts = f"{len(cells)} patches in tiles, on the original picture"
    value = {
        "title": captioner.spec.title,
        "name": picture.name,
        "facts": facts,
        "cells": cells,
        "columns": layout.grid[1] if layout.grid is not None else 0,
        "prefix": prefix,
    }
    return value, image


def received_picture(captioner: Captioner, picture: Picture) -> NDArray[np.uint8] | None:
    """What the model receives, normalised back to colours `[height, width, 3]`; `None` where it comes in tiles.

    A black and a white picture of the same size show what the model's own recipe makes of 0 and 1 in each channel.
    """
    received = np.asarray(captioner.preprocess(picture).pixel_values, np.float32)
    if received.ndim != 3:
        return None
    black, white = (_received_of(captioner, picture.image.size, level) for level in (0, 255))
    span = (white - black).reshape(len(received), -1)
    # Where a recipe pads, both are alike: what it says of black and white is read where they differ most.
    places = span.argmax(axis=1)[:, None]
    low = np.take_along_axis(black.reshape(len(received), -1), places, axis=1)[:, :, None]
    scale = np.take_along_axis(span, places, axis=1)[:, :, None]
    colours = (received - low) / scale
    return (colours.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def _received_of(captioner: Captioner, size: tuple[int, int], level: int) -> NDArray[np.float32]:
    plain = Picture(Image.new("RGB", size, (level, level, level)), f"plain-{level}")
    return np.asarray(captioner.preprocess(plain).pixel_values, np.float32)


def label_picture(path: str, classifier: str, job: Job[None]) -> tuple[LabelProbability, ...]:
    """The likeliest labels of a picture; runs in a worker."""
    picture = open_image(path)
    job.check()
    return classify(classifier, picture)


def patches_value(phase: str, view: dict[str, Any] | None = None, *, message: str = "") -> dict[str, Any]:
    """What `assets/model/patches.js` draws."""
    return {"serial": next_serial(), "phase": phase, "message": message, **(view or {})}


def labels_value(phase: str, labels: Sequence[LabelProbability] = (), *, message: str = "") -> dict[str, Any]:
    """What `assets/model/labels.js` draws."""
    pairs = [[label, round(probability, 4)] for label, probability in labels]
    return {"serial": next_serial(), "phase": phase, "message": message, "labels": pairs}
