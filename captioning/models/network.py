"""What a family provides: an architecture with its weights, of which only tensors and token ids go in and out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from captioning.core.types import ModelInput, PatchLayout, Picture
from captioning.models.attention_layers import Recorded
from captioning.models.pixels import PixelRecipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Decoder(Protocol):
    """The part of a network that the loop needs. `cache` is the network's own and changes with every step."""

    @property
    def start_ids(self) -> tuple[int, ...]:
        """The tokens that every sequence starts with."""
        ...

    @property
    def end_id(self) -> int:
        """The token that ends a caption."""
        ...

    def start(self, states: Tensor, layout: PatchLayout) -> Any:
        """A fresh cache for rows that see `states [rows, prefix + patches, hidden]`.

        All rows share one `layout`. Who reads picture and words as one sequence takes separators and positions
        from it; cross-attention needs neither.
        """
        ...

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: Any) -> Tensor:
        """Logits `[rows, new, vocab]` after each of `input_ids [rows, new]`; the mask covers past and new tokens."""
        ...

    def select(self, cache: Any, rows: Tensor) -> Any:
        """The cache with its rows replaced by `rows [rows]` of the old one."""
        ...


class Network(Decoder, Protocol):
    """An architecture with its weights and tokenizer on a device; only tensors and token ids go in and out."""

    @property
    def module(self) -> nn.Module:
        """All weights."""
        ...

    @property
    def num_prefix_tokens(self) -> int:
        """Encoder states that stand before the patches, such as CLS."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the decoder has positions for, start tokens included."""
        ...

    def preprocess(self, image: Picture) -> ModelInput:
        """The picture resized and normalised as the model was trained, and where its patches lie."""
        ...

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 3, H, W]` → hidden states `[N, prefix + patches, hidden]` and unit image embeddings `[N, hidden]`.

        Or `[N, tiles, 3, H, W]`, as `preprocess` has it; pictures of one shape come together.
        """
        ...

    def attend(self, input_ids: Tensor, states: Tensor, head_mask: Tensor | None, layout: PatchLayout) -> Tensor:
        """Attention of `input_ids [N, L]` to the encoder's states, `[layers, N, heads, L, prefix + patches]`.

        Rows of self-attention sum to less than 1: what goes to words and separators is left out.
        """
        ...

    def recorded_weights(self) -> AbstractContextManager[Recorded]:
        """Keep the weights of all attention layers inside this block; beside gradients, all that `explain` needs."""
        ...

    def scaled_heads(self, head_mask: Tensor | None) -> AbstractContextManager[None]:
        """Scale what each head hands on, `head_mask [layers, heads]`, inside this block."""
        ...

    def text_to_ids(self, text: str) -> list[int]:
        """The tokens of a text, without start and end tokens."""
        ...

    def ids_to_text(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        ...

    def token_text(self, token_id: int) -> str:
        """One token as text; it begins with a space where it begins a word."""
        ...

    def describe_tokenizer(self) -> Mapping[str, str | int]:
        """Name, size and special tokens of the vocabulary."""
        ...


class TrainableNetwork(Network, Protocol):
    """A network that training can change."""

    @property
    def tokenizer(self) -> Tokenizer:
        """How it splits texts."""
        ...

    @property
    def pixels(self) -> PixelRecipe:
        """How it wants its pictures."""
        ...

    def teach(self, input_ids: Tensor, states: Tensor) -> Tensor:
        """Logits `[N, L, vocab]` of whole captions that see `states [M, prefix + patches, hidden]`, as training does.

        Each of the states is seen by N / M captions that follow each other. All at once, with gradients, and
        with dropout where the module is in training.
        """
        ...


@runtime_checkable
class KeepsWordsWhole(Protocol):
    """A network whose first generated token after a prompt must start a new word.

    It has seen few captions. It would otherwise extend the prompt's last word, or end after a prompt that reads like a
    whole caption.
    """

    def not_first(self) -> Tensor:
        """Return which tokens begin no word, `[vocab]`."""
        ...

    def never_written(self) -> Tensor:
        """Return which tokens are only ever read, such as the bytes of a word that the vocabulary lacks, `[vocab]`."""
        ...

    def not_after(self, token_ids: Sequence[int]) -> Collection[int]:
        """Return which tokens must not follow these, because a phrase would be said twice."""
        ...
