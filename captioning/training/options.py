"""Training options, and recipes for each kind of start.

This file imports no torch, so that the command line lists the options quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from captioning.core.errors import OptionsError

_RANGES: Mapping[str, tuple[float, float]] = {
    "passes": (1, 10_000),
    "batch_size": (1, 65_536),
    "captions_per_photo": (1, 64),
    "captioned_repeats": (1, 64),
    "learning_rate": (1e-8, 1.0),
    "weight_decay": (0.0, 1.0),
    "label_smoothing": (0.0, 0.9),
    "caption_weight": (0.0, 100.0),
    "contrastive_weight": (0.0, 100.0),
    "word_weight": (0.0, 100.0),
    "reward_weight": (0.0, 100.0),
    "specificity": (0.0, 100.0),
    "samples": (2, 64),
    "opening_rate": (0.0, 1.0),
    "name_rate": (0.0, 1.0),
    "augmentation": (0.0, 1.5),
    "scene_rate": (0.0, 1.0),
    "mix": (0.0, 1.0),
    "training_size": (0, 4096),
    "views": (0, 64),
    "average_decay": (0.0, 0.999999),
    "warmup_steps": (1, 1_000_000),
    "cooldown": (0.001, 1.0),
    "vocab_size": (300, 100_000),
    "max_tokens": (2, 500),
    "checkpoint_steps": (1, 1_000_000),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The options of a training. `passes` may change when a run is resumed; the rest may not.

    Data: each time a photograph is seen, `captions_per_photo` of its captions are drawn. Photographs with human
    captions are seen `captioned_repeats` times a pass. `repeats` sets other numbers for folders in DATA, such as
    "coco=6,caltech101=0.5", where 0.5 means every second photograph. `opening_rate` is the share of captions, taught or
    drawn, that continue an opening. `name_rate` is the share of captions that are replaced by an opening and the class
    that a packaged encoder's classifier predicts, where its probability is high enough; the decoder then learns to copy
    such names (pseudo-labels: Lee 2013). `vocab_size` limits a new tokenizer.

    Losses: `caption_weight` weighs the loss of the next token; at 0 only the encoder learns. `word_weight` weighs the
    loss of predicting a picture's words from its embedding. `reward_weight` weighs the self-critical loss. Its reward
    is the CIDEr-D of `samples` captions drawn for each photograph with human ones, minus `specificity` times their
    CIDEr-D against the captions of other photographs of the batch, minus a cost where a phrase comes twice.

    Pictures: `augmentation` scales every random change; 0 leaves pictures unchanged. `scene_rate` is the share of
    changed class photographs that are pasted small over a photograph with captions, so that things are named wherever
    they are. `mix` is the share of batches whose pictures get a part of one another. Pictures are seen at
    `training_size` pixels a side; 0 is the network's own size. With a frozen encoder, `views` changed versions of each
    picture are encoded once and stored; 0 encodes anew every time.

    Raises `OptionsError` where a value leaves its range.
    """

    passes: int = 14
    batch_size: int = 64
    captions_per_photo: int = 2
    captioned_repeats: int = 2
    repeats: str = ""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    caption_weight: float = 1.0
    contrastive_weight: float = 0.3
    word_weight: float = 0.0
    reward_weight: float = 0.0
    specificity: float = 0.0
    samples: int = 5
    freeze_encoder: bool = False
    opening_rate: float = 0.3
    name_rate: float = 0.0
    augmentation: float = 1.0
    scene_rate: float = 0.0
    mix: float = 0.0
    training_size: int = 0
    views: int = 0
    average_decay: float = 0.999
    warmup_steps: int = 500
    cooldown: float = 0.4
    vocab_size: int = 6000
    max_tokens: int = 40
    checkpoint_steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise OptionsError(f"{name} must be between {low} and {high}, not {value}.")
        self.folder_repeats()
        if not self.caption_weight and not self.word_weight:
            raise OptionsError("Without --caption-weight there must be a --word-weight, or nothing is learnt.")
        if self.mix and (self.caption_weight or self.contrastive_weight or self.reward_weight):
            raise OptionsError(
                "No caption fits a mixed picture: with --mix, set --caption-weight and --contrastive-weight to 0."
            )

    def folder_repeats(self) -> dict[str, float]:
        """Return how often a pass sees the photographs of each folder that `repeats` names.

        Raises `OptionsError` where it is malformed.
        """
        try:
            pairs = [part.split("=") for part in self.repeats.split(",") if part]
            repeats = {name.strip(): float(times) for name, times in pairs}
        except ValueError as error:
            raise OptionsError(f"repeats must look like coco=6,caltech101=0.5, not {self.repeats!r}.") from error
        if any(not 0 <= times <= 64 for times in repeats.values()):
            raise OptionsError(f"A photograph can be seen 0 to 64 times a pass; repeats is {self.repeats!r}.")
        return repeats


CONVOLUTIONAL, CLIP, PACKAGED = "convolutional", "clip", "efficientnet-lite2"
SCRATCH = TrainingOptions()
# Frozen features are computed once, so pictures must not change; and there is no embedding to learn by a contrast.
ON_CLIP = TrainingOptions(
    passes=10, captions_per_photo=1, learning_rate=3e-4, contrastive_weight=0.0, augmentation=0.0, warmup_steps=200
)
ON_PACKAGE = TrainingOptions(
    passes=8,
    learning_rate=6e-4,
    contrastive_weight=0.0,
    augmentation=0.6,
    scene_rate=0.4,
    views=4,
    warmup_steps=200,
    cooldown=1.0,
    average_decay=0.998,
    max_tokens=24,
)
FURTHER = TrainingOptions(
    passes=3,
    batch_size=16,
    captions_per_photo=1,
    learning_rate=5e-5,
    weight_decay=0.01,
    contrastive_weight=0.0,
    augmentation=0.5,
    warmup_steps=100,
)


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The start of a run: a new captioner, or a model that is trained further.

    A new captioner has the `encoder` `convolutional`, `efficientnet-lite2`, `clip` or `clip:NAME`, where NAME is a
    folder or a hub name; `shape` overrides fields of `PatchNetworkConfig`. `start_from` names a model to train further.
    Raises `OptionsError` where these contradict each other.
    """

    encoder: str = CONVOLUTIONAL
    start_from: str | None = None
    shape: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.encoder not in (CONVOLUTIONAL, PACKAGED, CLIP) and not self.encoder.startswith(f"{CLIP}:"):
            raise OptionsError(
                f"There is no encoder {self.encoder!r}; choose {PACKAGED}, {CONVOLUTIONAL}, {CLIP} or "
                f"{CLIP}:NAME_OR_FOLDER."
            )
        if self.start_from is not None and (self.encoder != CONVOLUTIONAL or self.shape):
            raise OptionsError("A model that is trained further keeps its shape; leave out --encoder and all sizes.")

    @property
    def recipe(self) -> TrainingOptions:
        """Return the default options for this start."""
        if self.start_from is not None:
            return FURTHER
        return {CONVOLUTIONAL: SCRATCH, PACKAGED: ON_PACKAGE}.get(self.encoder, ON_CLIP)

    def command(self, options: TrainingOptions, name: str) -> str:
        """Return the command line of this training, with `name` as its folder."""
        given: dict[str, Any] = {"from": self.start_from} if self.start_from is not None else {}
        if self.encoder != CONVOLUTIONAL:
            given["encoder"] = self.encoder
        given |= {key: ",".join(map(str, v)) if isinstance(v, tuple) else v for key, v in self.shape.items()}
        usual = self.recipe
        values = {f.name: getattr(options, f.name) for f in fields(options)}
        given |= {key: value for key, value in values.items() if value != getattr(usual, key)}
        flags = "".join(_flag(key, value) for key, value in given.items())
        return f"python -m captioning train DATA --out {name}{flags}"


def _flag(name: str, value: object) -> str:
    """Return a flag of the command line; a switch that is on has no value."""
    return f" --{name.replace('_', '-')}" + ("" if value is True else f" {value}")
