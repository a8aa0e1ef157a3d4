"""A model folder that may be used: whole, safe, and of a family that is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioning.core.errors import ModelFilesError
from captioning.models.catalogue import list_families
from captioning.models.family import ModelFamily
from captioning.models.files import check_weights, name_of, read_config

# Of each group that a family's files touch, a folder needs one.
_NEEDED = (
    ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model"),
    ("preprocessor_config.json", "processor_config.json"),
)


def check_folder(folder: Path, allow_pickle: bool = False) -> ModelFamily:
    """The family of a model folder whose files are all there, whole and safe. Raises `ModelFilesError`.

    `allow_pickle` accepts weights in `pytorch_model.bin`, which are then read as plain tensors only.
    """
    name = name_of(folder)
    family = family_of(read_config(folder), name)
    for group in _NEEDED:
        wanted = [file for file in group if file in family.files]
        if wanted and not any((folder / file).is_file() for file in wanted):
            raise ModelFilesError(f"{name} has no {' or '.join(wanted)}; copy or download the whole model again.")
    check_weights(folder, allow_pickle)
    return family


def family_of(config: Mapping[str, Any], name: str) -> ModelFamily:
    """The family that a `config.json` belongs to. Raises `ModelFilesError` where there is none."""
    for family in list_families():
        if family.recognises(config):
            objection = family.objection(config) if family.objection is not None else None
            if objection is not None:
                raise ModelFilesError(f"{name} {objection}.")
            return family
    families = ", ".join(family.name for family in list_families())
    raise ModelFilesError(f"{name} {_describe_stranger(config)}; choose a model of one of these families: {families}.")


def _describe_stranger(config: Mapping[str, Any]) -> str:
    """Why a model of no known family is none, as the end of a sentence that its name begins."""
    described = ", ".join(config.get("architectures") or [str(config.get("model_type", "nothing"))])
    if {"vision_config", "text_config", "projection_dim"} <= config.keys():
        return f"compares pictures with texts and has no decoder that writes ({described})"
    sees = any(key in config for key in ("vision_config", "encoder", "image_size", "patch_size", "num_channels"))
    if sees and "vocab_size" not in config and "text_config" not in config and "decoder" not in config:
        return f"looks at pictures but has no decoder that writes ({described})"
    if not sees and "vocab_size" in config:
        return f"knows only text and sees no pictures ({described})"
    return f"is a model of another kind ({described})"
