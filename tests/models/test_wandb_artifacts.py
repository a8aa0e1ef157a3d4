"""Models that a training run kept at Weights & Biases, against a module that stands in for the package."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from captioning.core.errors import HubError, ModelFilesError, Stopped, UnknownModelError
from captioning.core.types import DecodingOptions
from captioning.models.captioner import NetworkCaptioner
from captioning.models.sources import hub
from captioning.models.sources.download import DownloadProgress
from tests.tiny_models import drawing, write_tiny_patch_captioner

CPU = torch.device("cpu")
NAME = "wandb:somebody/captions/tiny:v3"


class FakeEntry:
    def __init__(self, path: Path, ref: str | None = None) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.ref = ref


class FakeWandb(ModuleType):
    """As much of the package as opening an artifact takes; `folders` are artifacts by name."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.folders: dict[str, Path] = {}
        self.signed_in = True
        self.reachable = True
        self.downloaded: list[str] = []
        self.references: set[str] = set()

    def login(self, prompt: bool) -> bool:
        assert not prompt, "a server must not wait for somebody at the terminal"
        return self.signed_in

    def Api(self, timeout: int) -> FakeWandb:  # noqa: N802
        return self

    def artifact(self, name: str) -> FakeArtifact:
        if not self.reachable:
            raise ConnectionError("the service did not respond in time")
        if name not in self.folders:
            raise ValueError(f"artifact '{name}' not found")
        return FakeArtifact(self, self.folders[name])


class FakeArtifact:
    version = "v3"

    def __init__(self, wandb: FakeWandb, folder: Path) -> None:
        self._wandb = wandb
        self._folder = folder
        self.manifest = self
        self.entries = {
            path.name: FakeEntry(path, "s3://elsewhere" if path.name in wandb.references else None)
            for path in folder.iterdir()
        }

    def get_entry(self, name: str) -> Any:
        def download(root: str) -> None:
            self._wandb.downloaded.append(name)
            Path(root).mkdir(parents=True, exist_ok=True)
            shutil.copy(self._folder / name, Path(root) / name)

        entry = ModuleType(name)
        entry.download = download  # type: ignore[attr-defined]
        return entry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_patch_captioner(tmp_path / "tiny")


@pytest.fixture
def wandb(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    """A signed-in package that knows one artifact, and an empty cache."""
    fake = FakeWandb()
    fake.folders = dict.fromkeys(("somebody/captions/tiny:v3", "somebody/captions/tiny:latest"), folder)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    return fake


def test_an_artifact_captions_as_the_folder_it_was_made_of(wandb: FakeWandb, folder: Path) -> None:
    (folder / "train.py").write_text("raise SystemExit", encoding="utf-8")
    (folder / "training_state.pt").write_bytes(b"x" * 1000)
    spec = hub.resolve_spec(NAME)
    assert (spec.family, spec.revision, spec.repo_id) == ("patch_captioner", "v3", None)
    assert wandb.downloaded == ["config.json"]
    heard: list[DownloadProgress] = []
    captioner = NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32, heard.append))
    assert heard[-1].done_bytes == heard[-1].total_bytes == spec.download_bytes
    assert "train.py" not in wandb.downloaded
    assert "training_state.pt" not in wandb.downloaded
    own = hub.resolve_spec(str(folder))
    same = NetworkCaptioner(own, hub.open_network(own, CPU, torch.float32))
    texts = [c.decode(c.encode([drawing(1)])[0], [""], DecodingOptions())[0].text for c in (captioner, same)]
    assert texts[0] == texts[1]


def test_a_numbered_version_that_is_here_asks_no_network(wandb: FakeWandb) -> None:
    hub.open_network(hub.resolve_spec(NAME), CPU, torch.float32)
    wandb.reachable = False
    spec = hub.resolve_spec(NAME)
    assert spec.download_bytes == 0
    hub.open_network(spec, CPU, torch.float32)
    with pytest.raises(HubError, match="check the name and the network"):
        hub.resolve_spec("wandb:somebody/captions/tiny:latest")


def test_an_alias_means_the_version_that_it_stands_for(wandb: FakeWandb) -> None:
    assert hub.resolve_spec("wandb:somebody/captions/tiny:latest").revision == "v3"


def test_a_download_can_be_stopped(wandb: FakeWandb) -> None:
    def stop(_: DownloadProgress) -> None:
        raise Stopped("Stopped.")

    with pytest.raises(Stopped):
        hub.open_network(hub.resolve_spec(NAME), CPU, torch.float32, stop)


@pytest.mark.parametrize(
    "name", ["wandb:", "wandb:tiny:v3", "wandb:a/b/c", "wandb:../../etc:v1", "wandb:a/b/..:v1", "wandb:a/b/c/d:v1"]
)
def test_a_name_of_another_form_is_refused(name: str, wandb: FakeWandb) -> None:
    with pytest.raises(UnknownModelError, match="wandb:ENTITY/PROJECT/NAME:VERSION"):
        hub.resolve_spec(name)


def test_without_the_package_a_login_or_the_network_the_cure_is_named(
    wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubError, match=r"'somebody/captions/other:v1' not found.*check the name"):
        hub.resolve_spec("wandb:somebody/captions/other:v1")
    wandb.reachable = False
    with pytest.raises(HubError, match=r"did not respond in time\); check the name and the network"):
        hub.resolve_spec(NAME)
    wandb.signed_in = False
    with pytest.raises(HubError, match="sign in with `wandb login`"):
        hub.resolve_spec(NAME)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(HubError, match="`pip install wandb`"):
        hub.resolve_spec(NAME)


def test_only_whole_models_in_a_safe_format_are_fetched(wandb: FakeWandb, folder: Path) -> None:
    wandb.references = {"model.safetensors"}
    with pytest.raises(ModelFilesError, match=r"no weights in the safe format"):
        hub.resolve_spec(NAME)
    wandb.references = set()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFilesError, match=r"no weights in the safe format \(model\.safetensors\)"):
        hub.resolve_spec(NAME)
    assert "pytorch_model.bin" not in wandb.downloaded
    (folder / "config.json").unlink()
    with pytest.raises(ModelFilesError, match=r"no config\.json"):
        hub.resolve_spec(NAME)


def test_an_artifact_that_asks_to_run_code_is_refused(wandb: FakeWandb, folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "blip", "auto_map": {"AutoModel": "own.Model"}}')
    with pytest.raises(ModelFilesError, match="run code of its own"):
        hub.resolve_spec(NAME)
