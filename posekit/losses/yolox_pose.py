"""YOLOX-Pose's losses (YOLO-Pose: Maji et al. 2022, sections 3.2 and 3.3; numbers of mmpose's configuration).

RTMO's assignment with the regressed joints; positives learn score, box, joints and visibility, all cells objectness.
Shapes: B images, N priors, M positives, K keypoints. Coordinates: the published pixel index (see targets.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from posekit.losses.assignment import assign
from posekit.losses.overlaps import box_iou, joint_oks
from posekit.losses.rtmo import encode_boxes
from posekit.losses.targets import pack_people
from posekit.protocols import Losses


class YoloxPoseCriterion(nn.Module):
    """`loss_cls`, `loss_obj`, `loss_bbox`, `loss_oks`, `loss_vis` and, with `auxiliary`, `loss_bbox_aux`.

    sigmas (K,): OKS fall-off of the layout. auxiliary: the L1 loss on raw boxes of the last epochs. `dynamic_k`: see
    assignment.py.
    """

    def __init__(
        self,
        sigmas: Sequence[float] | Tensor,
        *,
        auxiliary: bool = False,
        dynamic_k: str = "oks",
        w_cls: float = 1.0,
        w_obj: float = 1.0,
        w_bbox: float = 5.0,
        w_oks: float = 30.0,
        w_vis: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_buffer("sigmas", torch.tensor([float(sigma) for sigma in sigmas]), persistent=False)
        self.auxiliary, self.dynamic_k = auxiliary, dynamic_k
        self.weights = {"loss_cls": w_cls, "loss_obj": w_obj, "loss_bbox": w_bbox, "loss_oks": w_oks, "loss_vis": w_vis}
        self.weights = {name: float(value) for name, value in (self.weights | {"loss_bbox_aux": 1.0}).items()}

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        """See the class; targets as the loader gives them (COCO's frame, pixels of the network input).

        Raises:
            FloatingPointError: predictions or targets that are not finite.
        """
        outputs = {name: value.float() for name, value in outputs.items()}
        people = pack_people(targets, len(self.sigmas), outputs["cls_logits"].device)
        priors = outputs["priors"]
        middle = torch.cat([priors[:, :2] + priors[:, 2:] / 2, priors[:, 2:]], 1)
        person, overlap = assign(
            product_logit(outputs["cls_logits"], outputs["obj_logits"]),
            outputs["boxes"],
            outputs["keypoints"],
            middle,
            people,
            self.sigmas,
            center="box",
            dynamic_k=self.dynamic_k,
        )
        image, prior = (person >= 0).nonzero(as_tuple=True)
        who, count = person[image, prior], max(len(image), 1)
        boxes, true_boxes = outputs["boxes"][image, prior], people.boxes[image, who]
        visible = people.visible[image, who]
        share = visible / visible.sum(-1, keepdim=True).clamp(min=1)
        oks = joint_oks(
            outputs["keypoints"][image, prior], people.keypoints[image, who], people.areas[image, who], self.sigmas
        )
        bce = functional.binary_cross_entropy_with_logits
        parts = {
            "loss_cls": bce(outputs["cls_logits"][image, prior], overlap[image, prior].sqrt(), reduction="sum"),
            "loss_obj": bce(outputs["obj_logits"], (person >= 0).float(), reduction="sum"),
            "loss_bbox": (1 - box_iou(boxes, true_boxes).square()).sum(),
            "loss_oks": (1 - (oks * share).sum(-1)).sum(),
            "loss_vis": (
                bce(outputs["vis_logits"][image, prior], visible, reduction="none") * people.annotated[image, who]
            )
            .mean(-1)
            .sum(),
        }
        if self.auxiliary:
            raw, wanted = outputs["box_raw"][image, prior], encode_boxes(true_boxes, priors[prior])
            parts["loss_bbox_aux"] = (raw - wanted).abs().sum()
        terms = {name: part / count for name, part in parts.items()}
        return Losses(terms, {name: self.weights[name] for name in terms})


def product_logit(first: Tensor, second: Tensor) -> Tensor:
    """The logit of the product of two sigmoids."""
    minus_log = functional.softplus(-first) + functional.softplus(-second)
    return -minus_log - (-torch.expm1(-minus_log)).clamp(min=torch.finfo(minus_log.dtype).tiny).log()
