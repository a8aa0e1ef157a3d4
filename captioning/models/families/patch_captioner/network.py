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


class CachedAttention(nn.MultiheadAttention):
    """torch's attention layer, whose keys and values may be computed once and kept.

    `forward` is torch's own. `project_keys` and `attend` give the same result from kept keys, faster, and
    with every head's weights and output in reach.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__(hidden_size, num_heads, batch_first=True)
        self.weigh = nn.Softmax(dim=-1)  # a layer, so that what it gives can be kept

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)

    def project_keys(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, S, hidden]` → keys and values, each `[N, heads, S, head_dim]`."""
        assert self.in_proj_weight is not None
        assert self.in_proj_bias is not None
        width = self.embed_dim
        keys, values = F.linear(source, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with `query [N, L, hidden]`; `mask [N, 1, L, S]` is true where a key may be seen.

        Keys and values of M < N pictures serve N / M queries each that follow each other; then there is no mask.
        Returns the output `[N, L, hidden]` and, where asked for, the weights `[N, heads, L, S]`.
        """
        assert self.in_proj_weight is not None
        assert self.in_proj_bias is not None
        width = self.embed_dim
        heads = self._split(F.linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width]))
        num_rows, num_pictures = len(query), len(keys)
        if num_rows != num_pictures:
            heads = _fold(heads, num_pictures)
        weights: Tensor | None = None
        # On a CPU the fused kernel's backward pass is several times slower than plain products.
        if need_weights or torch.is_grad_enabled():
            scores = heads @ keys.transpose(-1, -2) / self.head_dim**0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            weights = self.weigh(scores)
            mixed = weights @ values
        else:
            mixed = F.scaled_dot_product_attention(heads, keys, values, attn_mask=mask)
        if num_rows != num_pictures:
            mixed = _unfold(mixed, num_rows)
            weights = None if weights is None else _unfold(weights, num_rows)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return output, weights


def _fold(x: Tensor, num_pictures: int) -> Tensor:
    """Join rows `[M · copies, heads, L, d]` of each picture: `[M, heads, copies · L, d]`."""
    _, heads, length, width = x.shape
    return x.reshape(num_pictures, -1, heads, length, width).transpose(1, 2).flatten(2, 3)


def _unfold(x: Tensor, num_rows: int) -> Tensor:
    """Split what `_fold` joined: `[M, heads, copies · L, d]` → `[M · copies, heads, L, d]`."""
    num_pictures, heads, _, width = x.shape
    return x.reshape(num_pictures, heads, num_rows // num_pictures, -1, width).transpose(1, 2).flatten(0, 1)


KeysAndValues = tuple[Tensor, Tensor]


class DecoderLayer(nn.Module):
    """Self-attention over the words, cross-attention to the patches, a feed-forward net; norms come first."""

    def __init__(self, config: PatchNetworkConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.self_attention = CachedAttention(hidden, config.num_heads)
        self.cross_attention = CachedAttention(hidden, config.num_heads)
        self.self_norm = nn.LayerNorm(hidden)
        self.cross_norm = nn.LayerNorm(hidden)
        self.ffn_norm = nn.LayerNorm(hidden)
        self.ffn = nn.Sequential(nn.Linear(hidden, config.ffn_size), nn.GELU(), nn.Linear(config.ffn_size, hidden))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        past: KeysAndValues | None,
        patches: KeysAndValues,
        mask: Tensor,
        need_weights: bool = False,
    ) -> tuple[Tensor, KeysAndValues, Tensor | None]:
        """One step over `x [N, L, hidden]`; returns the new `x`, the grown self-attention keys and cross weights."""
        query = self.self_norm(x)
        keys, values = self.self_attention.project_keys(query)
        if past is not None:
            keys, values = torch.cat((past[0], keys), dim=2), torch.cat((past[1], values), dim=2)
        x = x + self.dropout(self.self_attention.attend(query, keys, values, mask)[0])
        seen, weights = self.cross_attention.attend(self.cross_norm(x), *patches, need_weights=need_weights)
        x = x + self.dropout(seen)
        x = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return x, (keys, values), weights


class TextDecoder(nn.Module):
    """A causal Transformer over caption tokens, with the word embeddings tied to the output layer."""

    def __init__(self, config: PatchNetworkConfig) -> None:
        super().__init__()
        self.max_positions = config.max_positions
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_positions, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.tokens.weight, std=config.hidden_size**-0.5)
        nn.init.normal_(self.positions.weight, std=0.02)

    def project_patches(self, encoder_hidden_states: Tensor) -> list[KeysAndValues]:
        """Every layer's cross-attention keys and values of `[N, patches, hidden]`, computed once a picture."""
        return [layer.cross_attention.project_keys(encoder_hidden_states) for layer in self._layers()]

    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def forward(
        self,
        input_ids: Tensor,
        patches: list[KeysAndValues],
        attention_mask: Tensor | None = None,
        past: list[KeysAndValues] | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, list[KeysAndValues], list[Tensor]]:
        """Score the next token after each of `input_ids [N, L]`.

        `attention_mask [N, past + L]` is 0 on left padding. Returns logits `[N, L, vocab]`, the grown cache, and with
        `need_weights` the cross-attention weights of every layer, `[N, heads, L, patches]` each.
        """
        length = input_ids.shape[1]
        total = length + (past[0][0].shape[2] if past else 0)
        if attention_mask is None:
            attention_mask = input_ids.new_ones(input_ids.shape[0], total)
        positions = (attention_mask.cumsum(dim=1) - 1)[:, -length:].clamp(0, self.max_positions - 1)
        causal = torch.ones(length, total, dtype=torch.bool, device=input_ids.device).tril(total - length)
        # A padded row must see something, or its softmax is not a number: it sees itself.
        itself = torch.eye(total, dtype=torch.bool, device=input_ids.device)[-length:]
        mask = (causal & attention_mask.bool()[:, None, None, :]) | itself
        x = self.dropout(self.tokens(input_ids) + self.positions(positions))
        cache: list[KeysAndValues] = []
        all_weights: list[Tensor] = []
        for number, layer in enumerate(self._layers()):
            x, keys_and_values, weights = layer(
                x,
                past[number] if past else None,
                patches[number],
                mask,
                need_weights,
            )
            cache.append(keys_and_values)
            if weights is not None:
                all_weights.append(weights)
        return F.linear(self.norm(x), self.tokens.weight), cache, all_weights


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
