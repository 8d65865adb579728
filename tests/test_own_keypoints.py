"""Keypoints of one's own: sigmas given, in the file, or estimated; pairs that a mirror exchanges."""

import json

import numpy as np
import pytest
from coco_files import found, person, truth, write

from posekit.data import open_dataset
from posekit.data.images import DataError
from posekit.data.own_keypoints import estimate_sigmas, with_pairs, with_sigmas
from posekit.evaluation import evaluate
from posekit.layouts import COCO, layout_for

FIVE = ("tip", "port", "starboard", "stern", "mast")


@pytest.fixture
def boat(tmp_path):
    return write(tmp_path, truth([person(1, 1, k=5)], FIVE))


def test_sigmas_of_a_folder_are_given_or_the_files_own_or_stated(boat):
    plain = open_dataset(boat, "val")
    assert (plain.layout.sigmas == 0.079).all() and any("equal OKS sigmas are used" in note for note in plain.notes)
    given = open_dataset(boat, "val", sigmas=[0.1, 0.2, 0.3, 0.4, 0.5])
    assert given.layout.sigmas.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5] and given.sigmas_from == "given"
    assert not any("sigmas" in note for note in given.notes)
    assert open_dataset(boat, "val", sigmas=0.05).layout.sigmas.tolist() == [0.05] * 5
    content = json.loads((boat / "people.json").read_text())
    content["categories"][0]["sigmas"] = [0.02, 0.03, 0.04, 0.05, 0.06]
    (boat / "people.json").write_text(json.dumps(content))
    own = open_dataset(boat, "val")
    assert own.layout.sigmas.tolist() == [0.02, 0.03, 0.04, 0.05, 0.06] and own.sigmas_from == "people.json's own"
    assert open_dataset(boat, "val", sigmas=0.05).sigmas_from == "given"


@pytest.mark.parametrize("sigmas", [0, -1.0, [0.1, 0.2], float("nan"), [0.1, 0.1, 0.1, 0.1, 0.0]])
def test_sigmas_that_cannot_be_are_a_sentence(boat, sigmas):
    with pytest.raises(DataError, match=r"give a number above 0, or 5 of them, one per keypoint"):
        open_dataset(boat, "val", sigmas=sigmas)


@pytest.mark.parametrize(
    ("value", "words"), [([1, 2], "has 2 sigmas for 17"), ("a", "not a list of"), ([True] * 17, "not a")]
)
def test_sigmas_of_a_file_that_cannot_be_are_a_sentence(tmp_path, value, words):
    content = truth([person(1, 1)])
    content["categories"][0]["sigmas"] = value
    with pytest.raises(DataError, match=words):
        open_dataset(write(tmp_path, content), "val")


def test_both_doors_score_with_the_files_own_sigmas():
    content, rows = truth([person(1, 1)]), [found(1, shift=2.0)]
    usual = evaluate(content, rows)
    content["categories"][0]["sigmas"] = (0.1 * COCO.sigmas).tolist()
    strict = evaluate(content, rows)
    assert strict.sigmas_from == "the file's own" and strict.stats["AP"] < usual.stats["AP"]
    assert evaluate(content, rows, sigmas=COCO.sigmas).stats["AP"] == usual.stats["AP"]


def test_a_mirror_exchanges_the_pairs_that_are_given(boat):
    assert not open_dataset(boat, "val").layout.can_flip
    data = open_dataset(boat, "val", flip_pairs=[["port", "starboard"]])
    assert data.layout.flip.tolist() == [0, 2, 1, 3, 4] and data.layout.can_flip
    assert any("flips swap port/starboard" in note for note in data.notes)
    assert open_dataset(boat, "val", flip_pairs=[[1, 2]]).layout.flip.tolist() == [0, 2, 1, 3, 4]
    assert open_dataset(boat, "val", flip_pairs=[]).layout.can_flip, "symmetric by themselves"


@pytest.mark.parametrize(
    "pairs", [[["port", "lee"]], [["port"]], [["port", "mast"], ["mast", "tip"]], [[0, 5]], [[True, 2]]]
)
def test_pairs_that_cannot_be_are_a_sentence(boat, pairs):
    with pytest.raises(DataError, match="flip_pairs"):
        open_dataset(boat, "val", flip_pairs=pairs)


def test_colours_follow_the_pairs_by_name_only():
    layout = with_pairs(layout_for(FIVE), [["port", "starboard"]])
    assert len(layout.colours) == 5 and with_sigmas(COCO, 0.1).limbs == COCO.limbs


def test_sigmas_are_estimated_from_repeated_annotations():
    rng = np.random.default_rng(0)
    true, areas = np.array([0.03, 0.08, 0.1]), rng.uniform(1e3, 1e5, 4000)
    centre = rng.uniform(0, 500, (4000, 1, 3, 2))
    # sigma^2 = E[d^2 / s^2], d^2 over both coordinates
    spread = true[None, None, :, None] * np.sqrt(areas)[:, None, None, None] / np.sqrt(2)
    keypoints = centre + rng.normal(size=(4000, 3, 3, 2)) * spread
    labelled = rng.random((4000, 3, 3)) < 0.9
    np.testing.assert_allclose(estimate_sigmas(keypoints, labelled, areas), true, rtol=0.05)
    labelled[:, :, 1] = False
    labelled[:4, :, 1] = True
    with pytest.raises(ValueError, match="keypoint 1 was annotated twice for 4 people, fewer than 10"):
        estimate_sigmas(keypoints, labelled, areas)
