"""The decoders of ViTPose (Xu et al. 2022, section 3.1, Eqs. 1-2) and the minimal one of ViTPose++: features in,
heatmaps out, raw numbers.

Legend: B crops, C channels, grid h x w, K keypoints, `doublings` m: the heatmaps are 2^m h x 2^m w.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DECODERS = ("classic", "simple", "minimal")


class ClassicDecoder(nn.Module):
    """m x [4x4 transposed convolution, stride 2, batch norm, ReLU], then a 1x1 convolution."""

    def __init__(self, channels: int, keypoints: int, doublings: int = 2, filters: int = 256) -> None:
        super().__init__()
        layers = []
        for _ in range(doublings):
            up = nn.ConvTranspose2d(channels, filters, kernel_size=4, stride=2, padding=1, bias=False)
            layers += [up, nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(channels, keypoints, kernel_size=1)
        _small_start(self)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K, 2^m h, 2^m w)."""
        return self.final_layer(self.deconv_layers(features))


class SimpleDecoder(nn.Module):
    """ReLU, bilinear upsampling, a 3x3 convolution.

    # differs from paper: Eq. 2 has the ReLU after the upsampling; the released code and weights have it before
    """

    def __init__(self, channels: int, keypoints: int, doublings: int = 2) -> None:
        super().__init__()
        self.scale = 2**doublings
        self.final_layer = nn.Conv2d(channels, keypoints, kernel_size=3, padding=1)
        _small_start(self)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K, 2^m h, 2^m w)."""
        features = torch.relu(features)
        if self.scale > 1:
            features = F.interpolate(features, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.final_layer(features)


class MinimalDecoder(nn.Module):
    """A 1x1 convolution to 4^m numbers per keypoint and cell, laid out as 2^m x 2^m pixels (`PixelShuffle`).

    # differs from paper: ViTPose++ calls the rearrangement PixelUnshuffle; it makes maps larger, so it is the shuffle
    """

    def __init__(self, channels: int, keypoints: int, doublings: int = 2) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(channels, keypoints * 4**doublings, kernel_size=1)
        self.shuffle = nn.PixelShuffle(2**doublings)
        _small_start(self)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K, 2^m h, 2^m w)."""
        return self.shuffle(self.final_layer(features))


def decoder_for(kind: str, channels: int, keypoints: int, doublings: int, filters: int = 256) -> nn.Module:
    """A decoder by name; `filters` counts for the classic one only.

    Raises:
        ValueError: an unknown name.
    """
    if kind == "classic":
        return ClassicDecoder(channels, keypoints, doublings, filters)
    if kind == "simple":
        return SimpleDecoder(channels, keypoints, doublings)
    if kind == "minimal":
        return MinimalDecoder(channels, keypoints, doublings)
    raise ValueError(f"decoder is {kind!r}; choose one of {', '.join(DECODERS)}")


def _small_start(decoder: nn.Module) -> None:
    """Convolutions normal with a deviation of 0.001, bias 0, as released: heatmaps start near zero."""
    for module in decoder.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=0.001)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
