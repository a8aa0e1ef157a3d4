"""The values that flow through the program; all frozen, all checked on creation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captioning.core.errors import FeaturesError, OptionsError
from captioning.core.options import Option, check_fields

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

AttentionKind = Literal["cross", "self"]
NUM_ALTERNATIVES = 5


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a model's architecture; ask before calling.

    `supports_prompt`: a prefix can be continued. `attention_kind`: where its words look at the picture, in
    cross-attention, in self-attention to image tokens, or `None` where that cannot be read. `encode_once`:
    one encoding serves any number of captions. `explanation_methods`: maps beyond raw attention.
    """

    supports_prompt: bool = True
    attention_kind: AttentionKind | None = "cross"
    encode_once: bool = True
    explanation_methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that can be asked for by name. `revision` is pinned; `download_bytes` is 0 for what ships."""

    model_id: str
    family: str
    title: str
    license: str
    capabilities: Capabilities
    repo_id: str | None = None
    revision: str | None = None
    download_bytes: int = 0
    summary: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An RGB picture that passed every guard. `image_id` is a hash of its pixels; `note` says what was done to it."""

    image: Image.Image
    image_id: str
    name: str = "picture"
    note: str = ""

    @property
    def title(self) -> str:
        """The name, with the note in brackets where there is one."""
        return f"{self.name} ({self.note})" if self.note else self.name


@dataclass(frozen=True, slots=True, eq=False)
class PatchLayout:
    """The places of a model's patches on the original picture.

    `boxes [patches, 4]` are left, top, right and bottom as fractions of the picture, with crop, padding and
    tiles undone. `grid` is (rows, columns) where the patches form one.
    """

    boxes: NDArray[np.float64]
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes must be [patches, 4], not {self.boxes.shape}")
        if self.grid is not None and self.grid[0] * self.grid[1] != len(self.boxes):
            raise ValueError(f"a grid of {self.grid} does not hold {len(self.boxes)} patches")

    @classmethod
    def from_grid(cls, rows: int, columns: int) -> PatchLayout:
        """Equal patches, row by row, that cover the whole picture."""
        top, left = (index.ravel() for index in np.mgrid[0:rows, 0:columns])
        boxes = np.stack((left / columns, top / rows, (left + 1) / columns, (top + 1) / rows), axis=1)
        return cls(boxes, (rows, columns))


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """A picture as a model receives it, and how its patches map back.

    `pixel_values [3, height, width]`, or `[tiles, 3, height, width]` where the model looks at it in pieces.
    """

    pixel_values: Tensor
    layout: PatchLayout


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """The output of a model's image encoder for one picture.

    `encoder_hidden_states [prefix + patches, hidden]` and `image_embeds [hidden]` (unit length) are torch
    tensors on the CPU.
    """

    model_id: str
    image_id: str
    encoder_hidden_states: Tensor
    image_embeds: Tensor
    layout: PatchLayout
    num_prefix_tokens: int

    def __post_init__(self) -> None:
        expected = self.num_prefix_tokens + len(self.layout.boxes)
        if self.encoder_hidden_states.ndim != 2 or self.encoder_hidden_states.shape[0] != expected:
            shape = tuple(self.encoder_hidden_states.shape)
            raise ValueError(f"encoder_hidden_states must be [{expected}, hidden], not {shape}")

    @property
    def num_bytes(self) -> int:
        """Memory the tensors take, in bytes."""
        return sum(t.numel() * t.element_size() for t in (self.encoder_hidden_states, self.image_embeds))

    @staticmethod
    def mean(frames: Sequence[ImageFeatures]) -> ImageFeatures:
        """Return a clip's features: the average of its frames'. Raises `FeaturesError` if they differ in kind."""
        if not frames:
            raise FeaturesError("An average needs the features of at least one frame.")
        first = frames[0]
        if len(frames) == 1:
            return first
        kinds = {(f.model_id, f.layout.grid, f.layout.boxes.tobytes(), f.encoder_hidden_states.shape) for f in frames}
        if len(kinds) > 1:
            raise FeaturesError("Only features that one model made in one layout can be averaged.")
        # Added up in float32: sums of bfloat16 lose what one frame more or less changes.
        states = sum((f.encoder_hidden_states for f in frames[1:]), start=first.encoder_hidden_states.float())
        embeds = sum((f.image_embeds for f in frames[1:]), start=first.image_embeds)
        return type(first)(
            model_id=first.model_id,
            image_id="+".join(f.image_id for f in frames),
            encoder_hidden_states=states / len(frames),
            image_embeds=embeds / embeds.norm(),
            layout=first.layout,
            num_prefix_tokens=first.num_prefix_tokens,
        )


BEAMS, SAMPLING = "beams", "sampling"
"""Decoding methods besides the greedy one, which takes the likeliest token each time."""


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Options of decoding. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 filter nothing.

    Raises `OptionsError` where a value leaves its range or two contradict each other.
    """

    max_new_tokens: Annotated[
        int, Option("longest continuation, in tokens", "Max new tokens", 1, 500, slider=(1, 100, 1))
    ] = 25
    num_beams: Annotated[
        int,
        Option("beams searched; 1 is greedy", "Beams", 1, 16, slider=(2, 16, 1), start=4, methods=(BEAMS,)),
    ] = 1
    temperature: Annotated[
        float,
        Option(
            "0 is greedy, 1 samples from the model's own distribution",
            "Temperature",
            0.0,
            5.0,
            slider=(0.1, 2, 0.05),
            start=1.0,
            methods=(SAMPLING,),
        ),
    ] = 0.0
    top_k: Annotated[
        int,
        Option(
            "sample among this many likeliest tokens; 0 is all",
            "Top k",
            0,
            1000,
            slider=(0, 100, 1),
            methods=(SAMPLING,),
        ),
    ] = 10
    top_p: Annotated[
        float,
        Option(
            "sample among the likeliest tokens of this total probability; 1 is all",
            "Top p",
            0.0,
            1.0,
            slider=(0.05, 1, 0.05),
            methods=(SAMPLING,),
        ),
    ] = 1.0
    repetition_penalty: Annotated[
        float,
        Option("above 1 makes words that were used less likely", "Repetition penalty", 1.0, 5.0, slider=(1, 2, 0.05)),
    ] = 1.0
    length_penalty: Annotated[
        float,
        Option(
            "above 0 favours longer captions in beam search",
            "Length penalty",
            -5.0,
            5.0,
            slider=(-2, 3, 0.1),
            methods=(BEAMS,),
        ),
    ] = 1.0
    num_captions: Annotated[
        int,
        Option(
            "captions written for each prompt", "Captions a prompt", 1, 16, slider=(1, 16, 1), methods=(BEAMS, SAMPLING)
        ),
    ] = 1
    seed: Annotated[
        int,
        Option("the same seed gives the same sampled captions", "Seed", 0, 2**63 - 1, methods=(SAMPLING,)),
    ] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.top_p == 0.0:
            raise OptionsError("top_p must be above 0; 1 keeps every token.")
        if self.num_beams > 1 and self.temperature > 0:
            raise OptionsError("Beams search and a temperature samples; set num_beams to 1 or temperature to 0.")
        if self.num_captions > 1 and self.temperature == 0 and self.num_captions > self.num_beams:
            raise OptionsError(
                f"Without sampling, {self.num_captions} different captions need at least {self.num_captions} beams; "
                "raise num_beams or set a temperature."
            )


class TokenAlternative(NamedTuple):
    """A token that the model might have written at a position; `log_prob` is a natural logarithm."""

    token_id: int
    token: str
    log_prob: float


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption and how sure its model was.

    `token_ids`, `tokens`, `log_probs` and `alternatives` have one entry a token, prompt first, without special
    tokens. A token that begins a word begins with a space, to some tokenizers from the second word on. `log_probs`
    are natural logarithms of the model's own distribution, before temperature and filters; `alternatives` are the
    likeliest tokens there.
    """

    model_id: str
    revision: str
    image_id: str
    prompt: str
    options: DecodingOptions
    text: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    num_prompt_tokens: int
    log_probs: tuple[float, ...]
    alternatives: tuple[tuple[TokenAlternative, ...], ...]
    seconds: float

    def __post_init__(self) -> None:
        lengths = {len(self.token_ids), len(self.tokens), len(self.log_probs), len(self.alternatives)}
        if len(lengths) != 1:
            raise ValueError(f"a caption's token_ids, tokens, log_probs and alternatives differ in length: {lengths}")
        if not 0 <= self.num_prompt_tokens <= len(self.token_ids):
            raise ValueError(f"num_prompt_tokens {self.num_prompt_tokens} of {len(self.token_ids)} tokens")

    @property
    def mean_log_prob(self) -> float | None:
        """Mean over the generated tokens, in nats; `None` where nothing was generated."""
        generated = self.log_probs[self.num_prompt_tokens :]
        return sum(generated) / len(generated) if generated else None


class TextToken(NamedTuple):
    """A token that a tokenizer made of a text."""

    token_id: int
    token: str


@dataclass(frozen=True, slots=True)
class TeacherForcing:
    """A finished caption as a decoder meets it in training: at every position it sees the words before, and guesses.

    `inputs` begins with the token that starts a caption and `labels` ends with the one that ends it; else they
    are the same tokens, one place apart. `log_probs` are natural logarithms of the labels, `alternatives` the
    likeliest tokens there. The first `num_prompt_tokens` labels are the prompt's.
    """

    inputs: tuple[TextToken, ...]
    labels: tuple[TextToken, ...]
    log_probs: tuple[float, ...]
    alternatives: tuple[tuple[TokenAlternative, ...], ...]
    num_prompt_tokens: int

    def __post_init__(self) -> None:
        lengths = {len(self.inputs), len(self.labels), len(self.log_probs), len(self.alternatives)}
        if len(lengths) != 1:
            raise ValueError(f"inputs, labels, log_probs and alternatives differ in length: {lengths}")


@dataclass(frozen=True, slots=True, eq=False)
class CaptionTrace:
    """A model's attention to the picture for each token of a caption.

    `image_attentions [layers, heads, tokens, patches]`; `prefix_attentions [layers, heads, tokens]` is the
    share that went to prefix tokens of the picture (CLS). For `kind` "cross" the two add up to 1. For "self" they
    add up to less: the rest went to other words, to the instruction, and to separators between parts of the picture.
    """

    caption: Caption
    image_attentions: NDArray[np.float32]
    prefix_attentions: NDArray[np.float32]
    kind: AttentionKind
    layout: PatchLayout

    def __post_init__(self) -> None:
        tokens, patches = len(self.caption.token_ids), len(self.layout.boxes)
        if self.image_attentions.ndim != 4 or self.image_attentions.shape[2:] != (tokens, patches):
            raise ValueError(f"image_attentions must be [layers, heads, {tokens}, {patches}]")
        if self.prefix_attentions.shape != self.image_attentions.shape[:3]:
            raise ValueError("prefix_attentions must be [layers, heads, tokens]")

    @property
    def num_bytes(self) -> int:
        """Memory the arrays take, in bytes."""
        return self.image_attentions.nbytes + self.prefix_attentions.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One frame of a clip, its number in the clip, and its time in seconds."""

    index: int
    seconds: float
    image: Picture


class ParameterArray(NamedTuple):
    """One array of a model's weights."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    elements: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The inside of a model: weights, layers, tokenizer, and the shapes a picture passes through.

    `parameters` is the number of elements of all `arrays` together, tied ones once; `shapes` go from pixels
    to words, each with the name of the step. What goes into attention has torch's order: query `[L, N, E]`, key
    and value `[S, N, E]`, weights `[N, heads, L, S]`.
    """

    spec: ModelSpec
    parameters: int
    arrays: tuple[ParameterArray, ...]
    layer_types: Mapping[str, int]
    tokenizer: Mapping[str, str | int]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    device: str
    precision: str
    engine: str = "torch"


@dataclass(frozen=True, slots=True)
class CaptionerStatus:
    """The work of a shared captioner so far. Times are seconds; `None` before the first measurement.

    `engine` is what computes, and in brackets why not another.

    `models_in_memory` counts this one too, `model_bytes` is what their weights take, and `models_left` are the
    titles of those that made room when the last one was loaded.
    """

    model_id: str
    title: str
    device: str
    precision: str
    cached_images: int = 0
    cached_bytes: int = 0
    encoded_images: int = 0
    encode_seconds: float | None = None
    tokens_per_second: float | None = None
    reason: str = field(default="")
    models_in_memory: int = 1
    model_bytes: int = 0
    models_left: tuple[str, ...] = ()
    engine: str = "torch"


def plain_dict(value: Any) -> dict[str, Any]:
    """Return a frozen value's fields by name, one level deep, for JSON and tables."""
    return {f.name: getattr(value, f.name) for f in fields(value)}
