"""The other image encoder of `patch_captioner`: CLIP's, which stays as it was trained."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from captioning.models.families.patch_captioner.config import PatchNetworkConfig

SHAPE_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
"""What of a CLIP vision configuration decides how the network computes."""


class ClipEncoder(nn.Module):
    """CLIP's image encoder (Radford et al. 2021), frozen, and a learnt projection of its states to the decoder's width.

    One state for the picture (CLS) stands before those of the patches.
    """

    num_prefix_tokens = 1

    def __init__(self, config: PatchNetworkConfig) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        super().__init__()
        vision: Any = CLIPVisionConfig(**(config.clip_vision or {}))
        self.vision = CLIPVisionModel(vision).requires_grad_(False)
        self.norm = nn.LayerNorm(vision.hidden_size)
        self.project = nn.Linear(vision.hidden_size, config.hidden_size)

    def train(self, mode: bool = True) -> ClipEncoder:
        """Switch between training and use; what is frozen is always in use."""
        super().train(mode)
        self.vision.eval()
        return self

    @property
    def kept_shape(self) -> tuple[int, int]:
        """The shape of what `look` sees of a picture."""
        config = self.vision.config
        return self.num_prefix_tokens + (config.image_size // config.patch_size) ** 2, config.hidden_size

    def look(self, pixel_values: Tensor) -> Tensor:
        """Pixels `[N, 3, side, side]` → CLIP's own states `[N, 1 + patches, width]`, which training can keep."""
        states: Tensor = self.vision(pixel_values).last_hidden_state
        return states

    def read(self, states: Tensor) -> Tensor:
        """CLIP's states → what the decoder reads `[N, 1 + patches, hidden]`."""
        projected: Tensor = self.project(self.norm(states))
        return projected

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels → states `[N, 1 + patches, hidden]`, unit image embeddings `[N, vision hidden]`.

        The embedding is what CLIP itself compares with texts, before its projection to them.
        """
        seen = self.vision(pixel_values)
        return self.read(seen.last_hidden_state), F.normalize(seen.pooler_output.float(), dim=-1)
