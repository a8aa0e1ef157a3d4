"""What every captioner can do, whatever its architecture. Read this first.

`encode` is the heavy verb and `decode` the cheap one: a picture is encoded once and then captioned, scored
and traced as often as one likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from captioning.core.types import (
    Caption,
    CaptionTrace,
    DecodingOptions,
    ImageFeatures,
    ModelInfo,
    ModelInput,
    ModelSpec,
    Picture,
    TeacherForcing,
    TextToken,
)

Prefix = str | Sequence[int]
"""The start of a caption: text, or token ids where text would not split into the same tokens again."""

OnToken = Callable[[Sequence[Caption]], None]
"""Hears all captions of a batch as far as they are written, once a step, in whatever thread writes them. Beams have
nothing to show until the end and pass an empty sequence. Raise `Stopped` from it to stop."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodingRequest:
    """One call of `decode`; `on_done` receives the captions as soon as all of them are finished."""

    features: ImageFeatures
    prefixes: Sequence[Prefix]
    on_token: OnToken | None = None
    on_done: Callable[[list[Caption]], None] | None = None


class Captioner(Protocol):
    """A model that captions pictures. Features and captions of another model raise `FeaturesError`."""

    @property
    def spec(self) -> ModelSpec:
        """Return the identity of the model, and the capabilities of its architecture."""
        ...

    @property
    def device(self) -> str:
        """Return the model's device, as torch names it."""
        ...

    @property
    def precision(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        ...

    @property
    def engine(self) -> str:
        """Return the default engine, `torch` or `openvino`; the reason against another follows in brackets."""
        ...

    @property
    def num_bytes(self) -> int:
        """Memory its weights take, in bytes."""
        ...

    @property
    def end_token(self) -> TextToken:
        """The token that ends a caption; it is never part of one."""
        ...

    def preprocess(self, image: Picture) -> ModelInput:
        """Return the input that the model receives of a picture, and the layout of its patches."""
        ...

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        """One `ImageFeatures` a picture, in order, in one batch."""
        ...

    def decode(
        self,
        features: ImageFeatures,
        prefixes: Sequence[Prefix],
        options: DecodingOptions,
        on_token: OnToken | None = None,
    ) -> list[Caption]:
        """`num_captions` captions for every prefix, prefix by prefix, all in one batch.

        Raises `PromptError` for a prefix too long for the model, and whatever `on_token` raises.
        """
        ...

    def caption_from_text(self, features: ImageFeatures, prompt: str, text: str) -> Caption:
        """Return the caption `prompt` + `text` that a person typed, scored token by token."""
        ...

    def teacher_force(self, features: ImageFeatures, prompt: str, text: str) -> TeacherForcing:
        """Return the caption `prompt` + `text` beside the model's own choice at every position.

        Raises `PromptError` for one that is empty or too long.
        """
        ...

    def tokenize(self, text: str) -> tuple[TextToken, ...]:
        """Return the tokens of a text, without start and end tokens."""
        ...

    def trace(
        self, features: ImageFeatures, caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> CaptionTrace:
        """Return the attention of each token, from one teacher-forced pass.

        `head_mask [layers, heads]` scales what each head hands on. Raises `CapabilityError` where the
        architecture has no attention to show.
        """
        ...

    def explain(self, image: Picture, caption: Caption, positions: Sequence[int], method: str) -> NDArray[np.float32]:
        """Return how much each patch raised the tokens at `positions`, `[positions, patches]`, not negative.

        One forward pass, and one backward pass a position. Raises `CapabilityError` for a method that is not among
        `capabilities.explanation_methods`, `PromptError` for an empty caption, and `OptionsError` for a position
        that the caption does not have.
        """
        ...

    def score(
        self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Log-probabilities of a caption's tokens given each of `features`, `[features, tokens]`.

        `head_mask [layers, heads]` scales what each head hands on, as in `trace`.
        """
        ...

    def info(self) -> ModelInfo:
        """Return the model's weights, layers, tokenizer and shapes."""
        ...


class BatchCaptioner(Captioner, Protocol):
    """A captioner that writes for several callers at once; the shared captioner decides which."""

    def decode_together(
        self, requests: Sequence[DecodingRequest], options: DecodingOptions
    ) -> list[list[Caption] | Exception]:
        """Return the result or the exception of `decode` for each request, all in one batch.

        The features must be of one layout and one shape.
        """
        ...
