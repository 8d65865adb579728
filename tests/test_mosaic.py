"""Mosaics: people sit where their picture says, partners are drawn once and for all, bad ones are replaced."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posekit.data import transforms
from posekit.data.images import DataError
from posekit.data.mosaic import CORNERS, MIXES, Mix, Mosaic, Pane, merge, outline, paint, paste, quarter, visible
from posekit.layouts import COCO, layout_for

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "ci"))
seeds = st.integers(0, 2**32 - 1)
IDENTITY = transforms.compose()
QUIET = Mix(hsv=(0, 0, 0), flip=0.0)  # nothing random but what a test adds


class Dots:
    """Pictures of one grey each (20, 30, 40 ...) with one white disc per person: all 17 joints lie in its middle."""

    layout, name = COCO, "dots"

    def __init__(self, count=6, people=2, bad=(), on_error="raise", seed=0, sizes=((160, 120), (100, 140), (128, 128))):
        rng = np.random.default_rng(seed)
        self.ids, self.bad, self.on_error, self.read = list(range(count)), set(bad), on_error, []
        self.pixels, self.middles = [], []
        for i in range(count):
            width, height = sizes[i % len(sizes)]
            picture = np.full((height, width, 3), 20 + 10 * i, np.uint8)
            middles = (rng.integers(10, np.array([width, height]) - 10, (people, 2)) + 0.5).astype(np.float32)
            for x, y in middles:
                cv2.circle(picture, (int(x), int(y)), 4, (255, 255, 255), -1)
            self.pixels.append(picture)
            self.middles.append(middles)

    def __len__(self):
        return len(self.pixels)

    def image(self, i):
        self.read.append(i)
        if i in self.bad:
            raise DataError(f"image {i}: broken")
        return self.pixels[i]

    def target(self, i):
        middles = self.middles[i]
        n = len(middles)
        return {
            "keypoints": np.repeat(middles[:, None], 17, 1),
            "visibility": np.full((n, 17), 2, np.uint8),
            "boxes": np.concatenate([middles - 4.5, middles + 4.5], 1),
            "areas": np.full(n, 64, np.float32),
            "ignore": np.float32([[0, 0, 8, 8]]),
        }


def mixed(policy, data=None, seed=0, index=0, **options):
    return Mosaic(policy, **{"size": 128, **options}).mix(data or Dots(), index, np.random.default_rng(seed))


def test_published_pastes():
    rows = json.loads((ROOT / "tests/golden/rtmo/geometry.json").read_text())["mosaic_paste"]
    for row in rows:
        shown, cut = paste(row["loc"], row["center_xy"], row["patch_wh"], (1280, 1280))
        assert list(shown) == row["paste_xyxy"] and list(cut) == row["crop_xyxy"]


@given(seed=seeds, policy=st.sampled_from(sorted(MIXES)), centre=st.sampled_from(["released", "yolox"]))
@settings(max_examples=60, deadline=None)
def test_every_person_lies_on_a_disc(seed, policy, centre):
    steps = replace(MIXES[policy], mixup=0.0, hsv=(0, 0, 0), centre=centre)
    image, target, _, _ = mixed(steps, Dots(seed=seed % 100), seed)
    height, width = image.shape[:2]
    for points, box in zip(target["keypoints"], target["boxes"], strict=True):
        x, y = points[0]
        if 1 <= x < width - 1 and 1 <= y < height - 1:
            assert image[int(y), int(x)].min() > 200
        assert (box[:2] <= points.min(0) + 1e-3).all() and (box[2:] >= points.max(0) - 1e-3).all()
    assert target["size"].tolist() == [width, height]


@given(seed=seeds)
@example(seed=1283735)  # a quarter of a disc
@settings(max_examples=40, deadline=None)
def test_every_disc_in_sight_has_its_person(seed):
    data = Dots(seed=seed % 100)
    image, target, _, _ = mixed(replace(MIXES["rtmo_crowdpose"], mixup=0.0, hsv=(0, 0, 0)), data, seed, size=(96, 160))
    white = (image.min(2) > 240).astype(np.uint8)
    _, _, stats, middles = cv2.connectedComponentsWithStats(white)
    for (x, y, w, h, _), middle in zip(stats[1:], middles[1:], strict=True):
        whole = x > 1 and y > 1 and x + w < 159 and y + h < 95 and min(w, h) > max(4, 0.8 * max(w, h))
        if whole:  # a disc that is cut may have lost its middle
            distance = np.linalg.norm(target["keypoints"][:, 0] - (middle + 0.5), axis=1).min()
            assert distance < 2


@given(seed=seeds, policy=st.sampled_from(sorted(MIXES)))
@example(seed=5420366, policy="rtmo")  # the middle of the disc on the very border
@settings(max_examples=40, deadline=None)
def test_labelled_joints_of_the_own_picture_map_back(seed, policy):
    data, index = Dots(people=1), seed % 6
    image, target, back, _ = mixed(replace(MIXES[policy], mixup=0.0, hsv=(0, 0, 0)), data, seed, index=index)
    assert back.shape == (2, 3) and back.dtype == np.float32
    original = transforms.transform_points(back, target["keypoints"][:1])  # the own person comes first
    if len(original) and np.abs(original - data.middles[index]).max() < 1e-3:
        return
    ((x, y),) = transforms.transform_points(transforms.invert(back), data.middles[index][:1])
    outside = not (2 < x < 126 and 2 < y < 126)
    around = image[max(int(y) - 1, 0) : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2]
    assert outside or around.min() < 200  # cut off at its pane's border, at most a pixel away


def test_mixup_halves_both_pictures_and_adds_the_people():
    data = Dots(sizes=((128, 128),))
    alone, before, _, _ = mixed(QUIET, data)
    image, target, _, _ = mixed(replace(QUIET, mixup=1.0, mixup_scale=(1.0, 1.0)), data, seed=3)
    assert len(before["keypoints"]) == 2 and len(target["keypoints"]) == 4
    assert (target["keypoints"][:2] == before["keypoints"]).all()
    layer = 2.0 * image - alone
    for x, y in target["keypoints"][2:, 0]:
        assert layer[int(y), int(x)].min() > 200
    empty = Dots(people=0, sizes=((128, 128),))
    image, target, _, _ = mixed(replace(QUIET, mixup=1.0), empty)
    assert (image == 20).all() and target["keypoints"].shape == (0, 17, 2)  # nobody in the partner: no MixUp


@pytest.mark.parametrize("seed", range(12))
def test_mixup_partners_keep_their_place(seed):
    """Small, large, mirrored and cropped partners: the disc in the layer is where the person is."""
    data = Dots(people=1, seed=seed)
    plain = replace(QUIET, flip=0.5, mixup_scale=(0.6, 1.6))
    image, target, _, _ = mixed(replace(plain, mixup=1.0), data, seed)
    alone, before, _, _ = mixed(plain, data, seed)
    layer = 2.0 * image - alone
    for x, y in target["keypoints"][len(before["keypoints"]) :, 0]:
        if 1 <= x < 127 and 1 <= y < 127:
            assert layer[int(y), int(x)].min() > 180


def test_released_and_yolox_centres():
    """Without randomness the released view is the canvas's top-left quarter, YOLOX's is its middle."""
    steps = Mix(mosaic=1.0, meeting=(1.0, 1.0), hsv=(0, 0, 0), flip=0.0)
    data = Dots(people=0, sizes=((128, 128),))
    released, _, _, _ = mixed(steps, data)
    assert (released == 20).all()  # the first picture alone
    yolox, _, _, _ = mixed(replace(steps, centre="yolox"), data)
    partners = {int(yolox[r, c, 0]) for r, c in ((20, 108), (108, 20), (108, 108))}
    assert yolox[20, 20, 0] == 20 and partners <= {20 + 10 * i for i in range(6)}
    assert not (yolox == 114).all(2).any()


def test_pictures_that_the_view_does_not_show_are_not_read():
    data = Dots(people=0, sizes=((128, 128),))
    mixed(Mix(mosaic=1.0, meeting=(1.0, 1.0)), data)
    assert len(data.read) == 1
    mixed(Mix(mosaic=1.0, meeting=(1.0, 1.0), centre="yolox"), data)
    assert len(data.read) == 5


def pane(keypoints, visibility=None, boxes=None, view=IDENTITY, window=(0, 0, 256, 256), ignore=()):
    keypoints = np.asarray(keypoints, np.float32)
    n = len(keypoints)
    target = {
        "keypoints": keypoints,
        "visibility": np.asarray(np.full(keypoints.shape[:2], 2) if visibility is None else visibility, np.uint8),
        "boxes": np.tile(np.float32([10, 10, 60, 60]), (n, 1)) if boxes is None else np.asarray(boxes, np.float32),
        "areas": np.full(n, 100, np.float32),
        "ignore": np.asarray(ignore, np.float32).reshape(-1, 4),
    }
    return Pane(np.zeros((100, 100, 3), np.uint8), target, IDENTITY, view, window)


def test_who_is_left_out():
    joints = [[[50, 50], [20, 20]], [[90, 50], [95, 20]], [[50, 50], [50, 50]], [[50, 50], [50, 50]]]
    visible_joints = [[1, 0], [2, 2], [0, 0], [2, 2]]
    boxes = [[10, 10, 60, 60], [85, 10, 99, 60], [10, 10, 60, 60], [50, 10, 51, 60]]
    only = merge([pane(joints, visible_joints, boxes)], (80, 80), np.array([0, 1]))
    # the hidden joint (v = 1) counts; the second stands outside, the third has no joint, the fourth is a pixel wide
    assert only["visibility"].tolist() == [[1, 0]]
    assert only["keypoints"].tolist() == [[[50, 50], [0, 0]]]
    assert only["boxes"].tolist() == [[10, 10, 60, 60]]


def test_areas_boxes_crowds_and_sides_follow():
    mirror = transforms.compose(transforms.scale(2, 0.5), transforms.hflip(200))
    target = merge(
        [pane([[[20, 40], [30, 40]]]), pane([[[20, 40], [30, 40]]], view=mirror, ignore=[[0, 0, 10, 10]])],
        (200, 100),
        np.array([1, 0]),
    )
    assert target["areas"].tolist() == [100, 100]
    assert target["keypoints"].tolist() == [[[20, 40], [30, 40]], [[140, 20], [160, 20]]]
    assert target["boxes"].tolist() == [[10, 10, 60, 60], [80, 5, 180, 30]]
    assert target["ignore"].tolist() == [[180, 0, 200, 5]]
    tripled = merge([pane([[[20, 40], [30, 40]]], view=transforms.scale(3))], (200, 200), np.array([0, 1]))
    assert tripled["areas"].tolist() == [900]
    cut = merge([pane([[[20, 40], [90, 40]]], window=(0, 0, 80, 100))], (200, 200), np.array([0, 1]))
    assert cut["visibility"].tolist() == [[2, 0]]  # cut by the canvas, although the view would show it


def test_a_pane_is_painted_where_it_is_seen_only():
    frame = np.full((60, 80, 3), 7, np.uint8)
    way = transforms.compose(transforms.scale(0.5), transforms.crop(-40, -20))
    picture = np.full((100, 100, 3), 200, np.uint8)
    paint(frame, replace(pane([]), image=picture, view=way))
    assert (frame[20:, 40:] == 200).all() and (frame[:19] == 7).all() and (frame[:, :39] == 7).all()
    away = frame.copy()
    paint(away, replace(pane([]), image=picture, view=transforms.crop(-300, 0)))
    assert (away == frame).all()


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_the_four_panes_never_overlap_and_stay_on_the_canvas(seed):
    rng = np.random.default_rng(seed)
    canvas, meeting = (256, 192), (int(rng.integers(64, 193)), int(rng.integers(48, 145)))
    seen = np.zeros((192, 256), int)
    for corner in CORNERS:
        patch = (int(rng.integers(1, 129)), int(rng.integers(1, 97)))
        (x0, y0, x1, y1), (u0, v0, u1, v1) = paste(corner, meeting, patch, canvas)
        assert (x1 - x0, y1 - y0) == (u1 - u0, v1 - v0)
        assert 0 <= u0 <= u1 <= patch[0] and 0 <= v0 <= v1 <= patch[1]
        q = quarter(corner, meeting, canvas)
        assert q[0] <= x0 <= x1 <= q[2] and q[1] <= y0 <= y1 <= q[3]
        seen[y0:y1, x0:x1] += 1
        assert visible(outline((x0, y0, x1, y1), IDENTITY), canvas) in ((x0, y0, x1, y1), None)
    assert seen.max() == 1


def test_a_pure_function_of_the_generator():
    for policy in MIXES:
        one, two, *others = (mixed(policy, Dots(), (1, seed), 2) for seed in (2, 2, 3, 4, 5, 6, 7))
        assert (one[0] == two[0]).all() and (one[2] == two[2]).all()
        assert all((one[1][name] == two[1][name]).all() for name in one[1])
        assert any((one[0] != other[0]).any() for other in others)


def test_a_broken_partner_stops_or_is_replaced():
    data = Dots(bad=[1, 2, 3, 4, 5])
    with pytest.raises(DataError, match="image .: broken"):
        for seed in range(20):
            mixed("rtmo", data, seed)
    data = Dots(bad=[1, 2, 3], on_error="skip")
    broken = [entry for seed in range(20) for entry in mixed("rtmo", data, seed)[3]]
    assert {index for index, _ in broken} == {1, 2, 3} and broken[0][1] == f"image {broken[0][0]}: broken"
    lonely = Dots(bad=[1, 2, 3, 4, 5], on_error="skip")
    image, target, _, _ = mixed("rtmo", lonely, 1)  # only itself is left, in every place
    assert image.shape == (128, 128, 3) and set(np.unique(target["visibility"])) <= {0, 2}
    with pytest.raises(DataError, match="image 3: broken"):
        mixed("rtmo", data, 0, index=3)


def test_a_layout_without_sides_is_not_mirrored():
    assert Mosaic("rtmo", layout_for(["head", "tail"])).steps.flip == 0
    assert Mosaic("rtmo").steps.flip == 0.5


def test_policies_are_the_published_numbers():
    coco, crowd = MIXES["rtmo"], MIXES["rtmo_crowdpose"]
    assert (coco.scale, coco.rotation, coco.shift, coco.shear, coco.mixup_scale) == ((0.75, 1), 10, 0.1, 2, (0.8, 1.6))
    assert (crowd.scale, crowd.rotation, crowd.shift, crowd.mixup_scale) == ((0.5, 1.5), 30, 0.2, (0.6, 1.6))
    assert MIXES["rtmo_t"] == replace(coco, mixup=0.0) and coco.hsv == (5, 30, 30) and coco.flip == 0.5
    late, (image, _, back, _) = MIXES["rtmo_late"], mixed(replace(MIXES["rtmo_late"], flip=0.0, hsv=(0, 0, 0)))
    assert late.mosaic == late.mixup == 0
    assert (image[:15] == 114).all() and (image[-15:] == 114).all() and (image[17:-17] != 114).all()
    assert np.abs(back - [[1.25, 0, 0], [0, 1.25, -20]]).max() < 1e-5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"policy": "rtm"}, "unknown mosaic policy 'rtm'; there are rtmo, rtmo_t"),
        ({"policy": Mix(centre="middle")}, "is 'released' or 'yolox', not 'middle'"),
        ({"pad": 300}, "grey value from 0 to 255, not 300"),
    ],
)
def test_wrong_options_are_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Mosaic(**options)
