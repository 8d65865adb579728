"""Drawn people: one scene everywhere, exact annotations, every count of people."""

import json
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.data import DRAWN, open_dataset
from posekit.data.drawn.body_parts import PART, joint_part_table, sample_appearance
from posekit.data.drawn.render import CANVAS, capsules, place_bodies, to_pixels
from posekit.data.drawn.scenes import ID_SIZE, MIN_JOINTS, Scenes, draw
from posekit.data.drawn.skeleton import POINT, sample_poses
from posekit.data.drawn.styles import STYLES
from posekit.evaluation import BANDS, CROWD_STATS, band_of, crowd_index, evaluate
from posekit.layouts import COCO, CROWDPOSE

GOLDEN = {"people": 0xF7591F9B, "crowd": 0x60FAAD6D, "macaque": 0xEE5AB153}
DRAW_SUMS = (
    "import zlib; from posekit.data.drawn.scenes import draw;"
    "print([zlib.crc32(draw('people', 4, i, 96)[0].tobytes()) for i in range(6)])"
)


def checksum(annotation: dict) -> int:
    total = 0
    for name in ("keypoints", "visibility", "boxes", "areas", "owner"):
        total = zlib.crc32(np.ascontiguousarray(annotation[name]).tobytes(), total)
    return total


@pytest.mark.parametrize("style", STYLES)
def test_annotations_are_the_same_on_every_machine(style):
    total = 0
    for index in range(12):
        total = zlib.crc32(checksum(draw(style, 7, index, 64)[1]).to_bytes(4, "little"), total)
    assert total == GOLDEN[style], (
        f"version {STYLES[style].version} of {style!r} draws other scenes than it did: raise it; now {total:#x}"
    )


def test_styles_have_versions_of_their_own(tmp_path):
    assert Scenes(count=12_000, size=128).fingerprint == "26231f5b19e0"  # trained models name it
    for style, table in STYLES.items():
        Scenes(style, count=1, size=16, cache=tmp_path, workers=1)
        assert len(list(tmp_path.glob(f"{style}-v{table.version}-16-*"))) == 1
    assert set(DRAWN) == set(STYLES)


def test_another_process_draws_the_same_bytes():
    there = subprocess.run([sys.executable, "-c", DRAW_SUMS], capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == [zlib.crc32(draw("people", 4, i, 96)[0].tobytes()) for i in range(6)]


def test_size_changes_the_picture_only():
    small, large = draw("people", 1, 3, 64), draw("people", 1, 3, 200)
    assert small[0].shape == (64, 64, 3) and large[0].shape == (200, 200, 3)
    assert checksum(small[1]) == checksum(large[1])


def test_seed_and_index_name_different_scenes():
    sums = {checksum(draw("people", seed, index, 32)[1]) for seed in range(4) for index in range(4)}
    assert len(sums) == 16


@pytest.mark.parametrize("n", [1, 2, 5, 9, 13])
def test_every_number_of_people_is_reached_and_everyone_can_be_seen(n):
    for index in range(8):
        annotation = draw("people", 2, index, 32, people=(n, n))[1]
        assert len(annotation["keypoints"]) == len(annotation["areas"]) == n
        assert ((annotation["visibility"] == 2).sum(1) >= MIN_JOINTS).all()
        assert (annotation["areas"] > 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**20))
def test_annotation_agrees_with_the_id_buffer(seed, index):
    annotation = draw("people", seed, index, 16)[1]
    keypoints, visibility, owner = (annotation[k] for k in ("keypoints", "visibility", "owner"))
    outside = visibility == 0
    assert (keypoints[outside] == 0).all()
    assert (keypoints >= 0).all() and (keypoints < CANVAS).all()
    unit = CANVAS // ID_SIZE
    for i in range(len(keypoints)):
        mine = owner == i + 1
        assert annotation["areas"][i] == mine.sum() * unit**2
        rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * unit
        np.testing.assert_array_equal(annotation["boxes"][i], box)
        at = (keypoints[i][visibility[i] == 2] // unit).astype(int)
        assert mine[at[:, 1], at[:, 0]].all(), "a seen joint lies on its own person"


def test_scales_cover_medium_and_large_and_joints_are_mostly_seen():
    notes = [draw("people", 11, index, 16)[1] for index in range(150)]
    areas = np.concatenate([a["areas"] for a in notes])
    visibility = np.concatenate([a["visibility"] for a in notes])
    counts = np.bincount([len(a["areas"]) for a in notes], minlength=7)
    assert 0.35 < (areas > 96**2).mean() < 0.65
    assert (areas < 32**2).mean() < 0.03
    assert (counts[1:] > 0).all() and counts[0] == 0 and len(counts) == 7
    assert 0.6 < (visibility == 2).mean() < 0.9
    assert (visibility == 0).mean() > 0.01 and (visibility == 1).mean() > 0.05


def test_crowds_fill_the_bands_of_crowdpose():
    notes = [draw("crowd", 3, index, 16)[1] for index in range(160)]
    indices = np.array([crowd_index(a["keypoints"], a["visibility"], a["boxes"]) for a in notes])
    for borders in ((0.1, 0.8), (0.2, 0.8)):
        share = np.bincount(band_of(indices, borders), minlength=len(BANDS)) / len(notes)
        assert share.min() > 0.12, share
    counts = np.bincount([len(a["areas"]) for a in notes])
    assert (counts[2:] > 0).all() and counts[:2].sum() == 0 and len(counts) == 11
    visibility = np.concatenate([a["visibility"] for a in notes])
    assert visibility.shape[1] == 14 and 0.1 < (visibility == 1).mean() < 0.3


def test_crowd_data_set_tells_its_index_and_scores_one(tmp_path):
    scenes = open_dataset("crowd", "val", count=30, size=64, cache=tmp_path)
    truth = scenes.ground_truth
    assert scenes.layout is CROWDPOSE and scenes.people == (2, 10)
    assert truth["categories"][0]["keypoints"] == list(CROWDPOSE.keypoints)
    target, image = scenes.target(4), truth["images"][4]
    index = crowd_index(target["keypoints"], target["visibility"], target["boxes"])
    assert image["crowdIndex"] == pytest.approx(index, abs=1e-4) and target["keypoints"].shape[1] == 14
    rows = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in truth["annotations"]
    ]
    stats = evaluate(truth, rows, area_scale=scenes.area_scale).stats
    assert [stats[name] for name in ("AP", "AR", *CROWD_STATS)] == pytest.approx([1] * 5)
    assert "crowdIndex" not in Scenes(count=1, size=16).ground_truth["images"][0]


def test_macaques_have_short_legs_a_tail_and_mostly_sit_or_walk_on_four():
    body = sample_poses(STYLES["macaque"], np.random.Generator(np.random.PCG64(5)), 400)
    arm, leg = (body.lengths[a] + body.lengths[b] for a, b in (("upper_arm", "forearm"), ("thigh", "shin")))
    assert (arm.mean() > leg.mean()) and (body.lengths["torso"] > leg).mean() > 0.6
    along = np.abs(body.trunk[:, 1, 1])  # of the trunk's axis, what is upright
    four_legs = along < 0.5
    assert 0.2 < four_legs.mean() < 0.5
    tail = np.linalg.norm(body.points[:, POINT["tail_3"]] - body.points[:, POINT["pelvis"]], axis=1)
    people = sample_poses(STYLES["people"], np.random.Generator(np.random.PCG64(0)), 9)
    assert tail.min() > 0.1 and (people.points[:, POINT["tail_3"]] == 0).all()
    wrist, ankle = (body.points[:, POINT[f"left_{name}"], 1] for name in ("wrist", "ankle"))
    assert (np.abs(wrist - ankle)[four_legs] < 0.35).mean() > 0.9, "hands and feet are on one ground"
    look = sample_appearance(STYLES["macaque"], np.random.Generator(np.random.PCG64(5)), 50)
    assert look.furry and not (look.hat | look.bald | look.skirt | look.long_hair).any()
    annotations = [draw("macaque", 2, index, 32)[1] for index in range(60)]
    visibility = np.concatenate([a["visibility"] for a in annotations])
    assert visibility.shape[1] == 17 and (visibility == 2).mean() > 0.5
    assert {len(a["areas"]) for a in annotations} == {1, 2, 3}


def turned_sideways():
    """Bodies seen from their left side."""
    for index in range(800):
        rng = np.random.Generator(np.random.PCG64(index))
        body = sample_poses(STYLES["people"], rng, 1)
        if body.trunk[0, 2, 0] > 0.95:
            yield body, sample_appearance(STYLES["people"], rng, 1)


def test_profile_hides_the_far_shoulder_and_back_of_the_head_hides_the_face():
    found = 0
    for body, look in turned_sideways():
        figure = place_bodies(body, np.array([[256.0, 256.0]]), np.array([300.0]), look)
        assert figure.facing[0, POINT["left_shoulder"]] and not figure.facing[0, POINT["right_shoulder"]]
        found += 1
    assert found > 5
    rng = np.random.Generator(np.random.PCG64(0))
    turned, look = sample_poses(STYLES["people"], rng, 200), sample_appearance(STYLES["people"], rng, 200)
    figure = place_bodies(turned, np.full((200, 2), 256.0), np.full(200, 300.0), look)
    away = turned.head[:, 2, 2] < -0.5
    assert away.sum() > 10 and not figure.facing[away][:, POINT["nose"]].any()
    assert figure.facing[turned.head[:, 2, 2] > 0.5][:, POINT["nose"]].all()


def test_bodies_keep_their_lengths_and_sides():
    body = sample_poses(STYLES["people"], np.random.Generator(np.random.PCG64(3)), 50)
    for a, b, length in (("hip", "knee", "thigh"), ("knee", "ankle", "shin"), ("elbow", "wrist", "forearm")):
        for side in ("left", "right"):
            bone = body.points[:, POINT[f"{side}_{a}"]] - body.points[:, POINT[f"{side}_{b}"]]
            np.testing.assert_allclose(np.linalg.norm(bone, axis=1), body.lengths[length], rtol=1e-9)
    across = body.points[:, POINT["left_hip"], 0] - body.points[:, POINT["right_hip"], 0]
    front = body.trunk[:, 2, 2] > 0.8  # faces the viewer: the left hip lies on the picture's right
    upright = front & (body.trunk[:, 1, 1] > 0.9)
    assert upright.sum() > 5 and (across[upright] > 0).all()


def test_pixel_centres_are_half_way():
    # A canvas point in the middle of pixel (3, 5) of a picture as large as the canvas is OpenCV's (3, 5).
    np.testing.assert_array_equal(to_pixels(np.array([3.5, 5.5]), CANVAS), [3 * 16, 5 * 16])
    np.testing.assert_array_equal(to_pixels(np.array([0.0, CANVAS]), 128), [-8, 128 * 16 - 8])


def test_drawn_joint_is_where_the_annotation_says():
    for index in range(6):
        annotation = draw("people", 9, index, 16, people=(1, 1))[1]
        owner = annotation["owner"] == 1
        ys, xs = np.nonzero(owner)
        centre = (np.array([xs.mean(), ys.mean()]) + 0.5) * (CANVAS / ID_SIZE)
        seen = annotation["keypoints"][0][annotation["visibility"][0] > 0]
        assert np.linalg.norm(seen.mean(0) - centre) < 0.25 * np.ptp(annotation["boxes"][0].reshape(2, 2), axis=0).max()


def test_capsules_hold_both_circles_and_survive_no_length():
    a, b = np.array([[10.0, 10.0], [5.0, 5.0]]), np.array([[30.0, 10.0], [5.0, 5.0]])
    outline = capsules(a, b, np.array([4.0, 3.0]), np.array([2.0, 3.0]))
    assert outline.shape == (2, 14, 2) and np.isfinite(outline).all()
    np.testing.assert_allclose([outline[0, :, 0].min(), outline[0, :, 0].max()], [6, 32])
    np.testing.assert_allclose(np.linalg.norm(outline[1] - 5, axis=1), 3)


@pytest.mark.parametrize("layout", [COCO, CROWDPOSE])
def test_every_joint_of_every_layout_has_parts_that_show_it(layout):
    table = joint_part_table(layout)
    assert table.any(1).all() and not table[:, 0].any()
    elbow = layout.keypoints.index("left_elbow")
    assert table[elbow, 1 + PART["left_forearm"]] and not table[elbow, 1 + PART["right_forearm"]]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(style="pepole"), "no drawing style is called 'pepole'; known: people, crowd, macaque"),
        (dict(people=(0, 3)), "people=(0, 3) must be a range"),
        (dict(people=(2, 14)), "<= 13"),
        (dict(count=0), "count 0 must be at least 1"),
        (dict(seed=-1), "seed -1"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError) as error:
        Scenes(**arguments)
    assert words in str(error.value)


def test_lazy_data_set_keeps_the_contract():
    scenes = Scenes(seed=3, count=4, size=64)
    assert len(scenes) == 4 and scenes.ids == [0, 1, 2, 3] and scenes.layout is COCO
    assert scenes.area_scale == (64 / 512) ** 2
    picture, target = scenes.image(2), scenes.target(2)
    n = len(target["keypoints"])
    shapes = {k: (v.shape, v.dtype.name) for k, v in target.items()}
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert shapes == {
        "keypoints": ((n, 17, 2), "float32"),
        "visibility": ((n, 17), "uint8"),
        "boxes": ((n, 4), "float32"),
        "areas": ((n,), "float32"),
        "ignore": ((0, 4), "float32"),
    }
    canvas = draw("people", 3, 2, 64)[1]
    np.testing.assert_allclose(target["keypoints"], canvas["keypoints"] / 8)
    np.testing.assert_allclose(target["areas"], canvas["areas"] / 64)
    np.testing.assert_array_equal(scenes.target(-2)["boxes"], target["boxes"])
    with pytest.raises(IndexError):
        scenes.image(4)


@pytest.mark.parametrize("style", STYLES)
def test_coco_folder_scores_itself_at_one(tmp_path, style):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    import cv2

    layout = STYLES[style].layout
    scenes = Scenes(style, seed=5, count=12, size=64)
    path = scenes.write_coco(tmp_path, size=256, extension="png")
    truth = coco.COCO(str(path))
    rows = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in truth.anns.values()
    ]
    run = evaluation.COCOeval(truth, truth.loadRes(rows), "keypoints")
    run.params.kpt_oks_sigmas = layout.sigmas
    for area in run.params.areaRng[1:]:  # COCO's limits hold on the 512 canvas
        area[:] = [v * (256 / CANVAS) ** 2 for v in area]
    run.evaluate()
    run.accumulate()
    run.summarize()
    np.testing.assert_allclose(run.stats, 1.0)

    picture = cv2.imread(str(tmp_path / "images" / truth.loadImgs([3])[0]["file_name"]))[..., ::-1]
    np.testing.assert_array_equal(picture, draw(style, 5, 3, 256)[0])
    assert ("crowdIndex" in truth.imgs[3]) == (style == "crowd")
    for row in truth.anns.values():
        assert row["num_keypoints"] == sum(v > 0 for v in row["keypoints"][2::3])
    assert truth.cats[1]["keypoints"] == list(layout.keypoints) and min(truth.anns) == 1


def test_scripts_of_the_first_version_find_their_names():
    from posekit.data import scenes, topdown

    assert scenes.Scenes is Scenes and topdown.People is topdown.PersonCrops
