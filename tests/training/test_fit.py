from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from captioning.core.errors import DataError, OptionsError
from captioning.training.batches import Batch
from captioning.training.data import load_photos
from captioning.training.fit import Trainer, TrainingProgress, learning_rate_at
from captioning.training.options import StartOptions, TrainingOptions
from captioning.training.run import train
from captioning.training.start import make_start

SMALL = StartOptions(shape={
    "image_size": 48, "patch_size": 12, "widths": (8, 16, 16), "depths": (1, 1, 1),
    "hidden_size": 32, "num_heads": 2, "num_layers": 2, "ffn_size": 64, "dropout": 0.0,
})  # fmt: skip
OPTIONS = TrainingOptions(
    passes=2, batch_size=6, vocab_size=320, learning_rate=5e-3, warmup_steps=2, checkpoint_steps=3
)


def make_trainer(folder: Path, out: Path, options: TrainingOptions = OPTIONS) -> Trainer:
    data = load_photos(folder, "train", side=48)
    return Trainer(make_start(data.photos, options, SMALL), data, out, options, torch.device("cpu"))


def weights_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.network.module.parameters()])


def silent(_: TrainingProgress) -> None:
    pass


def test_rate_rises_stays_and_falls_to_nothing() -> None:
    options = TrainingOptions(learning_rate=1.0, warmup_steps=10, cooldown=0.5)
    rates = [learning_rate_at(step, 100, options) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:50] == [1.0] * 40
    assert rates[-1] == pytest.approx(0.02)
    assert rates[50:] == sorted(rates[50:], reverse=True)


def test_a_resumed_run_ends_where_an_unbroken_one_does(data_folder: Path, tmp_path: Path) -> None:
    unbroken = make_trainer(data_folder, tmp_path / "a")
    assert list(unbroken.run(silent)) == [1, 2]
    broken = make_trainer(data_folder, tmp_path / "b")
    assert next(broken.run(silent)) == 1
    resumed = make_trainer(data_folder, tmp_path / "b")
    assert resumed.step == resumed.steps_per_pass
    assert list(resumed.run(silent)) == [2]
    torch.testing.assert_close(weights_of(unbroken), weights_of(resumed), rtol=1e-3, atol=1e-4)


def test_the_losses_told_are_means_also_after_a_resumed_run(data_folder: Path, tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    next(make_trainer(data_folder, tmp_path / "a").run(silent))
    resumed = make_trainer(data_folder, tmp_path / "a")
    left = resumed.total_steps - resumed.step
    list(resumed.run(told.append, report_steps=resumed.total_steps))
    assert left < resumed.total_steps
    assert told[-1].caption_loss > 1.5  # nearly that of guessing: as a sum over fewer steps it would be lower


def test_what_is_done_between_passes_does_not_count_into_the_speed(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    train_step = Trainer._train_step

    def take_a_second(trainer: Trainer, batch: Batch) -> Any:
        nonlocal seconds
        seconds += 1
        return train_step(trainer, batch)

    monkeypatch.setattr(Trainer, "_train_step", take_a_second)
    monkeypatch.setattr("captioning.training.fit.time", SimpleNamespace(monotonic=lambda: seconds))
    told: list[TrainingProgress] = []
    trainer = make_trainer(data_folder, tmp_path / "a")
    for _ in trainer.run(told.append, report_steps=4):
        seconds += 1000
    assert [progress.photos_per_second for progress in told] == [OPTIONS.batch_size] * len(told)
    assert told[-1].step > trainer.steps_per_pass
    assert [progress.seconds_left for progress in told] == [trainer.total_steps - progress.step for progress in told]


def test_a_run_is_not_resumed_with_other_options(data_folder: Path, tmp_path: Path) -> None:
    next(make_trainer(data_folder, tmp_path / "a").run(silent))
    with pytest.raises(DataError, match="other options"):
        make_trainer(data_folder, tmp_path / "a", replace(OPTIONS, learning_rate=1e-4))
    more = make_trainer(data_folder, tmp_path / "a", replace(OPTIONS, passes=5))
    assert more.total_steps == 5 * more.steps_per_pass


@pytest.mark.parametrize("change", ["caption", "photograph"])
def test_a_run_is_not_resumed_on_other_photographs_or_captions(data_folder: Path, tmp_path: Path, change: str) -> None:
    next(make_trainer(data_folder, tmp_path / "a").run(silent))
    table = data_folder / "captions.tsv"
    lines = table.read_text(encoding="utf-8").splitlines()
    swapped = [lines[0], *lines[2:], lines[1]] if change == "photograph" else [lines[0], lines[2], lines[1], *lines[3:]]
    table.write_text("\n".join(swapped) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="a run on other photographs or captions; choose another folder"):
        make_trainer(data_folder, tmp_path / "a")


def test_training_learns_what_the_pictures_show(data_folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    out = tmp_path / "model"
    figures = train(data_folder, out, SMALL, replace(OPTIONS, passes=14, opening_rate=0.0), lines.append)
    assert figures["class_naming"] > 0.6
    assert figures["bleu_1"] > 0.6
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md", "config.json", "log.jsonl", "model.safetensors", "tokenizer.json", "training_state.pt",
    ]  # fmt: skip
    assert f"{figures['cider']:.4f}" in (out / "README.md").read_text(encoding="utf-8")
    records = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["pass"] for record in records if "pass" in record] == list(range(1, 15))
    losses = [record["train/caption_loss"] for record in records if "train/caption_loss" in record]
    assert losses[-1] < losses[0]
    assert records[-1]["final/cider"] == figures["cider"]
    assert any("min left" in line for line in lines)


def test_a_loss_that_is_not_a_number_stops_the_run(data_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(data_folder, tmp_path / "a")
    with torch.no_grad():
        next(trainer.network.module.parameters()).fill_(np.nan)
    with pytest.raises(DataError, match="stopped being a number"):
        next(trainer.run(silent))


WORDS = replace(OPTIONS, caption_weight=0.0, contrastive_weight=0.0, word_weight=1.0)


@pytest.mark.slow
def test_the_encoder_learns_alone_from_words_on_mixed_and_smaller_pictures(data_folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    options = replace(WORDS, passes=30, mix=0.3, training_size=24)
    figures = train(data_folder, tmp_path / "model", SMALL, options, lines.append)
    assert figures["kinds_told"] > 0.6
    assert "not measured" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert any("words" in line for line in lines)


def test_only_the_encoder_changes_where_captions_do_not_count(data_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(data_folder, tmp_path / "a", WORDS)
    before = {name: value.clone() for name, value in trainer.network.module.state_dict().items()}
    list(trainer.run(silent))
    changed = {
        name for name, value in trainer.network.module.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert {name.partition(".")[0] for name in changed} == {"image_encoder"}


def test_words_are_learnt_beside_captions(data_folder: Path, tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    trainer = make_trainer(data_folder, tmp_path / "a", replace(OPTIONS, passes=6, word_weight=1.0))
    list(trainer.run(told.append, report_steps=2))
    assert told[-1].word_loss < told[0].word_loss
    assert told[-1].caption_loss < told[0].caption_loss


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mix": 0.5, "word_weight": 1.0}, "No caption fits a mixed picture"),
        ({"caption_weight": 0.0}, "nothing is learnt"),
    ],
)
def test_losses_that_contradict_each_other_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(OptionsError, match=said):
        replace(OPTIONS, **wrong)  # type: ignore[arg-type]


def test_a_training_size_that_makes_no_whole_patches_is_refused(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="multiples of 12"):
        make_trainer(data_folder, tmp_path / "a", replace(OPTIONS, training_size=30))
