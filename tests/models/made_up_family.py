"""A made-up family with cross-attention: all that a new one must say, on layers that are nobody's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from captioning.core.types import Capabilities, ModelInput, ModelSpec, PatchLayout, Picture
from captioning.models.decoding.cross_attention import CrossAttentionDecoder
from captioning.models.decoding.text_layers import PictureAttention, TextLayer, TextLayers, WordAttention
from captioning.models.family import ModelFamily
from captioning.models.pixels import PixelRecipe
from captioning.models.tokens import make_wordpiece

CAPABILITIES = Capabilities(explanation_methods=("gradient_attention", "relevance", "input_gradient"))
SPEC = ModelSpec("made-up", "made_up", "Made up", "none", CAPABILITIES)
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "woman", "in", "front", "of", "park", "dog", "words")
SIDE, GRID, WIDTH, HEADS, LENGTH = 24, 3, 16, 2, 40


class Block(nn.Module):
    """One layer of the decoder, which asks for words and picture with one matrix each."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.mix_words = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.ask, self.answer, self.mix_picture = (nn.Linear(WIDTH, n * WIDTH) for n in (1, 2, 1))
        self.net = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def declare(self) -> TextLayer:
        scale = (WIDTH // HEADS) ** -0.5
        return TextLayer(
            words=WordAttention(lambda x: self.read(x).chunk(3, dim=-1), self.mix_words, self.norms[0], scale),
            picture=PictureAttention(
                self.ask, lambda x: self.answer(x).chunk(2, dim=-1), self.mix_picture, self.norms[1], scale
            ),
            feed_forward=self.net,
            feed_forward_norm=self.norms[2],
        )


class MadeUpModule(nn.Module):
    """Patches by one convolution, and a decoder of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, SIDE // GRID, SIDE // GRID)
        self.tokens, self.positions = nn.Embedding(len(WORDS), WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(WIDTH, len(WORDS))


class MadeUpNetwork(CrossAttentionDecoder):
    """The module with its tokenizer."""

    num_prefix_tokens = 0
    max_tokens = LENGTH

    def __init__(self, module: MadeUpModule) -> None:
        super().__init__(make_wordpiece(WORDS), start_ids=(2,), end_id=3)
        self.module: MadeUpModule = module
        self.pixels = PixelRecipe((SIDE, SIDE), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def preprocess(self, image: Picture) -> ModelInput:
        values, _ = self.pixels.apply(image.image)
        return ModelInput(torch.from_numpy(values), PatchLayout.from_grid(GRID, GRID))

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        states = self.module.patches(pixel_values).flatten(2).transpose(1, 2)
        return states, normalize(states.float().mean(dim=1), dim=-1)

    def text_layers(self) -> TextLayers:
        module = self.module
        return TextLayers(
            embed=lambda input_ids, positions: module.tokens(input_ids) + module.positions(positions),
            layers=[block.declare() for block in module.blocks if isinstance(block, Block)],
            head=module.head,
            num_heads=HEADS,
            norm_first=True,
        )


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> MadeUpNetwork:
    module = MadeUpModule()
    module.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    return MadeUpNetwork(module.to(device, dtype))


def save(network: MadeUpNetwork, folder: Path, card: str) -> None:
    torch.save(network.module.state_dict(), folder / "weights.pt")


def untrained(name: str, device: torch.device, dtype: torch.dtype) -> MadeUpNetwork:
    torch.manual_seed(0)
    return MadeUpNetwork(MadeUpModule().to(device, dtype))


def recognises(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == "made_up"


FAMILY = ModelFamily(
    name="made_up",
    specs=(SPEC,),
    capabilities=CAPABILITIES,
    recognises=recognises,
    files=("config.json", "weights.pt"),
    load=load,
    untrained=untrained,
    untrained_names=("made-up",),
    save=save,
)
