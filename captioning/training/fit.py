"""Fitting a network to photographs: a caption loss, a contrastive loss beside it where asked, averaged weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from captioning.core import runtime
from captioning.core.errors import DataError, OptionsError
from captioning.core.whole_files import whole_file
from captioning.models.families.patch_captioner.network import ConvolutionalEncoder, PatchNetwork
from captioning.models.families.patch_captioner.packaged_encoder import PackagedEncoder
from captioning.models.network import TrainableNetwork
from captioning.training.batches import Batch, StepSampler, load_batches
from captioning.training.data import OPENINGS, Photo, PhotoSet, fingerprint, plain_words
from captioning.training.heads import ContrastiveHead, TargetWords, WordHead
from captioning.training.options import TrainingOptions
from captioning.training.self_critical import CiderReward, self_critical_loss
from captioning.training.sight import FreshSight, Seen, make_sight
from captioning.training.start import Start, read_class_names

STATE_NAME = "training_state.pt"
EMBEDDED_PHOTOS = 6000  # photographs that the embedding of a frozen encoder is fitted to
SURE = 0.08  # mean probability over patches from which a class counts as seen; most patches show something else
STATISTICS_BATCHES = 32  # enough that the normalisation statistics no longer depend on which


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """What a run tells while it goes on; losses are means since the last report, times are seconds."""

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


class _StepFigures(NamedTuple):
    """What one step tells: its losses, tokens guessed right of those learnt, and the mean reward of what was drawn."""

    caption_loss: float
    contrastive_loss: float
    word_loss: float
    tokens_right: float
    tokens_learnt: float
    reward: float


def learning_rate_at(step: int, total_steps: int, options: TrainingOptions) -> float:
    """Linear warm-up, a plateau, and a linear fall to zero over the last `cooldown` of the run."""
    warm = min(1.0, (step + 1) / options.warmup_steps)
    left = (total_steps - step) / (total_steps * options.cooldown)
    return options.learning_rate * min(warm, left, 1.0)


class Trainer:
    """One training run in a folder; making it again in the same folder resumes where the last checkpoint stood."""

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
        """`report` hears of features that are computed beforehand, and kept in the folder `features` where it is given.

        Raises `DataError` for a folder of another run.
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
        self._words = TargetWords(data.photos) if options.word_weight else None
        self.heads = self._make_heads()
        self.average = {name: value.detach().clone() for name, value in self._learnt().items()}
        self.optimizer = self._make_optimizer()
        if saved is not None:
            self._restore(saved)
        sampler = StepSampler(data.photos, options)
        self.steps_per_pass = sampler.steps_per_pass
        self.total_steps = len(sampler)
        self._photos = data.photos
        self._groups = torch.from_numpy(_groups(data.photos))
        self._reward = CiderReward(data.photos, options.specificity) if options.reward_weight else None
        self._layout = start.layout
        self.sight = make_sight(start, data, options, device, out, report, features)
        self._fit_embedding()
        self._seen_names = self._see_names() if options.name_rate else {}

    def _fit_embedding(self) -> None:
        """Fit the embedding of an encoder that never learns one, to photographs spread over the table."""
        encoder = self.start.frozen_encoder
        if not isinstance(encoder, PackagedEncoder) or encoder.has_embedding:
            return
        num_photos = len(self._photos)
        places = torch.arange(min(num_photos, EMBEDDED_PHOTOS)) * num_photos // min(num_photos, EMBEDDED_PHOTOS)
        encoder.fit_embedding(self.sight.look(batch) for batch in torch.split(places, 64))
        for name, value in self._learnt().items():
            if name.startswith("image_encoder.embedding_"):
                self.average[name] = value.detach().clone()

    def _see_names(self) -> dict[str, str]:
        """Return the class that the encoder's classifier sees in each photograph of whose class it is sure enough.

        Raises `OptionsError` for an encoder that has no classifier.
        """
        encoder = self.start.frozen_encoder
        if not isinstance(encoder, PackagedEncoder):
            raise OptionsError("Only the encoder of efficientnet-lite2 has a classifier; leave out --name-rate.")
        names, seen = read_class_names(), {}
        for places in torch.split(torch.arange(len(self._photos)), 64):
            with self._autocast():
                classes, odds = encoder.likeliest_classes(self.sight.look(places))
            for place, number, share in zip(places.tolist(), classes.tolist(), odds.tolist(), strict=True):
                if share >= SURE:
                    seen[self._photos[place].name] = plain_words(names[number])
        return seen

    @contextmanager
    def averaged(self) -> Iterator[TrainableNetwork]:
        """The network with the average of its last weights, ready for use: what is measured and saved."""
        module = self.network.module
        newest = {name: value.detach().clone() for name, value in self._learnt().items()}
        self._write_learnt(self.average)
        self._measure_statistics()
        try:
            yield self.network
        finally:
            self._write_learnt(newest)
            for parameter in self._learnable:  # who only uses the network has switched this off
                parameter.requires_grad_(True)
            module.train()

    def run(self, report: Callable[[TrainingProgress], None], report_steps: int = 20) -> Iterator[int]:
        """Train to the end; yields the number of each finished pass. A checkpoint stands before every yield."""
        sums, summed = np.zeros(len(_StepFigures._fields)), 0
        started, start_step = time.monotonic(), self.step
        for batch in load_batches(self._photos, self.network, self.options, self.step, self._seen_names):
            sums += self._train_step(batch)
            summed += 1
            self.step += 1
            if self.step % report_steps == 0:
                rate = (self.step - start_step) / (time.monotonic() - started)
                means = _StepFigures(*(sums / summed).tolist())
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
                started += time.monotonic() - paused  # what others do in between, such as measuring, is no training

    def _train_step(self, batch: Batch) -> _StepFigures:
        options = self.options
        torch.manual_seed(batch.seed)
        input_ids, labels = batch.input_ids.to(self.device), batch.labels.to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(batch.step, self.total_steps, options)
        self.network.module.train()
        with self._autocast():
            seen = self.sight.encode(batch.places, batch.seed)
            caption_loss, right, learnt = self._teach(seen.states, input_ids, labels)
            contrastive = self._contrast(seen.embeds, labels[:: options.captions_per_photo], batch.places)
            told = self._tell(seen, batch.places)
            self_critical, reward = self._criticise(seen.states, batch)
        loss = (
            options.caption_weight * caption_loss
            + options.contrastive_weight * contrastive
            + options.word_weight * told
            + options.reward_weight * self_critical
        )
        if not torch.isfinite(loss):
            raise DataError(
                f"The loss stopped being a number at step {batch.step}; lower --learning-rate and start anew."
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._learnable, 1.0)
        self.optimizer.step()
        self._update_average()
        return _StepFigures(caption_loss.item(), contrastive.item(), told.item(), right, learnt, reward)

    def _autocast(self) -> torch.autocast:
        # A weight that was cast while captions were drawn knows no gradient, and must not be used again.
        return runtime.autocast(self.device, cache_enabled=not self.options.reward_weight)

    def _nothing(self) -> Tensor:
        return torch.zeros((), device=self.device)

    def _teach(self, states: Tensor, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, int, int]:
        """The loss of the next token, how many were the likeliest, and of how many; 0 where it does not count."""
        if not self.options.caption_weight:
            return self._nothing(), 0, 0
        logits = self.network.teach(input_ids, states)
        flat, logits = labels.flatten(), logits.flatten(0, 1).float()
        loss = F.cross_entropy(logits, flat, ignore_index=-100, label_smoothing=self.options.label_smoothing)
        learnt = flat != -100
        return loss, int((logits.argmax(dim=-1) == flat)[learnt].sum()), int(learnt.sum())

    def _tell(self, seen: Seen, places: Tensor) -> Tensor:
        """The loss of telling the words of pictures, of both pictures where they are mixed; or 0."""
        if self._words is None or seen.embeds is None:
            return self._nothing()
        shares = self._words.shares(places).to(self.device)
        if seen.partners is not None:
            shares = seen.share * shares + (1 - seen.share) * shares[seen.partners]
        loss: Tensor = self.heads["words"](seen.embeds, shares, self.options.label_smoothing)
        return loss

    def tell_kinds(self, embeds: Tensor, kinds: Sequence[str]) -> list[str]:
        """The likeliest of `kinds` for each of `embeds [N, hidden]`, by what learnt to tell words from them."""
        assert self._words is not None
        head = self.heads["words"]
        assert isinstance(head, WordHead)
        known = [kind for kind in kinds if kind in self._words.names]
        columns = [self._words.names.index(kind) for kind in known]
        with torch.no_grad():
            best = head.score(embeds.to(self.device))[:, columns].argmax(dim=1)
        return [known[number] for number in best.tolist()]

    def _contrast(self, embeds: Tensor | None, labels: Tensor, places: Tensor) -> Tensor:
        """The contrastive loss between pictures and the words of their first captions `labels [N, T]`, or 0."""
        module = self.network.module
        if "contrastive" not in self.heads or embeds is None or not isinstance(module, PatchNetwork):
            return self._nothing()
        word_mask = ((labels != -100) & (labels != self.network.end_id)).float()
        words = module.text_decoder.tokens(labels.clamp(min=0))
        loss: Tensor = self.heads["contrastive"](embeds, words, word_mask, self._groups[places].to(self.device))
        return loss

    def _criticise(self, states: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """The self-critical loss of the photographs that have captions, and the mean reward of what was drawn; or 0."""
        described = [row for row, place in enumerate(batch.places.tolist()) if self._photos[place].captions]
        if self._reward is None or not described:
            return self._nothing(), 0.0
        draw = np.random.default_rng((batch.seed, 1))
        begins = draw.random() < self.options.opening_rate
        return self_critical_loss(
            self.network,
            states[described],
            self._layout,
            batch.places[described].tolist(),
            self._reward,
            self.options.samples,
            self.options.max_tokens,
            batch.seed,
            OPENINGS[draw.integers(len(OPENINGS))] if begins else "",
        )

    def _make_heads(self) -> nn.ModuleDict:
        heads = nn.ModuleDict()
        if not self.options.contrastive_weight and not self.options.word_weight:
            return heads
        module = self.network.module
        if (
            not isinstance(module, PatchNetwork)
            or not isinstance(module.image_encoder, ConvolutionalEncoder)
            or module.image_encoder.frozen
        ):
            raise OptionsError(
                "Only a convolutional encoder that is not frozen learns an embedding that a loss could pull at; "
                "leave out --contrastive-weight and --word-weight."
            )
        if self.options.contrastive_weight:
            heads["contrastive"] = ContrastiveHead(module.config.hidden_size)
        if self._words is not None:
            heads["words"] = WordHead(module.config.hidden_size, len(self._words.names))
        return heads.to(self.device)

    def _learnt(self) -> dict[str, Tensor]:
        """What training changes: weights that are not frozen, and statistics."""
        state = self.network.module.state_dict()
        return {name: state[name] for name in self._names}

    def _write_learnt(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._learnt().items():
                value.copy_(values[name])

    def _update_average(self) -> None:
        # A short memory at first, or the random weights of the start would stay in the average for long.
        decay = min(self.options.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self._learnt().items():
                mean = self.average[name]
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def _measure_statistics(self) -> None:
        """The averaged statistics are those of the networks averaged, not of their average: measured anew."""
        module = self.network.module
        learns = self.start.frozen_encoder is None
        if learns and isinstance(self.sight, FreshSight) and isinstance(module, PatchNetwork):
            batches = load_batches(self._photos, self.network, replace(self.options, passes=STATISTICS_BATCHES))
            pixels = (self.sight.pixel_values(b.places, b.seed) for b in islice(batches, STATISTICS_BATCHES))
            with self._autocast():
                update_bn(pixels, module.image_encoder)
        module.eval()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        parameters = [*self._learnable, *self.heads.parameters()]
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
        if not same_options or saved.get("origin") != _plain(self.start.origin):
            raise DataError(
                f"{self.out} holds a run with other options; choose another folder, or repeat its options to resume it."
            )
        self._write_learnt(saved["learnt"])
        self.average = saved["average"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.heads.load_state_dict(saved["heads"])
        self.step = saved["step"]

    def _write_state(self) -> None:
        state = {
            "step": self.step,
            "options": asdict(self.options),
            "origin": _plain(self.start.origin),
            "photos": self._fingerprint,
            "learnt": self._learnt(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "heads": self.heads.state_dict(),
        }
        # A kill leaves the last good checkpoint.
        with whole_file(self.out / STATE_NAME) as file:
            torch.save(state, file)


def _plain(origin: Mapping[str, Any]) -> str:
    """An origin as text, which reads back from a file as it was written."""
    return json.dumps(origin, sort_keys=True)


def _groups(photos: Sequence[Photo]) -> NDArray[np.int64]:
    """A number for each photo that photos of one kind share `[photos]`."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(photo.class_name or photo.name, len(numbers)) for photo in photos], np.int64)
