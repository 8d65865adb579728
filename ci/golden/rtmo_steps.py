"""RTMO's training step: `loss_*.npz`, every term, the total and gradient norms of whole models.

B images, M positives, N priors. The golden targets are in the published pixel-index frame, the criterion's public ones
in COCO's: half a pixel is added here, and `pack_people` takes it away again.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from golden.report import Report
from golden.rtmo_forward import build_for, published
from posekit.layouts import layout_for
from posekit.losses.rtmo import PUBLISHED, RtmoCriterion, pose_centers
from posekit.losses.targets import pack_people
from posekit.models import checkpoints
from posekit.models.checkpoints_rtmo import published_name

SAME = {"overlaps_power": 0.5, "w_cls": 1.0}  # the files' second stage switches the other weights alone
CASES = {  # stage, options of the criterion besides the published ones
    "stage1": (1, SAME),
    "stage2": (2, SAME),
    "stage2_aux_mask": (2, {"overlaps_power": 1.0, "w_cls": 2.0}),
    "stage1_noweights": (1, SAME),
    "empty_image1": (1, SAME),
    "no_gt": (1, SAME),
}
SURE = 1e-3  # of an entry's largest number: the tolerance where float32 allows it
WOBBLES = 3  # runs that measure how certain a number is
LAST_BIT = 1e-7  # of a float32, relative
PER_POSITIVE = ("loss_mle", "loss_oks")  # terms that the reference gives person by person, weighted


def losses(file: Path, report: Report) -> None:
    """All cases of a file, with running statistics (`eval`) and with the batch's (`train`)."""
    arrays = report.arrays(file)
    facts = json.loads(str(arrays["meta.json"])) | {"options": options_of(arrays)}
    model = build_for(facts["variant"], arrays["gt0.keypoints"].shape[1])
    checkpoints.load_weights(model, published(model, facts["weight_salt"], facts.get("gain", 1.0)))
    shape = (facts["batch"], 3, facts["height"], facts["width"])
    rng = np.random.Generator(np.random.PCG64(facts["image_seed"]))
    pixels = rng.uniform(0, 255, shape).astype(np.float32)[:, ::-1].copy()  # the reference sees BGR
    for mode in ("eval", "train"):
        expected = {name: arrays[name] for name in arrays if name.startswith(mode + ".")}
        cases = sorted({name.split(".")[1] for name in expected})
        targets = {case: targets_of(arrays, case) for case in cases}
        model.train(mode == "train")
        ours = run(model, pixels, targets, facts, mode)
        limits = {name: SURE * np.abs(value).max() + 1e-5 for name, value in expected.items()}
        note = ""
        if any(np.abs(ours[name] - value).max() > limits[name] for name, value in expected.items()):
            # A likelihood of 1/1000 of a person's size is sharper than float32 coordinates are certain: measure with
            # images and weights that differ in their last bits, for other kernels round in every layer, and allow
            # three times that, at most a tenth.
            runs = [ours]
            for seed in range(WOBBLES):
                draw = np.random.default_rng(seed)
                moved = (pixels * (1 + LAST_BIT * draw.standard_normal(shape))).astype(np.float32)
                runs.append(run(wobbled(model, draw), moved, targets, facts, mode))
            for name, value in expected.items():
                noise = max(np.ptp([r[name] for r in runs], axis=0).max(), 0.0)
                limits[name] = max(limits[name], min(3 * noise, 0.1 * np.abs(value).max()))
            note = "the last bits of images and weights move ours as far"
        for name, value in expected.items():
            wide = limits[name] > SURE * np.abs(value).max() + 1e-5
            report.compare(file, name, ours[name], value, atol=limits[name], note=note if wide else "")
        for name in sorted(ours.keys() - expected.keys()):
            if ".gradnorm." not in name:
                report.compare(file, name, ours[name], 0.0, note="the reference leaves it out: nobody is there")


def wobbled(model, draw: np.random.Generator):
    """A copy of the model whose weights differ in their last bits."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.from_numpy(draw.standard_normal(tuple(parameter.shape), np.float32))
            parameter.mul_(1 + LAST_BIT * noise)
    return model


def run(model, pixels: np.ndarray, targets: dict[str, list], facts: dict, mode: str) -> dict[str, np.ndarray]:
    """Everything that the file tells of each case, by its names; one forward pass for all of them."""
    outputs = model(torch.from_numpy(pixels), proxies=True)
    result = {}
    for case, people in targets.items():
        numbers = step(model, outputs, people, case, facts)
        result |= {f"{mode}.{case}.{name}": np.asarray(value, np.float64) for name, value in numbers.items()}
    return result


def step(model, outputs: dict, targets: list[dict], case: str, facts: dict) -> dict[str, np.ndarray | float]:
    """Terms, total and gradient norms of one case."""
    stage, options = CASES[case]
    criterion = RtmoCriterion(layout_for(model.num_keypoints).sigmas, **facts["options"] | options)
    criterion.at_stage(stage, auxiliary="aux" in case)
    people = pack_people(targets, model.num_keypoints)
    person, overlap = criterion.assign(outputs, people)
    parts, overlap = criterion.per_positive(outputs, people, person, overlap)
    weight = torch.ones_like(outputs["cls_logits"])
    if "mask" in case and facts["height"] == facts["width"]:
        weight = mask_weights(outputs, facts)
    terms = criterion.terms(outputs["cls_logits"], person, parts, overlap, weight)
    weighted = {name: criterion.weights[name] * value for name, value in terms.items()}
    total = sum(weighted.values())
    if len(overlap):
        weighted |= {name: criterion.weights[name] * parts[name] for name in PER_POSITIVE}
    numbers = {name: value.detach().numpy() for name, value in weighted.items()}
    if len(overlap):
        numbers["overlaps"] = overlap[:, None].detach().numpy()
    numbers |= {"num_samples": max(len(overlap), 1), "total": total.item()}
    model.zero_grad(set_to_none=True)
    total.backward(retain_graph=True)
    norms = {
        published_name(name): 0.0 if parameter.grad is None else parameter.grad.double().norm().item()
        for name, parameter in model.named_parameters()
    }
    norms["total"] = float(np.linalg.norm(list(norms.values())))
    return numbers | {f"gradnorm.{name}": value for name, value in norms.items()}


def options_of(arrays) -> dict:
    """The published options that a file was recorded with: its likelihood's first weight tells, the second being 5."""
    first, second = (np.abs(arrays[f"eval.{stage}.loss_mle"]).sum() for stage in ("stage1", "stage2"))
    known = [PUBLISHED[name] for name in ("coco_s", "coco_m", "crowdpose_s")]
    return min(known, key=lambda options: abs(np.log(options["w_mle"][0] / (5 * first / second))))


def targets_of(arrays, case: str) -> list[dict[str, Tensor]]:
    """Targets as a loader gives them."""
    targets = []
    for b in range(sum(name.endswith(".areas") for name in arrays)):
        gt = {name: torch.from_numpy(arrays[f"gt{b}.{name}"]) for name in
              ("bboxes", "keypoints", "keypoints_visible", "areas", "keypoints_visible_weights")}  # fmt: skip
        here = slice(0, 0) if case == "no_gt" or (case == "empty_image1" and b == 1) else slice(None)
        target = {
            "boxes": gt["bboxes"][here] + 0.5, "keypoints": gt["keypoints"][here] + 0.5,
            "visibility": gt["keypoints_visible"][here], "areas": gt["areas"][here],
        }  # fmt: skip
        if case != "stage1_noweights":
            target["visibility_weights"] = gt["keypoints_visible_weights"][here]
        targets.append(target)
    return targets


def mask_weights(outputs: dict[str, Tensor], facts: dict) -> Tensor:
    """(B, N) the reference's weights: 1 - its mask of a rectangle in image 0, read at the pose centres.

    Ours come from rectangles and are 0 or 1; the reference reads a picture between its pixels, and a pose without a
    visible joint at the picture's corner.
    """
    h, w = facts["height"], facts["width"]
    mask = torch.zeros(facts["batch"], 1, h, w)
    mask[0, :, h // 4 : h // 2, w // 3 : 2 * w // 3] = 1
    corner = torch.zeros_like(outputs["priors"])
    centers = pose_centers(outputs["proxy_keypoints"], outputs["vis_logits"], corner)
    grid = (centers / (w - 1) * 2 - 1)[:, None].detach()
    return 1 - functional.grid_sample(mask, grid, align_corners=False)[:, 0, 0]
