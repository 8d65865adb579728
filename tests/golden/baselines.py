"""Reference values of the baselines (mmpose 0.x and 1.x): grouping by tags, losses, SimCC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from golden.checks import Check, Directory
from posekit.losses.associative_embedding import masked_error, tag_losses
from posekit.losses.overlaps import joint_oks
from posekit.losses.simcc import SIGMA, simcc_labels
from posekit.models.simcc import decode_bins
from posekit.models.tag_grouping import MODES, Grouping, adjust, fast_peaks, full_peaks, group, match, mean_tags

ATOL = 1e-4
SPLIT = 2.0  # SimCC's bins per pixel
CODECS = {"rtmpose": ((192, 256), SIGMA, False), "dark": ((48, 64), (2.0, 2.0), True)}  # size, sigma, normalised + DARK


def index(file: Path, directory: Directory) -> Iterator[Check]:
    """`index.json`: every case that it describes has a file here."""
    cases = directory.open(file)
    for name in cases:
        yield cases.equal(f"{name} is here", file.with_name(name) in directory, True, str(cases[name]))


def grouping(file: Path, directory: Directory) -> Iterator[Check]:
    """`ae_group_*.npz`: candidates, people, quarter pixels and missing joints, of 0.x in both modes and of 1.x.

    Where assignments tie (`assignment_unique` false) the people are the tie rule's: only their joints are compared.
    """
    known, (listing,) = directory.open(file), directory.together(file.with_name("index.json"))
    heatmaps, tags = (known[name].astype(np.float32) for name in ("heatmaps", "tags"))
    unique = listing[file.name]["assignment_unique"]
    for mode in MODES:
        options = Grouping(mode=mode)
        candidates = (fast_peaks if mode == "fast" else full_peaks)(heatmaps, tags, options)
        yield from _check_candidates(known, mode, candidates)
        people = match(candidates, options)
        if not unique:
            ours, theirs = (_joints(joints) for joints in (people, known["match"]))
            yield known.check(f"{mode}: joints of match", ours, theirs, atol=ATOL, note="whose they are is a tie")
            continue
        filled, scores = group(heatmaps, tags, options)
        reference = known["match"].reshape(-1, *people.shape[1:])
        yield known.check(f"{mode}: match", _sorted(people), _sorted(reference), atol=ATOL)
        if "adjust" in known:
            moved = adjust(people, heatmaps)
            yield known.check(f"{mode}: adjust", _sorted(moved), _sorted(known["adjust"]), atol=ATOL)
            yield known.check(f"{mode}: refine", _sorted(filled), _sorted(known["refine"]), atol=ATOL)
            yield known.check(f"{mode}: scores", np.sort(scores), np.sort(known["scores"]), atol=1e-6)
    unread = [name for name in ("adjust", "refine", "scores") if name in known]
    if not unique:
        for name in unread:
            yield known.equal(name, known[name].shape[0], len(known["match"]), note="whose the joints are is a tie")
    ours = first_version(match(full_peaks(heatmaps, tags, Grouping()), Grouping()), heatmaps, tags)
    theirs = np.concatenate([known["v1_keypoints"], known["v1_scores"][..., None]], -1)
    if unique:
        yield known.check("1.x", _sorted(ours), _sorted(theirs), atol=ATOL)
    else:
        yield known.equal("1.x: keypoints per person", ours.shape[1:], theirs.shape[1:], note="whose they are is a tie")


def _check_candidates(known, mode: str, candidates: list[np.ndarray]) -> Iterator[Check]:
    """The reference lists its best candidates, also those below the threshold; equal values come in any order."""
    values, places = known["topk_val"], known["topk_xy"]
    for keypoint, rows in enumerate(candidates):
        rows, reference = rows[: values.shape[1]], np.column_stack([places[keypoint], values[keypoint]])
        reference = reference[reference[:, 2] > Grouping.detection]
        cut = reference[:, 2].min(initial=np.inf)  # the last value of the list may go on beyond it
        ours = _sorted(rows[rows[:, 2] > cut, :3][:, [2, 0, 1]])
        theirs = _sorted(reference[reference[:, 2] > cut][:, [2, 0, 1]])
        yield known.check(f"{mode}: candidates of keypoint {keypoint}", ours, theirs, atol=ATOL)


def first_version(people: np.ndarray, heatmaps: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """(P, K, 3) x, y, value as mmpose 1.x finishes the same people.

    Found joints move by the sign of the slope, where they are away from the border; missing ones are where the rounded
    distance times 100 less the heatmap is least, at the pixel's corner.
    """
    result, (_, height, width) = people[..., :3].copy(), heatmaps.shape
    for person, mean in zip(result, mean_tags(people), strict=True):
        for keypoint, (x, y, value) in enumerate(person):
            heat = heatmaps[keypoint]
            if value > 0:
                x, y = int(x), int(y)
                across = heat[y, x + 1] - heat[y, x - 1] if 1 < x < width - 1 and y > 0 else 0
                down = heat[y + 1, x] - heat[y - 1, x] if 1 < y < height - 1 and x > 0 else 0
                person[keypoint, :2] += 0.5 + 0.25 * np.sign([across, down])
            else:
                distance = np.round(np.linalg.norm(tags[keypoint] - mean, axis=-1))
                y, x = divmod(int(np.argmin(distance * 100 - heat)), width)
                if heat[y, x] > 0:
                    person[keypoint] = x, y, heat[y, x]
    return result


def _joints(people: np.ndarray) -> np.ndarray:
    """Keypoint, x, y, value and tags of every joint that was found, sorted."""
    person, keypoint = np.nonzero(people[..., 2] > 0)
    return _sorted(np.column_stack([keypoint, people[person, keypoint]]))


def _sorted(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.reshape(len(rows), -1).T[::-1])] if rows.size else rows


def embedding_losses(file: Path, directory: Directory) -> Iterator[Check]:
    """`ae_loss*.npz`: pull, push, their gradient, and the masked error of the heatmaps."""
    known = directory.open(file)
    tags = torch.from_numpy(known["tags"].astype(np.float32)).requires_grad_()
    joints = torch.from_numpy(known["joints"].astype(np.int64))
    labelled = joints[..., 1] > 0
    cells = torch.where(labelled, joints[..., 0] - torch.arange(joints.shape[2]) * tags[0, 0].numel(), 0)
    pull, push = tag_losses(tags, cells, labelled)
    (gradient,) = torch.autograd.grad(0.7 * push.sum() + 1.3 * pull.sum(), tags)
    yield known.check("pull", pull.detach(), atol=1e-6)
    yield known.check("push_exp", push.detach(), atol=1e-6)
    yield known.check("grad", gradient, atol=1e-7)
    yield known.check("push_max", tag_losses(tags, cells, labelled, push="max")[1].detach(), atol=1e-6)
    yield known.check("v1_pull", pull.detach(), atol=1e-6)
    people = labelled.any(-1).sum(1)
    selves = torch.where(people > 1, 0.5 / (people - 1).clamp(min=1), 0)
    yield known.check("v1_push", (push + selves).detach(), atol=1e-6, note="1.x counts every person with itself, too")
    maps = [torch.from_numpy(known[name].astype(np.float32)) for name in ("hm_pred", "hm_gt", "hm_mask")]
    yield known.check("hm_loss", masked_error(*maps), atol=1e-6)


def simcc(file: Path, directory: Directory) -> Iterator[Check]:
    """`simcc*.npz`: labels, weights and decoding, as RTMPose has them and with DARK."""
    known = directory.open(file)
    for name, (size, sigma, dark) in CODECS.items():
        px, py = (known[f"{name}_p{axis}"].astype(np.float32) for axis in "xy")
        size = (int(px.shape[-1] / SPLIT), int(py.shape[-1] / SPLIT))
        keypoints, visible = (torch.from_numpy(known[f"{name}_{what}"]) for what in ("kpts", "vis"))
        x, y, weights = simcc_labels(keypoints, visible, size, sigma, SPLIT, normalise=dark)
        yield known.check(f"{name}_weights", weights)
        for axis, ours in (("x", x), ("y", y)):
            if f"{name}_{axis}_label" in known:
                yield known.check(f"{name}_{axis}_label", ours[:, ::4], atol=1e-6)
        ours, scores = decode_bins(px, py, SPLIT, sigma if dark else None)
        yield known.check(f"{name}_dec", ours, atol=ATOL)
        yield known.check(f"{name}_score", scores, atol=1e-6)


def oks_loss(file: Path, directory: Directory) -> Iterator[Check]:
    """`oks_loss*.npz`: 1 - OKS, 1 - OKS^2 and -log OKS, with two norms of the weights, and gradients."""
    known = directory.open(file)
    truth, weight, area, sigmas = (torch.from_numpy(known[name]) for name in ("gt", "weight", "area", "sigmas"))
    norms = (torch.full_like(weight[:, :1], weight.shape[1]), weight.sum(1, keepdim=True).clamp(min=1))
    first = len(weight) - len(known["loss_linear_norm0"])  # those without a visible joint come first
    for norm, divisor in enumerate(norms):
        predicted = torch.from_numpy(known["pred"]).requires_grad_()
        oks = (joint_oks(predicted, truth, area, sigmas) * weight / divisor).sum(-1)
        terms = {"linear": 1 - oks, "square": 1 - oks.square(), "log": -oks.log()}
        for name, ours in terms.items():
            yield known.check(f"loss_{name}_norm{norm}", ours[first:].detach(), atol=1e-5)
        yield known.check(f"loss_linear_norm{norm}_all", terms["linear"].detach(), atol=1e-6)
        (gradient,) = torch.autograd.grad(terms["linear"].sum(), predicted)
        yield known.check(f"grad_linear_norm{norm}", gradient[first:], atol=1e-6)


FILES = {
    "ae_group_*.npz": (grouping,),
    "ae_loss*.npz": (embedding_losses,),
    "simcc*.npz": (simcc,),
    "oks_loss*.npz": (oks_loss,),
    "index.json": (index,),
}
