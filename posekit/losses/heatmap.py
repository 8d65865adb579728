"""The loss of a top-down model: masked mean squared error of heatmaps (Xiao, Wu, Wei 2018, section 2; ViTPose: Xu et
al. 2022, one head per data set).

    L = mean over crops of [ 1 / (K h w) * sum over joints and cells of (w_k (predicted - target))^2 ]

K is the crop's own number of keypoints. With several data sets this is the published sum of one masked loss per head,
each divided by all crops of the batch. Legend: B crops, K keypoints, (h, w) heatmap.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posekit.protocols import Losses


def heatmap_loss(predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Scalar: mean over all crops, joints (invisible ones too) and cells of (w (predicted - target))^2.

    predicted, target (B, K, h, w); weights (B, K), which multiply both maps, so they count squared; None = all 1.
    """
    if not len(predicted):
        return predicted.sum()
    weights = predicted.new_ones(predicted.shape[:2]) if weights is None else weights
    return _per_crop(predicted, target, weights).mean()


def _per_crop(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """(B,) the same per crop."""
    return ((predicted.float() - target).square().mean((2, 3)) * weights.square()).mean(1)


def output_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar MSE of the student's heatmaps (B, K, h, w) and the teacher's, through which no gradient goes.

    Raises:
        ValueError: maps of another shape.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's heatmaps {tuple(student.shape)} and the teacher's {tuple(teacher.shape)} differ: "
            "both need the same keypoints, crop size and heatmap stride"
        )
    return heatmap_loss(student, teacher.detach().float())


class HeatmapCriterion(nn.Module):
    """`loss_heatmap` of crops, or `loss_heatmap_0`, `loss_heatmap_1` ... when the targets name their data sets.

    Targets are dicts with `heatmaps` (K, h, w) and `weights` (K,), as `posekit.data.topdown` makes them, and, with
    several heads, `dataset`: the number of the head. A crop may have fewer keypoints than the model's maps: the maps
    that it does not have count nothing, neither in the sum nor in the mean.

    `weight`: of every term, 1 in the paper. A mean over all cells is small, and its
    gradient in the first layers of a random network not larger than Adam's epsilon, 1e-8. `output_weight`: of
    `loss_output`, the distance to a teacher's heatmaps where the outputs hold some (distillation.py), beside the
    distance to the ground truth, 1 in the paper.
    """

    def __init__(self, weight: float = 1.0, output_weight: float = 1.0) -> None:
        super().__init__()
        self.weight, self.output_weight = weight, output_weight

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        """See the class.

        Raises:
            ValueError: as many targets as crops are needed, with no more keypoints than the model has and maps of the
                same size; or a teacher's maps have another shape than the model's.
        """
        predicted = outputs["heatmaps"]
        if len(predicted) != len(targets):
            raise ValueError(f"{len(predicted)} crops need as many targets, not {len(targets)}")
        terms = self.terms(predicted, targets) if targets else {"loss_heatmap": predicted.sum()}
        weights = dict.fromkeys(terms, self.weight)
        if "teacher_heatmaps" in outputs:
            terms["loss_output"] = output_loss(predicted, outputs["teacher_heatmaps"])
            weights["loss_output"] = self.output_weight * self.weight
        return Losses(terms, weights)

    def terms(self, predicted: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The distance to the ground truth, of all crops or by data set."""
        target, weights, share = self.stack(predicted, targets)
        loss = _per_crop(predicted, target, weights) * share / len(targets)
        sets = [one.get("dataset") for one in targets]
        if sets[0] is None:
            return {"loss_heatmap": loss.sum()}
        index = torch.tensor([int(one) for one in sets], device=loss.device)
        return {f"loss_heatmap_{one}": loss[index == one].sum() for one in index.unique().tolist()}

    def stack(self, predicted: Tensor, targets: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Target maps like `predicted`, weights (B, K), and (B,) how many times a crop's mean over K must count."""
        keypoints = [len(target["weights"]) for target in targets]
        shape = tuple(predicted.shape[1:])
        for one in targets:
            given = tuple(one["heatmaps"].shape)
            if given[0] > shape[0] or given[1:] != shape[1:]:
                raise ValueError(
                    f"a target has heatmaps of shape {given} and the model gives {shape}: build the model with "
                    f"num_keypoints={given[0]}, or make targets of {shape[2]} x {shape[1]} cells"
                )
        maps = torch.zeros_like(predicted, dtype=torch.float32)
        weights = maps.new_zeros(maps.shape[:2])
        for b, one in enumerate(targets):
            maps[b, : keypoints[b]], weights[b, : keypoints[b]] = one["heatmaps"], one["weights"]
        return maps, weights, shape[0] / torch.tensor(keypoints, device=maps.device, dtype=torch.float32)
