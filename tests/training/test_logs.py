"""Logs of figures; fakes replace packages that are not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from captioning.core.errors import OptionsError
from captioning.training.logs import RunLogs, check_logs


class FakeTracker(ModuleType):
    """A fake of the parts of wandb and trackio that a log uses."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.kept: list[FakeTracker] = []
        self.files: dict[str, str] = {}
        self.finished = False
        self.trouble: Exception | None = None

    def init(self, **settings: Any) -> FakeTracker:
        if self.trouble is not None:
            raise self.trouble
        self.settings = settings
        return self

    def log(self, figures: dict[str, float], step: int) -> None:
        self.logged.append((step, figures))

    def Artifact(self, name: str, type: str) -> FakeTracker:  # noqa: A002, N802
        return FakeTracker(f"{type} {name}")

    def add_file(self, path: str, name: str) -> None:
        self.files[name] = path

    def log_artifact(self, artifact: FakeTracker) -> None:
        self.kept.append(artifact)

    def finish(self) -> None:
        self.finished = True


def test_figures_are_always_lines_of_json(tmp_path: Path) -> None:
    for step in (20, 40):  # the second time as a resumed run
        with RunLogs(tmp_path, (), step, {}) as logs:
            logs.write(step, {"train/caption_loss": step / 10})
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 20, "train/caption_loss": 2.0},
        {"step": 40, "train/caption_loss": 4.0},
    ]


def test_what_a_killed_run_wrote_after_its_last_checkpoint_is_written_once(tmp_path: Path) -> None:
    with RunLogs(tmp_path, (), 0, {}) as logs:
        for step in (20, 40, 60, 80):
            logs.write(step, {"train/caption_loss": step / 10})
        logs.write(40, {"pass": 1})
    with RunLogs(tmp_path, (), 40, {}) as logs:
        logs.write(60, {"train/caption_loss": 6.1})
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 20, "train/caption_loss": 2.0},
        {"step": 40, "train/caption_loss": 4.0},
        {"step": 40, "pass": 1},
        {"step": 60, "train/caption_loss": 6.1},
    ]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_hear_the_same_figures(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = FakeTracker(name)
    monkeypatch.setitem(sys.modules, name, tracker)
    with RunLogs(tmp_path / "mine", (), 0, {}):
        pass
    assert not tracker.settings, "nobody asked for it"
    (tmp_path / "mine").mkdir()
    with RunLogs(tmp_path / "mine", (name, name), 0, {"seed": 3}) as logs:
        logs.write(20, {"dev/cider": 0.2})
        logs.keep(tmp_path / "mine", ["config.json"])
    assert (tracker.settings["name"], tracker.settings["config"]) == ("mine", {"seed": 3})
    if name == "wandb":
        assert tracker.settings["resume"] == "allow"
        again, other = FakeTracker(name), FakeTracker(name)
        for folder, one in ((tmp_path / "mine", again), (tmp_path / "elsewhere" / "mine", other)):
            folder.mkdir(parents=True, exist_ok=True)
            monkeypatch.setitem(sys.modules, name, one)
            with RunLogs(folder, (name,), 0, {}):
                pass
        assert again.settings["id"] == tracker.settings["id"] != other.settings["id"]
    assert tracker.logged == [(20, {"dev/cider": 0.2})]
    assert tracker.finished
    kept = [(artifact.__name__, list(artifact.files)) for artifact in tracker.kept]
    assert kept == ([("model mine", ["config.json"])] if name == "wandb" else [])


def test_a_tracker_is_finished_when_the_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = FakeTracker("wandb")
    monkeypatch.setitem(sys.modules, "wandb", tracker)
    with pytest.raises(KeyError), RunLogs(tmp_path, ["wandb"], 0, {}):
        raise KeyError("the run")
    assert tracker.finished


def test_a_missing_login_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = FakeTracker("wandb")
    tracker.trouble = RuntimeError("No API key configured.")
    monkeypatch.setitem(sys.modules, "wandb", tracker)
    with pytest.raises(OptionsError, match=r"\(No API key configured\); sign in with `wandb login`, or set WANDB_MODE"):
        RunLogs(tmp_path, ["wandb"], 0, {})


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_names_the_command_that_brings_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OptionsError, match=f"`pip install {name}`"):
        check_logs([name])


def test_an_unknown_log_names_the_choices() -> None:
    with pytest.raises(OptionsError, match="choose from tensorboard, wandb, trackio"):
        check_logs(["mlflow"])


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLogs(tmp_path, ["tensorboard"], 0, {}) as logs:
        logs.write(20, {"train/caption_loss": 3.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/caption_loss")] == [(20, 3.5)]
