"""How good are the poses: OKS, COCO's ten numbers, visibility and centres."""

from posekit.evaluation.coco import STATS, Matches, Result, evaluate, evaluate_by_people, per_joint_oks
from posekit.evaluation.oks import match_people, oks, oks_per_joint

__all__ = [
    "STATS",
    "Matches",
    "Result",
    "evaluate",
    "evaluate_by_people",
    "match_people",
    "oks",
    "oks_per_joint",
    "per_joint_oks",
]
