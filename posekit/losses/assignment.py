"""SimOTA with poses: which priors answer for which person (RTMO, Sec. 3.3; Ge et al. 2021, Sec. 2).

A prior is a candidate if it lies in a person's box or near a person's centre. Each person takes its k cheapest
candidates, where k is the sum of its ten best overlaps; a prior that several people took goes to the cheapest of them.

The whole batch at once: people are padded to the largest crowd, candidates to the largest number of them.
Shapes: B images, N priors, C candidates (padded), G people (padded), K keypoints. Coordinates: pixel index (see
targets.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from posekit.losses.overlaps import box_iou, pose_oks
from posekit.losses.targets import PaddedTargets

FAR = 1e5  # cost of a prior that is not both in the box and near the centre
RADIUS = 2.5  # strides in x and in y within which a prior is near a centre
MOST = 10  # overlaps whose sum is the number of priors of a person
W_IOU, W_OKS = 3.0, 3.0  # of the cost; the class term's weight is 1
TINY = 1e-7


@torch.no_grad()
def assign(
    cls_logits: Tensor,
    boxes: Tensor,
    keypoints: Tensor,
    priors: Tensor,
    people: PaddedTargets,
    sigmas: Tensor,
    *,
    center: str = "box",
    dynamic_k: str = "oks",
) -> tuple[Tensor, Tensor]:
    """The person of each prior.

    cls_logits (B, N), boxes (B, N, 4) xyxy px, keypoints (B, N, K, 2) px (the regressed proxy poses), priors (N, 3) =
    x, y, stride. `center`: the middle of the "box" or the mean of the visible "keypoints". `dynamic_k`: the overlap,
    "oks" or "iou", that is summed over the best.

    Returns person (B, N), index into `people` or -1, and overlap (B, N) with that person (OKS or IoU), 0 where none.

    Raises:
        FloatingPointError: a cost is not finite; the sentence names the image's place in the batch.
        ValueError: an unknown `center` or `dynamic_k`.
    """
    for name, value, known in (("center", center, ("box", "keypoints")), ("dynamic_k", dynamic_k, ("oks", "iou"))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
    check_finite(cls_logits.isfinite())
    person = torch.full(cls_logits.shape, -1, device=cls_logits.device)
    overlap = torch.zeros(cls_logits.shape, device=cls_logits.device)
    inside, near = where_priors_lie(priors, people, center)
    candidate = (inside | near).any(2)
    count = int(candidate.sum(1).max()) if people.exists.numel() else 0
    if not count:
        return person, overlap

    # candidates first, in the order of the priors
    index = candidate.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
    valid = candidate.gather(1, index)[..., None] & people.exists[:, None]
    rows = torch.arange(len(index), device=index.device)[:, None]
    iou = box_iou(boxes[rows, index].float()[:, :, None], people.boxes[:, None])
    truth, visible, areas = people.keypoints[:, None], people.visible[:, None], people.areas[:, None]
    oks = pose_oks(keypoints[rows, index].float()[:, :, None], truth, visible, areas, sigmas)
    cost = FAR * ~(inside & near)[rows, index] - W_IOU * (iou + TINY).log() - W_OKS * (oks + TINY).log()
    # binary cross entropy of the square root of the score with 1: -log sqrt(sigmoid(x))
    cost = cost + torch.nn.functional.softplus(-cls_logits[rows, index].float())[..., None] / 2
    check_finite((cost.isfinite() | ~valid).flatten(1))

    similarity = (oks if dynamic_k == "oks" else iou) * valid
    most = min(MOST, count)
    k = similarity.topk(most, dim=1).values.sum(1).int().clamp(min=1)
    cheapest = cost.masked_fill(~valid, torch.inf).topk(most, dim=1, largest=False)
    rank = torch.arange(most, device=k.device)[:, None]
    taken = torch.zeros_like(valid).scatter(1, cheapest.indices, (rank < k[:, None]) & cheapest.values.isfinite())
    # a prior that several people took goes to whom it costs least, even to one who did not ask for it
    contested = taken.sum(2) > 1
    owner = torch.where(contested, cost.masked_fill(~valid, torch.inf).argmin(2), taken.byte().argmax(2))
    found = taken.any(2)
    matched = similarity.gather(2, owner[..., None])[..., 0]
    person.scatter_(1, index, torch.where(found, owner, -1))
    overlap.scatter_(1, index, matched * found)
    return person, overlap


def where_priors_lie(priors: Tensor, people: PaddedTargets, center: str) -> tuple[Tensor, Tensor]:
    """(B, N, G) bool each: the prior is inside the person's box; it is near the person's centre."""
    x, y, stride = priors.float().unbind(1)
    point = torch.stack([x, y], 1)[None, :, None]
    inside = torch.cat([point - people.boxes[:, None, :, :2], people.boxes[:, None, :, 2:] - point], -1).amin(-1) > 0
    middle = (people.boxes[..., :2] + people.boxes[..., 2:]) / 2
    if center == "keypoints":
        joints = people.visible.sum(-1, keepdim=True)
        mean = (people.keypoints * people.visible[..., None]).sum(-2) / joints.clamp(min=1)
        middle = torch.where(joints > 0, mean, middle)
    near = (point - middle[:, None]).abs().amax(-1) < RADIUS * stride[None, :, None]
    return inside & people.exists[:, None], near & people.exists[:, None]


def check_finite(fine: Tensor) -> None:
    """Stops when an entry of (B, ...) bool is False."""
    broken = ~fine.flatten(1).all(1)
    if broken.any():
        raise FloatingPointError(
            f"the assignment cost of image {int(broken.byte().argmax())} of the batch is not finite: the predictions "
            "or the targets hold NaN or infinity; lower the learning rate or check that image's annotations"
        )
