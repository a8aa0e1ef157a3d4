"""What runs a network's two plain verbs, looking and writing, when nobody asks how it does so.

Attention, explanations and changed heads are always the network's own affair: they need its layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from captioning.errors import ModelError, OptionsError
from captioning.models.text_decoder import TextDecoder, TextLayers

if TYPE_CHECKING:
    from torch import Tensor

    from captioning.models.base import Network
    from captioning.models.decoding import Decoder


@dataclass(frozen=True, slots=True)
class Engine:
    """`encode` of a network, and what writes for it, a `decoding.Decoder`.

    `num_bytes` is memory beyond the network's own weights; `note` says why it is not the engine asked for.
    """

    name: str
    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    start: Callable[..., Any]
    step: Callable[[Tensor, Tensor, Any], Tensor]
    select: Callable[[Any, Tensor], Any]
    start_ids: tuple[int, ...]
    end_id: int
    num_bytes: int = 0
    note: str = ""


def text_layers(network: Network) -> TextLayers | None:
    """A network's decoder as layers, or `None` for one that reads picture and words as one sequence."""
    declare: Callable[[], TextLayers] | None = getattr(network, "text_layers", None)
    return None if declare is None else declare()


def torch_engine(network: Network, note: str = "") -> Engine:
    """The network run by torch; its decoder's layers with nothing between them where the family declares them."""
    layers = text_layers(network)
    decoder: Decoder | TextDecoder = network if layers is None else TextDecoder(layers)
    return Engine(
        name="torch",
        encode=network.encode,
        start=decoder.start,
        step=decoder.step,
        select=decoder.select,
        start_ids=network.start_ids,
        end_id=network.end_id,
        note=note,
    )


ENGINES = ("auto", "torch", "openvino")
_WORTH_COMPILING = 50_000_000
"""Parameters below which `auto` leaves a network to torch: compiling would take longer than it ever saves."""


def choose_engine(network: Network, name: str = "auto") -> Engine:
    """The named engine, or for `auto` OpenVINO for large networks on a processor where it is installed.

    Where it does not serve it is torch, and its note says why. Raises `OptionsError` for a name that is none.
    """
    from importlib.util import find_spec

    if name not in ENGINES:
        raise OptionsError(f"There is no engine {name!r}; choose from {', '.join(ENGINES)}.")
    parameter = next(network.module.parameters())
    large = sum(weights.numel() for weights in network.module.parameters()) >= _WORTH_COMPILING
    fits = large and parameter.device.type == "cpu" and text_layers(network) is not None
    if name == "torch" or (name == "auto" and not (fits and find_spec("openvino"))):
        return torch_engine(network)
    from captioning.models.openvino_engine import open_engine

    if parameter.device.type != "cpu":
        return torch_engine(network, f"OpenVINO serves processors, not {parameter.device.type}")
    network.module.eval().requires_grad_(False)
    try:
        return open_engine(network, parameter.dtype, _example_input(network))
    except ModelError as error:
        return torch_engine(network, f"OpenVINO: {error}")


def _example_input(network: Network) -> Tensor:
    """Pixels `[1, …]` of a picture with something on it, as the network receives them."""
    import numpy as np
    from PIL import Image

    from captioning.types import Picture

    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return network.preprocess(Picture(Image.fromarray(pixels), "example")).pixel_values[None]
