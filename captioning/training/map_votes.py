"""Classes of photographs, predicted by a vote of their nearest neighbours in feature space and on the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioning.core.contract import Captioner
from captioning.image_map import MapOptions, nearest, place, project, quality
from captioning.image_map.measures import map_neighbours
from captioning.training.data import PhotoSet, ReportProgress
from captioning.training.metrics import encode_photos, pixel_vectors, vote

KINDS = ("airplane", "car", "motorbike", "leopard", "face of a person", "tulip")
"""Classes that people tell apart at a glance."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow converts to grey


@dataclass(frozen=True, slots=True, eq=False)
class _Votes:
    """The classes that neighbours voted for, and the true ones."""

    voted: Sequence[str]
    true: Sequence[str]

    def accuracy(self) -> float:
        return float(np.mean(np.array(self.voted) == np.array(self.true)))

    def balanced(self) -> float:
        """Return the mean over classes of the share that is right: classes with few photographs count as much."""
        voted, true = np.array(self.voted), np.array(self.true)
        return float(np.mean([(voted[true == kind] == kind).mean() for kind in np.unique(true)]))


def turn_grey(data: PhotoSet) -> PhotoSet:
    """Return the photographs without colour, which alone would give some classes away."""
    grey = np.einsum("nchw,c->nhw", data.pixels, _LUMA).round().clip(0, 255).astype(np.uint8)
    return replace(data, pixels=np.repeat(grey[:, None], 3, axis=1))


def evaluate_map(
    captioners: Mapping[str, Captioner],
    train: PhotoSet,
    dev: PhotoSet,
    options: MapOptions | None = None,
    k: int = 10,
    report: ReportProgress | None = None,
) -> dict[str, Any]:
    """Measure the votes of the `k` nearest `train` photographs on classes, for each captioner and for raw pixels.

    `features_…` votes by cosine in feature space. `map_…` votes by distance on a map of the `train` photographs, on
    which the `dev` ones are placed. A `train` photograph does not vote for itself. All photographs are turned grey.
    `…_balanced` weighs all classes alike. `trustworthiness` and `neighbour_recall` are of the map of `train`.
    """
    train, dev = turn_grey(train), turn_grey(dev)
    figures: dict[str, Any] = {"train": len(train.photos), "dev": len(dev.photos), "k": k}
    vectors = {
        name: (_encode(captioner, train, name, report), _encode(captioner, dev, name, report))
        for name, captioner in captioners.items()
    }
    vectors["pixels"] = (pixel_vectors(train), pixel_vectors(dev))
    true_train, true_dev = ([photo.class_name for photo in data.photos] for data in (train, dev))
    for name, (known, new) in vectors.items():
        positions = project(known, options).positions
        votes = vote_on_features_and_map(known, positions, true_train, new, true_dev, k)
        figures[name] = {key: value for where, found in votes.items() for key, value in _describe(where, found).items()}
        measured = quality(known, positions, k=k)
        if measured is not None:
            figures[name] |= {
                "trustworthiness": measured.trustworthiness,
                "neighbour_recall": measured.neighbour_recall,
            }
    return figures


def vote_on_features_and_map(
    train: NDArray[np.float32],
    positions: NDArray[np.float32],
    train_kinds: Sequence[str],
    dev: NDArray[np.float32],
    dev_kinds: Sequence[str],
    k: int = 10,
) -> dict[str, _Votes]:
    """Return the votes of the `k` nearest of `train [N, hidden]` on `train` itself and on `dev [M, hidden]`.

    Neighbours are found by cosine, and on a map where `train` lies at `positions [N, 2]`.
    """
    from scipy.spatial import cKDTree

    placed = place(train, positions, dev)
    own_neighbours = map_neighbours(positions, k)
    own_distances = np.linalg.norm(positions[own_neighbours] - positions[:, None], axis=2)
    distances, neighbours = cKDTree(positions).query(placed, range(1, k + 1))  # SciPy drops the axis for k = 1
    return {
        "features_train": _Votes(vote(*nearest(train, k), train_kinds), train_kinds),
        "features_dev": _Votes(vote(*nearest(train, k, dev), train_kinds), dev_kinds),
        "map_train": _Votes(vote(own_neighbours, -own_distances, train_kinds), train_kinds),
        "map_dev": _Votes(vote(neighbours, -distances, train_kinds), dev_kinds),
    }


def _describe(where: str, votes: _Votes) -> dict[str, float]:
    return {where: votes.accuracy(), f"{where}_balanced": votes.balanced()}


def _encode(captioner: Captioner, data: PhotoSet, name: str, report: ReportProgress | None) -> NDArray[np.float32]:
    rows = []
    for number, (_, features) in enumerate(encode_photos(captioner, data), start=1):
        rows.append(np.asarray(features.image_embeds.float(), np.float32))
        if report:
            report(f"{name} encodes", number, len(data.photos))
    return np.stack(rows)
