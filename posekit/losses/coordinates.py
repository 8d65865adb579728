"""Losses of 1-d coordinate heatmaps: maximum likelihood with a learned sigma, and KL divergence (RTMO, Sec. 3.2).

Shapes: M people, K keypoints, Bx and By bins along the axes (B: either). Coordinates in px of one frame.
"""

from __future__ import annotations

import torch
from torch import Tensor


def target_heatmap(truth: Tensor, bins: Tensor, sigmas: Tensor, areas: Tensor) -> Tensor:
    """Likelihood (M, K, B) of the annotation if a bin were the true place: a Laplace density, not normalised.

    truth (M, K) px along one axis, bins (M, B) px, sigmas (M, K) > 0 relative to the person's size, areas (M,) px^2.
    Gradients flow into sigmas and bins.
    """
    distance, sigma = _scaled_distance(truth, bins, sigmas, areas)
    return torch.exp(-distance / 2) / sigma


def mle_loss(heatmaps: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor], visible: Tensor) -> Tensor:
    """Negative log-likelihood (M,) as released; `visible` (M, K) are weights, the mean goes over all K.

    heatmaps: probabilities (M, K, Bx), (M, K, By); targets: `target_heatmap` of the same shapes. It may be negative:
    the targets are densities.
    """
    likelihood = (heatmaps[0] * targets[0]).sum(-1) * (heatmaps[1] * targets[1]).sum(-1)
    # differs from paper: one logarithm of both axes' product, with an offset
    return (-(likelihood + 1e-4).log() * visible).mean(-1)


def paper_mle_loss(
    heatmaps: tuple[Tensor, Tensor],
    bins: tuple[Tensor, Tensor],
    truth: Tensor,
    sigmas: Tensor,
    areas: Tensor,
    visible: Tensor,
) -> Tensor:
    """The paper's L_mle (M,): one logarithm per axis and no offset, summed as logarithms so that nothing underflows."""
    total = torch.zeros_like(sigmas)
    for axis in (0, 1):
        distance, sigma = _scaled_distance(truth[..., axis], bins[axis], sigmas, areas)
        log_prior = heatmaps[axis].clamp(min=torch.finfo(torch.float32).tiny).log()
        total = total - torch.logsumexp(log_prior - distance / 2, -1) + sigma[..., 0].log()
    return (total * visible).mean(-1)


def kld_loss(
    heatmaps: tuple[Tensor, Tensor], bins: tuple[Tensor, Tensor], truth: Tensor, visible: Tensor, sigma: float
) -> Tensor:
    """KL divergence (M,) from the fixed target to the heatmaps, both axes added; the alternative of Table 3.

    The target is a Gaussian around the annotation with `sigma` as a share of the bins' range, normalised over the bins.
    It does not move the bins: a wider box would otherwise be rewarded for an easier target.
    """
    total = torch.zeros_like(visible)
    for axis in (0, 1):
        place = bins[axis].detach()[:, None]
        spread = sigma * (place.amax(-1, keepdim=True) - place.amin(-1, keepdim=True)).clamp(min=1e-3)
        log_target = (-((place - truth[..., axis, None]) / spread).square() / 2).log_softmax(-1)
        log_found = heatmaps[axis].clamp(min=torch.finfo(torch.float32).tiny).log()
        total = total + (log_target.exp() * (log_target - log_found)).sum(-1)
    return (total * visible).mean(-1)


def _scaled_distance(truth: Tensor, bins: Tensor, sigmas: Tensor, areas: Tensor) -> tuple[Tensor, Tensor]:
    """|truth - bin| / (size sigma), (M, K, B), and the sigma (M, K, 1) with its floor.

    differs from paper: sigma is at least 0.001 and the size at least one pixel.
    """
    sigma = sigmas.clamp(min=1e-3)[..., None]
    size = areas.sqrt().clamp(min=1)[:, None, None]
    return (truth[..., None] - bins[:, None]).abs() / size / sigma, sigma
