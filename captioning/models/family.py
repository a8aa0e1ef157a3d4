"""What one file of this folder declares: a family of models, and how to make a captioner of one.

Family files import torch and transformers inside their functions, so that the models can be listed, and the
page shown, before either is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.types import Capabilities, ModelSpec

if TYPE_CHECKING:
    import torch

    from captioning.models.network import Network


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """Models of one architecture.

    `specs` are those that can be asked for by name; `recognises` tells from a `config.json` whether a folder
    or repository belongs here; `files` are the patterns of what a download fetches. `load` makes a network of
    a folder and `untrained` one with random weights, for each name in `untrained_names`. `objection` says of a
    `config.json` that belongs here why it cannot be used all the same, as the end of a sentence. `save` writes a
    network and its model card to a folder that `load` reads; only a family that has it, and whose network can `teach`,
    is trained further.
    """

    name: str
    specs: tuple[ModelSpec, ...]
    capabilities: Capabilities
    recognises: Callable[[Mapping[str, Any]], bool]
    files: tuple[str, ...]
    load: Callable[[Path, torch.device, torch.dtype], Network]
    untrained: Callable[[str, torch.device, torch.dtype], Network] | None = None
    untrained_names: tuple[str, ...] = ()
    objection: Callable[[Mapping[str, Any]], str | None] | None = None
    save: Callable[[Any, Path, str], None] | None = None
