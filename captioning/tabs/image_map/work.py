"""The work behind the map, in threads of its own: what is asked for becomes steps that the page can show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from captioning.core.cancellation import Job
from captioning.core.errors import DataError
from captioning.image_map import MapOptions, session
from captioning.image_map.session import MapProgress, count_pictures, explain_unusable
from captioning.media.clip_frames import OnStep
from captioning.media.scratch import Scratch
from captioning.serving.loading import LoadCaptioner, name_in_use
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.tabs.image_map.intake import Source, gather
from captioning.tabs.image_map.view import MapView, new_map_id

_WORDS = {
    "encoding": "Looking at {number} of {total}: {name}",
    "laying out": "Laying out {name}",
    "placing": "Placing them among those most like them",
    "measuring": "Measuring how far the map can be believed",
    "captioning": "Captioning {number} of {total}",
}
"""What the page says of each step."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A map that is ready to be shown, a sentence on what came out, and the captioner that was asked."""

    view: MapView
    told: str
    captioner: SharedCaptioner


@dataclass(frozen=True, slots=True)
class Shown:
    """What is being done, and how far it is: a share of 1, or `None` where that cannot be told.

    `drawn` is the map once there is one, and `view` the same map with all that is known of it by now.
    """

    doing: str
    fraction: float | None = None
    drawn: Drawn | None = None
    view: MapView | None = None


Begin = Callable[[Job[Shown]], Drawn]


def draw_and_find_out(load: LoadCaptioner, begin: Begin, job: Job[Shown]) -> tuple[Drawn, MapView]:
    """Begin with a map's points, and go on to what can be said of them."""
    drawn = begin(job)
    return drawn, find_out(load, drawn, job)


def draw(load: LoadCaptioner, source: Source, model_id: str, options: MapOptions, cache: str, job: Job[Shown]) -> Drawn:
    """A new map of a source's pictures. Raises `DataError` where it holds none that can be used."""
    captioner, scratch = load(model_id, report=lambda _: job.check()), Scratch(cache)
    collection = gather(source, scratch, _reader(job))
    if not collection.images:
        raise DataError(explain_unusable(collection.failed, collection.others))
    made = session.lay_out_collection(captioner, collection, options, lambda step: job.show(_shown(step)))
    view = MapView(
        **vars(made),
        model_id=name_in_use(model_id, captioner.spec),
        title=captioner.spec.title,
        revision=captioner.spec.revision,
        scratches=(scratch,),
    )
    return Drawn(view, f"{count_pictures(len(view.images))} on the map, by {view.title}", captioner)


def add(load: LoadCaptioner, source: Source, before: MapView, cache: str, job: Job[Shown]) -> Drawn:
    """More pictures on a map, each among those most like it; those before stay where they are."""
    captioner, scratch = load(before.model_id, report=lambda _: job.check()), Scratch(cache)
    collection = gather(source, scratch, _reader(job))
    grown = session.add_pictures(captioner, before, collection, lambda step: job.show(_shown(step)))
    view = replace(grown, map_id=new_map_id(), working=True, scratches=(*before.scratches, scratch))
    told = f"{count_pictures(len(view.images) - len(before.images))} added; the others stayed where they were"
    return Drawn(view, told, captioner)


def refit_map(load: LoadCaptioner, before: MapView, model_id: str, options: MapOptions, job: Job[Shown]) -> Drawn:
    """All pictures laid out anew and turned to lie as before as far as they can, by the model now in use."""
    captioner = load(model_id, report=lambda _: job.check())
    title, revision = captioner.spec.title, captioner.spec.revision
    tell: session.OnMapProgress = lambda step: job.show(_shown(step))  # noqa: E731
    fresh = session.refit_map(captioner, before, options, title == before.title, tell)
    view = replace(fresh, map_id=new_map_id(), model_id=model_id, title=title, revision=revision, working=True)
    drift = view.projection.drift
    moved = "" if drift is None else f"; they moved by {drift:.0%} of the map on average"
    return Drawn(view, f"{count_pictures(len(view.images))} laid out anew, by {title}{moved}", captioner)


def take_up(load: LoadCaptioner, before: MapView, job: Job[Shown]) -> Drawn:
    """A map that was drawn before, of which not everything is found out yet."""
    return Drawn(before, "", load(before.model_id, report=lambda _: job.check()))


def find_out(load: LoadCaptioner, drawn: Drawn, job: Job[Shown], captions: bool = True) -> MapView:
    """What is not needed to draw a map: how far it can be believed and, unless not wanted, captions and names."""
    captioner = load(drawn.view.model_id, report=lambda _: job.check())
    known = drawn.view

    def on_map(view: MapView) -> None:
        nonlocal known
        known = view

    def tell(step: MapProgress) -> None:
        if step.doing == "captioning" and not step.total:
            job.check()
        else:
            job.show(replace(_shown(step), drawn=drawn, view=known))

    return replace(session.annotate_map(captioner, known, tell, on_map, captions), working=False)


def _shown(step: MapProgress) -> Shown:
    words = _WORDS[step.doing].format(number=min(step.done + 1, step.total), total=step.total, name=step.name)
    return Shown(words, step.done / step.total if step.total else None)


def _reader(job: Job[Shown]) -> OnStep:
    def tell(done: int, total: int, name: str) -> None:
        if total:
            job.show(Shown(f"Reading {min(done + 1, total)} of {total}: {name}", done / total))
        else:
            job.show(Shown(f"Reading {name}"))

    return tell
