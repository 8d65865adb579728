"""The decoders of ViTPose (Xu et al. 2022, section 3.1, Eqs. 1-2) and the minimal one of ViTPose++: features in,
heatmaps out, raw numbers.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

DECODERS = ("classic", "simple", "minimal")


def decoder_for(kind: str, channels: int, keypoints: int, doublings: int, filters: int = 256) -> nn.Sequential:
    """A decoder by name, features (B, C, h, w) -> heatmaps (B, K, 2^m h, 2^m w) with m `doublings`.

    "classic": m x [4x4 transposed convolution of `filters` channels, stride 2, batch norm, ReLU], a 1x1 convolution.
    "simple": ReLU, bilinear upsampling, a 3x3 convolution.
    "minimal": a 1x1 convolution to 4^m numbers per keypoint and cell, laid out as 2^m x 2^m pixels.

    Raises:
        ValueError: an unknown name.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if kind == "classic":
        deconvs: list[nn.Module] = []
        for _ in range(doublings):
            up = nn.ConvTranspose2d(channels, filters, kernel_size=4, stride=2, padding=1, bias=False)
            deconvs += [up, nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        layers["deconv_layers"] = nn.Sequential(*deconvs)
        layers["final_layer"] = nn.Conv2d(channels, keypoints, kernel_size=1)
    elif kind == "simple":
        # differs from paper: Eq. 2 has the ReLU after the upsampling; the released code and weights have it before
        layers["relu"] = nn.ReLU()
        if doublings:
            layers["enlarge"] = nn.Upsample(scale_factor=2**doublings, mode="bilinear", align_corners=False)
        layers["final_layer"] = nn.Conv2d(channels, keypoints, kernel_size=3, padding=1)
    elif kind == "minimal":
        # differs from paper: ViTPose++ says PixelUnshuffle; the rearrangement makes maps larger, so it is the shuffle
        layers["final_layer"] = nn.Conv2d(channels, keypoints * 4**doublings, kernel_size=1)
        layers["shuffle"] = nn.PixelShuffle(2**doublings)
    else:
        raise ValueError(f"decoder is {kind!r}; choose one of {', '.join(DECODERS)}")
    decoder = nn.Sequential(layers)
    for module in decoder.modules():  # as released: heatmaps start near zero
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.001)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return decoder
