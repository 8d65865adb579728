"""POET's matching cost, assignment, losses and gradients (`match_*.npz` with `loss_*.json`).

Targets come as the vectors that the loss sees: [xc, yc, vc, (dx, dy, v) * K]. Where a person of the batch has
no centre (vc = 0) the reference takes a branch with an indexing slip: instead of leaving that person out of
the visibility cost, it zeroes the target's v and the predicted v of the row (image * Q + query) that has the
person's number. `posekit` does not copy it: such a person costs nothing. The slip is written down here, to
find the pairs that the reference chose.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from golden.report import Report
from posekit.losses.matching import hungarian
from posekit.losses.poet import NOBODY, TERMS, PoetCriterion

# our term: its name in the cost weights and in the parts of the cost of the golden files
PARTS = {
    "loss_ce": ("cls", "class"),
    "loss_kpts": ("kpts", "kpts"),
    "loss_ctrs": ("ctrs", "ctrs"),
    "loss_deltas": ("deltas", "deltas"),
    "loss_kpts_class": ("kpts_class", "kpts_class"),
}
OPTIONS = {
    "loss_ce": "w_class",
    "loss_kpts": "w_abs",
    "loss_ctrs": "w_ctr",
    "loss_deltas": "w_deltas",
    "loss_kpts_class": "w_vis",
}
SLIP = "the slip left out"


def criterion_for(num_keypoints: int, weights: dict[str, float] | None = None, eos: float = 0.1) -> PoetCriterion:
    """The criterion with coefficients by term (None: the published ones)."""
    given = {} if weights is None else {OPTIONS[term]: weights[term] for term in TERMS}
    return PoetCriterion(num_keypoints, eos=eos, **given)


def pack(vectors: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> dict:
    """Persons of all images one after the other -> the padded batch of `PoetCriterion.pack`."""
    ends = np.cumsum(counts)
    most, k = int(counts.max(initial=0)), (vectors.shape[1] - 3) // 3
    padded = torch.zeros(len(counts), most, vectors.shape[1])
    classes = torch.zeros(len(counts), most, dtype=torch.long)
    for b, (end, n) in enumerate(zip(ends, counts, strict=True)):
        padded[b, :n] = torch.from_numpy(vectors[end - n : end])
        classes[b, :n] = torch.from_numpy(labels[end - n : end])
    seen = padded[..., 3:].reshape(len(counts), most, k, 3)[..., 2]
    return {"labels": classes, "vectors": padded, "seen": (seen == 1).float(), "counts": counts.tolist()}


def named_losses(terms: dict[str, Tensor], logits: Tensor, people: dict, pairs) -> dict[str, Tensor]:
    """Losses under the names of the published log, `class_error` and `cardinality_error` included."""
    last = len(logits) - 1
    counts = torch.tensor(people["counts"], dtype=torch.float32)
    found = (logits.argmax(-1) != NOBODY).sum(-1)  # (L, B)
    layer, image, query, person = (index[pairs[0] == last] for index in pairs)
    right = logits[layer, image, query].argmax(-1) == people["labels"][image, person]
    result = {"class_error": 100 - 100 * right.float().mean() if len(right) else torch.tensor(100.0)}
    for i in range(last + 1):
        suffix = "" if i == last else f"_{i}"
        result |= {name + suffix: value[i] for name, value in terms.items()}
        result["cardinality_error" + suffix] = (found[i] - counts).abs().mean()
    return result


def weighted_total(named: dict[str, Tensor], coefficients: dict[str, float]) -> Tensor:
    """The sum that is minimised: all layers, the diagnostics left out."""
    return sum(
        coefficients[term] * value
        for term in TERMS
        for name, value in named.items()
        if name == term or name.removeprefix(term + "_").isdigit()
    )


def hidden_people(people: dict) -> list[tuple[int, int, int]]:
    """People without a centre: (number over the whole batch, image, place in the image)."""
    starts = np.cumsum([0, *people["counts"]])
    return [
        (int(starts[b]) + n, b, n)
        for b, count in enumerate(people["counts"])
        for n in range(count)
        if people["vectors"][b, n, 2] == 0
    ]


def slipped(visibility_cost: Tensor, pose: Tensor, people: dict) -> Tensor:
    """The visibility cost (L, B, Q, N) as the reference's slip leaves it."""
    cost, queries = visibility_cost.clone(), pose.shape[2]
    predicted, wanted = pose[..., 4::3].clone(), people["vectors"][..., 5::3].clone()
    for number, b, n in hidden_people(people):
        if number < pose.shape[1] * queries:
            predicted[:, number // queries, number % queries] = 0
        wanted[b, n] = 0
    for number, b, n in hidden_people(people):
        row_b, row_q = divmod(number, queries)
        if row_b < pose.shape[1]:
            cost[:, row_b, row_q] = (predicted[:, row_b, row_q, None] - wanted[row_b]).square().sum(-1).sqrt()
        cost[:, b, :, n] = (predicted[:, b] - wanted[b, n]).square().sum(-1).sqrt()
    return cost


def losses(file: Path, report: Report) -> None:
    """One case: parts of the cost, cost, assignment, every loss, the total, gradients of the last layer."""
    case = file.stem.split("_", 1)[1]
    arrays_file, fields_file = file.with_name(f"match_{case}.npz"), file.with_name(f"loss_{case}.json")
    if not (report.has(arrays_file) and report.has(fields_file)):
        report.fail(file, "replay", f"{arrays_file.name} and {fields_file.name} belong together; one is missing")
        return
    arrays, fields = report.arrays(arrays_file), report.fields(fields_file)
    logits, pose = torch.from_numpy(arrays["pred_logits"]), torch.from_numpy(arrays["pred_kpts"])
    people = pack(arrays["targets"], arrays["labels"], arrays["n_persons"])
    report.equal(fields_file, "case", case, fields["case"])
    report.equal(fields_file, "layers, queries", [len(logits), logits.shape[2]], [fields["layers"], fields["queries"]])
    report.equal(fields_file, "classes", NOBODY, fields["num_classes"])
    hidden = hidden_people(people)
    parts = _compare_parts(arrays_file, report, arrays, logits, pose, people, hidden)
    weights = {term: fields["cost_weights"][short] for term, (short, _) in PARTS.items()}
    pairs = _compare_assignment(arrays_file, report, arrays, parts, pose, people, weights, hidden)
    _compare_losses(arrays_file, fields_file, report, arrays, fields, logits, pose, people, pairs, hidden)


def _compare_parts(file, report, arrays, logits, pose, people, hidden) -> dict[str, Tensor]:
    """Our parts of the cost before weighting, each (L, B, Q, N); the last layer's are compared."""
    unit = criterion_for((pose.shape[-1] - 2) // 3, dict.fromkeys(TERMS, 1.0))
    parts = unit.cost(logits, pose, people)
    for term, (_, name) in PARTS.items():
        for b, n in enumerate(people["counts"]):
            ours, reference = parts[term][-1, b, :, :n].numpy(), arrays[f"term_{name}_{b}"]
            keep = np.ones(reference.shape, bool)
            if name == "kpts_class" and hidden and reference.shape == ours.shape:
                keep = _outside_slip(hidden, b, logits.shape[2], reference.shape)
                slip = slipped(parts[term], pose, people)[-1, b, :, :n].numpy()
                report.compare(
                    file,
                    f"term_{name}_{b}, slip as documented",
                    slip,
                    reference,
                    atol=_tolerance(term, reference),
                )
            note = "" if keep.all() else SLIP
            if ours.shape == reference.shape:
                ours, reference = np.where(keep, ours, 0), np.where(keep, reference, 0)
            report.compare(file, f"term_{name}_{b}", ours, reference, atol=_tolerance(term, reference), note=note)
    return parts


def _compare_assignment(file, report, arrays, parts, pose, people, weights, hidden):
    """The weighted cost and the pairs that it chooses, the reference's slip included where there is one.

    Returns the pairs that the losses are for: the reference's own at the last layer, ours at the others.
    """
    ours = cost = sum(weights[term] * parts[term] for term in TERMS)
    if hidden:
        visibility = slipped(parts["loss_kpts_class"], pose, people)
        cost = ours + weights["loss_kpts_class"] * (visibility - parts["loss_kpts_class"])
    pairs = hungarian(cost, people["counts"])
    last, documented = len(cost) - 1, "with the slip as documented" if hidden else ""
    given = [torch.stack([index[pairs[0] < last] for index in pairs])]
    for b, n in enumerate(people["counts"]):
        reference = arrays[f"cost_{b}"]
        keep = _outside_slip(hidden, b, pose.shape[2], reference.shape)
        tolerance = 2e-5 + sum(weights[term] * _tolerance(term, parts[term][-1, b, :, :n].numpy()) for term in TERMS)
        if hidden:
            slip = cost[-1, b, :, :n].numpy()
            report.compare(file, f"cost_{b}, slip as documented", slip, reference, atol=tolerance)
        plain = ours[-1, b, :, :n].numpy()
        if plain.shape == reference.shape:
            plain, reference = np.where(keep, plain, 0), np.where(keep, reference, 0)
        report.compare(file, f"cost_{b}", plain, reference, atol=tolerance, note="" if keep.all() else SLIP)
        here = (pairs[0] == last) & (pairs[1] == b)
        query, person = arrays[f"pred_index_{b}"], arrays[f"target_index_{b}"]
        report.compare(file, f"pred_index_{b}", pairs[2][here], query, note=documented)
        report.compare(file, f"target_index_{b}", pairs[3][here], person, note=documented)
        given.append(torch.from_numpy(np.stack([np.full(len(query), last), np.full(len(query), b), query, person])))
    return torch.cat(given, dim=1).unbind(0)


def _compare_losses(arrays_file, fields_file, report, arrays, fields, logits, pose, people, pairs, hidden) -> None:
    """Every loss of the log for these pairs, and the gradients of the weighted total at the last layer."""
    coefficients = {term: fields["loss_weights"][term] for term in TERMS}
    criterion = criterion_for((pose.shape[-1] - 2) // 3, coefficients, fields["eos_coef"])
    logits, pose = logits.clone().requires_grad_(), pose.clone().requires_grad_()
    named = named_losses(criterion.losses(logits, pose, people, pairs), logits, people, pairs)
    note = "for the reference's pairs" if hidden else ""
    compare_named(fields_file, report, named, fields["losses"], rtol=1e-5, note=note)
    total = weighted_total(named, coefficients)
    report.compare(fields_file, "total", total.item(), fields["total"], rtol=1e-5, note=note)
    total.backward()
    report.compare(arrays_file, "grad_logits_last", logits.grad[-1], arrays["grad_logits_last"], atol=1e-6, note=note)
    report.compare(arrays_file, "grad_kpts_last", pose.grad[-1], arrays["grad_kpts_last"], atol=1e-5, note=note)


def compare_named(file, report, named: dict[str, Tensor], reference: dict[str, float], rtol: float, note="") -> None:
    """A row per loss; names that only one side knows are a row too."""
    report.equal(file, "names of the losses", sorted(named), sorted(reference))
    for name in (name for name in reference if name in named):
        report.compare(file, name, named[name].item(), reference[name], atol=1e-7, rtol=rtol, note=note)


def _tolerance(term: str, value: np.ndarray) -> np.ndarray:
    """Of one entry of the cost.

    The reference's Euclidean distances come from a matrix product (torch.cdist), which is exact to some 1e-6
    of the square only: a small distance is less certain.
    """
    euclidean = term in ("loss_ctrs", "loss_kpts_class")
    return 1e-5 + (5e-6 / np.maximum(np.abs(value), 5e-3) if euclidean else np.zeros(value.shape))


def _outside_slip(hidden: list[tuple[int, int, int]], b: int, queries: int, shape: tuple[int, int]) -> np.ndarray:
    """Which entries of image b's cost the slip leaves alone."""
    keep = np.ones(shape, bool)
    for number, image, place in hidden:
        if number // queries == b:
            keep[number % queries] = False
        if image == b:
            keep[:, place] = False
    return keep
