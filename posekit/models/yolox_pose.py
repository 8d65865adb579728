"""YOLOX-Pose, RTMO's parent: an image in, a person from every cell of a grid out, joints by regression (YOLOX: Ge et
al. 2021; YOLO-Pose: Maji et al. 2022; numbers of mmpose's configuration).

RTMO's CSPDarknet -> YOLOX's pyramid network -> per level a head: score, objectness, box, joints and their visibility.
Legend: B images, N grid cells ("priors") of all levels, K keypoints. Frame: inside the model, COCO's numbers as pixel
index, as published weights want it; the prior of a cell is its top left corner. `decode` adds the half pixel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.fusion import fused
from posekit.models.pyramid import Pyramid
from posekit.models.rtmdet import STRIDES, corner_priors
from posekit.models.rtmo import GREY, RAW, SIZES, check_sides, decode_boxes, survivors
from posekit.models.rtmo_pyramid import ConvBN, CSPDarknet, CSPLayer, csp_darknet, set_norms
from posekit.pixels import from_pixel_index
from posekit.poses import Poses


class PoseHead(nn.Module):
    """Per level 3 x 3 convolutions, `depths` of them for score, box and pose, then 1 x 1 convolutions."""

    def __init__(self, width: int, num_keypoints: int, levels: int, depths: tuple[int, int, int] = (2, 2, 4)) -> None:
        super().__init__()

        def per_level(make) -> nn.ModuleList:
            return nn.ModuleList(make() for _ in range(levels))

        self.conv_cls, self.conv_reg, self.conv_pose = (
            per_level(lambda depth=depth: nn.Sequential(*(ConvBN(width, width, 3) for _ in range(depth))))
            for depth in depths
        )
        self.out_cls, self.out_obj, self.out_bbox, self.out_kpt, self.out_kpt_vis = (
            per_level(lambda outputs=outputs: nn.Conv2d(width, outputs, 1))
            for outputs in (1, 1, 4, 2 * num_keypoints, num_keypoints)
        )
        for layer in (*self.out_cls, *self.out_obj):  # people are rare: start from a probability of 1 %
            nn.init.constant_(layer.bias, -math.log(99))

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """[(B, width, h, w), ...] -> name: (B, N, channels), cells row by row, the finest level first."""
        result: dict[str, list[Tensor]] = {}
        for level, x in enumerate(maps):
            score, box, pose = self.conv_cls[level](x), self.conv_reg[level](x), self.conv_pose[level](x)
            branches = {"cls": score, "obj": box, "bbox": box, "kpt": pose, "kpt_vis": pose}
            for name, branch in branches.items():
                value = getattr(self, f"out_{name}")[level](branch)
                result.setdefault(name, []).append(value.flatten(2).transpose(1, 2))
        return {name: torch.cat(parts, 1) for name, parts in result.items()}


class YOLOXPose(nn.Module):
    """See the module's docstring. `width`: channels of the neck's levels; `depth`: blocks of its layers."""

    features = (3, 4, 5)  # levels of the pyramid that predict: level l has stride 2 ** l

    fuse = fused

    def __init__(
        self, backbone: CSPDarknet, *, input: InputSpec, num_keypoints: int = 17, width: int = 128, depth: int = 1
    ) -> None:
        super().__init__()
        self.input, self.num_keypoints = input, num_keypoints
        self.backbone = backbone
        self.neck = Pyramid(
            backbone.channels,
            layer=lambda inputs, outputs: CSPLayer(inputs, outputs, depth, shortcut=False),
            halve=lambda channels: ConvBN(channels, channels, 3, 2),
            out=lambda channels: ConvBN(channels, width),
        )
        self.head = PoseHead(width, num_keypoints, len(STRIDES))

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """images (B, 3, H, W) normalised as `input` says; padding_mask is not used: padding is grey image to it.

        Returns `cls_logits` and `obj_logits` (B, N), `boxes` (B, N, 4) x0 y0 x1 y1 px, `box_raw` (B, N, 4) as the
        losses want it, `keypoints` (B, N, K, 2) px, `vis_logits` (B, N, K) and `priors` (N, 3) = x, y px and stride.

        Raises:
            ValueError: a height or width that is not a multiple of 32.
        """
        height, width = images.shape[2:]
        check_sides("YOLOX-Pose", height, width)
        raw = {name: value.float() for name, value in self.head(self.neck(self.backbone(images))).items()}
        priors = corner_priors(height, width, images.device)
        places, stride = priors[:, :2], priors[:, 2:]
        offsets = raw["kpt"].unflatten(2, (self.num_keypoints, 2))
        return {
            "cls_logits": raw["cls"][..., 0],
            "obj_logits": raw["obj"][..., 0],
            "boxes": decode_boxes(raw["bbox"], places, stride),
            "box_raw": raw["bbox"],
            "keypoints": offsets * stride[:, None] + places[:, None],
            "vis_logits": raw["kpt_vis"],
            "priors": priors,
        }

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Tensor,
        layer: int = -1,
        score_threshold: float = 0.01,
        nms_iou: float = 0.65,
        max_people: int = 100,
    ) -> list[Poses]:
        """People per image, best first, in pixels of the network's input, COCO's frame; boxes cut to the image.

        image_sizes (B, 2) = (width, height) without padding. The score is class times objectness. `layer` is not used.
        """
        scores = outputs["cls_logits"].sigmoid() * outputs["obj_logits"].sigmoid()
        image, cell = survivors(scores, outputs["boxes"], score_threshold, nms_iou, max_people)
        box = from_pixel_index(outputs["boxes"][image, cell])
        sizes = torch.as_tensor(image_sizes, dtype=box.dtype, device=box.device)[image].repeat(1, 2)
        people = (
            from_pixel_index(outputs["keypoints"][image, cell]),
            outputs["vis_logits"][image, cell].sigmoid(),
            scores[image, cell],
            torch.minimum(box.clamp(min=0), sizes),
        )
        counts = image.bincount(minlength=len(scores)).tolist()
        arrays = zip(*(x.cpu().split(counts) for x in people), strict=True)
        return [Poses(*(x.float().numpy() for x in group)) for group in arrays]


def yolox_pose(size: str = "s", **overrides) -> YOLOXPose:
    """YOLOX-Pose-t, -s, -m or -l.

    Raises:
        ValueError: an unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"there is no YOLOX-Pose-{size}; sizes are {', '.join(SIZES)}")
    widen, deepen, pixels = SIZES[size]
    options = {"input": InputSpec(size=pixels, **RAW), "width": int(256 * widen), "depth": max(round(3 * deepen), 1)}
    return YOLOXPose(csp_darknet(widen, deepen), **options | overrides)


def yolox_pose_tiny(**overrides) -> YOLOXPose:
    """For images of 128 pixels on two CPU cores, on the backbone of RTMO-tiny: 1.2 M parameters."""
    options = {"input": InputSpec(size=128, **GREY), "width": 48} | overrides
    return set_norms(YOLOXPose(CSPDarknet((16, 16, 48, 96, 128), (0, 1, 1, 1)), **options))
