"""RTMO's assignment and the parts of its loss: `simota.npz`, `dcc_target_heatmap.npz` and some of `components.npz`.

Whole training steps are in rtmo_steps.py. All in the published pixel-index frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from golden.report import Report
from golden.rtmo_steps import losses as steps
from posekit.layouts import COCO
from posekit.losses.assignment import FAR, assign, where_priors_lie
from posekit.losses.coordinates import mle_loss, target_heatmap
from posekit.losses.overlaps import box_iou, joint_oks, pose_oks
from posekit.losses.rtmo import varifocal
from posekit.losses.targets import People

SETTINGS = {  # of simota.npz: centre, overlap behind the dynamic k
    "kpt_center": ("keypoints", "oks"),
    "box_center": ("box", "oks"),
    "iou_k": ("box", "iou"),
}
RADIUS = 2.5


def simota(file: Path, report: Report) -> None:
    """Candidates and assignment under three settings."""
    arrays = report.arrays(file)
    people = People(
        *(torch.from_numpy(arrays[f"gt_{name}"])[None] for name in ("bboxes", "keypoints")),
        *(torch.from_numpy(arrays["gt_keypoints_visible"])[None] for _ in range(2)),
        torch.from_numpy(arrays["gt_areas"])[None],
        torch.ones(1, len(arrays["gt_areas"]), dtype=torch.bool),
        torch.zeros(1, 0, 4),
    )
    report.compare(file, "gt_labels", np.zeros(len(arrays["gt_labels"])), arrays["gt_labels"], note="one class")
    seen = arrays["pred_keypoints_visible"]
    shape = arrays["pred_keypoints"].shape[:2]
    report.equal(file, "pred_keypoints_visible", seen.shape, shape, "has no part in the cost")
    priors = torch.from_numpy(arrays["priors"])
    report.compare(file, "priors", priors[:, 2], arrays["priors"][:, 3], note="one stride for both axes")
    boxes, keypoints = (torch.from_numpy(arrays[f"pred_{name}"])[None] for name in ("bboxes", "keypoints"))
    scores = torch.from_numpy(arrays["pred_scores_sqrt"])[:, 0].double()
    logits = scores.square().logit().float()[None]
    for name, (center, overlap) in SETTINGS.items():
        inside, near = (x[0] for x in where_priors_lie(priors[:, :3], people, center, RADIUS))
        candidate = (inside | near).any(1)
        report.compare(file, f"{name}.valid_mask", candidate, arrays[f"{name}.valid_mask"])
        both = (inside & near)[candidate]
        report.compare(file, f"{name}.in_box_and_center", both, arrays[f"{name}.in_box_and_center"])
        sigmas = torch.tensor(COCO.sigmas, dtype=torch.float32)
        person, matched = assign(
            logits, boxes, keypoints, priors[:, :3], people, sigmas, center=center, dynamic_k=overlap, radius=RADIUS
        )
        taken = person[0] >= 0
        report.compare(file, f"{name}.gt_inds", person[0] + 1, arrays[f"{name}.gt_inds"])
        report.compare(file, f"{name}.labels", torch.where(taken, 0, -1), arrays[f"{name}.labels"])
        report.compare(
            file, f"{name}.max_overlaps", torch.where(taken, matched[0], -FAR), arrays[f"{name}.max_overlaps"],
            atol=1e-5, note="ours is 0 where the reference has -100000, for nobody",
        )  # fmt: skip


def target_heatmaps(file: Path, report: Report) -> None:
    """What the likelihood looks like along both axes."""
    arrays = report.arrays(file)
    truth, box, sigmas, areas = (
        torch.from_numpy(arrays[name]) for name in ("kpt_target", "bbox_cs", "sigmas", "areas")
    )
    for axis, name in enumerate(("hm_x", "hm_y")):
        places = torch.linspace(-0.5, 0.5, arrays[name].shape[-1])
        bins = places * box[:, 2 + axis, None] + box[:, axis, None]
        ours = target_heatmap(truth[..., axis], bins, sigmas, areas)
        report.compare(file, name, ours, arrays[name], atol=1e-5, rtol=1e-4)


def components(file: Path, report: Report) -> None:
    """The losses of `components.npz`, with gradients where the file has them."""
    arrays = report.arrays(file)

    def given(*names: str) -> list[Tensor]:
        return [torch.from_numpy(arrays[name]) for name in names]

    def row(name: str, ours: Tensor, atol: float = 1e-5) -> None:
        report.compare(file, name, ours.detach(), arrays[name], atol=atol, rtol=1e-5)

    boxes, others = given("iou_loss.pred", "iou_loss.target")
    boxes.requires_grad_()
    row("iou_loss.iou", box_iou(boxes, others))
    row("iou_loss.pairwise_iou", box_iou(boxes[:, None], others))
    total = 5 * (1 - box_iou(boxes, others).square()).sum()
    row("iou_loss.sum_w5", total)
    row("iou_loss.grad", torch.autograd.grad(total, boxes)[0])

    logits, target, weight = given("vfl.logit", "vfl.target", "vfl.weight")
    loss = varifocal(logits.requires_grad_(), target)
    row("vfl.elementwise", loss)
    row("vfl.sum_w2", 2 * (loss * weight).sum())
    row("vfl.grad", torch.autograd.grad(2 * (loss * weight).sum(), logits)[0])

    sigmas = torch.tensor(COCO.sigmas, dtype=torch.float32)
    row("oks.sigmas_coco", sigmas)
    found, truth, visible, areas = given("oks_loss.pred", "oks_loss.target", "oks_loss.weight", "oks_loss.area")
    loss = 30 * (1 - (joint_oks(found.requires_grad_(), truth, areas, sigmas) * visible).mean(-1))
    row("oks_loss.per_instance_w30", loss)
    row("oks_loss.grad_of_mean", torch.autograd.grad(loss.mean(), found)[0])
    row("oks_metric.aligned", pose_oks(found, truth, visible, areas, sigmas))
    row("oks_metric.pairwise", pose_oks(found[:, None], truth, visible, areas, sigmas))

    logits, target, weight = given("bce_vis.logit", "bce_vis.target", "bce_vis.weight")
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    row("bce_vis.mean", (loss * weight).mean())
    raw, wanted = given("l1.pred", "l1.target")
    row("l1.sum", (raw - wanted).abs().sum(-1).sum())

    logits = [x.requires_grad_() for x in given("mlecc.x_logits", "mlecc.y_logits")]
    targets, (visible,) = given("mlecc.x_target", "mlecc.y_target"), given("mlecc.weight")
    loss = 5 * mle_loss([x.softmax(-1) for x in logits], targets, visible)
    row("mlecc.per_instance_w5", loss)
    for axis, gradient in zip("xy", torch.autograd.grad(loss.mean(), logits), strict=True):
        row(f"mlecc.grad_{axis}_of_mean", gradient)


HANDLERS = [
    ("simota*.npz", simota),
    ("dcc_target_heatmap*.npz", target_heatmaps),
    ("components*.npz", components),
    ("loss_*.npz", steps),
]
