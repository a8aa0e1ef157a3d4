"""Fitting a `PatchNetwork` to photographs: a caption loss, a contrastive loss beside it, averaged weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from captioning.errors import DataError
from captioning.models.families.patch_captioner.network import PatchNetwork, PatchNetworkConfig
from captioning.training.data import CaptionDrawer, Photo, PhotoSet, augment, train_tokenizer, training_texts

STATE_NAME = "training_state.pt"
LOG_NAME = "log.jsonl"
STATISTICS_BATCHES = 32  # enough that the normalisation statistics no longer depend on which


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a network is fitted. `passes` may change when a run is resumed; the rest may not."""

    passes: int = 14
    batch_size: int = 64
    captions_per_photo: int = 2
    captioned_repeats: int = 2
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    contrastive_weight: float = 0.3
    opening_rate: float = 0.3
    average_decay: float = 0.999
    warmup_steps: int = 500
    cooldown: float = 0.4
    vocab_size: int = 4000
    max_tokens: int = 40
    checkpoint_steps: int = 200
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """What a run tells while it goes on; losses are means since the last report, times are seconds."""

    step: int
    total_steps: int
    caption_loss: float
    contrastive_loss: float
    token_accuracy: float
    photos_per_second: float
    seconds_left: float


class ContrastiveHead(nn.Module):
    """Pulls a picture's embedding to that of its words, and pictures of one kind together.

    CLIP's symmetric loss (Radford et al. 2021) with several positives a row (Khosla et al. 2020). The text
    side is a bag of word embeddings; only training uses it.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.text = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, image_embeds: Tensor, words: Tensor, word_mask: Tensor, groups: Tensor) -> Tensor:
        """The loss of `image_embeds [N, hidden]` and `words [N, T, hidden]`; equal `groups [N]` are positives."""
        bag = (words * word_mask[..., None]).sum(dim=1) / word_mask.sum(dim=1, keepdim=True).clamp(min=1)
        text_embeds = F.normalize(self.text(bag).float(), dim=-1)
        logits = image_embeds @ text_embeds.T * self.log_scale.clamp(max=math.log(100)).exp()
        targets = (groups[:, None] == groups[None, :]).float()
        targets = targets / targets.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def learning_rate_at(step: int, total_steps: int, options: TrainingOptions) -> float:
    """Linear warm-up, a plateau, and a linear fall to zero over the last `cooldown` of the run."""
    warm = min(1.0, (step + 1) / options.warmup_steps)
    left = (total_steps - step) / (total_steps * options.cooldown)
    return options.learning_rate * min(warm, left, 1.0)


def choose_training_device() -> torch.device:
    """The accelerator where there is one, else the processor."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


class Trainer:
    """One training run in a folder; making it again in the same folder resumes where the last checkpoint stood."""

    def __init__(
        self,
        data: PhotoSet,
        out: Path,
        options: TrainingOptions,
        device: torch.device | None = None,
        shape: Mapping[str, Any] | None = None,
    ) -> None:
        """`shape` overrides fields of `PatchNetworkConfig` in a new run. Raises `DataError` for a folder of another."""
        self.data = data
        self.out = out
        self.options = options
        self.device = device or choose_training_device()
        self.step = 0
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        saved = self._read_state()
        if saved is None:
            tokenizer = train_tokenizer(training_texts(data.photos), options.vocab_size)
            config = PatchNetworkConfig(vocab_size=tokenizer.get_vocab_size(), **(shape or {}))
        else:
            tokenizer = Tokenizer.from_str(saved["tokenizer"])
            config = PatchNetworkConfig.from_dict(saved["config"])
            self._check_same_run(saved["options"])
        self.tokenizer = tokenizer
        self.network = PatchNetwork(config).to(self.device)
        self.head = ContrastiveHead(config.hidden_size).to(self.device)
        self.average = AveragedModel(self.network, multi_avg_fn=self._update_average, use_buffers=True)
        self.optimizer = self._make_optimizer()
        if saved is not None:
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
            self.step = saved["step"]
        self.drawer = CaptionDrawer(tokenizer, options.opening_rate, options.max_tokens)
        self.places = np.array(
            [
                n
                for n, photo in enumerate(data.photos)
                for _ in range(options.captioned_repeats if photo.captions else 1)
            ]
        )
        self.groups = _groups(data.photos)

    @property
    def steps_per_pass(self) -> int:
        """Whole batches in one pass over the photographs."""
        return max(1, len(self.places) // self.options.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_pass * self.options.passes

    def averaged_network(self) -> PatchNetwork:
        """The average of the weights over the last steps, as a network of its own: what is saved and used."""
        network = PatchNetwork(self.network.config).to(self.device)
        network.load_state_dict(self.average.module.state_dict())
        # The averaged statistics are those of the networks averaged, not of their average: measured anew.
        batches = (self._draw_pixels(*self._draw_places(step)) for step in range(STATISTICS_BATCHES))
        with torch.autocast(self.device.type, torch.bfloat16):
            update_bn(batches, network.image_encoder)
        return network.eval()

    def run(self, report: Callable[[TrainingProgress], None], report_steps: int = 20) -> Iterator[int]:
        """Train to the end; yields the number of each finished pass. A checkpoint stands before every yield."""
        losses = np.zeros(4)
        started, start_step = time.monotonic(), self.step
        while self.step < self.total_steps:
            losses += self._train_step()
            self.step += 1
            if self.step % report_steps == 0:
                rate = (self.step - start_step) / (time.monotonic() - started)
                count = max(losses[3], 1)
                report(
                    TrainingProgress(
                        step=self.step,
                        total_steps=self.total_steps,
                        caption_loss=float(losses[0] / report_steps),
                        contrastive_loss=float(losses[1] / report_steps),
                        token_accuracy=float(losses[2] / count),
                        photos_per_second=rate * self.options.batch_size,
                        seconds_left=(self.total_steps - self.step) / rate,
                    )
                )
                losses[:] = 0
            if self.step % self.options.checkpoint_steps == 0 or self.step % self.steps_per_pass == 0:
                self._write_state()
            if self.step % self.steps_per_pass == 0:
                yield self.step // self.steps_per_pass

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to the run's log."""
        with (self.out / LOG_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _train_step(self) -> tuple[float, float, float, float]:
        # Everything random follows from (seed, step), so that a resumed run draws what the first would have.
        options = self.options
        chosen, draw = self._draw_places(self.step)
        pixels = self._draw_pixels(chosen, draw)
        torch.manual_seed(int(draw.integers(2**62)))
        photos = [self.data.photos[n] for n in chosen for _ in range(options.captions_per_photo)]
        input_ids, labels = (t.to(self.device) for t in self.drawer.batch(photos, draw))
        groups = torch.from_numpy(self.groups[chosen]).to(self.device)

        rate = learning_rate_at(self.step, self.total_steps, options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            states, image_embeds = self.network.image_encoder(pixels)
            states = states.repeat_interleave(options.captions_per_photo, dim=0)
            decoder = self.network.text_decoder
            logits = decoder(input_ids, decoder.project_patches(states))[0]
            word_labels = labels[:: options.captions_per_photo]
            word_mask = ((word_labels != -100) & (word_labels != self.drawer.eos)).float()
            words = decoder.tokens(word_labels.clamp(min=0))
            contrastive = self.head(image_embeds, words, word_mask, groups)
        flat = labels.flatten()
        logits = logits.flatten(0, 1).float()
        caption_loss = F.cross_entropy(logits, flat, ignore_index=-100, label_smoothing=options.label_smoothing)
        loss = caption_loss + options.contrastive_weight * contrastive
        if not torch.isfinite(loss):
            raise DataError(
                f"The loss stopped being a number at step {self.step}; lower --learning-rate and start anew."
            )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        learnt = flat != -100
        right = (logits.argmax(dim=-1) == flat)[learnt].sum()
        return caption_loss.item(), contrastive.item(), right.item(), learnt.sum().item()

    def _update_average(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        # A short memory at first, or the random weights of the start would stay in the average for long.
        decay = min(self.options.average_decay, (1 + int(count)) / (10 + int(count)))
        for mean, new in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(new.to(mean.dtype), 1 - decay)
            else:
                mean.copy_(new)

    def _draw_places(self, step: int) -> tuple[NDArray[np.int64], np.random.Generator]:
        """Which photographs a step sees `[batch]`, and the generator of everything else it draws."""
        number, place = divmod(step, self.steps_per_pass)
        order = np.random.default_rng((self.options.seed, number)).permutation(self.places)
        size = self.options.batch_size
        return order[place * size : (place + 1) * size], np.random.default_rng((self.options.seed, 1, step))

    def _draw_pixels(self, chosen: NDArray[np.int64], draw: np.random.Generator) -> Tensor:
        """The chosen photographs, randomly changed and normalised `[batch, 3, side, side]`."""
        config = self.network.config
        pixels = torch.from_numpy(self.data.pixels[chosen]).to(self.device)
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (config.image_mean, config.image_std))
        generator = torch.Generator().manual_seed(int(draw.integers(2**62)))
        return (augment(pixels, config.image_size, config.patch_size, generator) - mean) / std

    def _make_optimizer(self) -> torch.optim.Optimizer:
        parameters = [*self.network.parameters(), *self.head.parameters()]
        return torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.options.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )

    def _parts(self) -> dict[str, Any]:
        return {"network": self.network, "head": self.head, "average": self.average, "optimizer": self.optimizer}

    def _check_same_run(self, saved: dict[str, Any]) -> None:
        before = TrainingOptions(**saved)
        if replace(before, passes=self.options.passes) != self.options:
            raise DataError(
                f"{self.out} holds a run with other options; choose another folder, or repeat its options to resume it."
            )

    def _read_state(self) -> dict[str, Any] | None:
        path = self.out / STATE_NAME
        if not path.is_file():
            return None
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        return state

    def _write_state(self) -> None:
        state: dict[str, Any] = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {
            "step": self.step,
            "options": asdict(self.options),
            "config": self.network.config.to_dict(),
            "tokenizer": self.tokenizer.to_str(),
        }
        # Written whole, then renamed: a kill leaves the last good checkpoint.
        partial = self.out / f"{STATE_NAME}.partial"
        torch.save(state, partial)
        partial.replace(self.out / STATE_NAME)


def _groups(photos: tuple[Photo, ...]) -> NDArray[np.int64]:
    """A number for each photo that photos of one kind share `[photos]`."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(photo.class_name or photo.name, len(numbers)) for photo in photos], np.int64)
