"""Logs of a run's figures: always as lines of JSON, and on request in TensorBoard, W&B or trackio."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from captioning.core.errors import OptionsError, first_line
from captioning.core.whole_files import write_whole

LOG_NAME = "log.jsonl"
PROJECT = "captionscope"


class RunLog(Protocol):
    """A log of figures; steps only grow."""

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the figures of a step, named like `train/caption_loss`."""
        ...

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Store the files of a finished model, where this log stores models."""
        ...

    def close(self) -> None:
        """Finish the log."""
        ...


class JsonLog:
    """A log of one JSON line a record in `log.jsonl`; a resumed run appends."""

    def __init__(self, out: Path, done_steps: int) -> None:
        self._path = out / LOG_NAME
        if self._path.is_file():
            # Drop a line that a kill cut off, and records after the last checkpoint, which the run writes again.
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= done_steps]
            write_whole(self._path, "".join(kept))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Do nothing: the model already lies beside the log."""

    def close(self) -> None:
        """Do nothing: every line is already written."""


class TensorBoardLog:
    """A log of scalars in `out/tensorboard`; `tensorboard --logdir DIR` shows them."""

    def __init__(self, out: Path, done_steps: int) -> None:
        _import_package("tensorboard")
        writers: Any = import_module("torch.utils.tensorboard")
        # The run writes the records after its last checkpoint again.
        self._writer = writers.SummaryWriter(str(out / "tensorboard"), purge_step=done_steps + 1)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add one scalar a figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Do nothing: TensorBoard stores no models."""

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _run_id(out: Path) -> str:
    """Return the id of the folder's run, which is created once so that a resumed run has the same."""
    path = out / "wandb_run_id.txt"
    if not path.is_file():
        write_whole(path, uuid4().hex)
    return path.read_text(encoding="utf-8")


class WandbLog:
    """A run of Weights & Biases, which also stores the model; WANDB_MODE=offline needs no network."""

    def __init__(self, out: Path, config: Mapping[str, Any]) -> None:
        self._wandb = _import_package("wandb")
        try:
            self._run = self._wandb.init(
                project=PROJECT,
                name=out.resolve().name,
                id=_run_id(out),
                resume="allow",
                dir=str(out),
                config=dict(config),
            )
        except Exception as error:  # the package's errors and those of its transport share no other base class
            raise OptionsError(
                f"Weights & Biases takes no log ({first_line(error)}); sign in with `wandb login`, or set "
                "WANDB_MODE=offline and send it later with `wandb sync`."
            ) from error

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures of one step."""
        self._run.log(dict(figures), step=step)

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Store the model as an artifact: `wandb:ENTITY/PROJECT/NAME:VERSION` opens it."""
        artifact = self._wandb.Artifact(folder.resolve().name, type="model")
        for file in files:
            artifact.add_file(str(folder / file), name=file)
        self._run.log_artifact(artifact)

    def close(self) -> None:
        """Send the rest and finish the run."""
        self._run.finish()


class TrackioLog:
    """A run of trackio, stored on this machine; `trackio show` shows it."""

    def __init__(self, out: Path, config: Mapping[str, Any]) -> None:
        self._trackio = _import_package("trackio")
        self._trackio.init(project=PROJECT, name=out.resolve().name, config=dict(config), resume="allow", embed=False)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures of one step."""
        self._trackio.log(dict(figures), step=step)

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Do nothing: models stay in their folders."""

    def close(self) -> None:
        """Finish the run."""
        self._trackio.finish()


LOGGERS: Mapping[str, Callable[[Path, int, Mapping[str, Any]], RunLog]] = {
    "tensorboard": lambda out, done_steps, _: TensorBoardLog(out, done_steps),
    "wandb": lambda out, _, config: WandbLog(out, config),
    "trackio": lambda out, _, config: TrackioLog(out, config),
}


def check_logs(names: Sequence[str]) -> None:
    """Raise `OptionsError` for an unknown name, and for a log whose package is not installed."""
    unknown = sorted(set(names) - set(LOGGERS))
    if unknown:
        raise OptionsError(f"There is no log {', '.join(unknown)}; choose from {', '.join(LOGGERS)}.")
    for name in names:
        _import_package(name)


class RunLogs:
    """All logs of a run, open for as long as a `with` block lasts."""

    def __init__(self, out: Path, names: Sequence[str], done_steps: int, config: Mapping[str, Any]) -> None:
        """Open the JSON log and the logs in `names`, which are keys of `LOGGERS`.

        The run resumes after `done_steps`. Raises `OptionsError` where a log cannot be opened.
        """
        check_logs(names)
        self._logs: list[RunLog] = [JsonLog(out, done_steps)]
        self._stack = ExitStack()
        for name in dict.fromkeys(names):
            log = LOGGERS[name](out, done_steps, config)
            self._stack.callback(log.close)
            self._logs.append(log)

    def __enter__(self) -> RunLogs:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the figures of a step to every log."""
        for log in self._logs:
            log.write(step, figures)

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Store the files of a finished model in every log that stores models."""
        for log in self._logs:
            log.keep(folder, files)


def _import_package(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise OptionsError(
            f"A log in {package} needs a package that is not installed; `pip install {package}`, or leave out "
            f"--log {package}."
        ) from error
