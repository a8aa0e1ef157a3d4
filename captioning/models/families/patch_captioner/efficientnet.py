"""EfficientNet-Lite2 (Tan & Le 2019; the Lite variant: Liu 2020), whose ImageNet weights a package ships.

Written here because the network is short, while timm and torchvision, which have it too, are large dependencies.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

NUM_CLASSES = 1000
HEAD_CHANNELS = 1280
STEM_CHANNELS = 32
STRIDE = 32
"""Pixels from one position of the last stage to the next."""
_NORM_EPS = 1e-3
_NORM_OF = {
    "_conv_stem": "_bn0",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
    "_conv_head": "_bn1",
}
"""Which normalisation follows which convolution, by the names that a part has for them."""


class _Stage(NamedTuple):
    """Blocks of equal shape; the first has the stride and changes the channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(3, 3, 2, 6, 24),
    _Stage(3, 5, 2, 6, 48),
    _Stage(4, 3, 2, 6, 88),
    _Stage(4, 5, 1, 6, 120),
    _Stage(5, 5, 2, 6, 208),
    _Stage(1, 3, 1, 6, 352),
)
LAST_CHANNELS = _STAGES[-1].channels


class SamePaddedConv(nn.Conv2d):
    """A convolution whose input is padded as TensorFlow pads a picture of the network's native side.

    At stride 2 an even side gets its extra row and column below and to the right. `even` is whether the side is even.
    """

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, even: bool = True
    ) -> None:
        total = max(kernel - (stride if even else 1), 0)
        before = total // 2
        symmetric = total % 2 == 0
        super().__init__(in_channels, channels, kernel, stride, before if symmetric else 0, groups=groups, bias=False)
        self.border = None if symmetric else (before, total - before, before, total - before)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, in_channels, H, W]` → `[N, channels, ⌈H / stride⌉, ⌈W / stride⌉]`."""
        return super().forward(x if self.border is None else F.pad(x, self.border))


class InvertedBottleneck(nn.Module):
    """MBConv (Sandler et al. 2018): expand, filter each channel by itself, project; a shortcut where shapes agree."""

    def __init__(self, in_channels: int, stage: _Stage, stride: int, even: bool) -> None:
        super().__init__()
        wide = in_channels * stage.expansion
        self.expands = stage.expansion > 1
        if self.expands:
            self._expand_conv = SamePaddedConv(in_channels, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, _NORM_EPS)
        self._depthwise_conv = SamePaddedConv(wide, wide, stage.kernel, stride, wide, even)
        self._bn1 = nn.BatchNorm2d(wide, _NORM_EPS)
        self._project_conv = SamePaddedConv(wide, stage.channels, 1)
        self._bn2 = nn.BatchNorm2d(stage.channels, _NORM_EPS)
        self.has_shortcut = stride == 1 and in_channels == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """`[N, in_channels, H, W]` → `[N, channels, H / stride, W / stride]`."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        projected: Tensor = x + y if self.has_shortcut else y
        return projected


class EfficientNetLite2(nn.Module):
    """The network under the names that its published weights have, so that they load as they are."""

    def __init__(self, native: int = 260) -> None:
        super().__init__()
        side = native
        self._conv_stem = SamePaddedConv(3, STEM_CHANNELS, 3, 2, even=side % 2 == 0)
        side = -(-side // 2)
        self._bn0 = nn.BatchNorm2d(STEM_CHANNELS, _NORM_EPS)
        blocks: list[InvertedBottleneck] = []
        channels = STEM_CHANNELS
        for stage in _STAGES:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(InvertedBottleneck(channels, stage, stride, side % 2 == 0))
                channels, side = stage.channels, -(-side // stride)
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SamePaddedConv(channels, HEAD_CHANNELS, 1)
        self._bn1 = nn.BatchNorm2d(HEAD_CHANNELS, _NORM_EPS)
        self._fc = nn.Linear(HEAD_CHANNELS, NUM_CLASSES)

    def fold_norms(self) -> None:
        """Fold every batch normalisation into the convolution before it, which computes the same in fewer passes."""
        for part in list(self.modules()):
            for conv, norm in _NORM_OF.items():
                if isinstance(getattr(part, norm, None), nn.BatchNorm2d) and hasattr(part, conv):
                    setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm)))
                    setattr(part, norm, nn.Identity())
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs

    def stages(self, pixel_values: Tensor) -> Tensor:
        """Pixels `[N, 3, H, W]` → the last stage `[N, 352, ⌈H / 32⌉, ⌈W / 32⌉]`."""
        x = pixel_values.contiguous(memory_format=torch.channels_last)
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return x

    def widen(self, last_stage: Tensor) -> Tensor:
        """The last stage `[N, 352, h, w]` → what the classifier averages `[N, 1280, h, w]`, from 0 to 6."""
        return F.relu6(self._bn1(self._conv_head(last_stage)))

    def classify(self, x: Tensor) -> Tensor:
        """Means or single positions of what `widen` gives `[…, 1280]` → logits of ImageNet's classes `[…, 1000]`."""
        logits: Tensor = self._fc(x)
        return logits
