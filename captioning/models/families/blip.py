"""`blip`: Salesforce's BLIP for captions (Li et al. 2022), on transformers' own layers.

A vision transformer gives one state a patch and one for the picture (CLS); a BERT-like decoder writes words and
looks at all of them in every layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.core.types import Capabilities, ModelInput, ModelSpec, PatchLayout, Picture
from captioning.models.attention_layers import find_layers
from captioning.models.decoding.cross_attention import CrossAttentionDecoder
from captioning.models.family import ModelFamily
from captioning.models.files import name_of
from captioning.models.pixels import PixelRecipe, check_shape
from captioning.models.pretrained import write_network
from captioning.models.random_weights import ORIGIN, build_random, made_up_words
from captioning.models.tokens import make_wordpiece, read_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor, nn
    from transformers import BlipForConditionalGeneration

    from captioning.models.decoding.text_layers import TextLayers

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


class BlipNetwork(CrossAttentionDecoder):
    """BLIP with its tokenizer, as `NetworkCaptioner` wants it."""

    num_prefix_tokens = 1

    def __init__(
        self, module: BlipForConditionalGeneration, tokenizer: Tokenizer, pixels: PixelRecipe, origin: str = ""
    ) -> None:
        text, vision = module.config.text_config, module.config.vision_config
        super().__init__(tokenizer, (text.bos_token_id,), text.sep_token_id, extra_tokens=_EXTRA_TOKENS, origin=origin)
        self.module: nn.Module = module
        self.pixels = pixels
        self.max_tokens: int = text.max_position_embeddings
        self.encoder_layers = find_layers(module.vision_model, r"encoder\.layers\.\d+\.self_attn")
        self._blip: Any = module
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

        states: Tensor = self._blip.vision_model(pixel_values).last_hidden_state
        return states, normalize(states[:, 1:].float().mean(dim=1), dim=-1)

    def text_layers(self) -> TextLayers:
        """Return the layers of BLIP's text decoder, which is a BERT."""
        from captioning.models.decoding.bert_layers import bert_layers

        decoder = self._blip.text_decoder
        return bert_layers(decoder.bert, decoder.cls, self._blip.config.text_config.num_attention_heads)


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
    save=write_network,
)
