"""Positions on a plane from features: a new layout, pictures placed on an existing one, or a refit of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from captioning.core import runtime
from captioning.core.errors import FeaturesError
from captioning.image_map.neighbours import check_finite, distinct_rows, nearest, unit_rows
from captioning.image_map.options import MapOptions

OnStep = Callable[[int, int], None]
"""Receives the number of finished steps of the layout, and the total; raise `Stopped` in it to stop."""

MIN_UMAP = 10
"""Fewer different pictures are laid out by PCA, because their neighbours say too little for UMAP."""
_PLACING_NEIGHBOURS = 5
_START_EXTENT = 10.0
_SMALL_PCA, _ROUNDING = 64, 1e-5
_REFIT_EPOCHS, _REFIT_RATE = 200, 0.25
"""Few steps at a low rate: on digits they keep the trustworthiness of a new map, and move points a third as far."""
_IDENTICAL_COSINE = 1 - 1e-6
"""The cosine from which two features count as those of one picture, rounding aside."""
# Concurrent calls of numba can abort the process, and its compiler is not thread-safe either.
_NUMBA_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The positions of pictures, `positions [n, 2]`, and the `method` that made them.

    `note` explains a method that differs from the one in the options. `drift` (0…) is the mean distance that earlier
    points moved, as a share of the old map's diagonal; `None` for a new map.
    """

    positions: NDArray[np.float32]
    method: Literal["umap", "pca", "centre"]
    note: str = ""
    drift: float | None = None


def project(
    embeds: NDArray[np.float32],
    options: MapOptions | None = None,
    on_step: OnStep | None = None,
    names: Sequence[str] | None = None,
) -> Projection:
    """Lay out features `[n, hidden]` on a plane; identical rows get the same point.

    UMAP needs ten different pictures. One alone lies in the centre, two to nine are laid out by PCA, and `note` says
    so. Raises `FeaturesError` with the name of a picture whose features are not finite, and whatever `on_step` raises.
    """
    return _lay_out(embeds, options or MapOptions(), on_step, names)


def place(
    embeds_old: NDArray[np.float32], positions_old: NDArray[np.float32], embeds_new: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return positions `[m, 2]` of new pictures on an existing map, whose own pictures do not move.

    Each lies at the median of its five nearest mapped neighbours by cosine, or on the picture that it is identical to.
    Raises `FeaturesError` for features of another size, or that are not finite.
    """
    if not len(embeds_new):
        return np.empty((0, 2), np.float32)
    if not len(embeds_old):
        raise FeaturesError("There is no map yet to place pictures on; draw one first.")
    if embeds_old.shape[1] != embeds_new.shape[1]:
        raise FeaturesError("These features come from another model than the map's; encode the pictures again.")
    check_finite(embeds_new)
    indices, similarities = nearest(embeds_old, _PLACING_NEIGHBOURS, embeds_new)
    medians = np.median(positions_old[indices], axis=1)
    same = similarities[:, :1] >= _IDENTICAL_COSINE
    return np.where(same, positions_old[indices[:, 0]], medians).astype(np.float32)


def refit(
    embeds_all: NDArray[np.float32],
    positions_old: NDArray[np.float32],
    options: MapOptions | None = None,
    on_step: OnStep | None = None,
    names: Sequence[str] | None = None,
) -> Projection:
    """Lay out `[n, hidden]` again, starting from `positions_old [m, 2]` of the first `m` rows.

    The result is turned, mirrored, moved and scaled to fit the old map (Procrustes; Schönemann & Carroll 1970), so that
    people find their pictures again. `drift` measures the remaining movement.
    """
    old = len(positions_old)
    if not old:
        return project(embeds_all, options, on_step, names)
    check_finite(embeds_all, names)
    start = np.concatenate((positions_old, place(embeds_all[:old], positions_old, embeds_all[old:])))
    found = _lay_out(embeds_all, options or MapOptions(), on_step, names, start)
    positions = align(found.positions, positions_old)
    moved = np.linalg.norm(positions[:old] - positions_old, axis=1).mean()
    diagonal = float(np.linalg.norm(np.ptp(positions_old, axis=0)))
    drift = float(moved) / diagonal if diagonal else 0.0
    return Projection(positions, found.method, found.note, drift)


def align(positions: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn, mirror, move and scale `positions [n, 2]` so that the first rows lie nearest to `target [m, 2]`."""
    source, goal = positions[: len(target)].astype(np.float64), target.astype(np.float64)
    centre, aim = source.mean(axis=0), goal.mean(axis=0)
    left, values, right = np.linalg.svd((source - centre).T @ (goal - aim))
    spread = ((source - centre) ** 2).sum()
    scale = values.sum() / spread if spread > 0 and values.sum() > 0 else 1.0
    return np.asarray((positions - centre) @ (left @ right) * scale + aim, np.float32)


def warm_up() -> None:
    """Compile UMAP's functions, so that the first map does not wait for it; takes seconds, once a process."""
    project(np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32))


def _lay_out(
    embeds: NDArray[np.float32],
    options: MapOptions,
    on_step: OnStep | None,
    names: Sequence[str] | None,
    start: NDArray[np.float32] | None = None,
) -> Projection:
    if not len(embeds):
        return Projection(np.empty((0, 2), np.float32), "centre", "There are no pictures to lay out; add some.")
    check_finite(embeds, names)
    rows, group = distinct_rows(embeds)
    count = len(rows)
    if count == 1:
        what = "One picture alone lies" if len(embeds) == 1 else f"{len(embeds)} pictures that are all the same lie"
        return Projection(np.zeros((len(embeds), 2), np.float32), "centre", f"{what} in the centre.")
    distinct = unit_rows(embeds[rows])
    if options.method == "pca" or count < MIN_UMAP:
        few = f"{count} different pictures are too few for UMAP, which needs {MIN_UMAP}: laid out by PCA."
        return Projection(principal_components(distinct)[group], "pca", few if options.method == "umap" else "")
    with _NUMBA_LOCK:
        positions = _run_umap(distinct, options, on_step, None if start is None else start[rows])
    return Projection((positions - positions.mean(axis=0))[group], "umap")


def principal_components(embeds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows `[n, hidden]` projected on their two principal components, `[n, 2]`; a missing second one is 0."""
    from sklearn.decomposition import PCA

    positions = np.zeros((len(embeds), 2), np.float32)
    if not np.ptp(embeds, axis=0).any():
        return positions
    components = min(2, *embeds.shape)
    # arpack needs only a few products for two components. On a busy machine a full decomposition takes seconds.
    solver = "arpack" if min(embeds.shape) > _SMALL_PCA else "full"
    pca = PCA(components, svd_solver=solver, random_state=0)
    positions[:, :components] = pca.fit_transform(embeds)
    # A component that consists of rounding errors would differ between runs.
    positions[:, :components][:, pca.singular_values_ < _ROUNDING * pca.singular_values_[0]] = 0
    return positions


def _run_umap(
    embeds: NDArray[np.float32], options: MapOptions, on_step: OnStep | None, start: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Run UMAP on our own exact neighbours, from `start [n, 2]` or the principal components (Kobak & Linderman 2021).

    It is built from parts of umap-learn. The package's class would search neighbours itself, which compiles for longer
    or compares pairs in Python. It would also scale the start into a square, so that a refit map would lose its shape.
    """
    runtime.let_numba_compile()
    from umap.layouts import optimize_layout_euclidean
    from umap.umap_ import find_ab_params, fuzzy_simplicial_set, make_epochs_per_sample

    random = np.random.RandomState(options.seed)
    epochs, rate = (_epochs(len(embeds)), 1.0) if start is None else (_REFIT_EPOCHS, _REFIT_RATE)
    indices, distances = _neighbour_arrays(embeds, options.n_neighbors)
    graph, _, _ = fuzzy_simplicial_set(
        embeds, indices.shape[1], random, "cosine", knn_indices=indices, knn_dists=distances
    )
    edges = graph.tocoo()
    edges.data[edges.data < edges.data.max() / epochs] = 0  # too weak to be sampled even once
    edges.eliminate_zeros()
    a, b = find_ab_params(1.0, float(options.min_dist))
    positions = np.array(_first_positions(embeds) if start is None else start, np.float32, order="C")
    moved = optimize_layout_euclidean(
        positions,
        positions,
        edges.row,
        edges.col,
        epochs,
        len(embeds),
        make_epochs_per_sample(edges.data, epochs),
        a,
        b,
        random.randint(-(2**31), 2**31 - 1, 3).astype(np.int64),
        initial_alpha=rate,
        tqdm_kwds=_progress_bar_options(on_step),
        move_other=True,
    )
    return np.asarray(moved, np.float32)


def _epochs(count: int) -> int:
    """Return umap-learn's default number of epochs: large maps have more edges to learn from in each."""
    return 500 if count <= 10_000 else 200


def _neighbour_arrays(embeds: NDArray[np.float32], n_neighbors: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return indices and cosine distances `[n, n_neighbors]`; as UMAP expects, each row is its own first neighbour."""
    others, similarities = nearest(embeds, min(n_neighbors, len(embeds)) - 1)
    indices = np.concatenate((np.arange(len(embeds))[:, None], others), axis=1)
    return indices, np.concatenate((np.zeros((len(embeds), 1), np.float32), 1 - similarities), axis=1)


def _first_positions(embeds: NDArray[np.float32]) -> NDArray[np.float32]:
    positions = principal_components(embeds)
    return np.asarray(positions * (_START_EXTENT / np.abs(positions).max()), np.float32)


def _progress_bar_options(on_step: OnStep | None) -> dict[str, Any]:
    """Return the options that make UMAP's own progress bar report to `on_step`."""
    if on_step is None:
        return {"disable": True}
    return {"disable": False, "file": _ProgressFile(on_step), "bar_format": "{n_fmt} {total_fmt}", "mininterval": 0.2}


class _ProgressFile:
    """A file that UMAP's progress bar prints to: the bar is the only report of UMAP's progress."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step: OnStep | None = on_step

    def write(self, text: str) -> None:
        """Report the printed numbers, but not after an exception: the bar prints again while it closes."""
        numbers = text.split()
        if self._on_step is None or len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            return
        tell, self._on_step = self._on_step, None
        tell(int(numbers[0]), int(numbers[1]))
        self._on_step = tell

    def flush(self) -> None:
        """Do nothing: every print is reported at once."""
