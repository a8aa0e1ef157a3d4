"""`patch_captioner`, our own: a grid of patch features and a Transformer decoder that reads it.

A model is a folder of `config.json`, `model.safetensors`, `tokenizer.json` and `README.md`, on disk as on the hub.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError
from captioning.core.types import Capabilities, ModelInput, ModelSpec, PatchLayout, Picture
from captioning.core.whole_files import write_whole
from captioning.models.attention_layers import AttentionLayers, find_layers
from captioning.models.decoding.cross_attention import scaled_heads
from captioning.models.family import ModelFamily
from captioning.models.files import name_of
from captioning.models.pixels import PixelRecipe
from captioning.models.random_weights import without_random_weights

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor

    from captioning.models.decoding.text_decoder import TextLayer, TextLayers
    from captioning.models.families.patch_captioner.network import KeysAndValues, PatchNetwork

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


class PatchDecoderCache:
    """The keys and values that a batch of rows has so far: of the patches, and of the words."""

    def __init__(self, patches: list[KeysAndValues]) -> None:
        self.patches = patches
        self.words: list[KeysAndValues] | None = None


class PatchCaptionerNetwork:
    """A `PatchNetwork` with its tokenizer, as `NetworkCaptioner` wants it."""

    def __init__(self, module: PatchNetwork, tokenizer: Tokenizer) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.config = module.config
        self.num_prefix_tokens: int = module.image_encoder.num_prefix_tokens
        self.max_tokens = self.config.max_positions
        self.start_ids: tuple[int, ...] = (special_id(tokenizer, START),)
        self.end_id = special_id(tokenizer, END)
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

    def start(self, states: Tensor, layout: PatchLayout | None = None) -> PatchDecoderCache:
        """A fresh cache for rows that see `states [rows, prefix + patches, hidden]`."""
        return PatchDecoderCache(self.module.text_decoder.project_patches(states))

    def step(self, input_ids: Tensor, attention_mask: Tensor, cache: PatchDecoderCache) -> Tensor:
        """Logits `[rows, new, vocab]`."""
        logits: Tensor
        logits, cache.words, _ = self.module.text_decoder(input_ids, cache.patches, attention_mask, cache.words)
        return logits

    def select(self, cache: PatchDecoderCache, rows: Tensor) -> PatchDecoderCache:
        """The cache with its rows replaced by `rows` of the old one."""
        chosen = PatchDecoderCache([(keys[rows], values[rows]) for keys, values in cache.patches])
        if cache.words is not None:
            chosen.words = [(keys[rows], values[rows]) for keys, values in cache.words]
        return chosen

    def teach(self, input_ids: Tensor, states: Tensor) -> Tensor:
        """Logits `[N, L, vocab]` of whole captions, for training."""
        decoder = self.module.text_decoder
        logits: Tensor = decoder(input_ids, decoder.project_patches(states))[0]
        return logits

    def attend(
        self, input_ids: Tensor, states: Tensor, head_mask: Tensor | None, layout: PatchLayout | None = None
    ) -> Tensor:
        """Cross-attention `[layers, N, heads, L, prefix + patches]`."""
        import torch

        decoder = self.module.text_decoder
        patches = decoder.project_patches(states)
        with self.scaled_heads(head_mask):
            weights = decoder(input_ids, patches, need_weights=True)[2]
        return torch.stack(weights)

    @property
    def attention_layers(self) -> AttentionLayers:
        """What weighs in the decoder, and in CLIP's image encoder where that one looks."""
        return AttentionLayers(
            words=find_layers(self.module, r"text_decoder\.layers\.\d+\.self_attention\.weigh"),
            cross=find_layers(self.module, r"text_decoder\.layers\.\d+\.cross_attention\.weigh"),
            encoder=find_layers(self.module, r"image_encoder\.vision\..*layers\.\d+\.self_attn"),
        )

    def scaled_heads(self, head_mask: Tensor | None) -> AbstractContextManager[None]:
        """Scale what each head of the cross-attention hands on."""
        mixers = find_layers(self.module, r"text_decoder\.layers\.\d+\.cross_attention\.out_proj")
        return scaled_heads(mixers, head_mask)

    def text_layers(self) -> TextLayers:
        """The decoder's layers and what they do."""
        from torch.nn.functional import linear

        from captioning.models.decoding.text_decoder import TextLayers

        decoder = self.module.text_decoder
        last = decoder.max_positions - 1
        return TextLayers(
            embed=lambda input_ids, places: decoder.tokens(input_ids) + decoder.positions(places.clamp(max=last)),
            layers=[_text_layer(layer) for layer in decoder.layers],
            head=lambda x: linear(decoder.norm(x), decoder.tokens.weight),
            num_heads=self.config.num_heads,
            norm_first=True,
        )

    def text_to_ids(self, text: str) -> list[int]:
        """The tokens of a text; empty for an empty one."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids) if text.strip() else []

    def ids_to_text(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return str(self.tokenizer.decode(list(token_ids))).strip()

    def token_text(self, token_id: int) -> str:
        """One token as text; it begins with a space where it begins a word."""
        return str(self.tokenizer.decode([token_id], skip_special_tokens=False))

    @property
    def has_whole_words(self) -> bool:
        """True where every word it writes is one token, and bytes only spell what it reads."""
        return bool(getattr(self.tokenizer.model, "ignore_merges", False))

    def not_first(self) -> Tensor:
        """Return which tokens begin no word, `[vocab]`: those that only lengthen one, and the end of a caption."""
        import torch

        barred = torch.tensor([self.token_text(n)[:1].isalnum() for n in range(self.config.vocab_size)])
        barred[self.end_id] = True
        return barred

    def never_written(self) -> Tensor:
        """Return which tokens are only ever read, `[vocab]`: those that start and fill sequences, and single bytes."""
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
        """Name, size and special tokens of the vocabulary."""
        return {
            "type": "whole words, lower-cased" if self.has_whole_words else "byte-pair encoding, lower-cased",
            "vocabulary": self.tokenizer.get_vocab_size(),
            "start token": START,
            "end token": END,
        }


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


def _text_layer(layer: Any) -> TextLayer:
    from torch.nn.functional import linear

    from captioning.models.decoding.text_decoder import PictureAttention, TextLayer, WordAttention

    words, picture = layer.self_attention, layer.cross_attention
    width, scale = words.embed_dim, words.head_dim**-0.5

    def project_words(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values = linear(x, words.in_proj_weight, words.in_proj_bias).chunk(3, dim=-1)
        return query, keys, values

    def query_picture(x: Tensor) -> Tensor:
        return linear(x, picture.in_proj_weight[:width], picture.in_proj_bias[:width])

    def project_picture(states: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = linear(states, picture.in_proj_weight[width:], picture.in_proj_bias[width:]).chunk(2, dim=-1)
        return keys, values

    return TextLayer(
        words=WordAttention(project_words, words.out_proj, layer.self_norm, scale),
        picture=PictureAttention(query_picture, project_picture, picture.out_proj, layer.cross_norm, scale),
        feed_forward=layer.ffn,
        feed_forward_norm=layer.ffn_norm,
    )


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
