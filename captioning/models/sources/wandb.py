"""`wandb:ENTITY/PROJECT/NAME:VERSION`: a model that a training run kept as an artifact of Weights & Biases.

The optional package `wandb` asks for it. As with the hub, weights come in safetensors only, and nothing runs code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import CaptioningError, HubError, ModelFilesError, UnknownModelError, first_line
from captioning.core.types import ModelSpec
from captioning.models.catalogue import get_family
from captioning.models.family import ModelFamily
from captioning.models.files import read_config
from captioning.models.sources.download import DownloadProgress, HubFile, Report, choose_files
from captioning.models.sources.folder import check_folder, family_of
from captioning.models.sources.source import ModelSource

if TYPE_CHECKING:
    import torch

    from captioning.models.network import Network

PREFIX = "wandb:"
_TIMEOUT_SECONDS = 30
_PART = r"([A-Za-z0-9][\w.-]*)"
_NAME = re.compile(f"{PREFIX}{_PART}/{_PART}/{_PART}:{_PART}")
_FIXED_VERSION = re.compile(r"v\d+")  # all others are names for the newest, the best, …, and move


def storage_folder(model_id: str, version: str) -> Path:
    """Where one version of an artifact is kept: beside the hub's cache, so that HF_HOME moves both."""
    from huggingface_hub import constants

    entity, project, name, _ = _split(model_id)
    return Path(constants.HF_HOME).expanduser() / "wandb-artifacts" / entity / project / name / version


def resolve_artifact(model_id: str) -> ModelSpec:
    """The spec of `wandb:ENTITY/PROJECT/NAME:VERSION`; a version `v3` that was fetched before asks no network.

    Raises `UnknownModelError` for a name of another form, `ModelFilesError` for an artifact that is no model or not
    in a safe format, and `HubError` where the package `wandb`, a login or the network is missing.
    """
    version = _split(model_id)[3]
    if _FIXED_VERSION.fullmatch(version):
        try:
            return _make_spec(model_id, version, check_folder(storage_folder(model_id, version)), 0)
        except ModelFilesError:
            pass  # not here, or not all of it: fetched below
    with _explained(model_id):
        artifact = _find(model_id)
        folder = storage_folder(model_id, artifact.version)
        files = _list_files(artifact)
        if not any(file.name == "config.json" for file in files):
            raise ModelFilesError(f"{model_id} is no model: the artifact has no config.json; check the name.")
        artifact.get_entry("config.json").download(root=str(folder))
    family = family_of(read_config(folder), model_id)
    wanted = choose_files(files, family.files, model_id, allow_pickle=False)
    return _make_spec(model_id, artifact.version, family, sum(file.num_bytes for file in wanted))


def open_artifact(spec: ModelSpec, device: torch.device, dtype: torch.dtype, report: Report | None = None) -> Network:
    """Fetch what is missing of an artifact, check its files, and load it."""
    assert spec.revision is not None
    folder = storage_folder(spec.model_id, spec.revision)
    family = get_family(spec.family)
    if spec.download_bytes:
        with _explained(spec.model_id):
            _fetch(spec, folder, family, report)
    check_folder(folder)
    return family.load(folder, device, dtype)


SOURCE = ModelSource(resolve_artifact, open_artifact)


def _split(model_id: str) -> tuple[str, str, str, str]:
    match = _NAME.fullmatch(model_id)
    if match is None:
        raise UnknownModelError(
            f"{model_id[:100]!r} names no artifact; write {PREFIX}ENTITY/PROJECT/NAME:VERSION, where VERSION is "
            "v0, v1, … or latest."
        )
    entity, project, name, version = match.groups()
    return entity, project, name, version


def _make_spec(model_id: str, version: str, family: ModelFamily, num_bytes: int) -> ModelSpec:
    name = _split(model_id)[2]
    return ModelSpec(
        model_id=model_id,
        family=family.name,
        title=f"{name}:{version} (Weights & Biases)",
        license="as its project says",
        capabilities=family.capabilities,
        revision=version,
        download_bytes=num_bytes,
    )


def _find(model_id: str) -> Any:
    """The artifact, as the package `wandb` knows it."""
    try:
        import wandb
    except ImportError as error:
        raise HubError(
            f"{model_id} needs the package wandb; install it with `pip install wandb`, or choose another model."
        ) from error
    if not wandb.login(prompt=False):  # else the package would ask on the terminal and wait
        raise HubError(f"{model_id} needs an account of Weights & Biases; sign in with `wandb login`.")
    return wandb.Api(timeout=_TIMEOUT_SECONDS).artifact(model_id.removeprefix(PREFIX))


def _list_files(artifact: Any) -> list[HubFile]:
    """The artifact's own files; what only refers to another place is nobody's to follow."""
    entries = artifact.manifest.entries
    return [HubFile(str(name), int(entry.size or 0), None) for name, entry in entries.items() if entry.ref is None]


def _fetch(spec: ModelSpec, folder: Path, family: ModelFamily, report: Report | None) -> None:
    """Download every file that the family asks for; those that an earlier attempt brought whole cost nothing."""
    artifact = _find(spec.model_id)
    wanted = choose_files(_list_files(artifact), family.files, spec.model_id, allow_pickle=False)
    total = sum(file.num_bytes for file in wanted)
    done = 0
    for file in wanted:
        if report is not None:
            report(DownloadProgress(done, total))
        artifact.get_entry(file.name).download(root=str(folder))
        done += file.num_bytes
    if report is not None:
        report(DownloadProgress(done, total))


@contextmanager
def _explained(model_id: str) -> Iterator[None]:
    """Turn whatever the package raises into a `HubError` that says what to do."""
    try:
        yield
    except CaptioningError:
        raise
    except Exception as error:  # the package's own errors share no base with those of its transport
        raise HubError(
            f"{model_id} cannot be fetched from Weights & Biases ({first_line(error)}); check the name and the "
            "network, and sign in with `wandb login`."
        ) from error
