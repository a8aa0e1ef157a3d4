"""Pictures with instance masks in COCO's format, and the words of captions that name the masks' categories."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioning.captions.words import word_groups, word_text
from captioning.core.contract import Captioner
from captioning.core.errors import DataError, OptionsError
from captioning.core.settings import get_settings
from captioning.core.types import Caption, DecodingOptions
from captioning.media.images import open_image
from captioning.training.data import plain_words
from captioning.training.map_quality import Word
from captioning.training.pointing import PointingPicture, Target
from captioning.training.things import singular, usual_name

Segmentation = Any
"""Polygons `[[x, y, x, y, …], …]`, or a run-length encoding `{"size": [height, width], "counts": …}`."""


@dataclass(frozen=True, slots=True)
class OutlinedPicture:
    """A picture file, its size in the annotations, and the outlines of its instances by category id."""

    path: Path
    height: int
    width: int
    outlines: Mapping[int, Sequence[Segmentation]]


@dataclass(frozen=True, slots=True)
class OutlinedSet:
    """The pictures of an annotation file, and category ids by name.

    `num_missing` counts pictures that are not in the folders.
    """

    pictures: tuple[OutlinedPicture, ...]
    categories: Mapping[str, frozenset[int]]
    num_missing: int


def check_reader() -> None:
    """Raise `OptionsError` where pycocotools, which reads masks, is not installed."""
    if find_spec("pycocotools") is None:
        raise OptionsError(
            "Masks are read by the package pycocotools, which is not installed; "
            "`pip install -r requirements-dev.txt` brings it."
        )


def read_outlines(file: Path, folders: Path | Sequence[Path], limit: int | None = None) -> OutlinedSet:
    """Read a COCO instances file and find its pictures in `folders`.

    `limit` keeps that many of the pictures found, spread evenly over the file. Raises `DataError` where the file is no
    instances file or none of its pictures is found, and `OptionsError` for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise OptionsError(f"A limit of {limit} leaves no photographs; give 1 or more, or leave --limit out.")
    document = _read_document(file)
    try:
        return _read_entries(document, file, [folders] if isinstance(folders, Path) else folders, limit)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{file.name} is damaged: an image, annotation or category lacks a field or has a wrong one ({error}); "
            "download the annotations again."
        ) from error


def _read_document(file: Path) -> dict[str, Any]:
    """Return the lists of an instances file by name. Raises `DataError` for another file."""
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({error.strerror}); give a COCO instances file, such as instances_val2017.json."
        ) from error
    except ValueError as error:  # neither UTF-8 nor JSON
        raise DataError(f"{file} is no JSON; give a COCO instances file, such as instances_val2017.json.") from error
    parts = ("images", "annotations", "categories")
    lacking = [name for name in parts if not isinstance(document, dict) or not isinstance(document.get(name), list)]
    if lacking:
        raise DataError(
            f"{file} has no list of {' and none of '.join(lacking)}; give a COCO instances file, such as "
            "instances_val2017.json."
        )
    return {name: document[name] for name in parts}


def _read_entries(document: dict[str, Any], file: Path, folders: Sequence[Path], limit: int | None) -> OutlinedSet:
    paths = {image["id"]: _find_picture(image["file_name"], folders) for image in document["images"]}
    images = [image for image in document["images"] if paths[image["id"]] is not None]
    num_missing = len(document["images"]) - len(images)
    if not images:
        places = " or ".join(map(str, folders))
        raise DataError(f"No picture that {file.name} names is in {places}; give the folder that holds them.")
    if limit is not None and limit < len(images):
        images = [images[number * len(images) // limit] for number in range(limit)]
    outlines: dict[Any, dict[int, list[Segmentation]]] = {image["id"]: {} for image in images}
    for annotation in document["annotations"]:
        if annotation["image_id"] in outlines:
            if "segmentation" not in annotation:
                raise DataError(
                    f"{file.name} has boxes without outlines (segmentation); give a COCO instances file, such as "
                    "instances_val2017.json."
                )
            of_category = outlines[annotation["image_id"]].setdefault(int(annotation["category_id"]), [])
            of_category.append(annotation["segmentation"])
    categories: dict[str, frozenset[int]] = {}
    for category in document["categories"]:
        name = " ".join(map(singular, plain_words(category["name"]).split()))
        categories[name] = categories.get(name, frozenset()) | {int(category["id"])}
    pictures = tuple(
        OutlinedPicture(path, *_size_of(image), outlines[image["id"]])
        for image in images
        if (path := paths[image["id"]]) is not None
    )
    return OutlinedSet(pictures, categories, num_missing)


def _find_picture(name: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _size_of(image: dict[str, Any]) -> tuple[int, int]:
    height, width = int(image["height"]), int(image["width"])
    limit = get_settings().max_image_pixels
    if height < 1 or width < 1 or height * width > limit:
        raise ValueError(f"a picture of {width} × {height} pixels")
    return height, width


def draw_mask(outlines: Sequence[Segmentation], height: int, width: int) -> NDArray[np.bool_]:
    """Return the union of outlines as a mask `[height, width]`. Raises `DataError` for a malformed outline."""
    from pycocotools import mask as masks

    union = np.zeros((height, width), np.bool_)
    try:
        for outline in outlines:
            encoded = _encode(masks, outline, height, width)
            if encoded:
                union |= masks.decode(encoded).reshape(height, width, -1).any(axis=-1)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"An outline (segmentation) cannot be read: {error}; download the annotations again."
        ) from error
    return union


def _encode(masks: Any, outline: Segmentation, height: int, width: int) -> list[Any]:
    """Return the outline's compressed run-length encodings."""
    if isinstance(outline, list):
        polygons = [[float(value) for value in polygon] for polygon in outline]
        if not all(math.isfinite(value) for polygon in polygons for value in polygon):
            raise ValueError("a corner of a polygon is no number")
        # Fewer than three corners enclose no area, and pycocotools would read four numbers as a box.
        corners = [np.reshape(polygon, (-1, 2)).clip(0, (width, height)) for polygon in polygons if len(polygon) >= 6]
        return list(masks.frPyObjects([one.ravel().tolist() for one in corners], height, width)) if corners else []
    size, counts = [int(side) for side in outline["size"]], outline["counts"]
    if size != [height, width]:
        raise ValueError(f"a mask of {size[1]} × {size[0]} pixels for a picture of {width} × {height}")
    if isinstance(counts, str):
        return [{"size": size, "counts": counts.encode()}]
    if sum(counts) != height * width or min(counts) < 0:
        raise ValueError("the runs of a mask do not cover the picture")
    return [masks.frPyObjects({"size": size, "counts": counts}, height, width)]


def match_nouns(caption: Caption, categories: Mapping[str, frozenset[int]]) -> list[tuple[Word, frozenset[int]]]:
    """Return the words of the generated caption that name categories: token positions, and category ids.

    A word names a category by the category's whole name, in singular or plural, by a synonym (`things`), or by the last
    word of the name where no category has that word as its name: "light" for "traffic light", but never "dog" for "hot
    dog".
    """
    groups = [group for group in word_groups(caption) if group[0] >= caption.num_prompt_tokens]
    words = [plain_words(word_text(caption, group)).removesuffix("'s") for group in groups]
    longest = max((len(name.split()) for name in categories), default=0)
    found: list[tuple[Word, frozenset[int]]] = []
    place = 0
    while place < len(words):
        for length in range(min(longest, len(words) - place), 0, -1):
            ids = _categories_called(words[place : place + length], categories)
            if ids:
                tokens = [token for group in groups[place : place + length] for token in group]
                spelling = tuple(token for token in tokens if any(map(str.isalnum, caption.tokens[token])))
                found.append((spelling or tuple(tokens), ids))
                place += length - 1
                break
        place += 1
    return found


def _categories_called(words: Sequence[str], categories: Mapping[str, frozenset[int]]) -> frozenset[int]:
    name = " ".join(map(singular, words))
    if len(words) > 1 or name in categories:
        return categories.get(name, frozenset())
    usual = " ".join(map(singular, usual_name(name).split()))
    if usual in categories or usual != name:
        return categories.get(usual, frozenset())
    ends = (ids for known, ids in categories.items() if known.split()[-1:] == [name])
    return frozenset().union(*ends)


def show_outlined(captioner: Captioner, outlined: OutlinedSet) -> Iterator[PointingPicture]:
    """Yield each picture with the model's greedy caption; its targets are the nouns whose category is outlined."""
    for known in outlined.pictures:
        picture = open_image(known.path)
        (features,) = captioner.encode([picture])
        (caption,) = captioner.decode(features, [""], DecodingOptions())
        targets = []
        for word, ids in match_nouns(caption, outlined.categories):
            instances = [one for category in sorted(ids) for one in known.outlines.get(category, ())]
            mask = draw_mask(instances, known.height, known.width)
            if mask.any():
                targets.append(Target(word, mask))
        yield PointingPicture(str(known.path), picture, caption, tuple(targets))
