"""RTMDet's losses (Lyu et al. 2022, section 3.3): scores that learn the boxes' overlap, and generalised IoU.

A cell is a candidate for the people whose box its prior lies in. The cost of a pair is the focal distance of the score
from the overlap, three times -log of the overlap, and a soft preference for cells near the middle; each person takes
its k cheapest cells, k the sum of its 13 best overlaps. Shapes: B images, N priors, G people. Frame: COCO's pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from posekit.losses.overlaps import box_iou
from posekit.protocols import Losses

NEVER = 1e8  # cost of a cell outside a person's box


@torch.no_grad()
def assign_boxes(
    logits: Tensor, boxes: Tensor, priors: Tensor, people: Tensor, exists: Tensor, most: int = 13
) -> tuple[Tensor, Tensor]:
    """The person of each prior (B, N), -1 for nobody, and the overlap (B, N) with it, 0 where nobody.

    logits (B, N), boxes (B, N, 4), priors (N, 3) = x, y, stride, people (B, G, 4), exists (B, G) bool.

    Raises:
        FloatingPointError: predictions that are not finite.
    """
    if not (logits.isfinite().all() and boxes.isfinite().all()):
        raise FloatingPointError("RTMDet's scores or boxes hold NaN or infinity: lower the learning rate")
    if not people.shape[1]:
        return torch.full_like(logits, -1, dtype=torch.long), torch.zeros_like(logits)
    place, stride = priors[:, None, :2], priors[:, 2:]
    inside = torch.cat([place - people[:, None, :, :2], people[:, None, :, 2:] - place], -1).amin(-1) > 0
    inside = inside & exists[:, None]
    iou = box_iou(boxes[:, :, None], people[:, None])  # (B, N, G)
    middle = (people[..., :2] + people[..., 2:]) / 2
    distance = (place - middle[:, None]).norm(dim=-1) / stride
    score = logits[..., None].expand_as(iou)
    focal = functional.binary_cross_entropy_with_logits(score, iou, reduction="none") * (iou - score.sigmoid()) ** 2
    cost = focal - 3 * (iou + 1e-7).log() + 10.0 ** (distance - 3).clamp(max=6)
    cost = torch.where(inside, cost, NEVER)
    most = min(most, len(priors))
    k = (iou * inside).topk(most, dim=1).values.sum(1).int().clamp(min=1)
    cheapest = cost.topk(most, dim=1, largest=False)
    rank = torch.arange(most, device=k.device)[:, None]
    taken = torch.zeros_like(inside).scatter(1, cheapest.indices, (rank < k[:, None]) & (cheapest.values < NEVER))
    owner = torch.where(taken, cost, torch.inf).argmin(2)
    found = taken.any(2)
    overlap = iou.gather(2, owner[..., None])[..., 0]
    return torch.where(found, owner, -1), overlap * found


class RtmdetCriterion(nn.Module):
    """`loss_cls`, the quality focal loss (beta 2), and `loss_bbox`, 1 - generalised IoU, weighted 1 and 2; both by the
    sum of the positives' overlaps. People with a box under a pixel are not learnt."""

    weights = {"loss_cls": 1.0, "loss_bbox": 2.0}

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        """See the class; targets as the loader gives them (COCO's frame, pixels of the network input)."""
        from torchvision.ops import generalized_box_iou_loss  # with it comes torch's compiler

        logits, boxes, priors = (outputs[name].float() for name in ("cls_logits", "boxes", "priors"))
        rows = [one["boxes"].reshape(-1, 4).float().to(logits.device) for one in targets]
        rows = [one[((one[:, 2:] - one[:, :2]) > 1).all(1)] for one in rows]
        people = pad_sequence(rows, batch_first=True)
        exists = pad_sequence([one.new_ones(len(one), dtype=torch.bool) for one in rows], batch_first=True)
        person, overlap = assign_boxes(logits, boxes, priors, people, exists)
        size = overlap.sum().clamp(min=1)
        focal = functional.binary_cross_entropy_with_logits(logits, overlap, reduction="none")
        score = (focal * (overlap - logits.sigmoid()).abs() ** 2).sum() / size
        image, prior = (person >= 0).nonzero(as_tuple=True)
        apart = generalized_box_iou_loss(boxes[image, prior], people[image, person[image, prior]])
        return Losses(
            {"loss_cls": score, "loss_bbox": (apart * overlap[image, prior]).sum() / size}, dict(self.weights)
        )
