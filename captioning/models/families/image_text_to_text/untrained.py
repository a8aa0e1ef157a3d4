"""SmolVLM 256M with random weights: as large as the trained one.

It looks at a picture as a whole. The trained one also looks at up to sixteen tiles of it, which is seventeen times
the work, and random weights have nothing to gain from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captioning.models.families.image_text_to_text.network import ImageTextNetwork
from captioning.models.families.image_text_to_text.prompts import INSTRUCTION, Prompt
from captioning.models.families.image_text_to_text.views import TiledView
from captioning.models.random_weights import ORIGIN, build_random, made_up_words
from captioning.models.tokens import make_wordpiece

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

_VOCABULARY = 49_280
_TILE, _PATCH, _MERGE = 512, 16, 4
_START, _END, _IMAGE = "<|im_start|>", "<end_of_utterance>", "<image>"
_SPECIAL = (_START, _END, _IMAGE, "<fake_token_around_image>", "<global-img>")


def make_smolvlm(device: torch.device, dtype: torch.dtype) -> ImageTextNetwork:
    """The network; always the same weights, its words spelled in made-up syllables."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    typed, asked = _make_tokenizer(), _make_tokenizer()
    asked.encode_special_tokens = False  # only the prompt may hold special tokens
    text = {
        "model_type": "llama", "vocab_size": _VOCABULARY, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
        "max_position_embeddings": 8192,
    }  # fmt: skip
    vision = {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": _TILE, "patch_size": _PATCH,
    }  # fmt: skip
    config = SmolVLMConfig(
        text_config=text, vision_config=vision, scale_factor=_MERGE, image_token_id=asked.token_to_id(_IMAGE)
    )
    module = build_random(SmolVLMForConditionalGeneration, config, device, dtype)
    # Only words show their weights; patches by the thousand would fill the memory with theirs.
    module.set_attn_implementation({"vision_config": "sdpa", "text_config": "eager"})
    module.generation_config.eos_token_id = asked.token_to_id(_END)
    processor = SmolVLMImageProcessorPil(
        do_image_splitting=False,
        size={"longest_edge": _TILE},
        max_image_size={"longest_edge": _TILE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        resample=1,
    )
    question = f"{_START}User:{_IMAGE}{INSTRUCTION}{_END}\nAssistant:"
    prompt = Prompt(question, _IMAGE, INSTRUCTION, asked, add_special_tokens=False)
    return ImageTextNetwork(module, typed, TiledView(processor, _TILE, _PATCH, _MERGE), prompt, ORIGIN)


def _make_tokenizer() -> Tokenizer:
    tokenizer = make_wordpiece(made_up_words(_VOCABULARY - len(_SPECIAL)), max_word_characters=1000)
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer
