"""A whole training: from photographs to a measured model folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch

from captioning.core import runtime
from captioning.core.types import ModelSpec
from captioning.core.whole_files import write_whole
from captioning.models.captioner import NetworkCaptioner
from captioning.training.data import (
    DataFolders,
    PhotoSet,
    choose_photos,
    class_names,
    evaluation_side,
    load_photos,
)
from captioning.training.fit import Trainer, TrainingProgress
from captioning.training.logs import RunLogs, check_logs
from captioning.training.metrics import check_scorer, evaluate_captions, evaluate_kinds
from captioning.training.model_card import read_terms, write_card
from captioning.training.options import StartOptions, TrainingOptions
from captioning.training.start import Start, make_start

NUM_DEV_PHOTOS = 200  # dev photographs measured after each pass


def train(
    folders: DataFolders,
    out: Path,
    beginning: StartOptions,
    options: TrainingOptions,
    report: Callable[[str], None],
    *,
    limit: int | None = None,
    logs: Sequence[str] = (),
    device: str = "auto",
    features: Path | None = None,
) -> dict[str, Any]:
    """Fit a captioner to the train split of `folders`, write it to `out`, and return its figures on the dev split.

    `limit` keeps that many photographs. `logs` are names of `LOGGERS`. The folder `features` stores the outputs of a
    frozen encoder for other runs. An unfinished run in `out` is resumed. Raises `DataError`, `OptionsError`, and the
    errors of opening a model.
    """
    check_logs(logs)
    check_scorer()
    command = beginning.command(options, out.resolve().name)
    photos = choose_photos(folders, "train", limit)
    chosen_device = runtime.choose_device(device)
    start = make_start(photos, options, beginning)
    data = load_photos(folders, "train", start.side(options), limit, report=_counter(report, "decoded"))
    trainer = Trainer(start, data, out, options, chosen_device, _counter(report, "encoded"), features)
    del data  # free the pixels where features replaced them
    side = evaluation_side(start.pixels.shape, folders)
    dev = load_photos(folders, "dev", side, None if limit is None else max(2, limit // 10))
    kinds = class_names(dev.photos)
    report(f"{len(photos)} photographs, {trainer.total_steps} steps on {trainer.device}, from step {trainer.step}")
    with RunLogs(out, logs, trainer.step, _config(options, start, len(photos))) as run_logs:

        def log_progress(progress: TrainingProgress) -> None:
            report(_progress_line(progress))
            run_logs.write(progress.step, _progress_figures(progress))

        for number in trainer.run(log_progress):
            with trainer.averaged() as network:
                captioner = NetworkCaptioner(_spec(start, out), network)
                figures = _measure(trainer, captioner, _take_evenly(dev, NUM_DEV_PHOTOS), kinds)
            run_logs.write(trainer.step, {"pass": number, **_dev_figures(figures)})
            report(f"pass {number}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items() if isinstance(v, float)))
        card = partial(write_card, start, out.resolve().name, command, photos, terms=read_terms(folders))
        figures = _write_and_measure(trainer, out, dev, kinds, card, report)
        run_logs.write(trainer.step, {f"final/{k}": v for k, v in figures.items() if isinstance(v, float)})
        run_logs.keep(out, _model_files(start, out))
    trainer.photo_encoder.close()
    report(f"wrote {out}")
    return figures


def _write_and_measure(
    trainer: Trainer,
    out: Path,
    dev: PhotoSet,
    kinds: Sequence[str],
    card: Callable[[dict[str, Any] | None], str],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Save the averaged weights, and measure the model as it is read back from the folder."""
    start = trainer.start
    assert start.family.save is not None
    with trainer.averaged() as network:
        start.family.save(network, out, card(None))
    written = NetworkCaptioner(_spec(start, out), start.family.load(out, trainer.device, torch.float32))
    figures = _measure(trainer, written, dev, kinds, _counter(report, "measured"))
    write_whole(out / "README.md", card(figures))
    return figures


def _measure(
    trainer: Trainer,
    captioner: NetworkCaptioner,
    dev: PhotoSet,
    kinds: Sequence[str],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure captions on `dev`, or classes predicted from embeddings where only the encoder learns."""
    if trainer.options.caption_weight:
        return evaluate_captions(captioner, dev, kinds, report=lambda _, done, total: report(done, total))
    return evaluate_kinds(captioner, dev, lambda embeds: trainer.losses.predict_kinds(embeds, kinds))


def _spec(start: Start, out: Path) -> ModelSpec:
    return ModelSpec(str(out), start.family.name, out.name, "of its photographs", start.family.capabilities)


def _take_evenly(data: PhotoSet, count: int) -> PhotoSet:
    """Return at most `count` photographs, evenly spread."""
    total = len(data.photos)
    places = [number * total // count for number in range(count)] if count < total else list(range(total))
    return PhotoSet(tuple(data.photos[place] for place in places), data.pixels[places])


def _model_files(start: Start, out: Path) -> list[str]:
    """Return the files of the model in the folder, without the run's own."""
    patterns = (*start.family.files, "README.md")
    names = sorted(path.name for path in out.iterdir() if path.is_file())
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _config(options: TrainingOptions, start: Start, num_photos: int) -> dict[str, Any]:
    return {**asdict(options), "network": start.summary, "photographs": num_photos}


def _counter(report: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    """Return a function that reports every 500 items, and the last."""
    last_reported = 0

    def count(done: int, total: int) -> None:
        nonlocal last_reported
        if done - last_reported >= 500 or done == total:
            last_reported = done
            report(f"{what} {done} of {total}")

    return count


def _progress_figures(progress: TrainingProgress) -> dict[str, float]:
    return {
        "train/caption_loss": progress.caption_loss,
        "train/contrastive_loss": progress.contrastive_loss,
        "train/token_accuracy": progress.token_accuracy,
        "train/reward": progress.reward,
        "train/word_loss": progress.word_loss,
        "train/learning_rate": progress.learning_rate,
        "train/photos_per_second": progress.photos_per_second,
    }


def _dev_figures(figures: Mapping[str, Any]) -> dict[str, float]:
    return {f"dev/{name}": value for name, value in figures.items()}


def _progress_line(progress: TrainingProgress) -> str:
    minutes = progress.seconds_left / 60
    return (
        f"step {progress.step}/{progress.total_steps}  caption {progress.caption_loss:.3f}  "
        f"contrastive {progress.contrastive_loss:.3f}  words {progress.word_loss:.3f}  reward {progress.reward:.3f}  "
        f"tokens right {progress.token_accuracy:.3f}  "
        f"{progress.photos_per_second:.0f} pictures/s  {minutes:.0f} min left"
    )
