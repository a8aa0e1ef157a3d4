"""Maps beyond raw attention: gradients of a token's log-probability, and relevance carried through the layers.

Shared by all families: a network keeps its attention weights while it runs. Everything runs in the model's own
precision, whose range is what gradients need, and is multiplied and summed in float32; in float16 the log-probability
is scaled up before the backward pass, because small gradients would vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from captioning.core.types import PatchLayout
    from captioning.models.network import Network

_FLOAT16_SCALE = 1024.0


def explain_tokens(
    network: Network,
    pixel_values: Tensor,
    token_ids: Sequence[int],
    positions: Sequence[int],
    layout: PatchLayout,
    method: str,
) -> Tensor:
    """Maps `[positions, prefix + patches]` of a caption's tokens, float32, not negative: one forward pass in all.

    `pixel_values [1, …]` as `preprocess` has them. The module's weights need no gradients.
    """
    explain = METHODS[method]
    ids = torch.tensor([[*network.start_ids, *token_ids]], device=pixel_values.device)
    # Row t-1 predicts token t.
    rows = [len(network.start_ids) - 1 + position for position in positions]
    with torch.inference_mode(False), torch.enable_grad(), _tracked_words(network.module):
        return explain(network, pixel_values.clone(), ids, rows, layout)


def _gradient_attention(
    network: Network, pixel_values: Tensor, ids: Tensor, rows: Sequence[int], layout: PatchLayout
) -> Tensor:
    """Mean over layers and heads of the positive part of gradient × attention, in the row that predicts the token.

    Only words are differentiated: what the picture's states are made of makes no difference to this row's weights.
    """
    with torch.no_grad():
        cache = network.start(network.encode(pixel_values)[0], layout)
    with network.recorded_weights() as record:
        logits = network.step(ids, torch.ones_like(ids), cache)
    weights = [kept[-1] for kept in record.cross or record.words]
    columns = slice(None) if record.cross else cache.opening.columns
    maps = []
    for row, gradients in _backward(logits, ids, rows, weights):
        seen = [_positive_part(w[0, :, row], g[0, :, row]).mean(dim=0) for w, g in zip(weights, gradients, strict=True)]
        maps.append(torch.stack(seen).mean(dim=0)[columns])
    return _stack(maps)


def _relevance(network: Network, pixel_values: Tensor, ids: Tensor, rows: Sequence[int], layout: PatchLayout) -> Tensor:
    """Relevance of the picture's states, or of its patches where the encoder is a Transformer (Chefer et al. 2021).

    The target is the token's log-probability, where the publication takes its logit.
    """
    with network.recorded_weights() as record:
        with torch.set_grad_enabled(bool(record.encoder)):
            states = network.encode(pixel_values.requires_grad_(bool(record.encoder)))[0]
        if not states.requires_grad:
            states = states.detach().requires_grad_()
        cache = network.start(states, layout)
        logits = network.step(ids, torch.ones_like(ids), cache)
    parts = (record.encoder, record.words, record.cross)
    weights = [one for part in parts for kept in part for one in kept]
    maps = []
    for row, gradients in _backward(logits, ids, rows, weights):
        passed = iter([_positive_part(w[0], g[0]).mean(dim=0) for w, g in zip(weights, gradients, strict=True)])
        looks, reads, asks = ([[next(passed) for _ in kept] for kept in layer] for layer in parts)
        looked = [one for (one,) in looks]
        if asks:
            maps.append(relevance_across(looked, [one for (one,) in reads], [one for (one,) in asks])[row])
        else:
            joint = [_joined(*opening_and_words) for opening_and_words in reads]
            maps.append(relevance_within(looked, joint, row - ids.shape[1], cache.opening.columns))
    return _stack(maps)


def _input_gradient(
    network: Network, pixel_values: Tensor, ids: Tensor, rows: Sequence[int], layout: PatchLayout
) -> Tensor:
    """Return the positive part of state × gradient of the picture's states, summed over the hidden dimension.

    The rule of Shrikumar et al. 2017, with what the decoder reads of the picture as its input.
    """
    with torch.no_grad():
        states = network.encode(pixel_values)[0]
    states.requires_grad_()
    logits = network.step(ids, torch.ones_like(ids), network.start(states, layout))
    values = states.detach()[0].float()
    products = [values * gradients[0] for _, (gradients,) in _backward(logits, ids, rows, [states])]
    return _stack([product.sum(dim=-1).clamp(min=0) for product in products])


METHODS: Mapping[str, Callable[[Network, Tensor, Tensor, Sequence[int], PatchLayout], Tensor]] = {
    "gradient_attention": _gradient_attention,
    "relevance": _relevance,
    "input_gradient": _input_gradient,
}
"""What can be asked for, by name: maps `[rows, prefix + patches]` of a picture and token ids."""


def relevance_across(encoder: Sequence[Tensor], words: Sequence[Tensor], cross: Sequence[Tensor]) -> Tensor:
    """Relevance of the picture to each word `[L, S]`, by the bi-modal rules for an encoder and a decoder.

    From each layer's positive gradient × attention, the mean over heads: `encoder` `[S, S]`, `words` `[L, L]`,
    `cross` `[L, S]`. Equations 6 and 7 for self-attention, 8 to 10 for cross-attention. Without encoder layers the
    picture's states stand for themselves.
    """
    within = torch.eye(cross[0].shape[1], device=cross[0].device)
    for looked in encoder:
        within = within + looked @ within
    within = _normalised(within)
    text = torch.eye(cross[0].shape[0], device=cross[0].device)
    picture = torch.zeros_like(cross[0])
    for read, asked in zip(words, cross, strict=True):
        text, picture = text + read @ text, picture + read @ picture
        picture = picture + _normalised(text).T @ (asked @ within)
    return picture


def relevance_within(encoder: Sequence[Tensor], joint: Sequence[Tensor], row: int, columns: Tensor) -> Tensor:
    """Relevance of the picture `[S]` to one row of a sequence of picture and words, by the rule for self-attention.

    From each layer's positive gradient × attention, the mean over heads: `joint` `[T, T]`, where the picture's
    states stand at `columns [S]`, and `encoder` `[S, S]`. One row of the product of all (1 + layer), from the last
    layer to the first, so that no matrix is multiplied with another.
    """
    relevance = torch.zeros(joint[0].shape[0], device=joint[0].device)
    relevance[row] = 1
    for layer in reversed(joint):
        relevance = relevance + relevance @ layer
    picture = relevance[columns]
    for layer in reversed(encoder):
        picture = picture + picture @ layer
    return picture


def _normalised(relevance: Tensor) -> Tensor:
    """Rows of what was added to the identity, scaled to sum to 1 (equations 8 and 9); rows without any stay empty."""
    identity = torch.eye(len(relevance), device=relevance.device)
    added = relevance - identity
    totals = added.sum(dim=-1, keepdim=True)
    return added / totals.where(totals > 0, torch.ones_like(totals)) + identity


def _joined(opening: Tensor, words: Tensor) -> Tensor:
    """What is read before the words `[S, S]` and the words `[L, S + L]` as one square `[S + L, S + L]`.

    An opening may have been read together with tokens that words are read from later; these are left out.
    """
    before = words.shape[1] - words.shape[0]
    square = words.new_zeros(words.shape[1], words.shape[1])
    square[:before, :before] = opening[:before, :before]
    square[before:] = words
    return square


def _positive_part(weights: Tensor, gradients: Tensor) -> Tensor:
    return (weights.detach().float() * gradients.float()).clamp(min=0)


def _backward(
    logits: Tensor, ids: Tensor, rows: Sequence[int], values: Sequence[Tensor]
) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield each row with the float32 gradients of its token's log-probability by `values`, one backward pass a row."""
    log_probs = logits[0].float().log_softmax(dim=-1)
    scale = _FLOAT16_SCALE if logits.dtype == torch.float16 else 1.0
    for row in rows:
        target = log_probs[row, ids[0, row + 1]] * scale
        gradients = torch.autograd.grad(target, values, retain_graph=True, allow_unused=True, materialize_grads=True)
        yield row, [gradient.float() / scale for gradient in gradients]


def _stack(maps: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(maps)).cpu()


@contextmanager
def _tracked_words(module: nn.Module) -> Iterator[None]:
    """Give the words' vectors gradients, so that everything after them has some though no weight has."""

    def track(_: nn.Module, __: object, vectors: Tensor) -> Tensor:
        # A copy: some models change what they are given in place, which a leaf of the graph does not allow.
        return vectors.detach().requires_grad_().clone()

    hooks = [part.register_forward_hook(track) for part in module.modules() if isinstance(part, nn.Embedding)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
