"""How well predicted visibility tells visible joints from the others (POET, Figure 10 and its text).

Predicted: a number in [0, 1] per joint. Annotated, COCO: 0 not labelled or outside, 1 labelled but occluded, 2
visible. Visible means 2, as in the released code's targets, so 0 and 1 together are "non-visible". All functions
take arrays of any shape, one number per joint, e.g. `pairs.visibility` and `pairs.true_visibility`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Calibration:
    """Reliability of a probability in equal bins over [0, 1], one row per bin.

    `low`, `high`: the bin, low <= p < high (the last one includes 1); `count`; `predicted`: mean of p;
    `observed`: share of visible joints; the last two are NaN in an empty bin. `error`: expected calibration
    error, the mean of |predicted - observed| weighted by count.
    """

    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    error: float


@dataclass
class Visibility:
    """How well visible joints are separated from the others.

    `by_flag`: predicted visibility of the joints annotated 0, 1, 2: the violins. `hidden_correct`: share of
    non-visible joints (0 and 1) below the threshold; `visible_correct`: share of visible joints (2) above it;
    NaN without such joints; `hidden`, `visible`: their numbers. `false_rate`, `true_rate`: the ROC curve,
    from (0, 0) to (1, 1); `auc`: the area below it: how often a visible joint gets the higher number of a random
    pair, ties count half.
    """

    by_flag: dict[int, np.ndarray]
    threshold: float
    hidden: int
    visible: int
    hidden_correct: float
    visible_correct: float
    false_rate: np.ndarray
    true_rate: np.ndarray
    auc: float
    calibration: Calibration


def compare_visibility(predicted, truth, threshold: float = 0.5, bins: int = 10) -> Visibility:
    """Compare predicted visibility in [0, 1] with COCO's flag {0, 1, 2}; both of the same shape.

    Raises:
        ValueError: shapes that differ, a prediction outside [0, 1], another flag.
    """
    predicted, truth = np.asarray(predicted, float), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted {predicted.shape} and annotated {truth.shape} visibility must be alike")
    predicted, truth = predicted.ravel(), truth.ravel()
    if not ((predicted >= 0) & (predicted <= 1)).all():
        worst = predicted[~((predicted >= 0) & (predicted <= 1))][0]
        raise ValueError(f"predicted visibility must lie in [0, 1], not {worst:g}: apply the sigmoid first")
    if not np.isin(truth, (0, 1, 2)).all():
        raise ValueError(f"annotated visibility must be 0, 1 or 2, not {truth[~np.isin(truth, (0, 1, 2))][0]}")
    visible = truth == 2
    false_rate, true_rate, auc = roc(predicted, visible)
    return Visibility(
        by_flag={flag: predicted[truth == flag] for flag in (0, 1, 2)},
        threshold=threshold,
        hidden=int((~visible).sum()),
        visible=int(visible.sum()),
        hidden_correct=_share(predicted[~visible] < threshold),
        visible_correct=_share(predicted[visible] > threshold),
        false_rate=false_rate,
        true_rate=true_rate,
        auc=auc,
        calibration=calibration(predicted, visible, bins),
    )


def roc(predicted, positive) -> tuple[np.ndarray, np.ndarray, float]:
    """False and true positive rate (M + 1,), each of M distinct predictions as threshold, and the area below.

    All three are NaN if `positive` (bool) is all of one kind.
    """
    predicted, positive = np.asarray(predicted, float).ravel(), np.asarray(positive, bool).ravel()
    order = np.argsort(-predicted, kind="stable")
    last = np.append(np.flatnonzero(np.diff(predicted[order])), len(order) - 1)  # ties pass the threshold together
    if not 0 < positive.sum() < len(positive):
        return np.full(2, np.nan), np.full(2, np.nan), float("nan")
    hits = np.cumsum(positive[order])[last]
    true_rate = np.append(0, hits / hits[-1])
    false_rate = np.append(0, (last + 1 - hits) / (len(positive) - hits[-1]))
    return false_rate, true_rate, float(np.trapezoid(true_rate, false_rate))


def calibration(predicted, positive, bins: int = 10) -> Calibration:
    """Predicted probability against observed share in `bins` equal bins."""
    predicted, positive = np.asarray(predicted, float).ravel(), np.asarray(positive, bool).ravel()
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    total = np.where(count > 0, count, np.nan)
    mean = np.bincount(which, predicted, bins) / total
    share = np.bincount(which, positive, bins) / total
    error = float(np.nansum(np.abs(mean - share) * count) / len(predicted)) if len(predicted) else float("nan")
    return Calibration(edges[:-1], edges[1:], count, mean, share, error)


def _share(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else float("nan")
