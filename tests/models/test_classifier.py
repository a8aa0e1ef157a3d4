"""A picture classifier: its labels are the library's own, and what is no classifier is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from captioning.core.errors import ModelFilesError, OptionsError, UnknownModelError
from captioning.core.settings import Settings
from captioning.models.helpers import classifier
from captioning.models.helpers.classifier import classify
from tests.fake_hub import FakeHub
from tests.models.test_hub import edit_json
from tests.tiny_models import drawing, write_tiny_classifier

LABELS = ("cat", "dog", "bird")


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Full precision on the CPU, and no model from the test before."""
    monkeypatch.setattr("captioning.core.settings.get_settings", lambda: Settings(device="cpu", precision="float32"))
    classifier._load.cache_clear()
    yield
    classifier._load.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_classifier(tmp_path / "labels", LABELS)


@pytest.mark.parametrize("kind", ["vit", "deit", "swin"])
def test_labels_and_probabilities_equal_the_librarys_own(kind: str, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = write_tiny_classifier(tmp_path / kind, LABELS, kind)
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    for seed in range(2):
        picture = drawing(seed)
        with torch.inference_mode():
            inputs = processor(images=picture.image, return_tensors="pt")
            expected = model(**inputs).logits.softmax(dim=-1)[0]
        found = classify(str(folder), picture)
        assert [label for label, _ in found] == [LABELS[place] for place in expected.argsort(descending=True)]
        assert [p for _, p in found] == pytest.approx(expected.sort(descending=True).values.tolist(), abs=1e-5)


def test_only_as_many_as_asked_for_and_as_there_are(folder: Path) -> None:
    assert len(classify(str(folder), drawing(0), top=2)) == 2
    assert len(classify(str(folder), drawing(0), top=50)) == 3
    with pytest.raises(OptionsError, match="top"):
        classify(str(folder), drawing(0), top=0)


def test_a_model_is_loaded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = classify(str(folder), drawing(0))
    monkeypatch.setattr(classifier, "_open", None)
    assert classify(str(folder), drawing(0)) == first


def test_one_of_many_labels_judges_each_alone(folder: Path) -> None:
    edit_json(folder / "config.json", lambda v: v.update(problem_type="multi_label_classification"))
    found = classify(str(folder), drawing(0))
    assert sum(p for _, p in found) != pytest.approx(1, abs=1e-3)
    assert all(0 < p < 1 for _, p in found)


def test_a_hub_name_is_downloaded_once(folder: Path, fake_hub: FakeHub) -> None:
    fake_hub.add("somebody/labels", folder)
    expected = classify(str(folder), drawing(0))
    assert classify("somebody/labels", drawing(0)) == expected
    fake_hub.close()
    classifier._load.cache_clear()
    assert classify("somebody/labels", drawing(0)) == expected


def test_what_is_no_classifier_is_refused(folder: Path, tiny_folders: dict[str, Path]) -> None:
    for name in ("blip", "vision_encoder_decoder-vit-gpt2"):
        with pytest.raises(ModelFilesError, match=r"no picture classifier .*ForImageClassification, such as"):
            classify(str(tiny_folders[name]), drawing(0))
    with pytest.raises(UnknownModelError, match="a folder, or a hub name"):
        classify("no such model", drawing(0))


def test_weights_that_could_run_code_or_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    pickled = Path(shutil.copytree(folder, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelFilesError, match="can run code"):
        classify(str(pickled), drawing(0))
    edit_json(folder / "config.json", lambda v: v.update(hidden_size=48))
    with pytest.raises(ModelFilesError, match=r"do not fit config\.json"):
        classify(str(folder), drawing(0))
    edit_json(folder / "config.json", lambda v: v.update(hidden_size=24, auto_map={"AutoModel": "own.Model"}))
    with pytest.raises(ModelFilesError, match="run code of its own"):
        classify(str(folder), drawing(0))
