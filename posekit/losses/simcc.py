"""SimCC: a keypoint as two classifications, one over bins of x and one over bins of y (Li et al. 2022; RTMPose: Jiang
et al. 2023, section 3.2).

The label of a bin is a Gaussian about the bin of the annotation, and the loss the divergence of the predicted from the
labelled distribution, both softmaxes sharpened by `beta`. Legend: N crops, K keypoints, W x H pixels, `split` bins per
pixel. Frame: the released code's pixel index.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from posekit.pixels import to_pixel_index
from posekit.protocols import Losses

SIGMA = (4.9, 5.66)  # in bins, for crops of 192 x 256 pixels


def simcc_labels(
    keypoints: Tensor, weights: Tensor, size: tuple[int, int], sigma=SIGMA, split: float = 2.0, normalise: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (N, K, split W) of x and (N, K, split H) of y, and the weights (N, K) of the keypoints.

    keypoints (N, K, 2) pixel index, weights (N, K), size (W, H), sigma of x and y in bins. The Gaussian stands on the
    nearest bin, with height 1, or area 1 with `normalise`. A keypoint of weight 0, or further outside than 3 sigma, has
    labels of 0 and weight 0.
    """
    centre = (keypoints * split).round()
    spread = torch.tensor(sigma, dtype=keypoints.dtype, device=keypoints.device)
    limit = torch.tensor(size, device=keypoints.device) * split
    near = ((centre - 3 * spread < limit) & (centre + 3 * spread + 1 >= 0)).all(-1)
    weights = torch.where(near, weights, 0)
    labels = []
    for axis, length in enumerate(size):
        offset = torch.arange(round(length * split), device=keypoints.device) - centre[..., axis, None]
        gauss = (-offset.square() / (2 * spread[axis] ** 2)).exp() * (weights > 0.5)[..., None]
        labels.append(gauss / (spread[axis] * math.sqrt(2 * math.pi)) if normalise else gauss)
    return labels[0], labels[1], weights


def simcc_loss(predicted: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor], weights: Tensor, beta: float = 10.0):
    """Scalar: per axis the mean over bins of KL(softmax(beta label) || softmax(beta predicted)), times the weight, over
    crops and keypoints summed, divided by K."""
    total = predicted[0].new_zeros(())
    for ours, label in zip(predicted, labels, strict=True):
        divergence = functional.kl_div(
            (beta * ours.float()).log_softmax(-1), (beta * label).softmax(-1), reduction="none"
        ).mean(-1)
        total = total + (divergence * weights).sum()
    return total / weights.shape[1]


class SimccCriterion(nn.Module):
    """`loss_simcc` of crops of `crop_size` = (W, H); targets hold `keypoints` (1, K, 2) px of the crop, COCO's frame,
    and `visibility` (1, K)."""

    def __init__(self, crop_size: tuple[int, int], sigma=SIGMA, split: float = 2.0, beta: float = 10.0) -> None:
        super().__init__()
        self.crop_size, self.sigma, self.split, self.beta = crop_size, tuple(sigma), split, beta

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        """See the class; outputs as the model gives them."""
        device = outputs["x"].device
        keypoints = to_pixel_index(torch.cat([one["keypoints"] for one in targets]).to(device))
        weights = (torch.cat([one["visibility"] for one in targets]) > 0).float().to(device)
        *labels, weights = simcc_labels(keypoints, weights, self.crop_size, self.sigma, self.split)
        loss = simcc_loss((outputs["x"], outputs["y"]), tuple(labels), weights, self.beta)
        return Losses({"loss_simcc": loss}, {"loss_simcc": 1.0})
