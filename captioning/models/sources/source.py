"""Where models come from that are no folder and no repository of the hub: names that begin with a word and a colon.

As a family declares `FAMILY`, the module of such names declares `SOURCE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from captioning.core.types import ModelSpec

if TYPE_CHECKING:
    import torch

    from captioning.models.network import Network
    from captioning.models.sources.download import Report

_MODULES = {"untrained:": "untrained", "pair:": "pair", "wandb:": "wandb"}
"""The module of each kind of name; it is imported when the first such name is asked for."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Names of one kind: `resolve` makes a spec of a whole name, `open` a network of a spec.

    Both raise what `hub.resolve_spec` and `hub.open_network` may raise.
    """

    resolve: Callable[[str], ModelSpec]
    open: Callable[[ModelSpec, torch.device, torch.dtype, Report | None], Network]


def source_of(model_id: str) -> ModelSource | None:
    """The source that a name belongs to, or `None` for a registered name, a folder or a hub name."""
    for prefix, module in _MODULES.items():
        if model_id.startswith(prefix):
            source: ModelSource = import_module(f"captioning.models.sources.{module}").SOURCE
            return source
    return None
