"""The losses of 1-d heatmaps: paper and released likelihood, what sigma learns, the divergence and its bins."""

import math

import pytest
import torch

from posekit.losses.coordinates import kld_loss, mle_loss, paper_mle_loss, target_heatmap

K = 5


def heatmaps(truth, bins, width=2.0):
    return tuple((-(b[:, None] - truth[..., a, None]).abs() / width).softmax(-1) for a, b in enumerate(bins))


@pytest.fixture
def coordinates():
    generator = torch.Generator().manual_seed(0)
    bins = tuple(torch.linspace(0, 60 + 10 * a, 64).expand(3, -1).clone() for a in (0, 1))
    truth = torch.rand(3, K, 2, generator=generator) * 50 + 5
    visible = (torch.rand(3, K, generator=generator) > 0.3).float()
    return truth, bins, visible, torch.tensor([400.0, 900.0, 1600.0])


def test_paper_and_released_likelihood_differ_by_the_offset_alone(coordinates):
    truth, bins, visible, areas = coordinates
    sigmas = torch.full((3, K), 0.05)
    found = heatmaps(truth, bins)
    targets = [target_heatmap(truth[..., a], bins[a], sigmas, areas) for a in (0, 1)]
    released, paper = mle_loss(found, targets, visible), paper_mle_loss(found, bins, truth, sigmas, areas, visible)
    assert released.numpy() == pytest.approx(paper.numpy(), rel=1e-3)
    # far off the released loss ends at -log 1e-4 per joint, the paper's goes on
    far = heatmaps(truth + 1e3, bins)
    assert (mle_loss(far, targets, visible) <= -math.log(1e-4) + 1e-3).all()
    lost = paper_mle_loss(far, bins, truth + 500, torch.full((3, K), 1e-3), areas, visible)
    assert lost.isfinite().all() and (lost > 1e3).all()


def test_a_wrong_heatmap_asks_for_a_larger_sigma_and_a_right_one_for_a_smaller(coordinates):
    truth, bins, _, areas = coordinates
    for shift, sign in ((15.0, -1), (0.0, 1)):
        for rule in ("released", "paper"):
            sigmas = torch.full((3, K), 0.1, requires_grad=True)
            found = heatmaps(truth + shift, bins, width=0.2)
            ones = torch.ones(3, K)
            if rule == "paper":
                loss = paper_mle_loss(found, bins, truth, sigmas, areas, ones)
            else:
                loss = mle_loss(found, [target_heatmap(truth[..., a], bins[a], sigmas, areas) for a in (0, 1)], ones)
            loss.sum().backward()
            assert (sigmas.grad * sign > 0).float().mean() > 0.9, (shift, rule)


def test_the_divergence_is_zero_at_its_own_target_and_does_not_move_the_bins(coordinates):
    truth, bins, visible, _ = coordinates
    bins = tuple(b.requires_grad_() for b in bins)
    spread = [0.05 * (b.max() - b.min()).detach() for b in bins]
    target = tuple(
        (-((b[:, None] - truth[..., a, None]) / spread[a]).square() / 2).softmax(-1).detach().requires_grad_()
        for a, b in enumerate(bins)
    )
    assert kld_loss(target, bins, truth, visible, 0.05).detach().numpy() == pytest.approx(0, abs=1e-5)
    worse = kld_loss(heatmaps(truth + 10, bins), tuple(b.detach() for b in bins), truth, visible, 0.05)
    assert (worse > 0.1).all()
    kld_loss(target, bins, truth + 1, visible, 0.05).sum().backward()
    assert all(b.grad is None or (b.grad == 0).all() for b in bins)
    beyond = kld_loss(heatmaps(truth, bins), bins, truth + 1e6, visible, 0.05)
    assert beyond.isfinite().all()
