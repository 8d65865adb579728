"""POET's reference values (Stoffl et al. 2021): names, weights, detections, evaluation; the rest in poet_*.py."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from golden.checks import Check, Directory
from golden.poet_forward import build_for, forward
from golden.poet_losses import losses
from golden.poet_targets import target_images, targets
from golden.rules import plain_tensor
from posekit import models
from posekit.evaluation import STATS, evaluate
from posekit.models import checkpoints


def keys(file: Path, directory: Directory) -> Iterator[Check]:
    """`keys_*.json`: names and shapes of the published state dict, in order, against a model of that size."""
    known = directory.open(file)
    rows = [(name, tuple(shape)) for name, shape in known["rows"]]
    options = checkpoints.size(dict(rows))
    model = build_for(options, dilate_last="dc5" in file.stem)
    ours = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    differ = [f"{a} / {b}" for a, b in zip(ours, rows, strict=False) if a != b]
    built = "built with " + ", ".join(f"{name}={value}" for name, value in options.items())
    yield known.equal("number of entries", len(ours), len(rows))
    yield known.equal("names and shapes in order", differ[:3], [], built)


def weights(file: Path, directory: Directory) -> Iterator[Check]:
    """`weights_check.json`: sums and checksums of the tensors that the weight rule makes."""
    known = directory.open(file)
    lists = [path.relative_to(directory.folder) for path in sorted(directory.folder.glob("keys_*.json"))]
    listed = [row for other in lists for row in directory.open(other)["rows"]]
    if not listed:
        listed = [(name, value.shape) for name, value in build_for({}).state_dict().items()]
    shapes: dict[str, set[tuple[int, ...]]] = {}  # models of several sizes give a name several shapes
    for name, shape in listed:
        shapes.setdefault(name, set()).add(tuple(shape))
    yield known.equal("names", sorted(known.keys() - shapes.keys())[:3], [])
    names = [name for name in known if name in shapes]
    reference = np.array([known[name] for name in names], np.float64).reshape(-1, 3)
    tensors = []
    for name, total in zip(names, reference[:, 0], strict=True):
        candidates = [plain_tensor(name, shape) for shape in sorted(shapes[name])]
        tensors.append(min(candidates, key=lambda x, total=total: abs(x.sum(dtype=np.float64) - total)))
    sums = [x.sum(dtype=np.float64) for x in tensors]
    sizes = [np.abs(x).sum(dtype=np.float64) for x in tensors]
    checksums = [zlib.crc32(x.astype("<f4").tobytes()) for x in tensors]
    yield known.check("sum", sums, reference[:, 0], atol=1e-3, rtol=1e-6)
    yield known.check("sum of absolute values", sizes, reference[:, 1], rtol=1e-6)
    yield known.check("crc32 of the bytes", checksums, reference[:, 2])


def postprocess(file: Path, directory: Directory) -> Iterator[Check]:
    """`postprocess_*.npz`: detections from the last layer of the forward or match file of the same name."""
    known = directory.open(file)
    stem = file.stem.removeprefix("postprocess_")
    sources = [file.with_name(f"{kind}_{stem}.npz") for kind in ("forward", "match")]
    source = next((source for source in sources if source in directory), None)
    if source is None:
        raise FileNotFoundError(f"there is neither forward_{stem}.npz nor match_{stem}.npz to start from")
    logits, pose = (torch.from_numpy(directory.open(source)[name]) for name in ("pred_logits", "pred_kpts"))
    model = models.build("poet_tiny", num_keypoints=(pose.shape[-1] - 2) // 3)  # all decode alike
    poses = model.decode({"logits": logits, "pose": pose}, known["orig_size_hw"][:, ::-1].copy())
    probabilities = logits[-1].softmax(-1).numpy()
    label, scores = probabilities[..., :-1].argmax(-1), probabilities[..., :-1].max(-1)
    yield known.check("labels", label, note="the likelier class but for 'nobody'")
    yield known.check("scores", scores, atol=1e-6)
    triples = known["keypoints"].reshape(*label.shape, -1, 3)
    order = np.stack([np.argsort(-p[:, 1], kind="stable") for p in probabilities])  # ours come best first
    points = np.take_along_axis(triples[..., :2], order[..., None, None], 1)
    ours = np.stack([p.keypoints for p in poses])
    largest = float(np.abs(points).max(initial=1.0))
    yield known.check("keypoints x, y", ours, points, atol=2e-6 * largest)
    people = np.take_along_axis(label, order, 1) == 1
    ours = np.stack([p.scores for p in poses])[people]
    reference = np.take_along_axis(known["scores"], order, 1)[people]
    note = f"{int((~people).sum())} of class 0, which COCO ignores, stay with us as unlikely people"
    yield known.check("scores of people", ours, reference, atol=1e-6, note=note)
    note = "always 1 in the reference; ours carry the predicted visibility, which COCO ignores"
    yield known.check("keypoints v", np.ones(triples.shape[:-1]), triples[..., 2], note=note)


def evaluation(file: Path, directory: Directory) -> Iterator[Check]:
    """`evaluation*.json`: the ten COCO numbers of given people and detections."""
    known = directory.open(file)
    stats = evaluate(known["ground_truth"], known["detections"]).stats
    yield known.equal("names of the numbers", list(STATS), list(known["stats_names"]))
    for name, value in zip(known["stats_names"], known["stats"], strict=True):
        yield known.check(name, stats[name], value, atol=1e-12)


FILES = {
    "keys_*.json": (keys,),
    "weights_check*.json": (weights,),
    "forward_targets_*.npz": "forward_*.json",
    "forward_*.npz": (forward,),
    "forward_*.json": "forward_*.npz",
    "match_*.npz": (losses,),
    "loss_*.json": "match_*.npz",
    "postprocess_*.npz": (postprocess,),
    "targets*_images.npz": (target_images,),
    "targets*.json": (targets,),
    "evaluation*.json": (evaluation,),
}
