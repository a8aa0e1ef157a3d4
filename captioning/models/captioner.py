"""What all captioners share: one decode, one alignment of tokens with what was seen, one way to look inside.

A family's file provides a `Network`; `NetworkCaptioner` makes of it a captioner that fulfils the contract.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from itertools import accumulate
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captioning.core.contract import DecodingRequest, OnToken, Prefix
from captioning.core.errors import CapabilityError, CaptioningError, FeaturesError, OptionsError, PromptError
from captioning.core.types import (
    Caption,
    CaptionTrace,
    DecodingOptions,
    ImageFeatures,
    ModelInfo,
    ModelInput,
    ModelSpec,
    ParameterArray,
    Picture,
    TeacherForcing,
    TextToken,
    TokenAlternative,
)
from captioning.models import explain
from captioning.models.accelerator import on_accelerator, one_by_one
from captioning.models.decoding.engine import Engine, torch_engine
from captioning.models.decoding.loop import Barred, WrittenRow, score_rows, write_captions
from captioning.models.network import KeepsWordsWhole, Network
from captioning.models.tokens import common_length

if TYPE_CHECKING:
    pass


class NetworkCaptioner:
    """A captioner made of a family's network. Not thread-safe and without a cache: `load_captioner` adds both."""

    def __init__(
        self, spec: ModelSpec, network: Network, device: torch.device | None = None, engine: Engine | None = None
    ) -> None:
        """`device` is where the verbs run, if the weights wait elsewhere until `gather`; `engine` runs two of them."""
        self._spec = spec
        self._network = network
        self._engine = engine or torch_engine(network)
        parameter = next(network.module.parameters())
        self._device, self._dtype = device or parameter.device, parameter.dtype
        self._barred_tokens: tuple[Tensor, Tensor] | None = None
        network.module.eval().requires_grad_(False)

    @property
    def spec(self) -> ModelSpec:
        """What it is, and what its architecture allows."""
        return self._spec

    @property
    def device(self) -> str:
        """Where it runs, as torch names it."""
        return str(self._device)

    @property
    def precision(self) -> str:
        """The type of its weights, as torch names it."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def num_bytes(self) -> int:
        """Memory its weights take, in bytes."""
        own = sum(p.numel() * p.element_size() for p in self._network.module.parameters())
        return own + self._engine.num_bytes

    @property
    def engine(self) -> str:
        """What computes when nobody asks how, and why it is not another."""
        return f"{self._engine.name} ({self._engine.note})" if self._engine.note else self._engine.name

    @property
    def end_token(self) -> TextToken:
        """The token that ends a caption; it is never part of one."""
        return self._as_tokens([self._network.end_id])[0]

    def gather(self) -> None:
        """Take all weights to where they run; where they are there already this costs nothing."""
        self._network.module.to(self._device)

    def preprocess(self, image: Picture) -> ModelInput:
        """What the model receives of a picture, and how it maps back."""
        return self._network.preprocess(image)

    @on_accelerator
    @torch.inference_mode()
    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        """One `ImageFeatures` a picture, in order; those that the model receives in one shape make a batch."""
        inputs = [self._network.preprocess(image) for image in images]
        made: dict[int, ImageFeatures] = {}
        for places in _places_by_key([i.pixel_values.shape for i in inputs]):
            pixels = torch.stack([inputs[place].pixel_values for place in places]).to(self._device, self._dtype)
            states, embeds = self._engine.encode(pixels)
            for place, state, embed in zip(places, states.cpu(), embeds.float().cpu(), strict=True):
                made[place] = ImageFeatures(
                    self._spec.model_id,
                    images[place].image_id,
                    state.clone(),
                    embed.clone(),
                    inputs[place].layout,
                    self._network.num_prefix_tokens,
                )
        return [made[place] for place in range(len(images))]

    @on_accelerator
    @torch.inference_mode()
    def decode(
        self,
        features: ImageFeatures,
        prefixes: Sequence[Prefix],
        options: DecodingOptions,
        on_token: OnToken | None = None,
    ) -> list[Caption]:
        """`num_captions` captions for every prefix, prefix by prefix, all in one batch."""
        (written,) = self._write([DecodingRequest(features, prefixes, on_token)], options)
        if isinstance(written, Exception):
            raise written
        return written

    @one_by_one
    @torch.inference_mode()
    def decode_together(
        self, requests: Sequence[DecodingRequest], options: DecodingOptions
    ) -> list[list[Caption] | Exception]:
        """What `decode` gives for each request, or what it raises, all in one batch."""
        return self._write(requests, options)

    def _write(self, requests: Sequence[DecodingRequest], options: DecodingOptions) -> list[list[Caption] | Exception]:
        batch = [_Writing(self, request, options) for request in requests]
        going = [writing for writing in batch if writing.error is None and writing.prefix_ids]
        rows: Sequence[WrittenRow] = ()
        if going:
            parts = [self._states([w.request.features]).expand(len(w.prefix_ids), -1, -1) for w in going]
            states = parts[0] if len(parts) == 1 else torch.cat(parts)
            prefixes = [ids for writing in going for ids in writing.prefix_ids]
            heard = any(w.request.on_token or w.request.on_done for w in going)
            layout = going[0].request.features.layout
            with suppress(_NobodyListens):
                listener = _tell(going) if heard else None
                barred = self._barred([prefix for writing in going for prefix in writing.request.prefixes])
                rows = write_captions(self._engine, states, layout, prefixes, options, listener, barred)
        for writing, own in zip(going, _shares(going, rows), strict=True):
            if writing.error is None:
                writing.captions = writing.make_captions(own)
        return [writing.captions if writing.error is None else writing.error for writing in batch]

    def _barred(self, prefixes: Sequence[Prefix]) -> Barred | None:
        """Return the tokens that must not be written, or `None` where every token may be.

        People type the last word of a prompt whole; a prefix given as tokens may end with a part of a word.
        """
        if not isinstance(self._network, KeepsWordsWhole):
            return None
        if self._barred_tokens is None:
            self._barred_tokens = self._network.not_first(), self._network.never_written()
        first, always = (tokens.to(self._device) for tokens in self._barred_tokens)
        ends_in_word = [isinstance(prefix, str) and prefix.rstrip()[-1:].isalnum() for prefix in prefixes]
        first = torch.tensor(ends_in_word, device=first.device)[:, None] & first | always
        return Barred(first, always, self._network.not_after)

    @on_accelerator
    @torch.inference_mode()
    def caption_from_text(self, features: ImageFeatures, prompt: str, text: str) -> Caption:
        """The caption `prompt` + `text` that a person typed, scored token by token."""
        started = time.perf_counter()
        ids, num_prompt_tokens = self._typed_ids(prompt, text)
        (row,) = score_rows(self._engine, self._states([features]), features.layout, [ids])
        seconds = time.perf_counter() - started
        return self._caption(features, row, (prompt, num_prompt_tokens), DecodingOptions(), seconds)

    @on_accelerator
    @torch.inference_mode()
    def teacher_force(self, features: ImageFeatures, prompt: str, text: str) -> TeacherForcing:
        """The caption `prompt` + `text` beside what the model would have written at every position."""
        ids, num_prompt_tokens = self._typed_ids(prompt, text, room=1)
        labels = [*ids, self._network.end_id]
        (row,) = score_rows(self._engine, self._states([features]), features.layout, [labels])
        return TeacherForcing(
            inputs=self._as_tokens([self._network.start_ids[-1], *ids]),
            labels=self._as_tokens(labels),
            log_probs=tuple(row.log_probs),
            alternatives=self._alternatives(row),
            num_prompt_tokens=num_prompt_tokens,
        )

    def tokenize(self, text: str) -> tuple[TextToken, ...]:
        """The tokens of a text, without start and end tokens."""
        return self._as_tokens(self._network.text_to_ids(text))

    @on_accelerator
    @torch.inference_mode()
    def trace(
        self, features: ImageFeatures, caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> CaptionTrace:
        """Where the model looked for each token: one teacher-forced pass."""
        kind = self._spec.capabilities.attention_kind
        if kind is None:
            raise CapabilityError(f"{self._spec.title} has no attention to the picture that could be shown.")
        self._check_caption(caption)
        if not caption.token_ids:
            raise PromptError("The caption is empty, so there is no token to trace; write or type one first.")
        ids = torch.tensor([[*self._network.start_ids, *caption.token_ids]], device=self._device)
        mask = self._head_mask(head_mask)
        weights = self._network.attend(ids, self._states([features]), mask, features.layout)[:, 0].float().cpu()
        # Row t-1 predicts token t: the first token comes from the last start token, the last row predicts the end.
        weights = weights[:, :, len(self._network.start_ids) - 1 : -1]
        prefix = features.num_prefix_tokens
        return CaptionTrace(
            caption,
            weights[..., prefix:].contiguous().numpy(),
            weights[..., :prefix].sum(dim=-1).numpy(),
            kind,
            features.layout,
        )

    @on_accelerator
    def explain(self, image: Picture, caption: Caption, positions: Sequence[int], method: str) -> NDArray[np.float32]:
        """Where the picture made the tokens at `positions` likely: one forward pass, and one backward pass each."""
        self._check_explainable(caption, positions, method)
        model_input = self._network.preprocess(image)
        if not positions:
            return np.zeros((0, len(model_input.layout.boxes)), np.float32)
        pixels = model_input.pixel_values[None].to(self._device, self._dtype)
        maps = explain.explain_tokens(self._network, pixels, caption.token_ids, positions, model_input.layout, method)
        return maps[:, self._network.num_prefix_tokens :].contiguous().numpy()

    def _check_explainable(self, caption: Caption, positions: Sequence[int], method: str) -> None:
        methods = self._spec.capabilities.explanation_methods
        if method not in methods:
            choices = f"choose from {', '.join(methods)}" if methods else "it has none but its attention"
            raise CapabilityError(f"{self._spec.title} has no maps by {method!r}; {choices}.")
        self._check_caption(caption)
        if not caption.token_ids:
            raise PromptError("The caption is empty, so there is no token to explain; write or type one first.")
        last = len(caption.token_ids) - 1
        for position in positions:
            if not 0 <= position <= last:
                raise OptionsError(f"The caption has no token at position {position}; choose from 0 to {last}.")

    @on_accelerator
    @torch.inference_mode()
    def score(
        self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Log-probabilities of a caption's tokens given each of `features`, `[features, tokens]`."""
        self._check_caption(caption)
        if not features or not caption.token_ids:
            return np.zeros((len(features), len(caption.token_ids)), np.float32)
        scores = np.zeros((len(features), len(caption.token_ids)), np.float32)
        for places in _places_by_key([(f.layout.grid, f.layout.boxes.tobytes()) for f in features]):
            group = [features[place] for place in places]
            ids = [caption.token_ids] * len(group)
            # Only the network itself has heads to scale.
            decoder = self._engine if head_mask is None else self._network
            with self._network.scaled_heads(self._head_mask(head_mask)):
                rows = score_rows(decoder, self._states(group), group[0].layout, ids)
            scores[places] = [row.log_probs for row in rows]
        return scores

    @on_accelerator
    @torch.inference_mode()
    def info(self) -> ModelInfo:
        """What is inside the model; the shapes are those of a picture and a caption of four tokens."""
        module = self._network.module
        arrays = tuple(
            ParameterArray(name, tuple(p.shape), str(p.dtype).removeprefix("torch."), p.numel())
            for name, p in module.named_parameters()
        )
        leaves = Counter(type(m).__name__ for m in module.modules() if not any(m.children()))
        return ModelInfo(
            spec=self._spec,
            parameters=sum(a.elements for a in arrays),
            arrays=arrays,
            layer_types=dict(leaves.most_common()),
            tokenizer=self._network.describe_tokenizer(),
            shapes=self._shapes(),
            device=self.device,
            precision=self.precision,
            engine=self.engine,
        )

    def _shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        from PIL import Image

        picture = Picture(Image.new("RGB", (64, 48)), "blank")
        model_input = self._network.preprocess(picture)
        states, embeds = self._network.encode(model_input.pixel_values[None].to(self._device, self._dtype))
        ids = torch.tensor([[*self._network.start_ids, *[self._network.end_id] * 4]], device=self._device)
        layout = model_input.layout
        logits = self._network.step(ids, torch.ones_like(ids), self._network.start(states, layout))
        steps: list[tuple[str, Any]] = [
            ("pixel_values", model_input.pixel_values[None]),
            ("encoder_hidden_states", states),
            ("image_embeds", embeds),
            ("input_ids", ids),
        ]
        shapes = [(name, tuple(tensor.shape)) for name, tensor in steps]
        if layout.grid is not None and model_input.pixel_values.ndim == 3:
            channels, height, width = model_input.pixel_values.shape
            patch = (len(layout.boxes), channels, height // layout.grid[0], width // layout.grid[1])
            shapes.insert(1, ("patches", patch))
        kind = self._spec.capabilities.attention_kind
        if kind is not None:
            weights = self._network.attend(ids, states, None, layout)[0]
            length, seen = weights.shape[-2:]
            width = self._word_width(logits.shape[-1])
            shapes += [("query", (length, 1, width)), ("key", (seen, 1, states.shape[-1]))]
            shapes += [("value", shapes[-1][1]), (f"{kind}_attentions", tuple(weights.shape))]
        return (*shapes, ("logits", tuple(logits.shape)))

    def _word_width(self, vocab_size: int) -> int:
        """The width of the decoder's states, which is that of its word vectors; 0 where it has no table of them."""
        tables = (p for p in self._network.module.parameters() if p.ndim == 2 and p.shape[0] == vocab_size)
        return next((table.shape[1] for table in tables), 0)

    def _states(self, features: Sequence[ImageFeatures]) -> Tensor:
        for item in features:
            if item.model_id != self._spec.model_id:
                raise FeaturesError(
                    f"These features come from {item.model_id}; encode the picture again with {self._spec.model_id}."
                )
        return torch.stack([item.encoder_hidden_states for item in features]).to(self._device, self._dtype)

    def _head_mask(self, head_mask: NDArray[np.float32] | None) -> Tensor | None:
        return None if head_mask is None else torch.from_numpy(head_mask).to(self._device, self._dtype)

    def _check_caption(self, caption: Caption) -> None:
        if caption.model_id != self._spec.model_id:
            raise FeaturesError(
                f"This caption was written by {caption.model_id}; write or type it again with {self._spec.model_id}."
            )

    def _prefix_ids(self, prefix: Prefix, room: int) -> list[int]:
        if not self._spec.capabilities.supports_prompt and prefix:
            raise CapabilityError(f"{self._spec.title} takes no prompt; leave it empty.")
        ids = self._network.text_to_ids(prefix) if isinstance(prefix, str) else list(prefix)
        capacity = self._network.max_tokens - len(self._network.start_ids)
        if len(ids) + room > capacity:
            more = f" and max_new_tokens asks for {room} more" if room > 1 else ""
            cure = "shorten it or lower max_new_tokens" if room > 1 else "shorten it"
            text = f"“{shorten(prefix, 40, placeholder='…')}”" if isinstance(prefix, str) else "the text"
            raise PromptError(
                f"{self._spec.title} has room for {capacity} tokens, but {text} takes {len(ids)}{more}; {cure}."
            )
        return ids

    def _typed_ids(self, prompt: str, text: str, room: int = 0) -> tuple[list[int], int]:
        """The tokens of `prompt` + `text`, and how many of them are the prompt's."""
        prompt_ids = self._prefix_ids(prompt, 0)
        ids = self._prefix_ids(f"{prompt} {text}".strip(), room)
        if not ids:
            raise PromptError("The caption is empty; type at least one word.")
        # Where the text splits differently after the prompt, the prompt ends with what both have in common.
        return ids, common_length(prompt_ids, ids)

    def _as_tokens(self, token_ids: Sequence[int]) -> tuple[TextToken, ...]:
        return tuple(TextToken(token_id, self._network.token_text(token_id)) for token_id in token_ids)

    def _alternatives(self, row: WrittenRow) -> tuple[tuple[TokenAlternative, ...], ...]:
        text_of = self._network.token_text
        return tuple(
            tuple(TokenAlternative(token_id, text_of(token_id), log_prob) for token_id, log_prob in choices)
            for choices in row.alternatives
        )

    def _caption(
        self,
        features: ImageFeatures,
        row: WrittenRow,
        prompt: tuple[str, int],
        options: DecodingOptions,
        seconds: float,
    ) -> Caption:
        text_of = self._network.token_text
        return Caption(
            model_id=self._spec.model_id,
            revision=self._spec.revision or "",
            image_id=features.image_id,
            prompt=prompt[0],
            options=options,
            text=self._network.ids_to_text(row.token_ids),
            token_ids=tuple(row.token_ids),
            tokens=tuple(text_of(token_id) for token_id in row.token_ids),
            num_prompt_tokens=prompt[1],
            log_probs=tuple(row.log_probs),
            alternatives=self._alternatives(row),
            seconds=seconds,
        )


class _Writing:
    """A request while it is written, and what ended it early."""

    def __init__(self, captioner: NetworkCaptioner, request: DecodingRequest, options: DecodingOptions) -> None:
        self.request = request
        self.options = options
        self.captions: list[Caption] = []
        self.error: Exception | None = None
        self.prefix_ids: list[list[int]] = []
        self._captioner = captioner
        self._started = time.perf_counter()
        self._finished_after: dict[int, float] = {}
        self._told = False
        try:
            captioner._states([request.features])
            self.prefix_ids = [captioner._prefix_ids(prefix, options.max_new_tokens) for prefix in request.prefixes]
        except CaptioningError as error:
            self.error = error

    def make_captions(self, rows: Sequence[WrittenRow]) -> list[Caption]:
        """The request's captions, as far as its rows are written."""
        elapsed = time.perf_counter() - self._started
        for number, row in enumerate(rows):
            if row.done:
                self._finished_after.setdefault(number, elapsed)
        text_of = self._captioner._network.ids_to_text
        prompts = [
            (prefix if isinstance(prefix, str) else text_of(ids), len(ids))
            for prefix, ids in zip(self.request.prefixes, self.prefix_ids, strict=True)
            for _ in range(self.options.num_captions)
        ]
        return [
            self._captioner._caption(
                self.request.features, row, prompt, self.options, self._finished_after.get(number, elapsed)
            )
            for number, (row, prompt) in enumerate(zip(rows, prompts, strict=False))
        ]

    def tell(self, rows: Sequence[WrittenRow]) -> None:
        """Let the caller hear how far it is; if that raises, its rows end here and its neighbours go on."""
        if self.error is not None or self._told:
            return
        try:
            if self.request.on_token:
                self.request.on_token(self.make_captions(rows))
        except Exception as error:  # whatever a caller raises to stop, it shall have back
            self.error = error
            for row in rows:
                row.done = True
            return
        if self.request.on_done and rows and all(row.done for row in rows):
            self._told = True
            self.request.on_done(self.make_captions(rows))


class _NobodyListens(Exception):  # noqa: N818  # no error: what is left need not be written
    """Every caller of a batch has stopped."""


def _tell(batch: Sequence[_Writing]) -> Callable[[Sequence[WrittenRow]], None]:
    def on_step(rows: Sequence[WrittenRow]) -> None:
        for writing, own in zip(batch, _shares(batch, rows), strict=True):
            writing.tell(own)
        if all(writing.error is not None for writing in batch):
            raise _NobodyListens

    return on_step


def _shares(batch: Sequence[_Writing], rows: Sequence[WrittenRow]) -> list[Sequence[WrittenRow]]:
    """The rows of each; none for anybody while beams are searched."""
    counts = [len(writing.prefix_ids) * writing.options.num_captions for writing in batch]
    ends = list(accumulate(counts))
    return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _places_by_key(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal keys, group by group in order of first appearance."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())
