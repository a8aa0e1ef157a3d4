"""Models of transformers, read from and written to folders: every weight from its files, or an error that says which.

The library itself only warns about weights that it does not find, and makes them up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, first_line
from captioning.core.whole_files import SUFFIX, write_whole
from captioning.models.files import SAFETENSORS, name_of
from captioning.models.pixels import PixelRecipe

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer


def kept_words(keys: Any) -> dict[str, Any]:
    """What a decoder remembers of the words before, as the argument that the installed transformers takes it by."""
    return {_cache_argument(): keys}


@cache
def _cache_argument() -> str:
    import transformers
    from packaging.version import Version

    return "cache" if Version(transformers.__version__) >= Version("5.24") else "past_key_values"


def load_pretrained(model_class: Any, folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """A transformers model from a local folder, every weight from its files. Raises `ModelFilesError`."""
    model, info = read_pretrained(model_class, folder, dtype, **options)
    check_loading(info, name_of(folder))
    return model


def read_pretrained(
    model_class: Any, folder: Path, dtype: torch.dtype, **options: Any
) -> tuple[Any, dict[str, Collection[Any]]]:
    """A transformers model from a local folder, and which weights were missing, left over or misshapen.

    Ask `check_loading` about what is not explained. Raises `ModelFilesError`.
    """
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = model_class.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="eager",
            use_safetensors=(folder / SAFETENSORS).is_file() or (folder / f"{SAFETENSORS}.index.json").is_file(),
            weights_only=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise ModelFilesError(_mismatch(name_of(folder), first_line(error))) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    return model, info


def check_loading(info: Mapping[str, Collection[Any]], name: str) -> None:
    """Raise `ModelFilesError` unless the files held exactly the model's weights."""
    # Old checkpoints carry this counter as if it were a weight.
    unexpected = sorted(key for key in info["unexpected_keys"] if not key.endswith("position_ids"))
    problems = {
        "missing": sorted(info["missing_keys"]),
        "of another shape": sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"]),
        "not part of the model": unexpected,
    }
    found = [f"{len(keys)} {what}, such as {keys[0]}" for what, keys in problems.items() if keys]
    if found or info.get("error_msgs"):
        raise ModelFilesError(_mismatch(name, "; ".join(found) or str(next(iter(info["error_msgs"])))))


def _mismatch(name: str, detail: str) -> str:
    return f"{name}: the weights do not fit config.json ({detail}); copy both from one model."


def write_network(network: Any, folder: Path, card: str) -> None:
    """Write a trainable network of transformers' layers in the hub's layout, with its tokenizer, recipe and card.

    A file appears whole or not at all, and the weights last: without them a folder is no model.
    """
    staging = folder / f"model{SUFFIX}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    _write_files(network.module, network.tokenizer, network.pixels, staging, card)
    for file in sorted(staging.iterdir(), key=lambda file: file.suffix == ".safetensors"):
        file.replace(folder / file.name)
    staging.rmdir()


def _write_files(module: Any, tokenizer: Tokenizer, pixels: PixelRecipe, folder: Path, card: str) -> None:
    module.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    documents = {
        "preprocessor_config.json": pixels.to_config(),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **_special_tokens(module, tokenizer)},
    }
    for name, document in documents.items():
        write_whole(folder / name, json.dumps(document, indent=2) + "\n")
    write_whole(folder / "README.md", card)


def _special_tokens(module: Any, tokenizer: Tokenizer) -> dict[str, str]:
    """The special tokens that the model's generation starts, ends and pads with, by the library's names for them."""
    ids = {
        role: getattr(module.generation_config, f"{role}_id", None) for role in ("bos_token", "eos_token", "pad_token")
    }
    named = {role: tokenizer.id_to_token(number) for role, number in ids.items() if isinstance(number, int)}
    return {role: token for role, token in named.items() if token is not None}
