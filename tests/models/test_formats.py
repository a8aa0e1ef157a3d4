from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioning.core.errors import ModelFilesError
from captioning.models.files import plain_name
from captioning.models.sources import download
from captioning.models.sources.download import known_commit
from captioning.models.sources.hub import resolve_spec


@pytest.mark.parametrize(
    "typed",
    [
        "a/b", " a/b ", "a/b/", "huggingface.co/a/b", "https://huggingface.co/a/b/tree/main", "hf.co/a/b?x=1", "hf://a/b",
        "https://www.huggingface.co/a/b/", "'a/b'",
    ],
)  # fmt: skip
def test_what_copying_adds_to_a_name_is_taken_away(typed: str) -> None:
    assert plain_name(typed) == "a/b"


@pytest.mark.parametrize("name", ["embedded", "auto", "pair:a/b+c/d", "wandb:a/b/c:v0", "/models/x", "untrained:git"])
def test_other_names_stay(name: str) -> None:
    assert plain_name(name) == name


@pytest.mark.parametrize(
    ("files", "config", "says"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], None, "is an adapter .LoRA.*merge it"),
        (["model.safetensors"], {"quant_method": "awq", "bits": 4}, "quantised by AWQ in 4 bits.*choose the model"),
        (["model.safetensors"], {"quant_method": "bitsandbytes", "load_in_4bit": True}, "BITSANDBYTES in 4 bits"),
        (["m-Q4_K_M.gguf"], None, "is GGUF, the format of llama.cpp"),
        (["model_index.json"], None, "diffusers pipeline"),
        (["model.safetensors"], None, "without the config.json"),
        (["notes.txt"], None, "no readable config.json"),
    ],
)
def test_a_folder_of_another_format_is_named_with_the_remedy(
    tmp_path: Path, files: list[str], config: dict[str, object] | None, says: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip", "quantization_config": config}))
    with pytest.raises(ModelFilesError, match=says):
        resolve_spec(str(tmp_path))


def test_a_file_in_the_place_of_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelFilesError, match=r"m\.gguf is GGUF"):
        resolve_spec(str(tmp_path / "m.gguf"))


def test_the_only_snapshot_of_a_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "storage_folder", lambda _: tmp_path)
    assert known_commit("a/b") is None
    (tmp_path / "snapshots" / "abc").mkdir(parents=True)
    assert known_commit("a/b") == "abc"
    (tmp_path / "snapshots" / "def").mkdir()
    assert known_commit("a/b") is None
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "main").write_text("def\n")
    assert known_commit("a/b") == "def"
