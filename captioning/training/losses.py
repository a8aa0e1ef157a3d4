"""The losses of a training step, and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioning.core.errors import OptionsError
from captioning.core.types import PatchLayout
from captioning.models.families.patch_captioner.network import ConvolutionalEncoder, PatchNetwork
from captioning.models.network import TrainableNetwork
from captioning.training.batches import Batch
from captioning.training.data import OPENINGS, Photo
from captioning.training.heads import ContrastiveHead, TargetWords, WordHead
from captioning.training.options import TrainingOptions
from captioning.training.photo_encoder import EncodedPhotos
from captioning.training.self_critical import CiderReward, self_critical_loss


class StepFigures(NamedTuple):
    """Losses of a step, the number of right tokens and of all learnt tokens, and the mean reward of drawn captions."""

    caption_loss: float
    contrastive_loss: float
    word_loss: float
    tokens_right: float
    tokens_learnt: float
    reward: float


class Losses:
    """The losses that the options ask for; `heads` are the layers that only training uses."""

    def __init__(
        self,
        network: TrainableNetwork,
        photos: Sequence[Photo],
        layout: PatchLayout,
        options: TrainingOptions,
        device: torch.device,
    ) -> None:
        """Prepare the losses. Raise `OptionsError` for a loss of embeddings where the encoder learns none."""
        self._network = network
        self._photos = photos
        self._layout = layout
        self._options = options
        self._device = device
        self._words = TargetWords(photos) if options.word_weight else None
        self._reward = CiderReward(photos, options.specificity) if options.reward_weight else None
        numbers: dict[str, int] = {}
        # Photographs of one class share a number: they are positives of each other.
        groups = [numbers.setdefault(photo.class_name or photo.name, len(numbers)) for photo in photos]
        self._groups = torch.tensor(groups)
        self.heads = self._make_heads()

    def _make_heads(self) -> nn.ModuleDict:
        heads = nn.ModuleDict()
        if not self._options.contrastive_weight and not self._options.word_weight:
            return heads
        module = self._network.module
        if (
            not isinstance(module, PatchNetwork)
            or not isinstance(module.image_encoder, ConvolutionalEncoder)
            or module.image_encoder.frozen
        ):
            raise OptionsError(
                "Only a convolutional encoder that is not frozen learns an embedding that a loss could pull at; "
                "leave out --contrastive-weight and --word-weight."
            )
        if self._options.contrastive_weight:
            heads["contrastive"] = ContrastiveHead(module.config.hidden_size)
        if self._words is not None:
            heads["words"] = WordHead(module.config.hidden_size, len(self._words.names))
        return heads.to(self._device)

    def compute(self, seen: EncodedPhotos, batch: Batch) -> tuple[Tensor, StepFigures]:
        """Return the weighted sum of the losses of a batch, and the figures to report."""
        options = self._options
        labels = batch.labels.to(self._device)
        caption_loss, right, learnt = self._caption_loss(seen.states, batch.input_ids.to(self._device), labels)
        contrastive = self._contrastive_loss(seen.embeds, labels[:: options.captions_per_photo], batch.places)
        word_loss = self._word_loss(seen, batch.places)
        self_critical, reward = self._self_critical_loss(seen.states, batch)
        total = (
            options.caption_weight * caption_loss
            + options.contrastive_weight * contrastive
            + options.word_weight * word_loss
            + options.reward_weight * self_critical
        )
        return total, StepFigures(caption_loss.item(), contrastive.item(), word_loss.item(), right, learnt, reward)

    def predict_kinds(self, embeds: Tensor, kinds: Sequence[str]) -> list[str]:
        """Return the most probable of `kinds` for each of `embeds [N, hidden]`, by the word head."""
        assert self._words is not None
        head = self.heads["words"]
        assert isinstance(head, WordHead)
        known = [kind for kind in kinds if kind in self._words.names]
        columns = [self._words.names.index(kind) for kind in known]
        with torch.no_grad():
            best = head.score(embeds.to(self._device))[:, columns].argmax(dim=1)
        return [known[number] for number in best.tolist()]

    def _zero(self) -> Tensor:
        return torch.zeros((), device=self._device)

    def _caption_loss(self, states: Tensor, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, int, int]:
        """Return the loss of the next token, the number of tokens predicted right, and the number of all tokens."""
        if not self._options.caption_weight:
            return self._zero(), 0, 0
        logits = self._network.teach(input_ids, states)
        flat, logits = labels.flatten(), logits.flatten(0, 1).float()
        loss = F.cross_entropy(logits, flat, ignore_index=-100, label_smoothing=self._options.label_smoothing)
        learnt = flat != -100
        return loss, int((logits.argmax(dim=-1) == flat)[learnt].sum()), int(learnt.sum())

    def _word_loss(self, seen: EncodedPhotos, places: Tensor) -> Tensor:
        """Return the loss of predicting the words of pictures; a mixed picture has the words of both."""
        if self._words is None or seen.embeds is None:
            return self._zero()
        shares = self._words.shares(places).to(self._device)
        if seen.partners is not None:
            shares = seen.share * shares + (1 - seen.share) * shares[seen.partners]
        loss: Tensor = self.heads["words"](seen.embeds, shares, self._options.label_smoothing)
        return loss

    def _contrastive_loss(self, embeds: Tensor | None, labels: Tensor, places: Tensor) -> Tensor:
        """Return the contrastive loss between pictures and the words of their first captions `labels [N, T]`."""
        module = self._network.module
        if "contrastive" not in self.heads or embeds is None or not isinstance(module, PatchNetwork):
            return self._zero()
        word_mask = ((labels != -100) & (labels != self._network.end_id)).float()
        words = module.text_decoder.tokens(labels.clamp(min=0))
        loss: Tensor = self.heads["contrastive"](embeds, words, word_mask, self._groups[places].to(self._device))
        return loss

    def _self_critical_loss(self, states: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """Return the self-critical loss of the photographs that have captions, and the mean reward."""
        described = [row for row, place in enumerate(batch.places.tolist()) if self._photos[place].captions]
        if self._reward is None or not described:
            return self._zero(), 0.0
        draw = np.random.default_rng((batch.seed, 1))
        begins = draw.random() < self._options.opening_rate
        return self_critical_loss(
            self._network,
            states[described],
            self._layout,
            batch.places[described].tolist(),
            self._reward,
            self._options.samples,
            self._options.max_tokens,
            batch.seed,
            OPENINGS[draw.integers(len(OPENINGS))] if begins else "",
        )
