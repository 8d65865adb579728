"""The encoder-decoder transformer of POET (and DETR), on `scaled_dot_product_attention`.

POET, "Encoder-Decoder transformer" and Fig. 2a; parameter names are those of published POET / DETR weights.
Legend: B images, S = h w image tokens, Q queries, D channels, Le / L encoder / decoder layers. Batch first.
`maps`: a list that takes up the attention maps, which are computed only where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Maps = list[Tensor] | None


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim} channels do not split into {heads} heads; choose a multiple")
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, maps: Maps = None
    ) -> Tensor:
        """query (B, T, D), key, value (B, S, D), mask (B, 1, 1, S) True = attend -> (B, T, D); map (B, heads, T, S)."""
        dim = query.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key:
            q, k = F.linear(query, weight[: 2 * dim], bias[: 2 * dim]).chunk(2, dim=-1)
        else:
            q = F.linear(query, weight[:dim], bias[:dim])
            k = F.linear(key, weight[dim : 2 * dim], bias[dim : 2 * dim])
        v = F.linear(value, weight[2 * dim :], bias[2 * dim :])
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        if maps is None:
            out = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        else:
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            maps.append((scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1))
            out = maps[-1] @ v
        return self.out_proj(out.transpose(1, 2).flatten(-2))


class Layer(nn.Module):
    """One encoder layer, or (`cross=True`) one decoder layer, norm after (the paper) or before each part."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float, pre_norm: bool, cross: bool) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads, dropout)
        if cross:
            self.multihead_attn = Attention(dim, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        if cross:
            self.norm3 = nn.LayerNorm(dim)
        self.dropout, self.pre_norm, self.cross = nn.Dropout(dropout), pre_norm, cross

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        memory: Tensor | None = None,
        memory_key: Tensor | None = None,
        mask: Tensor | None = None,
        maps: Maps = None,
    ) -> Tensor:
        """x, position (B, T, D); memory, memory_key (B, S, D) -> (B, T, D); the map of the image attention.

        Positions join queries and keys, never values. The mask hides padded image tokens.
        """

        def attend_self(y: Tensor) -> Tensor:
            key = y + position
            return self.self_attn(key, key, y) if self.cross else self.self_attn(key, key, y, mask, maps)

        x = self._residual(x, self.norm1, attend_self)
        if self.cross:
            x = self._residual(
                x, self.norm2, lambda y: self.multihead_attn(y + position, memory_key, memory, mask, maps)
            )
        last = self.norm3 if self.cross else self.norm2
        return self._residual(x, last, lambda y: self.linear2(self.dropout(torch.relu(self.linear1(y)))))

    def _residual(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))


class Stack(nn.Module):
    """Layers and the norm after them, which the encoder of a post-norm transformer does not have."""

    def __init__(self, depth: int, layer: tuple[int, int, int, float, bool], *, norm: bool, cross: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(*layer, cross) for _ in range(depth))
        self.norm = nn.LayerNorm(layer[0]) if norm else nn.Identity()


class Transformer(nn.Module):
    """Encoder and decoder. `encode` and `decode` are separate, so that other queries can be put between them."""

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        feedforward: int = 2048,
        dropout: float = 0.1,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        layer = (dim, heads, feedforward, dropout, pre_norm)
        self.encoder = Stack(encoder_layers, layer, norm=pre_norm, cross=False)
        self.decoder = Stack(decoder_layers, layer, norm=True, cross=True)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def encode(self, tokens: Tensor, position: Tensor, mask: Tensor | None = None, maps: Maps = None) -> Tensor:
        """tokens, position (B, S, D) -> memory (B, S, D); Le maps (B, heads, S, S)."""
        for layer in self.encoder.layers:
            tokens = layer(tokens, position, mask=mask, maps=maps)
        return self.encoder.norm(tokens)

    def decode(
        self,
        x: Tensor,
        queries: Tensor,
        memory: Tensor,
        position: Tensor,
        mask: Tensor | None = None,
        maps: Maps = None,
    ) -> Tensor:
        """x, queries (B, Q, D) -> normed outputs of all layers (L, B, Q, D); L maps (B, heads, Q, S)."""
        memory_key = memory + position
        outputs = []
        for layer in self.decoder.layers:
            x = layer(x, queries, memory, memory_key, mask, maps)
            outputs.append(self.decoder.norm(x))
        return torch.stack(outputs)


def sine_position(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Fixed position code of points x, y in [0, 1], any equal shapes (...) -> (..., dim): first y's half, then x's.

    Sines and cosines interleaved, wavelengths 1 (the image's length) to 10,000; Vaswani et al. 2017 in the 2-D form of
    DETR.
    """
    half = dim // 2
    frequency = 10_000.0 ** (-2 * torch.div(torch.arange(half, device=x.device), 2, rounding_mode="floor") / half)
    phase = torch.stack([y, x], dim=-1)[..., None] * (2 * math.pi) * frequency
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], dim=-1).flatten(-3)


def image_position(mask: Tensor, dim: int) -> Tensor:
    """Position code of a feature map whose padding is True in `mask` (B, h, w): (B, h w, dim).

    Row i of n real rows sits at (i + 1) / (n + 1e-6), as in DETR: a padded image gets the code of an unpadded one.
    """
    real = (~mask).float()
    y, x = real.cumsum(1), real.cumsum(2)
    y, x = y / (y[:, -1:] + 1e-6), x / (x[:, :, -1:] + 1e-6)
    return sine_position(x, y, dim).flatten(1, 2)
