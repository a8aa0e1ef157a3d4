"""Engines: what runs a network's two plain verbs, encoding and writing.

Attention, explanations and changed heads are always run by torch: compiled layers keep no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from captioning.models.decoding.cross_attention import CrossAttentionDecoder
from captioning.models.decoding.text_decoder import TextDecoder
from captioning.models.decoding.text_layers import TextLayers

if TYPE_CHECKING:
    from torch import Tensor

    from captioning.models.network import Decoder, Network


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
    return network.text_layers() if isinstance(network, CrossAttentionDecoder) else None


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
