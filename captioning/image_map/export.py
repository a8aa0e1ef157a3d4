"""Exports of a map: JSON, CSV, NumPy arrays, and a zip of its pictures."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioning.captions.export import as_cell
from captioning.image_map.measures import LayoutQuality, MapQuality
from captioning.media.collection import NO_OTHERS, FailedImage, NamedImage, OtherFiles

CSV_COLUMNS = (
    "image", "label", "folder", "x", "y", "cluster", "cluster_name", "true_neighbours_nearby", "caption",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class MapPoints:
    """The points of a map: pictures, `positions [n, 2]` and `embeds [n, hidden]`.

    `clusters [n]` is -1 outside all groups; `cluster_names` are the names of groups 0, 1, …. `captions [n]`, `recall
    [n]` (0…1, the share of true neighbours that are near on the map) and `image_ids [n]` may be missing.
    """

    images: Sequence[NamedImage]
    positions: NDArray[np.float32]
    embeds: NDArray[np.float32]
    clusters: NDArray[np.int64]
    cluster_names: Sequence[str] = ()
    captions: Sequence[str] = ()
    recall: NDArray[np.float32] | None = None
    image_ids: Sequence[str] = ()

    def select(self, indices: Sequence[int]) -> MapPoints:
        """Return some of the points, in the order of `indices`."""
        rows = np.asarray(indices, np.int64)
        return MapPoints(
            [self.images[i] for i in indices],
            self.positions[rows],
            self.embeds[rows],
            self.clusters[rows],
            self.cluster_names,
            # While captions are being written, only the first points have one.
            [self.captions[i] if i < len(self.captions) else "" for i in indices],
            None if self.recall is None else self.recall[rows],
            [self.image_ids[i] for i in indices] if self.image_ids else (),
        )

    def records(self) -> list[dict[str, Any]]:
        """Return one record a point, with the keys `CSV_COLUMNS`."""
        rows = []
        for place, image in enumerate(self.images):
            cluster = int(self.clusters[place])
            x, y = self.positions[place].tolist()
            rows.append(
                {
                    "image": image.name,
                    "label": image.label,
                    "folder": image.folder,
                    "x": round(x, 6),
                    "y": round(y, 6),
                    "cluster": cluster,
                    "cluster_name": self.cluster_names[cluster] if 0 <= cluster < len(self.cluster_names) else "",
                    "true_neighbours_nearby": None if self.recall is None else round(float(self.recall[place]), 4),
                    "caption": self.captions[place] if place < len(self.captions) else "",
                }
            )
        return rows


def map_document(
    points: MapPoints,
    quality: MapQuality | None = None,
    failed: Sequence[FailedImage] = (),
    about: Mapping[str, Any] | None = None,
    others: OtherFiles = NO_OTHERS,
) -> dict[str, Any]:
    """Return the map as a JSON document: `about`, then points, quality and errors.

    `about` holds the entries to begin with. The quality of fewer than 3 pictures is `None`. `left_out` counts the
    `others` by kind.
    """
    return {
        **(about or {}),
        "points": points.records(),
        "quality": None if quality is None else quality_record(quality),
        "errors": [{"image": one.name, "error": one.reason} for one in failed],
        "left_out": dict(others.kinds),
    }


def quality_record(quality: MapQuality) -> dict[str, Any]:
    """Return a map's figures beside those of random positions and of PCA, for JSON."""
    return {
        "k": quality.k,
        **_figures(quality),
        "feature_purity": quality.feature_purity,
        "random": _figures(quality.random),
        "pca": _figures(quality.pca),
    }


def _figures(layout: LayoutQuality) -> dict[str, float | None]:
    return {field.name: getattr(layout, field.name) for field in fields(LayoutQuality)}


def map_to_csv(points: MapPoints) -> str:
    """Return a CSV table of one point a row.

    Texts that a spreadsheet would run as a formula get an apostrophe in front.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in points.records():
        writer.writerow({key: as_cell(value) if isinstance(value, str) else value for key, value in record.items()})
    return file.getvalue()


def map_to_npz(points: MapPoints) -> bytes:
    """Return an NPZ file of arrays, which NumPy opens without pickle.

    `image_embeds [n, hidden]`, `positions [n, 2]`, `clusters [n]`, `names [n]`, `labels [n]`, `folders [n]`, and where
    they are known `captions [n]` and `image_ids [n]`.
    """
    texts = {
        "names": [image.name for image in points.images],
        "labels": [image.label for image in points.images],
        "folders": [image.folder for image in points.images],
    }
    if points.captions:
        texts["captions"] = [record["caption"] for record in points.records()]
    if points.image_ids:
        texts["image_ids"] = list(points.image_ids)
    arrays: dict[str, Any] = {name: np.array(values, dtype=np.str_) for name, values in texts.items()}
    arrays |= {"image_embeds": points.embeds, "positions": points.positions, "clusters": points.clusters}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def write_pictures(
    images: Sequence[NamedImage], path: Path, on_image: Callable[[int, int, str], None] | None = None
) -> tuple[FailedImage, ...]:
    """Write a zip of the pictures' own files to `path`, and return the pictures whose files can no longer be read.

    Names stay inside the zip's folder, have the suffix of their file, and are numbered where two are the same.
    `on_image` receives the number of packed pictures, the total, and the name of the next; an exception raised in it
    stops the work.
    """
    failed: list[FailedImage] = []
    used: set[str] = set()
    # Pictures are compressed already. Zip files cannot store times before 1980, which are wrong anyway.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for number, image in enumerate(images):
            if on_image is not None:
                on_image(number, len(images), image.name)
            name = _unused_name(image, used)
            try:
                archive.write(image.path, name)
            except OSError as error:
                failed.append(
                    FailedImage(image.name, f"It cannot be read any more ({error.strerror or 'input error'}).")
                )
                continue
            used.add(name.lower())  # some file systems ignore case
    return tuple(failed)


def _unused_name(image: NamedImage, used: set[str]) -> str:
    parts = PurePosixPath(image.name.replace("\\", "/").replace("\0", "").replace(":", "-")).parts
    name = PurePosixPath(*(part for part in parts if part not in ("/", ".", "..")))
    if name.suffix.lower() != image.path.suffix.lower() or not name.name:
        name = PurePosixPath(f"{name if name.name else 'picture'}{image.path.suffix}")
    chosen, number = name, 2
    while str(chosen).lower() in used:
        chosen = name.with_name(f"{name.stem}-{number}{name.suffix}")
        number += 1
    return str(chosen)
