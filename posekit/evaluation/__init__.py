"""How good are the poses: OKS, COCO's ten numbers and CrowdPose's, visibility and centres."""

from posekit.data.crowdpose import BANDS, band_of, crowd_index
from posekit.evaluation.centers import Centers, compare_centers, true_centers
from posekit.evaluation.coco import CROWD_STATS, Result, evaluate, evaluate_by_people, per_joint_oks
from posekit.evaluation.oks import match_people, oks
from posekit.evaluation.pairing import Pairs, pair_people
from posekit.evaluation.precision import STATS
from posekit.evaluation.visibility import Visibility, calibration, compare_visibility, roc
