"""Blended models: weighted sums of the weights of models with a common ancestor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from captioning.core.errors import OptionsError
from captioning.training.start import Start, start_from


def blend(shares: Mapping[str, float], out: Path) -> None:
    """Write the sum of the weights of models, each times its share, to `out`; shares sum to 1 and may be negative.

    With positive shares see Wortsman et al. 2022, *Model soups*; with a negative one Ilharco et al. 2023, *Editing
    Models with Task Arithmetic*. Raises `OptionsError` for shares with another sum or models that differ in more than
    their weights, and the errors of opening a model.
    """
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise OptionsError(f"The shares sum to {sum(shares.values()):g}; they must sum to 1.")
    starts = {name: start_from(name) for name in shares}
    first = next(iter(starts.values()))
    for name, start in starts.items():
        if _shared_parts(start) != _shared_parts(first):
            raise OptionsError(
                f"{name} differs from the others in more than its weights; blend models that grew from one."
            )
    state = first.network.module.state_dict()
    states = {name: start.network.module.state_dict() for name, start in starts.items()}
    with torch.no_grad():
        summed = {
            key: sum((share * states[name][key] for name, share in shares.items()), torch.zeros_like(value))
            if value.is_floating_point()
            else value
            for key, value in state.items()
        }
    first.network.module.load_state_dict(summed)
    assert first.family.save is not None
    first.family.save(first.network, out, _card(shares, out.resolve().name))


def _shared_parts(start: Start) -> tuple[object, ...]:
    """Return the parts that blended models must share: names and shapes of weights, tokenizer, and pixel recipe."""
    network = start.network
    shapes = {name: value.shape for name, value in network.module.state_dict().items()}
    return start.family.name, shapes, network.tokenizer.to_str(), network.start_ids, network.end_id, network.pixels


def _card(shares: Mapping[str, float], name: str) -> str:
    parts = " ".join(f"{model}={share:g}" for model, share in shares.items())
    return (
        f"# {name}\n\nThe sum of the weights of other models, each times its share:\n"
        f"`python -m captioning blend {name} {parts}`. Their terms hold for it. Its captions were not measured yet.\n"
    )
