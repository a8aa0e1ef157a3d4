"""Options of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from captioning.core.options import Option, check_fields

Method = Literal["umap", "pca"]


@dataclass(frozen=True, slots=True)
class MapOptions:
    """The options of a map's layout.

    `method` is UMAP (McInnes, Healy, Melville 2018) or the two principal components, which always mean the same. Raises
    `OptionsError` where a value leaves its range.
    """

    n_neighbors: Annotated[
        int,
        Option(
            "neighbours of a picture that count: few show small groups, many the whole",
            "Neighbours (n_neighbors)",
            2,
            200,
            slider=(2, 100, 1),
        ),
    ] = 15
    min_dist: Annotated[
        float,
        Option("how close points may come", "Least distance (min_dist)", 0, 1, slider=(0, 0.99, 0.01)),
    ] = 0.1
    seed: Annotated[int, Option("the same seed gives the same map", "Seed", 0, 2**32 - 1)] = 0
    method: Annotated[
        Method, Option("umap keeps neighbours together; pca draws the two principal components", "Method")
    ] = "umap"

    def __post_init__(self) -> None:
        check_fields(self)
