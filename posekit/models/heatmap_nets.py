"""ResNet-50 with deconvolution layers that ends in heatmaps: SimpleBaseline (Xiao, Wu, Wei 2018, arXiv
1804.06208, Fig. 2).

One person per crop: 3 x 256 x 192 in, one heatmap of 64 x 48 per keypoint out. With other `channels` and
`deconvs` the same network is the trunk of associative embedding at stride 4, 8, 16 or 32. Legend: B crops, K
keypoints, (h, w) heatmap.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.poses import Poses


class HeatmapNet(nn.Module):
    """ResNet-50 up to its last stage (stride 32), `deconvs` x [4x4 transposed convolution, stride 2, 256
    channels, batch norm, ReLU], a 1x1 convolution.

    With three deconvolutions and 17 channels: 33,999,697 parameters. `crop_size` = (width, height) of the
    input.
    """

    def __init__(
        self,
        channels: int = 17,
        deconvs: int = 3,
        crop_size: tuple[int, int] = (192, 256),
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        from torchvision.models import ResNet50_Weights, resnet50

        self.input = InputSpec(size=max(crop_size), fit="crop")
        self.crop_size, self.stride = crop_size, 32 // 2**deconvs
        network = resnet50(weights=ResNet50_Weights.IMAGENET1K_V1 if pretrained else None)
        self.backbone = nn.Sequential(OrderedDict(list(network.named_children())[:-2]))
        layers, width = [], 2048
        for _ in range(deconvs):
            up = nn.ConvTranspose2d(width, 256, kernel_size=4, stride=2, padding=1, bias=False)
            nn.init.normal_(up.weight, std=0.001)
            layers += [up, nn.BatchNorm2d(256), nn.ReLU(inplace=True)]
            width = 256
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(width, channels, kernel_size=1)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.bias)

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Normalised crops (B, 3, H, W) -> `heatmaps` (B, channels, H / stride, W / stride), not squashed."""
        return {"heatmaps": self.final_layer(self.deconv_layers(self.backbone(images)))}

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        to_crop: np.ndarray,
        boxes: np.ndarray,
        scores: np.ndarray | None = None,
    ) -> Poses:
        """The people of one picture from the heatmaps of their crops.

        Args:
            to_crop: (B, 2, 3) matrices that made the crops; boxes: (B, 4) x0 y0 x1 y1 pixels of the picture.
            scores: (B,) of the boxes, 1 by default; a person's score is its box's times the mean of its
            joints.
        """
        points, values = peaks(outputs["heatmaps"])
        points, values = (points * self.stride).cpu().numpy(), values.clamp(0, 1).cpu().numpy()
        to_crop = np.asarray(to_crop, np.float64).reshape(-1, 2, 3)
        back = np.linalg.inv(to_crop[:, :, :2])
        keypoints = np.einsum("nij,nkj->nki", back, points - to_crop[:, None, :, 2])
        sure = np.ones(len(points)) if scores is None else np.asarray(scores)
        people = (keypoints, values, sure * values.mean(1), np.asarray(boxes).reshape(-1, 4))
        return Poses(*(array.astype(np.float32) for array in people))


def peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Highest cell of each map (B, K, h, w), moved a quarter of a cell towards its larger neighbour in x and
    in y.

    Returns: points (B, K, 2) in heatmap units with the corner frame (the middle of cell (r, c) is (c + .5, r
    + .5)), and values (B, K).
    # differs from paper: the released code calls the middle of cell (r, c) (c, r), half a cell less.
    """
    height, width = heatmaps.shape[2:]
    values, where = heatmaps.flatten(2).max(-1)
    column, row = where % width, where // width

    def value(r: Tensor, c: Tensor) -> Tensor:
        index = r.clamp(0, height - 1) * width + c.clamp(0, width - 1)
        return heatmaps.flatten(2).gather(-1, index[..., None])[..., 0]

    # A peak on the border has one neighbour only: it stays where it is, as in the released code.
    inner_x, inner_y = (column > 0) & (column < width - 1), (row > 0) & (row < height - 1)
    shift_x = torch.sign(value(row, column + 1) - value(row, column - 1)) * inner_x
    shift_y = torch.sign(value(row + 1, column) - value(row - 1, column)) * inner_y
    points = torch.stack([column + 0.5 + 0.25 * shift_x, row + 0.5 + 0.25 * shift_y], -1)
    return points.float(), values


def simple_baseline_r50(**overrides) -> HeatmapNet:
    """SimpleBaseline-R50 at 256 x 192: 34.00 M parameters, 5.4 billion multiply-adds per person."""
    return HeatmapNet(**overrides)
