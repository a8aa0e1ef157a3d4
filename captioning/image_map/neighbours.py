"""Nearest neighbours in feature space: exact, by cosine, in blocks that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from captioning.core.errors import FeaturesError

_BLOCK_BYTES = 32 * 2**20


def unit_rows(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows `[n, hidden]` scaled to length 1; a row of zeros stays zero."""
    floats = np.asarray(values, np.float32)
    return np.asarray(floats / np.linalg.norm(floats, axis=1, keepdims=True).clip(1e-12), np.float32)


def check_finite(embeds: NDArray[np.floating], names: Sequence[str] | None = None) -> None:
    """Raise `FeaturesError` with the name of the first row of `embeds [n, hidden]` that holds NaN or infinity."""
    if embeds.ndim != 2:
        raise FeaturesError(f"Features must be [pictures, hidden], not of the shape {embeds.shape}.")
    broken = np.flatnonzero(~np.isfinite(embeds).all(axis=1))
    if len(broken):
        first = int(broken[0])
        name = names[first] if names is not None else f"picture {first + 1} of {len(embeds)}"
        others = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise FeaturesError(f"The features of {name}{others} are not finite numbers; leave it out.")


def similarity_blocks(
    embeds: NDArray[np.float32], queries: NDArray[np.float32]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield cosines `[rows, n]` of blocks of `queries [m, hidden]` with `embeds [n, hidden]`, both of unit length."""
    rows = max(1, _BLOCK_BYTES // (4 * max(1, len(embeds))))
    for start in range(0, len(queries), rows):
        part = slice(start, min(start + rows, len(queries)))
        yield part, queries[part] @ embeds.T


def nearest(
    embeds: NDArray[np.float32], k: int, queries: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the `k` rows of `embeds [n, hidden]` most similar to each of `queries [m, hidden]`, most similar first.

    Returns indices `[m, k]` and cosines `[m, k]` (−1…1). Without `queries`, each row is compared with all others and is
    not its own neighbour. `k` is limited to the number of rows. The search is exact; equal cosines are in order of
    index.
    """
    known = unit_rows(embeds)
    own = queries is None
    targets = known if queries is None else unit_rows(queries)
    k = max(0, min(k, len(known) - own))
    indices = np.empty((len(targets), k), np.int64)
    similarities = np.empty((len(targets), k), np.float32)
    if not k:
        return indices, similarities
    for part, block in similarity_blocks(known, targets):
        if own:
            block[np.arange(len(block)), np.arange(part.start, part.stop)] = -np.inf
        found = np.argpartition(-block, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(block, found, axis=1)
        order = np.lexsort((found, -values), axis=1)
        indices[part] = np.take_along_axis(found, order, axis=1)
        similarities[part] = np.take_along_axis(values, order, axis=1)
    return indices, similarities.clip(-1, 1)


def distinct_rows(embeds: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group equal rows of `embeds [n, hidden]`.

    Returns the index of the first row of each group, `[distinct]`, and the group of every row, `[n]`.
    """
    places: dict[bytes, int] = {}
    first: list[int] = []
    group = np.empty(len(embeds), np.int64)
    for row, values in enumerate(np.ascontiguousarray(embeds)):
        place = places.setdefault(values.tobytes(), len(first))
        if place == len(first):
            first.append(row)
        group[row] = place
    return np.array(first, np.int64), group
