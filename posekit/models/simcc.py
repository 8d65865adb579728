"""SimCC's head and decoding as in RTMPose (Jiang et al. 2023, Fig. 2): crops become two rows of bins per keypoint.

Legend: N crops, K keypoints, C channels, h x w cells of the last map, (Bx, By) bins of x and y.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from posekit.models.coordinate_classifier import GatedAttentionUnit


class ScaleNorm(nn.Module):
    """x / max(|x| / sqrt(dim), eps) times one learned factor."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.scale, self.eps, self.g = dim**-0.5, eps, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.norm(dim=-1, keepdim=True) * self.scale).clamp(min=self.eps) * self.g


class SimccHead(nn.Module):
    """A 7 x 7 convolution to K maps, each map a token; a gated attention unit over the tokens; bins of x and y."""

    def __init__(
        self, channels: int, num_keypoints: int, cells: int, bins: tuple[int, int], dim: int = 256, kernel: int = 7
    ) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(channels, num_keypoints, kernel, padding=kernel // 2)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, dim, bias=False))
        self.gau = GatedAttentionUnit(dim, 128)
        self.cls_x, self.cls_y = (nn.Linear(dim, count, bias=False) for count in bins)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """(N, C, h, w) -> `x` (N, K, Bx), `y` (N, K, By), raw numbers."""
        tokens = self.gau(self.mlp(self.final_layer(features).flatten(2)), 0.0)
        return {"x": self.cls_x(tokens), "y": self.cls_y(tokens)}


def decode_bins(x: np.ndarray, y: np.ndarray, split: float = 2.0, sigma=None) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (N, K, 2) in pixel index, and scores (N, K): of both axes' largest bins the smaller value.

    x (N, K, Bx), y (N, K, By). A keypoint whose score is not positive lies at -1 / split. sigma: of the labels in bins
    of x and y; None stays with the largest bin, as RTMPose does; else one Newton step on the logarithm of the blurred
    bins follows (DARK: Zhang et al. 2020).
    """
    bins = np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(np.float32)
    scores = np.minimum(x.max(-1), y.max(-1))
    bins[scores <= 0] = -1
    if sigma is not None:
        for axis, (rows, spread) in enumerate(zip((x, y), sigma, strict=True)):
            bins[..., axis] -= newton_step(rows, bins[..., axis], int((spread * 20 - 7) // 3))
    return bins / np.float32(split), scores


def newton_step(rows: np.ndarray, bins: np.ndarray, kernel: int) -> np.ndarray:
    """(N, K) first by second derivative of the logarithm of the blurred rows (N, K, B) at `bins` (N, K)."""
    blurred = cv2.GaussianBlur(
        np.ascontiguousarray(rows.reshape(-1, rows.shape[-1])), (kernel, 1), 0, borderType=cv2.BORDER_CONSTANT
    ).reshape(rows.shape)
    peak = blurred.max(-1, keepdims=True)
    blurred = blurred * (rows.max(-1, keepdims=True) / np.where(peak == 0, 1, peak))
    log = np.pad(np.log(blurred.clip(1e-3, 50)), ((0, 0), (0, 0), (2, 2)), "edge")
    index = (bins + 2.5).astype(np.int64)[..., None]
    far_left, left, middle, right, far_right = (
        np.take_along_axis(log, index + step, -1)[..., 0] for step in range(-2, 3)
    )
    return 0.5 * (right - left) / (0.25 * (far_right - 2 * middle + far_left) + 1e-9)
