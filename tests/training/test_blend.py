from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from captioning.core.errors import OptionsError
from captioning.training.blend import blend
from captioning.training.start import start_from
from tests.training.test_fit import make_trainer, silent


def states(folder: Path) -> dict[str, torch.Tensor]:
    return dict(start_from(str(folder)).network.module.state_dict())


@pytest.fixture
def two(data_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return the folders of a model before and after its training."""
    trainer = make_trainer(data_folder, tmp_path / "run")
    save = trainer.start.family.save
    assert save is not None
    save(trainer.network, tmp_path / "young", "")
    list(trainer.run(silent))
    save(trainer.network, tmp_path / "old", "")
    return tmp_path / "young", tmp_path / "old"


def test_weights_are_summed_by_their_shares_also_beyond_the_last(two: tuple[Path, Path], tmp_path: Path) -> None:
    young, old = two
    blend({str(young): -0.5, str(old): 1.5}, tmp_path / "beyond")
    first, last, beyond = states(young), states(old), states(tmp_path / "beyond")
    for name, value in beyond.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 1.5 * last[name] - 0.5 * first[name], rtol=2e-3, atol=2e-3)
    assert any(not torch.equal(value, last[name]) for name, value in beyond.items())
    assert "old=1.5" in (tmp_path / "beyond" / "README.md").read_text(encoding="utf-8")


def test_shares_that_do_not_sum_to_one_are_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"sum to 1\.5"):
        blend({str(two[0]): 0.5, str(two[1]): 1.0}, tmp_path / "out")


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
def test_models_that_spell_or_see_otherwise_are_refused(two: tuple[Path, Path], tmp_path: Path, file: str) -> None:
    young, old = two
    values = json.loads((old / file).read_text(encoding="utf-8"))
    if file == "config.json":
        values["image_mean"] = [0.1, 0.2, 0.3]
    else:
        vocab = values["model"]["vocab"]
        vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (old / file).write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(OptionsError, match="more than its weights"):
        blend({str(young): 0.5, str(old): 0.5}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_of_different_shapes_are_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="more than its weights"):
        blend({str(two[0]): 0.5, "embedded": 0.5}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
