"""Which layers of a network weigh, and a way to keep their weights as they run, gradients included."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class AttentionLayers:
    """The layers that weigh, in order; each gives its weights `[N, heads, L, S]`, alone or second of what it returns.

    `words` weighs among the words, or where picture and words are one sequence, among all of it. `cross` weighs
    the encoder's states, and is empty in one sequence. `encoder` weighs among the encoder's states, and is empty
    where the encoder is no Transformer, or does not keep one state a patch all the way.
    """

    words: Sequence[nn.Module]
    cross: Sequence[nn.Module] = ()
    encoder: Sequence[nn.Module] = ()


@dataclass(slots=True)
class Recorded:
    """Weights `[N, heads, L, S]` of each layer, one each time it ran."""

    words: list[list[Tensor]] = field(default_factory=list)
    cross: list[list[Tensor]] = field(default_factory=list)
    encoder: list[list[Tensor]] = field(default_factory=list)


def find_layers(module: nn.Module, pattern: str) -> list[nn.Module]:
    """The submodules whose whole name matches a regular expression, in order."""
    return [part for name, part in module.named_modules() if re.fullmatch(pattern, name)]


@contextmanager
def recorded_weights(module: nn.Module, layers: AttentionLayers) -> Iterator[Recorded]:
    """Keep what the layers weigh inside this block; transformers' own models show their weights meanwhile."""
    record = Recorded()
    with ExitStack() as stack:
        stack.enter_context(_eager_attention(module))
        for name in ("words", "cross", "encoder"):
            lists: list[list[Tensor]] = getattr(record, name)
            for layer in getattr(layers, name):
                kept: list[Tensor] = []
                lists.append(kept)
                stack.callback(layer.register_forward_hook(_keep_in(kept)).remove)
        yield record


def _keep_in(kept: list[Tensor]) -> Any:
    def keep(layer: nn.Module, _: Any, output: Any) -> None:
        weights = output[1] if isinstance(output, tuple) else output
        if weights is None:
            raise RuntimeError(f"{type(layer).__name__} shows no weights; load the model with eager attention")
        kept.append(weights)

    return keep


@contextmanager
def _eager_attention(module: nn.Module) -> Iterator[None]:
    """Fused attention shows no weights: switch it off for models of transformers that have it on."""
    models: list[Any] = [part for part in module.modules() if hasattr(part, "set_attn_implementation")]
    known = [(model, model.config._attn_implementation) for model in models]
    fused = [(model, implementation) for model, implementation in known if implementation != "eager"]
    for model, _ in fused:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for model, implementation in fused:
            model.set_attn_implementation(implementation)
