"""The network of `image_text_to_text`: any of its models with tokenizer, prompt and view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from captioning.core.types import ModelInput, PatchLayout, Picture
from captioning.models.decoding.self_attention import Opening, SelfAttentionDecoder
from captioning.models.families.image_text_to_text.prompts import Prompt
from captioning.models.families.image_text_to_text.views import View
from captioning.models.pretrained import kept_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import DynamicCache


class ImageTextNetwork(SelfAttentionDecoder):
    """A language model that sees, as `NetworkCaptioner` wants it.

    A caption is the answer to one instruction. The only start token is the last one of the prompt: all before it
    is read together with the picture.
    """

    num_prefix_tokens = 0

    def __init__(self, module: Any, tokenizer: Tokenizer, view: View, prompt: Prompt, origin: str = "") -> None:
        self.module: nn.Module = module
        self.view = view
        self.prompt = prompt
        self._words: nn.Module = module.get_input_embeddings()
        self._image_id: int = module.config.image_token_id
        self._parts: Any = module.model
        ends = module.generation_config.eos_token_id
        self._end_ids: list[int] = list(ends) if isinstance(ends, list) else [ends]
        longest = self.prompt_ids(view.largest)
        super().__init__(tokenizer, (longest[-1],), self._end_ids[0], lead=prompt.text[-1], origin=origin)
        self.max_tokens: int = _reach(module.config.get_text_config()) - len(longest) + 1
        parts = self._parts
        language_model = parts.language_model if hasattr(parts, "language_model") else parts.text_model
        self.word_layers = [layer.self_attn for layer in language_model.layers]
        self.mixers = [layer.self_attn.o_proj for layer in language_model.layers]

    def prompt_ids(self, layout: PatchLayout) -> list[int]:
        """Everything before the caption, the places of the picture's patches included."""
        return self.prompt.ids(self.view.placeholder(layout, self.prompt.image_token))

    def preprocess(self, image: Picture) -> ModelInput:
        """The picture as the model's own processor prepares it."""
        return self.view.preprocess(image)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """States `[N, patches, hidden]` in the size of words, and their normalised means `[N, hidden]`."""
        states = self.view.encode(self._parts, pixel_values)
        return states, normalize(states.float().mean(dim=1), dim=-1)

    def read_picture(self, states: Tensor, layout: PatchLayout) -> Opening:
        """Keys and values of the prompt but for its last token, which the first word is read from.

        It is read all the same, because PaliGemma's prompt sees all of itself.
        """
        from transformers import DynamicCache

        number = len(states)
        ids = torch.tensor(self.prompt_ids(layout), device=states.device)
        is_image = ids == self._image_id
        embeds = self._words(ids.masked_fill(is_image, 0))[None].repeat(number, 1, 1)
        embeds[:, is_image] = states
        positions = self.view.positions(self._parts, ids, is_image, layout)
        keys = DynamicCache()
        self.module(
            inputs_embeds=embeds,
            attention_mask=torch.ones(number, len(ids), dtype=torch.long, device=ids.device),
            position_ids=positions[..., None, :].expand(*positions.shape[:-1], number, -1),
            **kept_words(keys),
            use_cache=True,
            logits_to_keep=1,
            **{name: kinds.expand(number, -1) for name, kinds in self.view.token_types(ids).items()},
        )
        pairs = [(layer.keys[:, :, :-1], layer.values[:, :, :-1]) for layer in keys.layers]
        return Opening(pairs, is_image.nonzero()[:, 0], int(positions.max()))

    def read_words(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, keys: DynamicCache, need_weights: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Logits and weights; a mask of ones is put before the words for what was read before them."""
        num_before = keys.get_seq_length() + input_ids.shape[1] - attention_mask.shape[1]
        before = attention_mask.new_ones(len(attention_mask), num_before)
        output = self.module(
            input_ids,
            attention_mask=torch.cat((before, attention_mask), dim=1),
            position_ids=position_ids,
            **kept_words(keys),
            use_cache=True,
            output_attentions=need_weights,
        )
        return self._with_one_end(output.logits), output.attentions or ()

    def describe_tokenizer(self) -> Mapping[str, str | int]:
        """Return what is known of the vocabulary, all tokens that end a caption, and the instruction it answers."""
        ends = ", ".join(self.token_text(end_id) for end_id in self._end_ids)
        return {**super().describe_tokenizer(), "end token": ends, "instruction": self.prompt.instruction}

    def _with_one_end(self, logits: Tensor) -> Tensor:
        """Logits `[rows, new, vocab]` where the first end token has what all of them had together."""
        if len(self._end_ids) == 1:
            return logits
        together = logits[..., self._end_ids].logsumexp(dim=-1)
        logits = logits.index_fill(-1, torch.tensor(self._end_ids, device=logits.device), float("-inf"))
        logits[..., self.end_id] = together
        return logits


def _reach(config: Any) -> int:
    """How many tokens all layers of a language model can look back on.

    Beyond a sliding window the picture would be masked, and an exact zero in a trace would look like disregard.
    """
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return int(min(config.max_position_embeddings, config.sliding_window))
    return int(config.max_position_embeddings)
