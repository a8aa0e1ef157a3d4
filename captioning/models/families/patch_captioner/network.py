"""The network of `patch_captioner`: a grid of patch features, then a Transformer decoder that reads it.

Its encoders are convolutional on purpose: without self-attention over the grid, what a patch's feature
says stays about that patch and its surroundings, so a map of the words' attention is a map of the picture. One is
learnt from scratch, the other comes from a package with the weights that ImageNet taught it.
CLIP's image encoder can take their place: it knows far more, and blurs such maps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioning.models.decoding.text_layers import Dropout, PictureAttention, TextLayer, TextLayers, WordAttention
from captioning.models.families.patch_captioner.clip_encoder import ClipEncoder
from captioning.models.families.patch_captioner.config import PatchNetworkConfig
from captioning.models.families.patch_captioner.packaged_encoder import PackagedEncoder


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation and a shortcut (He et al. 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == channels
            else nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[N, in_channels, H, W]` → `[N, channels, H / stride, W / stride]`."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class ConvolutionalEncoder(nn.Module):
    """A residual network that keeps a grid of patches."""

    num_prefix_tokens = 0

    def __init__(self, config: PatchNetworkConfig) -> None:
        super().__init__()
        first = config.widths[0]
        stem = config.stem_kernel
        layers: list[nn.Module] = [
            nn.Conv2d(3, first, stem, config.stem_stride, stem // 2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
        ]
        channels = first
        for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for block in range(depth):
                layers.append(ResidualBlock(channels, width, stride=2 if stage > 0 and block == 0 else 1))
                channels = width
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
        self.project = nn.Linear(channels, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.positions = nn.Parameter(torch.randn(config.grid_size**2, config.hidden_size) * 0.02)
        self.embed = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    @property
    def frozen(self) -> bool:
        """Whether nothing of it is learnt."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    @property
    def kept_shape(self) -> tuple[int, int]:
        """The shape of what `look` sees of a picture."""
        num_patches, hidden_size = self.positions.shape
        return num_patches, hidden_size

    def train(self, mode: bool = True) -> ConvolutionalEncoder:
        """Switch between training and use; frozen, it is always in use, or its statistics would go on changing."""
        return super().train(mode and not self.frozen)

    def look(self, pixel_values: Tensor) -> Tensor:
        """Pixels `[N, 3, side, side]` → patch features `[N, patches, hidden]`, which training can keep."""
        features: Tensor = self(pixel_values)[0]
        return features

    def read(self, states: Tensor) -> Tensor:
        """What `look` saw, as the decoder reads it: as it is."""
        return states

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels `[N, 3, H, W]` → patch features `[N, patches, hidden]`, unit image embeddings `[N, hidden]`."""
        grid = self.layers(pixel_values.contiguous(memory_format=torch.channels_last))
        patches = self.norm(self.project(grid.flatten(2).transpose(1, 2)))
        image_embeds = F.normalize(self.embed(patches.mean(dim=1)).float(), dim=-1)
        return patches + self._positions_of(*grid.shape[-2:]), image_embeds

    def _positions_of(self, rows: int, columns: int) -> Tensor:
        """The positions of a grid `[rows · columns, hidden]`; of another than the usual one, between them."""
        side = math.isqrt(len(self.positions))
        if (rows, columns) == (side, side):
            return self.positions
        square = self.positions.T.reshape(1, -1, side, side)
        return F.interpolate(square, (rows, columns), mode="bicubic").flatten(2)[0].T


class DecoderLayer(nn.Module):
    """Self-attention over the words, cross-attention to the patches, a feed-forward net; norms come first."""

    def __init__(self, config: PatchNetworkConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.self_attention = nn.MultiheadAttention(hidden, config.num_heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(hidden, config.num_heads, batch_first=True)
        self.self_norm = nn.LayerNorm(hidden)
        self.cross_norm = nn.LayerNorm(hidden)
        self.ffn_norm = nn.LayerNorm(hidden)
        self.ffn = nn.Sequential(nn.Linear(hidden, config.ffn_size), nn.GELU(), nn.Linear(config.ffn_size, hidden))
        self.dropout = nn.Dropout(config.dropout)

    def declare(self) -> TextLayer:
        """Return what this layer does."""
        words, picture = self.self_attention, self.cross_attention
        width, scale = words.embed_dim, words.head_dim**-0.5

        def project_words(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            query, keys, values = F.linear(x, words.in_proj_weight, words.in_proj_bias).chunk(3, dim=-1)
            return query, keys, values

        def query_picture(x: Tensor) -> Tensor:
            return F.linear(x, picture.in_proj_weight[:width], picture.in_proj_bias[:width])

        def project_picture(states: Tensor) -> tuple[Tensor, Tensor]:
            weight, bias = picture.in_proj_weight[width:], picture.in_proj_bias[width:]
            keys, values = F.linear(states, weight, bias).chunk(2, dim=-1)
            return keys, values

        return TextLayer(
            words=WordAttention(project_words, words.out_proj, self.self_norm, scale),
            picture=PictureAttention(query_picture, project_picture, picture.out_proj, self.cross_norm, scale),
            feed_forward=self.ffn,
            feed_forward_norm=self.ffn_norm,
        )


class TextDecoder(nn.Module):
    """A causal Transformer over caption tokens, with the word embeddings tied to the output layer."""

    def __init__(self, config: PatchNetworkConfig) -> None:
        super().__init__()
        self.max_positions = config.max_positions
        self.num_heads = config.num_heads
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_positions, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.tokens.weight, std=config.hidden_size**-0.5)
        nn.init.normal_(self.positions.weight, std=0.02)

    def declare(self) -> TextLayers:
        """Return the layers and what they do."""
        last = self.max_positions - 1
        return TextLayers(
            embed=lambda input_ids, places: self.tokens(input_ids) + self.positions(places.clamp(max=last)),
            layers=[layer.declare() for layer in self.layers if isinstance(layer, DecoderLayer)],
            head=lambda x: F.linear(self.norm(x), self.tokens.weight),
            num_heads=self.num_heads,
            norm_first=True,
            dropout=Dropout(embedded=self.dropout, added=self.dropout),
        )

    def project_patches(self, encoder_hidden_states: Tensor) -> list[Tensor]:
        """Return every layer's keys and values of `[N, patches, hidden]`."""
        return self.declare().project(encoder_hidden_states)

    def forward(self, input_ids: Tensor, patches: list[Tensor]) -> tuple[Tensor]:
        """Score the next token after each of `input_ids [N, L]`, `[N, L, vocab]`."""
        layers = self.declare()
        return (layers.head(layers.read(input_ids, patches)),)


class PatchNetwork(nn.Module):
    """An image encoder and a text decoder; each can be used alone."""

    def __init__(self, config: PatchNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.text_decoder = TextDecoder(config)
        self.image_encoder: ConvolutionalEncoder | ClipEncoder | PackagedEncoder
        if config.clip_vision is not None:
            self.image_encoder = ClipEncoder(config)
        elif config.package is not None:
            self.image_encoder = PackagedEncoder(config, self.text_decoder.tokens)
        else:
            self.image_encoder = ConvolutionalEncoder(config)
