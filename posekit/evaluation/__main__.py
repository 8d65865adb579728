"""`python -m posekit.evaluation GROUND_TRUTH.json DETECTIONS.json` prints COCO's ten numbers."""

from __future__ import annotations

import argparse
import sys

from posekit.evaluation.coco import evaluate


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m posekit.evaluation", description="COCO keypoint AP and AR.")
    parser.add_argument("ground_truth", help="COCO keypoint annotations (JSON)")
    parser.add_argument("detections", help="COCO keypoint results (JSON list)")
    parser.add_argument("--sigmas", type=float, nargs="+", help="one OKS fall-off per keypoint (default: the layout's)")
    parser.add_argument("--area-scale", type=float, default=1.0, help="multiplies the limits 32^2 and 96^2 (default: 1)")
    parser.add_argument("--max-detections", type=int, default=20, help="best detections kept per image (default: 20)")
    parser.add_argument("--category", type=int, default=1, help="category id to score (default: 1)")
    options = parser.parse_args(arguments)
    try:
        result = evaluate(
            options.ground_truth, options.detections, options.sigmas, options.area_scale, options.max_detections,
            options.category,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
