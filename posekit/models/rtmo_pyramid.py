"""RTMO's feature pyramid: the backbone CSPDarknet and the neck that joins its scales (RTMO, section 3, Fig. 2).

CSPDarknet is YOLOX's (Ge et al. 2021, arXiv 2107.08430): an image becomes three maps C3, C4, C5 at strides 8, 16, 32.
The neck is RT-DETR's hybrid encoder (Lv et al. 2023, arXiv 2304.08069, Fig. 4) with RepVGG blocks (Ding et al. 2021):
one transformer layer on the coarsest map, then up and down through the scales. Names of submodules are those of
published RTMO weights. Legend: B images, C channels, D channels of the neck, S = h w tokens of C5.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.models.transformer import Attention

M = TypeVar("M", bound=nn.Module)
WIDTHS = (64, 128, 256, 512, 1024)  # channels of the stem and the four stages at width factor 1
BLOCKS = (3, 9, 9, 3)  # residual blocks of the stages at depth factor 1
NORM = {"eps": 1e-5, "momentum": 0.1}  # the neck's batch norms are torch's, not YOLOX's


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, SiLU (or nothing with `act=False`)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: bool = True,
        eps: float = 1e-3,
        momentum: float = 0.03,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=eps, momentum=momentum)
        self.act = nn.SiLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Focus(nn.Module):
    """Every 2 x 2 square of pixels becomes one pixel with 4 C channels; then a 3 x 3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvBN(4 * inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, H / 2, W / 2); order top left, bottom left, top right, bottom right."""
        return self.conv(torch.cat([x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)], 1))


class Bottleneck(nn.Module):
    """1 x 1 and 3 x 3 convolution, with a shortcut unless `shortcut=False`."""

    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.shortcut = ConvBN(width, width), ConvBN(width, width, 3), shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPLayer(nn.Module):
    """Half of the channels pass through the residual blocks, half go around them (cross stage partial network)."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.main_conv, self.short_conv = ConvBN(inputs, half), ConvBN(inputs, half)
        self.final_conv = ConvBN(2 * half, outputs)
        self.blocks = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.final_conv(torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1))


class SpatialPyramid(nn.Module):
    """The largest values within 5, 9 and 13 pixels, side by side with the map itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvBN(width, width // 2), ConvBN(2 * width, width)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.conv1(x)]
        for _ in range(3):  # a maximum over 9 is one over 5 of one over 5
            maps.append(self.pool(maps[-1]))
        return self.conv2(torch.cat(maps, 1))


class CSPDarknet(nn.Module):
    """Stem and four stages, each of which halves the resolution.

    `widths`: channels of the stem and the stages; `blocks`: residual blocks per stage. `channels` are those of C3, C4
    and C5.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__()
        if len(widths) != 5 or len(blocks) != 4:
            raise ValueError(
                f"CSPDarknet has a stem and 4 stages: give 5 widths and 4 depths, not {widths} and {blocks}"
            )
        self.channels = tuple(widths[2:])
        self.stem = Focus(3, widths[0])
        for stage, (inputs, outputs, depth) in enumerate(zip(widths[:-1], widths[1:], blocks, strict=True), 1):
            last = stage == 4
            layers = [ConvBN(inputs, outputs, 3, stride=2), CSPLayer(outputs, outputs, depth, shortcut=not last)]
            if last:
                layers.insert(1, SpatialPyramid(outputs))
            self.add_module(f"stage{stage}", nn.Sequential(*layers))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> C3, C4, C5: (B, C, H / 8, W / 8), (B, C, H / 16, W / 16), (B, C, H / 32, W / 32)."""
        c3 = self.stage2(self.stage1(self.stem(images)))
        c4 = self.stage3(c3)
        return [c3, c4, self.stage4(c4)]


def csp_darknet(widen: float = 1.0, deepen: float = 1.0) -> CSPDarknet:
    """CSPDarknet with all channels times `widen` and all depths times `deepen`, rounded as YOLOX does."""
    return CSPDarknet(tuple(int(w * widen) for w in WIDTHS), tuple(max(round(n * deepen), 1) for n in BLOCKS))


class HybridEncoder(nn.Module):
    """C3, C4, C5 -> the pyramid levels of `features`, `outputs` channels each.

    `channels`: of C3, C4, C5; `features`: any of 3, 4, 5; level l has stride 2 ** l. `dim`: channels inside;
    `fusion_width`, `fusion_depth`: channels and RepVGG blocks of the fusion blocks.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        features: tuple[int, ...],
        *,
        outputs: int,
        dim: int = 256,
        heads: int = 8,
        feedforward: int = 1024,
        fusion_width: int = 256,
        fusion_depth: int = 3,
    ) -> None:
        super().__init__()
        if not features or sorted(set(features)) != list(features) or not set(features) <= {3, 4, 5}:
            raise ValueError(f"features is {features!r}; name levels out of (3, 4, 5), in this order")
        if dim % 4:
            raise ValueError(f"{dim} channels: the position code needs a multiple of 4")
        self.features, down = tuple(features), max(features) - 3
        self.input_proj = nn.ModuleList(ConvBN(c, dim, act=False, **NORM) for c in channels)
        self.encoder = EncoderLayer(dim, heads, feedforward)
        self.lateral_convs = nn.ModuleList(ConvBN(dim, dim, **NORM) for _ in range(2))
        fusion = (2 * dim, dim, fusion_width, fusion_depth)
        self.fpn_blocks = nn.ModuleList(FusionBlock(*fusion) for _ in range(2))
        self.downsample_convs = nn.ModuleList(ConvBN(dim, dim, 3, 2, **NORM) for _ in range(down))
        self.pan_blocks = nn.ModuleList(FusionBlock(*fusion) for _ in range(down))
        self.projector = nn.ModuleList(ConvBN(dim, outputs, act=False, **NORM) for _ in features)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """[(B, C, H / 8, W / 8), ...] -> per level of `features` (B, outputs, H / 2 ** level, W / 2 ** level)."""
        c3, c4, c5 = (project(x) for project, x in zip(self.input_proj, maps, strict=True))
        p5 = self.lateral_convs[0](self.encoder(c5))
        p4 = self.lateral_convs[1](self.fpn_blocks[0](torch.cat([enlarge(p5), c4], 1)))
        pyramid = [self.fpn_blocks[1](torch.cat([enlarge(p4), c3], 1))]
        for shrink, block, high in zip(self.downsample_convs, self.pan_blocks, (p4, p5), strict=False):
            pyramid.append(block(torch.cat([shrink(pyramid[-1]), high], 1)))
        return [project(pyramid[level - 3]) for project, level in zip(self.projector, self.features, strict=True)]


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network with GELU, norms after each; the position joins queries and keys."""

    def __init__(self, dim: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, c5: Tensor) -> Tensor:
        """(B, D, h, w) -> the same shape: every cell looks at every other one."""
        h, w = c5.shape[2:]
        x = c5.flatten(2).transpose(1, 2)
        key = x + grid_position(h, w, c5.shape[1], c5.device).to(c5.dtype)
        x = self.norm1(x + self.attention(key, key, x))
        x = self.norm2(x + self.linear2(F.gelu(self.linear1(x))))
        return x.transpose(1, 2).unflatten(2, (h, w))


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
    """A 3 x 3 and a 1 x 1 convolution side by side, one 3 x 3 convolution after `merge_branches`; SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch_3x3 = ConvBN(width, width, 3, act=False, **NORM)
        self.branch_1x1: ConvBN | None = ConvBN(width, width, 1, act=False, **NORM)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch_3x3(x)
        return F.silu(y if self.branch_1x1 is None else y + self.branch_1x1(x))

    @torch.no_grad()
    def merge_branches(self) -> None:
        """Add the 1 x 1 branch to the middle of the 3 x 3 one; both must be without batch norm (`fusion.fused`)."""
        large, small = self.branch_3x3.conv, self.branch_1x1.conv
        large.weight[:, :, 1, 1] += small.weight[:, :, 0, 0]
        large.bias += small.bias
        self.branch_1x1 = None


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


def set_norms(module: M, momentum: float = 0.1, eps: float | None = None) -> M:
    """The module, its batch norms with another momentum (and `eps`) than YOLOX's 0.03 (and 1e-3).

    In a run of a few hundred steps at a high rate slow statistics lag so far behind the weights that activations
    explode in evaluation mode.
    """
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum, part.eps = momentum, part.eps if eps is None else eps
    return module
