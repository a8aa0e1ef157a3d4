"""The pointing game: how often the hottest patch lies on the named object, and the share of each map inside it.

The pointing game is Zhang et al. 2018. Cases come from synthetic scenes (`scenes`) or annotated masks (`coco_masks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioning.attention.faithfulness import paired_bootstrap
from captioning.attention.hiding import centre_heat
from captioning.core.contract import Captioner
from captioning.core.types import Caption, PatchLayout, Picture
from captioning.training.data import ReportProgress
from captioning.training.map_quality import (
    Interval,
    MoreViews,
    Word,
    choose_views,
    interval_cell,
    table_lines,
    view_name,
    word_maps,
)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A word of a caption, by the positions of its tokens, and `mask [height, width]` of the object that it names.

    The mask covers the whole picture, at any resolution.
    """

    word: Word
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class PointingPicture:
    """A picture with a caption and the objects to point at, which may be none.

    `photograph` is the same for pictures of the same photograph: the bootstrap draws them together.
    """

    photograph: str
    picture: Picture
    caption: Caption
    targets: tuple[Target, ...]


def evaluate_pointing(
    captioner: Captioner,
    pictures: Iterable[PointingPicture],
    total: int,
    methods: Sequence[str] | None = None,
    more_views: MoreViews | None = None,
    report: ReportProgress | None = None,
) -> dict[str, Any]:
    """Measure where the maps of every target's word point, on `total` pictures.

    `pointing` is the share of cases whose hottest patch lies on the object. `mass` is the share of the map inside the
    object's mask. Both are the mean and the low and high end of the 95 % interval (bootstrap over photographs).
    `over_centre` is the paired difference of pointing to a map that is hottest in the picture's centre. `chance` is the
    mean share of the picture that the mask covers. Every method is measured unless `methods` names some; `more_views`
    adds the mean and maximum over heads of every layer of attention, or every head. Objects that no patch touches, such
    as those outside a model's crop, are left out. Raises `CapabilityError` for a method that the model does not allow.
    """
    views = choose_views(captioner, methods, more_views)
    found: list[NDArray[np.float64]] = []  # [views + centre, pointing and mass]
    chances: list[float] = []
    groups: list[int] = []
    photographs: dict[str, int] = {}
    for number, shown in enumerate(pictures, start=1):
        layout = captioner.preprocess(shown.picture).layout
        targets = [target for target in shown.targets if mask_cover(target.mask, layout).any()]
        if targets:
            words = [target.word for target in targets]
            heats = word_maps(captioner, shown.picture, shown.caption, words, views)
            found += [_measure_target(target, own, layout) for target, own in zip(targets, heats, strict=True)]
            chances += [float(target.mask.mean()) for target in targets]
            groups += [photographs.setdefault(shown.photograph, len(photographs))] * len(targets)
        if report:
            report("pointing on", number, total)
    counts = {"cases": len(groups), "photographs": len(photographs)}
    if not groups:
        return {**counts, "chance": None, "centre": {}, "methods": {}}
    measured = np.array(found)
    summary = {view_name(view): _summarise(measured[:, [place, -1]], groups) for place, view in enumerate(views)}
    centre = _summarise(measured[:, [-1, -1]], groups)
    return {
        **counts,
        "chance": float(np.mean(chances)),
        "centre": {name: centre[name] for name in ("pointing", "mass")},
        "methods": dict(sorted(summary.items(), key=lambda item: -item[1]["pointing"][0])),
    }


def _measure_target(target: Target, heats: NDArray[np.float32], layout: PatchLayout) -> NDArray[np.float64]:
    """Return pointing and mass `[views + 1, 2]` of a target's maps `[views, patches]`, those of the centre last."""
    on_object, cover = centres_inside(target.mask, layout), mask_cover(target.mask, layout)
    maps = [*heats, centre_heat(layout)]
    return np.array([(pointing_share(heat, on_object), mass_inside(heat, cover)) for heat in maps])


def _summarise(measured: NDArray[np.float64], groups: Sequence[int]) -> dict[str, Interval]:
    """Return the figures of a view from pointing and mass `[cases, view and centre, 2]`."""
    own, centre = measured[:, 0], measured[:, 1]
    columns = {"pointing": own[:, 0], "mass": own[:, 1], "over_centre": own[:, 0] - centre[:, 0]}
    return {name: paired_bootstrap(column, groups) for name, column in columns.items()}


def centres_inside(mask: NDArray[np.bool_], layout: PatchLayout) -> NDArray[np.bool_]:
    """Return which patches have their centre in a mask `[height, width]`; patches of padding alone have none."""
    height, width = mask.shape
    left, top, right, bottom = layout.boxes.T
    rows = ((top + bottom) / 2 * height).astype(np.intp).clip(0, height - 1)
    columns = ((left + right) / 2 * width).astype(np.intp).clip(0, width - 1)
    inside: NDArray[np.bool_] = mask[rows, columns] & (right > left) & (bottom > top)
    return inside


def mask_cover(mask: NDArray[np.bool_], layout: PatchLayout) -> NDArray[np.float64]:
    """Return the share of each patch that a mask `[height, width]` covers, `[patches]` in 0…1.

    The edges of patches may cut pixels.
    """
    height, width = mask.shape
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)

    def area(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mask's area left of and above these points, in pixels: bilinear between whole pixels."""
        column, row = x.astype(np.intp).clip(0, width - 1), y.astype(np.intp).clip(0, height - 1)
        across, down = x - column, y - row
        above = sums[row, column] * (1 - across) + sums[row, column + 1] * across
        below = sums[row + 1, column] * (1 - across) + sums[row + 1, column + 1] * across
        corner: NDArray[np.float64] = above * (1 - down) + below * down
        return corner

    left, top, right, bottom = (layout.boxes * (width, height, width, height)).T
    covered = area(right, bottom) - area(left, bottom) - area(right, top) + area(left, top)
    areas = (right - left) * (bottom - top)
    cover = np.divide(covered, areas, out=np.zeros_like(covered), where=areas > 0)
    # Rounding leaves tiny areas where the terms should cancel.
    return np.where(cover < 1e-9, 0, cover.clip(0, 1))


def pointing_share(heat: NDArray[np.float32], on_object: NDArray[np.bool_]) -> float:
    """Return 1 where a map's hottest patch lies on the object, else 0; equally hot patches count by their share."""
    return float(on_object[heat == heat.max()].mean())


def mass_inside(heat: NDArray[np.float32], cover: NDArray[np.float64]) -> float:
    """Return the share of a map `[patches]` inside a mask that covers the share `cover` of each patch.

    An empty map counts as flat.
    """
    weights = heat.astype(np.float64)
    total = float(weights.sum())
    return float(weights @ cover / total) if total > 0 else float(cover.mean())


def pointing_table(figures: dict[str, Any]) -> str:
    """Return the figures of `evaluate_pointing` as a text table."""
    lines = [f"{figures['cases']} objects on {figures['photographs']} photographs, shares and their 95 % intervals."]
    if not figures["cases"]:
        return lines[0]
    signs = {"pointing": "", "mass": "", "over_centre": "+"}
    rows = {
        name: [interval_cell(measured[key], sign) for key, sign in signs.items()]
        for name, measured in figures["methods"].items()
    }
    rows["centre"] = [interval_cell(interval, "") for interval in figures["centre"].values()]
    rows["chance"] = [f"{figures['chance']:.3f}"] * 2
    return "\n".join([*lines, *table_lines(("pointing", "mass inside", "pointing, over centre"), rows)])
