"""Where a run's figures go: always to a file of lines of JSON, and where asked to TensorBoard, W&B or trackio."""

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
    """One place for figures; steps only grow."""

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add figures, named like `train/caption_loss`, of a step."""
        ...

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Keep the files of a finished model, where this place keeps models."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class JsonLog:
    """A line a record in `log.jsonl`; a resumed run appends."""

    def __init__(self, out: Path, done_steps: int) -> None:
        self._path = out / LOG_NAME
        if self._path.is_file():
            # What a killed run left of a line is no record, and what it wrote after its last checkpoint comes again.
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= done_steps]
            write_whole(self._path, "".join(kept))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """The model lies beside the log already."""

    def close(self) -> None:
        """Every line was written when it came."""


class TensorBoardLog:
    """Scalars in `out/tensorboard`; look at them with `tensorboard --logdir DIR`."""

    def __init__(self, out: Path, done_steps: int) -> None:
        _need("tensorboard")
        writers: Any = import_module("torch.utils.tensorboard")
        # What a killed run wrote after its last checkpoint is written again.
        self._writer = writers.SummaryWriter(str(out / "tensorboard"), purge_step=done_steps + 1)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add one scalar a figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """TensorBoard keeps no models."""

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _run_id(out: Path) -> str:
    """The name of the folder's run among those of all folders, the same whenever it is resumed."""
    path = out / "wandb_run_id.txt"
    if not path.is_file():
        write_whole(path, uuid4().hex)
    return path.read_text(encoding="utf-8")


class WandbLog:
    """A run of Weights & Biases, which also keeps the model; WANDB_MODE=offline asks no network."""

    def __init__(self, out: Path, config: Mapping[str, Any]) -> None:
        self._wandb = _need("wandb")
        try:
            self._run = self._wandb.init(
                project=PROJECT,
                name=out.resolve().name,
                id=_run_id(out),
                resume="allow",
                dir=str(out),
                config=dict(config),
            )
        except Exception as error:  # the package's own errors share no base with those of its transport
            raise OptionsError(
                f"Weights & Biases takes no log ({first_line(error)}); sign in with `wandb login`, or set "
                "WANDB_MODE=offline and send it later with `wandb sync`."
            ) from error

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures of one step."""
        self._run.log(dict(figures), step=step)

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Keep the model as an artifact: `wandb:ENTITY/PROJECT/NAME:VERSION` opens it."""
        artifact = self._wandb.Artifact(folder.resolve().name, type="model")
        for file in files:
            artifact.add_file(str(folder / file), name=file)
        self._run.log_artifact(artifact)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class TrackioLog:
    """A run of trackio, kept on this machine; look at it with `trackio show`."""

    def __init__(self, out: Path, config: Mapping[str, Any]) -> None:
        self._trackio = _need("trackio")
        self._trackio.init(project=PROJECT, name=out.resolve().name, config=dict(config), resume="allow", embed=False)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures of one step."""
        self._trackio.log(dict(figures), step=step)

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Models stay in their folders."""

    def close(self) -> None:
        """Finish the run."""
        self._trackio.finish()


LOGGERS: Mapping[str, Callable[[Path, int, Mapping[str, Any]], RunLog]] = {
    "tensorboard": lambda out, done_steps, _: TensorBoardLog(out, done_steps),
    "wandb": lambda out, _, config: WandbLog(out, config),
    "trackio": lambda out, _, config: TrackioLog(out, config),
}


def check_logs(names: Sequence[str]) -> None:
    """Raise `OptionsError` for a name that is unknown, and for one whose package is not installed."""
    unknown = sorted(set(names) - set(LOGGERS))
    if unknown:
        raise OptionsError(f"There is no log {', '.join(unknown)}; choose from {', '.join(LOGGERS)}.")
    for name in names:
        _need(name)


class RunLogs:
    """All the places that a run's figures go to, for as long as a `with` block lasts."""

    def __init__(self, out: Path, names: Sequence[str], done_steps: int, config: Mapping[str, Any]) -> None:
        """`names` of `LOGGERS`, and how many steps the run goes on from.

        Raises `OptionsError` where one of them cannot be begun.
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
        """Add figures of a step everywhere."""
        for log in self._logs:
            log.write(step, figures)

    def keep(self, folder: Path, files: Collection[str]) -> None:
        """Keep a finished model wherever models are kept."""
        for log in self._logs:
            log.keep(folder, files)


def _need(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise OptionsError(
            f"A log in {package} needs a package that is not installed; `pip install {package}`, or leave out "
            f"--log {package}."
        ) from error
