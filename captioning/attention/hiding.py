"""Hiding patches of a picture, and what a caption is worth without them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from captioning.attention.views import pixel_boxes
from captioning.core.contract import Captioner
from captioning.core.errors import ImageError, OptionsError
from captioning.core.types import Caption, PatchLayout, Picture
from captioning.media.images import open_image

STEPS = 16
Fill = Literal["mean", "blur"]
FILLS: tuple[Fill, ...] = ("mean", "blur")
OnStep = Callable[[int, int], None]
"""Hears (done, total); may raise `Stopped`."""
_BATCH = 8  # pictures at once: what is gained by more is little, and a person who stops waits for one batch
_WORKING_SIDE = 768
_PATCH_SIDE = 2  # the least that is left of a patch, in pixels


def hide_patches(picture: Picture, layout: PatchLayout, hidden: NDArray[np.bool_], fill: Fill = "mean") -> Picture:
    """The picture with the patches that `hidden [patches]` names filled with its mean colour, or blurred."""
    return _cover(picture, _filled(picture, fill), pixel_boxes(layout, *_size(picture)), hidden)


def _size(picture: Picture) -> tuple[int, int]:
    return picture.image.height, picture.image.width


def _filled(picture: Picture, fill: Fill) -> NDArray[np.uint8]:
    """Return the pixels that hidden patches show, `[H, W, 3]`. Raises `OptionsError` for an unknown fill."""
    if fill == "mean":
        pixels = np.asarray(picture.image)
        return np.broadcast_to(pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8), pixels.shape)
    if fill == "blur":
        # So wide that no shape is left: a tenth of the longer side.
        return np.asarray(picture.image.filter(ImageFilter.GaussianBlur(max(picture.image.size) / 10)))
    raise OptionsError(f"There is no fill {fill!r}; choose from {', '.join(FILLS)}.")


def _cover(picture: Picture, filled: NDArray[np.uint8], boxes: NDArray[np.intp], hidden: NDArray[np.bool_]) -> Picture:
    pixels = np.array(picture.image)
    for left, top, right, bottom in boxes[hidden]:
        pixels[top:bottom, left:right] = filled[top:bottom, left:right]
    return open_image(Image.fromarray(pixels), picture.name)


def score_hidden(
    captioner: Captioner,
    picture: Picture,
    caption: Caption,
    hidden: NDArray[np.bool_],
    fill: Fill = "mean",
    on_step: OnStep | None = None,
) -> NDArray[np.float32]:
    """Log-probabilities `[masks, tokens]` of a caption while the patches of each of `hidden [masks, patches]` are hid.

    Masks that are equal are looked at once. Raises what `on_step` raises.
    """
    picture, layout = _working_copy(captioner, picture)
    filled, boxes = _filled(picture, fill), pixel_boxes(layout, *_size(picture))
    masks, places = np.unique(hidden, axis=0, return_inverse=True)
    scores = np.zeros((len(masks), len(caption.token_ids)), np.float32)
    for start in range(0, len(masks), _BATCH):
        batch = masks[start : start + _BATCH]
        shown = [_cover(picture, filled, boxes, mask) for mask in batch]
        scores[start : start + _BATCH] = captioner.score(captioner.encode(shown), caption)
        if on_step is not None:
            on_step(min(start + _BATCH, len(masks)), len(masks))
    return scores[places.ravel()]


def _working_copy(captioner: Captioner, picture: Picture) -> tuple[Picture, PatchLayout]:
    """The picture made smaller, because every mask copies it, or larger, so that there is something of a patch to hide.

    It keeps its size where the model would cut up another one differently. Raises `ImageError` where a patch is then
    thinner than a pixel.
    """
    layout = captioner.preprocess(picture).layout
    factor = _working_factor(picture, layout)
    if factor != 1:
        width, height = (max(1, round(side * factor)) for side in picture.image.size)
        copy = open_image(picture.image.resize((width, height), reducing_gap=2.0), picture.name)
        copied = captioner.preprocess(copy).layout
        if copied.grid == layout.grid and len(copied.boxes) == len(layout.boxes):
            picture, layout = copy, copied
    if _usual_patch(picture, layout).min() < 1:
        raise ImageError(f"{picture.name} is too thin for its patches to be hidden; cut a part out of it.")
    return picture, layout


def _working_factor(picture: Picture, layout: PatchLayout) -> float:
    """Return the factor by which to resize a picture before its patches are hidden."""
    smaller = min(1.0, _WORKING_SIDE / max(picture.image.size))
    visible = float(_PATCH_SIDE / _usual_patch(picture, layout).min())
    roomy = math.sqrt(_WORKING_SIDE**2 / math.prod(picture.image.size))
    return max(smaller, min(visible, roomy))


def _usual_patch(picture: Picture, layout: PatchLayout) -> NDArray[np.float64]:
    """Width and height of a picture's patches in its pixels: the median, since padding leaves nothing of some."""
    sides = layout.boxes[:, 2:] - layout.boxes[:, :2]
    usual: NDArray[np.float64] = np.median(sides[(sides > 0).all(axis=1)], axis=0) * picture.image.size
    return usual


def deletion_masks(order: NDArray[np.intp], steps: int = STEPS) -> NDArray[np.bool_]:
    """Return which patches are hidden at each step of deletion, `[steps + 1, patches]`, none at first."""
    counts = np.rint(np.linspace(0, len(order), steps + 1)).astype(int)
    masks: NDArray[np.bool_] = np.argsort(order) < counts[:, None]
    return masks


def insertion_masks(order: NDArray[np.intp], steps: int = STEPS) -> NDArray[np.bool_]:
    """Return which patches are hidden at each step of insertion, `[steps + 1, patches]`, all at first."""
    return ~deletion_masks(order, steps)


def order_of(heat: NDArray[np.float32]) -> NDArray[np.intp]:
    """The patches of a map `[patches]`, hottest first; of equal ones the earlier."""
    return np.argsort(-heat, kind="stable")


def centre_heat(layout: PatchLayout) -> NDArray[np.float32]:
    """A map `[patches]` that knows nothing: hottest at the picture's centre, falling off with distance."""
    centres = (layout.boxes[:, :2] + layout.boxes[:, 2:]) / 2
    distances: NDArray[np.float32] = np.hypot(*(centres - 0.5).T).astype(np.float32)
    heat: NDArray[np.float32] = distances.max() - distances
    return heat
