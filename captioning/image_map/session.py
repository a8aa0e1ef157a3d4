"""Map sessions: lay out a map, add pictures, refit it, and annotate it with measures, captions and names of groups.

The page, the endpoint, the command line and the bench make all their maps here. Every step returns a new value.
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
from captioning.image_map.features import PictureEmbeddings, embed
from captioning.image_map.grouping import clusters, name_clusters
from captioning.image_map.measures import MapQuality, quality
from captioning.image_map.options import MapOptions
from captioning.image_map.projection import Projection, place, project, refit
from captioning.media.collection import NO_OTHERS, Collection, FailedImage, NamedImage, OtherFiles
from captioning.media.images import open_image

MAP_UPDATE_SECONDS = 0.5
"""Seconds between two updates of a map with the captions written so far."""
_NAMING_INTERVAL = 25  # captions after which groups are named anew
_CROWDED = "More pictures came than there were: Refit, under Layout, lays all of them out anew."


@dataclass(frozen=True, slots=True)
class MapProgress:
    """The activity, its finished and total items (0 of 0 where unknown), and the name of the current picture."""

    doing: str
    done: int = 0
    total: int = 0
    name: str = ""


OnMapProgress = Callable[[MapProgress], None]
"""Receives the progress; raise `Stopped` in it to stop."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageMap:
    """One state of a map: pictures, features, positions, and the annotations so far.

    `embeds [n, hidden]` have unit length; `image_ids [n]` are equal for identical pictures; `clusters [n]` is -1
    outside all groups. `captions` holds those written so far, in order; `failed` names the pictures that were left out,
    with reasons, and `others` counts the files that have no picture's name.
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
        """Return the positions of the pictures, `[n, 2]`."""
        return self.projection.positions

    @property
    def points(self) -> MapPoints:
        """Return the points for exports."""
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
        """Return a label for each picture; folders replace labels where none is given.

        Returns `None` where there are neither labels nor different folders.
        """
        labels = tuple(image.label for image in self.images)
        if any(labels):
            return labels
        folders = tuple(image.folder for image in self.images)
        return folders if len(set(folders)) > 1 else None


Map = TypeVar("Map", bound=ImageMap)


def _ignore(_: object) -> None:
    """Ignore the progress."""


def lay_out_collection(
    captioner: Captioner,
    collection: Collection,
    options: MapOptions | None = None,
    on_progress: OnMapProgress = _ignore,
) -> ImageMap:
    """Encode a collection's pictures and lay them out. Raises `DataError` where no picture can be used."""
    embedded = _embed(captioner, collection.images, on_progress)
    failed = (*collection.failed, *embedded.failed)
    images = tuple(collection.images[number] for number in embedded.kept)
    if not images:
        raise DataError(explain_unusable(failed, collection.others))
    made = lay_out(images, embedded.embeds, embedded.image_ids, options, on_progress)
    return replace(made, failed=failed, others=collection.others)


def lay_out(
    images: Sequence[NamedImage],
    embeds: NDArray[np.float32],
    image_ids: Sequence[str],
    options: MapOptions | None = None,
    on_progress: OnMapProgress = _ignore,
) -> ImageMap:
    """Lay out pictures whose features are known, and group them."""
    options = options or MapOptions()
    projection = project(embeds, options, _layout_reporter(on_progress, len(images)), [image.name for image in images])
    return ImageMap(
        images=tuple(images),
        embeds=embeds,
        image_ids=tuple(image_ids),
        options=options,
        projection=projection,
        clusters=clusters(projection.positions),
    )


def add_pictures(
    captioner: Captioner, before: Map, collection: Collection, on_progress: OnMapProgress = _ignore
) -> Map:
    """Add pictures to a map, each near the most similar ones; earlier pictures do not move.

    Raises `DataError` where no new picture can be used, or the map has no room for them.
    """
    room = get_settings().map_images - len(before.images)
    if len(collection.images) > room:
        raise DataError(f"This map has room for {count_pictures(room)} more; add fewer, or draw a new one.")
    embedded = _embed(captioner, collection.images, on_progress)
    failed = (*collection.failed, *embedded.failed)
    fresh = tuple(collection.images[number] for number in embedded.kept)
    if not fresh:
        raise DataError(explain_unusable(failed, collection.others))
    on_progress(MapProgress("placing"))
    placed = place(before.embeds, before.positions, embedded.embeds).astype(before.positions.dtype)
    positions = np.concatenate((before.positions, placed))
    # With more new pictures than old ones the positions are poor, and the old note no longer holds.
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


def refit_map(
    captioner: Captioner, before: Map, options: MapOptions, keeps_captions: bool, on_progress: OnMapProgress = _ignore
) -> Map:
    """Lay out all pictures of a map again, aligned with the old positions.

    Captions are kept if `keeps_captions` is set and no picture is lost. Raises `DataError` where no picture can be used
    any more.
    """
    embedded = _embed(captioner, before.images, on_progress)
    kept = list(embedded.kept)
    if not kept:
        raise DataError(explain_unusable(embedded.failed))
    projection = refit(embedded.embeds, before.positions[kept], options, _layout_reporter(on_progress, len(kept)))
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


def annotate_map(
    captioner: Captioner,
    drawn: Map,
    on_progress: OnMapProgress = _ignore,
    on_map: Callable[[Map], None] = _ignore,
    captions: bool = True,
) -> Map:
    """Annotate a map with its quality and, unless `captions` is off, with captions and names of groups.

    Captions are greedy and without a prompt, because those make the best names of groups. A picture that can no longer
    be read has an empty caption. `on_map` receives the map with the captions so far, now and then.
    """
    on_progress(MapProgress("measuring"))
    known = drawn
    if known.quality is None:
        known = replace(known, quality=quality(known.embeds, known.positions, known.labels))
    if not captions:
        return known
    written, last_update, count = list(known.captions), 0.0, len(known.images)
    for number in range(len(written), count):
        if time.monotonic() - last_update >= MAP_UPDATE_SECONDS:
            last_update = time.monotonic()
            known = _with_captions(known, written)
            on_map(known)
        on_progress(MapProgress("captioning", number, count, known.images[number].name))
        written.append(caption_picture(captioner, known.images[number], on_progress))
    on_progress(MapProgress("captioning", count, count))
    return _with_captions(known, written, name=True)


def make_map(
    captioner: Captioner,
    collection: Collection,
    options: MapOptions | None = None,
    captions: bool = True,
    report: Callable[[str, int, int], None] | None = None,
) -> ImageMap:
    """Lay out and annotate a collection in one call, for the command line and for programs.

    `report` receives (activity, done, total). Raises `DataError` where no picture can be used, and whatever `report`
    raises.
    """

    def on_progress(step: MapProgress) -> None:
        if report is not None and step.total:
            report(step.doing, step.done, step.total)

    laid_out = lay_out_collection(captioner, collection, options, on_progress)
    return annotate_map(captioner, laid_out, on_progress, captions=captions)


def caption_picture(captioner: Captioner, image: NamedImage, on_progress: OnMapProgress = _ignore) -> str:
    """Return a picture's caption without a prompt; empty where it can no longer be read."""
    try:
        (features,) = captioner.encode([open_image(image.path, image.name)])
        return captioner.decode(features, [""], DecodingOptions(), lambda _: on_progress(MapProgress("captioning")))[
            0
        ].text
    except Stopped:
        raise
    except CaptioningError:
        return ""


def explain_unusable(failed: Sequence[FailedImage], others: OtherFiles = NO_OTHERS) -> str:
    """Return a sentence that says why no picture is left, with the first reason as an example."""
    if not failed:
        return (
            "There are no pictures in that; choose a folder, a zip or files with JPEG, PNG or WebP pictures. "
            f"{others}".rstrip()
        )
    first = failed[0]
    more = f", and {len(failed) - 1} more failed too" if len(failed) > 1 else ""
    return f"None of these can be put on a map: {first.name}: {first.reason.rstrip('.')}{more}. {others}".rstrip()


def count_pictures(count: int) -> str:
    """Return a number of pictures in words: "1 picture", "2,000 pictures"."""
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _with_captions(known: Map, captions: list[str], name: bool = False) -> Map:
    """Return the map with the captions written so far.

    Groups are named again every 25 captions, and where `name` is set.
    """
    due = name or len(captions) // _NAMING_INTERVAL > len(known.captions) // _NAMING_INTERVAL
    names = known.cluster_names
    if due and captions:
        names = name_clusters([*captions, *[""] * (len(known.images) - len(captions))], known.clusters)
    return replace(known, captions=tuple(captions), cluster_names=names)


def _embed(captioner: Captioner, images: Sequence[NamedImage], on_progress: OnMapProgress) -> PictureEmbeddings:
    if not images:
        return PictureEmbeddings(np.empty((0, 0), np.float32), (), (), ())
    return embed(
        captioner, images, on_image=lambda done, total, name: on_progress(MapProgress("encoding", done, total, name))
    )


def _layout_reporter(on_progress: OnMapProgress, count: int) -> Callable[[int, int], None]:
    """Return a function that reports the progress of a layout.

    It reports the start at once, because the first layout of a process compiles for seconds before its first step.
    """
    on_progress(MapProgress("laying out", name=count_pictures(count)))
    return partial(_report_layout, on_progress, count)


def _report_layout(on_progress: OnMapProgress, count: int, done: int, total: int) -> None:
    on_progress(MapProgress("laying out", done, total, count_pictures(count)))
