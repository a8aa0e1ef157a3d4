"""Random weights and made-up words for models that nobody trained."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ORIGIN = "made up for the untrained model; it spells words in syllables"
_BERT_TOKENS = 30_522


def build_random(model_class: type[Any], config: Any, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Any:
    """A model with random weights, made in a fraction of the time that its own initialisation takes.

    Every array is a stretch of one block of a million normal numbers, deviation 0.02; norms start as identities.
    """
    import torch
    from torch import nn

    with torch.device("meta"):
        module = model_class(config)
    module = module.to(dtype).to_empty(device="cpu").eval()
    module.tie_weights()
    # A prime length: rows of no layer line up with the block and repeat each other.
    block = (torch.randn(1_000_003, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)
    offset = 0
    with torch.no_grad():
        for parameter in module.parameters():
            _fill(parameter.view(-1), block, offset)
            offset = (offset + parameter.numel()) % len(block)
        for layer in module.modules():
            if isinstance(layer, nn.LayerNorm) or type(layer).__name__.endswith("RMSNorm"):
                layer.get_parameter("weight").fill_(1)
            bias = getattr(layer, "bias", None)
            if isinstance(bias, nn.Parameter):
                bias.zero_()
        _fill_buffers(module)
    return module.to(device)


def without_random_weights() -> AbstractContextManager[Any]:
    """Inside this block layers are made without drawing weights, which takes half as long as reading them."""
    import torch
    from torch.overrides import TorchFunctionMode

    draws = {torch.Tensor.uniform_, torch.Tensor.normal_}

    class LeavesEmpty(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__module__", None) == "torch.nn.init":
                return kwargs["tensor"]
            return args[0] if func in draws else func(*args, **kwargs)

    return LeavesEmpty()


def _fill(target: Tensor, block: Tensor, offset: int) -> None:
    """Write `block` over and over into `target [elements]`, beginning at `offset` within the block."""
    place = 0
    while place < len(target):
        length = min(len(block) - offset, len(target) - place)
        target[place : place + length] = block[offset : offset + length]
        place, offset = place + length, 0


def _fill_buffers(module: nn.Module) -> None:
    """Give buffers, which hold no weights, the values that they have in every model."""
    import torch

    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
        elif name.endswith("token_type_ids"):
            buffer.zero_()
        elif name.endswith("inv_freq"):  # rotary positions follow from the configuration
            path, _, last = name.rpartition(".")
            layer: Any = module.get_submodule(path)
            buffer.copy_(getattr(type(layer)(layer.config), last))
        else:
            raise ValueError(f"nobody said what the buffer {name} holds")


def made_up_words(count: int = _BERT_TOKENS) -> list[str]:
    """A vocabulary in BERT's order that spells any printable ASCII word: special tokens, characters, syllables."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    words = [special.get(number, f"[unused{number}]") for number in range(104)]
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    syllables = [a + b for a, b in itertools.product("bdfghjklmnprstvwz", "aeiou")]
    pairs = ["".join(pair) for pair in itertools.product(syllables, repeat=2)]
    pieces = [*characters, *syllables, *pairs]
    words += [*pieces, *(f"##{piece}" for piece in pieces)]
    triples = ("".join(triple) for triple in itertools.product(syllables, repeat=3))
    return [*words, *itertools.islice(triples, max(0, count - len(words)))]
