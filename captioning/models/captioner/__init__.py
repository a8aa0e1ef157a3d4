"""What all captioners share: one decode, one alignment of tokens with what was seen, one way to look inside.

A family's file provides a `Network`; `NetworkCaptioner` makes of it a captioner that fulfils the contract.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captioning.core.contract import DecodingRequest, OnToken, Prefix
from captioning.core.errors import CapabilityError, FeaturesError, OptionsError, PromptError
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
from captioning.models import explain
from captioning.models.accelerator import on_accelerator, one_by_one
from captioning.models.captioner.inside import describe_network
from captioning.models.captioner.texts import GrowingCaption, Texts
from captioning.models.captioner.writing import write_requests
from captioning.models.decoding.engine import Engine, torch_engine
from captioning.models.decoding.loop import score_rows
from captioning.models.network import Network


class NetworkCaptioner:
    """A captioner made of a family's network. Not thread-safe and without a cache: `load_captioner` adds both."""

    def __init__(
        self, spec: ModelSpec, network: Network, device: torch.device | None = None, engine: Engine | None = None
    ) -> None:
        """`device` is where the verbs run, if the weights wait elsewhere until `gather`; `engine` runs two of them."""
        self._spec = spec
        self._network = network
        self._texts = Texts(spec, network)
        self._engine = engine or torch_engine(network)
        parameter = next(network.module.parameters())
        self._device, self._dtype = device or parameter.device, parameter.dtype
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
        return self._texts.as_tokens([self._network.end_id])[0]

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
        return write_requests(self._texts, self._engine, self._states, requests, options)

    @on_accelerator
    @torch.inference_mode()
    def caption_from_text(self, features: ImageFeatures, prompt: str, text: str) -> Caption:
        """The caption `prompt` + `text` that a person typed, scored token by token."""
        started = time.perf_counter()
        ids, num_prompt_tokens = self._texts.typed_ids(prompt, text)
        (row,) = score_rows(self._engine, self._states([features]), features.layout, [ids])
        seconds = time.perf_counter() - started
        return GrowingCaption(self._texts, features, (prompt, num_prompt_tokens), DecodingOptions()).read(row, seconds)

    @on_accelerator
    @torch.inference_mode()
    def teacher_force(self, features: ImageFeatures, prompt: str, text: str) -> TeacherForcing:
        """The caption `prompt` + `text` beside what the model would have written at every position."""
        ids, num_prompt_tokens = self._texts.typed_ids(prompt, text, room=1)
        labels = [*ids, self._network.end_id]
        (row,) = score_rows(self._engine, self._states([features]), features.layout, [labels])
        return TeacherForcing(
            inputs=self._texts.as_tokens([self._network.start_ids[-1], *ids]),
            labels=self._texts.as_tokens(labels),
            log_probs=tuple(row.log_probs),
            alternatives=self._texts.alternatives(row.alternatives),
            num_prompt_tokens=num_prompt_tokens,
        )

    def tokenize(self, text: str) -> tuple[TextToken, ...]:
        """The tokens of a text, without start and end tokens."""
        return self._texts.as_tokens(self._network.text_to_ids(text))

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
        return describe_network(self._spec, self._network, self._device, self._dtype, self.engine)

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


def _places_by_key(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal keys, group by group in order of first appearance."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())
