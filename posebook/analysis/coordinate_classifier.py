"""RTMO's coordinate classifier read again with other settings, on frozen weights (RTMO, sections 3.1 and 3.2).

Bins and codes are computed and not stored, so the same weights give a heatmap for any number of bins. The period of
the positional encoding is a constant that the weights were trained with; another one shows what depends on it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posekit.losses.coordinates import paper_mle_loss, target_heatmap
from posekit.models.coordinate_classifier import BINS

PERIOD = 300.0  # as released: `coordinate_classifier.sine_periods`
SIGMAS = np.geomspace(2e-3, 1.0, 121)  # relative to the person's size


@dataclass
class Coordinate:
    """One joint of one person along both axes ("x", "y"), px: `bins` (B,), `heatmap` (B,), `decoded`, `truth`;
    `likelihood`: that of the annotation, P(mu), per axis, at `sigma`; `losses` (S,): L_mle at `SIGMAS`; `loss`."""

    bins: dict[str, np.ndarray]
    heatmap: dict[str, np.ndarray]
    decoded: dict[str, float]
    truth: dict[str, float]
    likelihood: dict[str, float]
    losses: np.ndarray
    loss: float
    sigma: float
    size: float


@torch.no_grad()
def read_again(
    classifier, features: Tensor, box: Tensor, prior: Tensor, bins: int = 0, temperature=1.0, period=PERIOD
) -> dict[str, Tensor]:
    """What the classifier says of people, as its `forward`, with other settings; by default the same.

    Args:
        features (M, P), boxes (M, 4), priors (M, 2): of `CoordinateClassifier.forward`. bins: for x, those for y in
            proportion; 0 = as trained. temperature: the logits are divided by it; 1 in the paper. period: the longest
            of the encoding, 300 as released.

    Raises ValueError: fewer than two bins; a temperature or a period that is not positive; a classifier without
        computed bins (`decoding` other than "dcc").
    """
    if classifier.decoding != "dcc":
        raise ValueError(f"a classifier with decoding={classifier.decoding!r} has learned its bins: they cannot change")
    if bins == 1 or bins < 0 or temperature <= 0 or period <= 0:
        raise ValueError(f"{bins} bins, temperature {temperature:g}, period {period:g}: give 2 bins, numbers above 0")
    changed = copy.deepcopy(classifier)
    if bins:
        share = bins / len(classifier.x_bins)
        for name in BINS:
            setattr(changed, name, torch.linspace(-0.5, 0.5, max(round(share * len(getattr(classifier, name))), 2)))
    count = len(classifier.dim_t)
    changed.dim_t = period ** (torch.arange(count) / count)
    made = changed(features, box, prior)
    for axis in "xy":  # softmax(logits / T) from softmax(logits)
        made[f"heatmap_{axis}"] = (made[f"heatmap_{axis}"].clamp(min=1e-30).log() / temperature).softmax(-1)
    places = [(made[f"heatmap_{axis}"] * made[f"bins_{axis}"][:, None]).sum(-1) for axis in "xy"]
    return made | {"keypoints": torch.stack(places, -1)}


@torch.no_grad()
def coordinate(made: dict[str, Tensor], joint: int, truth, area: float, sigma: float) -> Coordinate:
    """One joint of the only person of `read_again`, and how likely its annotation is with `sigma`.

    truth (2,): the annotated place, COCO pixels. area: px^2.

    Raises ValueError: a sigma that is not positive, or a joint that nobody annotated.
    """
    place = np.asarray(truth, float)
    if not sigma > 0 or not np.isfinite(place).all():
        raise ValueError(f"sigma {sigma:g} at {place}: give a positive sigma and an annotated joint")
    heat = [made[f"heatmap_{axis}"][:1, joint : joint + 1] for axis in "xy"]
    bins = [made[f"bins_{axis}"][:1] + 0.5 for axis in "xy"]  # RTMO counts from pixel centres
    areas, mu = torch.tensor([area]).float(), torch.tensor(place).float()[None, None]
    likelihood = [
        float((h * target_heatmap(mu[..., axis], b, torch.full((1, 1), float(sigma)), areas)).sum())
        for axis, (h, b) in enumerate(zip(heat, bins, strict=True))
    ]
    tried = torch.tensor([*SIGMAS, sigma]).float()[:, None]  # a person per sigma
    many = [[part.expand(len(tried), *part.shape[1:]) for part in parts] for parts in (heat, bins)]
    losses = paper_mle_loss(*many, mu.expand(len(tried), 1, 2), tried, areas.expand(len(tried)), torch.ones_like(tried))
    decoded = made["keypoints"][0, joint] + 0.5

    def by_axis(values) -> dict:
        return dict(zip("xy", values, strict=True))

    return Coordinate(
        by_axis([part[0].numpy() for part in bins]),
        by_axis([part[0, 0].numpy() for part in heat]),
        by_axis(decoded.tolist()),
        by_axis(place.tolist()),
        by_axis(likelihood),
        losses[:-1].numpy(),
        float(losses[-1]),
        float(sigma),
        float(area) ** 0.5,
    )
