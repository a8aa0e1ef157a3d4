"""`untrained:NAME`: networks with random weights and made-up words, the honest control beside a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captioning.core.errors import UnknownModelError
from captioning.core.types import ModelSpec
from captioning.models.catalogue import get_family, list_families
from captioning.models.sources.source import ModelSource

if TYPE_CHECKING:
    import torch

    from captioning.models.network import Network
    from captioning.models.sources.download import Report

PREFIX = "untrained:"


def untrained_ids() -> list[str]:
    """Every name that this source knows."""
    return [f"{PREFIX}{name}" for family in list_families() for name in family.untrained_names]


def resolve(model_id: str) -> ModelSpec:
    """The spec of `untrained:NAME`. Raises `UnknownModelError`."""
    name = model_id.removeprefix(PREFIX)
    for family in list_families():
        if name in family.untrained_names:
            return ModelSpec(
                model_id=model_id,
                family=family.name,
                title=f"{name}, untrained",
                license="none (random weights)",
                capabilities=family.capabilities,
                summary="Random weights: its captions mean nothing; for looking at the architecture and for measuring.",
            )
    raise UnknownModelError(f"There is no untrained model {name!r}; choose from {', '.join(untrained_ids())}.")


def open_untrained(spec: ModelSpec, device: torch.device, dtype: torch.dtype, report: Report | None = None) -> Network:
    """The network that a family makes up; nothing is downloaded."""
    family = get_family(spec.family)
    assert family.untrained is not None
    return family.untrained(spec.model_id.removeprefix(PREFIX), device, dtype)


SOURCE = ModelSource(resolve, open_untrained)
