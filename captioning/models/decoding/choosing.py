"""Which engine runs a network: torch, or OpenVINO where that is worth compiling for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from captioning.core.errors import ModelError, OptionsError
from captioning.core.types import Picture
from captioning.models.decoding.engine import Engine, text_layers, torch_engine

if TYPE_CHECKING:
    from torch import Tensor

    from captioning.models.network import Network

ENGINES = ("auto", "torch", "openvino")
_WORTH_COMPILING = 50_000_000
"""Parameters below which `auto` leaves a network to torch: compiling would take longer than it ever saves."""


def choose_engine(network: Network, name: str = "auto") -> Engine:
    """The named engine, or for `auto` OpenVINO for large networks on a processor where it is installed.

    Where it does not serve it is torch, and its note says why. Raises `OptionsError` for a name that is none.
    """
    if name not in ENGINES:
        raise OptionsError(f"There is no engine {name!r}; choose from {', '.join(ENGINES)}.")
    parameter = next(network.module.parameters())
    large = sum(weights.numel() for weights in network.module.parameters()) >= _WORTH_COMPILING
    fits = large and parameter.device.type == "cpu" and text_layers(network) is not None
    if name == "torch" or (name == "auto" and not (fits and find_spec("openvino"))):
        return torch_engine(network)
    from captioning.models.decoding.openvino_engine import open_engine

    if parameter.device.type != "cpu":
        return torch_engine(network, f"OpenVINO serves processors, not {parameter.device.type}")
    network.module.eval().requires_grad_(False)
    try:
        return open_engine(network, parameter.dtype, _example_input(network))
    except ModelError as error:
        return torch_engine(network, f"OpenVINO: {error}")


def _example_input(network: Network) -> Tensor:
    """Pixels `[1, …]` of a picture with something on it, as the network receives them."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return network.preprocess(Picture(Image.fromarray(pixels), "example")).pixel_values[None]
