"""Maps from a trace: by layer, head or method, on comparable scales, and measures of a map.

NumPy alone. Maps are `[tokens, patches]`, not negative, in the order of the layout's boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from captioning.core.contract import Captioner
from captioning.core.errors import CapabilityError, OptionsError
from captioning.core.types import Caption, CaptionTrace, ModelSpec, PatchLayout, Picture

Maps = NDArray[np.float32]
Head = int | Literal["mean", "max"]
Scale = Literal["shared", "per_map", "minimum"]
SCALES: tuple[Scale, ...] = ("shared", "per_map", "minimum")


@dataclass(frozen=True, slots=True)
class AttentionMethod:
    """A method of making maps: its name in commands, its title, its source, and a note for readers."""

    name: str
    title: str
    source: str
    note: str


METHODS: tuple[AttentionMethod, ...] = (
    AttentionMethod(
        "attention",
        "Attention",
        "Bahdanau, Cho, Bengio 2015; Xu et al. 2015",
        "What the layers weighed the picture's patches by; it says nothing of what came of it.",
    ),
    AttentionMethod(
        "attention_clean",
        "Attention, earlier words removed",
        "after Token Activation Map: Li et al. 2025",
        "What earlier words looked at is scaled to fit and taken off; here all earlier words count alike.",
    ),
    AttentionMethod(
        "gradient_attention",
        "Gradient × attention",
        "Selvaraju et al. 2017 (Grad-CAM), on attention as in Li et al. 2021 (ALBEF)",
        "Attention where more of it would have made the word likelier; one backward pass a word.",
    ),
    AttentionMethod(
        "relevance",
        "Relevance",
        "Chefer, Gur, Wolf 2021",
        "Gradient × attention carried through all layers, and back to the pixels where the encoder is a Transformer.",
    ),
    AttentionMethod(
        "input_gradient",
        "Input × gradient",
        "Shrikumar et al. 2017",
        "What the decoder reads of each patch, times the gradient by it; a patch's parts are summed. "
        "One backward pass a word.",
    ),
)
TRACED = ("attention", "attention_clean")
"""Methods that need a trace alone, and can show single layers and heads."""


@dataclass(frozen=True, slots=True)
class AttentionView:
    """The choice of a map: a method, and for attention a layer (`None` is their mean) and a head.

    `measured` says whether the view was chosen by measuring on training photographs.
    """

    method: str = "attention"
    layer: int | None = None
    head: Head = "mean"
    measured: bool = False


_MEASURED_VIEWS: Mapping[str, AttentionView] = {
    "embedded": AttentionView("gradient_attention", measured=True),
}
"""By model, the view with the largest gains on training photographs; of two equal ones the cheaper."""


def default_view(spec: ModelSpec) -> AttentionView:
    """Return the view that measured best for a model, or plain attention for a model that was not measured."""
    view = _MEASURED_VIEWS.get(spec.model_id, AttentionView())
    return view if view.method in {method.name for method in methods_for(spec)} else AttentionView()


def methods_for(spec: ModelSpec) -> tuple[AttentionMethod, ...]:
    """Return the methods that a model allows; none where its architecture has no attention to the picture."""
    capabilities = spec.capabilities
    names = {*capabilities.explanation_methods, *(TRACED if capabilities.attention_kind else ())}
    return tuple(method for method in METHODS if method.name in names)


def select(trace: CaptionTrace, layer: int | None = None, head: Head = "mean", subtract_minimum: bool = False) -> Maps:
    """Return the maps `[tokens, patches]` of one layer and head; a `layer` of `None` is the mean over layers.

    A `head` of "mean" or "max" reduces the heads of each layer. `subtract_minimum` first subtracts from each patch the
    least weight that any token gave it, head by head: with "mean" that is the classic recipe. Raises `OptionsError` for
    a layer or head that does not exist.
    """
    attentions = trace.image_attentions
    num_layers, num_heads = attentions.shape[:2]
    if layer is not None and not 0 <= layer < num_layers:
        raise OptionsError(f"There is no layer {layer}; choose from 0 to {num_layers - 1}, or the mean.")
    if head not in ("mean", "max") if isinstance(head, str) else not 0 <= head < num_heads:
        raise OptionsError(f"There is no head {head!r}; choose from 0 to {num_heads - 1}, mean or max.")
    chosen = attentions if layer is None else attentions[layer : layer + 1]
    if subtract_minimum:
        chosen = chosen - chosen.min(axis=-2, keepdims=True)
    maps: Maps = _reduce_heads(chosen, head).mean(axis=0)
    return maps


def _reduce_heads(values: NDArray[np.float32], head: Head) -> NDArray[np.float32]:
    """Reduce `[layers, heads, …]` to `[layers, …]`."""
    if not isinstance(head, str):
        return values[:, head]
    result: NDArray[np.float32] = values.max(axis=1) if head == "max" else values.mean(axis=1)
    return result


def map_tokens(
    captioner: Captioner,
    picture: Picture,
    caption: Caption,
    method: str,
    layer: int | None = None,
    head: Head = "mean",
    positions: Sequence[int] | None = None,
) -> Maps:
    """Return maps `[positions, patches]` by any method, of all tokens or of those at `positions`.

    `layer` and `head` are for attention; other methods ignore them. Raises `CapabilityError` for a method that the
    model does not allow, and the errors of `trace` and `explain`.
    """
    check_method(captioner.spec, method)
    chosen = range(len(caption.token_ids)) if positions is None else positions
    if method not in TRACED:
        return captioner.explain(picture, caption, chosen, method)
    (features,) = captioner.encode([picture])
    return view_maps(captioner.trace(features, caption), AttentionView(method, layer, head))[
        check_positions(caption, chosen)
    ]


def view_maps(trace: CaptionTrace, view: AttentionView, scale: Scale = "shared", computed: Maps | None = None) -> Maps:
    """Return the maps `[tokens, patches]` of a view before scaling.

    The scale "minimum" subtracts from each patch the least weight of all tokens. `computed` holds the maps of a method
    that a trace lacks.
    """
    subtract = scale == "minimum"
    if view.method in TRACED:
        maps = select(trace, view.layer, view.head, subtract_minimum=subtract)
        return remove_interference(maps) if view.method == "attention_clean" else maps
    assert computed is not None
    return computed - computed.min(axis=0) if subtract else computed


def check_method(spec: ModelSpec, method: str) -> None:
    """Raise `CapabilityError` for a method that a model does not allow."""
    names = [known.name for known in methods_for(spec)]
    if not names:
        raise CapabilityError(f"{spec.title} has no attention to the picture that could be shown.")
    if method not in names:
        raise CapabilityError(f"{spec.title} has no maps by {method!r}; choose from {', '.join(names)}.")


def check_positions(caption: Caption, positions: Sequence[int]) -> list[int]:
    """Return the positions as a list. Raises `OptionsError` for one that the caption does not have."""
    outside = [position for position in positions if not 0 <= position < len(caption.token_ids)]
    if outside:
        last = len(caption.token_ids) - 1
        raise OptionsError(f"The caption has no token at position {outside[0]}; choose from 0 to {last}.")
    return list(positions)


def rescale(maps: Maps, how: Scale = "shared") -> Maps:
    """Return maps `[tokens, patches]` in 0…1.

    "per_map" stretches each map by itself, which makes a flat map look certain. The other scales divide all maps by the
    largest weight, so that they can be compared; `view_maps` subtracts for "minimum" before.
    """
    if maps.size == 0:
        return maps
    if how == "per_map":
        maps = maps - maps.min(axis=-1, keepdims=True)
        return _divided(maps, maps.max(axis=-1, keepdims=True))
    return _divided(maps, maps.max())


def _divided(values: Maps, by: NDArray[np.float32] | np.float32) -> Maps:
    """Return `values / by`, and 0 where `by` is 0."""
    return np.divide(values, by, out=np.zeros_like(values), where=np.asarray(by) > 0)


def remove_interference(maps: Maps) -> Maps:
    """Subtract from each token's map what earlier tokens looked at; the first map stays unchanged.

    The mean map of the earlier tokens is scaled by least squares and subtracted, and negative weights become 0. After
    Token Activation Map (Li et al. 2025), which weighs earlier tokens by the similarity of the words.
    """
    cleaned = maps.copy()
    for place in range(1, len(maps)):
        before = maps[:place].mean(axis=0)
        energy = float(before @ before)
        scale = float(before @ maps[place]) / energy if energy > 0 else 0.0
        cleaned[place] = np.maximum(maps[place] - np.float32(scale) * before, 0)
    return cleaned


def entropy(maps: Maps) -> NDArray[np.float64]:
    """Return the entropy of each map, `[tokens]` in bits: 0 for one patch, log2(patches) for a flat or empty map."""
    totals = maps.sum(axis=-1, keepdims=True, dtype=np.float64)
    shares = np.where(totals > 0, maps / np.where(totals > 0, totals, 1), 1 / maps.shape[-1])
    result: NDArray[np.float64] = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=-1)
    return np.maximum(result, 0.0)


def image_share(trace: CaptionTrace, layer: int | None = None, head: Head = "mean") -> NDArray[np.float32]:
    """Return the share of each token's attention to the patches of the picture, `[tokens]` in 0…1."""
    return _share(trace.image_attentions.sum(axis=-1), layer, head)


def prefix_share(trace: CaptionTrace, layer: int | None = None, head: Head = "mean") -> NDArray[np.float32]:
    """Return the share of each token's attention to the picture's prefix (CLS), `[tokens]` in 0…1."""
    return _share(trace.prefix_attentions, layer, head)


def _share(shares: NDArray[np.float32], layer: int | None, head: Head) -> NDArray[np.float32]:
    chosen = shares if layer is None else shares[layer : layer + 1]
    # Maxima over heads would not add up to 1 with those of the other column.
    result: NDArray[np.float32] = _reduce_heads(chosen, "mean" if head == "max" else head).mean(axis=0)
    return result


def merge_words(maps: Maps, groups: Sequence[Sequence[int]]) -> Maps:
    """Return the mean map of each word's tokens, `[words, patches]`."""
    if not groups:
        return maps[:0]
    return np.stack([maps[list(group)].mean(axis=0) for group in groups])


def to_grid(heat: NDArray[np.float32], layout: PatchLayout) -> NDArray[np.float32]:
    """Return maps `[…, patches]` as `[…, rows, columns]`. Raises `CapabilityError` where the patches form no grid."""
    if layout.grid is None:
        raise CapabilityError("The patches of this picture form no grid: the model looks at it in pieces.")
    return heat.reshape(*heat.shape[:-1], *layout.grid)


def sample_map(
    heat: NDArray[np.float32], layout: PatchLayout, height: int, width: int, smooth: bool = True
) -> NDArray[np.float32]:
    """Return a map `[patches]` as pixels `[height, width]`; pixels that no patch covers are 0.

    `smooth` interpolates linearly between the centres of a grid's patches. Otherwise, and without a grid, all pixels of
    a patch have one value; where patches overlap it is their mean.
    """
    if smooth and layout.grid is not None:
        return _blend(to_grid(heat, layout), layout.boxes.reshape(*layout.grid, 4), height, width)
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for (left, top, right, bottom), value in zip(pixel_boxes(layout, height, width), heat, strict=True):
        total[top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    return _divided(total, count)


def pixel_boxes(layout: PatchLayout, height: int, width: int) -> NDArray[np.intp]:
    """Return each patch's left, top, right and bottom `[patches, 4]` in whole pixels, cut at the picture's edges."""
    edges = np.rint(layout.boxes * (width, height, width, height)).astype(np.intp)
    return edges.clip(0, (width, height, width, height))


def _blend(grid: NDArray[np.float32], boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """Interpolate bilinearly between patch centres; outside the outermost centres values stay constant."""
    down = _axis_weights(boxes[:, 0, 1], boxes[:, 0, 3], height)
    across = _axis_weights(boxes[0, :, 0], boxes[0, :, 2], width)
    return (down @ grid @ across.T).astype(np.float32)


def _axis_weights(starts: NDArray[np.float64], ends: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return the weight of each patch along one side at each pixel, `[length, patches]`."""
    places = (np.arange(length) + 0.5) / length
    weights = np.stack([np.interp(places, (starts + ends) / 2, one) for one in np.eye(len(starts))], axis=1)
    weights[(places < starts[0]) | (places > ends[-1])] = 0
    return weights


def quantise(weights: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return weights `[…, patches]` as bytes, and the largest weight of each row `[…]`, which 255 stands for."""
    largest = weights.max(axis=-1)
    shares = _divided(weights, np.broadcast_to(largest[..., None], weights.shape))
    return np.rint(shares * 255).astype(np.uint8), largest
