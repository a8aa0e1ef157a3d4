"""`image_text_to_text`: language models that read a picture among the words of an instruction, then answer it.

LLaVA, Idefics 3, SmolVLM, PaliGemma and Qwen2.5-VL differ in how they cut a picture up (`views.py`) and in what
stands around it (`prompts.py`); reading, writing and tracing are the same for all (`network.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.core.types import Capabilities, ModelSpec
from captioning.models.family import ModelFamily
from captioning.models.files import name_of

if TYPE_CHECKING:
    import torch

    from captioning.models.families.image_text_to_text.network import ImageTextNetwork

FAMILY_NAME = "image_text_to_text"
MODEL_TYPES = ("llava", "idefics3", "smolvlm", "paligemma", "qwen2_5_vl")
UNTRAINED_NAME = "smolvlm-256m"
CAPABILITIES = Capabilities(
    attention_kind="self", explanation_methods=("gradient_attention", "relevance", "input_gradient")
)
# No revisions are pinned: the hub says which one is meant when a model is downloaded, in safetensors only.
SMOLVLM = ModelSpec(
    model_id="HuggingFaceTB/SmolVLM-256M-Instruct",
    family=FAMILY_NAME,
    title="SmolVLM 256M",
    license="Apache-2.0",
    capabilities=CAPABILITIES,
    repo_id="HuggingFaceTB/SmolVLM-256M-Instruct",
    download_bytes=520_000_000,
    summary="A small language model that looks at a picture in up to sixteen tiles and as a whole; 520 MB.",
)
PALIGEMMA = ModelSpec(
    model_id="google/paligemma2-3b-pt-224",
    family=FAMILY_NAME,
    title="PaliGemma 2 3B",
    license="Gemma (accept its terms on the hub)",
    capabilities=CAPABILITIES,
    repo_id="google/paligemma2-3b-pt-224",
    download_bytes=6_100_000_000,
    summary="Gemma 2 with a picture of 16 × 16 patches before its words; short captions; 6.1 GB, better on a GPU.",
)
QWEN = ModelSpec(
    model_id="Qwen/Qwen2.5-VL-3B-Instruct",
    family=FAMILY_NAME,
    title="Qwen2.5-VL 3B",
    license="Qwen Research License",
    capabilities=CAPABILITIES,
    repo_id="Qwen/Qwen2.5-VL-3B-Instruct",
    download_bytes=7_500_000_000,
    summary="Keeps a picture's shape: one token for every 28 × 28 pixels; 7.5 GB, better on a GPU.",
)
LLAVA = ModelSpec(
    model_id="llava-hf/llava-1.5-7b-hf",
    family=FAMILY_NAME,
    title="LLaVA 1.5 7B",
    license="Llama 2 Community License",
    capabilities=CAPABILITIES,
    repo_id="llava-hf/llava-1.5-7b-hf",
    download_bytes=14_100_000_000,
    summary="Vicuna with a picture of 24 × 24 CLIP patches among its words; 14 GB, for a GPU.",
)


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> ImageTextNetwork:
    """Load a folder in the hub's layout. Raises `ModelFilesError` where its files do not belong together."""
    from transformers import AutoModelForImageTextToText

    from captioning.models.families.image_text_to_text.network import ImageTextNetwork
    from captioning.models.families.image_text_to_text.prompts import read_prompt
    from captioning.models.families.image_text_to_text.views import make_view
    from captioning.models.pretrained import load_pretrained
    from captioning.models.tokens import read_tokenizer

    name = name_of(folder)
    tokenizer = read_tokenizer(folder)
    module = load_pretrained(AutoModelForImageTextToText, folder, dtype)
    # Only words show their weights; patches by the thousand would fill the memory with theirs.
    module.set_attn_implementation({"vision_config": "sdpa", "text_config": "eager"})
    vocabulary = module.get_input_embeddings().num_embeddings
    if tokenizer.get_vocab_size() > vocabulary:
        raise ModelFilesError(
            f"{name}: the tokenizer has {tokenizer.get_vocab_size()} tokens and the weights {vocabulary}; copy both "
            "from one model."
        )
    view = make_view(folder, module.config, name)
    prompt = read_prompt(folder, module.config, name)
    network = ImageTextNetwork(module.to(device).eval(), tokenizer, view, prompt)
    if network.max_tokens < 2:
        raise ModelFilesError(
            f"{name} cannot look back far enough: its largest picture leaves none of its positions for a caption; "
            "choose a model for longer texts, or copy its files again."
        )
    return network


def untrained(name: str, device: torch.device, dtype: torch.dtype) -> ImageTextNetwork:
    """SmolVLM 256M's shape with random weights, and a made-up vocabulary; see `untrained.py` beside this file."""
    from captioning.models.families.image_text_to_text.untrained import make_smolvlm

    if name != UNTRAINED_NAME:
        raise UnknownModelError(f"There is no untrained {name!r}; choose {UNTRAINED_NAME}.")
    return make_smolvlm(device, dtype)


def _recognises(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in MODEL_TYPES


FAMILY = ModelFamily(
    name=FAMILY_NAME,
    specs=(SMOLVLM, PALIGEMMA, QWEN, LLAVA),
    capabilities=CAPABILITIES,
    recognises=_recognises,
    files=(
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "chat_template.jinja",
        "chat_template.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "model-*.safetensors",
    ),
    load=load,
    untrained=untrained,
    untrained_names=(UNTRAINED_NAME,),
)
