"""Models by name: finding them on this machine or on the hub, downloading and opening them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import (
    AcceleratorError,
    CaptioningError,
    ModelError,
    ModelFilesError,
    UnknownModelError,
    first_line,
)
from captioning.core.types import ModelSpec
from captioning.core.whole_files import write_whole
from captioning.models.catalogue import get_family, list_models
from captioning.models.family import ModelFamily
from captioning.models.files import count_elements, describe_format, embedded_folder, plain_name, read_json
from captioning.models.sources.download import (
    DownloadProgress,
    HubFile,
    Report,
    choose_files,
    explained,
    fetch_snapshot,
    known_commit,
    list_files,
    storage_folder,
)
from captioning.models.sources.folder import check_folder, family_of
from captioning.models.sources.source import source_of
from captioning.models.sources.untrained import untrained_ids

if TYPE_CHECKING:
    import torch

    from captioning.models.network import Network

__all__ = [
    "DownloadProgress",
    "download",
    "existing_folder",
    "find_local",
    "is_hub_name",
    "look_up",
    "open_network",
    "resolve_spec",
    "with_commit",
]
_SMALL_BYTES = 1_000_000_000
_REPO_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_spec(model_id: str) -> ModelSpec:
    """The model of a registry name, a name that a `ModelSource` knows, a folder, or a hub name `owner/name`.

    Only what is neither registered nor on this machine asks the network. Raises `UnknownModelError`,
    `ModelFilesError` for a folder that is no model, and `HubError`.
    """
    model_id = plain_name(model_id)
    for spec in list_models():
        if spec.model_id == model_id:
            return with_commit(spec)
    source = source_of(model_id)
    if source is not None:
        return source.resolve(model_id)
    folder = existing_folder(model_id)
    if folder is not None:
        return _folder_spec(folder)
    if existing_file(model_id):
        described = describe_format([Path(model_id).name], {}) or "is a file; give the folder of a model, or a hub name"
        raise ModelFilesError(f"{Path(model_id).name} {described}.")
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


def with_commit(spec: ModelSpec) -> ModelSpec:
    """The spec itself, or where it pins no revision, with the commit that its name meant at the last download."""
    if spec.revision is not None or spec.repo_id is None:
        return spec
    return replace(spec, revision=known_commit(spec.repo_id))


def open_network(
    spec: ModelSpec,
    device: torch.device,
    dtype: torch.dtype,
    report: Report | None = None,
    make_room: Callable[[int], None] | None = None,
) -> Network:
    """Find or download a model, check its files, and load it.

    `make_room` hears how many bytes its weights take, as far as its files tell, when all of them are here; of what a
    `ModelSource` gives, before. Raises `ModelFilesError`, `HubError`, `ModelError` where memory does not suffice, and
    whatever `report` raises.
    """
    source = source_of(spec.model_id)
    try:
        if source is not None:
            if make_room is not None:
                make_room(spec.download_bytes // 4 * dtype.itemsize)  # as if it were in single precision
            return source.open(spec, device, dtype, report)
        folder = _own_folder(spec) or find_local(spec) or download(spec, report)
        check_folder(folder, allow_pickle=_is_pinned(spec))
        if make_room is not None:
            make_room(count_elements(folder) * dtype.itemsize)
        return get_family(spec.family).load(folder, device, dtype)
    except CaptioningError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise ModelError(
                f"{spec.title} does not fit into the memory of {device}; choose a smaller model, or precision bfloat16."
            ) from error
        if device.type != "cpu" and _lacks_device(error):
            raise AcceleratorError(
                f"No GPU is here for {spec.title} ({first_line(error)}); choose the device cpu and, where this is no "
                "Space with ZeroGPU, unset SPACES_ZERO_GPU."
            ) from error
        raise ModelFilesError(
            f"{spec.title} cannot be loaded ({first_line(error)}); copy or download it again."
        ) from error


def _lacks_device(error: Exception) -> bool:
    """Whether torch says that the accelerator itself, and no file, is missing."""
    return any(word in str(error) for word in ("CUDA", "NVIDIA", "nvidia", "No HIP", "MPS backend"))


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


def existing_file(name: str) -> bool:
    """Whether a name is that of a file."""
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False  # too long, not a possible name, or the home of nobody


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
    commit = known_commit(repo_id)
    if commit is None:
        return None
    try:
        family = check_folder(storage_folder(repo_id) / "snapshots" / commit)
    except ModelFilesError:
        return None
    return _typed_spec(repo_id, commit, family, 0, "as its page on the hub says")


def _hub_spec(repo_id: str) -> ModelSpec:
    commit, config, files, license_name = look_up(repo_id)
    family = family_of(config, repo_id)
    num_bytes = sum(file.num_bytes for file in choose_files(files, family.files, repo_id, allow_pickle=False))
    return _typed_spec(repo_id, commit, family, num_bytes, license_name)


def look_up(repo_id: str, **advice: str) -> tuple[str, dict[str, Any], list[HubFile], str]:
    """Ask the hub what a name stands for: its commit, its `config.json`, its files and its licence.

    `advice` is what `explained` takes.

    Raises `HubError`, and `ModelFilesError` for a model that asks to run code.
    """
    from huggingface_hub import constants, hf_hub_download

    with explained(repo_id, None, _nearest(repo_id), **advice):
        commit, files, license_name = list_files(repo_id, None)
        if not any(file.name == "config.json" for file in files):
            choose_files(files, (), repo_id, allow_pickle=False)  # which says what the files are instead
        path = hf_hub_download(
            repo_id, "config.json", revision=commit, cache_dir=constants.HF_HUB_CACHE, endpoint=constants.ENDPOINT
        )
        _remember_commit(repo_id, commit)
    config = read_json(Path(path)) or {}
    described = describe_format((file.name for file in files), config)
    if described:
        raise ModelFilesError(f"{repo_id} {described}.")
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


def _own_folder(spec: ModelSpec) -> Path | None:
    """The folder of a model that does not come from the hub."""
    if spec.repo_id is not None or source_of(spec.model_id) is not None:
        return None
    return embedded_folder() if spec.model_id == "embedded" else Path(spec.model_id)


def _snapshot_folder(spec: ModelSpec) -> Path | None:
    if spec.repo_id is None:
        return None
    commit = spec.revision or known_commit(spec.repo_id)
    return storage_folder(spec.repo_id) / "snapshots" / commit if commit else None


def _remember_commit(repo_id: str, commit: str) -> None:
    """Let the name mean this commit from now on, so that the model opens without the hub later."""
    reference = storage_folder(repo_id) / "refs" / "main"
    reference.parent.mkdir(parents=True, exist_ok=True)
    write_whole(reference, commit)


def _is_pinned(spec: ModelSpec) -> bool:
    """Whether a registered model is meant at the very revision that somebody looked at."""
    return spec.revision is not None and spec in list_models()


def _nearest(model_id: str) -> str:
    known = [*(spec.model_id for spec in list_models()), *untrained_ids()]
    by_lower = {name.lower(): name for name in known}
    matches = get_close_matches(model_id.lower()[:200], by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[matches[0]]}?)" if matches else ""


def _choices() -> str:
    small = [spec.model_id for spec in list_models() if spec.download_bytes < _SMALL_BYTES]
    return (
        f"choose from {', '.join(small)}, others that `python -m captioning models` lists, a model folder, a hub name "
        f"like owner/name, pair:VISION+TEXT, or wandb:ENTITY/PROJECT/NAME:VERSION"
    )
