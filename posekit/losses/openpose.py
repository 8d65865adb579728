"""What OpenPose learns: heatmaps of parts and fields along limbs, at every stage (Cao et al. 2017, Eqs. 5 to 9).

    loss = sum over stages of mean(mask (maps - target)^2), for the fields and for the heatmaps

Legend: n people, P = 18 parts, E = 19 limbs, (h, w) maps. Frame: cells; a joint at x pixels lies at x / stride - 1/2,
so that the middle of cell (r, c) is (c, r).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posekit.losses.associative_embedding import outside
from posekit.models.part_affinity import LIMBS, PARTS, TO_COCO
from posekit.protocols import Losses

SHOULDERS = (5, 6)  # of COCO's keypoints


def parts_of(keypoints: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
    """COCO's keypoints (n, 17, 2) and visibility (n, 17) -> parts (n, P, 2) and which are labelled (n, P) bool.

    The neck is the middle of the shoulders, where both are labelled.
    """
    parts, labelled = keypoints.new_zeros(len(keypoints), len(PARTS), 2), visibility > 0
    known = torch.zeros(len(keypoints), len(PARTS), dtype=torch.bool, device=keypoints.device)
    parts[:, list(TO_COCO)], known[:, list(TO_COCO)] = keypoints, labelled
    neck = PARTS.index("neck")
    parts[:, neck] = keypoints[:, list(SHOULDERS)].mean(1)
    known[:, neck] = labelled[:, list(SHOULDERS)].all(1)
    return parts, known


def part_heatmaps(parts: Tensor, labelled: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """(P + 1, h, w): per part the largest of the people's Gaussians, then the background, 1 less the largest of all.

    parts (n, P, 2) in cells; size (w, h); sigma in cells.
    """
    x, y = (
        (-(torch.arange(length, device=parts.device) - parts[..., axis, None]).square() / (2 * sigma**2)).exp()
        for axis, length in enumerate(size)
    )
    maps = (y * labelled[..., None])[..., None] * x[..., None, :]
    maps = maps.amax(0) if len(maps) else maps.sum(0)
    return torch.cat([maps, 1 - maps.amax(0, keepdim=True)])


def limb_fields(parts: Tensor, labelled: Tensor, size: tuple[int, int], width: float) -> Tensor:
    """(2 E, h, w): unit vectors of the limbs on cells within `width` cells of them, the mean where people overlap."""
    first, second = (parts[:, [limb[end] for limb in LIMBS]] for end in (0, 1))
    both = (labelled[:, [a for a, _ in LIMBS]] & labelled[:, [b for _, b in LIMBS]])[..., None, None]
    delta = second - first
    length = delta.norm(dim=-1).clamp(min=1e-6)
    unit = delta / length[..., None]
    x, y = (torch.arange(count, device=parts.device, dtype=parts.dtype) for count in size)
    dx, dy = x - first[..., 0, None, None], (y - first[..., 1, None])[..., None]  # (n, E, 1, w), (n, E, h, 1)
    ux, uy = unit[..., 0, None, None], unit[..., 1, None, None]
    along, across = dx * ux + dy * uy, (dx * uy - dy * ux).abs()
    on = (along >= 0) & (along <= length[..., None, None]) & (across <= width) & both
    fields = torch.stack([(on * ux).sum(0), (on * uy).sum(0)], 1) / on.sum(0).clamp(min=1)[:, None]
    return fields.flatten(0, 1)


class OpenPoseCriterion(nn.Module):
    """`loss_paf` and `loss_heatmap`, sums over the stages. `sigma`, `limb_width`: in cells of `stride` pixels."""

    def __init__(
        self,
        stride: int = 8,
        *,
        sigma: float = 0.9,
        limb_width: float = 1.0,
        w_paf: float = 1.0,
        w_heatmap: float = 1.0,
    ) -> None:
        super().__init__()
        self.stride, self.sigma, self.limb_width = stride, sigma, limb_width
        self.weights = {"loss_paf": float(w_paf), "loss_heatmap": float(w_heatmap)}

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        """See the class; targets of whole images (COCO's frame, pixels of the network input)."""
        size, device = (outputs["pafs"].shape[4], outputs["pafs"].shape[3]), outputs["pafs"].device
        heatmaps, fields, masks = [], [], []
        for target in targets:
            parts, labelled = parts_of(target["keypoints"].to(device), target["visibility"].to(device))
            parts = parts / self.stride - 0.5
            heatmaps.append(part_heatmaps(parts, labelled, size, self.sigma))
            fields.append(limb_fields(parts, labelled, size, self.limb_width))
            masks.append(outside(target["ignore"].to(device) / self.stride, size))
        mask = torch.stack(masks)[:, None]
        wanted = {"pafs": torch.stack(fields), "heatmaps": torch.stack(heatmaps)}
        terms = {
            name: ((outputs[key].float() - wanted[key]).square() * mask).mean((1, 2, 3, 4)).sum()
            for name, key in (("loss_paf", "pafs"), ("loss_heatmap", "heatmaps"))
        }
        return Losses(terms, self.weights)
