"""What a system gets wrong, by kind of error, and what AP it would have without it; how far its scores can be believed.

Kinds of errors and their mending: posekit/evaluation/errors.py (Ronchi and Perona 2017). Two more of theirs: *scores*,
every detection gets its OKS as its score, so that the best come first; *false positives*, detections that are paired
with nobody are taken away.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from posebook.reports import RunFiles
from posekit.evaluation import evaluate
from posekit.evaluation.errors import KINDS, Errors, find_errors
from posekit.evaluation.run_tables import columns
from posekit.evaluation.visibility import calibration
from posekit.poses import Poses
from posekit.training.validation import scoring

MENDED = (*KINDS[1:], "all joints", "scores", "false positives")
BEST = 20  # detections of an image that COCO's scorer looks at
BINS = 10


class Anatomy:
    """The errors of an evaluated run: `files` of the evaluation; the first `images` of it, 0 = all."""

    def __init__(self, files: RunFiles, images: int = 0) -> None:
        self.files, data = files, files.data
        self.ids = data.ids[: images or None]
        nobody = Poses.nobody(len(data.layout))
        self.poses = [files.predictions.get(image, nobody).select(slice(0, BEST)) for image in self.ids]
        self.targets = [data.target(i) for i in range(len(self.ids))]
        self.errors: Errors = find_errors(self.poses, self.targets, data.layout)

    def result(self, poses: list[Poses]):
        """COCO's result of these poses."""
        data = self.files.data
        return evaluate(data.ground_truth, columns(poses, self.ids), image_ids=self.ids, **scoring(data))

    def gains(self) -> pd.Series:
        """AP as it is ("AP"), and by how much it would rise without each kind of error of `MENDED` alone."""
        pairs, own = self.errors.pairs, self.result(self.poses).stats["AP"]
        mended = {kind: self.errors.mend(self.poses, [kind]) for kind in KINDS[1:]}
        mended["all joints"] = self.errors.mend(self.poses, KINDS[1:])
        oks = [np.zeros(len(one), np.float32) for one in self.poses]
        for image, prediction, value in zip(pairs.image, pairs.prediction, pairs.oks, strict=True):
            oks[image][prediction] = value
        mended["scores"] = [replace(one, scores=value) for one, value in zip(self.poses, oks, strict=True)]
        mended["false positives"] = [one.select(value > 0) for one, value in zip(self.poses, oks, strict=True)]
        gains = {kind: self.result(poses).stats["AP"] - own for kind, poses in mended.items()}
        return pd.Series({"AP": own} | {kind: gains[kind] for kind in MENDED})

    def shares(self) -> pd.Series:
        """Shares of the judged joints by kind; `missed`: of the people, those without a detection; `false positives`:
        of the detections among the best 20 of an image, those on nobody."""
        judged = self.errors.kind[self.errors.kind >= 0]
        people = len(self.errors.pairs) + self.errors.missed
        found = sum(map(len, self.poses))
        shares = {kind: float((judged == i).mean()) if len(judged) else np.nan for i, kind in enumerate(KINDS)}
        shares["missed"] = self.errors.missed / max(people, 1)
        return pd.Series(shares | {"false positives": 1 - len(self.errors.pairs) / max(found, 1)})

    def by_joint(self) -> pd.DataFrame:
        """Shares of each kind, joint by joint."""
        shares = pd.DataFrame(self.errors.shares(), columns=list(KINDS))
        return shares.assign(joint=self.files.data.layout.keypoints)[["joint", *KINDS]]

    def reliability(self) -> pd.DataFrame:
        """What scores and visibilities promise and what holds, in ten bins each: `what` ("score": the detection finds
        somebody at OKS 0.5; "visibility": the joint is visible), predicted, observed, count; empty bins left out."""
        result, pairs = self.result(self.poses), self.errors.pairs
        counted = ~result.ignored_detections[0, 0]
        what = {
            "score": (result.detections.scores[counted], result.match[0, 0][counted] >= 0),
            "visibility": (pairs.visibility.ravel(), pairs.true_visibility.ravel() == 2),
        }
        parts = []
        for name, (predicted, true) in what.items():
            bins = calibration(np.clip(predicted, 0, 1), true, BINS)
            part = pd.DataFrame({"predicted": bins.predicted, "observed": bins.observed, "count": bins.count})
            parts.append(part.assign(what=name, error=bins.error)[bins.count > 0])
        return pd.concat(parts, ignore_index=True)
