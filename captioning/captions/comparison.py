"""Several models on one picture and one set of prompts, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from captioning.core.cancellation import Job
from captioning.core.errors import OptionsError, Stopped
from captioning.core.messages import explain
from captioning.core.types import Caption, CaptionerStatus, DecodingOptions, Picture
from captioning.media.images import open_image
from captioning.models import title_of
from captioning.serving.loading import LoadCaptioner

if TYPE_CHECKING:
    from captioning.models.sources.hub import DownloadProgress

FEWEST_MODELS, MOST_MODELS = 2, 4
State = Literal["waiting", "working", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Column:
    """One model of the table. `captions` has one a prompt, or a single one where the model takes no prompt."""

    model_id: str
    title: str
    state: State = "waiting"
    takes_prompts: bool = True
    captions: Sequence[Caption] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The columns of a comparison so far, and what is being done."""

    doing: str
    picture: str = ""
    prompts: Sequence[str] = ()
    columns: Sequence[Column] = ()


def read_models(value: object) -> list[str]:
    """Return the chosen models, each once. Raises `OptionsError` for too few or too many."""
    names = [str(name).strip() for name in value] if isinstance(value, list) else []
    models = list(dict.fromkeys(name for name in names if name))
    if not FEWEST_MODELS <= len(models) <= MOST_MODELS:
        raise OptionsError(
            f"A comparison takes {FEWEST_MODELS} to {MOST_MODELS} models, not {len(models)}; choose them in the list."
        )
    return models


def compare_models(
    load: LoadCaptioner,
    path: str,
    model_in_use: str,
    models: Sequence[str],
    prompts: Sequence[str],
    options: DecodingOptions,
    job: Job[Comparison],
) -> tuple[Comparison, CaptionerStatus]:
    """Captions by one model after the other, and the status of the model in use; runs in a worker.

    A model that fails says why in its column, and the others go on. None is held longer than its turn, so that
    models which do not fit in memory together can follow each other.
    """
    picture = open_image(path)
    status = load(model_in_use, report=lambda _: job.check()).status()
    state = Comparison("", picture.name, prompts, [Column(name, title_of(name)) for name in models])
    left: list[str] = []
    for number in range(len(models)):
        turn = _Turn(load, state, number, job)
        try:
            memory = turn.run(picture, prompts, options)
            left += [title for title in memory.models_left if title not in left]
            status = replace(status, models_in_memory=memory.models_in_memory, model_bytes=memory.model_bytes)
        except Stopped:
            raise
        except Exception as error:
            turn.show("", state="failed", error=explain(error))
        state = turn.state
    return replace(state, doing=""), replace(status, models_left=tuple(left))


class _Turn:
    """One model's turn: it shows itself in its column."""

    def __init__(self, load: LoadCaptioner, state: Comparison, number: int, job: Job[Comparison]) -> None:
        self.state = state
        self._load = load
        self._number = number
        self._job = job

    def run(self, picture: Picture, prompts: Sequence[str], options: DecodingOptions) -> CaptionerStatus:
        """Load the model and write its captions; its status afterwards."""
        column = self.state.columns[self._number]
        self.show(f"Getting {column.title} ready", state="working")
        captioner = self._load(column.model_id, report=self._report)
        title = captioner.spec.title
        takes_prompts = captioner.spec.capabilities.supports_prompt
        self.show(f"{title} looks at the picture", title=title, takes_prompts=takes_prompts)
        (features,) = captioner.encode([picture])

        def on_token(captions: Sequence[Caption]) -> None:
            self.show(f"{title} writes", captions=captions)

        captions = captioner.decode(features, prompts if takes_prompts else [""], options, on_token)
        self.show("", state="done", captions=captions)
        return captioner.status()

    def show(self, doing: str, **changes: Any) -> None:
        """Change the column and tell the page."""
        columns = list(self.state.columns)
        columns[self._number] = replace(columns[self._number], **changes)
        self.state = replace(self.state, doing=doing, columns=columns)
        self._job.show(self.state)

    def _report(self, progress: DownloadProgress) -> None:
        title = self.state.columns[self._number].title
        done, total = progress.done_bytes, progress.total_bytes
        self.show(f"Downloading {title}, {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
