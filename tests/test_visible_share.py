"""AP by the visible share of the body: bins are an honest COCO AP, cuts hide exactly what they say."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
import torch
from coco_rows import folder, found, person, pose
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO as Annotations
from pycocotools.cocoeval import COCOeval
from torch import nn

from posebook.analysis import visible_share
from posebook.figures import vitpose_partial
from posekit import models
from posekit.evaluation import evaluate
from posekit.input_spec import InputSpec
from posekit.layouts import COCO, Layout
from posekit.models.heatmap_decoding import crop_poses

RGB = Layout("rgb", ("top", "left_hand", "right_foot"), np.full(3, 0.08), ())


class Dots:
    """Pictures of black, two people in each: three dots, red above green above blue. Nobody overlaps anybody."""

    name, layout, area_scale, category_id = "dots", RGB, 1.0, 1

    def __init__(self, count=6, lost=()):
        self.ids, self.rows, self.lost = [10 * i + 3 for i in range(count)], [], lost
        rng = np.random.default_rng(0)
        for _ in range(count):
            corner = np.array([[[20.0, 30]], [[150.0, 60]]]) + rng.random((2, 1, 2)) * 9
            self.rows.append(corner + np.array([[20, 8], [8, 60], [42, 112]]) + rng.random((2, 3, 2)) * 4)

    def __len__(self):
        return len(self.ids)

    def image(self, i):
        y, x = np.mgrid[:256, :256] + 0.5
        off = (x - self.rows[i][..., 0, None, None]) ** 2 + (y - self.rows[i][..., 1, None, None]) ** 2
        return (255 * np.exp(-off / 32)).max(0).transpose(1, 2, 0).astype(np.uint8)

    def target(self, i):
        keypoints = self.rows[i]
        visibility = np.full((2, 3), 2)
        if i in self.lost:
            visibility[0, 2] = 0
        boxes = np.concatenate([keypoints.min(1) - 6, keypoints.max(1) + 6], 1)
        empty = np.zeros((0, 4))
        return {
            "keypoints": keypoints,
            "visibility": visibility,
            "boxes": boxes,
            "areas": np.full(2, 3000.0),
            "ignore": empty,
        }

    @property
    def ground_truth(self):
        rows = []
        for i, image in enumerate(self.ids):
            target = self.target(i)
            for points, seen in zip(target["keypoints"], target["visibility"], strict=True):
                rows.append(person(len(rows) + 1, image, points, seen, area=3000.0))
        return folder(self.ids, rows)


class Seer(nn.Module):
    """Its heatmaps are the colours. `needs`: finds nothing where it does not see red, the uppermost joint."""

    crop_size, num_keypoints = (72, 96), 3

    def __init__(self, needs=False):
        super().__init__()
        self.input, self.needs, self.anchor = InputSpec(size=96, fit="crop"), needs, nn.Parameter(torch.zeros(1))

    def forward(self, images):
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.input.mean, self.input.std))
        maps = images * std + mean
        seen = maps[:, :1].amax((2, 3), keepdim=True) > 0.5
        return {"heatmaps": maps * seen if self.needs else maps}

    def decode(self, outputs, sizes):
        return crop_poses(outputs["heatmaps"], sizes, "dark", udp=True)


def columns(rows):
    keypoints = np.array([row["keypoints"] for row in rows], float).reshape(len(rows), -1, 3)[..., :2]
    return {
        "image_id": [row["image_id"] for row in rows],
        "keypoints": keypoints,
        "score": [row["score"] for row in rows],
    }


def theirs(truth, rows):
    """AP by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = Annotations()
        annotations.dataset = truth
        annotations.createIndex()
        scorer = COCOeval(annotations, annotations.loadRes([dict(row) for row in rows]), "keypoints")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer.stats[0]


@pytest.fixture
def crowd():
    """30 people in 10 pictures, found with errors that differ, and some false positives; (truth, rows, whose)."""
    rng, people, rows, whose = np.random.default_rng(3), [], [], []
    for i in range(30):
        points = pose(i, at=rng.random(2) * 500)
        people.append(person(i + 1, i // 3, points, rng.choice([0, 1, 2], 17, p=(0.1, 0.3, 0.6)), area=8000.0))
        rows.append(found(i // 3, points + rng.normal(0, 12 * rng.random(), (17, 2)), float(rng.random())))
        whose.append(i + 1)
        if i % 4 == 0:
            rows.append(found(i // 3, pose(i + 50, at=rng.random(2) * 500), float(rng.random())))
            whose.append(i + 1)
    return folder(range(10), people), rows, whose


def test_one_bin_of_everybody_is_the_ap_of_everybody(crowd):
    truth, rows, whose = crowd
    whole = evaluate(truth, rows).stats["AP"]
    assert 0.2 < whole < 0.95
    (row,) = visible_share.ap_by_share(truth, columns(rows) | {"annotation": whose}, (0, 1)).itertuples()
    assert row.AP == pytest.approx(whole) and row.people == 30


def test_every_bin_is_what_pycocotools_says_of_its_people(crowd):
    truth, rows, whose = crowd
    edges = (0, 0.5, 0.6, 0.7, 1)
    shares = {a["id"]: np.mean(np.array(a["keypoints"][2::3]) == 2) for a in truth["annotations"]}
    own = visible_share.ap_by_share(truth, columns(rows) | {"annotation": whose}, edges)
    assert own.people.sum() == 30 and (own.people > 2).all()
    for (low, high), apart in zip(zip(edges, edges[1:], strict=False), own.AP, strict=True):
        here = {one for one, share in shares.items() if low <= share < high}
        people = [a if a["id"] in here else a | {"num_keypoints": 0} for a in truth["annotations"]]
        mine = [row for row, one in zip(rows, whose, strict=True) if one in here]
        assert apart == pytest.approx(theirs(truth | {"annotations": people}, mine), abs=1e-9)


def test_who_fails_in_one_bin_changes_no_other():
    points = [pose(i, at=(200.0 * i, 50.0)) for i in range(2)]
    truth = folder([1], [person(1, 1, points[0], 2), person(2, 1, points[1], [2] * 5 + [1] * 12)])
    right = [found(1, points[0], 0.9), found(1, points[1], 0.8)]
    whose = {"annotation": [1, 2]}
    table = visible_share.ap_by_share(truth, columns(right) | whose, (0, 0.2, 0.5, 1))
    assert table.people.tolist() == [0, 1, 1] and np.isnan(table.AP[0]) and np.isnan(table.share[0])
    assert table.AP[1:].tolist() == pytest.approx([1, 1]) and table.share[1:].tolist() == pytest.approx([5 / 17, 1])
    one = visible_share.ap_by_share(truth, columns(right[:1]) | {"annotation": [1]}, (0, 0.5, 1))
    assert one.AP.tolist() == pytest.approx([0, 1])  # the seen one's detection is none of the other bin


def test_bins_refuse_what_they_cannot_sort(crowd):
    truth, rows, _ = crowd
    with pytest.raises(ValueError, match=r"must rise, at least two of them, not \[0.0, 0.5, 0.5\]"):
        visible_share.ap_by_share(truth, columns(rows), (0, 0.5, 0.5))


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.floats(0.4, 300),
    st.floats(0.4, 300),
    st.floats(0.01, 1),
    st.sampled_from(visible_share.KEPT),
)
def test_a_cut_keeps_its_share_to_a_pixel(x, y, width, height, share, kept):
    boxes = np.array([[x, y, x + width, y + height]] * 2)
    before, left = boxes.copy(), visible_share.cut(boxes, share, kept)
    assert (boxes == before).all() and (left[:, :2] >= boxes[:, :2]).all() and (left[:, 2:] <= boxes[:, 2:]).all()
    axis = int(kept != "side")
    sides = (left[:, 2:] - left[:, :2])[:, axis]
    assert (np.abs(sides - share * (width, height)[axis]) <= 1 + 1e-9).all() and (sides > 0).all()
    other = 1 - axis
    assert (left[:, [other, other + 2]] == boxes[:, [other, other + 2]]).all()
    moved = left != boxes
    assert (left[moved] == np.round(left[moved])).all()
    if share == 1:
        assert not moved.any()
    elif kept != "side":
        assert not moved[:, axis + 2 if kept == "lower" else axis].any()
    else:  # the first person keeps the left, the second the right
        assert not moved[0, 0] and not moved[1, 2]


def test_cuts_that_make_no_sense_get_a_sentence():
    box = np.array([[0.0, 0, 10, 10]])
    for share, kept in ((0, "upper"), (1.2, "lower"), (float("nan"), "side"), (0.5, "middle")):
        with pytest.raises(ValueError, match="give a share in"):
            visible_share.cut(box, share, kept)


@pytest.mark.parametrize("kept", visible_share.KEPT)
def test_beyond_the_cut_is_black_and_before_it_nothing_changes(kept):
    class White(Dots):
        def image(self, i):
            return np.full((256, 256, 3), 200, np.uint8)

    data, model = White(), Seer()
    people = visible_share.whole_bodies(data)
    left = visible_share.cut(people.boxes, 0.5, kept)
    crops, matrices = visible_share.crop_cuts(model, data, people, left)
    plain, _ = visible_share.crop_boxes(model, data, people.image_index, left)
    black = (crops == 0).all(-1)
    assert black.any() and ((crops == plain) | black[..., None]).all()
    axis = int(kept != "side")
    for one in range(len(people)):
        at = (np.arange(model.crop_size[axis]) + 0.5 - matrices[one, axis, 2]) / matrices[one, axis, axis]
        beyond = (at < left[one, axis]) if left[one, axis] > people.boxes[one, axis] else at >= left[one, axis + 2]
        lines = black[one].all(axis)  # over the other axis
        assert (lines[at < 256] >= beyond[at < 256]).all() and beyond.any()
        assert not lines[~beyond & (at > 0) & (at < 256)].any()


def test_who_sees_the_dots_that_are_left_loses_nothing():
    table = visible_share.examine(Seer(), Dots(), shares=(0.3, 0.7))
    assert len(table) == 9 and table.AP.tolist() == pytest.approx([1] * 9) and (table.AP_whole > 0.999).all()
    upper = table[table.kept == "upper"].set_index("share")
    assert upper.joints.tolist() == [1, 2, 3] and upper.people.tolist() == [12, 12, 12]
    side = table[(table.kept == "side") & (table.share == 0.3)]
    assert side.joints.tolist() == [1]  # the left hand of some, the right foot of the others


def test_who_needs_the_head_fails_without_it_and_the_control_does_not():
    table = visible_share.examine(Seer(needs=True), Dots(), shares=(0.3, 0.7), kept=("upper", "lower"))
    table = table.set_index(["kept", "share"])
    assert table.AP["upper"].tolist() == pytest.approx([1, 1, 1])
    assert table.AP["lower"].tolist() == pytest.approx([0, 0, 1])
    assert table.AP_whole.tolist() == pytest.approx([1] * 6)


def test_whole_people_are_chosen_evenly_and_only_they():
    data = Dots(lost=(0, 1))
    assert len(visible_share.whole_bodies(data)) == 10 and len(visible_share.whole_bodies(data, 0.6)) == 12
    few = visible_share.whole_bodies(data, people=3)
    assert few.image_index.tolist() == [0, 3, 5] and few.labelled.all()
    with pytest.raises(ValueError, match="nobody in dots has 110% of the joints labelled: lower `least`"):
        visible_share.whole_bodies(data, 1.1)


def test_a_body_box_holds_joints_that_the_annotated_box_does_not():
    class Short(Dots):
        def target(self, i):
            target = super().target(i)
            return target | {"boxes": target["boxes"] - np.array([0, 0, 0, 60])}

    people = visible_share.whole_bodies(Short())
    assert visible_share.inside(people.keypoints, people.boxes).all()
    assert (people.boxes[:, 3] == people.keypoints[:, 2, 1]).all()


def test_the_cuts_of_one_person_are_drawn_with_what_was_found_of_the_joints_that_are_left():
    data = Dots()
    cuts = visible_share.examples(Seer(), data, visible_share.whole_bodies(data).select([2]), (0.3, 0.7))
    assert [(one.kept, one.share) for one in cuts[:3]] == [("upper", 0.3), ("upper", 0.7), ("upper", 1.0)]
    left = np.array([np.isfinite(one.truth).all(-1) for one in cuts])
    assert left.sum(1).tolist() == [1, 2, 3, 1, 2, 3, 1, 2, 3] and all(one.oks > 0.95 for one in cuts)
    for one, shown in zip(cuts, left, strict=True):
        assert (np.isfinite(one.found).all(-1) == shown).all() and np.abs(one.found - one.truth)[shown].max() < 1.5
        for k in np.flatnonzero(shown):  # the dot is where the joint is said to be
            x, y = one.truth[k].astype(int)
            assert one.image[y, x].argmax() == k
    fig = vitpose_partial.fig_cuts(cuts, RGB)
    assert len(fig.axes) == 9 and [ax.get_ylabel() for ax in fig.axes[::3]] == list(vitpose_partial.KEPT.values())
    table = vitpose_partial.cut_rows(cuts, RGB)
    assert len(table) == left.sum() and set(table.joint) == set(RGB.keypoints)
    with pytest.raises(ValueError, match="no cut to show"):
        vitpose_partial.fig_cuts([])


def test_people_as_they_come_are_found_in_their_own_boxes():
    table = visible_share.ap_in_annotated_boxes(Seer(), Dots(lost=(0, 1, 2)), (0, 0.5, 0.9, 1))
    assert table.people.tolist() == [0, 3, 9] and table.share[1:].tolist() == pytest.approx([2 / 3, 1])
    assert np.isnan(table.AP[0]) and table.AP[1:].tolist() == pytest.approx([1, 1])


def test_a_real_model_on_drawn_people():
    from posekit.data.drawn.scenes import Scenes

    torch.manual_seed(0)
    data, model = Scenes("people", seed=1, count=4, size=128, people=(1, 2)), models.build("vitpose_tiny").train()
    table = visible_share.examine(model, data, shares=(0.5,), people=3)
    assert table.kept.tolist() == ["upper"] * 2 + ["lower"] * 2 + ["side"] * 2
    assert table.people.between(1, 3).all() and table.AP.between(0, 1).all()
    whole = table[table.share == 1]
    assert (whole.AP == whole.AP_whole).all() and (whole.joints == len(COCO)).all()


def test_models_that_find_people_themselves_are_refused():
    with pytest.raises(ValueError, match="only a top-down model"):
        visible_share.examine(models.build("poet_tiny"), Dots())


def rows(seeds=(0, 1), gain=0.1):
    return pd.DataFrame(
        [
            (name, seed, kept, share, 0.6 * share + gain * i * (1 - share) + 0.01 * seed, 0.6, 50)
            for i, name in enumerate(("whole", "half"))
            for seed in seeds
            for kept in ("upper", "lower")
            for share in (0.25, 0.5, 1.0)
        ],
        columns=["training", "seed", "kept", "share", "AP", "AP_whole", "people"],
    )


def test_the_figure_has_a_column_per_kept_side_and_its_sentences_need_seeds():
    fig = vitpose_partial.fig_partial(rows())
    assert [ax.get_title(loc="left").split("  ")[1] for ax in fig.axes[:2]] == ["upper body kept", "lower body kept"]
    dots = [line for line in fig.axes[2].lines if line.get_linestyle() == "None"]
    assert np.allclose(dots[0].get_ydata(), [7.5, 7.5, 5, 5, 0, 0])
    first, second = vitpose_partial.partial_verdict(rows())
    assert first.startswith("upper body kept") and "AP 23.0 where the same joints of whole bodies have 60.0" in first
    assert "“half” +6.2, **above on every seed**." in first and second.startswith("lower body kept")
    *_, alone = vitpose_partial.partial_verdict(rows(seeds=(0,)))
    assert alone == "One seed: numbers, no verdict." and "**" not in vitpose_partial.partial_verdict(rows((0,)))[0]
    assert "within the spread" in vitpose_partial.partial_verdict(rows(gain=0.005))[0]
