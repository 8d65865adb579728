"""RTMPose: a crop of one person in, two rows of bins per keypoint out (Jiang et al. 2023, arXiv 2303.07399, Fig. 2).

CSPNeXt (timm's) to stride 32 and SimCC's head (`simcc.py`). Legend: M crops of W x H pixels, K keypoints, two bins per
pixel. Frame: pixel index inside the model, as published weights want it; `decode` adds the half pixel to COCO's frame.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.backbones import TinyResNet
from posekit.models.fusion import fused
from posekit.models.simcc import SimccHead, decode_bins
from posekit.pixels import from_pixel_index
from posekit.poses import Poses

SIZES = {"t": "cspnext_tiny", "s": "cspnext_s", "m": "cspnext_m", "l": "cspnext_l"}
SPLIT = 2.0  # bins per pixel
RESCORE = 0.2  # keypoints above this value count in a person's score


class RTMPose(nn.Module):
    """See the module's docstring. `crop_size` = (width, height); `dim`: channels of a keypoint's token."""

    fuse = fused

    def __init__(
        self, backbone: nn.Module, *, num_keypoints: int = 17, crop_size: tuple[int, int] = (192, 256), dim: int = 256
    ) -> None:
        super().__init__()
        self.input, self.num_keypoints, self.crop_size = InputSpec(max(crop_size), fit="crop"), num_keypoints, crop_size
        self.stride, (width, height) = backbone.stride, crop_size
        if width % self.stride or height % self.stride:
            raise ValueError(f"crops of {width} x {height} pixels are no whole number of cells of {self.stride} pixels")
        cells = (width // self.stride) * (height // self.stride)
        bins = (round(width * SPLIT), round(height * SPLIT))
        self.backbone = backbone
        self.head = SimccHead(backbone.channels, num_keypoints, cells, bins, dim)

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Normalised crops (M, 3, H, W) -> `x` (M, K, 2 W) and `y` (M, K, 2 H), raw numbers."""
        return self.head(self.backbone(images))

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], image_sizes: Tensor, layer: int = -1) -> list[Poses]:
        """One person per crop, in pixels of the crop, COCO's frame; the box is the whole crop.

        image_sizes (M, 2) = (width, height) of the crops. A keypoint's visibility is the smaller of its two largest
        bins, cut to [0, 1]; the person's score the mean of those above 0.2. `layer` is not used: there is one.
        """
        x, y = (outputs[axis].float().cpu().numpy() for axis in "xy")
        points, values = decode_bins(x, y, SPLIT)
        points, values = from_pixel_index(points), values.clip(0, 1)
        counted = values > RESCORE
        scores = (values * counted).sum(1) / np.maximum(counted.sum(1), 1)
        boxes = np.zeros((len(points), 4), np.float32)
        boxes[:, 2:] = torch.as_tensor(image_sizes).cpu().numpy()
        people = zip(points, values, scores.astype(np.float32), boxes, strict=True)
        return [Poses(*(array[None] for array in person)) for person in people]


class CSPNeXt(nn.Module):
    """timm's CSPNeXt, its last map alone (stride 32). `name`: as timm calls it."""

    stride = 32

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        import timm  # several seconds: only where it is used

        self.body = timm.create_model(name, features_only=True, out_indices=(4,), pretrained=pretrained)
        self.channels = self.body.feature_info.channels()[0]

    def forward(self, images: Tensor) -> Tensor:
        """(M, 3, H, W) -> (M, channels, H / 32, W / 32)."""
        return self.body(images)[0]


def rtmpose(size: str = "s", pretrained: bool = False, **overrides) -> RTMPose:
    """RTMPose-t, -s, -m or -l: 3.34, 5.47, 13.59 and 27.66 M parameters; `pretrained`: timm's ImageNet weights.

    Raises:
        ValueError: an unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"there is no RTMPose-{size}; sizes are {', '.join(SIZES)}")
    return RTMPose(CSPNeXt(SIZES[size], pretrained), **overrides)


def rtmpose_tiny(**overrides) -> RTMPose:
    """For crops of 96 x 64 pixels (height x width) on two CPU cores: 24 cells of stride 16, 0.5 M parameters."""
    return RTMPose(TinyResNet(), **{"crop_size": (64, 96), "dim": 96} | overrides)
