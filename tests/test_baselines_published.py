"""The baselines' published weights under our names and in their frame, starts from them, torchvision's detector."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from posekit import models
from posekit.data.transforms import normalise
from posekit.inference import Predictor
from posekit.layouts import COCO
from posekit.models.checkpoints import load_weights, start_from
from posekit.models.checkpoints_baselines import ours_of
from posekit.models.mask_rcnn import PersonDetector
from posekit.topdown import poses_of_boxes
from posekit.training.weights import load

PUBLISHED_NAMES = {  # of mmpose and mmdet
    "ae_r50_stride4": ("backbone.layer4.2.bn3.weight", "keypoint_head.deconv_layers.6.weight"),
    "ae_hrnet_w32": ("backbone.transition1.1.0.0.weight", "backbone.stage4.2.fuse_layers.0.3.1.running_var"),
    "ae_higherhrnet_w32": ("keypoint_head.final_layers.0.bias", "keypoint_head.deconv_layers.0.4.0.bn2.weight"),
    "simple_baseline_r50": ("backbone.conv1.weight", "keypoint_head.final_layer.bias"),
    "rtmpose_t": ("backbone.stage4.1.conv1.conv.weight", "head.gau.ln.g", "head.gau.res_scale.scale"),
    "rtmdet_nano": ("backbone.stage1.0.depthwise_conv.conv.weight", "bbox_head.cls_convs.0.1.pointwise_conv.bn.bias"),
    "yolox_pose_s": ("backbone.stem.conv.conv.weight", "head.head_module.out_obj.0.weight"),
}


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_published_names_have_their_place(name):
    with torch.device("meta"):
        model = models.build(name)
    for published in PUBLISHED_NAMES[name]:
        assert ours_of(type(model).__name__, published) in model.state_dict(), published


def test_published_colours_change_places():
    model = models.build("rtmdet_tiny")
    state = {name.replace("head.", "bbox_head.", 1): value for name, value in model.state_dict().items()}
    stem = "backbone.stem.0.conv.weight"
    state[stem] = state[stem].flip(1)
    fresh = models.build("rtmdet_tiny")
    load_weights(fresh, state)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value)
    del state[stem]
    with pytest.raises(ValueError, match="backbone.stem.0.conv.weight"):
        load_weights(fresh, state)


def test_another_stride_starts_from_backbone_and_shared_layers():
    four, eight = models.build("ae_tiny"), models.build("ae_tiny", stride=8)
    assert start_from(eight, four.state_dict()) == []
    for name, value in eight.state_dict().items():
        torch.testing.assert_close(value, four.state_dict()[name])
    fresh = start_from(four, models.build("ae_tiny", stride=8).state_dict())
    assert fresh and all(name.startswith("keypoint_head.deconv_layers.") for name in fresh)
    with pytest.raises(ValueError, match="does not hold the backbone of this model"):
        start_from(four, models.build("rtmdet_tiny").state_dict())


def test_published_crops_are_cut_and_read_as_in_mmpose(tmp_path):
    """mmpose without UDP: the middle of the window lies on pixel W / 2 of the crop, and numbers are pixel indices."""
    model = models.build("simple_baseline_tiny")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    model = load("simple_baseline_tiny", tmp_path)
    assert not model.input.udp and model.input.pixel_centre == 0
    seen, maps = [], torch.zeros(1, 17, 24, 16)
    maps[:, :, 12, 8] = 1.0

    def forward(images, padding_mask=None):
        seen.append(images)
        return {"heatmaps": maps}

    model.forward = forward
    image = np.random.default_rng(0).integers(0, 256, (220, 210, 3), dtype=np.uint8)
    box = np.array([[100 - 25.6, 110 - 38.4, 100 + 25.6, 110 + 38.4]])  # 1.25 of it: as many pixels as the crop has
    (poses,) = poses_of_boxes(model, [(image, box, np.ones(1))], COCO.sigmas)
    expected = normalise(image[None, 110 - 48 : 110 + 48, 100 - 32 : 100 + 32], model.input.mean, model.input.std)
    torch.testing.assert_close(seen[0], expected)
    np.testing.assert_allclose(poses.keypoints[0, 5], [100, 110], atol=1e-4)


def test_people_alone_of_a_detector_reach_the_top_down_model():
    class Detections(torch.nn.Module):  # as torchvision's: two people, one of them unsure, and a bicycle
        def forward(self, images):
            assert images[0].shape == (3, 90, 120) and 0 <= images[0].min() and images[0].max() <= 1
            boxes = torch.tensor([[5.0, 5, 60, 80], [40, 10, 110, 85], [0, 0, 20, 20]])
            return [{"boxes": boxes, "labels": torch.tensor([1, 1, 2]), "scores": torch.tensor([0.03, 0.9, 0.8])}]

    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    detector = PersonDetector(network=Detections())
    assert detector([image])[0].boxes.tolist() == [[40, 10, 110, 85]]
    poses = Predictor(models.build("simple_baseline_tiny"), detector=detector)(image)
    assert poses.boxes.tolist() == [[40, 10, 110, 85]] and poses.keypoints.shape == (1, 17, 2)


def test_mask_rcnn_is_the_detector():
    """Random weights that call everything a person: the boxes lie in the image and the scores fall."""
    detector = PersonDetector(None, size=(64, 64), threshold=0.2)
    detector.network.roi_heads.box_predictor.cls_score.bias.data[1] = 9.0
    (found,) = detector([np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)])
    assert len(found) and (found.boxes >= 0).all() and (found.boxes <= [60, 40, 60, 40]).all()
    assert (np.diff(found.scores) <= 0).all() and found.keypoints.shape[1:] == (0, 2)
