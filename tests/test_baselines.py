"""The systems that the papers compare with: sizes, bad and empty input, and that each learns."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from posekit import models
from posekit.data.augment import Augment
from posekit.data.drawn.scenes import Scenes
from posekit.data.loader import Loader
from posekit.evaluation.boxes import box_rows, evaluate_boxes
from posekit.layouts import COCO
from posekit.losses.associative_embedding import AssociativeEmbeddingCriterion, gaussians, tag_losses
from posekit.losses.openpose import OpenPoseCriterion, limb_fields, part_heatmaps, parts_of
from posekit.losses.overlaps import box_iou
from posekit.losses.rtmdet import RtmdetCriterion
from posekit.losses.simcc import SimccCriterion
from posekit.losses.yolox_pose import YoloxPoseCriterion, product_logit
from posekit.models.associative_embedding import flip_test
from posekit.models.part_affinity import LIMBS, assemble
from posekit.models.tag_grouping import MODES, Grouping, group
from posekit.poses import Poses
from posekit.training.evaluate import evaluate_run
from posekit.training.loop import train
from posekit.training.recipes import recipe

PUBLISHED = {  # parameters: counted from the published networks
    "ae_r50_stride4": 34_004_066,
    "ae_r50_stride8": 32_954_978,
    "ae_r50_stride16": 31_905_890,
    "ae_r50_stride32": 23_577_698,
    "ae_hrnet_w32": 28_536_674,
    "openpose_coco": 52_311_446,
    "simple_baseline_r50": 33_999_697,
    "rtmpose_t": 3_337_007,
    "rtmpose_s": 5_473_251,
    "rtmpose_m": 13_587_611,
    "rtmdet_nano": 994_423,
    "yolox_pose_s": 10_729_963,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_published_size(name):
    with torch.device("meta"):
        model = models.build(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]


def scene(people, size=160, tags=2, seed=0):
    """Heatmaps (17, H, W) and tags (17, H, W, L) of people whose joints do not touch; a fifth of the joints missing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    heat = rng.uniform(0, 0.02, (17, size, size))
    tag = rng.normal(0, 0.3, (17, size, size, tags))
    places = rng.permutation(np.stack(np.meshgrid(np.arange(12, size, 24), np.arange(12, size, 24)), -1).reshape(-1, 2))
    for person in range(people):
        for keypoint in range(17):
            if rng.random() < 0.2:
                continue
            cx, cy = places[person] + rng.uniform(-3, 3, 2)
            heat[keypoint] += rng.uniform(0.3, 1) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8)
            near = np.hypot(x - cx, y - cy) < 8
            tag[keypoint][near] = 3 * (person + 1) + rng.normal(0, 0.1, tags)
    return heat.astype(np.float32), tag.astype(np.float32)


def ordered(joints):
    return joints[np.lexsort(joints.reshape(len(joints), -1).T[::-1])] if len(joints) else joints


@pytest.mark.parametrize("people", [0, 1, 4, 10, 30])
@pytest.mark.parametrize("tags", [1, 2])
def test_both_groupings_find_the_same_people(people, tags):
    heat, tag = scene(people, tags=tags, seed=people)
    (fast, fast_scores), (paper, paper_scores) = (group(heat, tag, Grouping(mode=mode)) for mode in MODES)
    assert people <= len(fast) <= 1.2 * people  # a chance peak of the noise may begin one more
    np.testing.assert_array_equal(ordered(fast), ordered(paper))
    np.testing.assert_array_equal(np.sort(fast_scores), np.sort(paper_scores))


@pytest.mark.parametrize("size", [(40, 40), (33, 47), (16, 16), (3, 5)])
def test_the_groupings_agree_on_noise_of_any_size(size):
    rng = np.random.default_rng(size[0])
    heat, tag = rng.normal(0, 0.2, (17, *size)).astype("f4"), rng.normal(0, 4, (17, *size, 2)).astype("f4")
    fast, paper = (group(heat, tag, Grouping(mode=mode))[0] for mode in MODES)
    np.testing.assert_array_equal(ordered(fast), ordered(paper))


def test_grouping_of_damaged_maps():
    heat, tag = scene(2)
    tag[3, :4] = np.nan
    assert len(group(heat, tag)[0]) == 2
    heat[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="the heatmaps hold NaN"):
        group(heat, tag)
    with pytest.raises(ValueError, match="do not fit"):
        group(heat[:, 1:], tag)
    with pytest.raises(ValueError, match="grouping mode is 'slow'; choose one of fast, paper"):
        Grouping(mode="slow")


def test_tags_of_two_people_are_pushed_apart_and_each_persons_pulled_together():
    tags = torch.tensor([[0.0, 0.2, 5.0, 5.4]]).repeat(2, 1)[None, :, None]  # (1, K = 2, 1, 4)
    cells = torch.tensor([[[0, 1], [2, 3]]])
    labelled = torch.ones(1, 2, 2, dtype=torch.bool)
    pull, push = tag_losses(tags, cells, labelled)
    assert pull.item() == pytest.approx((0.1**2 + 0.2**2) / 2)
    assert push.item() == pytest.approx(np.exp(-(5.1**2)) / 2)
    none = torch.zeros(1, 0, 2, dtype=torch.long)
    assert [x.item() for x in tag_losses(tags, none, none.bool())] == [0, 0]


def test_the_flip_test_brings_the_mirror_back():
    torch.manual_seed(0)
    model = models.build("ae_tiny").eval()
    images = torch.randn(1, 3, 64, 96)
    straight, merged = model(images), flip_test(model, images, COCO.flip)
    assert merged["tags"].shape[2] == 2
    twice = flip_test(model, images.flip(-1), COCO.flip)
    back = twice["heatmaps"][:, list(COCO.flip)].flip(-1)
    torch.testing.assert_close(merged["heatmaps"], back, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(merged["tags"][:, :, 0], straight["tags"][:, :, 0])
    with pytest.raises(ValueError, match="width that is a multiple of 32, not 90"):
        flip_test(model, images[..., :90], COCO.flip)


def test_a_gaussian_is_largest_at_its_cell_and_people_do_not_add_up():
    cells = torch.tensor([[[3, 4]], [[4, 4]]])
    maps = gaussians(cells, torch.tensor([[True], [True]]), (9, 8))
    assert maps.shape == (1, 8, 9) and maps.max() == 1 and maps[0, 4, 3] == 1 == maps[0, 4, 4]
    assert gaussians(cells[:0], torch.zeros(0, 1, dtype=torch.bool), (9, 8)).sum() == 0


STANDING = np.array(  # COCO's keypoints of a person of 100 pixels
    "20,8 22,6 18,6 25,8 15,8 30,22 10,22 36,38 4,38 38,52 2,52 27,55 13,55 28,75 12,75 29,95 11,95".replace(
        ",", " "
    ).split(),
    float,
).reshape(17, 2)


def test_people_are_assembled_from_true_maps():
    people = torch.from_numpy(np.stack([STANDING + (10.3, 8.4), STANDING + (75.1, 20.2)]))
    visibility = torch.full((2, 17), 2)
    visibility[1, 9] = 0
    parts, labelled = parts_of(people, visibility)
    cells, size = parts / 4 - 0.5, (32, 32)
    maps = (part_heatmaps(cells, labelled, size, 1.0), limb_fields(cells, labelled, size, 1.0))
    poses = assemble(*(functional.interpolate(one[None], scale_factor=4, mode="bicubic")[0].numpy() for one in maps))
    poses = poses.select(np.argsort(poses.boxes[:, 0]))
    assert len(poses) == 2 and (poses.visibility[0] > 0).all()
    np.testing.assert_array_equal(poses.visibility[1] > 0, np.arange(17) != 9)
    found = poses.visibility > 0
    np.testing.assert_allclose(poses.keypoints[found], people.numpy()[found], atol=1.0)


def test_maps_without_a_peak_have_nobody():
    empty = np.zeros((19, 32, 32)), np.zeros((2 * len(LIMBS), 32, 32))
    assert len(assemble(*empty)) == 0
    assert assemble(*empty).keypoints.shape == (0, 17, 2)


def test_the_product_of_two_sigmoids():
    a, b = torch.tensor([-30.0, -3.0, 0.0, 4.0, 30.0]), torch.tensor([2.0, -1.0, 0.0, 5.0, 30.0])
    torch.testing.assert_close(product_logit(a, b).sigmoid(), a.sigmoid() * b.sigmoid(), atol=1e-7, rtol=1e-5)


WHOLE = {
    "ae_tiny": lambda model: AssociativeEmbeddingCriterion(model.stride),
    "openpose_tiny": lambda model: OpenPoseCriterion(model.stride),
    "yolox_pose_tiny": lambda model: YoloxPoseCriterion(COCO.sigmas, dynamic_k="iou", auxiliary=True),
    "rtmdet_tiny": lambda model: RtmdetCriterion(),
}


def batch_of(model, images=4):
    data = Scenes(style="people", seed=5, count=images, size=128, people=(1, 2), workers=1)
    fit = Augment("none", data.layout, size=128, pad=model.input.pad, align=model.input.align)
    loader = Loader(data, fit, images, shuffle=False, mean=model.input.mean, std=model.input.std)
    return next(iter(loader.epoch(0)))


@pytest.mark.learning
@pytest.mark.parametrize("name", [name for name in WHOLE if name != "rtmdet_tiny"])
def test_a_few_images_are_learnt(name):
    torch.manual_seed(0)
    model = models.build(name)
    criterion, batch = WHOLE[name](model), batch_of(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    learnt = []
    for _ in range(30):
        losses = criterion(model(batch["images"]), batch["targets"])
        total = losses.total
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        learnt.append(total.item())
    assert min(learnt[-5:]) < 0.75 * learnt[0]


@pytest.mark.learning
def test_a_few_boxes_are_learnt():  # the loss tells little: it is divided by the overlaps, which grow
    torch.manual_seed(0)
    model = models.build("rtmdet_tiny")
    criterion, batch = RtmdetCriterion(), batch_of(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def overlap():
        boxes = model(batch["images"])["boxes"].detach()
        best = [box_iou(ours[:, None], one["boxes"]).amax(0) for ours, one in zip(boxes, batch["targets"], strict=True)]
        return torch.cat(best).mean().item()

    before = overlap()
    for _ in range(30):
        optimizer.zero_grad()
        criterion(model(batch["images"]), batch["targets"]).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert overlap() > 2 * before


@pytest.mark.parametrize("name", WHOLE)
def test_images_of_nobody_give_finite_losses_and_gradients(name):
    model = models.build(name).train()
    batch = batch_of(model, 2)
    nobody = [
        {
            key: value[:0] if key in ("keypoints", "visibility", "boxes", "areas") else value
            for key, value in one.items()
        }
        for one in batch["targets"]
    ]
    total = WHOLE[name](model)(model(batch["images"]), nobody).total
    total.backward()
    assert total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", [*WHOLE, "simple_baseline_tiny", "rtmpose_tiny"])
def test_no_image_and_one_image_decode(name):
    model = models.build(name).eval()
    width, height = getattr(model, "crop_size", (128, 128))
    with torch.inference_mode():
        poses = model.decode(model(torch.randn(2, 3, height, width)), torch.tensor([[width, height]] * 2))
    assert len(poses) == 2
    for one in poses:
        assert one.keypoints.shape[1] == model.num_keypoints and np.isfinite(one.keypoints).all()
        assert (one.boxes >= 0).all() and (one.boxes[:, 2] <= width).all() and (one.boxes[:, 3] <= height).all()


def test_simcc_learns_where_the_keypoint_is():
    criterion = SimccCriterion((8, 12), sigma=(1.0, 1.0))
    target = {"keypoints": torch.tensor([[[3.5, 4.5], [6.0, 2.0]]]), "visibility": torch.tensor([[2, 0]])}
    right = {"x": torch.zeros(1, 2, 16), "y": torch.zeros(1, 2, 24)}
    right["x"][0, 0, 6], right["y"][0, 0, 8] = 1, 1  # pixel index 3 and 4, two bins per pixel
    wrong = {name: value.roll(4, -1) for name, value in right.items()}
    unlabelled = {name: value.clone() for name, value in right.items()}
    unlabelled["x"][0, 1] = torch.randn(16)
    losses = [criterion(outputs, [target]).total for outputs in (right, wrong, unlabelled)]
    assert losses[0] < losses[1] and losses[0] == losses[2]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("ae_tiny", {"stride": 6}, "stride 4, 8, 16 or 32, not 6"),
        ("rtmpose_tiny", {"crop_size": (60, 96)}, "no whole number of cells of 16 pixels"),
        ("rtmpose_s", {"size": "x"}, "sizes are t, s, m, l"),
        ("yolox_pose_s", {"size": "x"}, "sizes are t, s, m, l"),
    ],
)
def test_what_cannot_be_built_is_a_sentence(name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.build(name, **options)


@pytest.mark.parametrize("name", ["rtmdet_tiny", "yolox_pose_tiny"])
def test_sizes_that_the_stride_does_not_divide_are_refused(name):
    with pytest.raises(ValueError, match="multiples of 32, not 100 x 128"):
        models.build(name)(torch.zeros(1, 3, 100, 128))


def test_boxes_are_scored_as_coco_scores_them():
    data = Scenes(style="people", seed=5, count=4, size=128, people=(1, 3), workers=1)
    rows = []
    for i, image_id in enumerate(data.ids):
        boxes = data.target(i)["boxes"]
        nothing = np.zeros((len(boxes), 0), np.float32)
        rows += box_rows(Poses(nothing[..., None].repeat(2, -1), nothing, np.ones(len(boxes), "f4"), boxes), image_id)
    assert evaluate_boxes(data.ground_truth, rows)["AP"] == pytest.approx(1)
    assert 0 < evaluate_boxes(data.ground_truth, rows[:2])["AP"] < 1
    assert set(evaluate_boxes(data.ground_truth, []).values()) == {0.0}


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("rtmdet_tiny", "people"), ("ae_tiny", "crowd"), ("rtmpose_tiny", "people"), ("yolox_pose_tiny", "crowd")],
)
def test_a_baseline_trains_and_is_evaluated(name, dataset, tmp_path):
    made = recipe(name, dataset=dataset, steps=2, images=32, val_images=4, warmup=1)
    train(made, tmp_path / "run", report=lambda _: None)
    metrics = evaluate_run(tmp_path / "run", report=lambda _: None)
    assert 0 <= metrics["AP"] <= 1 and metrics["images"] == 4
    assert (tmp_path / "run" / "layers.csv").exists() == (name != "rtmdet_tiny")
    if name == "rtmdet_tiny":  # top-down models take its boxes
        options = {"images": 4, "folder": tmp_path / "two", "boxes": str(tmp_path / "run")}
        assert evaluate_run("data/weights/vitpose_tiny", report=lambda _: None, **options)["images"] == 4
