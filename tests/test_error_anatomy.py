"""The page on errors: gains and shares of a shipped model on a few images, and the two figures."""

import numpy as np
import pandas as pd
import pytest

from posebook.analysis.error_anatomy import MENDED, Anatomy
from posebook.figures import errors
from posebook.reports import RunFiles
from posekit.evaluation.errors import KINDS
from posekit.training.evaluate import evaluate_run


@pytest.fixture(scope="module")
def anatomy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    evaluate_run("data/weights/rtmo_tiny", images=12, folder=folder, report=lambda line: None)
    return Anatomy(RunFiles(folder))


def test_mending_everything_brings_most_and_no_mending_costs(anatomy):
    gains = anatomy.gains()
    assert gains.AP == pytest.approx(RunFiles(anatomy.files.folder).metrics["AP"], abs=1e-9)
    assert list(gains.index[1:]) == list(MENDED) and (gains > -1e-9).all()
    assert gains["all joints"] >= gains[list(KINDS[1:])].max() and gains.AP + gains["all joints"] <= 1


def test_shares_add_up(anatomy):
    shares = anatomy.shares()
    assert shares[list(KINDS)].sum() == pytest.approx(1) and shares.between(0, 1).all()
    by_joint = anatomy.by_joint()
    assert by_joint.joint.tolist()[0] == "nose" and np.allclose(by_joint[list(KINDS)].sum(1), 1)


def test_reliability_counts_detections_and_joints(anatomy):
    bins = anatomy.reliability()
    assert set(bins.what) == {"score", "visibility"} and (bins["count"] > 0).all()
    joints = bins[bins.what == "visibility"]["count"].sum()
    assert joints == 17 * len(anatomy.errors.pairs) and bins.observed.between(0, 1).all()


def test_every_system_stands_in_both_figures(anatomy):
    names = ["rtmo_tiny", "vitpose_tiny, boxes given", "vitpose_tiny_student, boxes given"]
    gains, shares = anatomy.gains(), anatomy.shares()
    row = {"AP": gains.AP} | shares.to_dict() | {f"gain {kind}": gains[kind] for kind in MENDED}
    rows = pd.DataFrame([{"system": name} | row for name in names])
    bins = pd.concat([anatomy.reliability().assign(system=name) for name in names])
    models = dict(zip(names, ("rtmo_tiny", "vitpose_tiny", "vitpose_tiny"), strict=True))
    for fig in (errors.all_errors(rows), errors.all_calibration(bins, models)):
        words = " ".join(text.get_text() for text in fig.findobj(match=lambda part: hasattr(part, "get_text")))
        assert "rtmo_tiny" in words and "drawn people" in words
        fig.draw_without_rendering()
        assert fig.get_tightbbox().x1 < fig.get_figwidth() + 0.05
