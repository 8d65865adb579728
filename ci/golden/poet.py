"""POET's golden files: weights, names, detections and evaluation; the rest in the modules beside this one.

Reference: the published code of POET (Stoffl et al. 2021).
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from golden.poet_forward import forward
from golden.poet_losses import losses
from golden.poet_model import build_for, options_of
from golden.poet_targets import targets
from golden.report import Report
from golden.rules import plain_tensor
from posekit import models
from posekit.evaluation import STATS, evaluate

TITLE = "POET"


def keys(file: Path, report: Report) -> None:
    """`keys_*.json`: names and shapes of the published state dict, in order, against a model of that size."""
    rows = [(name, tuple(shape)) for name, shape in report.fields(file)["rows"]]
    options = options_of(dict(rows))
    model = build_for(options, dilate_last="dc5" in file.stem)
    ours = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    differ = [f"{a} / {b}" for a, b in zip(ours, rows, strict=False) if a != b]
    report.equal(file, "number of entries", len(ours), len(rows))
    report.equal(file, "names and shapes in order", differ[:3], [], f"built with {_written(options)}")


def weights(file: Path, report: Report) -> None:
    """`weights_check.json`: sums and checksums of the tensors that the weight rule makes."""
    table = report.fields(file)
    lists = [path.relative_to(report.folder) for path in sorted(report.folder.glob("keys_*.json"))]
    listed = [row for other in lists for row in report.fields(other)["rows"]]
    if not listed:
        listed = [(name, value.shape) for name, value in build_for({}).state_dict().items()]
    shapes: dict[str, set[tuple[int, ...]]] = {}  # models of several sizes give a name several shapes
    for name, shape in listed:
        shapes.setdefault(name, set()).add(tuple(shape))
    report.equal(file, "names", sorted(table.keys() - shapes.keys())[:3], [])
    names = [name for name in table if name in shapes]
    reference = np.array([table[name] for name in names], np.float64).reshape(-1, 3)
    tensors = {}
    for name, (total, _, _) in zip(names, reference, strict=True):
        candidates = [plain_tensor(name, shape) for shape in sorted(shapes[name])]
        tensors[name] = min(candidates, key=lambda x, total=total: abs(x.sum(dtype=np.float64) - total))
    sums = [tensors[name].sum(dtype=np.float64) for name in names]
    sizes = [np.abs(tensors[name]).sum(dtype=np.float64) for name in names]
    report.compare(file, "sum", sums, reference[:, 0], atol=1e-3, rtol=1e-6)
    report.compare(file, "sum of absolute values", sizes, reference[:, 1], rtol=1e-6)
    checksums = [zlib.crc32(tensors[name].astype("<f4").tobytes()) for name in names]
    report.compare(file, "crc32 of the bytes", checksums, reference[:, 2])


def postprocess(file: Path, report: Report) -> None:
    """`postprocess_*.npz`: detections from the last layer of the forward or match file of the same name."""
    expected = report.arrays(file)
    stem = file.stem.removeprefix("postprocess_")
    source = next(
        (
            file.with_name(f"{kind}_{stem}.npz")
            for kind in ("forward", "match")
            if report.has(file.with_name(f"{kind}_{stem}.npz"))
        ),
        None,
    )
    if source is None:
        report.fail(file, "replay", f"there is neither forward_{stem}.npz nor match_{stem}.npz to start from")
        return
    logits = torch.from_numpy(report.arrays(source)["pred_logits"])
    pose = torch.from_numpy(report.arrays(source)["pred_kpts"])
    model = models.build("poet_tiny", num_keypoints=(pose.shape[-1] - 2) // 3)  # all decode alike
    poses = model.decode({"logits": logits, "pose": pose}, expected["orig_size_hw"][:, ::-1].copy())
    probabilities = logits[-1].softmax(-1).numpy()
    label = probabilities[..., :-1].argmax(-1)
    report.compare(file, "labels", label, expected["labels"], note="the likelier class but for 'nobody'")
    report.compare(file, "scores", probabilities[..., :-1].max(-1), expected["scores"], atol=1e-6)
    triples = expected["keypoints"].reshape(*label.shape, -1, 3)
    order = np.stack([np.argsort(-p[:, 1], kind="stable") for p in probabilities])  # ours come best first
    largest = np.abs(triples[..., :2]).max(initial=1.0)
    ours = np.stack([p.keypoints for p in poses])
    report.compare(
        file,
        "keypoints x, y",
        ours,
        np.take_along_axis(triples[..., :2], order[..., None, None], 1),
        atol=2e-6 * float(largest),
    )
    people = np.take_along_axis(label, order, 1) == 1
    report.compare(
        file,
        "scores of people",
        np.stack([p.scores for p in poses])[people],
        np.take_along_axis(expected["scores"], order, 1)[people],
        atol=1e-6,
        note=f"{int((~people).sum())} of class 0, which COCO ignores, stay with us as unlikely people",
    )
    report.compare(
        file,
        "keypoints v",
        np.ones(triples.shape[:-1]),
        triples[..., 2],
        note="always 1 in the reference; ours carry the predicted visibility, which COCO ignores",
    )


def evaluation(file: Path, report: Report) -> None:
    """`evaluation*.json`: the ten COCO numbers of given people and detections."""
    case = report.fields(file)
    stats = evaluate(case["ground_truth"], case["detections"]).stats
    report.equal(file, "names of the numbers", list(STATS), list(case["stats_names"]))
    for name, value in zip(case["stats_names"], case["stats"], strict=True):
        report.compare(file, name, stats[name], value, atol=1e-12)


HANDLERS = [
    ("keys_*.json", keys),
    ("weights_check*.json", weights),
    ("forward_targets_*.npz", forward),
    ("forward_*.npz", forward),
    ("forward_*.json", forward),
    ("match_*.npz", losses),
    ("loss_*.json", losses),
    ("postprocess_*.npz", postprocess),
    ("targets*.json", targets),
    ("targets*_images.npz", targets),
    ("evaluation*.json", evaluation),
]


def _written(options: dict) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
