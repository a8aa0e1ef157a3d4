"""Faithfulness of attention maps on photographs: deletion and insertion of every method against random order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioning.attention.faithfulness import FaithfulnessCurves, paired_bootstrap, word_score
from captioning.attention.hiding import (
    STEPS,
    Fill,
    centre_heat,
    deletion_masks,
    insertion_masks,
    rank_patches,
    score_hidden,
)
from captioning.attention.views import (
    TRACED,
    Head,
    check_method,
    default_view,
    map_tokens,
    merge_words,
    methods_for,
    remove_interference,
    select,
)
from captioning.captions.words import word_groups, word_text
from captioning.core.contract import Captioner
from captioning.core.errors import OptionsError
from captioning.core.types import Caption, DecodingOptions, Picture
from captioning.media.images import open_image
from captioning.training.data import PhotoSet, ReportProgress

ViewKey = tuple[str, int | None, Head]
"""A method, and for attention a layer (`None` is their mean) and a head."""
MoreViews = Literal["layers", "heads"]
Word = tuple[int, ...]
"""The positions of a word's tokens."""
Interval = tuple[float, float, float]
"""A mean, and the low and high end of its 95 % interval."""


def evaluate_faithfulness(
    captioner: Captioner,
    data: PhotoSet,
    nouns: Collection[str],
    methods: Sequence[str] | None = None,
    more_views: MoreViews | None = None,
    num_random: int = 4,
    steps: int = STEPS,
    fill: Fill = "mean",
    seed: int = 0,
    report: ReportProgress | None = None,
) -> dict[str, Any]:
    """Measure whether maps beat random order in deletion and insertion, on the nouns of greedy captions.

    Every method is measured unless `methods` names some. `more_views` adds the mean and maximum over heads of every
    layer of raw attention, or every head.

    `deletion` and `insertion` are differences of areas under log-probability to the mean of `num_random` random orders,
    in nats: the mean, and the low and high end of the 95 % interval (paired bootstrap over photographs). Above 0 is
    better than random. `gain` is the mean of both, and `over_attention` the difference of that to raw attention.
    "centre" is the order from the picture's centre outwards. Raises `OptionsError` for less than one step.
    """
    if steps < 1:
        raise OptionsError(f"Patches cannot go in {steps} steps; give 1 or more.")
    views = choose_views(captioner, methods, more_views)
    areas: list[NDArray[np.float64]] = []  # [views + centre, deletion and insertion] less those of random order
    chances: list[float] = []
    groups: list[int] = []
    for number in range(len(data.photos)):
        picture = open_image(Image.fromarray(np.ascontiguousarray(data.pixels[number].transpose(1, 2, 0))))
        (features,) = captioner.encode([picture])
        (caption,) = captioner.decode(features, [""], DecodingOptions())
        words = find_nouns(caption, nouns)
        if words:
            chance = [np.random.default_rng((seed, number, n)) for n in range(num_random)]
            gains, random = _measure_picture(captioner, picture, caption, words, views, chance, steps, fill)
            areas += list(gains)
            chances += list(random)
            groups += [number] * len(words)
        if report:
            report("hiding patches of", number + 1, len(data.photos))
    names = [*map(view_name, views), "centre"]
    raw = np.array(areas)[:, names.index("attention")] if groups and "attention" in names else None
    summary = {name: _summarise(np.array(areas)[:, place], raw, groups) for place, name in enumerate(names) if groups}
    return {
        "nouns": len(groups),
        "photographs": len(set(groups)),
        "steps": steps,
        "fill": fill,
        "random_orders": num_random,
        "random_area": float(np.mean(chances)) if chances else None,
        "methods": dict(sorted(summary.items(), key=lambda item: -item[1]["gain"][0])),
    }


def choose_views(captioner: Captioner, methods: Sequence[str] | None, more_views: MoreViews | None) -> list[ViewKey]:
    """Return the views to measure: every method, and attention also in the default view and those of `more_views`.

    Raises `CapabilityError` for a method that the model does not allow.
    """
    spec = captioner.spec
    for method in methods or ():
        check_method(spec, method)
    names = methods or [method.name for method in methods_for(spec)]
    views: list[ViewKey] = [(name, None, "mean") for name in names]
    first = default_view(spec)
    if first.method in names and (first.method, first.layer, first.head) not in views:
        views.append((first.method, first.layer, first.head))
    if more_views and "attention" in names:
        layers, heads = _shape_of_attention(captioner)
        wanted: Sequence[Head] = ("mean", "max") if more_views == "layers" else range(heads)
        views += [("attention", None, "max"), *(("attention", n, head) for n in range(layers) for head in wanted)]
    return list(dict.fromkeys(views))


def _shape_of_attention(captioner: Captioner) -> tuple[int, int]:
    """Return the number of layers and of heads, which is the same for every picture."""
    (features,) = captioner.encode([open_image(Image.new("RGB", (64, 64)))])
    caption = captioner.caption_from_text(features, "", "a photo")
    layers, heads = captioner.trace(features, caption).image_attentions.shape[:2]
    return layers, heads


def view_name(view: ViewKey) -> str:
    """Return the name of a view in tables; layers and heads count from 0, as on the command line."""
    method, layer, head = view
    if (layer, head) == (None, "mean"):
        return method
    return f"{method}, {'all layers' if layer is None else f'layer {layer}'}, head {head}"


def _measure_picture(
    captioner: Captioner,
    picture: Picture,
    caption: Caption,
    words: Sequence[Word],
    views: Sequence[ViewKey],
    chance: Sequence[np.random.Generator],
    steps: int,
    fill: Fill,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return gains over random order `[words, views + 1, 2]`, and the area of random order `[words]`, in nats.

    All masks go through the model together; masks that words or methods share are scored once.
    """
    layout = captioner.preprocess(picture).layout
    heats = word_maps(captioner, picture, caption, words, views)
    centre = np.broadcast_to(centre_heat(layout), (len(words), 1, heats.shape[-1]))
    orders = [rank_patches(heat) for word in np.concatenate((heats, centre), axis=1) for heat in word]
    own = [half(order, steps) for order in orders for half in (deletion_masks, insertion_masks)]
    # Insertion by a random order is deletion by its reverse, read backwards, and the reverse is as random.
    random = [deletion_masks(generator.permutation(heats.shape[-1]), steps) for generator in chance]
    scores = score_hidden(captioner, picture, caption, np.concatenate([*own, *random]), fill)
    gains = np.zeros((len(words), len(views) + 1, 2))
    areas = np.zeros(len(words))
    for place, word in enumerate(words):
        of_word = word_score(scores, caption, word).reshape(-1, steps + 1)
        curves = of_word[: len(own)].reshape(len(words), len(views) + 1, 2, steps + 1)[place]
        randoms = [FaithfulnessCurves(curve, curve[::-1]) for curve in of_word[len(own) :]]
        areas[place] = np.mean([one.deletion_area for one in randoms])
        for view, pair in enumerate(curves):
            measured = FaithfulnessCurves(*pair)
            gains[place, view] = areas[place] - measured.deletion_area, measured.insertion_area - areas[place]
    return gains, areas


def word_maps(
    captioner: Captioner, picture: Picture, caption: Caption, words: Sequence[Word], views: Sequence[ViewKey]
) -> NDArray[np.float32]:
    """Return maps `[words, views, patches]`: the mean over each word's tokens, attention from one trace."""
    (features,) = captioner.encode([picture])
    trace = captioner.trace(features, caption)
    positions = [position for word in words for position in word]
    ends = np.cumsum([len(word) for word in words])
    rows = [range(end - len(word), end) for word, end in zip(words, ends.tolist(), strict=True)]
    maps = []
    for method, layer, head in views:
        if method in TRACED:
            whole = select(trace, layer, head)
            own = (remove_interference(whole) if method == "attention_clean" else whole)[positions]
        else:
            own = map_tokens(captioner, picture, caption, method, positions=positions)
        maps.append(merge_words(own, rows))
    return np.stack(maps, axis=1)


def _summarise(
    gains: NDArray[np.float64], raw: NDArray[np.float64] | None, groups: Sequence[int]
) -> dict[str, Interval]:
    """Return means and intervals of gains `[words, deletion and insertion]`, and of their differences to `raw`."""
    columns = {"deletion": gains[:, 0], "insertion": gains[:, 1], "gain": gains.mean(axis=1)}
    if raw is not None:
        columns["over_attention"] = (gains - raw).mean(axis=1)
    return {name: paired_bootstrap(column, groups) for name, column in columns.items()}


def find_nouns(caption: Caption, nouns: Collection[str]) -> list[Word]:
    """Return the token positions of each generated word that is one of the nouns."""
    return [
        group
        for group in word_groups(caption)
        if group[0] >= caption.num_prompt_tokens and word_text(caption, group) in nouns
    ]


def faithfulness_table(figures: dict[str, Any]) -> str:
    """Return the figures of `evaluate_faithfulness` as a text table."""
    counts = f"{figures['nouns']} nouns on {figures['photographs']} photographs."
    unit = f"Nats better than random order (mean of {figures['random_orders']}), and the 95 % interval"
    columns = ("deletion", "insertion", "both", "both, over attention")
    rows = {name: [interval_cell(one) for one in measured.values()] for name, measured in figures["methods"].items()}
    return "\n".join([f"{counts} {unit}", *table_lines(columns, rows)])


def interval_cell(interval: Interval, sign: str = "+") -> str:
    """Return a mean and its 95 % interval as text; `sign` "+" shows plus signs, "" does not."""
    mean, low, high = (f"{value:{sign}.3f}" for value in interval)
    return f"{mean} ({low} to {high})"


def table_lines(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines of a text table: the columns, then each row's name and cells."""
    return [f"{name:34} " + " ".join(f"{cell:>24}" for cell in cells) for name, cells in {"": columns, **rows}.items()]
