"""Random changes to a batch of pictures, computed on the device that holds them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(
    pixels: Tensor,
    size: tuple[int, int],
    cells: tuple[int, int],
    generator: torch.Generator,
    strength: float = 1.0,
    detail: int | None = None,
) -> Tensor:
    """Randomly crop, flip, recolour and partly hide pictures `pixels [N, 3, H, W]`, 8 bits a value.

    Returns `[N, 3, *size]` in 0…1. Hidden cells of a grid of `cells` (rows, columns) take the picture's mean colour,
    because faithfulness is measured on pictures with hidden patches. `strength` scales every range; at 0 pictures are
    only resized. With `detail`, pictures are reduced to that many pixels a side before they are enlarged to `size`, and
    changed batches to fewer, down to half at strength 1. The sharpness of a picture then says nothing about its
    content.
    """
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        # Drawn on the processor, so that a seed gives the same changes on every device.
        return (torch.rand(count, *shape, generator=generator) * (high - low) + low).to(pixels.device)

    images = pixels.float() / 255
    if strength == 0:
        if detail is not None:
            return _enlarge(images, detail, size)
        return F.interpolate(images, size=size, mode="bilinear", antialias=True)
    cropped = size if detail is None else (detail, detail)
    scale = uniform(max(0.05, 1 - 0.6 * strength), 1.0).sqrt()
    stretch = uniform(-0.15 * strength, 0.15 * strength).exp()
    width, height = (scale * stretch).clamp(max=1.0), (scale / stretch).clamp(max=1.0)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=pixels.device)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2] = uniform(-1, 1) * (1 - width)
    theta[:, 1, 2] = uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, [count, 3, *cropped], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def around_one(spread: float) -> Tensor:
        return uniform(max(0.0, 1 - spread * strength), 1 + spread * strength, 1, 1, 1)

    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - mean) * around_one(0.3) + mean * around_one(0.3)
    saturation = torch.where(uniform(0, 1, 1, 1, 1) < 0.1 * strength, 0.0, around_one(0.4))
    images = (images - grey) * saturation + grey
    if detail is not None:
        sharpness = 0.5 ** (strength * float(torch.rand((), generator=generator)))
        images = _enlarge(images.clamp(0, 1), round(detail * sharpness), size)

    share = torch.where(uniform(0, 1, 1, 1, 1) < 0.25 * strength, uniform(0, 0.5, 1, 1, 1), 0.0)
    hidden = F.interpolate((uniform(0, 1, 1, *cells) < share).float(), size=size).bool()
    colour = images.mean(dim=(2, 3), keepdim=True)
    return torch.where(hidden, colour, images).clamp(0, 1)


def _enlarge(images: Tensor, detail: int, size: tuple[int, int]) -> Tensor:
    """Reduce pictures `[N, 3, H, W]` to `detail` pixels a side, then enlarge them to `size`."""
    if images.shape[-2:] != (detail, detail):
        images = F.interpolate(images, (detail, detail), mode="bicubic", antialias=True)
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)


def lay_over(things: Tensor, backgrounds: Tensor, generator: torch.Generator, detail: int | None = None) -> Tensor:
    """Reduce each of `things [N, 3, H, W]` and paste it over the background in the same row, at a random place.

    `backgrounds` has the same shape. A thing keeps a third to two thirds of its height and width (copy-paste: Ghiasi et
    al. 2021). With `detail`, the result is reduced to that many pixels a side and enlarged again, so that a reduced
    thing is no sharper than its background.
    """
    height, width = things.shape[-2:]
    shares, down, across = torch.rand(3, len(things), generator=generator)
    laid = backgrounds.clone()
    for number, share in enumerate((1 / 3 + shares / 3).tolist()):
        rows, columns = round(height * share), round(width * share)
        top, left = round(float(down[number]) * (height - rows)), round(float(across[number]) * (width - columns))
        small = F.interpolate(things[number : number + 1], (rows, columns), mode="bilinear", antialias=True)
        laid[number, :, top : top + rows, left : left + columns] = small[0]
    return laid if detail is None else _enlarge(laid, detail, (height, width))


def cut_mix(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Paste a rectangle of another picture of the batch into each of `images [N, 3, H, W]` (CutMix: Yun et al. 2019).

    Returns the mixed pictures, the row of each rectangle's picture `[N]`, and the share of each picture that is its
    own.
    """
    height, width = images.shape[-2:]
    area, across, down = torch.rand(3, generator=generator).tolist()
    box_height, box_width = (round(side * area**0.5) for side in (height, width))
    top, left = round(down * (height - box_height)), round(across * (width - box_width))
    partners = torch.randperm(len(images), generator=generator).to(images.device)
    mixed = images.clone()
    box = (..., slice(top, top + box_height), slice(left, left + box_width))
    mixed[box] = images[partners][box]
    return mixed, partners, 1 - box_height * box_width / (height * width)
