"""Texts and tokens of a captioner: prompts become token ids, and rows become captions while they are written."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

from captioning.core.contract import Prefix
from captioning.core.errors import CapabilityError, PromptError
from captioning.core.types import Caption, DecodingOptions, ImageFeatures, ModelSpec, TextToken, TokenAlternative
from captioning.models.decoding.loop import WrittenRow
from captioning.models.network import Network
from captioning.models.tokens import common_length

Alternatives = tuple[tuple[TokenAlternative, ...], ...]


class Texts:
    """What a network's tokenizer makes of prompts and rows."""

    def __init__(self, spec: ModelSpec, network: Network) -> None:
        self.spec = spec
        self.network = network

    def prefix_ids(self, prefix: Prefix, room: int) -> list[int]:
        """Return the tokens of a prefix. Raises `PromptError` where it leaves no `room` for so many more."""
        if not self.spec.capabilities.supports_prompt and prefix:
            raise CapabilityError(f"{self.spec.title} takes no prompt; leave it empty.")
        ids = self.network.text_to_ids(prefix) if isinstance(prefix, str) else list(prefix)
        capacity = self.network.max_tokens - len(self.network.start_ids)
        if len(ids) + room > capacity:
            more = f" and max_new_tokens asks for {room} more" if room > 1 else ""
            cure = "shorten it or lower max_new_tokens" if room > 1 else "shorten it"
            text = f"“{shorten(prefix, 40, placeholder='…')}”" if isinstance(prefix, str) else "the text"
            raise PromptError(
                f"{self.spec.title} has room for {capacity} tokens, but {text} takes {len(ids)}{more}; {cure}."
            )
        return ids

    def typed_ids(self, prompt: str, text: str, room: int = 0) -> tuple[list[int], int]:
        """Return the tokens of `prompt` + `text`, and how many of them are the prompt's."""
        prompt_ids = self.prefix_ids(prompt, 0)
        ids = self.prefix_ids(f"{prompt} {text}".strip(), room)
        if not ids:
            raise PromptError("The caption is empty; type at least one word.")
        # Where the text splits differently after the prompt, the prompt ends with what both have in common.
        return ids, common_length(prompt_ids, ids)

    def as_tokens(self, token_ids: Sequence[int]) -> tuple[TextToken, ...]:
        """Return tokens with their texts."""
        return tuple(TextToken(token_id, self.network.token_text(token_id)) for token_id in token_ids)

    def alternatives(self, choices: Sequence[Sequence[tuple[int, float]]]) -> Alternatives:
        """Return the likeliest tokens of each position with their texts."""
        text_of = self.network.token_text
        return tuple(
            tuple(TokenAlternative(token_id, text_of(token_id), log_prob) for token_id, log_prob in position)
            for position in choices
        )


class GrowingCaption:
    """A caption while its row is written: each step decodes only the tokens that are new to it."""

    def __init__(
        self, texts: Texts, features: ImageFeatures, prompt: tuple[str, int], options: DecodingOptions
    ) -> None:
        """Set what is known before the first token; `prompt` is its text and its number of tokens."""
        self._texts = texts
        self._features = features
        self._prompt = prompt
        self._options = options
        self._tokens: list[str] = []
        self._alternatives: list[tuple[TokenAlternative, ...]] = []
        self._text = ""
        self._finished: Caption | None = None

    def read(self, row: WrittenRow, seconds: float) -> Caption:
        """Return the caption as far as its row is written, after so many seconds; a finished one stays as it is."""
        if self._finished is not None:
            return self._finished
        known = len(self._tokens)
        if len(row.token_ids) > known:
            self._tokens += [token.token for token in self._texts.as_tokens(row.token_ids[known:])]
            self._alternatives += self._texts.alternatives(row.alternatives[known:])
            # Decoded as a whole: some tokenizers join tokens differently once they know what follows.
            self._text = self._texts.network.ids_to_text(row.token_ids)
        spec = self._texts.spec
        caption = Caption(
            model_id=spec.model_id,
            revision=spec.revision or "",
            image_id=self._features.image_id,
            prompt=self._prompt[0],
            options=self._options,
            text=self._text,
            token_ids=tuple(row.token_ids),
            tokens=tuple(self._tokens),
            num_prompt_tokens=self._prompt[1],
            log_probs=tuple(row.log_probs),
            alternatives=tuple(self._alternatives),
            seconds=seconds,
        )
        self._finished = caption if row.done else None
        return caption
