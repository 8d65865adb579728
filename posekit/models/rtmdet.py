"""RTMDet: an image in, boxes of people out, for the top-down models (Lyu et al. 2022, arXiv 2212.07784).

CSPNeXt with depthwise convolutions -> pyramid network -> per level a head of its own: score and distances to the four
sides. Legend: B images, N grid cells ("priors") of all levels. Frame: COCO's pixels of the network input; the prior of
a cell is its top left corner, as in the published code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.fusion import fused
from posekit.models.pyramid import Pyramid
from posekit.models.rtmo import check_sides, survivors
from posekit.models.rtmo_pyramid import ConvBN, SpatialPyramid, set_norms
from posekit.poses import Poses

STRIDES = (8, 16, 32)
COARSEST = STRIDES[-1]
# Published RTMDet sees blue, green, red less ImageNet's means; ours red, green, blue
SPEC = {"pad": 114, "align": "topleft"}


class SeparableConv(nn.Module):
    """A depthwise convolution and a 1 x 1 convolution, each with batch norm and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise_conv = ConvBN(inputs, inputs, kernel, stride, groups=inputs)
        self.pointwise_conv = ConvBN(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class NextBlock(nn.Module):
    """A 3 x 3 and a 5 x 5 separable convolution, with a shortcut unless `shortcut=False`."""

    def __init__(self, width: int, shortcut: bool = True) -> None:
        super().__init__()
        self.conv1, self.conv2 = SeparableConv(width, width, 3), SeparableConv(width, width, 5)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class ChannelAttention(nn.Module):
    """Channels weighted by a hard sigmoid of a linear layer of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class NextLayer(nn.Module):
    """CSPNeXt's cross-stage layer: half of the channels pass through `depth` blocks, half go around them."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool = True, attention: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.main_conv, self.short_conv = ConvBN(inputs, half), ConvBN(inputs, half)
        self.blocks = nn.Sequential(*(NextBlock(half, shortcut) for _ in range(depth)))
        self.attention = ChannelAttention(2 * half) if attention else nn.Identity()
        self.final_conv = ConvBN(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.final_conv(self.attention(torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)))


class DepthwiseCSPNeXt(nn.Module):
    """Stem and four stages; `widths` of the stem and the stages, `blocks` per stage. Gives C3, C4, C5."""

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        first = widths[0]
        self.channels = tuple(widths[2:])
        self.stem = nn.Sequential(
            ConvBN(3, first // 2, 3, 2), ConvBN(first // 2, first // 2, 3), ConvBN(first // 2, first, 3)
        )
        for stage, (inputs, outputs, depth) in enumerate(zip(widths[:-1], widths[1:], blocks, strict=True), 1):
            last = stage == 4
            layers = [SeparableConv(inputs, outputs, 3, 2), NextLayer(outputs, outputs, depth, not last, True)]
            if last:
                layers.insert(1, SpatialPyramid(outputs))
            self.add_module(f"stage{stage}", nn.Sequential(*layers))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> maps at strides 8, 16 and 32."""
        c3 = self.stage2(self.stage1(self.stem(images)))
        c4 = self.stage3(c3)
        return [c3, c4, self.stage4(c4)]


class DetectionHead(nn.Module):
    """Per level two separable convolutions for the score and two for the box, then 1 x 1 convolutions."""

    def __init__(self, width: int, levels: int = len(STRIDES), depth: int = 2) -> None:
        super().__init__()

        def branch() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(*(SeparableConv(width, width, 3) for _ in range(depth))) for _ in range(levels)
            )

        self.cls_convs, self.reg_convs = branch(), branch()
        self.rtm_cls = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(levels))
        self.rtm_reg = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in range(levels))
        for layer in self.rtm_cls:  # people are rare: start from a probability of 1 %
            nn.init.constant_(layer.bias, -math.log(99))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (B, N) and distances to left, top, right and bottom in strides (B, N, 4), the finest level first."""
        scores, sides = [], []
        for x, cls, reg, score, side in zip(
            maps, self.cls_convs, self.reg_convs, self.rtm_cls, self.rtm_reg, strict=True
        ):
            scores.append(score(cls(x)).flatten(1))
            sides.append(side(reg(x)).flatten(2).transpose(1, 2))
        return torch.cat(scores, 1), torch.cat(sides, 1)


class RTMDet(nn.Module):
    """A person detector; it finds no keypoints (K = 0): its `Poses` are boxes and scores."""

    fuse = fused
    num_keypoints = 0
    features = (3, 4, 5)  # levels of the pyramid that predict: level l has stride 2 ** l

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...], *, width: int = 64, input: InputSpec) -> None:
        super().__init__()
        self.input = input
        self.backbone = DepthwiseCSPNeXt(widths, blocks)
        self.neck = Pyramid(
            self.backbone.channels,
            layer=lambda inputs, outputs: NextLayer(inputs, outputs, 1, shortcut=False),
            halve=lambda channels: SeparableConv(channels, channels, 3, 2),
            out=lambda channels: SeparableConv(channels, width, 3),
        )
        self.head = DetectionHead(width)
        set_norms(self, momentum=0.1, eps=1e-5)  # torch's, as published

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """images (B, 3, H, W) normalised as `input` says -> `cls_logits` (B, N), `boxes` (B, N, 4) x0 y0 x1 y1 px, and
        `priors` (N, 3) = x, y px and stride.

        Raises:
            ValueError: a height or width that is not a multiple of 32.
        """
        height, width = images.shape[2:]
        check_sides("RTMDet", height, width)
        logits, sides = self.head(self.neck(self.backbone(images)))
        priors = corner_priors(height, width, images.device)
        sides = sides.float() * priors[:, 2:]
        boxes = torch.cat([priors[:, :2] - sides[..., :2], priors[:, :2] + sides[..., 2:]], -1)
        return {"cls_logits": logits.float(), "boxes": boxes, "priors": priors}

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Tensor,
        layer: int = -1,
        score_threshold: float = 0.05,
        nms_iou: float = 0.6,
        max_people: int = 100,
    ) -> list[Poses]:
        """Boxes of people per image, best first, cut to the image; `keypoints` is (n, 0, 2).

        image_sizes (B, 2) = (width, height) without padding. `layer` is not used: there is one.
        """
        scores, boxes = outputs["cls_logits"].sigmoid(), outputs["boxes"]
        image, cell = survivors(scores, boxes, score_threshold, nms_iou, max_people)
        sizes = torch.as_tensor(image_sizes, dtype=boxes.dtype, device=boxes.device)[image].repeat(1, 2)
        box = torch.minimum(boxes[image, cell].clamp(min=0), sizes)
        counts = image.bincount(minlength=len(scores)).tolist()
        rows = zip(*(x.cpu().split(counts) for x in (scores[image, cell], box)), strict=True)
        return [Poses.of_boxes(box.numpy(), score.numpy()) for score, box in rows]


def corner_priors(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(N, 3) = x, y px and stride of the cells of all levels, row by row, the finest first: their top left corners."""
    levels = []
    for stride in STRIDES:
        y, x = (torch.arange(0, length, stride, device=device) for length in (height, width))
        y, x = torch.meshgrid(y, x, indexing="ij")
        levels.append(torch.stack([x, y, torch.full_like(x, stride)], -1).flatten(0, 1))
    return torch.cat(levels).float()


def rtmdet_nano(**overrides) -> RTMDet:
    """RTMDet-nano for people: 0.99 M parameters, 0.31 GMAC for 320 x 320."""
    return RTMDet((16, 32, 64, 128, 256), (1, 2, 2, 1), **{"input": InputSpec(size=320, **SPEC)} | overrides)


def rtmdet_tiny(**overrides) -> RTMDet:
    """For images of 128 pixels on two CPU cores: 0.2 M parameters."""
    options = {"input": InputSpec(size=128, **SPEC), "width": 48} | overrides
    return RTMDet((16, 24, 32, 64, 96), (1, 1, 1, 1), **options)
