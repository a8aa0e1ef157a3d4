"""Small models in the layouts of full-size ones: a BLIP folder as on the hub, and a `patch_captioner` folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from captioning.core.types import Picture
from captioning.models.families import patch_captioner
from captioning.models.families.patch_captioner.config import REFERENCE, PatchNetworkConfig
from captioning.models.families.patch_captioner.network import PatchNetwork
from captioning.models.families.patch_captioner.packaged_encoder import PackagedEncoder, read_weights
from captioning.models.tokens import make_byte_level, make_wordpiece

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS = (
    *("a", "the", "of", "in", "on", "with", "and", "is", "are", "woman", "man", "dog", "cat", "park", "flowers"),
    *("weather", "today", "photo", "photography", "grass", "red", "green", "blue", "brown", "small", "large", "tree"),
    *("sky", "water", "table", "runs", "sits", "walks", "people", "street", "car", "bird", "horse", "ball", "beach"),
)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def drawing(seed: int, size: tuple[int, int] = (60, 44)) -> Picture:
    """A picture of coloured noise in large blocks; the same for the same seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Picture(Image.fromarray(blocks).resize(size), f"drawing-{seed}", f"drawing-{seed}")


def blip_words() -> list[str]:
    """A vocabulary in the order of BERT's: special tokens, then characters, then words and endings."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    marks = list(".,!?'\"-[]()<>=/$#{}&;:0123456789")
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    return list(dict.fromkeys((*special, *letters, *(f"##{letter}" for letter in letters), *marks, *WORDS, "##ing")))


TINY_VISION = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "initializer_range": 0.4,
}  # fmt: skip


def write_tiny_clip(folder: Path, image_size: int = 32) -> Path:
    """Write a CLIP, both of its towers, as the hub has them."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 60, "max_position_embeddings": 8}
    vision = {"image_size": image_size, "patch_size": 8, **TINY_VISION}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    write_pixel_files(folder, "clip", image_size)
    return folder


def write_tiny_blip(folder: Path, seed: int = 7, end_bias: float = 2.0, **changes: Any) -> Path:
    """Write a BLIP of two layers for pictures of 32 pixels; `changes` go to its text configuration."""
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration

    words = blip_words()
    text = {
        "vocab_size": len(words) + 2, "bos_token_id": len(words), "pad_token_id": 0, "sep_token_id": 3,
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 40, "initializer_range": 0.35,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
        "image_size": 32, "patch_size": 8, "initializer_range": 0.4,
    }  # fmt: skip
    config = BlipConfig(text_config=text | changes, vision_config=vision, initializer_range=0.35)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BlipForConditionalGeneration(config).eval()
        # Biases start as zeros; a trained model's are not, and equal rows would hide mistakes.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += torch.randn_like(parameter) * 0.2
    # So that some captions end before others, and none is empty.
    model.text_decoder.cls.predictions.bias.data[3] = end_bias
    model.save_pretrained(folder)
    write_blip_extras(folder, make_wordpiece(words), words)
    return folder


def write_blip_extras(folder: Path, tokenizer: Tokenizer, words: list[str]) -> None:
    """The files beside the weights, as the hub's BLIP repositories have them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    special = {
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
    }
    documents = {
        "preprocessor_config.json": {
            "do_normalize": True, "do_resize": True, "image_mean": MEAN, "image_std": STD, "resample": 3,
            "image_processor_type": "BlipImageProcessor", "processor_class": "BlipProcessor",
            "size": {"height": 32, "width": 32},
        },
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            "do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer", **special,
        },
    }  # fmt: skip
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2), encoding="utf-8")


def tiny_bpe() -> Tokenizer:
    """A byte-pair tokenizer with the special tokens that `patch_captioner` knows."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS), "a photo of a dog", "the woman in the park"], trainer)
    return tokenizer


def write_tiny_patch_captioner(
    folder: Path, seed: int = 0, end_scale: float = 2.0, clip: bool = False, package: bool = False
) -> Path:
    """Write a `patch_captioner` of two layers for pictures of 32 pixels, through its own `save`.

    With `clip` its image encoder is a CLIP's. With `package` it is the one that a package ships, for pictures of 64
    pixels, and its tokens are whole words.
    """
    import torch

    tokenizer = tiny_words() if package else tiny_bpe()
    packaged = {"package": REFERENCE, "image_size": 64, "patch_size": 32, "detail_size": 32}
    shape: dict[str, Any] = {"image_size": 32, "patch_size": 8, **(packaged if package else {})}
    config = PatchNetworkConfig(
        vocab_size=tokenizer.get_vocab_size(),
        stem_stride=4,
        widths=(16, 24),
        depths=(1, 1),
        hidden_size=32,
        num_heads=4,
        num_layers=2,
        ffn_size=48,
        max_positions=40,
        clip_vision={"image_size": 32, "patch_size": 8, **TINY_VISION} if clip else None,
        **shape,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = PatchNetwork(config).eval()
        for parameter in module.text_decoder.parameters():
            parameter.data += torch.randn_like(parameter) * 0.25
        # So that some captions end before others, and none is empty.
        module.text_decoder.tokens.weight.data[tokenizer.token_to_id("<eos>")] *= end_scale
        if isinstance(module.image_encoder, PackagedEncoder):
            module.image_encoder.vision.load_state_dict(read_weights())
            module.image_encoder.name_ids[3, :2] = torch.tensor([7, 9])
    patch_captioner.save(module, tokenizer, folder, "# A tiny model for tests\n")
    return folder


def tiny_words() -> Tokenizer:
    """The tokenizer of whole words that training makes."""
    from captioning.training.data import Photo, make_tokenizer

    captions = ("a dog runs on the green grass", "two people walk along a street", "a red car near the house")
    return make_tokenizer([Photo("a.jpg", "train", "", captions * 3)], ["totem pole"])


def tiny_byte_level() -> Tokenizer:
    """A byte-pair tokenizer in GPT-2's manner: no blank before the first word, and one special token, the last."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator([" ".join(WORDS), "a photo of a dog", "the woman in the park"], trainer)
    model = json.loads(trained.to_str())["model"]
    return make_byte_level(model["vocab"] | {"<|endoftext|>": len(model["vocab"])}, [tuple(m) for m in model["merges"]])


def tiny_encoder(kind: str, **changes: Any) -> Any:
    """The configuration of an image encoder of two layers; but for `changes` it makes 4 × 4 patches of 32 pixels."""
    from transformers import CLIPVisionConfig, DeiTConfig, SwinConfig, ViTConfig

    if kind == "swin":
        shape = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 2, "patch_size": 4}
        return SwinConfig(**shape | {"image_size": 32, "initializer_range": 0.3} | changes)
    # DeiT is as wide as its decoder, so that nothing is projected.
    width = {"deit": 32}.get(kind, 24)
    layers = {"hidden_size": width, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    values = layers | {"image_size": 32, "patch_size": 8, "initializer_range": 0.4} | changes
    return {"vit": ViTConfig, "deit": DeiTConfig, "clip": CLIPVisionConfig}[kind](**values)


def tiny_decoder(kind: str, vocab_size: int, **changes: Any) -> Any:
    """The configuration of a text decoder of two layers and four heads."""
    from transformers import BertConfig, GPT2Config

    both = {"vocab_size": vocab_size, "initializer_range": 0.35, "is_decoder": True, "add_cross_attention": True}
    if kind == "gpt2":
        end = {"bos_token_id": vocab_size - 1, "eos_token_id": vocab_size - 1}
        return GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=40, **both | end | changes)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return BertConfig(**shape | {"max_position_embeddings": 40} | both | changes)


def write_tiny_encoder_decoder(
    folder: Path, vision: str = "vit", text: str = "gpt2", seed: int = 1, end: float = 1.0, **changes: Any
) -> Path:
    """Write a vision encoder-decoder as the hub has them; `changes` go to the image encoder's configuration."""
    import torch
    from transformers import VisionEncoderDecoderConfig, VisionEncoderDecoderModel

    tokenizer = tiny_byte_level() if text == "gpt2" else make_wordpiece(blip_words())
    size = tokenizer.get_vocab_size()
    encoder, decoder = tiny_encoder(vision, **changes), tiny_decoder(text, size)
    start_id, end_id = (size - 1, size - 1) if text == "gpt2" else (2, 3)
    config = VisionEncoderDecoderConfig(
        encoder=encoder.to_dict(), decoder=decoder.to_dict(), pad_token_id=end_id, eos_token_id=end_id,
        decoder_start_token_id=start_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionEncoderDecoderModel(config).eval()
        for parameter in model.parameters():
            parameter.data += torch.randn_like(parameter) * (0.2 if parameter.ndim == 1 else 0.1)
    # So that some captions end before others, and none is empty.
    if text == "gpt2":
        model.decoder.transformer.wte.weight.data[end_id] *= end
    else:
        model.decoder.cls.predictions.bias.data[end_id] = end
    for name, value in (("decoder_start_token_id", start_id), ("eos_token_id", end_id), ("pad_token_id", end_id)):
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    write_tokenizer_files(folder, tokenizer)
    write_pixel_files(folder, vision, encoder.image_size)
    return folder


def write_tokenizer_files(folder: Path, tokenizer: Tokenizer) -> None:
    """A tokenizer in all the files in which the hub has it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    is_gpt2 = (folder / "merges.txt").exists()
    special = (
        dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
        if is_gpt2
        else {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    )
    documents = {
        "special_tokens_map.json": special,
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer" if is_gpt2 else "BertTokenizer", **special},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2), encoding="utf-8")


def write_pixel_files(folder: Path, vision: str, image_size: Any) -> None:
    """The image processor of an encoder of this kind: DeiT and CLIP crop, each in its own way."""
    height, width = image_size if isinstance(image_size, list | tuple) else (image_size, image_size)
    plain = {"do_normalize": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    own: dict[str, dict[str, Any]] = {
        "vit": {"feature_extractor_type": "ViTFeatureExtractor", "resample": 2},
        "swin": {"image_processor_type": "ViTImageProcessor", "resample": 3, "rescale_factor": 1 / 255},
        "deit": {"feature_extractor_type": "DeiTFeatureExtractor", "resample": 3, "do_center_crop": True},
        "clip": {"feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "do_center_crop": True},
    }
    sizes: dict[str, Any] = {
        "vit": {"size": height if height == width else {"height": height, "width": width}},
        "swin": {"size": {"height": height, "width": width}},
        "deit": {"size": height + 5, "crop_size": {"height": height, "width": width}},
        "clip": {"size": height, "crop_size": height, "image_mean": MEAN, "image_std": STD},
    }
    document = plain | own[vision] | sizes[vision]
    (folder / "preprocessor_config.json").write_text(json.dumps(document, indent=2), encoding="utf-8")


def write_tiny_classifier(folder: Path, labels: tuple[str, ...] = ("cat", "dog", "bird"), kind: str = "vit") -> Path:
    """Write a picture classifier for pictures of 32 pixels."""
    import torch
    from transformers import AutoModelForImageClassification

    config = tiny_encoder(kind)
    config.architectures = [
        {"vit": "ViTForImageClassification", "deit": "DeiTForImageClassificationWithTeacher"}.get(
            kind, "SwinForImageClassification"
        )
    ]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForImageClassification.from_config(config).eval()
    model.save_pretrained(folder)
    write_pixel_files(folder, kind, config.image_size)
    return folder


def write_tiny_summarizer(folder: Path, positions: int = 64, seed: int = 4) -> Path:
    """Write a text encoder-decoder of two BERTs, as the hub has them."""
    import torch
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    tokenizer = make_wordpiece(blip_words())
    decoder = tiny_decoder("bert", tokenizer.get_vocab_size(), max_position_embeddings=positions)
    encoder = BertConfig(**decoder.to_dict() | {"is_decoder": False, "add_cross_attention": False})
    config = EncoderDecoderConfig(
        encoder=encoder.to_dict(), decoder=decoder.to_dict(), decoder_start_token_id=2, eos_token_id=3, pad_token_id=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EncoderDecoderModel(config).eval()
    model.save_pretrained(folder)
    write_tokenizer_files(folder, tokenizer)
    return folder
