"""What a person can choose about a map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from captioning.core.errors import OptionsError

Method = Literal["umap", "pca"]


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How pictures are laid out.

    `n_neighbors` (2…200) is how many neighbours of a picture count: few show small groups, many the whole.
    `min_dist` (0…1) is how close points may come. The same `seed` gives the same map. `method` is UMAP
    (McInnes, Healy, Melville 2018) or the two principal components, which always mean the same. Raises
    `OptionsError` where a value leaves its range.
    """

    n_neighbors: int = 15
    min_dist: float = 0.1
    seed: int = 0
    method: Method = "umap"

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise OptionsError(f"There is no map method {self.method!r}; choose from {', '.join(get_args(Method))}.")
        _check_whole("n_neighbors", self.n_neighbors, 2, 200)
        _check_whole("seed", self.seed, 0, 2**32 - 1)
        number = isinstance(self.min_dist, int | float) and not isinstance(self.min_dist, bool)
        if not number or not math.isfinite(self.min_dist) or not 0 <= self.min_dist <= 1:
            raise OptionsError(f"min_dist must be between 0 and 1, not {self.min_dist!r}.")


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise OptionsError(f"{name} must be a whole number between {low} and {high}, not {value!r}.")
