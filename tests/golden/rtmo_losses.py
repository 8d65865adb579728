"""RTMO's assignment and the parts of its loss: `simota.npz`, `dcc_target_heatmap.npz` and some of `components.npz`.

Whole training steps are in rtmo_steps.py. All in the published pixel-index frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from golden.checks import Check, Directory
from posekit.layouts import layout_for
from posekit.losses.assignment import FAR, assign, where_priors_lie
from posekit.losses.coordinates import mle_loss, target_heatmap
from posekit.losses.overlaps import box_iou, joint_oks, pose_oks
from posekit.losses.rtmo import varifocal
from posekit.losses.targets import PaddedTargets

SETTINGS = {  # of simota.npz: centre, overlap behind the dynamic k
    "kpt_center": ("keypoints", "oks"),
    "box_center": ("box", "oks"),
    "iou_k": ("box", "iou"),
}


def simota(file: Path, directory: Directory) -> Iterator[Check]:
    """Candidates and assignment under three settings."""
    known = directory.open(file)
    people = PaddedTargets(
        *(torch.from_numpy(known[f"gt_{name}"])[None] for name in ("bboxes", "keypoints")),
        *(torch.from_numpy(known["gt_keypoints_visible"])[None] for _ in range(2)),
        torch.from_numpy(known["gt_areas"])[None],
        torch.ones(1, len(known["gt_areas"]), dtype=torch.bool),
        torch.zeros(1, 0, 4),
    )
    yield known.check("gt_labels", np.zeros(len(known["gt_areas"])), note="one class")
    shape, note = known["pred_keypoints"].shape[:2], "has no part in the cost"
    if "pred_keypoints_visible" in known:
        yield known.equal("pred_keypoints_visible", known["pred_keypoints_visible"].shape, shape, note)
    priors = torch.from_numpy(known["priors"])
    yield known.check("priors", priors[:, 2], known["priors"][:, 3], note="one stride for both axes")
    boxes, keypoints = (torch.from_numpy(known[f"pred_{name}"])[None] for name in ("bboxes", "keypoints"))
    scores = torch.from_numpy(known["pred_scores_sqrt"])[:, 0].double()
    logits = scores.square().logit().float()[None]
    sigmas = torch.tensor(layout_for(shape[1]).sigmas, dtype=torch.float32)
    for name, (center, overlap) in SETTINGS.items():
        inside, near = (x[0] for x in where_priors_lie(priors[:, :3], people, center))
        candidate = (inside | near).any(1)
        yield known.check(f"{name}.valid_mask", candidate)
        yield known.check(f"{name}.in_box_and_center", (inside & near)[candidate])
        person, matched = assign(
            logits, boxes, keypoints, priors[:, :3], people, sigmas, center=center, dynamic_k=overlap
        )
        taken = person[0] >= 0
        yield known.check(f"{name}.gt_inds", person[0] + 1)
        yield known.check(f"{name}.labels", torch.where(taken, 0, -1))
        note = "ours is 0 where the reference has -100000, for nobody"
        yield known.check(f"{name}.max_overlaps", torch.where(taken, matched[0], -FAR), atol=1e-5, note=note)


def target_heatmaps(file: Path, directory: Directory) -> Iterator[Check]:
    """What the likelihood looks like along both axes."""
    known = directory.open(file)
    truth, box, sigmas, areas = (torch.from_numpy(known[name]) for name in ("kpt_target", "bbox_cs", "sigmas", "areas"))
    for axis, name in enumerate(("hm_x", "hm_y")):
        places = torch.linspace(-0.5, 0.5, known[name].shape[-1])
        bins = places * box[:, 2 + axis, None] + box[:, axis, None]
        yield known.check(name, target_heatmap(truth[..., axis], bins, sigmas, areas), atol=1e-5, rtol=1e-4)


def loss_components(file: Path, directory: Directory) -> Iterator[Check]:
    """The losses of `components.npz`, with gradients where the file has them."""
    known = directory.open(file)

    def given(*names: str) -> list[Tensor]:
        return [torch.from_numpy(known[name]) for name in names]

    def check(name: str, ours: Tensor) -> Check:
        return known.check(name, ours.detach(), atol=1e-5, rtol=1e-5)

    boxes, others = given("iou_loss.pred", "iou_loss.target")
    boxes.requires_grad_()
    yield check("iou_loss.iou", box_iou(boxes, others))
    yield check("iou_loss.pairwise_iou", box_iou(boxes[:, None], others))
    total = 5 * (1 - box_iou(boxes, others).square()).sum()
    yield check("iou_loss.sum_w5", total)
    yield check("iou_loss.grad", torch.autograd.grad(total, boxes)[0])

    logits, target, weight = given("vfl.logit", "vfl.target", "vfl.weight")
    loss = varifocal(logits.requires_grad_(), target)
    yield check("vfl.elementwise", loss)
    yield check("vfl.sum_w2", 2 * (loss * weight).sum())
    yield check("vfl.grad", torch.autograd.grad(2 * (loss * weight).sum(), logits)[0])

    found, truth, visible, areas = given("oks_loss.pred", "oks_loss.target", "oks_loss.weight", "oks_loss.area")
    sigmas = torch.tensor(layout_for(found.shape[1]).sigmas, dtype=torch.float32)
    yield check("oks.sigmas_coco", sigmas)
    loss = 30 * (1 - (joint_oks(found.requires_grad_(), truth, areas, sigmas) * visible).mean(-1))
    yield check("oks_loss.per_instance_w30", loss)
    yield check("oks_loss.grad_of_mean", torch.autograd.grad(loss.mean(), found)[0])
    yield check("oks_metric.aligned", pose_oks(found, truth, visible, areas, sigmas))
    yield check("oks_metric.pairwise", pose_oks(found[:, None], truth, visible, areas, sigmas))

    logits, target, weight = given("bce_vis.logit", "bce_vis.target", "bce_vis.weight")
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    yield check("bce_vis.mean", (loss * weight).mean())
    raw, wanted = given("l1.pred", "l1.target")
    yield check("l1.sum", (raw - wanted).abs().sum(-1).sum())

    logits = [x.requires_grad_() for x in given("mlecc.x_logits", "mlecc.y_logits")]
    targets, (visible,) = given("mlecc.x_target", "mlecc.y_target"), given("mlecc.weight")
    loss = 5 * mle_loss([x.softmax(-1) for x in logits], targets, visible)
    yield check("mlecc.per_instance_w5", loss)
    for axis, gradient in zip("xy", torch.autograd.grad(loss.mean(), logits), strict=True):
        yield check(f"mlecc.grad_{axis}_of_mean", gradient)
