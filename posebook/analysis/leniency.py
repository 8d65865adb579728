"""OKS and AP under other sigmas and areas: how lenient the score is, on the same predictions (POET, Eq. 5; COCO).

G people, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from posekit.evaluation.coco import score
from posekit.evaluation.detections import Detections, read_detections
from posekit.evaluation.ground_truth import GroundTruth, read_ground_truth
from posekit.evaluation.precision import threshold_place

RECALL = np.linspace(0, 1, 101)
FACTORS = tuple(2.0 ** np.arange(-2, 2.01, 0.5))
SHOWN = (0.5, 0.75, 0.9)  # thresholds of the drawn curves


@dataclass
class Scored:
    """`curves` (T, 101): threshold of `SHOWN` -> precision at `RECALL`; `stats`: COCO's numbers."""

    curves: dict[float, np.ndarray]
    stats: dict[str, float]


@dataclass
class Leniency:
    """Annotated people and predictions, read once; `score` matches them again."""

    people: GroundTruth
    found: Detections
    sigmas: np.ndarray
    area_scale: float

    @classmethod
    def of(cls, data, found: dict | list) -> Leniency:
        """data: a data set; found: as `posekit.evaluation.evaluate` takes it."""
        people = read_ground_truth(data.ground_truth)
        return cls(people, read_detections(found, people), data.layout.sigmas, data.area_scale)

    def score(self, sigma: float = 1.0, area: float = 1.0) -> Scored:
        """With all sigmas and all areas times a factor. COCO's limits of medium and large move with the areas, so that
        the same people stay in each range.

        Raises ValueError: a factor that is not positive.
        """
        if not (sigma > 0 and area > 0):
            raise ValueError(f"sigma times {sigma:g}, area times {area:g}: give factors above 0")
        people = replace(self.people, areas=self.people.areas * area)
        result = score(people, self.found, self.sigmas * sigma, self.area_scale * area)
        curves = {limit: result.precision[threshold_place(limit), :, 0] for limit in SHOWN}
        return Scored(curves, result.stats)

    def over_sigma(self, factors: Sequence[float] = FACTORS) -> pd.DataFrame:
        """AP, AP50 and AP75 by the factor of all sigmas: columns sigma, AP, AP50, AP75."""
        rows = [{"sigma": factor} | self.score(factor).stats for factor in factors]
        return pd.DataFrame(rows)[["sigma", "AP", "AP50", "AP75"]]
