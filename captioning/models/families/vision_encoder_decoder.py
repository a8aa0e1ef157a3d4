"""`vision_encoder_decoder`: an image encoder and a text decoder joined by cross-attention, on transformers' own layers.

ViT, DeiT, Swin and CLIP look, GPT-2 and BERT write. Which tokens stand before the patches, how many patches there
are and which token starts a caption is read from the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.core.types import Capabilities, ModelInput, ModelSpec, PatchLayout, Picture
from captioning.models.attention_layers import AttentionLayers, find_layers
from captioning.models.decoding.cross_attention import PictureCache, Projection, scaled_heads, split_heads
from captioning.models.family import ModelFamily
from captioning.models.files import name_of
from captioning.models.pixels import PixelRecipe, Size, check_shape, lay_patches
from captioning.models.pretrained import kept_words
from captioning.models.random_weights import ORIGIN, build_random, made_up_words
from captioning.models.tokens import describe_kind, make_wordpiece, read_tokenizer, token_text

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor, nn
    from transformers import VisionEncoderDecoderModel

    from captioning.models.decoding.text_decoder import TextLayer, TextLayers

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


class VisionEncoderDecoderNetwork:
    """An encoder-decoder with its tokenizer, as `NetworkCaptioner` wants it; the two halves work apart."""

    def __init__(
        self, module: VisionEncoderDecoderModel, tokenizer: Tokenizer, pixels: PixelRecipe, origin: str = ""
    ) -> None:
        text = module.config.decoder
        self.module: nn.Module = module
        self.image_encoder: nn.Module = module.encoder
        self.text_decoder: nn.Module = module.decoder
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.origin = origin
        self.grid = PatchGrid.read(module.config.encoder, pixels.shape)
        self.num_prefix_tokens = self.grid.num_prefix_tokens
        self.max_tokens: int = text.max_position_embeddings
        self.start_ids: tuple[int, ...] = (_special_id(module, "decoder_start_token_id", "bos_token_id"),)
        self.end_id: int = _special_id(module, "eos_token_id")
        self._project: nn.Module | None = getattr(module, "enc_to_dec_proj", None)
        self._words: nn.Module = module.decoder.base_model
        self._head: nn.Module = module.decoder.lm_head if text.model_type == "gpt2" else module.decoder.cls
        self._num_heads: int = text.num_attention_heads
        self._writes_with_gpt2 = text.model_type == "gpt2"

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

        states: Tensor = self.image_encoder(pixel_values).last_hidden_state
        embeds = normalize(states[:, self.num_prefix_tokens :].float().mean(dim=1), dim=-1)
        return (states if self._project is None else self._project(states)), embeds

    def start(self, states: Tensor, layout: PatchLayout | None = None) -> PictureCache:
        """A fresh cache for rows that see `states [rows, prefix + patches, hidden]`; equal rows are computed once."""
        return PictureCache.start(states, [self._projection(attention) for attention in self._cross_attentions()])

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: PictureCache) -> Tensor:
        """Logits `[rows, new, vocab]`; positions are counted without padding."""
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
        logits: Tensor = self.text_decoder(
            input_ids,
            attention_mask=attention_mask,
            position_ids=positions,
            encoder_hidden_states=cache.states,
            **kept_words(cache.keys),
            use_cache=True,
        ).logits
        return logits

    def select(self, cache: PictureCache, rows: Tensor) -> PictureCache:
        """The cache with its rows replaced by `rows` of the old one, in place."""
        return cache.select(rows)

    def teach(self, input_ids: Tensor, states: Tensor) -> Tensor:
        """Logits `[N, L, vocab]` of whole captions, for training: the library's own decoder, dropout included."""
        import torch

        states = states.repeat_interleave(len(input_ids) // len(states), dim=0)
        logits: Tensor = self.text_decoder(
            input_ids, attention_mask=torch.ones_like(input_ids), encoder_hidden_states=states, use_cache=False
        ).logits
        return logits

    def attend(
        self, input_ids: Tensor, states: Tensor, head_mask: Tensor | None, layout: PatchLayout | None = None
    ) -> Tensor:
        """Cross-attention `[layers, N, heads, L, prefix + patches]` from one pass.

        `head_mask [layers, heads]` scales each head's output before the layer mixes the heads.
        """
        import torch

        with self.scaled_heads(head_mask):
            weights = self._words(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                position_ids=torch.arange(input_ids.shape[1], device=input_ids.device)[None].expand_as(input_ids),
                encoder_hidden_states=states,
                use_cache=False,
                output_attentions=True,
            ).cross_attentions
        num_layers = len(self._cross_attentions())
        if len(weights) != num_layers:
            raise RuntimeError(
                f"{len(weights)} attention maps for {num_layers} layers; load the model with eager attention"
            )
        return torch.stack(weights)

    @property
    def attention_layers(self) -> AttentionLayers:
        """What weighs in the decoder and in the encoder; Swin joins patches and weighs in windows, so it has none."""
        attention = r"h\.\d+\.attn" if self._writes_with_gpt2 else r"encoder\.layer\.\d+\.attention"
        return AttentionLayers(
            words=find_layers(self._words, attention),
            cross=self._cross_attentions(),
            encoder=find_layers(self.image_encoder, r"(.*\.)?layers\.\d+\.(attention|self_attn)"),
        )

    def scaled_heads(self, head_mask: Tensor | None) -> AbstractContextManager[None]:
        """Scale what each head of the cross-attention hands on."""
        attentions = self._cross_attentions()
        return scaled_heads([a.c_proj if self._writes_with_gpt2 else a.output.dense for a in attentions], head_mask)

    def text_layers(self) -> TextLayers:
        """The decoder's layers and what they do."""
        from captioning.models.decoding.text_decoder import TextLayers, bert_layer

        words: Any = self._words
        if self._writes_with_gpt2:
            return TextLayers(
                embed=lambda input_ids, positions: words.wte(input_ids) + words.wpe(positions),
                layers=[_gpt2_layer(block) for block in words.h],
                head=lambda x: self._head(words.ln_f(x)),
                num_heads=self._num_heads,
                norm_first=True,
            )
        embeddings = words.embeddings

        def embed(input_ids: Tensor, positions: Tensor) -> Tensor:
            # Every word is of the first kind: this decoder reads one text, not two.
            kinds = embeddings.token_type_embeddings.weight[0]
            states = embeddings.word_embeddings(input_ids) + embeddings.position_embeddings(positions) + kinds
            embedded: Tensor = embeddings.LayerNorm(states)
            return embedded

        return TextLayers(
            embed=embed,
            layers=[bert_layer(layer) for layer in words.encoder.layer],
            head=self._head,
            num_heads=self._num_heads,
            norm_first=False,
        )

    def text_to_ids(self, text: str) -> list[int]:
        """The tokens of a text without start and end, as the model's own tokenizer splits it; empty for blanks.

        Blanks at its ends are dropped: to GPT-2 a space belongs to the word that follows.
        """
        return list(self.tokenizer.encode(text.strip(), add_special_tokens=False).ids)

    def ids_to_text(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()

    def token_text(self, token_id: int) -> str:
        """One token as text; it begins with a space where it begins a word, to GPT-2 from the second word on."""
        return token_text(self.tokenizer, token_id)

    def describe_tokenizer(self) -> Mapping[str, str | int]:
        """Name, size and special tokens of the vocabulary, and where it comes from if not from the model."""
        described: dict[str, str | int] = {
            "type": describe_kind(self.tokenizer),
            "vocabulary": self.tokenizer.get_vocab_size(),
            "start token": self.token_text(self.start_ids[0]),
            "end token": self.token_text(self.end_id),
        }
        return described | ({"origin": self.origin} if self.origin else {})

    def _cross_attentions(self) -> list[Any]:
        layers = self._words.get_submodule("h" if self._writes_with_gpt2 else "encoder.layer")
        return [layer.get_submodule("crossattention") for layer in layers.children()]

    def _projection(self, attention: Any) -> Projection:
        def project(states: Tensor) -> tuple[Tensor, Tensor]:
            if self._writes_with_gpt2:
                keys, values = attention.c_attn(states).chunk(2, dim=-1)
            else:
                keys, values = attention.self.key(states), attention.self.value(states)
            return split_heads(keys, self._num_heads), split_heads(values, self._num_heads)

        return project


def _gpt2_layer(block: Any) -> TextLayer:
    from captioning.models.decoding.text_decoder import PictureAttention, TextLayer, WordAttention

    words, picture = block.attn, block.crossattention

    def project_words(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values = words.c_attn(x).chunk(3, dim=-1)
        return query, keys, values

    def project_picture(states: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = picture.c_attn(states).chunk(2, dim=-1)
        return keys, values

    return TextLayer(
        words=WordAttention(project_words, words.c_proj, block.ln_1, words.scaling),
        picture=PictureAttention(picture.q_attn, project_picture, picture.c_proj, block.ln_cross_attn, picture.scaling),
        feed_forward=block.mlp,
        feed_forward_norm=block.ln_2,
    )


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


def save(network: VisionEncoderDecoderNetwork, folder: Path, card: str) -> None:
    """Write a folder that `load` and transformers read."""
    from captioning.models.pretrained import write_folder

    write_folder(network.module, network.tokenizer, network.pixels, folder, card)


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
    save=save,
)
