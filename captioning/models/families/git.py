"""`git`: Microsoft's GIT (Wang et al. 2022), a decoder that reads a picture's patches as if they were words.

A CLIP image encoder gives one state a patch and one for the picture (CLS), projected to the size of words. These
see each other; words see all of them and the words before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.core.types import Capabilities, ModelInput, ModelSpec, PatchLayout, Picture
from captioning.models.attention_layers import find_layers
from captioning.models.decoding.self_attention import Opening, SelfAttentionDecoder
from captioning.models.family import ModelFamily
from captioning.models.files import name_of
from captioning.models.pixels import PixelRecipe, check_shape, lay_patches
from captioning.models.pretrained import kept_words
from captioning.models.random_weights import ORIGIN, build_random, made_up_words
from captioning.models.tokens import make_wordpiece, read_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor, nn
    from transformers import DynamicCache, GitForCausalLM

FAMILY_NAME = "git"
CAPABILITIES = Capabilities(
    attention_kind="self", explanation_methods=("gradient_attention", "relevance", "input_gradient")
)
# No revision is pinned: the hub says which one is meant when the model is downloaded, in safetensors only.
COCO = ModelSpec(
    model_id="microsoft/git-base-coco",
    family=FAMILY_NAME,
    title="GIT base (COCO)",
    license="MIT",
    capabilities=CAPABILITIES,
    repo_id="microsoft/git-base-coco",
    download_bytes=707_000_000,
    summary="One sequence of patches and words, tuned on COCO: short captions of everyday scenes; 707 MB.",
)
BASE = ModelSpec(
    model_id="microsoft/git-base",
    family=FAMILY_NAME,
    title="GIT base",
    license="MIT",
    capabilities=CAPABILITIES,
    repo_id="microsoft/git-base",
    download_bytes=707_000_000,
    summary="GIT as it was pretrained on ten million pictures from the web; 707 MB.",
)


class GitNetwork(SelfAttentionDecoder):
    """GIT with its tokenizer, as `NetworkCaptioner` wants it."""

    num_prefix_tokens = 1

    def __init__(self, module: GitForCausalLM, tokenizer: Tokenizer, pixels: PixelRecipe, origin: str = "") -> None:
        config = module.config
        super().__init__(tokenizer, (config.bos_token_id,), config.eos_token_id, origin=origin)
        self.module: nn.Module = module
        self.pixels = pixels
        self.max_tokens: int = config.max_position_embeddings
        self.word_layers = find_layers(module.git, r"encoder\.layer\.\d+\.attention\.self")
        self.mixers = find_layers(module.git, r"encoder\.layer\.\d+\.attention\.output\.dense")
        self.encoder_layers = find_layers(module.git, r"image_encoder\..*layers\.\d+\.self_attn")
        self._patch_size: int = config.vision_config.patch_size
        self._git: Any = module.git

    def preprocess(self, image: Picture) -> ModelInput:
        """The middle of the picture, as GIT's own processor cuts it out."""
        import torch

        values, region = self.pixels.apply(image.image)
        rows, columns = (length // self._patch_size for length in values.shape[1:])
        stride = (self._patch_size, self._patch_size)
        layout = lay_patches((rows, columns), stride, (values.shape[1], values.shape[2]), region)
        return ModelInput(torch.from_numpy(values), layout)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 3, side, side]` → projected states `[N, 1 + patches, hidden]` and unit image embeddings `[N, hidden]`.

        The embedding is the normalised mean of the patch states, which are what the decoder reads.
        """
        from torch.nn.functional import normalize

        states: Tensor = self._git.visual_projection(self._git.image_encoder(pixel_values).last_hidden_state)
        return states, normalize(states[:, 1:].float().mean(dim=1), dim=-1)

    def read_picture(self, states: Tensor, layout: PatchLayout) -> Opening:
        """Keys and values of the picture's states, which see each other and no word."""
        import torch
        from transformers import DynamicCache

        keys = DynamicCache()
        self._git.encoder(states, attention_mask=None, use_cache=True, **kept_words(keys))
        columns = torch.arange(states.shape[1], device=states.device)
        # Words are counted from 0: the picture's states have positions of their own, from the image encoder.
        return Opening([(layer.keys, layer.values) for layer in keys.layers], columns, next_position=0)

    def read_words(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, keys: DynamicCache, need_weights: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Logits and weights; GIT itself adds the picture's columns to the mask."""
        output = self.module(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **kept_words(keys),
            use_cache=True,
            output_attentions=need_weights,
        )
        return output.logits, output.attentions or ()


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> GitNetwork:
    """Load a folder in the hub's layout. Raises `ModelFilesError` where its files do not belong together."""
    from transformers import GitForCausalLM

    from captioning.models.pretrained import load_pretrained

    pixels = PixelRecipe.read(folder)
    tokenizer = read_tokenizer(folder)
    module = load_pretrained(GitForCausalLM, folder, dtype)
    config = module.config
    if config.num_image_with_embedding is not None:
        raise ModelFilesError(
            f"{name_of(folder)} is a GIT for {config.num_image_with_embedding} video frames at once; choose one for "
            f"pictures, such as {COCO.model_id}."
        )
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise ModelFilesError(
            f"{name_of(folder)}: the tokenizer has {tokenizer.get_vocab_size()} tokens and config.json says "
            f"{config.vocab_size}; copy both from one model."
        )
    side = config.vision_config.image_size
    check_shape(pixels, (side, side), name_of(folder))
    return GitNetwork(module.to(device).eval(), tokenizer, pixels)


def untrained(name: str, device: torch.device, dtype: torch.dtype) -> GitNetwork:
    """GIT base at full size with random weights, always the same ones, and a made-up vocabulary."""
    from transformers import GitConfig, GitForCausalLM

    if name != "git-base":
        raise UnknownModelError(f"There is no untrained {name!r}; choose git-base.")
    config = GitConfig(attn_implementation="eager")  # what shows its weights
    module = build_random(GitForCausalLM, config, device, dtype)
    pixels = PixelRecipe(
        224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), crop=(224, 224)
    )
    tokenizer = make_wordpiece(made_up_words(), max_word_characters=1000)
    return GitNetwork(module, tokenizer, pixels, ORIGIN)


def _recognises(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == FAMILY_NAME


FAMILY = ModelFamily(
    name=FAMILY_NAME,
    specs=(COCO, BASE),
    capabilities=CAPABILITIES,
    recognises=_recognises,
    files=(
        "config.json",
        "generation_config.json",
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
    untrained_names=("git-base",),
)
