"""The work behind the map, in threads of its own: features, positions, and what is found out afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from captioning.core.cancellation import Job
from captioning.core.contract import Captioner
from captioning.core.errors import CaptioningError, DataError, Stopped
from captioning.core.settings import get_settings
from captioning.core.types import DecodingOptions
from captioning.image_map import Embedded, MapOptions, clusters, embed, name_clusters, place, project, quality, refit
from captioning.image_map.page_value import K
from captioning.media.collection import FailedImage, NamedImage
from captioning.media.images import open_image
from captioning.serving.cache import SharedCaptioner
from captioning.serving.loading import LoadCaptioner, name_in_use
from captioning.tabs.image_map.clips import OnStep
from captioning.tabs.image_map.intake import Source, gather
from captioning.tabs.image_map.view import MapView, Scratch, new_map_id

_TELL_SECONDS = 0.5
"""How often captions written so far are told."""
_NAME_EVERY = 25
"""After how many captions clusters are named anew."""
_CROWDED = "More pictures came than there were: Refit, under Layout, lays all of them out anew."


@dataclass(frozen=True, slots=True)
class Drawn:
    """A map that is ready to be shown, a sentence on what came out, and the captioner that was asked."""

    view: MapView
    told: str
    captioner: SharedCaptioner


@dataclass(frozen=True, slots=True)
class MapStep:
    """What is being done, and how far it is: a share of 1, or `None` where that cannot be told.

    `drawn` is the map once there is one, and `view` the same map with all that is known of it by now.
    """

    doing: str
    fraction: float | None = None
    drawn: Drawn | None = None
    view: MapView | None = None


Begin = Callable[[Job[MapStep]], Drawn]


def draw_and_find_out(load: LoadCaptioner, begin: Begin, job: Job[MapStep]) -> tuple[Drawn, MapView]:
    """Begin with a map's points, and go on to what can be said of them."""
    drawn = begin(job)
    return drawn, find_out(load, drawn, job)


def draw(
    load: LoadCaptioner, source: Source, model_id: str, options: MapOptions, cache: str, job: Job[MapStep]
) -> Drawn:
    """A new map of a source's pictures. Raises `DataError` where it holds none that can be used."""
    captioner, scratch = load(model_id, report=lambda _: job.check()), Scratch(cache)
    collection = gather(source, scratch, _teller(job, "Reading"))
    if not collection.images:
        raise DataError(_nothing_usable(collection.failed))
    embedded = embed_images(captioner, collection.images, job)
    failed = (*collection.failed, *embedded.failed)
    images = tuple(collection.images[number] for number in embedded.kept)
    if not images:
        raise DataError(_nothing_usable(failed))
    projection = project(embedded.embeds, options, _layer(job, len(images)))
    view = MapView(
        model_id=name_in_use(model_id, captioner.spec),
        title=captioner.spec.title,
        images=images,
        embeds=embedded.embeds,
        image_ids=tuple(embedded.image_ids),
        options=options,
        projection=projection,
        clusters=find_clusters(projection.positions),
        failed=failed,
        scratches=(scratch,),
    )
    return Drawn(view, f"{_pictures(len(images))} on the map, by {view.title}", captioner)


def add(load: LoadCaptioner, source: Source, before: MapView, cache: str, job: Job[MapStep]) -> Drawn:
    """More pictures on a map, each among those most like it; those before stay where they are."""
    captioner, scratch = load(before.model_id, report=lambda _: job.check()), Scratch(cache)
    collection = gather(source, scratch, _teller(job, "Reading"))
    room = get_settings().map_images - len(before.images)
    if len(collection.images) > room:
        raise DataError(f"This map has room for {_pictures(room)} more; add fewer, or draw a new one.")
    if not collection.images:
        raise DataError(_nothing_usable(collection.failed))
    embedded = embed_images(captioner, collection.images, job)
    fresh = tuple(collection.images[number] for number in embedded.kept)
    failed = (*collection.failed, *embedded.failed)
    if not fresh:
        raise DataError(_nothing_usable(failed))
    job.show(MapStep("Placing them among those most like them"))
    new_positions = place(before.embeds, before.positions, embedded.embeds).astype(before.positions.dtype)
    positions = np.concatenate((before.positions, new_positions))
    whole = _join(before, embedded, fresh)
    # Many among few lie where they find place, and what was noted of the few is no longer so.
    note = _CROWDED if len(fresh) > len(before.images) else before.projection.note
    view = replace(
        whole,
        projection=replace(before.projection, positions=positions, note=note),
        clusters=find_clusters(positions),
        failed=failed,
        scratches=(*before.scratches, scratch),
    )
    return Drawn(view, f"{_pictures(len(fresh))} added; the others stayed where they were", captioner)


def refit_map(load: LoadCaptioner, before: MapView, model_id: str, options: MapOptions, job: Job[MapStep]) -> Drawn:
    """All pictures laid out anew and turned to lie as before as far as they can, by the model now in use."""
    captioner = load(model_id, report=lambda _: job.check())
    embedded = embed_images(captioner, before.images, job)
    kept = list(embedded.kept)
    if not kept:
        raise DataError(_nothing_usable(tuple(embedded.failed)))
    projection = refit(embedded.embeds, before.positions[kept], options, _layer(job, len(kept)))
    same_model = captioner.spec.title == before.title
    captions = before.captions if same_model and len(kept) == len(before.images) else ()
    view = replace(
        before,
        map_id=new_map_id(),
        model_id=model_id,
        title=captioner.spec.title,
        images=tuple(before.images[number] for number in kept),
        embeds=embedded.embeds,
        image_ids=tuple(embedded.image_ids),
        options=options,
        projection=projection,
        clusters=find_clusters(projection.positions),
        failed=tuple(embedded.failed),
        captions=captions,
        cluster_names=(),
        quality=None,
        working=True,
    )
    moved = "" if projection.drift is None else f"; they moved by {projection.drift:.0%} of the map on average"
    return Drawn(view, f"{_pictures(len(kept))} laid out anew, by {view.title}{moved}", captioner)


def take_up(load: LoadCaptioner, before: MapView, job: Job[MapStep]) -> Drawn:
    """A map that was drawn before, of which not everything is found out yet."""
    return Drawn(before, "", load(before.model_id, report=lambda _: job.check()))


def find_out(load: LoadCaptioner, drawn: Drawn, job: Job[MapStep], captions: bool = True) -> MapView:
    """What is not needed to draw a map: how far it can be believed and, unless not wanted, captions and names."""
    view = drawn.view
    captioner = load(view.model_id, report=lambda _: job.check())
    job.show(MapStep("Measuring how far the map can be believed", None, drawn, view))
    if view.quality is None:
        view = replace(view, quality=quality(view.embeds, view.positions, view.labels, K))
    if not captions:
        return replace(view, working=False)
    written, told, count = list(view.captions), 0.0, len(view.images)
    for number in range(len(written), count):
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            view = _with_captions(view, written)
            job.show(MapStep(f"Captioning {number + 1} of {count}", number / count, drawn, view))
        job.check()
        written.append(caption_of(captioner, view.images[number], job))
    return replace(_with_captions(view, written, name=True), working=False)


def caption_of(captioner: Captioner, image: NamedImage, job: Job[MapStep]) -> str:
    """A caption with no prompt, or nothing where the picture cannot be read any more."""
    try:
        (features,) = captioner.encode([open_image(image.path, image.name)])
        return captioner.decode(features, [""], DecodingOptions(), lambda _: job.check())[0].text
    except Stopped:
        raise
    except CaptioningError:
        return ""


def _with_captions(view: MapView, captions: list[str], name: bool = False) -> MapView:
    """The map with the captions written so far; clusters are named now and then, and at the end."""
    due = name or len(captions) // _NAME_EVERY > len(view.captions) // _NAME_EVERY
    names = name_view(view, captions) if due and captions else view.cluster_names
    return replace(view, captions=tuple(captions), cluster_names=names)


def name_view(view: MapView, captions: list[str]) -> tuple[str, ...]:
    """Names of the map's clusters by the words of the captions that there are."""
    return name_clusters([*captions, *[""] * (len(view.images) - len(captions))], np.array(view.clusters))


def embed_images(captioner: Captioner, images: tuple[NamedImage, ...], job: Job[MapStep]) -> Embedded:
    """Features of pictures, told one by one; those that cannot be read are left out and named."""
    return embed(captioner, images, on_image=_teller(job, "Looking at"))


def find_clusters(positions: NDArray[np.float32]) -> tuple[int, ...]:
    """The cluster of each picture, -1 outside all."""
    return tuple(int(number) for number in clusters(positions))


def _join(before: MapView, embedded: Embedded, fresh: tuple[NamedImage, ...]) -> MapView:
    embeds = np.concatenate((before.embeds, embedded.embeds))
    return replace(
        before,
        map_id=new_map_id(),
        images=(*before.images, *fresh),
        embeds=embeds,
        image_ids=(*before.image_ids, *embedded.image_ids),
        cluster_names=(),
        quality=None,
        working=True,
    )


def _teller(job: Job[MapStep], verb: str) -> OnStep:
    def tell(done: int, total: int, name: str) -> None:
        if total:
            job.show(MapStep(f"{verb} {min(done + 1, total)} of {total}: {name}", done / total))
        else:
            job.show(MapStep(f"{verb} {name}"))

    return tell


def _layer(job: Job[MapStep], count: int) -> Callable[[int, int], None]:
    """Tells how far the layout is; the first fit of a process compiles for some seconds before it moves."""
    job.show(MapStep(f"Laying out {_pictures(count)}"))

    def tell(done: int, total: int) -> None:
        job.show(MapStep(f"Laying out {_pictures(count)}", done / total if total else None))

    return tell


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _nothing_usable(failed: Sequence[FailedImage]) -> str:
    """A sentence that says why nothing is left; the first reason stands for all."""
    if not failed:
        return "There are no pictures in that; choose a folder, a zip or files with JPEG, PNG or WebP pictures."
    first = failed[0]
    others = f", and {len(failed) - 1} more failed too" if len(failed) > 1 else ""
    return f"None of these can be put on a map: {first.name}: {first.reason.rstrip('.')}{others}."
