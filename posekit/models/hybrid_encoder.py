"""RTMO's neck: one transformer layer on the coarsest map, then up and down through the scales (RTMO, section 3).

The hybrid encoder of RT-DETR (Lv et al. 2023, arXiv 2304.08069, Fig. 4) with RepVGG blocks (Ding et al. 2021). Legend:
B pictures, D channels of the neck, S = h w tokens of C5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.models.csp_darknet import ConvBN
from posekit.models.transformer import Attention

NORM = {"eps": 1e-5, "momentum": 0.1}  # the neck's batch norms are torch's, not YOLOX's


class HybridEncoder(nn.Module):
    """C3, C4, C5 -> the pyramid levels of `features`, `outputs` channels each.

    `channels`: of C3, C4, C5; `features`: any of 3, 4, 5; level l has stride 2 ** l. `dim`: channels inside; `width`,
    `depth`: channels and RepVGG blocks of the fusion blocks.
    """

    def __init__(
        self, channels: tuple[int, ...], features: tuple[int, ...], *, dim: int = 256, heads: int = 8,
        feedforward: int = 1024, width: int = 256, depth: int = 3, outputs: int = 512,
    ) -> None:  # fmt: skip
        super().__init__()
        if not features or sorted(set(features)) != list(features) or not set(features) <= {3, 4, 5}:
            raise ValueError(f"features is {features!r}; name levels out of (3, 4, 5), in this order")
        if dim % 4:
            raise ValueError(f"{dim} channels: the position code needs a multiple of 4")
        self.features, down = tuple(features), max(features) - 3
        self.input_proj = nn.ModuleList(ConvBN(c, dim, act=False, **NORM) for c in channels)
        self.encoder = EncoderLayer(dim, heads, feedforward)
        self.lateral_convs = nn.ModuleList(ConvBN(dim, dim, **NORM) for _ in range(2))
        self.fpn_blocks = nn.ModuleList(FusionBlock(2 * dim, dim, width, depth) for _ in range(2))
        self.downsample_convs = nn.ModuleList(ConvBN(dim, dim, 3, 2, **NORM) for _ in range(down))
        self.pan_blocks = nn.ModuleList(FusionBlock(2 * dim, dim, width, depth) for _ in range(down))
        self.projector = nn.ModuleList(ConvBN(dim, outputs, act=False, **NORM) for _ in features)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """[(B, C, H / 8, W / 8), ...] -> per level of `features` (B, outputs, H / 2 ** level, W / 2 ** level)."""
        c3, c4, c5 = (project(x) for project, x in zip(self.input_proj, maps, strict=True))
        p5 = self.lateral_convs[0](self.attend(c5))
        p4 = self.lateral_convs[1](self.fpn_blocks[0](torch.cat([enlarge(p5), c4], 1)))
        pyramid = [self.fpn_blocks[1](torch.cat([enlarge(p4), c3], 1))]
        for shrink, block, high in zip(self.downsample_convs, self.pan_blocks, (p4, p5), strict=False):
            pyramid.append(block(torch.cat([shrink(pyramid[-1]), high], 1)))
        return [project(pyramid[level - 3]) for project, level in zip(self.projector, self.features, strict=True)]

    def attend(self, c5: Tensor) -> Tensor:
        """The transformer layer on (B, D, h, w): every place looks at every other one."""
        h, w = c5.shape[2:]
        position = grid_position(h, w, c5.shape[1], c5.device).to(c5.dtype)
        return self.encoder(c5.flatten(2).transpose(1, 2), position).transpose(1, 2).unflatten(2, (h, w))


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network with GELU, norms after each; the position joins queries and keys."""

    def __init__(self, dim: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """x (B, S, D), position (S, D) -> (B, S, D)."""
        key = x + position
        x = self.norm1(x + self.attention(key, key, x)[0])
        return self.norm2(x + self.linear2(F.gelu(self.linear1(x))))


class FusionBlock(nn.Module):
    """Two branches of `width` channels, one through RepVGG blocks; their sum, brought back to `outputs` channels."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvBN(inputs, width, **NORM), ConvBN(inputs, width, **NORM)
        self.bottlenecks = nn.Sequential(*(RepVGG(width) for _ in range(depth)))
        self.conv3 = ConvBN(width, outputs, **NORM) if width != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))


class RepVGG(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution side by side, one 3 x 3 convolution after `fuse`; SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch_3x3 = ConvBN(width, width, 3, act=False, **NORM)
        self.branch_1x1 = ConvBN(width, width, 1, act=False, **NORM)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.branch_3x3(x) + self.branch_1x1(x))

    @torch.no_grad()
    def fuse(self) -> None:
        """Add the 1 x 1 branch to the middle of the 3 x 3 one; both must be without batch norm (`fuse_batch_norms`)."""
        large, small = self.branch_3x3.conv, self.branch_1x1.conv
        large.weight[:, :, 1, 1] += small.weight[:, :, 0, 0]
        large.bias += small.bias
        self.branch_1x1 = Zero()


class Zero(nn.Module):
    """A branch that adds nothing."""

    def forward(self, x: Tensor) -> float:
        return 0.0


def enlarge(x: Tensor) -> Tensor:
    """Twice the height and width, every pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def grid_position(h: int, w: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Sine code of a grid: (h w, dim) = [cos y, sin y, cos x, sin x], a quarter each, rows first, integers from 0.

    # differs from paper: RT-DETR and RTMO write sine and cosine in turn; the released code puts them in blocks.
    """
    period = 10000 ** (torch.arange(dim // 4, device=device) / (dim // 4))
    y, x = (torch.arange(n, device=device)[:, None] / period for n in (h, w))
    y, x = (torch.cat([angle.cos(), angle.sin()], 1) for angle in (y, x))
    return torch.cat([y[:, None].expand(h, w, -1), x[None].expand(h, w, -1)], 2).flatten(0, 1)
