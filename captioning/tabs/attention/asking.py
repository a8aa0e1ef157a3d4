"""Asking again: the same prompt on the picture as a word's map changes it, and both captions beside each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import save_bytes_to_cache

from captioning.attention.drawing import hide_hottest, weight_picture
from captioning.attention.page_value import picture_file, share_maps
from captioning.core.cancellation import Job
from captioning.core.errors import OptionsError, PromptError
from captioning.core.types import Picture
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.attention.findings import Findings
from captioning.tabs.attention.looking import Seen, Sight, Step, heat_of, look_again, read_view
from captioning.ui.clip_parts import PanelState
from captioning.ui.page import Page
from captioning.ui.parts import make_part
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs

_ABOUT = (
    "The model writes another caption, with the same prompt, of the picture as the map of the word in view changes it."
)
_MOST_RESULTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """A changed picture, how it was changed, and the captions before and after."""

    picture: Picture
    how: str
    before: str
    after: str


class AgainPanel:
    """The panel and what it does."""

    def __init__(self, page: Page, seen: gr.State, findings: Findings) -> None:
        self._page, self._seen, self._findings = page, seen, findings
        self._runs = Runs()
        self._results = gr.State([])
        self.part = make_part("attention/ask_again", self.idle_value(), "cs-again")

    def connect(self) -> None:
        """Hang the handlers on the panel's own events."""
        page = self._page
        self.part.again_wanted(self._ask, [self._seen, self._results], [self.part, self._results], **page.model_event())
        self.part.panel_stopped(self._runs.stop, None, None, **page.event(queue=False))

    def idle_value(self) -> dict[str, Any]:
        """The panel where there is no caption."""
        return again_value(PanelState())

    def ready_value(self, sight: Sight) -> dict[str, Any]:
        """The panel where a caption is looked at."""
        return again_value(PanelState(ready=True))

    def supersede(self, request: gr.Request) -> None:
        """End what runs, silently."""
        self._runs.supersede(request)

    async def _ask(
        self, request: gr.Request, event: gr.EventData, seen: Seen | None, results: list[dict[str, Any]]
    ) -> AsyncIterator[dict[Any, Any]]:
        """Change the picture, caption it, and put the newest result first."""
        how, share, view = (getattr(event, name, None) for name in ("how", "share", "view"))
        kept = [result for result in results if seen is not None and result["look"] == seen.look_id]

        def work(job: Job[Step]) -> dict[str, Any]:
            if seen is None:
                raise PromptError("There is no caption yet; look at a picture first.")
            return self._ask_once(self._findings.known(request, seen), str(how), share, view, job)

        async for state in self._runs.follow(request, work):
            match state:
                case Progress(step):
                    doing = step.doing if step else "Looking again"
                    yield {self.part: again_value(PanelState("busy", ready=True, doing=f"{doing}…"), kept)}
                case Done(result):
                    kept = [result, *kept][:_MOST_RESULTS]
                    yield {self.part: again_value(PanelState("done", ready=True), kept), self._results: kept}
                case Halted():
                    yield {self.part: again_value(PanelState("stopped", ready=True), kept)}
                case Failed(sentence):
                    panel = PanelState("failed", ready=seen is not None, message=sentence)
                    yield {self.part: again_value(panel, kept)}

    def _ask_once(self, seen: Seen, how: str, share: Any, view: Any, job: Job[Step]) -> dict[str, Any]:
        """A result with its picture as a file that the page may fetch; runs in a worker."""
        again = ask_again(self._page.load, seen, how, share, view, job)
        path = save_bytes_to_cache(picture_file(again.picture), "asked-again.jpg", self.part.GRADIO_CACHE)
        return {
            "look": seen.look_id,
            "picture": FileData(path=path).model_dump(),
            "how": again.how,
            "before": again.before,
            "after": again.after,
        }


def ask_again(load: LoadCaptioner, seen: Seen, how: str, share: Any, view: Any, job: Job[Step]) -> Again:
    """Caption the picture weighted by the map in view, or with the hottest `share` of its patches hidden.

    Raises `OptionsError` for what the page would not send.
    """
    if how not in ("weighted", "hidden"):
        raise OptionsError("Choose whether the picture is weighted by the map or its hottest patches are hidden.")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise OptionsError("The share of patches to hide must lie between 0 and 1.")
    sight = look_again(load, seen, lambda _: job.check())
    chosen, positions, _ = read_view(view, sight.trace, sight.spec)
    heat = heat_of(sight, seen, chosen, positions, job.show)
    word = "".join(seen.caption.tokens[at] for at in positions).strip()
    if how == "weighted":
        changed = weight_picture(sight.picture, share_maps(heat), sight.trace.layout)
        told = f"weighted by the map of “{word}”"
    else:
        changed = hide_hottest(sight.picture, heat, sight.trace.layout, float(share))
        told = f"the hottest {share:.0%} of the patches for “{word}” hidden"
    job.show(Step("Looking at the changed picture"))
    captioner, caption = sight.captioner, seen.caption
    (features,) = captioner.encode([changed])
    job.show(Step("Writing again"))
    prompt = caption.prompt if captioner.spec.capabilities.supports_prompt else ""
    options = replace(caption.options, num_captions=1)
    (after,) = captioner.decode(features, [prompt], options, lambda _: job.check())[:1]
    return Again(changed, told, caption.text, after.text)


def again_value(state: PanelState, results: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What `assets/attention/ask_again.js` draws."""
    return state.as_value("", _ABOUT) | {"results": results or []}
