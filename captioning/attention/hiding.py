"""Hidden patches of a picture, and the caption's log-probability without them."""

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
"""Receives (done, total); may raise `Stopped`."""
_BATCH = 8  # larger batches are hardly faster, and a stop waits for the end of a batch
_WORKING_SIDE = 768
_PATCH_SIDE = 2  # the least side of a patch, in pixels


def hide_patches(picture: Picture, layout: PatchLayout, hidden: NDArray[np.bool_], fill: Fill = "mean") -> Picture:
    """Return the picture with the patches marked in `hidden [patches]` filled with its mean colour, or blurred."""
    return _cover(picture, _fill_pixels(picture, fill), pixel_boxes(layout, *_size(picture)), hidden)


def _size(picture: Picture) -> tuple[int, int]:
    return picture.image.height, picture.image.width


def _fill_pixels(picture: Picture, fill: Fill) -> NDArray[np.uint8]:
    """Return the pixels that hidden patches show, `[H, W, 3]`. Raises `OptionsError` for an unknown fill."""
    if fill == "mean":
        pixels = np.asarray(picture.image)
        return np.broadcast_to(pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8), pixels.shape)
    if fill == "blur":
        # A radius of a tenth of the longer side leaves no shape.
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
    """Return log-probabilities `[masks, tokens]` of a caption, each with the patches of one mask hidden.

    `hidden [masks, patches]` marks the patches. Equal masks are scored once. Raises whatever `on_step` raises.
    """
    picture, layout = _working_copy(captioner, picture)
    filled, boxes = _fill_pixels(picture, fill), pixel_boxes(layout, *_size(picture))
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
    """Return the picture resized for hiding, with its layout.

    A large picture is reduced, because every mask copies it. A small one is enlarged, so that a patch has pixels to
    hide. It keeps its size where the model would divide the resized picture into other patches. Raises `ImageError`
    where a patch is then thinner than a pixel.
    """
    layout = captioner.preprocess(picture).layout
    factor = _working_factor(picture, layout)
    if factor != 1:
        width, height = (max(1, round(side * factor)) for side in picture.image.size)
        copy = open_image(picture.image.resize((width, height), reducing_gap=2.0), picture.name)
        copied = captioner.preprocess(copy).layout
        if copied.grid == layout.grid and len(copied.boxes) == len(layout.boxes):
            picture, layout = copy, copied
    if _median_patch_size(picture, layout).min() < 1:
        raise ImageError(f"{picture.name} is too thin for its patches to be hidden; cut a part out of it.")
    return picture, layout


def _working_factor(picture: Picture, layout: PatchLayout) -> float:
    """Return the factor by which to resize a picture before its patches are hidden."""
    smaller = min(1.0, _WORKING_SIDE / max(picture.image.size))
    visible = float(_PATCH_SIDE / _median_patch_size(picture, layout).min())
    roomy = math.sqrt(_WORKING_SIDE**2 / math.prod(picture.image.size))
    return max(smaller, min(visible, roomy))


def _median_patch_size(picture: Picture, layout: PatchLayout) -> NDArray[np.float64]:
    """Return the median width and height of a picture's patches, in pixels; patches of padding alone are left out."""
    sides = layout.boxes[:, 2:] - layout.boxes[:, :2]
    usual: NDArray[np.float64] = np.median(sides[(sides > 0).all(axis=1)], axis=0) * picture.image.size
    return usual


def deletion_masks(order: NDArray[np.intp], steps: int = STEPS) -> NDArray[np.bool_]:
    """Return the hidden patches of each step of deletion, `[steps + 1, patches]`; the first step hides none."""
    counts = np.rint(np.linspace(0, len(order), steps + 1)).astype(int)
    masks: NDArray[np.bool_] = np.argsort(order) < counts[:, None]
    return masks


def insertion_masks(order: NDArray[np.intp], steps: int = STEPS) -> NDArray[np.bool_]:
    """Return the hidden patches of each step of insertion, `[steps + 1, patches]`; the first step hides all."""
    return ~deletion_masks(order, steps)


def rank_patches(heat: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the patches of a map `[patches]`, hottest first; equal ones keep their order."""
    return np.argsort(-heat, kind="stable")


def centre_heat(layout: PatchLayout) -> NDArray[np.float32]:
    """Return a baseline map `[patches]`: hottest at the picture's centre, falling off with distance."""
    centres = (layout.boxes[:, :2] + layout.boxes[:, 2:]) / 2
    distances: NDArray[np.float32] = np.hypot(*(centres - 0.5).T).astype(np.float32)
    heat: NDArray[np.float32] = distances.max() - distances
    return heat
