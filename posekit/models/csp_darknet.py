"""CSPDarknet, the backbone of YOLOX and RTMO (Ge et al. 2021, arXiv 2107.08430; RTMO, section 3, Fig. 2).

A picture becomes three maps C3, C4, C5 at strides 8, 16 and 32. `ConvBN` and `fuse_batch_norms` serve the neck and the
head too. Names of submodules are those of published RTMO weights. Legend: B pictures, C channels.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

M = TypeVar("M", bound=nn.Module)
WIDTHS = (64, 128, 256, 512, 1024)  # channels of the stem and the four stages at width factor 1
BLOCKS = (3, 9, 9, 3)  # residual blocks of the stages at depth factor 1


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, SiLU (or nothing with `act=False`)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, act: bool = True,
        eps: float = 1e-3, momentum: float = 0.03,
    ) -> None:  # fmt: skip
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

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvBN(inputs, inputs // 2), ConvBN(2 * inputs, outputs)
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
                layers.insert(1, SpatialPyramid(outputs, outputs))
            self.add_module(f"stage{stage}", nn.Sequential(*layers))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> C3, C4, C5: (B, C, H / 8, W / 8), (B, C, H / 16, W / 16), (B, C, H / 32, W / 32)."""
        c3 = self.stage2(self.stage1(self.stem(images)))
        c4 = self.stage3(c3)
        return [c3, c4, self.stage4(c4)]


def csp_darknet(widen: float = 1.0, deepen: float = 1.0) -> CSPDarknet:
    """CSPDarknet with all channels times `widen` and all depths times `deepen`, rounded as YOLOX does."""
    return CSPDarknet(tuple(int(w * widen) for w in WIDTHS), tuple(max(round(n * deepen), 1) for n in BLOCKS))


def fuse_batch_norms(module: nn.Module) -> nn.Module:
    """A copy of the module, in evaluation mode, in which every batch norm is part of the layer before it.

    A batch norm belongs to the convolution or linear layer that was registered just before it in the same module.
    """
    module = copy.deepcopy(module).eval()
    for parent in module.modules():
        children = list(parent.named_children())
        for (name, layer), (norm_name, norm) in zip(children[:-1], children[1:], strict=True):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(layer, norm))
                setattr(parent, norm_name, nn.Identity())
            elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                setattr(parent, name, fuse_linear_bn_eval(layer, norm))
                setattr(parent, norm_name, nn.Identity())
    return module


def set_norms(module: M, momentum: float = 0.1, eps: float | None = None) -> M:
    """The module, its batch norms with another momentum (and `eps`) than YOLOX's 0.03 (and 1e-3).

    In a run of a few hundred steps at a high rate slow statistics lag so far behind the weights that activations
    explode in evaluation mode.
    """
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum, part.eps = momentum, part.eps if eps is None else eps
    return module
