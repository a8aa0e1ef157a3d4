"""Measures of a map: whether near pictures on it are also similar in feature space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captioning.image_map.neighbours import nearest, unit_rows
from captioning.image_map.projection import principal_components

_MOST_RANKED, _MOST_SILHOUETTES = 2000, 3000
"""Above these numbers of pictures a random sample is measured: its error is far below what the page prints."""
_TIE = 1e-6
_LEAST = 3


@dataclass(frozen=True, slots=True)
class LayoutQuality:
    """Measures of how well positions keep neighbours.

    `trustworthiness` (0…1, chance is 0.5) falls with every map neighbour that is far away in feature space, more the
    farther it is (Venna & Kaski 2001). `neighbour_recall` (0…1) is the share of the true nearest neighbours that are
    also nearest on the map. `purity` (0…1) is the share of map neighbours with the same label. `silhouette` (−1…1)
    compares the distance to a point's own label with that to the next label (Rousseeuw 1987). Both are `None` without
    two labels to compare.
    """

    trustworthiness: float
    neighbour_recall: float
    purity: float | None
    silhouette: float | None


@dataclass(frozen=True, slots=True, eq=False)
class MapQuality(LayoutQuality):
    """The map's measures, beside those of `random` positions and of the two principal components (`pca`).

    `per_point_recall [n]` (0…1) is the share of each point's `k` true nearest neighbours among its `k` nearest on the
    map. `feature_purity` is the purity of the nearest in feature space, which a map can hardly exceed.
    """

    k: int
    per_point_recall: NDArray[np.float32]
    random: LayoutQuality
    pca: LayoutQuality
    feature_purity: float | None


def quality(
    embeds: NDArray[np.float32], positions: NDArray[np.float32], labels: Sequence[str] | None = None, k: int = 10
) -> MapQuality | None:
    """Compare a map `positions [n, 2]` with the features `embeds [n, hidden]` it was made of, by `k` neighbours.

    `k` is limited to less than half of the pictures. Returns `None` for fewer than three pictures. An empty label means
    that the picture has none. Pictures that are equally similar, such as copies, may replace each other.
    """
    count = len(embeds)
    if count < _LEAST:
        return None
    k = min(k, (count - 1) // 2)
    features = _TrueNeighbours(unit_rows(embeds), k)
    kinds = _LabelledPictures(labels) if labels is not None and len(set(filter(None, labels))) > 1 else None
    chance = np.random.default_rng(0).uniform(size=(count, 2)).astype(np.float32)
    recall, own = _measure_layout(features, positions, kinds)
    return MapQuality(
        own.trustworthiness,
        own.neighbour_recall,
        own.purity,
        own.silhouette,
        k=k,
        per_point_recall=recall,
        random=_measure_layout(features, chance, kinds)[1],
        pca=_measure_layout(features, principal_components(features.embeds), kinds)[1],
        feature_purity=None if kinds is None else kinds.purity(nearest(features.embeds[kinds.places], k)[0]),
    )


def map_neighbours(positions: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the `k` other points nearest to each on the map, `[n, k]`."""
    from scipy.spatial import cKDTree

    found = np.asarray(cKDTree(positions).query(positions, k + 1)[1], np.int64)
    is_self = found == np.arange(len(positions))[:, None]
    is_self[~is_self.any(axis=1), -1] = True  # more than k points in the same place: drop the last one instead
    return np.asarray(found[~is_self].reshape(len(positions), k), np.int64)


def _sample_indices(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of `count` indices, in order, drawn without replacement."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


class _TrueNeighbours:
    """The true neighbours of the pictures, computed once for every layout that is compared with them."""

    def __init__(self, embeds: NDArray[np.float32], k: int) -> None:
        count = len(embeds)
        self.embeds = embeds
        self.k = k
        # Every picture at least as similar as the k-th nearest is a true neighbour.
        self._least = nearest(embeds, k)[1][:, -1] - _TIE
        self._sample = _sample_indices(count, _MOST_RANKED)

    def recall(self, neighbours: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the share of each point's map `neighbours [n, k]` that are true ones, `[n]`."""
        similarities = np.stack([self._cosines(np.arange(len(self.embeds)), column) for column in neighbours.T], axis=1)
        return np.asarray((similarities >= self._least[:, None]).mean(axis=1), np.float32)

    def trustworthiness(self, neighbours: NDArray[np.int64]) -> float:
        """Return the trustworthiness of map `neighbours [n, k]`.

        It is 1 minus the mean number of places by which their true ranks exceed `k`, divided by the largest possible
        mean.
        """
        count, k = len(self.embeds), self.k
        excess = 0
        for rows in np.array_split(self._sample, max(1, len(self._sample) * count // 4_000_000)):
            block = self.embeds[rows] @ self.embeds.T
            block[np.arange(len(rows)), rows] = -np.inf
            for column in neighbours[rows].T:
                ranks = (block > self._cosines(rows, column)[:, None] + _TIE).sum(axis=1) + 1
                excess += int((ranks - k).clip(0).sum())
        return 1 - 2 * excess / (len(self._sample) * k * (2 * count - 3 * k - 1))

    def _cosines(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(np.einsum("nd,nd->n", self.embeds[rows], self.embeds[others]), np.float32)


class _LabelledPictures:
    """The labelled pictures and their label numbers."""

    def __init__(self, labels: Sequence[str]) -> None:
        names = np.array(labels, dtype=str)
        self.places = np.flatnonzero(names != "")
        self._numbers = np.unique(names[self.places], return_inverse=True)[1]

    def purity(self, neighbours: NDArray[np.int64]) -> float | None:
        """Return the share of `neighbours [labelled, k]`, indices among the labelled, that have the same label."""
        if not neighbours.size:
            return None
        return float((self._numbers[neighbours] == self._numbers[:, None]).mean())

    def measure(self, positions: NDArray[np.float32], k: int) -> tuple[float | None, float | None]:
        """Return purity and silhouette of a layout `[n, 2]`."""
        from sklearn.metrics import silhouette_score

        chosen = positions[self.places]
        k = min(k, len(chosen) - 1)
        purity = self.purity(map_neighbours(chosen, k))
        drawn = _sample_indices(len(chosen), _MOST_SILHOUETTES)
        numbers = self._numbers[drawn]
        if not 1 < len(np.unique(numbers)) < len(drawn):
            return purity, None  # there is one label only, or no label has two pictures
        return purity, float(silhouette_score(chosen[drawn], numbers))


def _measure_layout(
    features: _TrueNeighbours, positions: NDArray[np.float32], kinds: _LabelledPictures | None
) -> tuple[NDArray[np.float32], LayoutQuality]:
    neighbours = map_neighbours(positions, features.k)
    recall = features.recall(neighbours)
    purity, silhouette = (None, None) if kinds is None else kinds.measure(positions, features.k)
    return recall, LayoutQuality(features.trustworthiness(neighbours), float(recall.mean()), purity, silhouette)
