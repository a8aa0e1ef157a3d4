"""Can a map be believed? Patches are hidden in its order, and the token's log-probability tells whether they mattered.

Deletion and insertion as in RISE (Petsiuk, Das, Saenko 2018), on differences of log-probability rather than on
probabilities, whose heavy tails hide everything else. Works through any captioner, on arrays alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioning.contract import Captioner
from captioning.images import open_image
from captioning.types import Caption, PatchLayout, Picture

STEPS = 16


@dataclass(frozen=True, slots=True, eq=False)
class FaithfulnessCurves:
    """A token's log-probability while patches go or come, in the order of a map.

    `deletion [steps + 1]` starts at the whole picture and `insertion [steps + 1]` at the hidden one. Areas are
    means over a curve, in nats: a faithful map has a low deletion and a high insertion area.
    """

    deletion: NDArray[np.float32]
    insertion: NDArray[np.float32]

    @property
    def deletion_area(self) -> float:
        """Mean log-probability while the hottest patches go first."""
        return float(np.trapezoid(self.deletion) / (len(self.deletion) - 1))

    @property
    def insertion_area(self) -> float:
        """Mean log-probability while the hottest patches come first."""
        return float(np.trapezoid(self.insertion) / (len(self.insertion) - 1))


def hide_patches(picture: Picture, layout: PatchLayout, hidden: NDArray[np.bool_]) -> Picture:
    """The picture with the patches that `hidden [patches]` names filled with its mean colour."""
    pixels = np.asarray(picture.image)
    height, width = pixels.shape[:2]
    result = pixels.copy()
    colour = pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    edges = np.rint(layout.boxes * (width, height, width, height)).astype(int)
    for left, top, right, bottom in edges[hidden]:
        result[top:bottom, left:right] = colour
    return open_image(Image.fromarray(result), picture.name)


def measure_orders(
    captioner: Captioner,
    picture: Picture,
    caption: Caption,
    position: int,
    orders: Sequence[NDArray[np.intp]],
    steps: int = STEPS,
) -> list[FaithfulnessCurves]:
    """Curves of the token at `position` for each order of patches `[patches]`, hottest first; one batch an order."""
    layout = captioner.preprocess(picture).layout
    patches = len(layout.boxes)
    counts = np.rint(np.linspace(0, patches, steps + 1)).astype(int)
    curves = []
    for order in orders:
        rank = np.empty(patches, int)
        rank[order] = np.arange(patches)
        masks = [rank < count for count in counts] + [rank >= count for count in counts]
        # Nothing hidden and everything hidden stand at the ends of both curves: encoded once.
        shown = [hide_patches(picture, layout, mask) for mask in masks[: 2 * steps + 1]]
        log_probs = captioner.score(captioner.encode(shown), caption)[:, position]
        deletion, insertion = log_probs[: steps + 1], np.append(log_probs[steps + 1 :], log_probs[0])
        curves.append(FaithfulnessCurves(deletion, insertion))
    return curves


def paired_bootstrap(
    differences: NDArray[np.float64], groups: Sequence[int], seed: int = 0, draws: int = 2000
) -> tuple[float, float, float]:
    """Mean of `differences` and its 95 % interval, resampling whole groups (photographs)."""
    numbers = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(numbers, weights=differences)
    counts = np.bincount(numbers)
    chosen = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(differences.mean()), float(low), float(high)
