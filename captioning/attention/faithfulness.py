"""Faithfulness of maps: hide patches in a map's order, and see whether the word's log-probability falls.

Deletion and insertion follow RISE (Petsiuk, Das, Saenko 2018). They use differences of log-probability, because ratios
of probabilities have heavy tails that hide everything else. A word is given by the positions of its tokens, and its
log-probability is the sum of theirs. The functions work through any captioner, on arrays alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captioning.attention.hiding import (
    STEPS,
    Fill,
    OnStep,
    centre_heat,
    deletion_masks,
    insertion_masks,
    rank_patches,
    score_hidden,
)
from captioning.attention.views import check_positions
from captioning.captions.words import word_text
from captioning.core.contract import Captioner
from captioning.core.errors import OptionsError
from captioning.core.types import Caption, ImageFeatures, PatchLayout, Picture

SEEDS = 8
BLOCKS = 6
# Student's t at 97.5 %, for 1, 2, … degrees of freedom.
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True, slots=True, eq=False)
class FaithfulnessCurves:
    """A word's log-probability while patches are hidden or shown in the order of a map.

    `deletion [steps + 1]` starts at the whole picture and `insertion [steps + 1]` at the hidden one. Areas are means
    over a curve, in nats: a faithful map has a low deletion and a high insertion area.
    """

    deletion: NDArray[np.float32]
    insertion: NDArray[np.float32]

    @property
    def deletion_area(self) -> float:
        """Return the mean log-probability while patches are hidden, the hottest first."""
        return _area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Return the mean log-probability while patches are shown, the hottest first."""
        return _area(self.insertion)


def _area(curve: NDArray[np.float32]) -> float:
    return float(np.trapezoid(curve) / (len(curve) - 1))


@dataclass(frozen=True, slots=True, eq=False)
class FaithfulnessResult:
    """The comparison of a word's map with random orders, in nats of the word's log-probability.

    `random` has the curves of each seed, and `centre` those of an order from the picture's centre outwards. `gain` is
    the mean of two differences to random order: how far the deletion area is lower, and how far the insertion area is
    higher. `interval` holds its 95 % limits: below a low end of 0, a single random order might do as well.
    """

    word: str
    curves: FaithfulnessCurves
    random: tuple[FaithfulnessCurves, ...]
    centre: FaithfulnessCurves
    deletion_gain: float
    insertion_gain: float
    interval: tuple[float, float]

    @property
    def gain(self) -> float:
        """Return the mean of both gains over random order."""
        return (self.deletion_gain + self.insertion_gain) / 2

    @property
    def centre_gain(self) -> float:
        """Return the gain of the order from the centre outwards."""
        return _gains(self.centre, self.random)[2]

    @property
    def beats_random(self) -> bool:
        """Return whether the whole interval lies above 0."""
        return self.interval[0] > 0

    @property
    def sentence(self) -> str:
        """Return the result as a sentence for people."""
        word = self.word or "this token"
        low, high = self.interval
        figures = f"{self.gain:+.2f} nats, {low:+.2f} to {high:+.2f}".replace("-", "−")
        if self.beats_random:
            return f"The map beats random order on “{word}” ({figures})."
        if high < 0:
            return f"The map does worse than random order on “{word}” ({figures}): it does not show what mattered."
        return f"On “{word}” the map cannot be told from a random order ({figures}): do not rely on it."


def word_score(scores: NDArray[np.float32], caption: Caption, positions: Sequence[int]) -> NDArray[np.float32]:
    """Return the log-probability `[…]` of the word at `positions`, from those of all tokens `[…, tokens]`, in nats.

    Raises `OptionsError` without positions, or for one that the caption does not have.
    """
    if not positions:
        raise OptionsError("There is no word to measure; choose one.")
    total: NDArray[np.float32] = scores[..., check_positions(caption, positions)].sum(axis=-1)
    return total


def measure_orders(
    captioner: Captioner,
    picture: Picture,
    caption: Caption,
    positions: Sequence[int],
    orders: Sequence[NDArray[np.intp]],
    steps: int = STEPS,
    fill: Fill = "mean",
    on_step: OnStep | None = None,
) -> list[FaithfulnessCurves]:
    """Return the curves of the word at `positions` for each order of patches `[patches]`, hottest first."""
    masks = [half(order, steps) for order in orders for half in (deletion_masks, insertion_masks)]
    scores = score_hidden(captioner, picture, caption, np.concatenate(masks), fill, on_step)
    curves = word_score(scores, caption, positions).reshape(len(orders), 2, steps + 1)
    return [FaithfulnessCurves(*pair) for pair in curves]


def measure_map(
    captioner: Captioner,
    picture: Picture,
    caption: Caption,
    positions: Sequence[int],
    heat: NDArray[np.float32],
    steps: int = STEPS,
    seeds: int = SEEDS,
    fill: Fill = "mean",
    on_step: OnStep | None = None,
) -> FaithfulnessResult:
    """Measure whether a map `[patches]` of the word at `positions` beats `seeds` random orders of the patches.

    It encodes `expected_encodings(steps, seeds)` pictures. Raises `OptionsError` for a position that the caption does
    not have, and for fewer than 2 or more than 16 steps or seeds.
    """
    _check_budget(steps, seeds)
    check_positions(caption, positions)
    layout = captioner.preprocess(picture).layout
    own, centre = rank_patches(heat), rank_patches(centre_heat(layout))
    # Insertion by a random order is deletion by its reverse, read backwards, and the reverse is as random.
    chance = [np.random.default_rng(seed).permutation(len(own)) for seed in range(seeds)]
    halves = [half(order, steps) for order in (own, centre) for half in (deletion_masks, insertion_masks)]
    masks = np.concatenate([*halves, *(deletion_masks(order, steps) for order in chance)])
    scores = score_hidden(captioner, picture, caption, masks, fill, on_step)
    scores = word_score(scores, caption, positions).reshape(-1, steps + 1)
    random = tuple(FaithfulnessCurves(curve, curve[::-1]) for curve in scores[4:])
    curves = FaithfulnessCurves(scores[0], scores[1])
    deletion_gain, insertion_gain, gain = _gains(curves, random)
    reach = _interval_half_width([one.deletion_area for one in random])
    return FaithfulnessResult(
        word=word_text(caption, positions),
        curves=curves,
        random=random,
        centre=FaithfulnessCurves(scores[2], scores[3]),
        deletion_gain=deletion_gain,
        insertion_gain=insertion_gain,
        interval=(gain - reach, gain + reach),
    )


def _gains(curves: FaithfulnessCurves, random: Sequence[FaithfulnessCurves]) -> tuple[float, float, float]:
    """Return the gains over random order in deletion and in insertion, and their mean."""
    deletion = float(np.mean([one.deletion_area for one in random])) - curves.deletion_area
    insertion = curves.insertion_area - float(np.mean([one.insertion_area for one in random]))
    return deletion, insertion, (deletion + insertion) / 2


def _interval_half_width(areas: Sequence[float]) -> float:
    """Return how far one more area of a random order lies from the mean of `areas` in 95 of 100 cases, above or below.

    The mean of a deletion and an insertion gain never spreads wider than either.
    """
    spread = float(np.std(areas, ddof=1))
    return _T_975[min(len(areas) - 1, len(_T_975)) - 1] * spread * math.sqrt(1 + 1 / len(areas))


def expected_encodings(steps: int = STEPS, seeds: int = SEEDS) -> int:
    """Return the number of pictures that `measure_map` encodes, where the picture has more patches than steps."""
    # Two curves of the map, two of the centre and one of each seed; all share their two ends.
    return (4 + seeds) * (steps - 1) + 2


def _check_budget(steps: int, seeds: int) -> None:
    if not 2 <= steps <= STEPS:
        raise OptionsError(f"Patches are hidden in 2 to {STEPS} steps, not {steps}.")
    if not 2 <= seeds <= len(_T_975) + 1:
        raise OptionsError(f"Random order needs 2 to {len(_T_975) + 1} seeds, not {seeds}.")


def ablate_blocks(
    captioner: Captioner,
    picture: Picture,
    caption: Caption,
    positions: Sequence[int],
    blocks: int = BLOCKS,
    fill: Fill = "mean",
    on_step: OnStep | None = None,
) -> NDArray[np.float32]:
    """Return the drop of the word's log-probability when one block of the picture is hidden, `[rows, columns]` in nats.

    There are at most `blocks` rows and columns, fewer where the grid has fewer. Raises `OptionsError` for fewer than 1
    or more than 6 blocks.
    """
    if not 1 <= blocks <= BLOCKS:
        raise OptionsError(f"A picture is hidden in 1 to {BLOCKS} blocks a side, not {blocks}.")
    check_positions(caption, positions)
    layout = captioner.preprocess(picture).layout
    rows, columns = (min(blocks, length) for length in layout.grid or (blocks, blocks))
    numbers = block_numbers(layout, rows, columns)
    masks = numbers == np.arange(-1, rows * columns)[:, None]  # the first hides nothing
    scores = word_score(score_hidden(captioner, picture, caption, masks, fill, on_step), caption, positions)
    drops: NDArray[np.float32] = (scores[0] - scores[1:]).reshape(rows, columns)
    return drops


def block_numbers(layout: PatchLayout, rows: int, columns: int) -> NDArray[np.intp]:
    """Return the number of the block that holds each patch's centre, `[patches]`.

    There are `rows` × `columns` equal blocks, counted row by row.
    """
    low, high = layout.boxes[:, :2].min(axis=0), layout.boxes[:, 2:].max(axis=0)
    centres = ((layout.boxes[:, :2] + layout.boxes[:, 2:]) / 2 - low) / (high - low)
    across, down = (np.floor(centres * (columns, rows)).astype(np.intp).clip(0, (columns - 1, rows - 1))).T
    numbers: NDArray[np.intp] = down * columns + across
    return numbers


def rank_correlation(heat: NDArray[np.float32], drops: NDArray[np.float32], layout: PatchLayout) -> float:
    """Return Spearman's correlation in −1…1 of a map `[patches]`, averaged in each block, with `drops [rows, columns]`.

    It is 0 where either is flat. Blocks without patches are left out.
    """
    numbers = block_numbers(layout, *drops.shape)
    counts = np.bincount(numbers, minlength=drops.size)
    filled = counts > 0
    means = np.bincount(numbers, weights=heat, minlength=drops.size)[filled] / counts[filled]
    one, other = _ranks(means), _ranks(drops.ravel()[filled])
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ranks from 0 on; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts + 1) / 2)[places.ravel()]
    return ranks


def head_importance(
    captioner: Captioner,
    features: ImageFeatures,
    caption: Caption,
    positions: Sequence[int],
    on_step: OnStep | None = None,
) -> NDArray[np.float32]:
    """Return the drop of the word's log-probability when a head is switched off, `[layers, heads]` in nats.

    Each head takes one pass of the decoder (Michel, Levy, Neubig 2019). Raises `CapabilityError` for a model without
    heads.
    """
    check_positions(caption, positions)
    shape = captioner.trace(features, caption).image_attentions.shape[:2]
    whole = word_score(captioner.score([features], caption)[0], caption, positions)
    drops = np.zeros(shape, np.float32)
    for done, place in enumerate(np.ndindex(*shape), start=1):
        mask = np.ones(shape, np.float32)
        mask[place] = 0
        drops[place] = whole - word_score(captioner.score([features], caption, mask)[0], caption, positions)
        if on_step is not None:
            on_step(done, drops.size)
    return drops


def paired_bootstrap(
    differences: NDArray[np.float64], groups: Sequence[int], seed: int = 0, draws: int = 2000
) -> tuple[float, float, float]:
    """Return the mean of `differences` and its 95 % interval, resampling whole groups (photographs)."""
    numbers = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(numbers, weights=differences)
    counts = np.bincount(numbers)
    chosen = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(differences.mean()), float(low), float(high)
