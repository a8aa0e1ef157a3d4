"""`patch_captioner`, our own: a grid of patch features and a Transformer decoder that reads it.

A model is a folder of `config.json`, `model.safetensors`, `tokenizer.json` and `README.md`, on disk as on the hub.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError
from captioning.core.types import Capabilities, ModelInput, ModelSpec, PatchLayout, Picture
from captioning.core.whole_files import write_whole
from captioning.models.attention_layers import find_layers
from captioning.models.decoding.cross_attention import CrossAttentionDecoder
from captioning.models.family import ModelFamily
from captioning.models.files import name_of
from captioning.models.pixels import PixelRecipe
from captioning.models.random_weights import without_random_weights

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor

    from captioning.models.decoding.text_layers import TextLayers
    from captioning.models.families.patch_captioner.network import PatchNetwork

MODEL_TYPE = "patch_captioner"
PAD, START, END = "<pad>", "<bos>", "<eos>"
CAPABILITIES = Capabilities(explanation_methods=("gradient_attention", "relevance", "input_gradient"))
CLIP_SHAPE = "patch-captioner-clip"
CLIP_DECODER: Mapping[str, Any] = {"hidden_size": 512, "num_heads": 8, "num_layers": 6, "ffn_size": 2048}
"""The decoder that reads CLIP's features unless another shape is asked for."""
EMBEDDED = ModelSpec(
    model_id="embedded",
    family=MODEL_TYPE,
    title="Embedded captioner",
    license="research and education only (weights)",
    capabilities=CAPABILITIES,
    revision="6",
    summary=(
        "Small, ships with the program, works with no network. Good for people and dogs outdoors and for single things "
        "seen plainly; weak at crowds, indoor scenes, text and counting."
    ),
)


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of `PAD`, `START` or `END`. Raises `ModelFilesError` for a tokenizer that has none."""
    number = tokenizer.token_to_id(token)
    if number is None:
        raise ModelFilesError(f"The tokenizer has no {token}, so it is not a patch_captioner's.")
    return number


class PatchCaptionerNetwork(CrossAttentionDecoder):
    """A `PatchNetwork` with its tokenizer, as `NetworkCaptioner` wants it."""

    module: PatchNetwork

    def __init__(self, module: PatchNetwork, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer, (special_id(tokenizer, START),), special_id(tokenizer, END))
        self.module = module
        self.config = module.config
        self.num_prefix_tokens: int = module.image_encoder.num_prefix_tokens
        self.max_tokens = self.config.max_positions
        # Only CLIP's image encoder has any.
        self.encoder_layers = find_layers(module, r"image_encoder\.vision\..*layers\.\d+\.self_attn")
        self._joint_id = self.text_to_ids("and")[0]
        side = self.config.image_size
        self.pixels = PixelRecipe(
            (side, side), self.config.image_mean, self.config.image_std, detail=self.config.detail_size or None
        )
        self._layout = PatchLayout.from_grid(self.config.grid_size, self.config.grid_size)

    def preprocess(self, image: Picture) -> ModelInput:
        """The whole picture squeezed into a square, as in training."""
        import torch

        values, _ = self.pixels.apply(image.image)
        return ModelInput(torch.from_numpy(values), self._layout)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 3, side, side]` → features `[N, prefix + patches, hidden]` and unit image embeddings `[N, width]`."""
        patches, embeds = self.module.image_encoder(pixel_values)
        return patches, embeds

    def text_layers(self) -> TextLayers:
        """Return the decoder's layers and what they do."""
        return self.module.text_decoder.declare()

    @property
    def has_whole_words(self) -> bool:
        """True where every word it writes is one token, and bytes only spell what it reads."""
        return bool(getattr(self.tokenizer.model, "ignore_merges", False))

    def not_first(self) -> Tensor:
        """Return which tokens begin no word, `[vocab]`: those that only lengthen one, and the end of a caption."""
        return self._not_first

    def never_written(self) -> Tensor:
        """Return which tokens are only ever read, `[vocab]`: those that start and fill sequences, and single bytes."""
        return self._never_written

    @cached_property
    def _not_first(self) -> Tensor:
        import torch

        barred = torch.tensor([self.token_text(n)[:1].isalnum() for n in range(self.config.vocab_size)])
        barred[self.end_id] = True
        return barred

    @cached_property
    def _never_written(self) -> Tensor:
        import torch

        read = torch.zeros(self.config.vocab_size, dtype=torch.bool)
        read[[special_id(self.tokenizer, name) for name in (START, PAD)]] = True
        if self.has_whole_words:
            pieces = [self.tokenizer.id_to_token(n) or "" for n in range(self.config.vocab_size)]
            read |= torch.tensor([len(piece) == 1 for piece in pieces])
        return read

    def not_after(self, token_ids: Sequence[int]) -> Collection[int]:
        """Return which tokens would say a phrase twice, as in "blue and blue"; none where tokens are no words."""
        return repeated_next(token_ids, self._joint_id) if self.has_whole_words else ()

    def describe_tokenizer(self) -> Mapping[str, str | int]:
        """Return name, size and special tokens of the vocabulary."""
        described = super().describe_tokenizer()
        return {**described, "type": "whole words, lower-cased"} if self.has_whole_words else described


def repeated_next(words: Sequence[int], joint: int | None) -> set[int]:
    """The words after which a phrase would follow itself, the word `joint` between or not, or three words come again.

    Few photographs teach a small decoder to go round in circles; what is said once is not said better twice.
    """
    said, count = list(words), len(words)
    found = {said[place + 2] for place in range(count - 2) if said[place : place + 2] == said[count - 2 :]}
    for length in range(1, (count + 1) // 2 + 1):
        begun = said[count - length + 1 :]
        if said[count - 2 * length + 1 : count - length] == begun and count >= 2 * length - 1:
            found.add(said[count - length])
        if count >= 2 * length and said[count - length] == joint:
            before = said[count - 2 * length : count - length]
            if before[:-1] == begun:
                found.add(before[-1])
    return found


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> PatchCaptionerNetwork:
    """Load a folder that `save` wrote. Raises `ModelFilesError` where its files do not belong together."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    from captioning.models.families.patch_captioner.config import PatchNetworkConfig
    from captioning.models.families.patch_captioner.network import PatchNetwork
    from captioning.models.families.patch_captioner.packaged_encoder import (
        WEIGHTS_PREFIX,
        PackagedEncoder,
        read_weights,
    )

    name = name_of(folder)
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        values.pop("model_type")
        config = PatchNetworkConfig.from_dict(values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFilesError(f"{name}/config.json does not describe a patch_captioner ({error}).") from error
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelFilesError(f"{name}/tokenizer.json is missing or damaged; copy the whole model again.") from error
    # "<eos>" that a person typed is text, not the end of the caption.
    tokenizer.encode_special_tokens = True
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise ModelFilesError(
            f"{name}: the tokenizer has {tokenizer.get_vocab_size()} tokens and config.json says "
            f"{config.vocab_size}; they belong to different models."
        )
    with without_random_weights():  # the files replace all of them
        module = PatchNetwork(config)
    packaged = {} if config.package is None else {WEIGHTS_PREFIX + key: v for key, v in read_weights().items()}
    try:
        module.load_state_dict(load_file(folder / "model.safetensors") | packaged)
    except (OSError, SafetensorError) as error:
        raise ModelFilesError(f"{name}/model.safetensors is missing or damaged; copy the whole model again.") from error
    except RuntimeError as error:
        raise ModelFilesError(
            f"{name}: the weights do not fit config.json; they belong to different models."
        ) from error
    module.eval()
    if isinstance(module.image_encoder, PackagedEncoder):
        module.image_encoder.vision.fold_norms()
    return PatchCaptionerNetwork(module.to(device, dtype), tokenizer)


def save(module: PatchNetwork, tokenizer: Tokenizer, folder: Path, card: str) -> None:
    """Write a model folder, weights in half precision; a file appears whole or not at all.

    Weights that come from a package are left out.
    """
    import torch
    from safetensors.torch import save as to_bytes

    from captioning.models.families.patch_captioner.packaged_encoder import WEIGHTS_PREFIX

    folder.mkdir(parents=True, exist_ok=True)
    # Normalisation statistics can pass half precision's range, and are few.
    weights = {
        name: (value.half() if value.ndim > 1 and value.dtype == torch.float32 else value).contiguous().cpu()
        for name, value in module.state_dict().items()
        if module.config.package is None or not name.startswith(WEIGHTS_PREFIX)
    }
    config = {"model_type": MODEL_TYPE, **module.config.to_dict()}
    files = {
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
        "tokenizer.json": tokenizer.to_str(pretty=False).encode(),
        "model.safetensors": to_bytes(weights, metadata={"format": "pt"}),
        "README.md": card.encode(),
    }
    for name, data in files.items():
        write_whole(folder / name, data)


def _save_network(network: PatchCaptionerNetwork, folder: Path, card: str) -> None:
    save(network.module, network.tokenizer, folder, card)


def untrained(name: str, device: torch.device, dtype: torch.dtype) -> PatchCaptionerNetwork:
    """The embedded captioner's shape, or that on CLIP ViT-B/32, with random weights, always the same ones.

    Both have the embedded captioner's tokenizer.
    """
    from dataclasses import replace

    import torch

    from captioning.models.families.patch_captioner.network import PatchNetwork
    from captioning.models.files import embedded_folder

    trained = load(embedded_folder(), torch.device("cpu"), torch.float32)
    config = trained.config
    if name == CLIP_SHAPE:
        # The library's own default shape is ViT-B/32.
        clip_vision = {"image_size": 224, "patch_size": 32}
        config = replace(config, clip_vision=clip_vision, image_size=224, patch_size=32, **CLIP_DECODER)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = PatchNetwork(config)
    return PatchCaptionerNetwork(module.to(device, dtype).eval(), trained.tokenizer)


def _recognises(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == MODEL_TYPE


FAMILY = ModelFamily(
    name=MODEL_TYPE,
    specs=(EMBEDDED,),
    capabilities=CAPABILITIES,
    recognises=_recognises,
    files=("config.json", "model.safetensors", "tokenizer.json", "README.md"),
    load=load,
    untrained=untrained,
    untrained_names=("embedded", CLIP_SHAPE),
    save=_save_network,
)
