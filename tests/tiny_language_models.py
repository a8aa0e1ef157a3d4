"""Small models that read picture and words as one sequence, in the layouts of full-size ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.types import Picture
from captioning.models.families.image_text_to_text.prompts import INSTRUCTION, TASK
from captioning.models.tokens import make_wordpiece
from tests.tiny_models import MEAN, STD, WORDS, blip_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXTS = (" ".join(WORDS), "a photo of a dog", "the woman in the park", "USER: ASSISTANT: Describe this picture in one")
CHAT = "<|im_start|>"
BLANK = "\u2581"
HALF = [0.5, 0.5, 0.5]
LANGUAGE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.35,
}  # fmt: skip
VISION = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
    "initializer_range": 0.4,
}  # fmt: skip
TEMPLATES = {
    "llava": (
        "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for part in message['content'] %}"
        "{{ '<image>\n' if part['type'] == 'image' else part['text'] + ' ' }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "smolvlm": (
        "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
        "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
        "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "qwen2_5_vl": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for message in messages %}<|im_start|>"
        "{{ message['role'] }}\n{% for part in message['content'] %}{{ '<|vision_start|><|image_pad|><|vision_end|>' "
        "if part['type'] == 'image' else part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}
TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))
SPECIAL = {
    "llava": ("<unk>", "<s>", "</s>", "<image>", "<pad>"),
    "paligemma": ("<pad>", "<eos>", "<bos>", "<unk>", "<image>"),
    "smolvlm": (CHAT, "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>", *TILES),
    "qwen2_5_vl": ("<|endoftext|>", CHAT, "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"),
}
SPECIAL["idefics3"] = SPECIAL["smolvlm"]
TEMPLATES["idefics3"] = TEMPLATES["smolvlm"]
ROLES = {
    "llava": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "paligemma": {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "smolvlm": {"bos_token": CHAT, "eos_token": "<end_of_utterance>", "pad_token": CHAT},
    "qwen2_5_vl": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
}
ROLES["idefics3"] = ROLES["smolvlm"]


def tiny_bytes(special: Sequence[str]) -> Tokenizer:
    """A byte-pair tokenizer in the manner of Qwen and SmolLM, with special tokens first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380 + len(special),
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def tiny_sentence_pieces(special: Sequence[str], begins_with_blank: bool) -> Tokenizer:
    """A byte-pair tokenizer in the manner of Llama (a blank before the first word) and Gemma (none)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=180, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "\n", BLANK, *model["vocab"]]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", BLANK)
    steps = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if begins_with_blank:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), replace])
        steps.append(decoders.Strip(" ", 1, 0))
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    else:
        tokenizer.normalizer = replace
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def tiny_tokenizer(kind: str) -> Tokenizer:
    """The tokenizer of a model of this type."""
    special = SPECIAL[kind]
    if kind in ("llava", "paligemma"):
        return tiny_sentence_pieces(special, begins_with_blank=kind == "llava")
    return tiny_bytes(special)


def write_documents(folder: Path, documents: Mapping[str, Any]) -> None:
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2), encoding="utf-8")


def spread(model: Any, seed: int) -> None:
    """Move biases and norms off zero and one: a trained model's are not, and equal rows would hide mistakes."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += torch.randn_like(parameter) * 0.2


# With these positions, 40 are left after the largest picture.
POSITIONS = {"llava": 81, "paligemma": 100, "smolvlm": 139, "idefics3": 139, "qwen2_5_vl": 139}


def write_tiny_git(folder: Path, seed: int = 6, end_bias: float = 3.5, **changes: Any) -> Path:
    """Write a GIT of two layers for pictures of 32 pixels, cropped as CLIP does."""
    import torch
    from transformers import GitConfig, GitForCausalLM

    words = blip_words()
    vision = VISION | {"image_size": 32, "patch_size": 8}
    shape = {key: value for key, value in LANGUAGE.items() if key != "num_key_value_heads"}
    config = GitConfig(
        vision_config=vision, vocab_size=len(words), max_position_embeddings=40, bos_token_id=2, eos_token_id=3,
        **shape | changes,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GitForCausalLM(config).eval()
    spread(model, seed)
    # So that some captions end before others, and none is empty.
    model.output.bias.data[3] = end_bias
    model.save_pretrained(folder)
    make_wordpiece(words).save(str(folder / "tokenizer.json"))
    special = {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    processor = {
        "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "image_mean": MEAN, "image_std": STD, "image_processor_type": "CLIPImageProcessor", "resample": 3,
        "processor_class": "GitProcessor", "size": {"shortest_edge": 32},
    }  # fmt: skip
    write_documents(
        folder,
        {
            "preprocessor_config.json": processor,
            "tokenizer_config.json": {"do_lower_case": True, "tokenizer_class": "BertTokenizer", **special},
        },
    )
    return folder


def tiny_config(kind: str, tokenizer: Tokenizer, positions: int) -> Any:
    """The configuration of a model of this type, two layers wide and deep each."""
    from transformers import (
        CLIPVisionConfig,
        Gemma2Config,
        Idefics3Config,
        LlamaConfig,
        LlavaConfig,
        PaliGemmaConfig,
        Qwen2_5_VLConfig,
        SiglipVisionConfig,
        SmolVLMConfig,
    )

    image_token = {"qwen2_5_vl": "<|image_pad|>"}.get(kind, "<image>")
    image_id = tokenizer.token_to_id(image_token)
    ids = {role: tokenizer.token_to_id(token) for role, token in ROLES[kind].items()}
    ends = {f"{role}_id": number for role, number in ids.items() if role != "unk_token"}
    text = LANGUAGE | {"vocab_size": tokenizer.get_vocab_size() + 3, "max_position_embeddings": positions} | ends
    if kind == "llava":
        vision = CLIPVisionConfig(**VISION | {"image_size": 32, "patch_size": 8})
        return LlavaConfig(
            vision_config=vision, text_config=LlamaConfig(**text), image_token_id=image_id, image_seq_length=16
        )
    if kind == "paligemma":
        vision = SiglipVisionConfig(
            **VISION | {"image_size": 32, "patch_size": 8, "vision_use_head": False, "projection_dim": 32}
        )
        language = Gemma2Config(**text | {"head_dim": 8, "sliding_window": 67, "query_pre_attn_scalar": 8})
        return PaliGemmaConfig(
            vision_config=vision, text_config=language, image_token_id=image_id, projection_dim=32, hidden_size=32
        )
    if kind == "qwen2_5_vl":
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
        vision = {
            "depth": 2, "hidden_size": 24, "intermediate_size": 40, "num_heads": 3, "out_hidden_size": 32,
            "patch_size": 4, "spatial_merge_size": 2, "window_size": 16, "fullatt_block_indexes": [1],
        }  # fmt: skip
        return Qwen2_5_VLConfig(
            text_config=text | {"rope_parameters": rope, "bos_token_id": None}, vision_config=vision,
            image_token_id=image_id, vision_start_token_id=tokenizer.token_to_id("<|vision_start|>"),
            vision_end_token_id=tokenizer.token_to_id("<|vision_end|>"),
        )  # fmt: skip
    vision = VISION | {"image_size": 16, "patch_size": 4}
    config_class = {"idefics3": Idefics3Config, "smolvlm": SmolVLMConfig}[kind]
    return config_class(
        vision_config=vision, text_config=LlamaConfig(**text), image_token_id=image_id, scale_factor=2,
        pad_token_id=ids["pad_token"],
    )  # fmt: skip


PIXELS: Mapping[str, Mapping[str, Any]] = {
    "llava": {
        "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "image_processor_type": "CLIPImageProcessor",
        "image_mean": MEAN, "image_std": STD, "resample": 3, "size": {"shortest_edge": 32},
    },
    "paligemma": {
        "image_processor_type": "SiglipImageProcessor", "image_mean": HALF, "image_std": HALF, "resample": 3,
        "size": {"height": 32, "width": 32}, "image_seq_length": 16,
    },
    "smolvlm": {
        "do_image_splitting": True, "do_pad": True, "image_processor_type": "SmolVLMImageProcessor",
        "image_mean": HALF, "image_std": HALF, "max_image_size": {"longest_edge": 16}, "resample": 1,
        "size": {"longest_edge": 48},
    },
    "qwen2_5_vl": {
        "image_processor_type": "Qwen2VLImageProcessor", "image_mean": MEAN, "image_std": STD, "merge_size": 2,
        "min_pixels": 256, "max_pixels": 2048, "patch_size": 4, "temporal_patch_size": 2,
    },
}  # fmt: skip


def write_tiny_image_text_to_text(
    folder: Path, kind: str = "llava", seed: int = 0, end_scale: float = 2.0, positions: int = 0
) -> Path:
    """Write a model of two layers with all the files that the hub has of it."""
    import torch
    from transformers import AutoModelForImageTextToText

    tokenizer = tiny_tokenizer(kind)
    config = tiny_config(kind, tokenizer, positions or POSITIONS[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config).eval()
    spread(model, seed)
    if kind == "paligemma":
        # Its words are written with the vectors that they are read with, so each would be followed by itself.
        for layer in model.model.language_model.layers:
            layer.mlp.down_proj.weight.data *= 8
            layer.post_feedforward_layernorm.weight.data += 4
            layer.post_attention_layernorm.weight.data += 4
    if kind == "qwen2_5_vl":
        model.model.visual.merger.mlp[-1].weight.data *= 3  # so that pictures differ to it
    end = tokenizer.token_to_id(ROLES[kind]["eos_token"])
    # So that some captions end before others, and none is empty.
    model.get_output_embeddings().weight.data[end] *= end_scale
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = tokenizer.token_to_id(ROLES[kind]["pad_token"])
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_documents(
        folder,
        {
            "preprocessor_config.json": {
                "do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255,
                **PIXELS["smolvlm" if kind == "idefics3" else kind],
            },
            "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **ROLES[kind]},
        },
    )  # fmt: skip
    if kind == "idefics3":
        write_documents(folder, {"processor_config.json": {"image_seq_len": 4, "processor_class": "Idefics3Processor"}})
    if kind in TEMPLATES:
        write_documents(folder, {"chat_template.json": {"chat_template": TEMPLATES[kind]}})
    return folder


def library_inputs(network: Any, picture: Picture, prompt_ids: Sequence[int]) -> dict[str, Any]:
    """What the library's own processor makes of a picture and our question, with the beginning of an answer."""
    import torch

    folder = Path(network.module.name_or_path)
    kind = network.module.config.model_type
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]}
    if kind == "qwen2_5_vl":
        inputs = _qwen_inputs(folder, question, picture)
    else:
        processor = library_processor(kind, folder)
        text = f"<image>{TASK}"
        if processor.chat_template is not None:
            text = processor.apply_chat_template([question], add_generation_prompt=True)
        inputs = dict(processor(text=text, images=picture.image, return_tensors="pt"))
    given = torch.tensor([list(prompt_ids)], dtype=torch.long)
    # An answer is typed 1 by PaliGemma, where the question is 0, and 0 by Qwen, where the picture is 1.
    kinds = {"attention_mask": 1, "token_type_ids": 1, "mm_token_type_ids": 0}
    for name in inputs.keys() & kinds.keys():
        inputs[name] = torch.cat((inputs[name], torch.full_like(given, kinds[name])), dim=1)
    inputs["input_ids"] = torch.cat((inputs["input_ids"], given), dim=1)
    inputs.pop("labels", None)
    return inputs


def library_processor(kind: str, folder: Path) -> Any:
    """A model's own processor; SmolVLM's wants to read films too, and writes prompts as Idefics 3 does."""
    from transformers import AutoProcessor, AutoTokenizer, Idefics3Processor
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    if kind == "smolvlm":
        pixels, tokenizer = SmolVLMImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        return Idefics3Processor(pixels, tokenizer, 4, TEMPLATES[kind])
    more = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return AutoProcessor.from_pretrained(folder, **more if kind == "llava" else {})


def _qwen_inputs(folder: Path, question: Mapping[str, Any], picture: Picture) -> dict[str, Any]:
    """What Qwen's processor makes; it cannot be had whole, because it wants to read films too."""
    from transformers import AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    pixels = Qwen2VLImageProcessorPil.from_pretrained(folder)(images=picture.image, return_tensors="pt")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [question], chat_template=TEMPLATES["qwen2_5_vl"], add_generation_prompt=True, tokenize=False
    )
    token = "<|image_pad|>"
    count = int(pixels["image_grid_thw"].prod()) // 4
    words = tokenizer(text.replace(token, token * count), return_tensors="pt", return_token_type_ids=False)
    kinds = (words["input_ids"] == tokenizer.convert_tokens_to_ids(token)).int()
    return {**words, **pixels, "mm_token_type_ids": kinds}
