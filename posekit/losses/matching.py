"""Bipartite matching of predictions and people, for a whole batch and all decoder layers at once (POET, Eq. 2).

The costs come as one padded array; scipy's Hungarian algorithm solves each (layer, image) on the CPU.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@torch.no_grad()
def hungarian(cost: Tensor, people: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The assignment of least total cost, per layer and image.

    cost (L, B, Q, N), of which only the first `people[b]` columns of image b count. Each person gets one query; when
    there are more people than queries, the dearest people get none.

    Returns four equally long index tensors: layer, image, query, person.

    Raises:
        FloatingPointError: a cost is not finite; the sentence names the image's place in the batch.
    """
    table = cost.detach().float().cpu().numpy()
    pairs = []
    for b, n in enumerate(people):
        if not n:
            continue
        if not np.isfinite(table[:, b, :, :n]).all():
            raise FloatingPointError(
                f"the matching cost of image {b} of the batch is not finite: the predictions or the targets hold NaN; "
                "lower the learning rate or check that image's annotations"
            )
        for layer in range(len(table)):
            query, person = linear_sum_assignment(table[layer, b, :, :n])
            pairs.append((np.full(len(query), layer), np.full(len(query), b), query, person))
    columns = np.concatenate([np.stack(p) for p in pairs], axis=1) if pairs else np.zeros((4, 0), np.int64)
    layers, images, queries, persons = torch.from_numpy(columns).to(cost.device).unbind(0)
    return layers, images, queries, persons
