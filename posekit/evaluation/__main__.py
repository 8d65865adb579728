"""`python -m posekit.evaluation GROUND_TRUTH.json DETECTIONS.json` prints COCO's ten numbers.

What was changed or left out when the files were read is printed on stderr.
For a file whose images have a `crowdIndex` it prints CrowdPose's, with the AP of easy, medium and hard images.
"""

from __future__ import annotations

import argparse
import sys

from posekit.evaluation.coco import evaluate


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m posekit.evaluation", description="COCO keypoint AP and AR.")
    add = parser.add_argument
    add("ground_truth", help="COCO keypoint annotations (JSON)")
    add("detections", help="COCO keypoint results (JSON list)")
    add("--sigmas", type=float, nargs="+", help="OKS fall-off of each keypoint (default: the layout's)")
    add("--area-scale", type=float, default=1.0, help="multiplies the limits 32^2 and 96^2 (default: 1)")
    add("--max-detections", type=int, default=20, help="surest detections kept per image (default: 20)")
    add("--category", type=int, dest="category_id", help="category id to score (default: all with the same keypoints)")
    add("--convention", choices=("coco", "crowdpose"), help="default: CrowdPose's if images have a crowdIndex")
    try:
        result = evaluate(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    print(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
