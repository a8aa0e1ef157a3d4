"""Models that are no captioners by themselves: image encoders, text decoders and picture classifiers, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.models.families.vision_encoder_decoder import FILES, PREFIX_TOKENS
from captioning.models.files import check_weights, name_of, plain_name, read_config
from captioning.models.pretrained import check_loading, read_pretrained
from captioning.models.sources import hub
from captioning.models.sources.download import (
    Report,
    choose_files,
    explained,
    fetch_snapshot,
    known_commit,
    list_files,
    storage_folder,
)

if TYPE_CHECKING:
    import torch

IMAGE_ENCODERS = (*PREFIX_TOKENS, "clip")
"""The kinds of models, by `model_type`, that have an image encoder which `load_image_encoder` can take out."""

INSTEAD = "name a folder with a copy of it"


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A model in a folder, or one of the hub that still has to come; `config` is its `config.json`."""

    name: str
    config: Mapping[str, Any]
    folder: Path | None
    revision: str = ""
    download_bytes: int = 0

    @property
    def described(self) -> str:
        """The model's class, as its configuration says, or else its type."""
        return ", ".join(self.config.get("architectures") or [str(self.config.get("model_type", "nothing"))])


def find_part(name: str, instead: str = INSTEAD) -> ModelPart:
    """What a folder or hub name stands for; only a hub name that is not in the local cache asks the network.

    `instead` is what to do where that cannot be asked. Raises `UnknownModelError`, `ModelFilesError` for what is no
    model or unsafe, and `HubError`.
    """
    name = plain_name(name)
    folder = hub.existing_folder(name)
    if folder is not None:
        folder = folder.resolve()
        config = read_config(folder)
        check_weights(folder, allow_pickle=False)
        return ModelPart(name_of(folder), config, folder)
    if not hub.is_hub_name(name):
        raise UnknownModelError(f"There is no model {name[:100]!r}; give a folder, or a hub name like owner/name.")
    return _find_cached(name) or _find_on_hub(name, instead)


def fetch_part(part: ModelPart, report: Report | None = None) -> Path:
    """The part's folder, downloaded if need be. Raises `HubError`, `ModelFilesError`, and whatever `report` raises."""
    if part.folder is not None:
        return part.folder
    with explained(part.name, part.revision, instead=INSTEAD):
        commit, files, _ = list_files(part.name, part.revision)
        wanted = choose_files(files, FILES, part.name, allow_pickle=False)
        folder = fetch_snapshot(part.name, commit, wanted, part.name, report)
    read_config(folder)
    check_weights(folder, allow_pickle=False)
    return folder


def _find_cached(name: str) -> ModelPart | None:
    commit = known_commit(name)
    if commit is None:
        return None
    folder = storage_folder(name) / "snapshots" / commit
    try:
        config = read_config(folder)
        check_weights(folder, allow_pickle=False)
    except ModelFilesError:
        return None
    return ModelPart(name, config, folder, commit)


def _find_on_hub(name: str, instead: str) -> ModelPart:
    commit, config, files, _ = hub.look_up(name, instead=instead)
    wanted = choose_files(files, FILES, name, allow_pickle=False)
    return ModelPart(name, config, None, commit, sum(file.num_bytes for file in wanted))


def load_image_encoder(part: ModelPart, folder: Path, dtype: torch.dtype) -> Any:
    """The image encoder of a part, every weight from its files; a text tower or a head beside it is left out."""
    from transformers import AutoModel, CLIPVisionModel

    is_clip = part.config["model_type"] in ("clip", "clip_vision_model")
    options = {} if is_clip or part.config["model_type"] == "swin" else {"add_pooling_layer": False}
    module, info = read_pretrained(CLIPVisionModel if is_clip else AutoModel, folder, dtype, **options)
    check_loading({**info, "unexpected_keys": ()}, part.name)
    return module
