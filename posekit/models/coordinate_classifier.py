"""The Dynamic Coordinate Classifier: keypoints as two 1-D heatmaps over bins of each person's box (RTMO, section 3.1).

    x_i = x_l + (x_r - x_l) (i - 1) / (B_x - 1)        bins over 1.25 times the predicted box (dynamic allocation, DBA)
    p_k(x_i) = softmax_i f_k . phi(PE(x_i))            a bin's vector is its encoded place (dynamic encoding, DBE)

f_k: features of keypoint k, refined by a gated attention unit over the K keypoints of one person (Hua et al. 2022).
`cc+dba` has one learned vector per bin instead of PE, `cc` besides has its bins in a fixed range around the grid (as
DFL), `regression` has no heatmaps (Table 3). Legend: M people, K keypoints, P pose features, D keypoint features,
(Bx, By) bins. Coordinates: pixels of the network's input with pixel centres on integers, as in the published code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DECODINGS = ("dcc", "cc+dba", "cc", "regression")
EXPAND = 1.25  # the bins cover this much of the predicted box
BINS = ("x_bins", "y_bins")


class CoordinateClassifier(nn.Module):
    """See the module's docstring. `reach`: half the range in pixels of `decoding="cc"`."""

    def __init__(
        self,
        pose_dim: int,
        num_keypoints: int,
        *,
        decoding: str = "dcc",
        bins: tuple[int, int] = (192, 256),
        dim: int = 128,
        reach: float = 320.0,
    ) -> None:
        super().__init__()
        self.num_keypoints, self.decoding = num_keypoints, decoding
        self.pose_to_kpts = nn.Sequential(
            nn.Linear(pose_dim, dim * num_keypoints), SteadyBatchNorm(dim * num_keypoints)
        )
        self.pos_enc = nn.Parameter(torch.randn(num_keypoints, dim))
        self.gau = GatedAttentionUnit(dim, dim)
        # Constants, out of files in half precision; of "cc" they tell the image size that the weights were trained for
        half = reach if decoding == "cc" else 0.5
        for name, count in zip(BINS, bins, strict=True):
            self.register_buffer(name, torch.linspace(-half, half, count), persistent=decoding == "cc")
        self.register_load_state_dict_pre_hook(whole_bins)
        if decoding == "dcc":
            self.register_buffer("dim_t", sine_periods(dim), persistent=False)
            self.x_fc, self.y_fc = nn.Linear(dim, dim), nn.Linear(dim, dim)
        else:  # a row of the weight is a bin's vector
            self.x_fc, self.y_fc = (nn.Linear(dim, count, bias=False) for count in bins)
        self.sigma_fc = nn.Linear(pose_dim, num_keypoints)
        self.sigma_scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, pose_features: Tensor, boxes: Tensor, grids: Tensor) -> dict[str, Tensor]:
        """pose_features (M, P), boxes (M, 4) x0 y0 x1 y1 px, grids (M, 2) px, the priors' places; M may be 0.

        Returns `keypoints` (M, K, 2) px, `heatmap_x` (M, K, Bx) and `heatmap_y` (M, K, By) that sum to 1 per row,
        `bins_x` (M, Bx) and `bins_y` (M, By) px, `sigmas` (M, K): the error expected of each keypoint, relative to the
        person's size, for the losses.
        """
        features = self.keypoint_features(pose_features)
        bins_x, bins_y = self.bins(boxes.float(), grids)
        heatmap_x = self.logits(features, bins_x - grids[:, :1], self.x_fc).softmax(-1)
        heatmap_y = self.logits(features, bins_y - grids[:, 1:], self.y_fc).softmax(-1)
        x, y = (heatmap_x * bins_x[:, None]).sum(-1), (heatmap_y * bins_y[:, None]).sum(-1)
        maps = {"heatmap_x": heatmap_x, "heatmap_y": heatmap_y, "bins_x": bins_x, "bins_y": bins_y}
        sigmas = self.sigma_fc(pose_features).sigmoid() * self.sigma_scale
        return {"keypoints": torch.stack([x, y], -1)} | maps | {"sigmas": sigmas}

    def keypoint_features(self, pose_features: Tensor) -> Tensor:
        """(M, P) -> (M, K, D)."""
        features = self.pose_to_kpts(pose_features).unflatten(1, (self.num_keypoints, -1))
        return self.gau(features, self.pos_enc)

    def bins(self, boxes: Tensor, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Places of the bins, (M, Bx) and (M, By) px."""
        if self.decoding == "cc":
            return grids[:, :1] + self.x_bins, grids[:, 1:] + self.y_bins
        # differs from paper: boxes keep their gradient here, so the heatmap losses move them too
        center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, EXPAND * (boxes[:, 2:] - boxes[:, :2])
        return self.x_bins * size[:, :1] + center[:, :1], self.y_bins * size[:, 1:] + center[:, 1:]

    def logits(self, features: Tensor, offsets: Tensor, layer: nn.Linear) -> Tensor:
        """features (M, K, D), offsets (M, bins) px of the bins from the grid -> (M, K, bins)."""
        if self.decoding != "dcc":
            return layer(features)
        # f . (W PE + b) = (f W) . PE + f . b: the layer acts on K features and not on every bin
        encoded = encode_places(offsets, self.dim_t).transpose(1, 2)
        return (features @ layer.weight) @ encoded + (features @ layer.bias)[..., None]


def whole_bins(module: CoordinateClassifier, state: dict[str, Tensor], prefix: str, *_) -> None:
    """Before weights are loaded: bins of a file are left out where they are constants, and else made anew from their
    ends, which half precision holds exactly."""
    for name in BINS:
        stored = state.pop(prefix + name, None)
        if stored is not None and module.decoding == "cc":
            whole = stored.ndim == 1 and len(stored) > 1
            state[prefix + name] = torch.linspace(stored[0], stored[-1], len(stored)) if whole else stored


class CoordinateRegression(nn.Module):
    """Table 3, "Regression": a linear layer on the pose features gives the offsets from the grid in units of `unit`."""

    decoding = "regression"

    def __init__(self, pose_dim: int, num_keypoints: int, *, unit: float = 32.0) -> None:
        super().__init__()
        self.num_keypoints, self.unit = num_keypoints, unit
        self.fc = nn.Linear(pose_dim, 2 * num_keypoints)

    def forward(self, pose_features: Tensor, boxes: Tensor, grids: Tensor) -> dict[str, Tensor]:
        """As `CoordinateClassifier`; returns `keypoints` (M, K, 2) px alone, the boxes do not matter."""
        offsets = self.fc(pose_features).float().unflatten(1, (self.num_keypoints, 2))
        return {"keypoints": grids[:, None] + self.unit * offsets}


class GatedAttentionUnit(nn.Module):
    """Attention over the K keypoints of a person with squared ReLU instead of softmax, gated (Hua et al. 2022)."""

    def __init__(self, dim: int, attention_dim: int, expansion: int = 2) -> None:
        super().__init__()
        self.sizes = (expansion * dim, expansion * dim, attention_dim)
        self.gamma, self.beta = nn.Parameter(torch.rand(2, attention_dim)), nn.Parameter(torch.rand(2, attention_dim))
        self.o = nn.Linear(expansion * dim, dim, bias=False)
        self.uv = nn.Linear(dim, sum(self.sizes), bias=False)
        self.norm_scale = nn.Parameter(torch.ones(1))
        self.res_scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """x (M, K, D), position (K, S) joins queries and keys -> (M, K, D)."""
        length = x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        u, v, base = F.silu(self.uv(x / length.clamp(min=1e-5) * self.norm_scale)).split(self.sizes, -1)
        q, k = (base * self.gamma[i] + self.beta[i] + position for i in (0, 1))
        kernel = torch.relu(q @ k.transpose(1, 2) * self.sizes[2] ** -0.5).square()
        return x * self.res_scale + self.o(u * (kernel @ v))


class SteadyBatchNorm(nn.BatchNorm1d):
    """Batch norm that uses its running statistics when fewer than two people leave nothing to measure."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def classifier(pose_dim: int, num_keypoints: int, decoding: str = "dcc", reach: float = 320.0, **options) -> nn.Module:
    """The module that turns pose features into keypoints; `decoding` as in Table 3, `reach` half an image in px.

    Raises:
        ValueError: an unknown decoding.
    """
    if decoding not in DECODINGS:
        raise ValueError(f"decoding is {decoding!r}; choose one of {', '.join(DECODINGS)}")
    if decoding == "regression":
        return CoordinateRegression(pose_dim, num_keypoints, unit=reach / 10)
    return CoordinateClassifier(pose_dim, num_keypoints, decoding=decoding, reach=reach, **options)


def sine_periods(dim: int) -> Tensor:
    """(dim / 2,) periods 300 ** (c / (dim / 2)) of the sine code of bins."""
    return 300.0 ** (torch.arange(dim // 2) / (dim // 2))


def encode_places(places: Tensor, periods: Tensor) -> Tensor:
    """places (M, n) px -> (M, n, 2 periods) = [cos, sin].

    # differs from paper: there sine and cosine alternate and x_i itself is encoded; released: blocks, and x_i minus the
    # grid's place.
    """
    angle = places[..., None] / periods
    return torch.cat([angle.cos(), angle.sin()], -1)
