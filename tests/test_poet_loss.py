"""POET's criterion: what costs nothing, what the switches change, and that bad input stops with a sentence."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posekit.losses.matching import hungarian
from posekit.losses.poet import TERMS, PoetCriterion, encode_targets

K = 5


def person(seed=0, n=3, size=(128.0, 96.0)):
    rng = np.random.default_rng(seed)
    keypoints = torch.tensor(rng.uniform(5, 90, (n, K, 2)), dtype=torch.float32)
    visibility = torch.tensor(rng.integers(1, 3, (n, K)), dtype=torch.uint8)
    visibility[:, 0] = 2
    return {"keypoints": keypoints, "visibility": visibility, "size": torch.tensor(size), "image_id": seed}


def perfect(targets, queries=8, layers=2):
    """Outputs that say exactly what the targets say, people in the last queries."""
    logits = torch.full((layers, len(targets), queries, 3), -20.0)
    logits[..., 2] = 20
    pose = torch.full((layers, len(targets), queries, 2 + 3 * K), 0.5)
    for b, target in enumerate(targets):
        _, vectors = encode_targets(target["keypoints"], target["visibility"], target["size"], "labelled")
        for i, vector in enumerate(vectors):
            pose[:, b, queries - 1 - i] = torch.cat([vector[:2], vector[3:]])
            logits[:, b, queries - 1 - i] = torch.tensor([-20.0, 20.0, -20.0])
    return {"logits": logits.requires_grad_(), "pose": pose.requires_grad_()}


@pytest.mark.parametrize("pose_cost", ["paper", "released"])
@pytest.mark.parametrize("class_term", ["paper", "released"])
def test_a_perfect_prediction_costs_nothing(pose_cost, class_term):
    targets = [person(0), person(1, n=1), person(2, n=0)]
    criterion = PoetCriterion(K, pose_cost=pose_cost, class_term=class_term, visible="labelled")
    losses = criterion(perfect(targets), targets)
    terms = losses.terms
    assert set(terms) == set(losses.weights) == {*TERMS, *(name + "_0" for name in TERMS)}
    assert all(abs(value.item()) < 1e-5 for value in terms.values())


def test_the_papers_terms_are_twice_the_released_ones_where_the_released_are_halved():
    targets = [person(0)]
    outputs = perfect(targets)
    outputs["pose"] = (outputs["pose"] * 0.9).detach()
    released = PoetCriterion(K, visible="labelled")(outputs, targets).terms
    paper = PoetCriterion(K, visible="labelled", pose_cost="paper")(outputs, targets).terms
    for name, factor in (("loss_kpts", 1), ("loss_ctrs", 1), ("loss_deltas", 2), ("loss_kpts_class", 2)):
        assert float(paper[name]) == pytest.approx(factor * float(released[name]), rel=1e-5), name
        assert float(released[name]) > 0


def test_hidden_joints_are_trained_only_when_asked():
    target = person(0, n=1)
    target["visibility"][:] = torch.tensor([2, 2, 2, 1, 1])
    moved = {**target, "keypoints": target["keypoints"].clone()}
    outputs = perfect([moved])
    for visible, trained in (("released", False), ("labelled", True)):
        criterion = PoetCriterion(K, visible=visible)
        pose = outputs["pose"].detach().clone().requires_grad_()
        total = criterion({"logits": outputs["logits"].detach(), "pose": pose + 0.01}, [moved]).terms["loss_kpts"]
        total.backward()
        offsets = pose.grad[-1, 0, -1, 2:].view(K, 3)[:, :2]
        assert bool((offsets[3:] != 0).any()) is trained
        assert (offsets[:3] != 0).all()


def test_visible_joints_are_those_seen_in_the_picture_whatever_is_trained():
    target = person(0, n=1)
    target["visibility"][0] = torch.tensor([2, 1, 0, 2, 1])
    for visible in ("released", "labelled"):
        _, vector = encode_targets(target["keypoints"], target["visibility"], target["size"], visible)
        assert vector[0, 5::3].tolist() == [1, 0, 0, 1, 0]


def test_the_center_is_the_mean_of_the_visible_joints():
    target = person(3, n=1)
    target["visibility"][0] = torch.tensor([2, 2, 1, 0, 2])
    _, vector = encode_targets(target["keypoints"], target["visibility"], target["size"])
    expected = target["keypoints"][0, [0, 1, 4]].mean(0) / target["size"]
    assert torch.allclose(vector[0, :2], expected)


def test_table_3_adds_the_center_to_the_offset_term():
    targets = [person(0)]
    outputs = perfect(targets)
    outputs["pose"] = outputs["pose"].detach().clone()
    outputs["pose"][..., 0] += 0.05  # the centre moves, and with it all joints; the offsets are right
    plain = PoetCriterion(K, visible="labelled")(outputs, targets).terms
    switched = PoetCriterion(K, visible="labelled", deltas_and_center=True)(outputs, targets).terms
    assert float(plain["loss_deltas"]) == pytest.approx(0, abs=1e-5)
    assert float(switched["loss_deltas"]) == pytest.approx(0.05, rel=1e-3)


def test_nobody_in_the_batch_trains_the_class_only():
    targets = [person(0, n=0), person(1, n=0)]
    outputs = {"logits": torch.zeros(2, 2, 4, 3, requires_grad=True), "pose": torch.rand(2, 2, 4, 2 + 3 * K)}
    terms = PoetCriterion(K)(outputs, targets).terms
    assert float(terms["loss_ce"]) == pytest.approx(np.log(3), rel=1e-5)
    assert float(terms["loss_kpts"]) == 0
    terms["loss_ce"].backward()
    assert outputs["logits"].grad.abs().sum() > 0


@given(st.integers(1, 4), st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 6), st.integers(0, 99))
def test_matching_is_one_to_one_and_the_cheapest(layers, people, queries, seed):
    cost = torch.tensor(np.random.default_rng(seed).normal(size=(layers, len(people), queries, max(people) or 1)))
    layer, image, query, person_ = hungarian(cost, people)
    for index in range(layers):
        for b, n in enumerate(people):
            here = (layer == index) & (image == b)
            assert int(here.sum()) == min(n, queries)
            assert len(set(query[here].tolist())) == len(set(person_[here].tolist())) == int(here.sum())
            if 1 <= n <= 3 and queries <= 3:
                from itertools import permutations

                table = cost[index, b, :, :n].numpy()
                if queries < n:
                    table = table.T
                orders = permutations(range(len(table)), table.shape[1])
                best = min(sum(table[q, i] for i, q in enumerate(order)) for order in orders)
                assert float(cost[index, b, query[here], person_[here]].sum()) == pytest.approx(best)


def test_a_cost_that_is_not_finite_names_the_image():
    targets = [person(0), person(1)]
    outputs = perfect(targets)
    outputs["pose"] = outputs["pose"].detach().clone()
    outputs["pose"][-1, 1] = float("nan")
    with pytest.raises(FloatingPointError, match="image 1 of the batch is not finite"):
        PoetCriterion(K)(outputs, targets)


def test_another_number_of_keypoints_is_refused():
    with pytest.raises(ValueError, match=r"5 keypoints, the model 17; build the model with num_keypoints=5"):
        PoetCriterion(17)({"logits": torch.zeros(1, 1, 4, 3), "pose": torch.zeros(1, 1, 4, 53)}, [person(0)])


@pytest.mark.parametrize("option", ["pose_cost", "class_term", "visible"])
def test_unknown_switches_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} is 'other'; choose one of"):
        PoetCriterion(K, **{option: "other"})
