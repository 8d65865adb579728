"""The pyramid network of YOLOX and RTMDet: from coarse to fine and back (PAFPN: Liu et al. 2018; names of mmdet)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from posekit.models.rtmo_pyramid import ConvBN, enlarge


class Pyramid(nn.Module):
    """Maps at strides 8, 16 and 32 exchange what they hold.

    Args:
        channels: of C3, C4 and C5.
        layer: (inputs, outputs) -> module, fuses two maps; halve: channels -> module of stride 2; out: channels ->
            module, the last of every level.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        layer: Callable[[int, int], nn.Module],
        halve: Callable[[int], nn.Module],
        out: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        low, middle, high = channels
        self.reduce_layers = nn.ModuleList([ConvBN(high, middle), ConvBN(middle, low)])
        self.top_down_blocks = nn.ModuleList([layer(2 * middle, middle), layer(2 * low, low)])
        self.downsamples = nn.ModuleList([halve(low), halve(middle)])
        self.bottom_up_blocks = nn.ModuleList([layer(2 * low, middle), layer(2 * middle, high)])
        self.out_convs = nn.ModuleList(map(out, channels))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """[(B, C, H / 8, W / 8), ...] -> the same levels, channels as `out` makes them."""
        c3, c4, c5 = maps
        high = self.reduce_layers[0](c5)
        p4 = self.top_down_blocks[0](torch.cat([enlarge(high), c4], 1))
        middle = self.reduce_layers[1](p4)
        p3 = self.top_down_blocks[1](torch.cat([enlarge(middle), c3], 1))
        p4 = self.bottom_up_blocks[0](torch.cat([self.downsamples[0](p3), middle], 1))
        p5 = self.bottom_up_blocks[1](torch.cat([self.downsamples[1](p4), high], 1))
        return [conv(x) for conv, x in zip(self.out_convs, (p3, p4, p5), strict=True)]
