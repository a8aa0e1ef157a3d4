"""What a trace shows: maps of one layer, head or method, comparable scales, and what each map is worth.

NumPy alone. Maps are `[tokens, patches]`, not negative, in the order of a layout's boxes.
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
class Method:
    """A way to say where a model looked: its name in commands, its title, whose it is, and what to know of it."""

    name: str
    title: str
    source: str
    note: str


METHODS: tuple[Method, ...] = (
    Method(
        "attention",
        "Attention",
        "Bahdanau, Cho, Bengio 2015; Xu et al. 2015",
        "What the layers weighed the picture's patches by; it says nothing of what came of it.",
    ),
    Method(
        "attention_clean",
        "Attention, earlier words removed",
        "after Token Activation Map: Li et al. 2025",
        "What earlier words looked at is scaled to fit and taken off; here all earlier words count alike.",
    ),
    Method(
        "gradient_attention",
        "Gradient × attention",
        "Selvaraju et al. 2017 (Grad-CAM), on attention as in Li et al. 2021 (ALBEF)",
        "Attention where more of it would have made the word likelier; one backward pass a word.",
    ),
    Method(
        "relevance",
        "Relevance",
        "Chefer, Gur, Wolf 2021",
        "Gradient × attention carried through all layers, and back to the pixels where the encoder is a Transformer.",
    ),
    Method(
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
class View:
    """What is shown first: a method, and for attention a layer (`None` is their mean) and a head.

    `measured` says whether it was chosen by measuring on training photographs.
    """

    method: str = "attention"
    layer: int | None = None
    head: Head = "mean"
    measured: bool = False


_MEASURED_VIEWS: Mapping[str, View] = {
    "embedded": View("gradient_attention", measured=True),
}
"""By model: the view with the largest gains on training photographs; of two alike, the one that takes less work."""


def default_view(spec: ModelSpec) -> View:
    """The view that measured best for a model, or plain attention where nobody measured."""
    view = _MEASURED_VIEWS.get(spec.model_id, View())
    return view if view.method in {method.name for method in methods_for(spec)} else View()


def methods_for(spec: ModelSpec) -> tuple[Method, ...]:
    """The methods that a model allows; none where its architecture has no attention to the picture."""
    capabilities = spec.capabilities
    names = {*capabilities.explanation_methods, *(TRACED if capabilities.attention_kind else ())}
    return tuple(method for method in METHODS if method.name in names)


def select(trace: CaptionTrace, layer: int | None = None, head: Head = "mean", subtract_minimum: bool = False) -> Maps:
    """The maps `[tokens, patches]` of one layer and head; `layer` `None` is the mean over layers.

    `head` "mean" and "max" go over the heads of each layer. `subtract_minimum` first takes off what every token
    gave a patch, head by head: with "mean" that is the classic recipe. Raises `OptionsError` for a layer or head
    that is not there.
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
    maps: Maps = _over_heads(chosen, head).mean(axis=0)
    return maps


def _over_heads(values: NDArray[np.float32], head: Head) -> NDArray[np.float32]:
    """`[layers, heads, …]` → `[layers, …]`."""
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
    """Maps `[positions, patches]` by any method, of all tokens unless `positions` names some.

    `layer` and `head` choose among attention and mean nothing to other methods. Raises `CapabilityError` for a
    method that the model does not allow, naming those that it does, and what `trace` and `explain` raise.
    """
    check_method(captioner.spec, method)
    chosen = range(len(caption.token_ids)) if positions is None else positions
    if method not in TRACED:
        return captioner.explain(picture, caption, chosen, method)
    (features,) = captioner.encode([picture])
    return view_maps(captioner.trace(features, caption), View(method, layer, head))[check_positions(caption, chosen)]


def view_maps(trace: CaptionTrace, view: View, scale: Scale = "shared", computed: Maps | None = None) -> Maps:
    """Return the maps `[tokens, patches]` of a view, not scaled; "minimum" takes off what all tokens share.

    `computed` are the maps of a method that a trace lacks.
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
    """The positions as they are. Raises `OptionsError` for one that the caption does not have."""
    outside = [position for position in positions if not 0 <= position < len(caption.token_ids)]
    if outside:
        last = len(caption.token_ids) - 1
        raise OptionsError(f"The caption has no token at position {outside[0]}; choose from 0 to {last}.")
    return list(positions)


def rescale(maps: Maps, how: Scale = "shared") -> Maps:
    """Maps `[tokens, patches]` in 0…1.

    "per_map" stretches each map by itself, which makes a flat map look sure of itself. The others divide all by the
    largest weight of all, so that maps can be compared; see `view_maps` for what "minimum" takes off before.
    """
    if maps.size == 0:
        return maps
    if how == "per_map":
        maps = maps - maps.min(axis=-1, keepdims=True)
        return _divided(maps, maps.max(axis=-1, keepdims=True))
    return _divided(maps, maps.max())


def _divided(values: Maps, by: NDArray[np.float32] | np.float32) -> Maps:
    """`values / by`, and 0 where that would divide by 0."""
    return np.divide(values, by, out=np.zeros_like(values), where=np.asarray(by) > 0)


def remove_interference(maps: Maps) -> Maps:
    """Maps with what earlier tokens looked at taken off, where that leaves anything; the first one stays as it is.

    The mean map of the tokens before is scaled to fit in least squares, subtracted, and what is below 0 is 0.
    After Token Activation Map (Li et al. 2025), which weighs earlier tokens by how alike the words are.
    """
    cleaned = maps.copy()
    for place in range(1, len(maps)):
        before = maps[:place].mean(axis=0)
        energy = float(before @ before)
        scale = float(before @ maps[place]) / energy if energy > 0 else 0.0
        cleaned[place] = np.maximum(maps[place] - np.float32(scale) * before, 0)
    return cleaned


def entropy(maps: Maps) -> NDArray[np.float64]:
    """How spread out each map is, `[tokens]` in bits: 0 for a single patch, log2(patches) for a flat or empty one."""
    totals = maps.sum(axis=-1, keepdims=True, dtype=np.float64)
    shares = np.where(totals > 0, maps / np.where(totals > 0, totals, 1), 1 / maps.shape[-1])
    result: NDArray[np.float64] = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=-1)
    return np.maximum(result, 0.0)


def image_share(trace: CaptionTrace, layer: int | None = None, head: Head = "mean") -> NDArray[np.float32]:
    """The share of each token's attention that went to patches of the picture, `[tokens]` in 0…1."""
    return _share(trace.image_attentions.sum(axis=-1), layer, head)


def prefix_share(trace: CaptionTrace, layer: int | None = None, head: Head = "mean") -> NDArray[np.float32]:
    """The share of each token's attention that went to the picture's prefix (CLS), `[tokens]` in 0…1."""
    return _share(trace.prefix_attentions, layer, head)


def _share(shares: NDArray[np.float32], layer: int | None, head: Head) -> NDArray[np.float32]:
    chosen = shares if layer is None else shares[layer : layer + 1]
    # The largest share among heads would not add up to 1 with that of another column.
    result: NDArray[np.float32] = _over_heads(chosen, "mean" if head == "max" else head).mean(axis=0)
    return result


def merge_words(maps: Maps, groups: Sequence[Sequence[int]]) -> Maps:
    """The mean map of each word's tokens, `[words, patches]`."""
    if not groups:
        return maps[:0]
    return np.stack([maps[list(group)].mean(axis=0) for group in groups])


def to_grid(heat: NDArray[np.float32], layout: PatchLayout) -> NDArray[np.float32]:
    """Maps `[…, patches]` as `[…, rows, columns]`. Raises `CapabilityError` where the patches form no grid."""
    if layout.grid is None:
        raise CapabilityError("The patches of this picture form no grid: the model looks at it in pieces.")
    return heat.reshape(*heat.shape[:-1], *layout.grid)


def sample_map(
    heat: NDArray[np.float32], layout: PatchLayout, height: int, width: int, smooth: bool = True
) -> NDArray[np.float32]:
    """A map `[patches]` as a picture `[height, width]`; places that no patch covers are 0.

    `smooth` blends linearly between the centres of a grid's patches; else, and where there is no grid, every
    patch is of one value, and where patches lie on each other it is their mean.
    """
    if smooth and layout.grid is not None:
        return _blend(to_grid(heat, layout), layout.boxes.reshape(*layout.grid, 4), height, width)
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for (left, top, right, bottom), value in zip(pixel_boxes(layout, height, width), heat, strict=True):
        total[top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    return _divided(total, count)


def pixel_boxes(layout: PatchLayout, height: int, width: int) -> NDArray[np.intp]:
    """Each patch's left, top, right and bottom `[patches, 4]` in whole pixels of a picture, cut at its edges."""
    edges = np.rint(layout.boxes * (width, height, width, height)).astype(np.intp)
    return edges.clip(0, (width, height, width, height))


def _blend(grid: NDArray[np.float32], boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear between centres; from the outermost centres on to the edge of the patches it stays as it is."""
    down = _along(boxes[:, 0, 1], boxes[:, 0, 3], height)
    across = _along(boxes[0, :, 0], boxes[0, :, 2], width)
    return (down @ grid @ across.T).astype(np.float32)


def _along(starts: NDArray[np.float64], ends: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """How much each patch along one side counts at each pixel, `[length, patches]`."""
    places = (np.arange(length) + 0.5) / length
    weights = np.stack([np.interp(places, (starts + ends) / 2, one) for one in np.eye(len(starts))], axis=1)
    weights[(places < starts[0]) | (places > ends[-1])] = 0
    return weights


def quantise(weights: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Weights `[…, patches]` in a byte each, and the largest of each row `[…]`, which 255 stands for."""
    largest = weights.max(axis=-1)
    shares = _divided(weights, np.broadcast_to(largest[..., None], weights.shape))
    return np.rint(shares * 255).astype(np.uint8), largest
