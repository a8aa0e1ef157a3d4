"""What the files of a model folder must be before they are used: whole and safe.

Nothing is loaded unless all of its weights come from its files, and no file may run code.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from captioning.core.assets import ASSETS
from captioning.core.errors import ModelFilesError

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"


def embedded_folder() -> Path:
    """Where the captioner that ships with the program lies, from whatever folder it was started."""
    return ASSETS / "embedded"


_ADDRESS = re.compile(
    r"\A(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)(?:models/)?([^/?#]+/[^/?#]+)(?:[/?#].*)?\Z",
    re.IGNORECASE,
)


def plain_name(model_id: str) -> str:
    """A model's name without what copying adds: blanks, quotation marks, the hub's address, a slash at its end."""
    name = model_id.strip().strip("\"'")
    address = _ADDRESS.match(name)
    if address is not None:
        return address[1]
    return name.rstrip("/\\") or name


def describe_format(names: Iterable[str], config: Mapping[str, Any]) -> str:
    """Return what files are that make no model here, and what to do, phrased to follow a name; empty for others.

    `names` are those of a folder or repository, and `config` is its `config.json`, empty where there is none.
    """
    names = {name.lower() for name in names}
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict):
        method = str(quantised.get("quant_method") or "").upper() or "a quantisation"
        bits = quantised.get("bits") or next((n for n in (4, 8) if quantised.get(f"load_in_{n}bit")), None)
        size = f" in {bits} bits" if bits else ""
        return f"has weights quantised by {method}{size}, which are not read here; choose the model it was made from"
    if "adapter_config.json" in names and not (config and _has_weights(names)):
        return (
            "is an adapter (LoRA) and not a whole model; merge it into its base model with peft "
            "(`merge_and_unload`, then `save_pretrained`), and give that folder"
        )
    if config:
        return ""
    found = (sentence for kind, sentence in _OTHER_FORMATS.items() if any(fnmatch(name, kind) for name in names))
    return next(found, "")


def _has_weights(names: Collection[str]) -> bool:
    return bool({SAFETENSORS, f"{SAFETENSORS}.index.json", PICKLED} & set(names))


_ORIGINAL = "give the folder or hub name of the original model, which has config.json and model.safetensors"
_OTHER_FORMATS = {
    "*.gguf": f"is GGUF, the format of llama.cpp, which is not read here; {_ORIGINAL}",
    "model_index.json": "is a diffusers pipeline, which makes pictures; choose a model that captions them",
    "saved_model.pb": f"is of TensorFlow, which is not used here; {_ORIGINAL}",
    "*.h5": f"is of Keras, which is not used here; {_ORIGINAL}",
    "*.onnx": f"was converted to ONNX, which is not read here; {_ORIGINAL}",
    "*.tflite": f"was converted for other devices; {_ORIGINAL}",
    **dict.fromkeys(
        ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt"),
        f"is no model: it holds weights without the config.json that belongs to them; {_ORIGINAL}",
    ),
}
"""By the names of files: what a folder without `config.json` holds, the surest first."""


def name_of(folder: Path) -> str:
    """What people call a model folder; in the hub's cache the folder itself is named after a commit."""
    if folder.parent.name == "snapshots":
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")
    return folder.name


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder that asks to run no code. Raises `ModelFilesError`."""
    name = name_of(folder)
    config = read_json(folder / "config.json")
    described = describe_format((path.name for path in folder.iterdir()), config or {}) if folder.is_dir() else ""
    if described:
        raise ModelFilesError(f"{name} {described}.")
    if config is None:
        raise ModelFilesError(
            f"{name} is no model: it has no readable config.json; give a folder that `train --out` wrote or that holds "
            "a copy of a model from the hub."
        )
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        if "auto_map" in (read_json(folder / file) or {}):
            raise ModelFilesError(
                f"{name} asks to run code of its own ({file}), which is refused; choose another model."
            )
    return config


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or `None` where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def check_weights(folder: Path, allow_pickle: bool) -> None:
    """Raise `ModelFilesError` unless the folder holds whole weights of a permitted kind."""
    safe = _safe_files(folder)
    for file in safe:
        _read_shapes(file)
    if safe:
        return
    pickled = folder / PICKLED
    if not pickled.is_file():
        raise ModelFilesError(
            f"{name_of(folder)} has no weights ({SAFETENSORS}); copy or download the whole model again."
        )
    if not allow_pickle:
        raise ModelFilesError(
            f"{name_of(folder)} has its weights only in {PICKLED}, a format that can run code; choose a model "
            f"with {SAFETENSORS}, or convert it."
        )
    if not zipfile.is_zipfile(pickled):
        raise ModelFilesError(f"{name_of(folder)}/{PICKLED} is cut off; delete it and download it again.")


def count_elements(folder: Path) -> int:
    """How many numbers the weights of a checked folder are; those of a pickle as if in single precision."""
    safe = _safe_files(folder)
    if not safe:
        return (folder / PICKLED).stat().st_size // 4
    return sum(math.prod(shape) for file in safe for shape in _read_shapes(file))


def _safe_files(folder: Path) -> list[Path]:
    """The files of weights in the safe format. Raises `ModelFilesError` for a damaged list of them."""
    if (folder / SAFETENSORS).is_file():
        return [folder / SAFETENSORS]
    index = read_json(folder / f"{SAFETENSORS}.index.json")
    shards = set() if index is None else set(_weight_map(index, name_of(folder)).values())
    return [folder / shard for shard in sorted(shards)]


def _weight_map(index: Mapping[str, Any], name: str) -> Mapping[str, str]:
    """Which file holds which weight; only files of the folder itself count."""
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or any(Path(str(shard)).name != shard for shard in weight_map.values()):
        raise ModelFilesError(f"{name}/{SAFETENSORS}.index.json is damaged; copy the whole model again.")
    return weight_map


def _read_shapes(path: Path) -> list[list[int]]:
    """The shapes of a file's weights, by its header. Raises `ModelFilesError` where its length is another."""
    name = f"{name_of(path.parent)}/{path.name}"
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start == b"version ":
                raise ModelFilesError(f"{name} is only a pointer to the weights; run `git lfs pull` in its folder.")
            header_bytes = int.from_bytes(start, "little")
            num_bytes = path.stat().st_size
            if len(start) < 8 or header_bytes > min(num_bytes, 100_000_000):
                raise ValueError("no header")
            header = json.loads(file.read(header_bytes))
        entries = [entry for key, entry in header.items() if key != "__metadata__"]
        ends = [int(entry["data_offsets"][1]) for entry in entries]
        shapes = [[int(size) for size in entry["shape"]] for entry in entries]
        if not ends or 8 + header_bytes + max(ends) != num_bytes:
            raise ValueError("wrong length")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ModelFilesError(f"{name} is missing, cut off or damaged; copy or download it again.") from error
    return shapes
