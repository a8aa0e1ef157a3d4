"""The Map tab: what it is made of, and what happens when something is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from captioning.core.cancellation import Job
from captioning.core.errors import DataError, OptionsError
from captioning.core.options import parameters
from captioning.core.settings import get_settings
from captioning.image_map import MapOptions
from captioning.image_map.page_value import plotly_file
from captioning.tabs.image_map.answers import Thumbnails, make_answers
from captioning.tabs.image_map.files import make_file
from captioning.tabs.image_map.intake import Source, may_read_folders, read_source
from captioning.tabs.image_map.samples import SAMPLE_SETS, find_samples
from captioning.tabs.image_map.view import Change, MapShelf, MapView, map_value, progress_value
from captioning.tabs.image_map.work import Begin, Drawn, Shown, add, draw, draw_and_find_out, refit_map, take_up
from captioning.ui.controls import make_control
from captioning.ui.page import Page
from captioning.ui.parts import make_part, next_serial
from captioning.ui.status import status_value
from captioning.ui.tab import current_tab
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs
from captioning.web.links import Link
from captioning.web.saving import SaveStep, Saving

Updates = AsyncIterator[dict[Any, Any]]
NOTHING_CHANGED = "Stopped; nothing was changed."
NO_MAP = "There is no map yet; choose pictures first."


class MapTab:
    """The tab's parts and what they do."""

    def __init__(self, page: Page) -> None:
        gr.set_static_paths([plotly_file()])
        self._page = page
        self._runs = Runs()
        self._shelf = MapShelf()
        self._thumbnails = Thumbnails()
        self.view = gr.State(None)
        with gr.Row(equal_height=False, elem_classes="cs-columns", elem_id="cs-map-top"):
            with gr.Column(scale=8, min_width=320):
                self.intake = make_part("map/intake", intake_value(), "cs-map-intake")
            with (
                gr.Column(scale=4, min_width=320),
                gr.Accordion("Layout", open=False, elem_id="cs-map-layout", elem_classes="cs-decoding"),
            ):
                self.controls = make_layout_controls()
                self.refit = gr.Button("Refit", interactive=False, size="md", elem_id="cs-map-refit")
        self.progress = make_part("map/progress", progress_value(), "cs-map-progress")
        self.saving = Saving("cs-map-file", self._make_file)
        self.map = make_part(
            "map/map",
            map_value(None),
            "cs-map",
            server_functions=make_answers(self._shelf, self._thumbnails, page.load),
        )
        self._connect(current_tab())

    def _connect(self, tab: gr.Tab) -> None:
        page = self._page
        inputs = [page.model_id, self.view, *self.controls]
        outputs = [self.map, self.progress, self.view, self.refit, self.intake, page.status]
        self.intake.pictures_given(self._take, inputs, outputs, **page.model_event())
        page.link.change(self._take_linked, [page.link, *inputs], outputs, **page.model_event())
        self.refit.click(self._refit, inputs, outputs, **page.model_event())
        self.progress.stop_wanted(self._runs.stop, None, None, **page.event(queue=False))
        self.map.point_opened(self._open_point, self.view, [page.picture, page.tabs], **page.event(queue=False))
        self.saving.connect(page, [self.view], self.map.export_wanted)
        tab.select(self._describe_folder, self.view, self.intake, **page.event(queue=False))

    # ---- pictures come in ----

    async def _take(
        self, request: gr.Request, event: gr.EventData, model_id: str, view: MapView | None, *controls: Any
    ) -> Updates:
        """What was handed in, on a new map, or on the one that is there."""
        adds = view is not None and getattr(event, "adds", None) is True

        def begin(job: Job[Shown]) -> Drawn:
            load, cache = self._page.load, self.map.GRADIO_CACHE
            source = read_source(event, request)
            if view is not None and adds:
                return add(load, source, view, cache, job)
            return draw(load, source, model_id, read_layout(*controls), cache, job)

        async for update in self._follow(request, begin, "added" if adds else "new", view):
            yield update

    async def _take_linked(
        self, request: gr.Request, link: Link | None, model_id: str, view: MapView | None, *controls: Any
    ) -> Updates:
        """The pictures that a link names."""
        if link is None or link.tab != "map" or not link.sample:
            yield gr.skip()
            return

        def begin(job: Job[Shown]) -> Drawn:
            source = Source("samples", samples=find_samples(link.sample).name)
            return draw(self._page.load, source, model_id, read_layout(*controls), self.map.GRADIO_CACHE, job)

        async for update in self._follow(request, begin, "new", view):
            yield update

    async def _refit(self, request: gr.Request, model_id: str, view: MapView | None, *controls: Any) -> Updates:
        """Lay the pictures out anew, turned to lie as before."""

        def begin(job: Job[Shown]) -> Drawn:
            if view is None:
                raise DataError(NO_MAP)
            return refit_map(self._page.load, view, model_id, read_layout(*controls), job)

        async for update in self._follow(request, begin, "refit", view):
            yield update

    async def _follow(
        self,
        request: gr.Request,
        begin: Begin,
        change: Change | None,
        before: MapView | None,
        told: str = "",
        message: str = "",
    ) -> Updates:
        """Draw, then find out the rest; Stop keeps what is there.

        Where nothing is drawn after all, what was being found out of the map before goes on: that is begun with no
        `change`, because the page shows the map already, and with what was `told` until then.
        """
        shown, is_drawn = before, change is None
        step: Shown | None
        ended: tuple[str, str, str] | None = None
        doing = told or "Getting the model ready"
        yield {self.progress: progress_value("busy", doing, message=message, view=before)}
        async for state in self._runs.follow(request, partial(draw_and_find_out, self._page.load, begin)):
            match state:
                case Progress(update, seconds):
                    step = update
                case Done((drawn, view), seconds):
                    step = Shown("", None, drawn, view)
                case Halted():
                    step, ended = None, ("stopped", f"{told} · stopped" if told else NOTHING_CHANGED, message)
                case Failed(sentence):
                    step, ended = None, ("failed", "", sentence)
            if step is None:
                continue
            updates: dict[Any, Any] = {}
            if step.drawn is not None and change is not None and not is_drawn:
                is_drawn = True
                told = f"{step.drawn.told} · {seconds:.1f} s"
                updates = self._show(step.drawn, change, before)
            if step.view is not None:
                shown = step.view
                self._shelf.put(shown)
                updates[self.view] = shown
            if isinstance(state, Done):
                updates |= self._rest(shown, "done", told, message)
            else:
                doing = " · ".join(part for part in (told, step.doing) if part)
                updates[self.progress] = progress_value("busy", doing, step.fraction, message, view=shown)
            yield updates
        if ended is None:  # it is done, or a newer run took its place
            return
        phase, told, message = ended
        # The newest state of the map: the run that found things out until now may have told more since.
        left = None if before is None or is_drawn else self._shelf.get(before.map_id) or before
        if left is None or not left.working:
            yield self._rest(shown, phase, told, message)
            return
        begin = partial(take_up, self._page.load, left)
        async for updates in self._follow(request, begin, None, left, "Nothing was changed", message):
            yield updates

    def _show(self, drawn: Drawn, change: Change, before: MapView | None) -> dict[Any, Any]:
        """A map that was just drawn."""
        self._shelf.put(drawn.view)
        return {
            self.map: map_value(drawn.view, change, before),
            self.view: drawn.view,
            self.refit: gr.update(interactive=True),
            self.intake: intake_value(adding=True),
            self._page.status: status_value(drawn.captioner.status()),
        }

    def _rest(self, view: MapView | None, phase: str, doing: str = "", message: str = "") -> dict[Any, Any]:
        """Nothing more is done for the map, if there is one."""
        updates: dict[Any, Any] = {self.progress: progress_value(phase, doing, message=message, view=view)}
        if view is not None:
            rested = replace(view, working=False)
            self._shelf.put(rested)
            updates[self.view] = rested
        return updates

    def _describe_folder(self, request: gr.Request, view: MapView | None) -> dict[str, Any]:
        """Say whether a folder of this machine can be named."""
        return intake_value(adding=view is not None, may_read_folders=may_read_folders(request))

    # ---- pictures go out ----

    def _open_point(self, event: gr.EventData, view: MapView | None) -> Any:
        """A picture of the map in another tab: it becomes the picture in hand."""
        place, tab = getattr(event, "index", None), getattr(event, "tab", None)
        if view is None or not isinstance(place, int) or not 0 <= place < len(view.images):
            return gr.skip()
        path = save_file_to_cache(view.images[place].path, self.map.GRADIO_CACHE)
        selected = "attention" if tab == "attention" else "caption"
        return {self._page.picture: str(path), self._page.tabs: gr.update(selected=selected)}

    def _make_file(
        self, _: gr.Request, event: gr.EventData, job: Job[SaveStep], view: MapView | None
    ) -> tuple[str, bytes]:
        """Make the map, or some of it, a file."""
        if view is None:
            raise DataError(NO_MAP)
        return make_file(view, getattr(event, "kind", None), getattr(event, "indices", None), self._thumbnails, job)


def intake_value(adding: bool = False, may_read_folders: bool | None = None) -> dict[str, Any]:
    """What the drop zone says; `adding` where a map is there already.

    `may_read_folders` says whether a folder of this machine can be named; `None` leaves that as it was.
    """
    most = get_settings().map_images
    return {
        "serial": next_serial(),
        "kinds": f"Up to {most:,} pictures. A table names them, with a label each; a clip gives its frames.",
        "most": most,
        "samples": [[known.name, known.title] for known in SAMPLE_SETS],
        "adding": adding,
        "folders": may_read_folders,
    }


def make_layout_controls() -> list[gr.components.Component]:
    """Method, neighbours, distance and seed, in the order that `read_layout` takes them."""
    known = {parameter.name: parameter for parameter in parameters(MapOptions)}
    with gr.Row():
        method = make_control(known["method"], elem_id="cs-map-method")
        seed = make_control(known["seed"])
    with gr.Row():
        neighbours, distance = make_control(known["n_neighbors"]), make_control(known["min_dist"])
    return [method, seed, neighbours, distance]


def read_layout(method: Any, seed: Any, neighbours: Any, distance: Any) -> MapOptions:
    """The controls' values as options. Raises `OptionsError` where one is missing or out of range."""
    try:
        return MapOptions(
            n_neighbors=int(neighbours),
            min_dist=float(distance),
            seed=int(seed or 0),
            method=str(method),  # type: ignore[arg-type]
        )
    except (TypeError, ValueError) as error:
        raise OptionsError("n_neighbors, min_dist and seed must be numbers.") from error
