"""`blip`: Salesforce's BLIP for captions (Li et al. 2022), on transformers' own layers.

A vision transformer gives one state a patch and one for the picture (CLS); a BERT-like decoder writes words and
looks at all of them in every layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.core.types import Capabilities, ModelInput, ModelSpec, PatchLayout, Picture
from captioning.models.attention_layers import AttentionLayers, find_layers
from captioning.models.decoding.cross_attention import PictureCache, Projection, scaled_heads, split_heads
from captioning.models.family import ModelFamily
from captioning.models.files import name_of
from captioning.models.pixels import PixelRecipe, check_shape
from captioning.models.pretrained import kept_words
from captioning.models.random_weights import ORIGIN, build_random, made_up_words
from captioning.models.tokens import describe_kind, make_wordpiece, read_tokenizer, token_text

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor, nn
    from transformers import BlipForConditionalGeneration

    from captioning.models.decoding.text_decoder import TextLayers

FAMILY_NAME = "blip"
ARCHITECTURE = "BlipForConditionalGeneration"
CAPABILITIES = Capabilities(explanation_methods=("gradient_attention", "relevance", "input_gradient"))
BASE = ModelSpec(
    model_id="Salesforce/blip-image-captioning-base",
    family=FAMILY_NAME,
    title="BLIP base",
    license="BSD-3-Clause",
    capabilities=CAPABILITIES,
    repo_id="Salesforce/blip-image-captioning-base",
    revision="9cfcdbcaccbcadb2b53b36d4b50042c4eeaa0c25",
    download_bytes=990_000_000,
    summary="Captions photographs of everyday scenes well; 990 MB to download once.",
)
LARGE = ModelSpec(
    model_id="Salesforce/blip-image-captioning-large",
    family=FAMILY_NAME,
    title="BLIP large",
    license="BSD-3-Clause",
    capabilities=CAPABILITIES,
    repo_id="Salesforce/blip-image-captioning-large",
    revision="353689b859fcf0523410b1806dace5fb46ecdf41",
    download_bytes=1_880_000_000,
    summary="As BLIP base with a larger image encoder: richer captions, about three times slower to look.",
)
_UNTRAINED_VISION: Mapping[str, Mapping[str, int]] = {
    "blip-base": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "blip-large": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
}
# The models have two words more than their tokenizer knows.
_EXTRA_TOKENS = ("[DEC]", "[ENC]")


class BlipNetwork:
    """BLIP with its tokenizer, as `NetworkCaptioner` wants it; `image_encoder` and `text_decoder` work apart."""

    num_prefix_tokens = 1

    def __init__(
        self, module: BlipForConditionalGeneration, tokenizer: Tokenizer, pixels: PixelRecipe, origin: str = ""
    ) -> None:
        text = module.config.text_config
        vision = module.config.vision_config
        self.module: nn.Module = module
        self.image_encoder: nn.Module = module.vision_model
        self.text_decoder: nn.Module = module.text_decoder
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.origin = origin
        self.max_tokens: int = text.max_position_embeddings
        self.start_ids: tuple[int, ...] = (text.bos_token_id,)
        self.end_id: int = text.sep_token_id
        self._num_layers: int = text.num_hidden_layers
        self._num_heads: int = text.num_attention_heads
        side = vision.image_size // vision.patch_size
        self._layout = PatchLayout.from_grid(side, side)

    def preprocess(self, image: Picture) -> ModelInput:
        """The whole picture squeezed into a square, as BLIP's own processor does."""
        import torch

        values, _ = self.pixels.apply(image.image)
        return ModelInput(torch.from_numpy(values), self._layout)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 3, side, side]` → states `[N, 1 + patches, hidden]` and unit image embeddings `[N, hidden]`.

        The embedding is the normalised mean of the patch states: fine-tuning for captions has no loss of its own
        on the CLS state, but every patch state is what the decoder reads.
        """
        from torch.nn.functional import normalize

        states: Tensor = self.image_encoder(pixel_values).last_hidden_state
        return states, normalize(states[:, 1:].float().mean(dim=1), dim=-1)

    def start(self, states: Tensor, layout: PatchLayout | None = None) -> PictureCache:
        """A fresh cache for rows that see `states [rows, 1 + patches, hidden]`; equal rows are computed once."""
        return PictureCache.start(states, [self._projection(layer) for layer in self._layers()])

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
        """Cross-attention `[layers, N, heads, L, 1 + patches]` from one pass.

        `head_mask [layers, heads]` scales each head's output before the layer mixes the heads.
        """
        import torch

        with self.scaled_heads(head_mask):
            weights = self.text_decoder.get_submodule("bert")(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                position_ids=torch.arange(input_ids.shape[1], device=input_ids.device)[None].expand_as(input_ids),
                encoder_hidden_states=states,
                is_decoder=True,
                use_cache=False,
                output_attentions=True,
            ).cross_attentions
        if len(weights) != self._num_layers:
            raise RuntimeError(
                f"{len(weights)} attention maps for {self._num_layers} layers; load BLIP with eager attention"
            )
        return torch.stack(weights)

    @property
    def attention_layers(self) -> AttentionLayers:
        """What weighs in the decoder and in the vision transformer."""
        return AttentionLayers(
            words=[layer.attention for layer in self._layers()],
            cross=[layer.crossattention for layer in self._layers()],
            encoder=find_layers(self.image_encoder, r"encoder\.layers\.\d+\.self_attn"),
        )

    def scaled_heads(self, head_mask: Tensor | None) -> AbstractContextManager[None]:
        """Scale what each head of the cross-attention hands on."""
        return scaled_heads([layer.crossattention.output.dense for layer in self._layers()], head_mask)

    def text_layers(self) -> TextLayers:
        """The decoder's layers and what they do."""
        from captioning.models.decoding.text_decoder import TextLayers, bert_layer

        embeddings: Any = self.text_decoder.get_submodule("bert.embeddings")

        def embed(input_ids: Tensor, positions: Tensor) -> Tensor:
            words = embeddings.word_embeddings(input_ids) + embeddings.position_embeddings(positions)
            embedded: Tensor = embeddings.LayerNorm(words)
            return embedded

        return TextLayers(
            embed=embed,
            layers=[bert_layer(layer) for layer in self._layers()],
            head=self.text_decoder.get_submodule("cls"),
            num_heads=self._num_heads,
            norm_first=False,
        )

    def text_to_ids(self, text: str) -> list[int]:
        """The tokens of a text, without [CLS] and [SEP]: a prompt that ends with [SEP] would already be finished."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def ids_to_text(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()

    def token_text(self, token_id: int) -> str:
        """One token as text; it begins with a space where it begins a word."""
        extra = token_id - self.tokenizer.get_vocab_size()
        return _EXTRA_TOKENS[extra] if 0 <= extra < len(_EXTRA_TOKENS) else token_text(self.tokenizer, token_id)

    def describe_tokenizer(self) -> Mapping[str, str | int]:
        """Name, size and special tokens of the vocabulary, and where it comes from if not from the model."""
        described: dict[str, str | int] = {
            "type": describe_kind(self.tokenizer),
            "vocabulary": self.tokenizer.get_vocab_size(),
            "start token": self.token_text(self.start_ids[0]),
            "end token": self.token_text(self.end_id),
        }
        return described | ({"origin": self.origin} if self.origin else {})

    def _layers(self) -> list[Any]:
        return list(self.text_decoder.get_submodule("bert.encoder.layer").children())

    def _projection(self, layer: Any) -> Projection:
        attention = layer.crossattention.self

        def project(states: Tensor) -> tuple[Tensor, Tensor]:
            keys, values = (split_heads(linear(states), self._num_heads) for linear in (attention.key, attention.value))
            return keys, values

        return project


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> BlipNetwork:
    """Load a folder in the hub's layout. Raises `ModelFilesError` where its files do not belong together."""
    from transformers import BlipForConditionalGeneration

    from captioning.models.pretrained import load_pretrained

    pixels = PixelRecipe.read(folder)
    tokenizer = read_tokenizer(folder)
    module = load_pretrained(BlipForConditionalGeneration, folder, dtype)
    text, vision = module.config.text_config, module.config.vision_config
    if tokenizer.get_vocab_size() > text.vocab_size:
        raise ModelFilesError(
            f"{name_of(folder)}: the tokenizer has {tokenizer.get_vocab_size()} tokens and config.json says "
            f"{text.vocab_size}; copy both from one model."
        )
    check_shape(pixels, (vision.image_size, vision.image_size), name_of(folder))
    return BlipNetwork(module.to(device).eval(), tokenizer, pixels)


def save(network: BlipNetwork, folder: Path, card: str) -> None:
    """Write a folder that `load` and transformers read."""
    from captioning.models.pretrained import write_folder

    write_folder(network.module, network.tokenizer, network.pixels, folder, card)


def untrained(name: str, device: torch.device, dtype: torch.dtype) -> BlipNetwork:
    """BLIP base or large at full size with random weights, always the same ones, and a made-up vocabulary."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    if name not in _UNTRAINED_VISION:
        raise UnknownModelError(f"There is no untrained {name!r}; choose from {', '.join(_UNTRAINED_VISION)}.")
    config = BlipConfig(
        text_config={"num_attention_heads": 12},
        vision_config={"image_size": 384, "patch_size": 16, **_UNTRAINED_VISION[name]},
    )
    config._attn_implementation = "eager"  # what shows its weights
    module = build_random(BlipForConditionalGeneration, config, device, dtype)
    pixels = PixelRecipe((384, 384), (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    tokenizer = make_wordpiece(made_up_words(), max_word_characters=1000)
    return BlipNetwork(module, tokenizer, pixels, ORIGIN)


def _recognises(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == FAMILY_NAME and ARCHITECTURE in (config.get("architectures") or [ARCHITECTURE])


FAMILY = ModelFamily(
    name=FAMILY_NAME,
    specs=(BASE, LARGE),
    capabilities=CAPABILITIES,
    recognises=_recognises,
    files=(
        "config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
        "model.safetensors",
        "model.safetensors.index.json",
        "model-*.safetensors",
    ),
    load=load,
    untrained=untrained,
    untrained_names=tuple(_UNTRAINED_VISION),
    save=save,
)
