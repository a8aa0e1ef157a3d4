"""One whole training: photographs in, a measured model folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from captioning.models.base import NetworkCaptioner
from captioning.models.families.patch_captioner import CAPABILITIES, MODEL_TYPE, PatchCaptionerNetwork, load, save
from captioning.training.data import class_names, load_photos, read_table
from captioning.training.fit import Trainer, TrainingOptions, TrainingProgress
from captioning.training.metrics import evaluate_captions
from captioning.training.model_card import write_card
from captioning.types import ModelSpec

GLANCE = 300  # dev photographs looked at after each pass


def train(
    folder: Path,
    out: Path,
    options: TrainingOptions,
    report: Callable[[str], None],
    limit: int | None = None,
    shape: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fit a captioner to the train split of `folder`, write it to `out`, and return its figures on the dev split.

    `limit` keeps that many photographs; `shape` overrides fields of `PatchNetworkConfig`. An unfinished run in
    `out` is resumed. Raises `DataError`.
    """
    kinds = class_names(read_table(folder))
    data = load_photos(folder, "train", limit=limit, report=lambda done, total: report(f"decoded {done} of {total}"))
    dev = load_photos(folder, "dev", limit=None if limit is None else max(2, limit // 10))
    glance = load_photos(folder, "dev", limit=min(GLANCE, len(dev.photos)))
    trainer = Trainer(data, out, options, shape=shape)
    report(f"{len(data.photos)} photographs, {trainer.total_steps} steps on {trainer.device}, from step {trainer.step}")

    for number in trainer.run(lambda progress: report(_progress_line(progress))):
        figures = evaluate_captions(_captioner(trainer), glance, kinds)
        trainer.log({"pass": number, "photographs": len(glance.photos)} | figures)
        report(f"pass {number}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items() if isinstance(v, float)))
    network = trainer.averaged_network()
    save(network, trainer.tokenizer, out, write_card(network, options, None, len(data.photos)))
    # What is measured is what was written: the weights in half precision, read back.
    written = NetworkCaptioner(_spec(out), load(out, torch.device("cpu"), torch.float32))

    def report_evaluation(what: str, done: int, total: int) -> None:
        if done % 200 == 0 or done == total:
            report(f"{what} the dev split, {done} of {total}")

    figures = evaluate_captions(written, dev, kinds, report=report_evaluation)
    save(network, trainer.tokenizer, out, write_card(network, options, figures, len(data.photos)))
    report(f"wrote {out}")
    return figures


def _spec(out: Path) -> ModelSpec:
    return ModelSpec(str(out), MODEL_TYPE, out.name, "of its photographs", CAPABILITIES)


def _captioner(trainer: Trainer) -> NetworkCaptioner:
    """The averaged weights as they stand, as a captioner."""
    network = PatchCaptionerNetwork(trainer.averaged_network(), trainer.tokenizer)
    return NetworkCaptioner(_spec(trainer.out), network)


def _progress_line(progress: TrainingProgress) -> str:
    minutes = progress.seconds_left / 60
    return (
        f"step {progress.step}/{progress.total_steps}  caption {progress.caption_loss:.3f}  "
        f"contrastive {progress.contrastive_loss:.3f}  tokens right {progress.token_accuracy:.3f}  "
        f"{progress.photos_per_second:.0f} pictures/s  {minutes:.0f} min left"
    )
