"""RTMO's losses (Lu et al. 2023, Sec. 3.2 and 3.3): score, box, proxy pose, visibility and coordinate heatmaps.

A prior that SimOTA gave a person is a positive. Only positives train box, pose and visibility, and only on them the
coordinate classifier runs. Training has two stages, which differ in weights and in the proxy's target:

    stage 1   the proxy poses (a plain regression) learn the annotation; the score's target is their OKS
    stage 2   they learn the classifier's decoded poses; the score's target is the decoded poses' OKS

Shapes: B images, N priors, M positives, K keypoints. Coordinates: the published pixel index (see targets.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from posekit.losses.assignment import assign
from posekit.losses.coordinates import kld_loss, mle_loss, paper_mle_loss, target_heatmap
from posekit.losses.overlaps import box_iou, joint_oks, pose_oks
from posekit.losses.targets import PaddedTargets, pack_people
from posekit.protocols import Losses

COORDINATE_TERMS = {"mle": "loss_mle", "kld": "loss_kld", "oks": "loss_oks_decoded"}
KLD_SIGMA = 0.0125  # of the divergence's target, a share of the bins' range
bce = partial(binary_cross_entropy_with_logits, reduction="none")

_SMALL = {"w_mle": (1.0, 5.0), "w_cls": 1.0, "overlaps_power": 0.5, "center": "keypoints"}
_LARGE = {"w_mle": (1e-2, 5.0), "w_cls": (1.0, 2.0), "overlaps_power": (0.5, 1.0), "center": "box"}
_CROWD = {**_LARGE, "w_mle": (1e-3, 5.0)}
# What the published weights were trained with: keyword arguments of `RtmoCriterion`. "paper": Sec. 3.3 as printed.
# differs from paper: the printed weights are those of the second stage, and not of the small COCO models
PUBLISHED = {
    **dict.fromkeys(("coco_s", "body7_t", "body7_s"), _SMALL),
    **dict.fromkeys(("coco_m", "coco_l", "body7_m", "body7_l"), _LARGE),
    **dict.fromkeys(("crowdpose_s", "crowdpose_m", "crowdpose_l"), _CROWD),
    "paper": {"w_mle": 5.0, "w_oks": 10.0, "w_cls": 2.0, "overlaps_power": 1.0, "mle": "paper"},
}


class RtmoCriterion(nn.Module):
    """RTMO's loss in one stage of its training, for the outputs of `RTMO.forward(images, proxies=True)`.

    classifier: that of the model whose outputs are scored. sigmas (K,): OKS fall-off of the layout. `stage`: 1 or 2;
    `auxiliary` adds the L1 loss on raw boxes (the last epochs). A pair of numbers is (stage 1, stage 2), one number is
    for both. `w_*`: weights of the terms; `overlaps_power`: of the OKS that the score learns. `center`, `dynamic_k`:
    see assignment.py. `coordinate_loss`: "mle" (`mle="released"` or `"paper"`), "kld", or "oks" of the classifier's
    keypoints, for a model that decodes by regression; the paper gives no weights for the last two: the divergence has
    weight 1, the similarity the proxy's.
    """

    def __init__(
        self,
        classifier: nn.Module,
        sigmas: Sequence[float] | Tensor,
        *,
        stage: int = 1,
        auxiliary: bool = False,
        w_cls: float | tuple[float, float] = 1.0,
        w_oks: float | tuple[float, float] = (30.0, 10.0),
        w_mle: float | tuple[float, float] = (1.0, 5.0),
        w_kld: float | tuple[float, float] = 1.0,
        overlaps_power: float | tuple[float, float] = 0.5,
        center: str = "keypoints",
        dynamic_k: str = "oks",
        coordinate_loss: str = "mle",
        mle: str = "released",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("center", center, ("box", "keypoints")),
            ("dynamic_k", dynamic_k, ("oks", "iou")),
            ("coordinate_loss", coordinate_loss, tuple(COORDINATE_TERMS)),
            ("mle", mle, ("released", "paper")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
        if stage not in (1, 2):
            raise ValueError(f"stage is {stage!r}; RTMO trains in the stages 1 and 2")
        self.classifier, self.stage, self.auxiliary = classifier, stage, auxiliary
        self.register_buffer("sigmas", torch.tensor([float(sigma) for sigma in sigmas]), persistent=False)
        self.center, self.dynamic_k, self.coordinate_loss = center, dynamic_k, coordinate_loss
        self.mle, self.overlaps_power = mle, _of_stage(overlaps_power, stage)
        w_coordinates = {"mle": w_mle, "kld": w_kld, "oks": w_oks}[coordinate_loss]
        weights = {"loss_cls": w_cls, "loss_bbox": 5.0, "loss_oks": w_oks, "loss_vis": 1.0}
        weights |= {COORDINATE_TERMS[coordinate_loss]: w_coordinates} | ({"loss_bbox_aux": 1.0} if auxiliary else {})
        self.weights = {name: _of_stage(weight, stage) for name, weight in weights.items()}

    def forward(self, outputs: dict, targets: list[dict[str, Tensor]]) -> Losses:
        """The terms with the weights of the stage.

        targets as the loader gives them (pixels of the network input, COCO's frame). A batch without anybody trains the
        score alone. Regions to `ignore` are nobody's positives and do not train the score of priors that see a
        person there.

        Raises:
            ValueError: targets of another layout, or outputs that the coordinate loss cannot use.
            FloatingPointError: predictions or targets that are not finite.
        """
        people = pack_people(targets, len(self.sigmas), outputs["cls_logits"].device)
        with torch.autocast(outputs["cls_logits"].device.type, enabled=False):
            outputs = {name: value.float() for name, value in outputs.items()}
            person, overlap = self.assign(outputs, people)
            parts, overlap = self.per_positive(outputs, people, person, overlap)
            weight = score_weights(outputs, people, person)
            return Losses(self.terms(outputs["cls_logits"], person, parts, overlap, weight), self.weights)

    def assign(self, outputs: dict, people: PaddedTargets) -> tuple[Tensor, Tensor]:
        """SimOTA: person (B, N) or -1, overlap (B, N)."""
        if "proxy_keypoints" not in outputs:
            raise ValueError("the outputs have no proxy_keypoints: call the model with proxies=True or in train mode")
        logits, boxes, proxies = (outputs[name] for name in ("cls_logits", "boxes", "proxy_keypoints"))
        rules = {"center": self.center, "dynamic_k": self.dynamic_k}
        return assign(logits, boxes, proxies, outputs["priors"], people, self.sigmas, **rules)

    def per_positive(
        self, outputs: dict, people: PaddedTargets, person: Tensor, overlap: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Every term but the score's, each (M,), and the OKS (M,) that the score learns; positives in batch order."""
        image, prior = (person >= 0).nonzero(as_tuple=True)
        who = person[image, prior]
        boxes, true_boxes = outputs["boxes"][image, prior], people.boxes[image, who]
        truth, visible = people.keypoints[image, who], people.visible[image, who]
        areas, priors = people.areas[image, who], outputs["priors"][prior]
        proxies, overlap = outputs["proxy_keypoints"][image, prior], overlap[image, prior]
        # Bins in a wrong place make a fixed target easy: the divergence would blow boxes up instead of finding joints
        span = boxes.detach() if self.coordinate_loss == "kld" else boxes
        decoded = self.classifier(outputs["pose_features"][image, prior], span, priors[:, :2])
        goal, counted = truth, visible
        if self.stage == 2:
            goal = decoded["keypoints"].detach()
            # differs from paper: a joint counts only where the decoded one is nearer to the annotation
            nearer = (proxies.detach() - truth).norm(dim=-1) > (goal - truth).norm(dim=-1)
            counted = visible * nearer
            overlap = pose_oks(goal, truth, visible, areas, self.sigmas)
        parts = {
            "loss_bbox": 1 - box_iou(boxes, true_boxes).square(),
            # differs from paper: the similarity is divided by K, not by the number of joints that count
            "loss_oks": 1 - (joint_oks(proxies, goal, areas, self.sigmas) * counted).mean(-1),
            "loss_vis": (bce(outputs["vis_logits"][image, prior], visible) * people.annotated[image, who]).mean(-1),
            COORDINATE_TERMS[self.coordinate_loss]: self.coordinate_term(decoded, truth, visible, areas),
        }
        if self.auxiliary:
            raw, wanted = outputs["box_raw"][image, prior], encode_boxes(true_boxes, priors)
            parts["loss_bbox_aux"] = (raw - wanted).abs().sum(-1)
        return parts, overlap

    def coordinate_term(self, decoded: dict[str, Tensor], truth: Tensor, visible: Tensor, areas: Tensor) -> Tensor:
        """The loss (M,) of what the coordinate classifier says of the positives."""
        if self.coordinate_loss == "oks":
            return 1 - (joint_oks(decoded["keypoints"], truth, areas, self.sigmas) * visible).mean(-1)
        if "heatmap_x" not in decoded:
            raise ValueError(f"the model has no heatmaps for the loss '{self.coordinate_loss}'; use 'oks'")
        heatmaps, bins = (decoded["heatmap_x"], decoded["heatmap_y"]), (decoded["bins_x"], decoded["bins_y"])
        if self.coordinate_loss == "kld":
            return kld_loss(heatmaps, bins, truth, visible, KLD_SIGMA)
        if self.mle == "paper":
            return paper_mle_loss(heatmaps, bins, truth, decoded["sigmas"], areas, visible)
        targets = [target_heatmap(truth[..., axis], bins[axis], decoded["sigmas"], areas) for axis in (0, 1)]
        return mle_loss(heatmaps, targets, visible)

    def terms(
        self, cls_logits: Tensor, person: Tensor, parts: dict[str, Tensor], overlap: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        """The scalars: sums over priors or positives by the number of positives. `weight` (B, N) counts the scores."""
        positives = max(len(overlap), 1)
        target = torch.zeros_like(cls_logits)
        # differs from paper: the first stage learns the root of the similarity
        target[person >= 0] = overlap.detach() ** self.overlaps_power
        score = (varifocal(cls_logits, target) * weight).sum() / positives
        return {"loss_cls": score} | {name: part.sum() / positives for name, part in parts.items()}


def varifocal(logits: Tensor, target: Tensor, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """Binary cross entropy with soft targets in [0, 1] where negatives count alpha p^gamma, element by element."""
    focus = alpha * logits.sigmoid() ** gamma * (target <= 1e-4) + target
    return bce(logits.clamp(-10, 10), target) * focus


def encode_boxes(boxes: Tensor, priors: Tensor) -> Tensor:
    """Boxes (M, 4) xyxy px as the head predicts them: centre offset and log size in strides of priors (M, 3)."""
    stride, size = priors[:, 2:], boxes[:, 2:] - boxes[:, :2]
    return torch.cat([((boxes[:, :2] + boxes[:, 2:]) / 2 - priors[:, :2]) / stride, (size / stride + 1e-8).log()], -1)


@torch.no_grad()
def score_weights(outputs: dict, people: PaddedTargets, person: Tensor) -> Tensor:
    """(B, N) in {0, 1}: 0 for priors whose pose centre lies in a region to ignore, unless they have a person.

    The pose centre is the mean of the proxy's joints that are likelier than 0.3 to be visible; the prior's own place
    where no joint is.
    """
    centers = pose_centers(outputs["proxy_keypoints"], outputs["vis_logits"], outputs["priors"])[:, :, None]
    low, high = people.ignore[:, None, :, :2], people.ignore[:, None, :, 2:]
    ignored = ((centers > low) & (centers < high)).all(-1).any(-1)
    return 1 - (ignored & (person < 0)).float()


def pose_centers(keypoints: Tensor, vis_logits: Tensor, priors: Tensor) -> Tensor:
    """(B, N, 2) px: see `score_weights`."""
    seen = (vis_logits.sigmoid() > 0.3).to(keypoints.dtype)
    count = seen.sum(-1, keepdim=True)
    mean = (keypoints * seen[..., None]).sum(-2) / count.clamp(min=1)
    return torch.where(count > 0, mean, priors[:, :2])


def _of_stage(value: float | tuple[float, float], stage: int) -> float:
    return value[stage - 1] if isinstance(value, Sequence) else value
