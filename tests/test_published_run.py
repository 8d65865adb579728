"""Published weights as a run folder: scored by the same code, with the pixel convention that they learned."""

import jobs
import numpy as np
import pytest
import torch

from posekit import models, runs
from posekit.files import read_json
from posekit.models.published import COCO, WEIGHTS, Published
from posekit.training.evaluate import evaluate_run
from posekit.training.published_run import published_run
from posekit.training.weights import load


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The shipped rtmo_tiny as if somebody had published it: no run.json beside it."""
    state = load("rtmo_tiny", "scenes").state_dict()
    torch.save({"state_dict": state}, tmp_path / "weights.pth")
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path))
    monkeypatch.setitem(
        WEIGHTS, "rtmo_tiny", Published("rtmo_tiny", "http://127.0.0.1:9/weights.pth", 50.0, COCO, "p", "s")
    )
    return tmp_path


def test_it_is_scored_like_any_run_and_half_a_pixel_lower(small):
    run = published_run("rtmo_tiny", small / "run", dataset="people")
    record = runs.load_run(small / "run")
    assert record["status"] == "done" and record["published"]["ap"] == 50.0 and record["summary"]["parameters"] > 5e5
    assert load("rtmo_tiny", small / "run").input.pixel_centre == 0.0
    theirs = evaluate_run(run, images=8, folder=small / "scores")
    ours = evaluate_run("data/weights/rtmo_tiny", images=8, folder=small / "own")
    assert 0.4 < theirs["AP"] < 1 and abs(theirs["AP"] - ours["AP"]) < 0.1
    first, second = (read_json(small / name / "predictions.json")[0]["keypoints"] for name in ("scores", "own"))
    offset = np.reshape(first, (-1, 3))[:, :2] - np.reshape(second, (-1, 3))[:, :2]
    assert abs(np.median(offset) + 0.5) < 0.3, "the same network, whose numbers mean pixel centres"
    assert published_run("rtmo_tiny", small / "run", dataset="people") == run


def test_what_has_no_ap_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="of rtmdet_nano no AP is published"):
        published_run("rtmdet_nano", tmp_path)
    assert set(models.names()) >= {one.model for one in WEIGHTS.values()}


def test_the_page_puts_both_numbers_side_by_side(small):
    from posebook.published import scores, table

    run = published_run("rtmo_tiny", small / "run", dataset="people")
    evaluate_run(run, images=8, folder=small / "run_scores")
    (one,) = scores([small / "run_scores"])
    assert (one.name, one.theirs, one.images) == ("rtmo_tiny", 50.0, 8) and 40 < one.ours < 100
    shown = table([one])
    assert shown.weights[0] == "rtmo_tiny" and shown.difference[0] == f"{one.ours - 50:+.1f}"
    assert " · rtmo_tiny (published weights) · " in runs.footer(small / "run_scores"), "whoever trained it, not here"
    rest = shown[1:]
    assert (rest["AP here"] == "not run").all() and rest.command.str.contains("-p published").all()
    assert len(shown) == sum(entry.ap is not None for entry in WEIGHTS.values())


def test_the_profile_scores_every_entry_where_its_page_looks():
    wanted = {job.name: job for job in jobs.read("published") if job.worker}
    stated = {name for name, entry in WEIGHTS.items() if entry.ap is not None}
    assert {job.parameters["published"] for job in wanted.values()} <= stated
    for name, job in wanted.items():
        weights = job.parameters["published"].replace(":", "_")
        assert name == f"{weights}_scores" and job.parameters["out_dir"] == f"data/runs/published/{name}"
