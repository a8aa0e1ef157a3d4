"""Models by name: finding them on this machine, downloading them, and checking them before they are used.

Nothing here is loaded unless all of its weights come from its files, and no file may run code.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.errors import CaptioningError, ModelError, ModelFilesError, UnknownModelError
from captioning.models import get_family, list_families, list_models
from captioning.models.download import (
    SAFETENSORS,
    DownloadProgress,
    HubFile,
    Report,
    choose_files,
    explained,
    fetch_snapshot,
    list_files,
    storage_folder,
)
from captioning.models.family import ModelFamily
from captioning.types import ModelSpec

if TYPE_CHECKING:
    import torch

    from captioning.models.base import Network

__all__ = [
    "PAIR",
    "UNTRAINED",
    "DownloadProgress",
    "check_folder",
    "check_loading",
    "check_weights",
    "download",
    "embedded_folder",
    "existing_folder",
    "find_local",
    "is_hub_name",
    "load_pretrained",
    "look_up",
    "name_of",
    "open_network",
    "read_config",
    "read_pretrained",
    "resolve_spec",
]
UNTRAINED = "untrained:"
PAIR = "pair:"
# Of each group that a family's files touch, a folder needs one.
_NEEDED = (
    ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model"),
    ("preprocessor_config.json", "processor_config.json"),
)
_SMALL_BYTES = 1_000_000_000
_REPO_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def embedded_folder() -> Path:
    """Where the captioner that ships with the program lies, from whatever folder it was started."""
    return Path(__file__).resolve().parents[2] / "assets" / "embedded"


def resolve_spec(model_id: str) -> ModelSpec:
    """The model of a registry name, `untrained:NAME`, `pair:VISION+TEXT`, a folder, or a hub name `owner/name`.

    Only a hub name that is neither registered nor in the local cache asks the network. Raises
    `UnknownModelError`, `ModelFilesError` for a folder that is no model, and `HubError`.
    """
    for spec in list_models():
        if spec.model_id == model_id:
            return _with_commit(spec)
    if model_id.startswith(UNTRAINED):
        return _untrained_spec(model_id)
    if model_id.startswith(PAIR):
        from captioning.models.fresh_pair import resolve_pair

        return resolve_pair(model_id)
    folder = existing_folder(model_id)
    if folder is not None:
        return _folder_spec(folder)
    if is_hub_name(model_id):
        return _cached_spec(model_id) or _hub_spec(model_id)
    shown = model_id if len(model_id) <= 100 else f"{model_id[:100]}…"
    raise UnknownModelError(f"There is no model {shown!r}{_nearest(model_id)}; {_choices()}.")


def find_local(spec: ModelSpec) -> Path | None:
    """The model's folder where all of it lies on this machine, else `None`; never asks the network."""
    folder = _own_folder(spec) or _snapshot_folder(spec)
    if folder is None or not folder.is_dir():
        return None
    try:
        check_folder(folder, allow_pickle=_is_pinned(spec))
    except ModelFilesError:
        return None
    return folder


def open_network(spec: ModelSpec, device: torch.device, dtype: torch.dtype, report: Report | None = None) -> Network:
    """Find or download a model, check its files, and load it.

    Raises `ModelFilesError`, `HubError`, `ModelError` where memory does not suffice, and whatever `report` raises.
    """
    family = get_family(spec.family)
    if spec.model_id.startswith(UNTRAINED):
        assert family.untrained is not None
        return family.untrained(spec.model_id.removeprefix(UNTRAINED), device, dtype)
    try:
        if spec.model_id.startswith(PAIR):
            from captioning.models.fresh_pair import open_pair

            return open_pair(spec.model_id, device, dtype, report)
        folder = _own_folder(spec) or find_local(spec) or download(spec, report)
        check_folder(folder, allow_pickle=_is_pinned(spec))
        return family.load(folder, device, dtype)
    except CaptioningError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise ModelError(
                f"{spec.title} does not fit into the memory of {device}; choose a smaller model, or precision bfloat16."
            ) from error
        raise ModelFilesError(
            f"{spec.title} cannot be loaded ({_first_line(error)}); copy or download it again."
        ) from error


def name_of(folder: Path) -> str:
    """What people call a model folder; in the hub's cache the folder itself is named after a commit."""
    if folder.parent.name == "snapshots":
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")
    return folder.name


def check_folder(folder: Path, allow_pickle: bool = False) -> ModelFamily:
    """The family of a model folder whose files are all there, whole and safe. Raises `ModelFilesError`.

    `allow_pickle` accepts weights in `pytorch_model.bin`, which are then read as plain tensors only.
    """
    name = name_of(folder)
    family = _family_of(read_config(folder), name)
    for group in _NEEDED:
        wanted = [file for file in group if file in family.files]
        if wanted and not any((folder / file).is_file() for file in wanted):
            raise ModelFilesError(f"{name} has no {' or '.join(wanted)}; copy or download the whole model again.")
    check_weights(folder, allow_pickle)
    return family


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder that asks to run no code. Raises `ModelFilesError`."""
    name = name_of(folder)
    config = _read_json(folder / "config.json")
    if config is None:
        raise ModelFilesError(
            f"{name} is no model: it has no readable config.json; give a folder that `train --out` wrote or that holds "
            "a copy of a model from the hub."
        )
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        if "auto_map" in (_read_json(folder / file) or {}):
            raise ModelFilesError(
                f"{name} asks to run code of its own ({file}), which is refused; choose another model."
            )
    return config


def download(spec: ModelSpec, report: Report | None = None) -> Path:
    """Fetch a model from the hub and return its folder; what an interrupted attempt fetched is kept and used.

    Progress goes to `report` and to the terminal; `report` may raise `Stopped` to end the download. Raises
    `HubError` for everything that can go wrong on the way, and `ModelFilesError` for a model without safe weights.
    """
    if spec.repo_id is None:
        raise ModelFilesError(f"{spec.title} is not on the hub; copy its folder here again.")
    with explained(spec.repo_id, spec.revision, _nearest(spec.repo_id)):
        commit, files, _ = list_files(spec.repo_id, spec.revision)
        wanted = choose_files(files, get_family(spec.family).files, spec.repo_id, _is_pinned(spec))
        folder = fetch_snapshot(spec.repo_id, commit, wanted, spec.title, report)
        if spec.revision is None:
            _remember_commit(spec.repo_id, commit)
        return folder


def load_pretrained(model_class: Any, folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """A transformers model from a local folder, every weight from its files. Raises `ModelFilesError`.

    The library itself only warns about weights that it does not find, and makes them up.
    """
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
        raise ModelFilesError(_mismatch(name_of(folder), _first_line(error))) from error
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


def _untrained_spec(model_id: str) -> ModelSpec:
    name = model_id.removeprefix(UNTRAINED)
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
    raise UnknownModelError(f"There is no untrained model {name!r}; choose from {', '.join(_untrained_ids())}.")


def is_hub_name(name: str) -> bool:
    """Whether a name could stand for a repository of the hub."""
    return _REPO_NAME.fullmatch(name) is not None


def existing_folder(name: str) -> Path | None:
    """The folder of that name, or `None` where there is none."""
    try:
        folder = Path(name).expanduser()
        return folder if name and folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):
        return None  # too long, not a possible name, or the home of nobody


def _folder_spec(folder: Path) -> ModelSpec:
    folder = folder.resolve()
    family = check_folder(folder)
    return ModelSpec(
        model_id=str(folder),
        family=family.name,
        title=folder.name,
        license="as its folder says",
        capabilities=family.capabilities,
    )


def _cached_spec(repo_id: str) -> ModelSpec | None:
    """The spec of a hub name whose files all lie in the local cache already."""
    commit = _known_commit(repo_id)
    if commit is None:
        return None
    try:
        family = check_folder(storage_folder(repo_id) / "snapshots" / commit)
    except ModelFilesError:
        return None
    return _typed_spec(repo_id, commit, family, 0, "as its page on the hub says")


def _hub_spec(repo_id: str) -> ModelSpec:
    commit, config, files, license_name = look_up(repo_id)
    family = _family_of(config, repo_id)
    num_bytes = sum(file.num_bytes for file in choose_files(files, family.files, repo_id, allow_pickle=False))
    return _typed_spec(repo_id, commit, family, num_bytes, license_name)


def look_up(repo_id: str) -> tuple[str, dict[str, Any], list[HubFile], str]:
    """Ask the hub what a name stands for: its commit, its `config.json`, its files and its licence.

    Raises `HubError`, and `ModelFilesError` for a model that asks to run code.
    """
    from huggingface_hub import constants, hf_hub_download

    with explained(repo_id, None, _nearest(repo_id)):
        commit, files, license_name = list_files(repo_id, None)
        path = hf_hub_download(
            repo_id, "config.json", revision=commit, cache_dir=constants.HF_HUB_CACHE, endpoint=constants.ENDPOINT
        )
        _remember_commit(repo_id, commit)
    config = _read_json(Path(path)) or {}
    if "auto_map" in config:
        raise ModelFilesError(
            f"{repo_id} asks to run code of its own (config.json), which is refused; choose another model."
        )
    return commit, config, files, license_name


def _typed_spec(repo_id: str, commit: str, family: ModelFamily, num_bytes: int, license_name: str) -> ModelSpec:
    return ModelSpec(
        model_id=repo_id,
        family=family.name,
        title=repo_id,
        license=license_name,
        capabilities=family.capabilities,
        repo_id=repo_id,
        revision=commit,
        download_bytes=num_bytes,
    )


def _family_of(config: Mapping[str, Any], name: str) -> ModelFamily:
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


def _own_folder(spec: ModelSpec) -> Path | None:
    """The folder of a model that does not come from the hub."""
    if spec.repo_id is not None or spec.model_id.startswith(UNTRAINED):
        return None
    return embedded_folder() if spec.model_id == "embedded" else Path(spec.model_id)


def _snapshot_folder(spec: ModelSpec) -> Path | None:
    if spec.repo_id is None:
        return None
    commit = spec.revision or _known_commit(spec.repo_id)
    return storage_folder(spec.repo_id) / "snapshots" / commit if commit else None


def _with_commit(spec: ModelSpec) -> ModelSpec:
    """The spec itself, or where it pins no revision, with the commit that its name meant at the last download."""
    if spec.revision is not None or spec.repo_id is None:
        return spec
    return replace(spec, revision=_known_commit(spec.repo_id))


def _known_commit(repo_id: str) -> str | None:
    reference = storage_folder(repo_id) / "refs" / "main"
    return reference.read_text(encoding="utf-8").strip() if reference.is_file() else None


def _remember_commit(repo_id: str, commit: str) -> None:
    """Let the name mean this commit from now on, so that the model opens without the hub later."""
    reference = storage_folder(repo_id) / "refs" / "main"
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit, encoding="utf-8")


def _is_pinned(spec: ModelSpec) -> bool:
    """Whether a registered model is meant at the very revision that somebody looked at."""
    return spec.revision is not None and spec in list_models()


def _untrained_ids() -> list[str]:
    return [f"{UNTRAINED}{name}" for family in list_families() for name in family.untrained_names]


def _nearest(model_id: str) -> str:
    known = [*(spec.model_id for spec in list_models()), *_untrained_ids()]
    by_lower = {name.lower(): name for name in known}
    matches = get_close_matches(model_id.lower()[:200], by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[matches[0]]}?)" if matches else ""


def _choices() -> str:
    small = [spec.model_id for spec in list_models() if spec.download_bytes < _SMALL_BYTES]
    return (
        f"choose from {', '.join(small)}, others that `python -m captioning models` lists, a model folder, a hub name "
        f"like owner/name, or {PAIR}VISION+TEXT"
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or `None` where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")[:200]


# Weights on this machine


def check_weights(folder: Path, allow_pickle: bool) -> None:
    """Raise `ModelFilesError` unless the folder holds whole weights of a permitted kind."""
    if (folder / SAFETENSORS).is_file():
        _check_safetensors(folder / SAFETENSORS)
        return
    index = _read_json(folder / f"{SAFETENSORS}.index.json")
    if index is not None:
        for shard in sorted(set(_weight_map(index, name_of(folder)).values())):
            _check_safetensors(folder / shard)
        return
    pickled = folder / "pytorch_model.bin"
    if not pickled.is_file():
        raise ModelFilesError(
            f"{name_of(folder)} has no weights ({SAFETENSORS}); copy or download the whole model again."
        )
    if not allow_pickle:
        raise ModelFilesError(
            f"{name_of(folder)} has its weights only in pytorch_model.bin, a format that can run code; choose a model "
            f"with {SAFETENSORS}, or convert it."
        )
    if not zipfile.is_zipfile(pickled):
        raise ModelFilesError(f"{name_of(folder)}/pytorch_model.bin is cut off; delete it and download it again.")


def _weight_map(index: Mapping[str, Any], name: str) -> Mapping[str, str]:
    """Which file holds which weight; only files of the folder itself count."""
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or any(Path(str(shard)).name != shard for shard in weight_map.values()):
        raise ModelFilesError(f"{name}/{SAFETENSORS}.index.json is damaged; copy the whole model again.")
    return weight_map


def _check_safetensors(path: Path) -> None:
    """Compare a file's length with what its header promises; reads nothing else."""
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
        ends = [int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"]
        if not ends or 8 + header_bytes + max(ends) != num_bytes:
            raise ValueError("wrong length")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ModelFilesError(f"{name} is missing, cut off or damaged; copy or download it again.") from error
