"""`vision_encoder_decoder`: an image encoder and a text decoder joined by cross-attention, on transformers' own layers.

ViT, DeiT, Swin and CLIP look, GPT-2 and BERT write. Which tokens stand before the patches, how many patches there
are and which token starts a caption is read from the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.core.types import Capabilities, ModelInput, ModelSpec, Picture
from captioning.models.attention_layers import find_layers
from captioning.models.decoding.cross_attention import CrossAttentionDecoder
from captioning.models.family import ModelFamily
from captioning.models.files import name_of
from captioning.models.pixels import PixelRecipe, Size, check_shape, lay_patches
from captioning.models.pretrained import write_network
from captioning.models.random_weights import ORIGIN, build_random, made_up_words
from captioning.models.tokens import make_wordpiece, read_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor, nn
    from transformers import VisionEncoderDecoderModel

    from captioning.models.decoding.text_layers import TextLayers

FAMILY_NAME = "vision_encoder_decoder"
CAPABILITIES = Capabilities(explanation_methods=("gradient_attention", "relevance", "input_gradient"))
FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
)
NLPCONNECT = ModelSpec(
    model_id="nlpconnect/vit-gpt2-image-captioning",
    family=FAMILY_NAME,
    title="ViT-GPT2 (nlpconnect)",
    license="Apache-2.0",
    capabilities=CAPABILITIES,
    repo_id="nlpconnect/vit-gpt2-image-captioning",
    revision="93857e539f312a97c13f16976c2a43505fd76d87",
    download_bytes=982_000_000,
    summary="ViT and GPT-2 trained together on COCO: short captions, and a grid of 14 × 14 patches; 982 MB.",
)
YDSHIEH = ModelSpec(
    model_id="ydshieh/vit-gpt2-coco-en",
    family=FAMILY_NAME,
    title="ViT-GPT2 (ydshieh)",
    license="not stated",
    capabilities=CAPABILITIES,
    repo_id="ydshieh/vit-gpt2-coco-en",
    revision="5bebf1e9bb163535699a3c53fe47859fa088791c",
    download_bytes=982_000_000,
    summary="The model that nlpconnect's was made of: ViT and GPT-2 on COCO, as a proof of concept; 982 MB.",
)

PREFIX_TOKENS: Mapping[str, int] = {"vit": 1, "deit": 2, "clip_vision_model": 1, "swin": 0}
"""States that stand before the patches, by the encoder's `model_type`: CLS, and for DeiT the distillation token."""
DECODERS = ("gpt2", "bert")
# GPT-2's causal mask, which old files hold as if it were a weight, and a layer that captions do without.
_NEVER_READ = re.compile(r"attn\.(masked_)?bias$|crossattention\.(masked_)?bias$|position_ids$")
_POOLER = re.compile(r"^encoder\.pooler\.")


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """The states that an image encoder gives: `num_prefix_tokens`, then `rows` × `columns`, row by row.

    `stride` is the pixels from one patch to the next, `shape` those of a whole picture, both height and width.
    """

    num_prefix_tokens: int
    rows: int
    columns: int
    stride: Size
    shape: Size

    @classmethod
    def read(cls, encoder: Any, shape: Size) -> PatchGrid:
        """The grid that an encoder of this configuration makes of pictures of `shape` pixels."""
        patch = as_size(encoder.patch_size)
        prefix = PREFIX_TOKENS[encoder.model_type]
        if encoder.model_type != "swin":
            return cls(prefix, shape[0] // patch[0], shape[1] // patch[1], patch, shape)
        # Swin pads to whole patches, and after every stage but the last joins two by two, padding again.
        merged = 2 ** (len(encoder.depths) - 1)
        stride = (patch[0] * merged, patch[1] * merged)
        return cls(prefix, -(-shape[0] // stride[0]), -(-shape[1] // stride[1]), stride, shape)


class VisionEncoderDecoderNetwork(CrossAttentionDecoder):
    """An encoder-decoder with its tokenizer, as `NetworkCaptioner` wants it."""

    def __init__(
        self, module: VisionEncoderDecoderModel, tokenizer: Tokenizer, pixels: PixelRecipe, origin: str = ""
    ) -> None:
        start = _special_id(module, "decoder_start_token_id", "bos_token_id")
        super().__init__(tokenizer, (start,), _special_id(module, "eos_token_id"), origin=origin)
        self.module: nn.Module = module
        self.pixels = pixels
        self.grid = PatchGrid.read(module.config.encoder, pixels.shape)
        self.num_prefix_tokens = self.grid.num_prefix_tokens
        self.max_tokens: int = module.config.decoder.max_position_embeddings
        # Swin joins patches and attends within windows, so it has no such layers.
        self.encoder_layers = find_layers(module.encoder, r"(.*\.)?layers\.\d+\.(attention|self_attn)")
        self._parts: Any = module

    def preprocess(self, image: Picture) -> ModelInput:
        """The picture as its recipe says; the boxes of the patches undo a crop."""
        import torch

        values, region = self.pixels.apply(image.image)
        layout = lay_patches((self.grid.rows, self.grid.columns), self.grid.stride, self.grid.shape, region)
        return ModelInput(torch.from_numpy(values), layout)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 3, H, W]` → states as the decoder reads them `[N, prefix + patches, hidden]`, embeddings `[N, hidden]`.

        The embedding is the normalised mean of the encoder's own patch states, before they are projected to the
        decoder's width.
        """
        from torch.nn.functional import normalize

        states: Tensor = self._parts.encoder(pixel_values).last_hidden_state
        embeds = normalize(states[:, self.num_prefix_tokens :].float().mean(dim=1), dim=-1)
        project = getattr(self._parts, "enc_to_dec_proj", None)
        return (states if project is None else project(states)), embeds

    def text_layers(self) -> TextLayers:
        """Return the layers of the text decoder."""
        decoder, config = self._parts.decoder, self._parts.config.decoder
        if config.model_type == "gpt2":
            from captioning.models.decoding.gpt2_layers import gpt2_layers

            return gpt2_layers(decoder.transformer, decoder.lm_head, config.num_attention_heads)
        from captioning.models.decoding.bert_layers import bert_layers

        return bert_layers(decoder.bert, decoder.cls, config.num_attention_heads)


def as_size(value: Any) -> Size:
    """Height and width of a configuration's number or pair of numbers."""
    height, width = value if isinstance(value, list | tuple) else (value, value)
    return int(height), int(width)


def _special_id(module: VisionEncoderDecoderModel, *names: str) -> int:
    """The first of these special tokens that a configuration of the model says, the one for generating first."""
    sources = (module.generation_config, module.config, module.config.decoder)
    for name in names:
        for source in sources:
            value = getattr(source, name, None)
            if isinstance(value, list | tuple) and value:
                value = value[0]
            if isinstance(value, int):
                return value
    raise ModelFilesError(
        f"The model says nowhere what its {names[0]} is; add it to generation_config.json, or choose another model."
    )


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> VisionEncoderDecoderNetwork:
    """Load a folder in the hub's layout. Raises `ModelFilesError` where its files do not belong together."""
    from transformers import VisionEncoderDecoderModel

    from captioning.models.pretrained import check_loading, read_pretrained

    name = name_of(folder)
    pixels = PixelRecipe.read(folder)
    tokenizer = read_tokenizer(folder)
    module, info = read_pretrained(VisionEncoderDecoderModel, folder, dtype)
    if any(_POOLER.search(key) for key in info["missing_keys"]):
        # The library has made it up; nothing random may stay in a trained model, read or not.
        module.encoder.pooler = None
    check_loading(
        {
            **info,
            "missing_keys": [key for key in info["missing_keys"] if not _POOLER.search(key)],
            "unexpected_keys": [key for key in info["unexpected_keys"] if not _NEVER_READ.search(key)],
        },
        name,
    )
    check_sizes(module.config.encoder, module.config.decoder, pixels, tokenizer, name)
    return VisionEncoderDecoderNetwork(module.to(device).eval(), tokenizer, pixels)


def check_sizes(encoder: Any, decoder: Any, pixels: PixelRecipe, tokenizer: Tokenizer, name: str) -> None:
    """Raise `ModelFilesError` unless pictures and tokens are of the sizes that two configurations ask for."""
    if tokenizer.get_vocab_size() > decoder.vocab_size:
        raise ModelFilesError(
            f"{name}: the tokenizer has {tokenizer.get_vocab_size()} tokens and config.json says "
            f"{decoder.vocab_size}; copy both from one model."
        )
    # Swin's windows fit any picture, unless it learned a state for every place.
    if encoder.model_type != "swin" or encoder.use_absolute_embeddings:
        check_shape(pixels, as_size(encoder.image_size), name)


def untrained(name: str, device: torch.device, dtype: torch.dtype) -> VisionEncoderDecoderNetwork:
    """ViT base and GPT-2 at full size with random weights, always the same ones, and a made-up vocabulary."""
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    if name != "vit-gpt2":
        raise UnknownModelError(f"There is no untrained {name!r}; choose vit-gpt2.")
    text = GPT2Config(add_cross_attention=True, is_decoder=True)
    config = VisionEncoderDecoderConfig(encoder=ViTConfig().to_dict(), decoder=text.to_dict())
    config._attn_implementation = "eager"  # what shows its weights
    module = build_random(VisionEncoderDecoderModel, config, device, dtype)
    words = [*made_up_words(text.vocab_size - 1), "<|endoftext|>"]
    pixels = PixelRecipe((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), resample=2)
    return VisionEncoderDecoderNetwork(module, make_wordpiece(words, max_word_characters=1000), pixels, ORIGIN)


def _recognises(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == "vision-encoder-decoder"


def _object(config: Mapping[str, Any]) -> str | None:
    """Why an encoder-decoder cannot be used: its halves are told by their own `model_type`."""
    encoder, decoder = (config.get(half) or {} for half in ("encoder", "decoder"))
    for verb, half, known in (("looks", encoder, (*PREFIX_TOKENS,)), ("writes", decoder, DECODERS)):
        if half.get("model_type") not in known:
            kind = half.get("model_type", "not named")
            return f"{verb} with a kind of network that is not known here ({kind}); choose one with {', '.join(known)}"
    if decoder.get("add_cross_attention") is False:
        return "has no cross-attention, so its words cannot look at the picture; choose another model"
    return None


FAMILY = ModelFamily(
    name=FAMILY_NAME,
    specs=(NLPCONNECT, YDSHIEH),
    capabilities=CAPABILITIES,
    recognises=_recognises,
    files=FILES,
    load=load,
    untrained=untrained,
    untrained_names=("vit-gpt2",),
    objection=_object,
    save=write_network,
)
