"""RTMO: a image in, people from every cell of a grid out (Lu et al. 2023, arXiv 2312.07526, Fig. 2).

CSPDarknet -> hybrid encoder -> per level a head: score, box, visibility and pose features per grid cell; the Dynamic
Coordinate Classifier makes keypoints of the features of those cells that survive score threshold and suppression.
Legend: B images, N grid cells ("priors") of all levels, K keypoints, P pose features.

Coordinates: inside the model, pixels of the network's input with pixel *centres* on integers, as published weights want
them: the prior of cell i is i stride + (stride - 1) / 2. `decode` alone adds the half pixel to COCO's frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.backbones import ResNet50Pyramid
from posekit.models.coordinate_classifier import classifier
from posekit.models.fusion import fused
from posekit.models.rtmo_pyramid import (
    ConvBN,
    CSPDarknet,
    HybridEncoder,
    csp_darknet,
    set_norms,
)
from posekit.pixels import from_pixel_index
from posekit.poses import Poses

GREY = {"pad": 114, "align": "centre"}  # a image lies in the middle of grey
RAW = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3, **GREY}  # published RTMO sees numbers from 0 to 255
LOG_SIZE = 10.0  # the largest logarithm of a box's size in strides, see `decode_boxes`
COARSEST = 32  # the last level's stride: heights and widths must be multiples
SIZES = {  # factors of width and depth, input size in pixels
    "t": (0.375, 0.33, 416),
    "s": (0.5, 0.33, 640),
    "m": (0.75, 0.67, 640),
    "l": (1.0, 1.0, 640),
}


class Head(nn.Module):
    """Score, box, proxy keypoints, visibility and pose features of every cell; each level has its own layers.

    `width`: channels of a level's input to each of the two branches; `group_width`: a pose branch has `groups` times
    that many channels. `depths`: how many 3 x 3 convolutions the score and the pose branch have.
    """

    def __init__(
        self,
        levels: int,
        num_keypoints: int,
        *,
        width: int,
        group_width: int,
        groups: int,
        pose_dim: int,
        depths: tuple[int, int],
    ) -> None:
        super().__init__()
        pose = groups * group_width

        def convs(first: int, channels: int, depth: int, groups: int = 1) -> nn.Sequential:
            more = (ConvBN(channels, channels, 3, groups=groups) for _ in range(depth - 1))
            return nn.Sequential(ConvBN(first, channels, 3), *more)

        self.conv_cls = nn.ModuleList(convs(width, width, depths[0]) for _ in range(levels))
        self.conv_pose = nn.ModuleList(convs(width, pose, depths[1], groups) for _ in range(levels))
        outputs = {"bbox": 4, "kpt_reg": 2 * num_keypoints, "kpt_vis": num_keypoints, "pose": pose_dim}
        self.out_cls = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(levels))
        for name, channels in outputs.items():
            self.add_module(f"out_{name}", nn.ModuleList(nn.Conv2d(pose, channels, 1) for _ in range(levels)))
        for layer in self.out_cls:  # people are rare: start from a probability of 1 %
            nn.init.constant_(layer.bias, -math.log(99))

    def forward(self, maps: list[Tensor], proxies: bool) -> dict[str, Tensor]:
        """[(B, 2 width, h, w), ...] -> name: (B, N, channels), cells row by row, the finest level first."""
        names = ["cls", "bbox", "kpt_vis", "pose"] + ["kpt_reg"] * proxies
        result: dict[str, list[Tensor]] = {name: [] for name in names}
        for level, x in enumerate(maps):
            first, second = x.chunk(2, 1)
            score, pose = self.conv_cls[level](first), self.conv_pose[level](second)
            for name in names:
                out = self.get_submodule(f"out_{name}.{level}")(score if name == "cls" else pose)
                result[name].append(out.flatten(2).transpose(1, 2))
        return {name: torch.cat(parts, 1) for name, parts in result.items()}


class RTMO(nn.Module):
    """See the module's docstring.

    `decoding`: "dcc", "cc+dba", "cc" or "regression" (Table 3). `features`: pyramid levels with a head (Table 4), level
    l has stride 2 ** l. `width`: channels of each half of the neck's output; `bins`: of the x and the y axis.
    """

    fuse = fused

    def __init__(
        self,
        backbone: nn.Module,
        *,
        input: InputSpec,
        num_keypoints: int = 17,
        features: tuple[int, ...] = (4, 5),
        decoding: str = "dcc",
        width: int = 256,
        group_width: int = 36,
        groups: int = 8,
        depths: tuple[int, int] = (2, 4),
        pose_dim: int = 512,
        bins: tuple[int, int] = (192, 256),
        keypoint_dim: int = 128,
        **neck,
    ) -> None:
        super().__init__()
        self.input, self.num_keypoints = input, num_keypoints
        self.features, self.decoding = tuple(features), decoding
        self.backbone = backbone
        self.neck = HybridEncoder(backbone.channels, features, outputs=2 * width, **neck)
        branches = {"width": width, "group_width": group_width, "groups": groups, "depths": depths}
        self.head = Head(len(features), num_keypoints, pose_dim=pose_dim, **branches)
        reach = input.size / 2
        self.classifier = classifier(pose_dim, num_keypoints, decoding, bins=bins, dim=keypoint_dim, reach=reach)

    def forward(
        self, images: Tensor, padding_mask: Tensor | None = None, proxies: bool | None = None
    ) -> dict[str, Tensor]:
        """images (B, 3, H, W) normalised as `input` says, padding_mask is not used: padding is grey image to it.

        Returns `cls_logits` (B, N), `boxes` (B, N, 4) x0 y0 x1 y1 px, `box_raw` (B, N, 4) as the losses want it,
        `vis_logits` (B, N, K), `pose_features` (B, N, P) and `priors` (N, 3) = x, y px and stride: `self.classifier`
        makes keypoints of pose features, boxes and priors. With `proxies` (default: while training)
        `proxy_keypoints` (B, N, K, 2) px, the coarse regression that chooses cells for people in training.

        Raises:
            ValueError: a height or width that is not a multiple of 32.
        """
        height, width = images.shape[2:]
        check_sides("RTMO", height, width)
        proxies = self.training if proxies is None else proxies
        raw = self.head(self.neck(self.backbone(images)), proxies)
        raw = {name: value.float() for name, value in raw.items()}  # bf16 has no room for pixels
        priors = self.priors(height, width, images.device)
        places, stride = priors[:, :2], priors[:, 2:]
        outputs = {
            "cls_logits": raw["cls"].squeeze(-1),
            "boxes": decode_boxes(raw["bbox"], places, stride),
            "box_raw": raw["bbox"],
            "vis_logits": raw["kpt_vis"],
            "pose_features": raw["pose"],
            "priors": priors,
        }
        if proxies:
            offsets = raw["kpt_reg"].unflatten(2, (self.num_keypoints, 2))
            outputs["proxy_keypoints"] = offsets * stride[:, None] + places[:, None]
        return outputs

    def priors(self, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """(N, 3) = x, y, stride of every cell, the finest level first, row by row; pixel centres on integers."""
        strides = [2**level for level in self.features]
        return grid_priors([(height // stride, width // stride) for stride in strides], strides, device)

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Tensor,
        layer: int = -1,
        score_threshold: float = 0.1,
        nms_iou: float = 0.65,
        max_people: int = 100,
        heatmaps: bool = False,
    ) -> list[Poses] | tuple[list[Poses], list[dict]]:
        """People per image, best first, in pixels of the network's input, COCO's frame; boxes cut to the image.

        image_sizes (B, 2) = (width, height) of the images without padding. Cells above `score_threshold` survive
        unless their box overlaps a better one by more than `nms_iou`; the classifier sees the survivors of all
        images at once. `layer` is not used: there is one. With `heatmaps` also a dict per image, numpy:
        `heatmap_x` (n, K, Bx), `heatmap_y` (n, K, By), `bins_x` (n, Bx), `bins_y` (n, By) px, `sigmas` (n, K).

        Raises:
            ValueError: heatmaps of a model that regresses.
        """
        if heatmaps and self.decoding == "regression":
            raise ValueError("decoding 'regression' has no heatmaps; build the model with decoding='dcc'")
        scores, boxes = outputs["cls_logits"].sigmoid(), outputs["boxes"]
        image, cell = survivors(scores, boxes, score_threshold, nms_iou, max_people)
        score, box = scores[image, cell], boxes[image, cell]
        people = self.classifier(outputs["pose_features"][image, cell], box, outputs["priors"][cell, :2])
        seen = outputs["vis_logits"][image, cell].sigmoid()
        size = torch.as_tensor(image_sizes, dtype=box.dtype, device=box.device)[image].repeat(1, 2)
        box = torch.minimum(from_pixel_index(box).clamp(min=0), size)
        people |= {name: from_pixel_index(people[name]) for name in ("keypoints", "bins_x", "bins_y") if name in people}
        counts = image.bincount(minlength=len(scores)).tolist()
        arrays = zip(*(x.cpu().split(counts) for x in (people["keypoints"], seen, score, box)), strict=True)
        poses = [Poses(*(x.float().numpy() for x in group)) for group in arrays]
        if not heatmaps:
            return poses
        parts = {name: value.float().cpu().split(counts) for name, value in people.items() if name != "keypoints"}
        return poses, [{name: part[i].numpy() for name, part in parts.items()} for i in range(len(counts))]


def check_sides(model: str, height: int, width: int) -> None:
    """Raises ValueError for images that the coarsest stride does not divide."""
    if height % COARSEST or width % COARSEST:
        raise ValueError(
            f"{model} needs images whose height and width are multiples of {COARSEST}, not {height} x {width}; "
            "resize or pad them"
        )


def grid_priors(sizes: list[tuple[int, int]], strides: list[int], device: torch.device | None = None) -> Tensor:
    """(N, 3) = x, y px and stride of the cells of grids of `sizes` (rows, columns), row by row.

    # differs from YOLOX: a prior is the middle of its cell's pixels counted from 0, not from 1/2.
    """
    levels = []
    for size, stride in zip(sizes, strides, strict=True):
        y, x = (torch.arange(n, device=device) * stride + (stride - 1) / 2 for n in size)
        y, x = torch.meshgrid(y, x, indexing="ij")
        levels.append(torch.stack([x, y, torch.full_like(x, stride)], -1).flatten(0, 1))
    return torch.cat(levels)


def decode_boxes(raw: Tensor, places: Tensor, stride: Tensor) -> Tensor:
    """raw (..., N, 4) = offset of the centre and log of the size, in strides -> x0 y0 x1 y1 px.

    # differs from the published code: a size ends at e^10 = 22,026 strides, 176,000 px at stride 8, so that box, area
    # and overlap stay finite whatever the head says. Below that bound the numbers are the same.
    """
    center, half = raw[..., :2] * stride + places, raw[..., 2:].clamp(max=LOG_SIZE).exp() * stride / 2
    return torch.cat([center - half, center + half], -1)


def survivors(
    scores: Tensor, boxes: Tensor, score_threshold: float, nms_iou: float, max_people: int
) -> tuple[Tensor, Tensor]:
    """Cells that become people: indices (n,) of the image and (n,) of the cell, images in order, best first.

    scores (B, N), boxes (B, N, 4) x0 y0 x1 y1. A box is dropped when its overlap with a better one is *larger* than
    `nms_iou`.
    """
    from torchvision.ops import nms  # with it comes torch's compiler: seconds that other models need not wait

    images, cells = [], []
    for index, (score, box) in enumerate(zip(scores, boxes, strict=True)):
        candidates = (score > score_threshold).nonzero()[:, 0]
        kept = candidates[nms(box[candidates], score[candidates], nms_iou)[:max_people]]
        images.append(torch.full_like(kept, index))
        cells.append(kept)
    return torch.cat(images), torch.cat(cells)


def rtmo(size: str = "s", **overrides) -> RTMO:
    """RTMO-t, -s, -m or -l: 6.8, 9.9, 22.5 and 44.7 M parameters.

    The paper's 9.9, 22.6 and 44.8 M count the running statistics of the batch norms too.

    Raises:
        ValueError: an unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"there is no RTMO-{size}; sizes are {', '.join(SIZES)}")
    widen, deepen, pixels = SIZES[size]
    options = {
        "input": InputSpec(size=pixels, **RAW),
        "fusion_width": int(256 * widen),
        "fusion_depth": round(3 * deepen),
        "width": int(256 * widen),
        "group_width": int(36 * widen),
        "pose_dim": int(512 * widen),
    }
    return RTMO(csp_darknet(widen, deepen), **options | overrides)


def rtmo_r50(pretrained: bool = False, **overrides) -> RTMO:
    """RTMO with a ResNet-50: 41.6 M parameters (the paper's 41.7 M count running statistics too).

    The paper does not give its neck; this is RTMO-l's. `pretrained` downloads torchvision's ImageNet weights.
    """
    return RTMO(ResNet50Pyramid(pretrained), **{"input": InputSpec(size=640, **GREY)} | overrides)


def rtmo_tiny(
    widths: tuple[int, ...] = (16, 16, 48, 96, 128), blocks: tuple[int, ...] = (0, 1, 1, 1), **overrides
) -> RTMO:
    """RTMO for images of 128 pixels on two CPU cores: 0.7 M parameters, strides 8 and 16, bins of 1 to 3 pixels.

    A training step's network costs what POET-tiny's does. Its score and pose branches have half of the paper's depth.
    # differs from the published code: all running statistics have torch's momentum of 0.1, not YOLOX's 0.03. In a run
    # of a few hundred steps at a high rate the slow ones lag so far behind the weights that activations explode in
    # evaluation mode.
    """
    neck = {"features": (3, 4), "dim": 48, "heads": 4, "feedforward": 96, "fusion_width": 32, "fusion_depth": 1}
    head = {"width": 48, "group_width": 48, "groups": 1, "depths": (1, 2), "pose_dim": 128}
    options = {"input": InputSpec(size=128, **GREY), "bins": (32, 48), "keypoint_dim": 48} | neck | head | overrides
    return set_norms(RTMO(CSPDarknet(widths, blocks), **options))
