"""One model menu for all tabs, and the notice below it: what the model is good for, loading, and failures.

A new model is fetched and loaded in the background. The model in use goes on answering until the new one is
ready, and stays where that fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from captioning.core.cancellation import Job
from captioning.core.errors import CaptioningError, UnknownModelError
from captioning.core.settings import get_settings
from captioning.core.types import ModelSpec
from captioning.models import get_spec, list_models, title_of
from captioning.serving.loading import OFFERED_MODEL, LoadCaptioner, name_in_use
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.ui.page import Page
from captioning.ui.parts import make_part, next_serial
from captioning.ui.status import failed_value, make_status_line, status_value, waiting_value
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs
from captioning.web.login import check_login
from captioning.web.visitor import invites_names, offered_models

if TYPE_CHECKING:
    from captioning.models.sources.hub import DownloadProgress

_EMBEDDED = "embedded"


class Header:
    """Name, model menu, status line and notice at the top of the page, and what they do."""

    def __init__(self, load: LoadCaptioner, first_model: str) -> None:
        """Draw the header where the page is being built; `page.tabs` is to be drawn below it."""
        self._load = load
        self._first_model = first_model
        self._openings, self._choices = Runs(), Runs()
        self._unopened: set[str] = set()
        """Sessions whose first model is not there yet, nor any other."""
        model_id, picture = gr.State(first_model), gr.State(None)
        with gr.Row(elem_id="cs-header", equal_height=False):
            gr.HTML("<h1>Captionscope</h1>", elem_id="cs-name", apply_default_css=False)
            self.menu = gr.Dropdown(
                menu_choices(),
                value=None,
                label="Model",
                show_label=False,
                container=False,
                allow_custom_value=True,
                elem_id="cs-model",
                min_width=220,
            )
            status = make_status_line()
            make_part("common/present", {"tabs": "cs-tabs"}, "cs-present")
            if check_login(get_settings()):
                look: dict[str, Any] = {
                    "variant": "secondary",
                    "icon": None,
                    "size": "sm",
                    "scale": 0,
                    "min_width": 120,
                }
                gr.LoginButton(logout_value="Sign out ({})", elem_id="cs-login", **look)
        self.notice = make_part("common/model_notice", _notice_value(), "cs-notice")
        tabs = gr.Tabs(elem_id="cs-tabs", render=False)
        self.page = Page(load, model_id, picture, status, carried=gr.State(None), link=gr.State(None), tabs=tabs)

    def connect(self, demo: gr.Blocks) -> None:
        """Hang the handlers on the menu, the notice and the opening of the page."""
        page = self.page
        outputs = [page.model_id, self.menu, page.status, self.notice]
        options = Page.event(trigger_mode="multiple", concurrency_limit=None)
        demo.load(self._open_page, None, outputs, **options)
        self.menu.input(self._choose, [self.menu, page.model_id], outputs, **options)
        self.notice.offer_taken(self._take_offer, page.model_id, outputs, **options)
        self.notice.loading_cancelled(self._choices.stop, None, None, **Page.event(queue=False))

    async def _open_page(self, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Show the first model as soon as it is ready; the page itself is there already."""
        session = request.session_hash or ""
        self._unopened.add(session)
        try:
            async for update in self._open(request):
                yield update
        except GeneratorExit:  # the page was left
            self._unopened.discard(session)
            raise

    async def _open(self, request: gr.Request, told: str = "") -> AsyncIterator[dict[Any, Any]]:
        """Get the first model ready and switch to it; what was `told` before goes on being told."""
        async for state in self._openings.follow(request, partial(self._load_model, self._first_model)):
            match state:
                case Progress(_, seconds):
                    yield {self.page.status: waiting_value(f"getting the model ready… {seconds:.0f} s")}
                case Done(captioner):
                    self._unopened.discard(request.session_hash or "")
                    yield self._switched(captioner, self._first_model, told)
                case Halted():
                    self._unopened.discard(request.session_hash or "")
                case Failed(sentence):
                    self._unopened.discard(request.session_hash or "")
                    yield {self.page.status: failed_value(), self.notice: _notice_value(error=sentence)}

    async def _choose(self, wanted: str | None, current: str, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Load the wanted model and switch to it; on failure say why and stay, or go on to the first model."""
        wanted = (wanted or "").strip()
        self._openings.supersede(request)

        def work(job: Job[DownloadProgress]) -> SharedCaptioner:
            if not wanted:
                typed = ", or type a folder or a hub name" if invites_names() else ""
                raise UnknownModelError(f"Choose a model from the menu{typed}.")
            return self._load_model(wanted, job)

        async for state in self._choices.follow(request, work):
            match state:
                case Progress():
                    yield {self.notice: _loading_value(wanted, state)}
                case Done(captioner):
                    self._unopened.discard(request.session_hash or "")
                    yield self._switched(captioner, wanted)
                case Halted() | Failed():
                    sentence = state.sentence if isinstance(state, Failed) else ""
                    yield {
                        self.menu: gr.update(value=_menu_value(current)),
                        self.notice: self._notice_for(current, error=sentence),
                    }
                    if (request.session_hash or "") in self._unopened:
                        async for update in self._open(request, sentence):
                            yield update

    async def _take_offer(self, current: str, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        async for update in self._choose(OFFERED_MODEL, current, request):
            yield update

    def _load_model(self, model_id: str, job: Job[DownloadProgress]) -> SharedCaptioner:
        return self._load(model_id, report=job.show)

    def _switched(self, captioner: SharedCaptioner, asked: str, told: str = "") -> dict[Any, Any]:
        model_id = name_in_use(asked, captioner.spec)
        choices = menu_choices(model_id, captioner.spec)
        return {
            self.page.model_id: model_id,
            self.menu: gr.update(value=model_id, choices=choices),
            self.page.status: status_value(captioner.status()),
            self.notice: self._notice_for(model_id, error=told),
        }

    def _notice_for(self, model_id: str, error: str = "") -> dict[str, Any]:
        if model_id != _EMBEDDED:
            return _notice_value(error=error)
        try:
            offer = _offer() if OFFERED_MODEL in offered_models() else None
            return _notice_value(get_spec(_EMBEDDED).summary, offer, error=error)
        except CaptioningError:
            return _notice_value(error=error)


def menu_choices(model_id: str = "", spec: ModelSpec | None = None) -> list[tuple[str, str]]:
    """Labels and names of the models that one may choose, and of the one in use where it is not among them."""
    labels = {known.model_id: _label(known) for known in list_models()}
    choices = [(labels.get(name, name), name) for name in offered_models()]
    if spec is not None and model_id not in {name for _, name in choices}:
        choices.append((spec.title, model_id))
    return choices


def _menu_value(model_id: str) -> str | None:
    return None if model_id == "auto" else model_id


def _label(spec: ModelSpec) -> str:
    return f"{spec.title} · {_size(spec)}" if spec.download_bytes else spec.title


def _size(spec: ModelSpec) -> str:
    return (
        f"{spec.download_bytes / 1e6:,.0f} MB" if spec.download_bytes < 1e9 else f"{spec.download_bytes / 1e9:.2f} GB"
    )


def _offer() -> dict[str, str]:
    spec = get_spec(OFFERED_MODEL)
    return {"label": f"Load {spec.title} ({_size(spec)})", "model": spec.title}


def _notice_value(
    text: str = "", offer: dict[str, str] | None = None, progress: dict[str, Any] | None = None, error: str = ""
) -> dict[str, Any]:
    return {"serial": next_serial(), "text": text, "offer": offer, "progress": progress, "error": error}


def _loading_value(model_id: str, event: Progress[DownloadProgress]) -> dict[str, Any]:
    """What the notice shows while a model comes; without news of the download, how long it took so far."""
    name = title_of(model_id)
    text = f"Loading {name}… {event.seconds:.0f} s"
    fraction = None
    if event.update is not None and event.update.total_bytes > 0:
        done, total = event.update.done_bytes, event.update.total_bytes
        fraction = min(1.0, done / total)
        text = f"Downloading {name}… {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        if done >= total:
            text = f"Loading {name}…"
    return _notice_value(progress={"text": text, "fraction": fraction})
