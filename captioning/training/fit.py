"""The training loop: steps, averaged weights, and checkpoints from which a run is resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from captioning.core import runtime
from captioning.core.errors import DataError, OptionsError
from captioning.core.whole_files import whole_file
from captioning.models.families.patch_captioner.network import PatchNetwork
from captioning.models.families.patch_captioner.packaged_encoder import PackagedEncoder
from captioning.models.network import TrainableNetwork
from captioning.training.batches import Batch, StepSampler, load_batches
from captioning.training.data import PhotoSet, fingerprint, plain_words
from captioning.training.losses import Losses, StepFigures
from captioning.training.options import TrainingOptions
from captioning.training.photo_encoder import AugmentingEncoder, make_photo_encoder
from captioning.training.start import Start, read_class_names

STATE_NAME = "training_state.pt"
EMBEDDED_PHOTOS = 6000  # photographs to which the embedding of a frozen encoder is fitted
MIN_CLASS_PROBABILITY = 0.08  # mean over patches, most of which show something else
STATISTICS_BATCHES = 32  # with more, the normalisation statistics no longer change


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """The figures of a running training; losses are means since the last report, times are in seconds."""

    step: int
    total_steps: int
    caption_loss: float
    contrastive_loss: float
    word_loss: float
    token_accuracy: float
    reward: float
    learning_rate: float
    photos_per_second: float
    seconds_left: float


def learning_rate_at(step: int, total_steps: int, options: TrainingOptions) -> float:
    """Return the learning rate: linear warm-up, plateau, and a linear fall to 0 over the last `cooldown` of the run."""
    warm = min(1.0, (step + 1) / options.warmup_steps)
    left = (total_steps - step) / (total_steps * options.cooldown)
    return options.learning_rate * min(warm, left, 1.0)


class Trainer:
    """A training run in a folder. A new `Trainer` in the same folder resumes from the last checkpoint."""

    def __init__(
        self,
        start: Start,
        data: PhotoSet,
        out: Path,
        options: TrainingOptions,
        device: torch.device,
        report: Callable[[int, int], None] = lambda done, total: None,
        features: Path | None = None,
    ) -> None:
        """Prepare the run, or restore its last checkpoint.

        `report` receives (done, total) while features are computed; the folder `features` keeps them for other runs.
        Raises `DataError` for the folder of another run.
        """
        self.start = start
        self.network: TrainableNetwork = start.network
        self.out = out
        self.options = options
        self.device = device
        self.step = 0
        self._fingerprint = fingerprint(data.photos)
        out.mkdir(parents=True, exist_ok=True)
        saved = self._read_state()
        module = self.network.module.to(device)
        self._learnable = [p for p in module.parameters() if p.requires_grad]
        frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
        self._names = [name for name in module.state_dict() if name not in frozen]
        torch.manual_seed(options.seed)
        self.losses = Losses(self.network, data.photos, start.layout, options, device)
        self.average = {name: value.detach().clone() for name, value in self._trained_tensors().items()}
        self.optimizer = self._make_optimizer()
        if saved is not None:
            self._restore(saved)
        sampler = StepSampler(data.photos, options)
        self.steps_per_pass = sampler.steps_per_pass
        self.total_steps = len(sampler)
        self._photos = data.photos
        self.photo_encoder = make_photo_encoder(start, data, options, device, out, report, features)
        self._fit_embedding()
        self._predicted_names = self._predict_class_names() if options.name_rate else {}

    def _fit_embedding(self) -> None:
        """Fit the embedding of a frozen encoder that has none to photographs spread over the table."""
        encoder = self.start.frozen_encoder
        if not isinstance(encoder, PackagedEncoder) or encoder.has_embedding:
            return
        num_photos = len(self._photos)
        places = torch.arange(min(num_photos, EMBEDDED_PHOTOS)) * num_photos // min(num_photos, EMBEDDED_PHOTOS)
        encoder.fit_embedding(self.photo_encoder.look(batch) for batch in torch.split(places, 64))
        for name, value in self._trained_tensors().items():
            if name.startswith("image_encoder.embedding_"):
                self.average[name] = value.detach().clone()

    def _predict_class_names(self) -> dict[str, str]:
        """Return the class that the encoder's classifier predicts for each photograph, where it is sure enough.

        Raises `OptionsError` for an encoder without a classifier.
        """
        encoder = self.start.frozen_encoder
        if not isinstance(encoder, PackagedEncoder):
            raise OptionsError("Only the encoder of efficientnet-lite2 has a classifier; leave out --name-rate.")
        names, seen = read_class_names(), {}
        for places in torch.split(torch.arange(len(self._photos)), 64):
            with self._autocast():
                classes, odds = encoder.likeliest_classes(self.photo_encoder.look(places))
            for place, number, share in zip(places.tolist(), classes.tolist(), odds.tolist(), strict=True):
                if share >= MIN_CLASS_PROBABILITY:
                    seen[self._photos[place].name] = plain_words(names[number])
        return seen

    @contextmanager
    def averaged(self) -> Iterator[TrainableNetwork]:
        """Yield the network in evaluation mode with the average of its last weights, which is measured and saved."""
        module = self.network.module
        newest = {name: value.detach().clone() for name, value in self._trained_tensors().items()}
        self._write_trained(self.average)
        self._measure_statistics()
        try:
            yield self.network
        finally:
            self._write_trained(newest)
            for parameter in self._learnable:  # a captioner around the network has switched this off
                parameter.requires_grad_(True)
            module.train()

    def run(self, report: Callable[[TrainingProgress], None], report_steps: int = 20) -> Iterator[int]:
        """Train to the end; yield the number of each finished pass, after its checkpoint is written."""
        sums, summed = np.zeros(len(StepFigures._fields)), 0
        started, start_step = time.monotonic(), self.step
        for batch in load_batches(self._photos, self.network, self.options, self.step, self._predicted_names):
            sums += self._train_step(batch)
            summed += 1
            self.step += 1
            if self.step % report_steps == 0:
                rate = (self.step - start_step) / (time.monotonic() - started)
                means = StepFigures(*(sums / summed).tolist())
                report(
                    TrainingProgress(
                        step=self.step,
                        total_steps=self.total_steps,
                        caption_loss=means.caption_loss,
                        contrastive_loss=means.contrastive_loss,
                        word_loss=means.word_loss,
                        token_accuracy=means.tokens_right / (means.tokens_learnt or 1),
                        reward=means.reward,
                        learning_rate=learning_rate_at(self.step - 1, self.total_steps, self.options),
                        photos_per_second=rate * self.options.batch_size,
                        seconds_left=(self.total_steps - self.step) / rate,
                    )
                )
                sums[:], summed = 0, 0
            ends_pass = self.step % self.steps_per_pass == 0
            if ends_pass or self.step % self.options.checkpoint_steps == 0:
                self._write_state()
            if ends_pass:
                paused = time.monotonic()
                yield self.step // self.steps_per_pass
                started += time.monotonic() - paused  # the caller's time, such as measuring, is no training

    def _train_step(self, batch: Batch) -> StepFigures:
        torch.manual_seed(batch.seed)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(batch.step, self.total_steps, self.options)
        self.network.module.train()
        with self._autocast():
            loss, figures = self.losses.compute(self.photo_encoder.encode(batch.places, batch.seed), batch)
        if not torch.isfinite(loss):
            raise DataError(
                f"The loss stopped being a number at step {batch.step}; lower --learning-rate and start anew."
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._learnable, 1.0)
        self.optimizer.step()
        self._update_average()
        return figures

    def _autocast(self) -> torch.autocast:
        # Captions are drawn without gradients. A cache would give the weights cast there to the loss as well.
        return runtime.autocast(self.device, cache_enabled=not self.options.reward_weight)

    def _trained_tensors(self) -> dict[str, Tensor]:
        """Return the tensors that training changes: weights that are not frozen, and statistics."""
        state = self.network.module.state_dict()
        return {name: state[name] for name in self._names}

    def _write_trained(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._trained_tensors().items():
                value.copy_(values[name])

    def _update_average(self) -> None:
        # A short average at first: the random initial weights would otherwise remain in it for long.
        decay = min(self.options.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self._trained_tensors().items():
                mean = self.average[name]
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def _measure_statistics(self) -> None:
        """Measure the normalisation statistics of the averaged weights.

        An average of earlier statistics would not fit them.
        """
        module = self.network.module
        learns = self.start.frozen_encoder is None
        if learns and isinstance(self.photo_encoder, AugmentingEncoder) and isinstance(module, PatchNetwork):
            batches = load_batches(self._photos, self.network, replace(self.options, passes=STATISTICS_BATCHES))
            pixels = (self.photo_encoder.pixel_values(b.places, b.seed) for b in islice(batches, STATISTICS_BATCHES))
            with self._autocast():
                update_bn(pixels, module.image_encoder)
        module.eval()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        parameters = [*self._learnable, *self.losses.heads.parameters()]
        return torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.options.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )

    def _read_state(self) -> dict[str, Any] | None:
        path = self.out / STATE_NAME
        if not path.is_file():
            return None
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        return state

    def _restore(self, saved: Mapping[str, Any]) -> None:
        if saved.get("photos") != self._fingerprint:
            raise DataError(
                f"{self.out} holds a run on other photographs or captions; choose another folder, or bring back those "
                "that it began with, and its --limit, to resume it."
            )
        same_options = saved.get("options") == asdict(self.options) | {"passes": saved["options"]["passes"]}
        if not same_options or saved.get("origin") != _origin_text(self.start.origin):
            raise DataError(
                f"{self.out} holds a run with other options; choose another folder, or repeat its options to resume it."
            )
        self._write_trained(saved["learnt"])
        self.average = saved["average"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.losses.heads.load_state_dict(saved["heads"])
        self.step = saved["step"]

    def _write_state(self) -> None:
        state = {
            "step": self.step,
            "options": asdict(self.options),
            "origin": _origin_text(self.start.origin),
            "photos": self._fingerprint,
            "learnt": self._trained_tensors(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "heads": self.losses.heads.state_dict(),
        }
        # Write the whole file before replacing the last checkpoint: a kill leaves one that is good.
        with whole_file(self.out / STATE_NAME) as file:
            torch.save(state, file)


def _origin_text(origin: Mapping[str, Any]) -> str:
    """Return an origin as text, which is the same after it was saved and loaded."""
    return json.dumps(origin, sort_keys=True)
