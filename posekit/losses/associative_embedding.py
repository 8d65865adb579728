"""The losses of associative embedding: heatmaps that say where joints are, tags that say whose (Newell, Huang, Deng
2017, section 3.2; numbers of mmpose 0.x, which POET compares with).

    heatmaps  mean over K, h, w of mask (predicted - target)^2; the target is the largest Gaussian of all people
    pull      1/N sum_n 1/K_n sum_k (t_nk - m_n)^2              m_n: the mean tag of person n's K_n labelled joints
    push      1/(2 N (N - 1)) sum_{n != n'} exp(-(m_n - m_n')^2)

Per image, then the mean over the batch. Legend: B images, N people, K keypoints, (h, w) heatmap.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from posekit.protocols import Losses

PUSH = ("exp", "max")


def tag_losses(tags: Tensor, cells: Tensor, labelled: Tensor, push: str = "exp") -> tuple[Tensor, Tensor]:
    """Pull and push (B,) each, unweighted. Nobody: both 0; one person: push 0.

    tags (B, K, h, w); cells (B, N, K) int64, a joint's y w + x; labelled (B, N, K) bool, padded people have no joint.
    push: "exp" as above, or "max", sums of max(0, 1 - |m_n - m_n'|).
    """
    if push not in PUSH:
        raise ValueError(f"push is {push!r}; choose one of {', '.join(PUSH)}")
    own = tags.flatten(2).gather(2, cells.transpose(1, 2)).transpose(1, 2)  # (B, N, K)
    weight = labelled.to(own.dtype)
    joints = weight.sum(-1)
    exists = joints > 0
    means = (own * weight).sum(-1) / joints.clamp(min=1)  # (B, N)
    spread = ((own - means[..., None]).square() * weight).sum(-1) / joints.clamp(min=1)
    people = exists.sum(1).to(own.dtype)
    difference = means[:, :, None] - means[:, None]
    near = (-difference.square()).exp() if push == "exp" else (1 - difference.abs()).clamp(min=0)
    others = exists[:, :, None] & exists[:, None] & ~torch.eye(own.shape[1], dtype=torch.bool, device=own.device)
    pairs = (people * (people - 1)).clamp(min=1)
    return spread.sum(1) / people.clamp(min=1), 0.5 * (near * others).sum((1, 2)) / pairs


def masked_error(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean over keypoints and cells of mask (B, h, w) times the squared error of maps (B, K, h, w)."""
    return ((predicted - target).square() * mask[:, None]).mean((1, 2, 3))


def cells_of(keypoints: Tensor, visibility: Tensor, stride: float, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Cells (n, K, 2) int64 x, y of joints in pixels of the network input, and which are labelled and inside (n, K)."""
    cells = (keypoints / stride).floor().long()
    limit = torch.tensor(size, device=cells.device)
    inside = ((cells >= 0) & (cells < limit)).all(-1) & (visibility > 0)
    return torch.minimum(cells.clamp(min=0), limit - 1), inside


def gaussians(cells: Tensor, labelled: Tensor, size: tuple[int, int], sigma: float = 2.0) -> Tensor:
    """(K, h, w) per keypoint the largest of the people's Gaussians about their cells, cut at 3 sigma + 1 cells.

    cells (n, K, 2), labelled (n, K), size (w, h), sigma in cells. All zero for nobody.
    """
    lines = []
    for axis, length in enumerate(size):
        offset = torch.arange(length, device=cells.device) - cells[..., axis, None]
        lines.append((-offset.square() / (2 * sigma**2)).exp() * (offset.abs() <= 3 * sigma + 1))
    x, y = lines
    maps = (y * labelled[..., None])[..., None] * x[..., None, :]  # (n, K, h, w)
    return maps.amax(0) if len(maps) else maps.sum(0)


class AssociativeEmbeddingCriterion(nn.Module):
    """`loss_heatmap` (of all scales together), `loss_pull` and `loss_push`, weighted 1, 0.001 and 0.001.

    Targets are those of whole images (COCO's frame, pixels of the network input); joints outside and `ignore` regions
    do not count. `stride`: pixels per cell of the tags. `sigma`: of the Gaussians, in cells of each map.
    """

    def __init__(
        self, stride: int, sigma: float = 2.0, w_heatmap: float = 1.0, w_pull: float = 1e-3, w_push: float = 1e-3
    ) -> None:
        super().__init__()
        self.stride, self.sigma = stride, sigma
        self.weights = {"loss_heatmap": float(w_heatmap), "loss_pull": float(w_pull), "loss_push": float(w_push)}

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        """See the class; outputs as the model gives them."""
        tags, device = outputs["tags"][:, :, 0], outputs["tags"].device
        size = (tags.shape[3], tags.shape[2])
        people = [(one["keypoints"].to(device), one["visibility"].to(device)) for one in targets]
        own = [cells_of(keypoints, visibility, self.stride, size) for keypoints, visibility in people]
        cells = pad_sequence([xy[..., 1] * size[0] + xy[..., 0] for xy, _ in own], batch_first=True)
        labelled = pad_sequence([inside for _, inside in own], batch_first=True)
        pull, push = tag_losses(tags.float(), cells, labelled)
        heat = tags.new_zeros((), dtype=torch.float32)
        for predicted in (value for name, value in outputs.items() if name.startswith("heatmaps")):
            heat = heat + self.heatmap_loss(predicted, people, [one["ignore"].to(device) for one in targets], size)
        return Losses({"loss_heatmap": heat, "loss_pull": pull.mean(), "loss_push": push.mean()}, self.weights)

    def heatmap_loss(self, predicted: Tensor, people: list, regions: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The masked error of one scale, mean over the batch; size (w, h) of the tags, whose stride is known."""
        scale, here = self.stride * size[0] / predicted.shape[-1], (predicted.shape[3], predicted.shape[2])
        cells = [cells_of(keypoints, visibility, scale, here) for keypoints, visibility in people]
        target = torch.stack([gaussians(xy, inside, here, self.sigma) for xy, inside in cells])
        mask = torch.stack([outside(boxes / scale, here) for boxes in regions])
        return masked_error(predicted.float(), target, mask).mean()


def outside(regions: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) 0 where a cell's middle lies in one of the regions (m, 4) x0 y0 x1 y1 in cells, else 1."""
    x, y = (torch.arange(length, device=regions.device) + 0.5 for length in size)
    columns = (x >= regions[:, :1]) & (x <= regions[:, 2:3])
    rows = (y >= regions[:, 1:2]) & (y <= regions[:, 3:])
    return 1 - (rows[:, :, None] & columns[:, None]).any(0).float()
