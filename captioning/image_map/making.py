"""A collection → its whole map, in one go: for the command line and for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from captioning.core.contract import Captioner
from captioning.core.errors import DataError
from captioning.core.types import DecodingOptions
from captioning.image_map.export import MapPoints
from captioning.image_map.features import embed
from captioning.image_map.grouping import clusters, name_clusters
from captioning.image_map.measures import MapQuality, quality
from captioning.image_map.options import MapOptions
from captioning.image_map.projection import Projection, project
from captioning.media.collection import Collection, FailedImage, NamedImage
from captioning.media.images import open_image

Report = Callable[[str, int, int], None]
"""Hears (what is being done, done, total). Raise `Stopped` from it to stop."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageMap:
    """A finished map: its points, how they were laid out, how far it can be believed, and what was left out."""

    points: MapPoints
    projection: Projection
    quality: MapQuality | None
    failed: tuple[FailedImage, ...]


def make_map(
    captioner: Captioner,
    collection: Collection,
    options: MapOptions | None = None,
    captions: bool = True,
    report: Report | None = None,
) -> ImageMap:
    """Features, positions, groups, quality and, unless told otherwise, a caption of every picture without a prompt.

    Raises `DataError` where no picture can be used, and whatever `report` raises.
    """
    tell = report or _ignore
    embedded = embed(captioner, collection.images, on_image=lambda done, total, _: tell("encoding", done, total))
    failed = (*collection.failed, *embedded.failed)
    if not embedded.kept:
        first = f", the first is {failed[0].name}: {failed[0].reason}" if failed else "."
        raise DataError(f"None of the pictures can be used{first}")
    images = [collection.images[place] for place in embedded.kept]
    names = [image.name for image in images]
    projection = project(embedded.embeds, options, partial(tell, "laying out"), names)
    groups = clusters(projection.positions)
    written = write_captions(captioner, images, report) if captions else ()
    measured = quality(embedded.embeds, projection.positions, [image.label for image in images])
    points = MapPoints(
        images=images,
        positions=projection.positions,
        embeds=embedded.embeds,
        clusters=groups,
        cluster_names=name_clusters(written, groups) if written else (),
        captions=written,
        recall=None if measured is None else measured.per_point_recall,
        image_ids=embedded.image_ids,
    )
    return ImageMap(points, projection, measured, failed)


def write_captions(captioner: Captioner, images: Sequence[NamedImage], report: Report | None = None) -> tuple[str, ...]:
    """A greedy caption of every picture, without a prompt: what the model says unasked names groups best."""
    tell = report or _ignore
    texts = []
    for number, image in enumerate(images):
        tell("captioning", number, len(images))
        (features,) = captioner.encode([open_image(image.path, image.name)])
        texts.append(captioner.decode(features, [""], DecodingOptions())[0].text)
    tell("captioning", len(images), len(images))
    return tuple(texts)


def _ignore(what: str, done: int, total: int) -> None:
    """Nobody listens."""
