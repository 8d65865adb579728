"""How far a prediction and a person overlap, in torch: IoU of boxes and OKS of poses, for targets, costs and losses.

The evaluation's OKS (posekit/evaluation/oks.py) is exact to the bit and in numpy; these carry gradients. Leading shapes
broadcast: add axes to compare all with all. Shapes: K keypoints. Coordinates: any, as long as both sides share them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (...) in [0, 1] of boxes (..., 4) xyxy."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1) - shared
    return shared / union.clamp(min=1e-6)


def joint_oks(keypoints: Tensor, others: Tensor, areas: Tensor, sigmas: Tensor) -> Tensor:
    """Similarity (..., K) in [0, 1] joint by joint: exp(-d^2 / (2 area (2 sigma)^2)).

    keypoints, others (..., K, 2) px; areas (...) px^2 of the people; sigmas (K,) as in posekit/layouts.py.
    """
    dx, dy = keypoints[..., 0] - others[..., 0], keypoints[..., 1] - others[..., 1]
    return torch.exp((dx * dx + dy * dy) / (areas.clamp(min=1e-16)[..., None] * (-8 * sigmas.square())))


def pose_oks(keypoints: Tensor, others: Tensor, visible: Tensor, areas: Tensor, sigmas: Tensor) -> Tensor:
    """OKS (...): mean of `joint_oks` over the labelled joints, `visible` (..., K) in {0, 1}; 0 where there is none."""
    joints = joint_oks(keypoints, others, areas, sigmas)
    return (joints * visible).sum(-1) / visible.sum(-1).clamp(min=1)
