"""The people of a batch as one table, padded to the largest crowd, in the pixel index of the published RTMO.

Shapes: B images, G people (padded), R regions (padded), K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from posekit.pixels import to_pixel_index


@dataclass(frozen=True)
class PaddedTargets:
    """`boxes` (B, G, 4) xyxy, `keypoints` (B, G, K, 2), `visible` (B, G, K) in {0, 1} float, `annotated` (B, G, K)
    float: weight of a joint in the visibility loss, `areas` (B, G) px^2, `exists` (B, G) bool, `ignore` (B, R, 4) xyxy,
    where a row of padding has no extent.
    """

    boxes: Tensor
    keypoints: Tensor
    visible: Tensor
    annotated: Tensor
    areas: Tensor
    exists: Tensor
    ignore: Tensor


def pack_people(
    targets: list[dict[str, Tensor]], num_keypoints: int, device: torch.device | str = "cpu"
) -> PaddedTargets:
    """Targets of a loader's batch (COCO pixels of the network input) -> `PaddedTargets` in pixel index.

    A person without a labelled joint, or with a box under one pixel, cannot be matched by its pose; it becomes one more
    region to ignore. `visibility` 1 and 2 both count as visible. An optional `visibility_weights` (n, K) is 0 where a
    data set does not annotate a joint at all.

    Raises:
        ValueError: targets with another number of keypoints than the model.
    """
    k, rows = num_keypoints, []
    for target in targets:
        if len(target["keypoints"]) and target["keypoints"].shape[1] != k:
            raise ValueError(
                f"the targets have {target['keypoints'].shape[1]} keypoints, the criterion {k} sigmas; "
                "build model and criterion for the data set's layout"
            )
        boxes, visible = target["boxes"].reshape(-1, 4).float(), (target["visibility"].reshape(-1, k) > 0).float()
        matched = (visible.sum(1) > 0) & ((boxes[:, 2:] - boxes[:, :2]) > 1).all(1)
        annotated = target.get("visibility_weights", torch.ones_like(visible))
        crowds = target.get("ignore", boxes[:0]).reshape(-1, 4).float()
        row = {
            "boxes": to_pixel_index(boxes[matched]),
            "keypoints": to_pixel_index(target["keypoints"].reshape(-1, k, 2).float()[matched]),
            "visible": visible[matched],
            "annotated": annotated.reshape(-1, k).float()[matched],
            "areas": target["areas"].reshape(-1).float()[matched],
            "exists": matched[matched],
            "ignore": to_pixel_index(torch.cat([crowds, boxes[~matched]])),
        }
        rows.append(row)
    return PaddedTargets(**{name: pad_sequence([row[name] for row in rows], True).to(device) for name in rows[0]})
