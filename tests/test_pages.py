"""Checks by hand that stop a page, and the run that it reads when the one that it asks for is not there."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from posebook import reports, widgets
from posebook.checks import CheckError, check
from posebook.reports import committed_figure, find_run, find_scores, shipped_rivals
from posekit.files import resolve, write_bytes, write_json


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty checkout."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "posekit"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(folder, started="2026-11-20T10:00:00+00:00", status="done", steps=16, file=""):
    record = {"folder": folder, "status": status, "results": {"step": steps}, "parameters": {"steps": steps}}
    write_json(resolve(folder) / "run.json", record | {"provenance": {"started": started}})
    if file:
        write_bytes(resolve(folder) / file, b"")


@pytest.mark.parametrize(
    ("by_hand", "computed", "tolerance"),
    [
        (0.1 + 0.2, 0.3, {"atol": 1e-9}),
        ([1.0, 2.0], torch.tensor([1.0, 2.0000002]), {"rtol": 1e-5}),
        (np.array([0.0, 5.0]), [1e-9, 5.0], {"atol": 1e-6}),
        (41272888, 41272888, {}),
        ([True, False], np.array([True, False]), {}),
        ("left_wrist", "left_wrist", {}),
    ],
)
def test_what_is_the_same_is_said(by_hand, computed, tolerance, capsys):
    check("the bins", by_hand, computed, **tolerance)
    assert capsys.readouterr().out.startswith("the bins: the same by hand and in the code")


@pytest.mark.parametrize(
    ("by_hand", "computed", "tolerance"),
    [
        (0.30001, 0.3, {"rtol": 1e-6}),
        ([1.0, np.nan], [1.0, np.nan], {}),
        ([np.inf], [np.inf], {"rtol": 1e-3}),
        ([1.0], [np.nan], {"atol": 1.0}),
        ([1.0, 2.0], [1.0, 2.0, 3.0], {}),
        ([1.0], 1.0, {}),  # no broadcasting: one number is not an array of them
        (41272888, 41272887, {}),
        (True, False, {}),
        ("left_wrist", "right_wrist", {}),
    ],
)
def test_what_is_not_the_same_stops_the_page(by_hand, computed, tolerance):
    with pytest.raises(CheckError, match="the bins: "):
        check("the bins", by_hand, computed, **tolerance)


def test_a_check_that_cannot_fail_is_refused():
    whole = np.arange(1.0, 4.0)
    for by_hand, computed in ((whole, whole), (whole[:2], whole[:2]), (torch.from_numpy(whole), whole)):
        with pytest.raises(ValueError, match="compared with itself"):
            check("the sum", by_hand, computed)
    with pytest.raises(ValueError, match="nothing to compare"):
        check("the sum", [], [])
    with pytest.raises(ValueError, match="zeros would meet this tolerance"):
        check("the sum", [1e-5, 2e-5], [1e-5, 2e-5], atol=1e-3)


def test_the_first_number_that_is_off_is_named():
    with pytest.raises(CheckError, match=r"3 by hand, 4 in the code, more than 1e-03 apart, as 2 of 3 numbers are"):
        check("joints", [1.0, 3.0, 5.0], [1.0, 4.0, 9.0], atol=1e-3)


def test_a_page_shows_the_newest_run_of_that_name(checkout, capsys):
    assert find_run("") == ""
    made("data/weights/tiny", steps=50000)
    assert find_run("data/runs/mine/tiny") == "data/weights/tiny"
    assert "what comes with the book, data/weights/tiny (50,000 steps)" in capsys.readouterr().out
    made("data/runs/smoke/tiny", "2026-11-29T10:00:00+00:00")  # a few steps, which show nothing
    assert find_run("data/runs/mine/tiny") == "data/weights/tiny" and "smoke" not in capsys.readouterr().out
    made("data/runs/reference/tiny", "2026-11-22T10:00:00+00:00")
    made("data/runs/quick/tiny", "2026-11-21T10:00:00+00:00", steps=3000)
    made("data/runs/late/tiny", "2026-11-23T10:00:00+00:00", status="interrupted")
    made("data/runs/quick/tiny_scores", "2026-11-24T10:00:00+00:00")
    assert find_run("data/runs/mine/tiny") == "data/runs/reference/tiny"
    assert "the newest of that name, data/runs/reference/tiny (16 steps)" in capsys.readouterr().out
    made("data/runs/mine/tiny", "2026-11-01T10:00:00+00:00", status="interrupted")
    assert find_run("data/runs/mine/tiny") == "data/runs/mine/tiny" and capsys.readouterr().out == ""


def test_only_a_run_with_what_the_page_needs_counts(checkout, capsys):
    made("data/runs/quick/tiny_scores")
    assert find_run("data/runs/mine/tiny_scores", has="matches.csv", made_by="11_evaluate", shipped=False) == ""
    told = capsys.readouterr().out
    assert "was not run: notebooks/11_evaluate.ipynb makes it with out_dir = data/runs/mine/tiny_scores" in told
    made("data/runs/quick/tiny_scores", file="matches.csv")
    assert find_run("data/runs/mine/tiny_scores", has="matches.csv") == "data/runs/quick/tiny_scores"
    made("data/runs/quick/study_size/small-0", status="running")
    assert find_run("data/runs/mine/study_size", has="*/run.json", shipped=False) == ""
    made("data/studies/size/small-0")
    assert find_run("data/runs/mine/study_size", has="*/run.json", shipped=False) == "data/studies/size", "its records"
    made("data/runs/quick/study_size/large-0")
    assert find_run("data/runs/mine/study_size", has="*/run.json") == "data/runs/quick/study_size"


def test_a_folder_that_was_named_is_never_replaced(checkout):
    made("data/runs/quick/tiny")
    made("data/weights/tiny")
    for folder in ("data/runs/reference/tiny", "data/weights/small", "data/runs/quick/tiny/sub"):
        with pytest.raises(FileNotFoundError, match=f"{folder} has no finished run with run.json"):
            find_run(folder)


def test_shipped_weights_are_scored_when_nobody_has(checkout, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("posekit.training.evaluate.evaluate_run", lambda run, folder: asked.append((run, folder)))
    assert find_scores("data/runs/mine/tiny_scores") == "" and not asked  # nothing to score
    made("data/weights/tiny")
    assert find_scores("data/runs/mine/tiny_scores") == "data/runs/mine/tiny_scores"
    assert asked == [("data/weights/tiny", "data/runs/mine/tiny_scores")]
    made("data/runs/quick/tiny_scores", file="matches.csv")
    assert find_scores("data/runs/mine/tiny_scores") == "data/runs/quick/tiny_scores" and len(asked) == 1


def test_a_figure_that_comes_with_the_book(checkout, capsys):
    (checkout / "figures" / "reference").mkdir(parents=True)
    pd.DataFrame({"ms": [1.5]}).to_csv(checkout / "figures/reference/speed.csv", index=False)
    assert reports.committed("speed").ms.tolist() == [1.5]
    assert "figures/reference/speed.csv" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no figure called speeds comes with the book"):
        reports.committed("speeds")


def test_sliders_draw_when_they_are_moved_and_not_before():
    from ipywidgets import FloatSlider, IntSlider

    drawn, x, layer = [], FloatSlider(0.5, min=0, max=1), IntSlider(1, min=1, max=3, description="which")
    widgets.sliders(lambda **values: drawn.append(values), x=x, layer=layer)
    assert drawn == [] and (x.description, layer.description) == ("x", "which")
    x.value, layer.value = 0.25, 3
    assert drawn == [{"x": 0.25, "layer": 1}, {"x": 0.25, "layer": 3}]


def test_rivals_are_the_shipped_weights_and_the_boxes_they_had(capsys):
    titles = [files.title for files in shipped_rivals("rtmo_tiny nothing vitpose_tiny")]
    assert titles == [
        "rtmo_tiny, shipped weights",
        "vitpose_tiny, shipped weights, annotated boxes",
        "vitpose_tiny, shipped weights, boxes of rtmdet_tiny",
    ]
    assert capsys.readouterr().out == "data/weights/nothing: not shipped, left out below\n"


def test_a_committed_figure_takes_the_place_of_one_that_was_not_made(capsys):
    shown = committed_figure("vitpose_ext_cuts")
    said = capsys.readouterr().out
    assert "figures/reference/vitpose_ext_cuts.png, which comes with the book" in said
    pixels = cv2.imdecode(np.frombuffer(shown.data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape[1] <= 850 and len(shown.data) < 200_000
    with pytest.raises(FileNotFoundError, match="no figure called nothing comes with the book"):
        committed_figure("nothing")
