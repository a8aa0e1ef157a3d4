"""The commands that look at one picture or one text: `tokenize`, `score` and `compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioning.__main__ import main
from captioning.serving import loading
from tests.conftest import FakeLoader


@pytest.fixture(autouse=True)
def fake_models(monkeypatch: pytest.MonkeyPatch, fake_loader: FakeLoader) -> FakeLoader:
    monkeypatch.setattr(loading, "load_captioner", lambda model, *_, **__: fake_loader(model))
    return fake_loader


def test_a_text_is_split_into_tokens_and_ids(fake_loader: FakeLoader, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenize", "two small trees", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    expected = fake_loader("embedded").tokenize("two small trees")
    assert [(token["token_id"], token["token"]) for token in document["tokens"]] == list(expected)
    assert main(["tokenize", "two small trees"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(expected) == 3


def test_captions_are_scored_in_rows_of_one_length(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = ["a brown dog runs", "two trees"]
    assert main(["score", str(photo), *captions, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["shape"] == [2, 5]
    long, short = (caption["positions"] for caption in document["captions"])
    assert [row["mask"] for row in long] == [1] * 5
    assert [row["mask"] for row in short] == [1, 1, 1, 0, 0]
    assert [row["label_id"] for row in short[3:]] == [-100, -100]
    assert [row["input_id"] for row in long[1:]] == [row["label_id"] for row in long[:-1]], "inputs are shifted right"
    own = [row["log_prob"] for row in short[:3]]
    assert document["captions"][1]["mean_log_prob"] == pytest.approx(sum(own) / 3)


def test_a_prompt_counts_as_given_when_captions_are_scored(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(photo), "trees", "--prompt", "two small", "--json"]) == 0
    (caption,) = json.loads(capsys.readouterr().out)["captions"]
    scored = [row["log_prob"] for row in caption["positions"][2:]]
    assert caption["mean_log_prob"] == pytest.approx(sum(scored) / len(scored))
    assert main(["score", str(photo), "trees"]) == 0
    assert "likeliest" in capsys.readouterr().out


def test_models_are_compared_and_one_that_fails_does_not_end_the_others(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--model", "embedded", "--model", "nosuch", "--model", "wordless"]
    assert main(["compare", str(photo), *models, "--prompt", "the park is", "--json"]) == 1
    first, failed, wordless = json.loads(capsys.readouterr().out)["models"]
    assert first["captions"][0]["text"].startswith("the park is ")
    assert failed["captions"] == []
    assert "There is no model 'nosuch'" in failed["error"]
    assert wordless["captions"][0]["prompt"] == ""
    assert wordless["error"] is None


def test_one_model_is_no_comparison(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(photo), "--model", "embedded"]) == 1
    assert "A comparison takes 2 to 4 models, not 1" in capsys.readouterr().err


def test_a_models_parts_and_arrays_are_listed_as_text(
    fake_loader: FakeLoader, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "info", "embedded"]) == 0
    text = capsys.readouterr().out
    info = fake_loader("embedded").info()
    for array in info.arrays:
        assert any(line.split()[:1] == [array.name] for line in text.splitlines())
    headings = [line for line in text.splitlines() if line in ("Parts", "Layers", "Shapes", "Arrays")]
    assert headings == ["Parts", "Layers", "Shapes", "Arrays"]
