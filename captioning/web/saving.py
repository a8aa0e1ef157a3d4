"""Files to take along: a part that makes what its page shows at the click into a file, and hands it to the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import save_bytes_to_cache

from captioning.core.cancellation import Job
from captioning.core.formats import Format, describe_formats
from captioning.ui.page import Page
from captioning.ui.parts import make_part, next_serial
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs


@dataclass(frozen=True, slots=True)
class SaveStep:
    """The work on a file at the moment, and the share that is done; `None` where that is unknown."""

    doing: str = "Making the file"
    fraction: float | None = None


MakeFile = Callable[..., tuple[str, bytes]]
"""Takes the request, the event, a `Job[SaveStep]` and the values of the inputs; returns the file's name and content."""


class Saving:
    """A button for each of `formats`, if any; how far the file is, with Stop; and the file, saved once it is made.

    A tab whose own part has the buttons gives no formats, and names the listener in `connect`.
    """

    def __init__(self, elem_id: str, make_file: MakeFile, formats: Sequence[Format[Any]] = ()) -> None:
        self.runs = Runs()
        self._make_file = make_file
        self._formats = formats
        self.part = make_part("common/saving", self._value("idle"), elem_id)

    def connect(self, page: Page, inputs: Sequence[Any], listener: Callable[..., Any] | None = None) -> None:
        """Hang the handlers on the part, or on another part's listener for a file that is wanted."""
        (listener or self.part.file_wanted)(self.save, inputs, self.part, **page.work_event())
        self.part.stop_wanted(self.runs.stop, None, None, **page.event(queue=False))

    async def save(self, request: gr.Request, event: gr.EventData, *values: Any) -> AsyncIterator[Any]:
        """Make the file in a worker, and show how far it is."""

        def work(job: Job[SaveStep]) -> tuple[str, str]:
            name, content = self._make_file(request, event, job, *values)
            job.check()
            return name, str(save_bytes_to_cache(content, name, self.part.GRADIO_CACHE))

        yield {self.part: self._value("busy", SaveStep())}
        async for state in self.runs.follow(request, work):
            match state:
                case Progress(step):
                    yield {self.part: self._value("busy", step or SaveStep())}
                case Done((name, path)):
                    yield {self.part: self._value("done", SaveStep(f"Saved {name}"), name=name, path=path)}
                case Halted():
                    yield {self.part: self._value("stopped", SaveStep("Stopped; no file was made."))}
                case Failed(sentence):
                    yield {self.part: self._value("failed", message=sentence)}

    def _value(
        self, phase: str, step: SaveStep | None = None, *, name: str = "", path: str = "", message: str = ""
    ) -> dict[str, Any]:
        """Return what `assets/common/saving.js` shows; it saves the file where there is a `path`."""
        return {
            "serial": next_serial(),
            "formats": describe_formats(self._formats),
            "phase": phase,
            "doing": step.doing if step else "",
            "fraction": step.fraction if step else None,
            "message": message,
            "file": FileData(path=path, orig_name=name).model_dump() if path else None,
            "name": name,
        }
