"""Keys of what `--json` prints: programs read them, so none may go. New ones may come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioning.__main__ import main
from captioning.serving import loading
from tests.clips import make_clip
from tests.conftest import FakeLoader

DOCUMENT = {"model", "revision", "options", "captions", "errors"}
CAPTION = {"image", "prompt", "text", "tokens", "token_ids", "log_probs", "seconds"}
SHAPES = {
    "caption PHOTO": DOCUMENT,
    "video CLIP --frames 2": DOCUMENT | {"frames", "clips"},
    "attention PHOTO": {
        *("model", "revision", "options", "caption", "method", "layer", "head", "kind", "grid", "boxes", "maps"),
        *("entropy", "image_share", "prefix_share", "measured", "files"),
    },
    "map PHOTO": {"model", "revision", "options", "method", "note", "points", "quality", "errors"},
    "models info embedded": {
        *("spec", "parameters", "arrays", "layer_types", "tokenizer", "shapes", "device", "precision", "engine"),
        "parts",
    },
}


@pytest.mark.parametrize("command", SHAPES)
def test_no_key_of_a_document_goes(
    command: str,
    photo: Path,
    tmp_path: Path,
    fake_loader: FakeLoader,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loading, "load_captioner", lambda model, *_, **__: fake_loader(model))
    clip = make_clip(tmp_path / "clip.mp4")
    words = [{"PHOTO": str(photo), "CLIP": str(clip)}.get(word, word) for word in command.split()]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) >= SHAPES[command]
    for caption in document.get("captions", []):
        assert set(caption) >= CAPTION
    for clip_record in document.get("clips", []):
        assert set(clip_record) >= {"image", "seconds", "frames", "skipped", "reader"}
    for point in document.get("points", []):
        assert set(point) >= {"image", "x", "y", "cluster", "caption"}
    options = {"n_neighbors", "min_dist", "seed", "method"} if command.startswith("map") else {"max_new_tokens", "seed"}
    assert set(document.get("options", options)) >= options


def test_models_are_a_list_of_specs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    for row in json.loads(capsys.readouterr().out):
        assert set(row) >= {
            *("model_id", "family", "title", "license", "capabilities", "repo_id", "revision", "download_bytes"),
            "summary",
        }
