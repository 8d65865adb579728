"""The loss of a masked autoencoder (He et al. 2022, arXiv 2111.06377): mean squared error of masked patches' pixels.

Patches that were seen count nothing. Legend: B crops, N patches of P numbers.
"""

from __future__ import annotations

from torch import Tensor, nn

from posekit.protocols import Losses


def patch_loss(predicted: Tensor, true: Tensor, masked: Tensor) -> Tensor:
    """Scalar: mean over all masked patches and their pixels. predicted, true (B, N, P); masked (B, N) bool."""
    error = (predicted.float() - true).square().mean(-1)
    return (error * masked).sum() / masked.sum().clamp(min=1)


class ReconstructionCriterion(nn.Module):
    """`loss_pixels` of the outputs of `posekit.models.masked_autoencoder`; targets are not needed."""

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        loss = patch_loss(outputs["patches"], outputs["true_patches"], outputs["masked"])
        return Losses({"loss_pixels": loss}, {"loss_pixels": 1.0})
