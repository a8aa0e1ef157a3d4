"""Attention layers of a network: keep their weights as they run, gradients included, and scale their heads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(slots=True)
class Recorded:
    """Weights `[N, heads, L, S]` of each layer, one each time it ran.

    `words` are attention among the words, or where picture and words are one sequence, among all of it. `cross` is
    attention to the encoder's states, empty in one sequence. `encoder` is attention among the encoder's states, empty
    where the encoder is no Transformer, or does not keep one state a patch all the way.
    """

    words: list[list[Tensor]] = field(default_factory=list)
    cross: list[list[Tensor]] = field(default_factory=list)
    encoder: list[list[Tensor]] = field(default_factory=list)


def find_layers(module: nn.Module, pattern: str) -> list[nn.Module]:
    """The submodules whose whole name matches a regular expression, in order."""
    return [part for name, part in module.named_modules() if re.fullmatch(pattern, name)]


@contextmanager
def recorded_weights(
    module: nn.Module, *, words: Sequence[nn.Module] = (), encoder: Sequence[nn.Module] = ()
) -> Iterator[Recorded]:
    """Keep the weights of these layers inside this block; transformers' own models show their weights meanwhile.

    Each layer returns its weights `[N, heads, L, S]`, alone or second.
    """
    record = Recorded()
    with ExitStack() as stack:
        stack.enter_context(_eager_attention(module))
        for lists, layers in ((record.words, words), (record.encoder, encoder)):
            for layer in layers:
                kept: list[Tensor] = []
                lists.append(kept)
                stack.callback(layer.register_forward_hook(_keep_in(kept)).remove)
        yield record


@contextmanager
def scaled_heads(outputs: Sequence[nn.Module], head_mask: Tensor | None) -> Iterator[None]:
    """Scale what each head hands on, `head_mask [layers, heads]`, inside this block.

    `outputs` are the layers that mix the heads of each attention; their inputs hold the heads side by side.
    """

    def scale(factors: Tensor) -> Any:
        return lambda _, inputs: ((inputs[0].unflatten(-1, (len(factors), -1)) * factors.view(-1, 1)).flatten(-2),)

    pairs = zip(outputs, head_mask, strict=True) if head_mask is not None else ()
    hooks = [layer.register_forward_pre_hook(scale(factors)) for layer, factors in pairs]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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
