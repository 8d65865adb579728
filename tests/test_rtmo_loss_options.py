"""RTMO's losses: other coordinate losses, stages, and what they refuse."""

import pytest
import torch
from test_rtmo_loss import NOBODY, Exact, K, criterion, crowd, outputs_for

from posekit.losses.rtmo import PUBLISHED
from posekit.models.coordinate_classifier import classifier


@pytest.mark.parametrize(
    ("options", "term", "heatmaps_"),
    [
        ({"coordinate_loss": "kld"}, "loss_kld", True),
        ({"coordinate_loss": "oks"}, "loss_oks_decoded", False),
        ({"mle": "paper"}, "loss_mle", True),
    ],
)
def test_other_coordinate_losses_take_the_place_of_the_likelihood(options, term, heatmaps_):
    targets = [crowd(0), NOBODY]
    loss = criterion(Exact(heatmaps=heatmaps_), **options)
    assert set(loss.weights) == {"loss_cls", "loss_bbox", "loss_oks", "loss_vis", term}
    near = loss(outputs_for(targets, noise=0.0), targets).terms
    outputs = outputs_for(targets, noise=10.0)
    far = loss(outputs, targets).terms
    assert set(near) == set(loss.weights) and near[term] < far[term]
    far[term].backward()
    assert outputs["pose_features"].grad.abs().sum() > 0


@pytest.mark.parametrize(("coordinate_loss", "term", "moves"), [("mle", "loss_mle", True), ("kld", "loss_kld", False)])
def test_boxes_do_not_follow_a_fixed_target(coordinate_loss, term, moves):
    """It is easiest where the bins miss the person, so a divergence would teach boxes to be wrong."""
    targets = [crowd(0)]
    outputs = outputs_for(targets)
    torch.manual_seed(0)
    learned = classifier(outputs["pose_features"].shape[-1], K, bins=(24, 32))
    criterion(learned, coordinate_loss=coordinate_loss)(outputs, targets).terms[term].backward()
    assert outputs["pose_features"].grad.any()
    assert (outputs["boxes"].grad is not None and bool(outputs["boxes"].grad.any())) == moves


def test_stages_switch_the_published_weights():
    first = {"loss_cls": 1, "loss_bbox": 5, "loss_oks": 30, "loss_vis": 1, "loss_mle": 0.01}
    assert criterion(**PUBLISHED["coco_m"]).weights == first
    assert criterion(**PUBLISHED["coco_m"], stage=2, auxiliary=True).weights == {
        "loss_cls": 2,
        "loss_bbox": 5,
        "loss_oks": 10,
        "loss_vis": 1,
        "loss_mle": 5,
        "loss_bbox_aux": 1,
    }
    assert criterion(**PUBLISHED["paper"]).weights["loss_mle"] == 5
    with pytest.raises(ValueError, match="stage is 3; RTMO trains in the stages 1 and 2"):
        criterion(stage=3)


@pytest.mark.parametrize("option", ["center", "dynamic_k", "coordinate_loss", "mle"])
def test_unknown_switches_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} is 'other'; choose one of"):
        criterion(**{option: "other"})


@pytest.mark.parametrize("name", ["cls_logits", "boxes", "proxy_keypoints"])
def test_numbers_that_are_not_finite_name_the_image(name):
    targets = [crowd(0), crowd(1)]
    outputs = outputs_for(targets)
    with torch.no_grad():
        outputs[name][1] = float("nan")
    with pytest.raises(FloatingPointError, match="image 1 of the batch is not finite"):
        criterion()(outputs, targets)


def test_a_target_that_is_not_finite_names_the_image():
    targets = [crowd(0), crowd(1)]
    targets[0]["keypoints"][1, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="image 0 of the batch is not finite"):
        criterion()(outputs_for([crowd(0), crowd(1)]), targets)


def test_outputs_and_targets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the targets have 7 keypoints, the criterion 5 sigmas"):
        criterion()(outputs_for([NOBODY]), [crowd(0, keypoints=7)])
    with pytest.raises(ValueError, match="no heatmaps for the loss 'mle'; use 'oks'"):
        criterion(Exact(heatmaps=False))(outputs_for([crowd(0)]), [crowd(0)])
    outputs = outputs_for([crowd(0)])
    del outputs["proxy_keypoints"]
    with pytest.raises(ValueError, match="no proxy_keypoints: call the model with proxies=True"):
        criterion()(outputs, [crowd(0)])
