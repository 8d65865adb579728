"""Which images a page shows: drawn anew for print with their poses, and ranked by mean OKS."""

from types import SimpleNamespace

import numpy as np
import pytest

from posebook import selection
from posebook.figures import people
from posekit.data.drawn.scenes import Scenes


def files(errors):
    """A run whose poses on image i are the annotated ones, `errors[i]` pixels to the right."""
    data = Scenes("people", 5, len(errors), size=64, people=(1, 3))

    def run_model(indices):
        for i in indices:
            target = data.target(i)
            poses = people.from_target(target)
            poses.keypoints = np.nan_to_num(poses.keypoints) + [errors[i], 0]
            yield data.image(i), target, poses, None, None

    return SimpleNamespace(data=data, run_model=run_model)


def test_an_example_is_the_same_scene_larger():
    data = files([0.0]).data
    poses = people.from_target(data.target(0))
    image, larger, target, oks = selection.example(data, data.ids[0], poses, 0.5)
    assert image.shape == (384, 384, 3) and oks == 0.5
    again = Scenes("people", 5, 1, size=384, people=(1, 3)).target(0)
    for name in ("keypoints", "boxes", "areas"):
        np.testing.assert_allclose(target[name], again[name], rtol=1e-5)
    labelled = data.target(0)["visibility"] > 0
    np.testing.assert_allclose(larger.keypoints[labelled], again["keypoints"][labelled], atol=1e-3)
    blurred = image.reshape(64, 6, 64, 6, 3).mean((1, 3))
    assert abs(blurred - data.image(0)).mean() < 12, "it shows something else"


def test_images_are_ranked_by_the_mean_oks_of_their_people():
    errors = [4.0, 0.0, 30.0, 1.0, 8.0, 2.0]
    rows = selection.thirds(files(errors), range(6), 2)
    assert list(rows) == ["best", "median", "worst"]
    scores = {name: [oks for *_, oks in row] for name, row in rows.items()}
    assert scores["best"][0] == pytest.approx(1.0) and scores["best"] == sorted(scores["best"], reverse=True)
    assert scores["worst"] == sorted(scores["worst"]) and scores["worst"][1] < scores["best"][1]
    assert max(scores["worst"]) <= min(scores["median"]) <= max(scores["median"]) <= min(scores["best"])
    fig = people.gallery(rows)
    names = [ax.get_ylabel() for ax in fig.axes if ax.get_ylabel()]
    assert names == ["best", "median", "worst", "worst, annotated"]


def test_without_annotations_there_is_no_row_of_them():
    data = files([0.0]).data
    image, poses, target, oks = selection.example(data, data.ids[0], people.from_target(data.target(0)), 1.0)
    fig = people.gallery({"best": [(image, poses, target, oks)] * 3, "worst": [(image, poses, None, 0.1)]})
    assert sum(ax.axison for ax in fig.axes) == 4 and len(fig.axes) == 6
