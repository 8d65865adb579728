"""RTMO for deployment, suppression and coordinate classifier included, in the form of published exports.

`input` float32 (B, 3, H, W), blue green red from 0 to 255, grey 114 around the image. `dets` (B, N, 5): a person's
box x0 y0 x1 y1 and score; `keypoints` (B, N, K, 3): x, y and the probability that the joint can be seen. N is the
largest number of people in an image of this batch, 0 if there are none; images with fewer end in rows of zeros.
Best first. Coordinates: pixels of the input with pixel *centres* on integers, boxes not cut at the borders, as in
published files; posekit/runners.py moves them to COCO pixels.

What needs no image is computed here, once: batch norms and RepVGG branches are part of the convolutions, scaling and
the order of colours part of the first one, priors and position codes are constants. The classifier runs on survivors
alone, so people cost next to nothing.

# differs from mmdeploy: priors of non-square inputs are right, and there is no row of zeros when nobody is there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from posekit.models.rtmo import RTMO, decode_boxes

OUTPUTS = ("dets", "keypoints")


class Deployed(nn.Module):
    """A copy of an RTMO that does what the module's docstring says, for images of one size (height, width).

    `dynamic_batch=False` fixes B at 1. Thresholds are those of `RTMO.decode`; at most `max_people` are found per image.
    """

    def __init__(
        self,
        model: RTMO,
        size: tuple[int, int],
        *,
        dynamic_batch: bool = True,
        score_threshold: float = 0.1,
        nms_iou: float = 0.65,
        max_people: int = 50,
    ) -> None:
        super().__init__()
        fused = model.fuse().cpu().float()
        self.backbone, self.neck, self.head = fused.backbone, fused.neck, fused.head
        limits = (max_people, nms_iou, score_threshold)
        self.people = People(fused.classifier, fused.priors(*size), dynamic_batch, limits)
        mean = 255 * torch.tensor(model.input.mean[::-1])
        self.register_buffer("mean", mean.view(3, 1, 1) if mean.any() else None)
        take_bytes(self.backbone, model.input.std)
        batch = {0: "batch"} if dynamic_batch else {}
        self.axes = {"input": batch} | dict.fromkeys(OUTPUTS, batch | {1: "people"})
        self.batch = 2 if dynamic_batch else 1  # of the images that are traced
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (B, 3, H, W) -> dets (B, N, 5), keypoints (B, N, K, 3)."""
        # The mean cannot join the first convolution: zeros around the image are what it pads with
        maps = self.backbone(images if self.mean is None else images - self.mean)
        return self.people(images, self.head(self.neck(maps), proxies=False))


class People(nn.Module):
    """Who is there: all that follows the dense network."""

    def __init__(self, classifier: nn.Module, priors: Tensor, dynamic_batch: bool, limits: tuple) -> None:
        super().__init__()
        self.classifier, self.dynamic_batch, self.limits = classifier, dynamic_batch, limits
        self.register_buffer("priors", priors)

    def forward(self, images: Tensor, raw: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """images (B, 3, H, W), of which only B counts, and what the head says -> dets, keypoints."""
        centers, strides = self.priors[:, :2], self.priors[:, 2:]
        boxes, scores = decode_boxes(raw["bbox"], centers, strides), raw["cls"].sigmoid()
        found = Suppression.apply(boxes, scores.transpose(1, 2), *self.limits)
        # One more person than were found, whom nobody sees: ONNX Runtime stumbles over sums of nothing
        image_of = torch.cat([found[:, 0], found.new_full((1,), -1)])
        cell = torch.cat([found[:, 2], found.new_zeros(1)])
        index = image_of.clamp(min=0) * len(centers) + cell

        def of_people(x: Tensor) -> Tensor:
            return x.flatten(0, 1).index_select(0, index)

        box = of_people(boxes)
        keypoints = locate(self.classifier, of_people(raw["pose"]), box, centers.index_select(0, cell))
        seen = of_people(raw["kpt_vis"]).sigmoid()
        people = torch.cat([box, of_people(scores)], 1), torch.cat([keypoints, seen[..., None]], 2)
        if not self.dynamic_batch:
            return tuple(x[None, :-1] for x in people)
        table = rows(image_of, torch.arange(images.shape[0]))
        return tuple(torch.cat([x[:-1], torch.zeros(1, *x.shape[1:])])[table] for x in people)


def take_bytes(backbone: nn.Module, std: tuple[float, ...]) -> None:
    """Change the first convolution in place: it wants blue, green, red from 0 to 255 less the mean."""
    first = next(layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d))
    factor = 1 / (255 * torch.tensor(std))
    weight = first.weight.unflatten(1, (-1, 3)) * factor[:, None, None]  # a stem on 2 x 2 squares sees 4 pixels
    first.weight = nn.Parameter(weight.flip(2).flatten(1, 2), requires_grad=False)


def locate(classifier: nn.Module, pose_features: Tensor, boxes: Tensor, grids: Tensor) -> Tensor:
    """The keypoints (M, K, 2) px of `classifier(pose_features, boxes, grids)`, by a shorter way where there is one."""
    if classifier.decoding != "dcc" or len(classifier.x_bins) % 2 or len(classifier.y_bins) % 2:
        return classifier(pose_features, boxes, grids)["keypoints"]
    features = classifier.keypoint_features(pose_features)
    layers = (classifier.x_fc, classifier.y_fc)
    axes = zip(layers, classifier.bins(boxes, grids), grids.split(1, 1), strict=True)
    # The layers' bias adds the same to all bins, which softmax does not see
    positions = [grid + expected(features @ fc.weight, bins - grid, classifier.dim_t) for fc, bins, grid in axes]
    return torch.stack(positions, -1)


def expected(features: Tensor, bins: Tensor, periods: Tensor) -> Tensor:
    """features (M, K, 2 C), evenly spaced bins (M, n), periods (C,) -> (M, K) mean position, p = softmax(f . PE(bin)).

    With f = (f_c, f_s) and a bin at distance a from the middle m of its group (angles, in periods):

        f . PE(m +- a) = cos a (f_c cos m + f_s sin m) +- sin a (f_s cos m - f_c sin m)

    So there are sines and cosines of the groups' middles and of half a group's distances instead of those of all bins.
    """
    count = bins.shape[1]
    groups = math.gcd(count, 8) // 2
    half = count // groups // 2
    grouped = bins.unflatten(1, (groups, 2 * half))
    middle = (grouped[..., half - 1] + grouped[..., half]) / 2
    reach = grouped[:, 0, half:] - middle[:, :1]
    angle, turn = middle[:, None, :, None] / periods, reach[..., None] / periods
    cos, sin = angle.cos(), angle.sin()
    f_cos, f_sin = features[:, :, None].chunk(2, -1)
    even = (f_cos * cos + f_sin * sin).flatten(1, 2) @ turn.cos().transpose(1, 2)
    odd = (f_sin * cos - f_cos * sin).flatten(1, 2) @ turn.sin().transpose(1, 2)
    logits = torch.cat([even - odd, even + odd], -1).unflatten(1, (features.shape[1], groups)).flatten(2)
    positions = torch.cat([middle[..., None] - reach[:, None], middle[..., None] + reach[:, None]], -1).flatten(1)
    return (logits.softmax(-1) * positions[:, None]).sum(-1)


def rows(image_of: Tensor, images: Tensor) -> Tensor:
    """image_of (M,): the image of each person, in order, the last one nobody's; images (B,) = 0, 1, ... -> (B, N).

    The people of each image, and -1, the last one, where an image has fewer than N.
    """
    counts = (image_of == images[:, None]).sum(1, keepdim=True)
    index = (torch.ones_like(image_of).cumsum(0) - 1)[None, : counts.max()]
    return torch.where(index < counts, index + counts.cumsum(0) - counts, -1)


class Suppression(torch.autograd.Function):
    """ONNX's NonMaxSuppression: boxes (B, N, 4), scores (B, 1, N) -> (M, 3) = image, class (0), cell."""

    @staticmethod
    def forward(ctx, boxes: Tensor, scores: Tensor, max_people: int, nms_iou: float, score_threshold: float) -> Tensor:
        # Only the graph is kept; two people stand for any number of them while it is traced
        return torch.tensor([[0, 0, 0], [len(boxes) - 1, 0, 1]])

    @staticmethod
    def symbolic(g, boxes, scores, max_people: int, nms_iou: float, score_threshold: float):
        limits = torch.tensor([max_people]), torch.tensor([float(nms_iou)]), torch.tensor([float(score_threshold)])
        return g.op("NonMaxSuppression", boxes, scores, *(g.op("Constant", value_t=limit) for limit in limits))
