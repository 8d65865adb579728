"""POET's matching under other weights: Equation 1 keeps its terms, the lambdas move, Equation 2 decides again.

`MatchingTerms` holds one forward pass, so that a slider only adds weighted terms and solves the assignment. Q queries,
N people, L decoder layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posekit.losses.matching import hungarian
from posekit.losses.poet import TERMS, PoetCriterion
from posekit.poses import Poses

# The arguments of PoetCriterion and the terms that they weigh, in the same order
WEIGHTS = dict(zip(("w_class", "w_abs", "w_ctr", "w_deltas", "w_vis"), TERMS, strict=True))


@dataclass
class MatchingTerms:
    """`terms`: argument of `PoetCriterion` -> (L, 1, Q, N), unweighted; `poses`: per layer one pose per query, in the
    order of the queries, px of the image."""

    terms: dict[str, Tensor]
    poses: list[Poses]

    def cost(self, layer: int = -1, **weights: float) -> np.ndarray:
        """(Q, N): Equation 1 of one decoder layer with these weights; the others have POET's (`PoetCriterion`).

        Raises TypeError: an unknown weight. ValueError: a negative one.
        """
        coefficients = PoetCriterion(self.poses[0].keypoints.shape[1], **weights).coefficients
        return sum(coefficients[WEIGHTS[name]] * part for name, part in self.terms.items())[layer, 0].numpy()

    def assign(self, layer: int = -1, **weights: float) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """(cost (Q, N), [(query, person)] by person): Equations 1 and 2 of one decoder layer with these weights."""
        cost = self.cost(layer, **weights)
        _, _, queries, people = hungarian(torch.from_numpy(cost)[None, None], [cost.shape[1]])
        return cost, sorted(zip(queries.tolist(), people.tolist(), strict=True), key=lambda pair: pair[1])


def matching_terms(model, outputs: dict[str, Tensor], targets: list[dict], **options) -> MatchingTerms:
    """The terms of one image. outputs: of `POET.forward`; targets: the batch's, one image; options: of `PoetCriterion`
    (`pose_cost`, `visible`), no weights.

    Raises ValueError: several images.
    """
    if len(targets) != 1:
        raise ValueError(f"{len(targets)} images: the matching of one is shown, give a batch of one")
    logits, pose = outputs["logits"].detach(), outputs["pose"].detach()
    unweighted = PoetCriterion(model.num_keypoints, **dict.fromkeys(WEIGHTS, 1.0), **options)
    parts = unweighted.cost(logits, pose, unweighted.pack(targets, logits.device))
    size = torch.as_tensor(targets[0]["size"])[None]
    matrix = np.asarray(targets[0]["to_original"], float)
    poses = []
    for layer in range(len(logits)):
        (sorted_poses,) = model.decode(outputs, size, layer)
        order = np.argsort(-model.people(outputs, layer)["scores"][0].detach().numpy(), kind="stable")
        poses.append(sorted_poses.select(np.argsort(order)).transform(matrix))  # back to the order of the queries
    return MatchingTerms({name: parts[term] for name, term in WEIGHTS.items()}, poses)
