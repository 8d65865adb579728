"""Geometry: chains round-trip, pictures follow keypoints, and POET's released steps come out as published."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.data import transforms
from posekit.data.augment import (
    POLICIES,
    Augment,
    Policy,
    coarse_dropout,
    colour_matrix,
    hsv_jitter,
    transform_target,
)
from posekit.layouts import COCO, layout_for

seeds = st.integers(0, 2**32 - 1)


def make_target(points, visibility=None, boxes=None, ignore=()):
    points = np.asarray(points, np.float32)
    n = len(points)
    visibility = np.full(points.shape[:2], 2, np.uint8) if visibility is None else np.asarray(visibility, np.uint8)
    boxes = np.tile(np.float32([0, 0, 10, 10]), (n, 1)) if boxes is None else np.asarray(boxes, np.float32)
    ignore = np.asarray(ignore, np.float32).reshape(-1, 4)
    return {
        "keypoints": points,
        "visibility": visibility,
        "boxes": boxes,
        "areas": np.full(n, 100, np.float32),
        "ignore": ignore,
    }


def turning(policy, degrees):
    return replace(POLICIES[policy], rotation=degrees, rotation_p=0.5)


def random_people(rng, n, width, height):
    return make_target(rng.uniform(0, 1, (n, 17, 2)) * (width, height), rng.integers(0, 3, (n, 17)))


@given(seed=seeds, policy=st.sampled_from(sorted(POLICIES)), size=st.sampled_from([None, 64, 256]))
@settings(max_examples=60, deadline=None)
def test_every_chain_maps_back_to_the_original_pixels(seed, policy, size):
    rng = np.random.default_rng(seed)
    width, height = (int(value) for value in rng.integers(30, 900, 2))
    augment = Augment(turning(policy, 25), size=size)
    matrix, (new_width, new_height), _ = augment.draw(width, height, rng)
    assert new_width >= 1 and new_height >= 1
    if size:
        assert max(new_width, new_height) <= size
    points = rng.uniform(0, 1, (50, 2)) * (width, height)
    back = transforms.invert(matrix).astype(np.float32)
    there = transforms.transform_points(matrix, points).astype(np.float32)
    assert np.abs(transforms.transform_points(back, there) - points).max() < 1e-3


@given(seed=seeds, policy=st.sampled_from(["none", "scenes", "paper", "released"]))
@settings(max_examples=25, deadline=None)
def test_labelled_joints_map_back_to_where_they_were(seed, policy):
    rng = np.random.default_rng(seed)
    width, height = (int(value) for value in rng.integers(60, 300, 2))
    target = random_people(rng, 3, width, height)
    augment = Augment(turning(policy, 20), size=128)
    image, moved, back = augment(np.zeros((height, width, 3), np.uint8), target, rng)
    labelled = moved["visibility"] > 0
    original = transforms.transform_points(back, moved["keypoints"])[labelled]
    distances = np.linalg.norm(original[:, None] - target["keypoints"].reshape(1, -1, 2), axis=2).min(1)
    assert (distances < 1e-3 * max(1, width / 128)).all()
    assert (moved["keypoints"][~labelled] == 0).all()
    assert (moved["keypoints"] <= moved["size"]).all() and (moved["keypoints"] >= 0).all()
    assert tuple(moved["size"]) == image.shape[1::-1]


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_the_picture_follows_the_keypoint(seed):
    rng = np.random.default_rng(seed)
    width, height = (int(value) for value in rng.integers(90, 200, 2))
    x, y = rng.uniform(0.35, 0.65, 2) * (width, height)
    rows, columns = np.mgrid[:height, :width] + 0.5
    blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
    image = np.repeat((255 * blob)[..., None], 3, axis=2).round().astype(np.uint8)
    small = rng.random() < 0.3  # more than twofold shrinking takes another path
    new = (int(width * 0.31), int(height * 0.31)) if small else (int(width * 1.1), int(height * 0.9))
    steps = [
        [transforms.hflip(width)],
        [transforms.rotate(rng.uniform(-25, 25), width, height)],
        [transforms.crop(7, 5)],
        [transforms.resize(width, height, *new)],
    ]
    chosen = [step[0] for step in steps if rng.random() < 0.6]
    matrix = transforms.compose(*chosen)
    warped = transforms.warp(image, matrix, new)[..., 0].astype(float)
    (expected,) = transforms.transform_points(matrix, np.array([[x, y]]))
    if not (10 < expected[0] < new[0] - 10 and 10 < expected[1] < new[1] - 10):
        return
    rows, columns = np.mgrid[: new[1], : new[0]] + 0.5
    found = np.array([(warped * columns).sum(), (warped * rows).sum()]) / warped.sum()
    assert np.abs(found - expected).max() < 0.6


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [(96, 72), (64, 48), (150, 100), (40, 30)])
def test_the_fast_routines_agree_with_the_warp(mirror, size):
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (72, 96, 3), dtype=np.uint8), (9, 9), 3)
    steps = [transforms.hflip(96)] if mirror else []
    matrix = transforms.compose(*steps, transforms.resize(96, 72, *size))
    nudged = transforms.compose(transforms.rotate(1e-5, 96, 72), matrix)  # not axis-aligned any more: the general path
    difference = transforms.warp(image, matrix, size).astype(int) - transforms.warp(image, nudged, size)
    inner = difference[2:-2, 2:-2]
    assert np.abs(inner).mean() < 1.5 and np.abs(inner).max() < 12


def test_a_pure_flip_is_exact():
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    assert (transforms.warp(image, transforms.hflip(7), (7, 5)) == image[:, ::-1]).all()


@given(width=st.integers(20, 1500), height=st.integers(20, 1500), shortest=st.integers(30, 900))
def test_resize_rule(width, height, shortest):
    new_width, new_height = transforms.size_with_aspect_ratio(width, height, shortest, 1333)
    ratio = max(width, height) / min(width, height)  # rounding the shorter side moves the longer one by half of it
    assert max(new_width, new_height) <= 1333 + ratio / 2 or (new_width, new_height) == (width, height)
    assert min(new_width, new_height) <= shortest
    assert abs(new_width / width - new_height / height) * min(width, height) <= 1 + 1e-6


@pytest.mark.parametrize(
    ("before", "shortest", "longest", "after"),
    [
        ((640, 480), 800, 1333, (1066, 800)),
        ((480, 640), 800, 1333, (800, 1066)),
        ((640, 480), 800, 512, (512, 384)),
        ((1000, 300), 800, 1333, (1333, 400)),
        ((500, 500), 800, 1333, (800, 800)),
        ((96, 72), 48, 80, (64, 48)),
        ((640, 480), 480, None, (640, 480)),
    ],
)
def test_resize_rule_values(before, shortest, longest, after):
    assert transforms.size_with_aspect_ratio(*before, shortest, longest) == after


def test_people_after_a_cut_and_after_a_rotation():
    target = make_target(
        [[[5, 5], [6, 6]], [[50, 50], [60, 60]], [[50, 50], [5, 5]], [[0, 0], [0, 0]]],
        [[2, 2], [2, 1], [1, 2], [0, 0]],
    )
    kept = transform_target(target, transforms.crop(40, 40), (100, 100), (60, 60), cut=True)
    assert kept["keypoints"].shape == (
        1,
        2,
        2,
    )  # only the second has a seen joint left; the third's is hidden
    assert kept["visibility"].tolist() == [[2, 1]]
    stay = transform_target(target, transforms.rotate(25, 100, 100), (100, 100), (100, 100))
    assert len(stay["keypoints"]) == 4 and stay["visibility"][0].tolist() == [0, 0]


def test_boxes_areas_and_crowd_regions_follow():
    target = make_target([[[50, 50]]], boxes=[[40, 30, 60, 70]], ignore=[[0, 0, 20, 20], [80, 80, 100, 100]])
    matrix = transforms.compose(transforms.crop(10, 10), transforms.scale(2, 0.5))
    moved = transform_target(target, matrix, (100, 100), (120, 30))
    assert moved["boxes"].tolist() == [[60, 10, 100, 30]]
    assert moved["areas"].tolist() == [100]
    assert moved["ignore"].tolist() == [[0, 0, 20, 5]]  # the second one has left the frame


def test_flip_swaps_left_and_right():
    points = np.zeros((1, 17, 2))
    points[0, COCO.keypoints.index("left_wrist")] = 10, 20
    visibility = np.zeros((1, 17))
    visibility[0, COCO.keypoints.index("left_wrist")] = 2
    moved = transform_target(make_target(points, visibility), transforms.hflip(50), (50, 50), (50, 50), COCO.flip)
    right = COCO.keypoints.index("right_wrist")
    assert moved["keypoints"][0, right].tolist() == [40, 20]
    assert np.flatnonzero(moved["visibility"][0]).tolist() == [right]


def test_a_layout_without_sides_is_not_flipped():
    for augment, flips in ((Augment("released", layout_for(["head", "tail"])), False), (Augment("released"), True)):
        drawn = [augment.draw(640, 480, np.random.default_rng(seed))[0] for seed in range(30)]
        assert any(transforms.determinant(matrix) < 0 for matrix in drawn) == flips


def test_nobody_in_the_picture():
    target = make_target(np.zeros((0, 17, 2)))
    for policy in POLICIES:
        _, moved, _ = Augment(policy, size=64)(np.zeros((50, 70, 3), np.uint8), target, np.random.default_rng(0))
        assert moved["keypoints"].shape == (0, 17, 2) and moved["boxes"].shape == (0, 4)


def test_policies_draw_the_published_sizes():
    sides = {"paper": set(), "released": set()}
    for policy, seen in sides.items():
        for seed in range(300):
            _, size, _ = Augment(policy).draw(640, 480, np.random.default_rng(seed))
            seen.add(min(size))
            assert max(size) <= 1333
    assert min(sides["paper"]) < 430 and max(sides["paper"]) > 770 and len(sides["paper"]) > 100
    assert {480, 512, 800} <= sides["released"] and min(sides["released"]) >= 480
    _, size, _ = Augment("released", longest=512).draw(640, 480, np.random.default_rng(0))
    assert max(size) <= 512
    _, size, _ = Augment("none", shortest=800, longest=1333).draw(640, 480, np.random.default_rng(0))
    assert size == (1066, 800)


def test_unknown_policy_is_named():
    with pytest.raises(ValueError, match="unknown augmentation policy 'papre'.*none, scenes, paper, released"):
        Augment("papre")


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_random_crop_lies_inside(seed):
    rng = np.random.default_rng(seed)
    width, height = (int(value) for value in rng.integers(50, 900, 2))
    matrix, (new_width, new_height), cut = Augment(Policy(crop_p=1.0)).draw(width, height, rng)
    corners = transforms.transform_points(transforms.invert(matrix), np.array([[0, 0], [new_width, new_height]]))
    assert cut and (corners >= -1e-6).all() and (corners <= np.array([width, height]) + 1e-6).all()
    larger = matrix[0, 0] * width, matrix[1, 1] * height  # the image that is cropped
    for side, whole in zip((new_width, new_height), larger, strict=True):
        assert min(384, round(whole)) <= side <= 600


def test_coarse_dropout_blackens_its_share_and_spares_the_input():
    image = np.full((120, 160, 3), 200, np.uint8)
    shares = [(coarse_dropout(image, np.random.default_rng(seed)) == 0).mean() for seed in range(60)]
    assert (image == 200).all()
    assert 0.08 < np.mean(shares) < 0.17 and max(shares) < 0.6


def test_colour_keeps_grey_grey_and_strength_zero_changes_nothing():
    grey = np.full((4, 4, 3), 90, np.uint8)
    for seed in range(10):
        changed = cv2.transform(grey, colour_matrix(0.3, np.random.default_rng(seed))).astype(int)
        assert np.ptp(changed, axis=2).max() <= 1
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    assert (cv2.transform(image, colour_matrix(0.0, np.random.default_rng(0))) == image).all()


def test_the_same_generator_gives_the_same_picture():
    image = np.random.default_rng(1).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    target = random_people(np.random.default_rng(2), 3, 120, 90)
    for policy in POLICIES:
        one, two = (Augment(policy, size=64)(image, target, np.random.default_rng((0, 1, 2))) for _ in range(2))
        assert (one[0] == two[0]).all() and all((one[1][key] == two[1][key]).all() for key in one[1])


def test_hsv_jitter_moves_within_its_strengths():
    rng = np.random.default_rng(0)
    hsv = rng.integers((0, 90, 90), (180, 160, 160), (40, 40, 3))
    image = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    before = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(int)
    moves = []
    for seed in range(60):
        after = cv2.cvtColor(hsv_jitter(image, (5, 30, 30), np.random.default_rng(seed)), cv2.COLOR_RGB2HSV)
        move = after.astype(int) - before
        move[..., 0] = (move[..., 0] + 90) % 180 - 90
        moves.append(np.median(move, axis=(0, 1)))
        assert np.abs(move - moves[-1]).max() <= 6  # the same move everywhere, up to the rounding of colours
    moves = np.array(moves)
    assert (np.abs(moves).max(0) <= (6, 31, 31)).all() and (np.abs(moves).max(0) >= (4, 20, 20)).all()
    assert 0.25 < (np.abs(moves[:, 2]) > 1).mean() < 0.75  # each one moves in half of the pictures


def test_hsv_jitter_wraps_hue_stops_at_the_ends_and_spares_the_input():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    seen = {tuple(hsv_jitter(red, (5, 0, 60), np.random.default_rng(seed))[0, 0].tolist()) for seed in range(60)}
    assert (red[..., 0] == 255).all() and (red[..., 1:] == 0).all()
    assert any(g > 0 for _, g, _ in seen) and any(b > 0 for _, _, b in seen)  # both ways round the circle
    assert max(r for r, _, _ in seen) == 255 and min(r for r, _, _ in seen) >= 195
    assert (hsv_jitter(red, (0, 0, 0), np.random.default_rng(0)) == red).all()
