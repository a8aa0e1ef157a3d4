"""One map, from its pictures to what can be said of it: drawn, grown, laid out anew, and found out about.

The page, the endpoint, the command line and the bench all make their maps here. Every step gives a new value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from captioning.core.contract import Captioner
from captioning.core.errors import CaptioningError, DataError, Stopped
from captioning.core.settings import get_settings
from captioning.core.types import DecodingOptions
from captioning.image_map.export import MapPoints
from captioning.image_map.features import Embedded, embed
from captioning.image_map.grouping import clusters, name_clusters
from captioning.image_map.measures import MapQuality, quality
from captioning.image_map.options import MapOptions
from captioning.image_map.projection import Projection, place, project, refit
from captioning.media.collection import NO_OTHERS, Collection, FailedImage, NamedImage, OtherFiles
from captioning.media.images import open_image

TELL_SECONDS = 0.5
"""How often a map with the captions written so far is told."""
_NAME_EVERY = 25  # captions after which groups are named anew
_CROWDED = "More pictures came than there were: Refit, under Layout, lays all of them out anew."


@dataclass(frozen=True, slots=True)
class MapStep:
    """What is being done, how much of it is done, 0 of 0 where nobody knows, and the name of the picture in hand."""

    doing: str
    done: int = 0
    total: int = 0
    name: str = ""


Tell = Callable[[MapStep], None]
"""Hears how far the work is. Raise `Stopped` from it to stop."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageMap:
    """One state of a map: pictures, their features, where they lie, and what is known of them by now.

    `embeds [n, hidden]` have unit length; `image_ids [n]` are equal for identical pictures; `clusters [n]` is -1
    outside all groups. `captions` holds those written so far, in order; `failed` names what was left out, with reasons,
    and `others` counts the files that have no picture's name.
    """

    images: tuple[NamedImage, ...]
    embeds: NDArray[np.float32]
    image_ids: tuple[str, ...]
    options: MapOptions
    projection: Projection
    clusters: NDArray[np.int64]
    failed: tuple[FailedImage, ...] = ()
    others: OtherFiles = NO_OTHERS
    captions: tuple[str, ...] = ()
    cluster_names: tuple[str, ...] = ()
    quality: MapQuality | None = None

    @property
    def positions(self) -> NDArray[np.float32]:
        """Where the pictures lie, `[n, 2]`."""
        return self.projection.positions

    @property
    def points(self) -> MapPoints:
        """The points as exports take them."""
        return MapPoints(
            images=self.images,
            positions=self.positions,
            embeds=self.embeds,
            clusters=self.clusters,
            cluster_names=self.cluster_names,
            captions=self.captions,
            recall=None if self.quality is None else self.quality.per_point_recall,
            image_ids=self.image_ids,
        )

    @property
    def labels(self) -> tuple[str, ...] | None:
        """A label a picture; folders stand for labels that nobody gave. `None` where there is neither."""
        labels = tuple(image.label for image in self.images)
        if any(labels):
            return labels
        folders = tuple(image.folder for image in self.images)
        return folders if len(set(folders)) > 1 else None


Map = TypeVar("Map", bound=ImageMap)


def _ignore(_: object) -> None:
    """Nobody listens."""


def draw(
    captioner: Captioner, collection: Collection, options: MapOptions | None = None, tell: Tell = _ignore
) -> ImageMap:
    """Lay out a collection's pictures. Raises `DataError` where none can be used."""
    embedded = _embed(captioner, collection.images, tell)
    failed = (*collection.failed, *embedded.failed)
    images = tuple(collection.images[number] for number in embedded.kept)
    if not images:
        raise DataError(nothing_usable(failed, collection.others))
    made = lay_out(images, embedded.embeds, embedded.image_ids, options, tell)
    return replace(made, failed=failed, others=collection.others)


def lay_out(
    images: Sequence[NamedImage],
    embeds: NDArray[np.float32],
    image_ids: Sequence[str],
    options: MapOptions | None = None,
    tell: Tell = _ignore,
) -> ImageMap:
    """Lay out pictures whose features are known, and group them."""
    options = options or MapOptions()
    projection = project(embeds, options, _layer(tell, len(images)), [image.name for image in images])
    return ImageMap(
        images=tuple(images),
        embeds=embeds,
        image_ids=tuple(image_ids),
        options=options,
        projection=projection,
        clusters=clusters(projection.positions),
    )


def grow(captioner: Captioner, before: Map, collection: Collection, tell: Tell = _ignore) -> Map:
    """Put more pictures on a map, each among those most like it; those before stay where they are.

    Raises `DataError` where no new one can be used, or the map has no room for them.
    """
    room = get_settings().map_images - len(before.images)
    if len(collection.images) > room:
        raise DataError(f"This map has room for {count_pictures(room)} more; add fewer, or draw a new one.")
    embedded = _embed(captioner, collection.images, tell)
    failed = (*collection.failed, *embedded.failed)
    fresh = tuple(collection.images[number] for number in embedded.kept)
    if not fresh:
        raise DataError(nothing_usable(failed, collection.others))
    tell(MapStep("placing"))
    placed = place(before.embeds, before.positions, embedded.embeds).astype(before.positions.dtype)
    positions = np.concatenate((before.positions, placed))
    # Many among few lie where they find place, and what was noted of the few is no longer so.
    note = _CROWDED if len(fresh) > len(before.images) else before.projection.note
    return replace(
        before,
        images=(*before.images, *fresh),
        embeds=np.concatenate((before.embeds, embedded.embeds)),
        image_ids=(*before.image_ids, *embedded.image_ids),
        projection=replace(before.projection, positions=positions, note=note),
        clusters=clusters(positions),
        failed=failed,
        others=collection.others,
        cluster_names=(),
        quality=None,
    )


def lay_out_anew(
    captioner: Captioner, before: Map, options: MapOptions, keeps_captions: bool, tell: Tell = _ignore
) -> Map:
    """Lay all pictures of a map out anew, turned to lie as before as far as they can.

    Captions stay where `keeps_captions`, and no picture is lost. Raises `DataError` where none can be used any more.
    """
    embedded = _embed(captioner, before.images, tell)
    kept = list(embedded.kept)
    if not kept:
        raise DataError(nothing_usable(embedded.failed))
    projection = refit(embedded.embeds, before.positions[kept], options, _layer(tell, len(kept)))
    return replace(
        before,
        images=tuple(before.images[number] for number in kept),
        embeds=embedded.embeds,
        image_ids=embedded.image_ids,
        options=options,
        projection=projection,
        clusters=clusters(projection.positions),
        failed=embedded.failed,
        captions=before.captions if keeps_captions and len(kept) == len(before.images) else (),
        cluster_names=(),
        quality=None,
    )


def find_out(
    captioner: Captioner,
    drawn: Map,
    tell: Tell = _ignore,
    on_map: Callable[[Map], None] = _ignore,
    captions: bool = True,
) -> Map:
    """Find out what is not needed to draw a map: how far it can be believed and, unless not wanted, captions and names.

    Captions are greedy and without a prompt: what the model says unasked names groups best. A picture that cannot be
    read any more has none. `on_map` hears the map as far as it is known, now and then.
    """
    tell(MapStep("measuring"))
    known = drawn
    if known.quality is None:
        known = replace(known, quality=quality(known.embeds, known.positions, known.labels))
    if not captions:
        return known
    written, told, count = list(known.captions), 0.0, len(known.images)
    for number in range(len(written), count):
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            known = _with_captions(known, written)
            on_map(known)
        tell(MapStep("captioning", number, count, known.images[number].name))
        written.append(caption_of(captioner, known.images[number], tell))
    tell(MapStep("captioning", count, count))
    return _with_captions(known, written, name=True)


def make_map(
    captioner: Captioner,
    collection: Collection,
    options: MapOptions | None = None,
    captions: bool = True,
    report: Callable[[str, int, int], None] | None = None,
) -> ImageMap:
    """Make the whole map of a collection in one go: for the command line and for programs.

    `report` hears (what is being done, done, total). Raises `DataError` where no picture can be used, and whatever
    `report` raises.
    """

    def tell(step: MapStep) -> None:
        if report is not None and step.total:
            report(step.doing, step.done, step.total)

    return find_out(captioner, draw(captioner, collection, options, tell), tell, captions=captions)


def caption_of(captioner: Captioner, image: NamedImage, tell: Tell = _ignore) -> str:
    """Caption a picture without a prompt; empty where it cannot be read any more."""
    try:
        (features,) = captioner.encode([open_image(image.path, image.name)])
        return captioner.decode(features, [""], DecodingOptions(), lambda _: tell(MapStep("captioning")))[0].text
    except Stopped:
        raise
    except CaptioningError:
        return ""


def nothing_usable(failed: Sequence[FailedImage], others: OtherFiles = NO_OTHERS) -> str:
    """A sentence that says why nothing is left; the first reason stands for all."""
    if not failed:
        return (
            "There are no pictures in that; choose a folder, a zip or files with JPEG, PNG or WebP pictures. "
            f"{others}".rstrip()
        )
    first = failed[0]
    more = f", and {len(failed) - 1} more failed too" if len(failed) > 1 else ""
    return f"None of these can be put on a map: {first.name}: {first.reason.rstrip('.')}{more}. {others}".rstrip()


def count_pictures(count: int) -> str:
    """So many pictures, in words."""
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _with_captions(known: Map, captions: list[str], name: bool = False) -> Map:
    """The map with the captions written so far; groups are named now and then, and at the end."""
    due = name or len(captions) // _NAME_EVERY > len(known.captions) // _NAME_EVERY
    names = known.cluster_names
    if due and captions:
        names = name_clusters([*captions, *[""] * (len(known.images) - len(captions))], known.clusters)
    return replace(known, captions=tuple(captions), cluster_names=names)


def _embed(captioner: Captioner, images: Sequence[NamedImage], tell: Tell) -> Embedded:
    if not images:
        return Embedded(np.empty((0, 0), np.float32), (), (), ())
    return embed(captioner, images, on_image=lambda done, total, name: tell(MapStep("encoding", done, total, name)))


def _layer(tell: Tell, count: int) -> Callable[[int, int], None]:
    """Tells how far the layout is; the first fit of a process compiles for some seconds before it moves."""
    tell(MapStep("laying out", name=count_pictures(count)))
    return partial(_tell_layout, tell, count)


def _tell_layout(tell: Tell, count: int, done: int, total: int) -> None:
    tell(MapStep("laying out", done, total, count_pictures(count)))
