"""Losses of top-down models: masked, per data set, and distilled by output and by token."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from posekit.losses.distillation import (
    fit_token,
    hand_over,
    learn_token,
    teach,
)
from posekit.losses.heatmap import HeatmapCriterion, heatmap_loss, output_loss
from posekit.models.vitpose import vitpose_tiny

GOLDEN = Path(__file__).parent / "golden" / "vitpose"


def target(keypoints=17, seed=0, size=(8, 6), dataset=None):
    generator = torch.Generator().manual_seed(seed)
    made = {
        "heatmaps": torch.rand(keypoints, *size, generator=generator),
        "weights": (torch.rand(keypoints, generator=generator) > 0.3).float(),
    }
    return made if dataset is None else made | {"dataset": torch.tensor(dataset)}


def test_the_published_numbers():
    known, other = np.load(GOLDEN / "targets.npz"), np.load(GOLDEN / "decode.npz")
    maps = torch.from_numpy(other["heatmaps"].astype(np.float32))
    one = {
        "heatmaps": torch.from_numpy(known["udp_target"]),
        "weights": torch.from_numpy(known["udp_weight"][:, 0]),
    }
    losses = HeatmapCriterion()({"heatmaps": maps}, [one, one])
    assert losses.terms["loss_heatmap"].item() == pytest.approx(float(known["loss_weighted"]), abs=1e-8)
    assert losses.weights == {"loss_heatmap": 1.0}
    unweighted = heatmap_loss(maps, torch.stack([one["heatmaps"]] * 2))
    assert unweighted.item() == pytest.approx(float(known["loss_unweighted"]), abs=1e-8)


def test_weights_hide_joints_and_no_crops_cost_nothing():
    one = target()
    one["weights"][3] = 0
    maps = one["heatmaps"][None].clone()
    maps[0, 3] += 100
    maps.requires_grad_()
    losses = HeatmapCriterion(weight=9.0)({"heatmaps": maps}, [one])
    assert losses.weights == {"loss_heatmap": 9.0} and losses.terms["loss_heatmap"].item() == 0
    nothing = torch.zeros(0, 17, 8, 6, requires_grad=True)
    (empty,) = HeatmapCriterion()({"heatmaps": nothing}, []).terms.values()
    empty.backward()
    assert empty.item() == 0 and nothing.grad.shape == nothing.shape
    assert heatmap_loss(nothing, nothing).item() == 0


def test_several_data_sets_are_the_published_sum_over_heads():
    keypoints, sets = (17, 14, 21), (0, 1, 1, 2, 0)
    targets = [target(keypoints[j], i, dataset=j) for i, j in enumerate(sets)]
    predicted = torch.rand(5, 21, 8, 6)
    criterion = HeatmapCriterion()
    losses = criterion({"heatmaps": predicted}, targets)
    terms = losses.terms
    assert list(terms) == ["loss_heatmap_0", "loss_heatmap_1", "loss_heatmap_2"]
    assert losses.weights == dict.fromkeys(terms, 1.0)
    for j, k in enumerate(keypoints):  # a head sees all crops, those of other data sets with weight 0
        maps, weights = torch.zeros(5, k, 8, 6), torch.zeros(5, k)
        for i, one in enumerate(targets):
            if sets[i] == j:
                maps[i], weights[i] = one["heatmaps"], one["weights"]
        published = (
            sum(
                nn.functional.mse_loss(
                    predicted[:, n] * weights[:, n, None, None], maps[:, n] * weights[:, n, None, None]
                )
                for n in range(k)
            )
            / k
        )
        assert terms[f"loss_heatmap_{j}"].item() == pytest.approx(published.item(), rel=1e-5)
    single = [{name: one[name] for name in ("heatmaps", "weights")} for one in targets]
    assert criterion({"heatmaps": predicted}, single).total.item() == pytest.approx(losses.total.item())


def test_targets_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="num_keypoints=17"):
        HeatmapCriterion()({"heatmaps": torch.zeros(1, 14, 8, 6)}, [target()])
    with pytest.raises(ValueError, match="targets of 12 x 16 cells"):
        HeatmapCriterion()({"heatmaps": torch.zeros(1, 17, 16, 12)}, [target()])
    with pytest.raises(ValueError, match="2 crops need as many targets, not 1"):
        HeatmapCriterion()({"heatmaps": torch.zeros(2, 17, 8, 6)}, [target()])


# --- distillation ------------------------------------------------------------------------------------------------


@pytest.fixture
def images():
    return torch.randn(2, 3, 96, 72, generator=torch.Generator().manual_seed(0))


def small(dim=64, **overrides):
    torch.manual_seed(dim)
    return vitpose_tiny(dim=dim, depth=2, filters=16, **overrides)


def truth():
    return [target(size=(32, 24), seed=i) for i in range(2)]


def test_output_distillation_follows_the_teacher_and_does_not_change_it(images):
    student, teacher = small(), small(96).train()
    names, before = list(student.state_dict()), {n: v.clone() for n, v in teacher.state_dict().items()}
    handle = teach(student.train(), teacher)
    criterion = HeatmapCriterion(output_weight=0.5)
    outputs = student(images, None)
    losses = criterion(outputs, truth())
    terms = losses.terms
    assert list(terms) == ["loss_heatmap", "loss_output"]
    assert losses.weights == {"loss_heatmap": 1.0, "loss_output": 0.5}
    expected = (outputs["heatmaps"] - teacher(images)["heatmaps"]).square().mean()
    assert terms["loss_output"].item() == pytest.approx(expected.item(), rel=1e-5)
    terms["loss_output"].backward()
    assert student.keypoint_head.final_layer.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(v, before[n]) for n, v in teacher.state_dict().items())  # batch norms too
    assert list(student.state_dict()) == names and not teacher.training
    assert "teacher_heatmaps" not in student.eval()(images)
    assert list(criterion(student(images), truth()).terms) == ["loss_heatmap"]
    handle.remove()
    assert "teacher_heatmaps" not in student.train()(images)


def test_teacher_and_student_need_the_same_maps():
    with pytest.raises(ValueError, match="the same keypoints, crop size and heatmap stride"):
        output_loss(torch.zeros(1, 17, 8, 6), torch.zeros(1, 14, 8, 6))


def test_the_three_phases_of_token_distillation(images):
    teacher, student = small(96), small(64)
    assert teacher.backbone.knowledge_token is None
    with pytest.raises(ValueError, match="no knowledge token"):
        hand_over(teacher, student)
    plain = {n: v.clone() for n, v in teacher.state_dict().items()}

    assert learn_token(teacher.train()) is teacher and not teacher.training
    trained = [name for name, p in teacher.named_parameters() if p.requires_grad]
    token = teacher.backbone.knowledge_token
    assert trained == ["backbone.knowledge_token"] and token.shape == (1, 1, 96)
    optimizer = torch.optim.SGD([token], lr=1.0)
    start = token.detach().clone()
    HeatmapCriterion()(teacher(images), truth()).total.backward()
    optimizer.step()
    assert not torch.equal(token, start)
    after = teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in plain.items())  # nothing else, no statistics

    hand_over(teacher, student).train()
    token = student.backbone.knowledge_token
    assert token.shape == (1, 1, 64) and not token.requires_grad
    assert "backbone.knowledge_token" in student.state_dict()
    HeatmapCriterion()(student(images), truth()).total.backward()
    assert token.grad is None and student.backbone.pos_embed.grad.abs().sum() > 0
    heatmaps = student.eval()(images)["heatmaps"].detach()
    with torch.no_grad():
        token.zero_()
    assert (student(images)["heatmaps"] - heatmaps).abs().max() > 0  # the student looks at it


@pytest.mark.parametrize("width, channels", [(96, 64), (64, 96), (1024, 768)])
def test_a_token_keeps_its_size_in_another_width(width, channels):
    torch.manual_seed(0)
    tokens = torch.randn(200, 1, width)
    fitted = fit_token(tokens, channels)
    assert fitted.shape == (200, 1, channels)
    assert fitted.square().mean().item() == pytest.approx(tokens.square().mean().item(), rel=0.05)
    assert torch.equal(fitted, fit_token(tokens, channels)) and not torch.equal(fitted, fit_token(tokens, channels, 1))
    if channels > width:  # nothing is lost: angles between tokens stay
        before, after = (nn.functional.cosine_similarity(x[0, 0], x[1, 0], 0) for x in (tokens, fitted))
        assert before.item() == pytest.approx(after.item(), abs=1e-5)


def test_an_equal_width_needs_no_projection():
    token = torch.randn(1, 1, 32)
    assert torch.equal(fit_token(token, 32), token)
