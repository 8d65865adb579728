"""POET's matching cost, assignment, losses and gradients (`match_*.npz` with `loss_*.json`).

Targets are the vectors that the loss sees: [xc, yc, vc, (dx, dy, v) * K]. Where a person of the batch has no centre
(vc = 0) the reference has an indexing slip: instead of leaving that person out of the visibility cost, it zeroes the
target's v and the predicted v of the row (image * Q + query) that has the person's number. `posekit` does not copy it:
such a person costs nothing. The slip is written down here, to find the pairs that the reference chose.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from golden.checks import Check, Directory, Entries
from posekit.losses.matching import hungarian
from posekit.losses.poet import NOBODY, TERMS, PoetCriterion

# our term: its name in the cost weights, in the parts of the cost, and as an option of the criterion
NAMES = {
    "loss_ce": ("cls", "class", "w_class"),
    "loss_kpts": ("kpts", "kpts", "w_abs"),
    "loss_ctrs": ("ctrs", "ctrs", "w_ctr"),
    "loss_deltas": ("deltas", "deltas", "w_deltas"),
    "loss_kpts_class": ("kpts_class", "kpts_class", "w_vis"),
}
SLIP = "the slip left out"


def criterion_for(num_keypoints: int, weights: dict[str, float] | None = None, eos: float = 0.1) -> PoetCriterion:
    """The criterion with coefficients by term (None: the published ones)."""
    given = {} if weights is None else {NAMES[term][2]: weights[term] for term in TERMS}
    return PoetCriterion(num_keypoints, eos=eos, **given)


def pack(vectors: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> dict:
    """Persons of all images one after the other -> the padded batch of `PoetCriterion.pack`."""
    sizes = counts.tolist()
    padded = pad_sequence(torch.from_numpy(vectors).split(sizes), batch_first=True)
    classes = pad_sequence(torch.from_numpy(labels).long().split(sizes), batch_first=True)
    return {"labels": classes, "vectors": padded, "seen": (padded[..., 5::3] == 1).float(), "counts": sizes}


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
    places = [(b, n) for b, count in enumerate(people["counts"]) for n in range(count)]
    return [(i, b, n) for i, (b, n) in enumerate(places) if people["vectors"][b, n, 2] == 0]


def slipped(visibility_cost: Tensor, pose: Tensor, people: dict) -> Tensor:
    """The visibility cost (L, B, Q, N) as the reference's slip leaves it."""
    cost, (_, images, queries) = visibility_cost.clone(), pose.shape[:3]
    predicted, wanted = pose[..., 4::3].clone(), people["vectors"][..., 5::3].clone()
    hidden = hidden_people(people)
    rows = [divmod(number, queries) for number, _, _ in hidden if number < images * queries]
    for b, query in rows:
        predicted[:, b, query] = 0
    for _, b, n in hidden:
        wanted[b, n] = 0
    for b, query in rows:
        cost[:, b, query] = (predicted[:, b, query, None] - wanted[b]).square().sum(-1).sqrt()
    for _, b, n in hidden:
        cost[:, b, :, n] = (predicted[:, b] - wanted[b, n]).square().sum(-1).sqrt()
    return cost


def losses(file: Path, directory: Directory) -> Iterator[Check]:
    """One case: parts of the cost, cost, assignment, every loss, the total, gradients of the last layer."""
    case = file.stem.removeprefix("match_")
    arrays, fields = directory.together(file, file.with_name(f"loss_{case}.json"))
    logits, pose = torch.from_numpy(arrays["pred_logits"]), torch.from_numpy(arrays["pred_kpts"])
    people = pack(arrays["targets"], arrays["labels"], arrays["n_persons"])
    yield fields.equal("case", case)
    yield fields.equal("layers, queries", [len(logits), logits.shape[2]], [fields["layers"], fields["queries"]])
    yield fields.equal("classes", NOBODY, fields["num_classes"])
    unit = criterion_for((pose.shape[-1] - 2) // 3, dict.fromkeys(TERMS, 1.0))
    parts = unit.cost(logits, pose, people)  # before weighting, each (L, B, Q, N)
    visibility = slipped(parts["loss_kpts_class"], pose, people)
    yield from _check_parts(arrays, parts, visibility, people)
    weights = {term: fields["cost_weights"][short] for term, (short, _, _) in NAMES.items()}
    pairs = yield from _check_assignment(arrays, parts, visibility, people, weights)
    yield from _check_losses(arrays, fields, logits, pose, people, pairs)


def _check_parts(arrays: Entries, parts: dict[str, Tensor], visibility: Tensor, people: dict) -> Iterator[Check]:
    """The parts of the last layer's cost; `visibility` is the part with the slip."""
    for term, (_, name, _) in NAMES.items():
        for b, n in enumerate(people["counts"]):
            key, ours = f"term_{name}_{b}", parts[term][-1, b, :, :n].numpy()
            slip = visibility[-1, b, :, :n].numpy() if name == "kpts_class" else None
            tolerance = _tolerance(term, arrays.get(key, ours))
            yield from _check_with_slip(arrays, key, ours, slip, tolerance, b, people)


def _check_assignment(arrays: Entries, parts: dict[str, Tensor], visibility: Tensor, people: dict, weights: dict):
    """The weighted cost and the pairs that it chooses, the reference's slip included where there is one.

    Returns the pairs that the losses are for: the reference's own at the last layer, ours at the others.
    """
    cost = sum(weights[term] * parts[term] for term in TERMS)
    slip = cost + weights["loss_kpts_class"] * (visibility - parts["loss_kpts_class"])
    pairs = hungarian(slip, people["counts"])
    last, note = len(cost) - 1, "with the slip as documented" if hidden_people(people) else ""
    given = [torch.stack([index[pairs[0] < last] for index in pairs])]
    for b, n in enumerate(people["counts"]):
        tolerance = 2e-5 + sum(weights[term] * _tolerance(term, parts[term][-1, b, :, :n].numpy()) for term in TERMS)
        ours, with_slip = cost[-1, b, :, :n].numpy(), slip[-1, b, :, :n].numpy()
        yield from _check_with_slip(arrays, f"cost_{b}", ours, with_slip, tolerance, b, people)
        here = (pairs[0] == last) & (pairs[1] == b)
        yield arrays.check(f"pred_index_{b}", pairs[2][here], note=note)
        yield arrays.check(f"target_index_{b}", pairs[3][here], note=note)
        query, person = arrays[f"pred_index_{b}"], arrays[f"target_index_{b}"]
        given.append(torch.from_numpy(np.stack([np.full(len(query), last), np.full(len(query), b), query, person])))
    return torch.cat(given, dim=1).unbind(0)


def _check_with_slip(arrays: Entries, name: str, ours, slip, tolerance, b: int, people: dict) -> Iterator[Check]:
    """A cost (Q, N) of image b; where the slip touches it, once with the slip, and once without the touched entries.

    `slip`: the same cost with the slip; None: the slip does not touch it.
    """
    reference, keep = arrays.get(name), np.ones(ours.shape, bool)
    for number, image, place in hidden_people(people) if slip is not None else ():
        if number // len(ours) == b:
            keep[number % len(ours)] = False
        if image == b:
            keep[:, place] = False
    if slip is not None and hidden_people(people):
        yield arrays.check(f"{name}, slip as documented", slip, reference, atol=tolerance)
    if reference is not None and reference.shape == ours.shape:
        ours, reference = np.where(keep, ours, 0), np.where(keep, reference, 0)
    yield arrays.check(name, ours, reference, atol=tolerance, note="" if keep.all() else SLIP)


def _check_losses(arrays: Entries, fields: Entries, logits: Tensor, pose: Tensor, people, pairs) -> Iterator[Check]:
    """Every loss of the log for these pairs, and the gradients of the weighted total at the last layer."""
    coefficients = {term: fields["loss_weights"][term] for term in TERMS}
    criterion = criterion_for((pose.shape[-1] - 2) // 3, coefficients, fields["eos_coef"])
    logits, pose = logits.clone().requires_grad_(), pose.clone().requires_grad_()
    named = named_losses(criterion.losses(logits, pose, people, pairs), logits, people, pairs)
    note = "for the reference's pairs" if hidden_people(people) else ""
    yield from check_losses(fields, named, rtol=1e-5, note=note)
    total = weighted_total(named, coefficients)
    yield fields.check("total", total.item(), rtol=1e-5, note=note)
    total.backward()
    yield arrays.check("grad_logits_last", logits.grad[-1], atol=1e-6, note=note)
    yield arrays.check("grad_kpts_last", pose.grad[-1], atol=1e-5, note=note)


def check_losses(fields: Entries, named: dict[str, Tensor], rtol: float, note: str = "") -> Iterator[Check]:
    """A row per loss; names that only one side knows are a row too."""
    reference = fields["losses"]
    yield fields.equal("names of the losses", sorted(named), sorted(reference))
    for name in (name for name in reference if name in named):
        yield fields.check(name, named[name].item(), reference[name], atol=1e-7, rtol=rtol, note=note)


def _tolerance(term: str, value: np.ndarray) -> np.ndarray:
    """Of one entry of the cost.

    The reference's Euclidean distances come from a matrix product (torch.cdist), which is exact to some 1e-6
    of the square only: a small distance is less certain.
    """
    euclidean = term in ("loss_ctrs", "loss_kpts_class")
    return 1e-5 + (5e-6 / np.maximum(np.abs(value), 5e-3) if euclidean else np.zeros(value.shape))
