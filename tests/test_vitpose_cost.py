"""What ViTPose costs: counts against published ones, memory of windows, the processes; people as reports show them."""

import numpy as np
import pandas as pd
import pytest
import torch

from posebook import tables
from posebook.analysis import crop_views
from posebook.benchmarks import vitpose_cost
from posebook.figures import vitpose_training
from posebook.studies import study
from posekit.data import open_dataset
from posekit.layouts import COCO
from posekit.models import build

SIZE = (72, 96)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return open_dataset("people", "val", count=3, size=128, people=(2, 3), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return build("mae_tiny").eval()


def words(fig):
    return " ".join(text.get_text() for text in fig.findobj(lambda part: hasattr(part, "get_text")))


def test_multiply_adds_are_those_by_hand_and_those_that_were_published():
    tokens, channels = 192, 768
    blocks = 12 * (tokens * 12 * channels**2 + 2 * tokens**2 * channels)
    patches = tokens * 3 * 16**2 * channels
    decoder = 16 * 256 * tokens * (channels + 4 * 256) + 16 * tokens * 256 * 17
    assert vitpose_cost.gmac("vitpose_b") == pytest.approx((blocks + patches + decoder) / 1e9, rel=1e-6)
    paper = tables.read_paper("vitpose_attention").set_index("variant").gflops
    for name, changes in study("attention").published.items():
        counted = vitpose_cost.gmac("vitpose_b", changes["model_options"], decoder=False)
        assert counted == pytest.approx(paper[name], rel=0.01), name


def kept(kernel, **options):
    """MB that a forward pass keeps, 192 tokens a crop."""
    model = build("vitpose_tiny", ratio=2, padding=3, **options).train()
    with torch.nn.attention.sdpa_kernel(vitpose_cost.KERNELS[kernel]), vitpose_cost.keeping(model) as sizes:
        outputs = model(torch.zeros(4, 3, 96, 72))
    assert outputs["heatmaps"].requires_grad
    return sum(sizes.values()) / vitpose_cost.MB


def test_windows_save_memory_where_scores_are_kept_and_nothing_with_the_fused_kernel():
    window = {"attention": "window", "window": (4, 4)}
    full, windowed = kept("scores"), kept("scores", **window)
    scores = 4 * 4 * 4 * (192**2 - 12 * 16**2) * 4 / vitpose_cost.MB  # crops, blocks, heads, pairs fewer, bytes
    assert full - windowed == pytest.approx(scores, rel=0.02)
    assert kept("fused", **window) == pytest.approx(kept("fused"), rel=0.02)


def test_cases_take_what_a_study_changes():
    variants = study("attention").variants
    found = vitpose_cost.cases("attention", "vitpose_tiny", variants, ("scores", "fused"), 2, ["pool"])
    told = [(case.kernel, case.crops, case.options["attention"]) for case in found]
    assert told == [("scores", 2, "pool"), ("fused", 2, "pool")]
    named = vitpose_cost.cases("size", "", study("scaling").published, only=["ViTPose-S"], drop_path=0.0)
    assert [(case.model, case.options) for case in named] == [("vitpose_s", {"drop_path": 0.0})]
    for wrong in ({"only": ["wide"]}, {"kernels": ["flash"]}):
        with pytest.raises(ValueError, match="there is no (variant 'wide'|kernel 'flash'); choose of"):
            vitpose_cost.cases("attention", "vitpose_tiny", variants, **wrong)


def test_every_case_is_measured_in_a_process_of_its_own():
    small = {"depth": 1, "dim": 32, "heads": 2}
    frozen = small | {"freeze": {"attention": True}}
    cases = [
        vitpose_cost.Case("size", "vitpose_tiny", name, options, crops=2)
        for name, options in (("whole", small), ("frozen", frozen))
    ]
    seen = []
    rows = vitpose_cost.cost_rows(cases, repeats=1, report=seen.append).set_index("variant")
    assert len(seen) == 2 and (rows.threads == 1).all() and (rows.window == "").all()
    assert (rows[["gmac", "kept_mb", "step_ms", "ms"]] > 0).all(axis=None)
    assert rows.per_s.tolist() == pytest.approx((1000 / rows.ms).tolist())
    assert rows.trained_m["whole"] == rows.params_m["whole"] == rows.params_m["frozen"] > rows.trained_m["frozen"]
    assert rows.weights_mb["frozen"] < rows.weights_mb["whole"]
    broken = vitpose_cost.Case("size", "vitpose_tiny", "odd", {"dim": 30, "heads": 4})
    with pytest.raises(RuntimeError, match="vitpose_tiny with attention odd and 1 crop.* was not measured"):
        vitpose_cost.cost_rows([broken])


def test_the_figure_of_costs_compares_with_full_attention():
    rows = [("full", "scores", 200.0), ("full", "fused", 100.0), ("window", "scores", 90.0), ("window", "fused", 100.0)]
    rows = pd.DataFrame(rows, columns=["variant", "kernel", "peak_mb"]).assign(step_ms=20.0, gmac_transformer=0.15)
    told = words(vitpose_training.fig_cost(rows, "tiny, 2 crops"))
    assert "90  -55 %" in told and "fused kernel" in told and "tiny, 2 crops" in told
    assert "fused kernel" not in words(vitpose_training.fig_cost(rows[rows.kernel == "scores"]))
    with pytest.raises(ValueError, match="15_vitpose_cost"):
        vitpose_training.fig_cost(rows[:0])


def test_a_crop_view_shows_a_person_with_its_joints(people):
    one = crop_views.crop_view(people, 0, SIZE)
    target = people.target(0)
    most = (target["visibility"] > 0).sum(1).max()
    known = np.isfinite(one.pose.keypoints[0]).all(1)
    assert one.image.shape == (96, 72, 3) and known.sum() == most
    assert ((one.pose.keypoints[0][known] > 0) & (one.pose.keypoints[0][known] < SIZE)).all()  # padded by a quarter

    class Nobody:
        name = "empty pictures"

        def target(self, index):
            return {"visibility": np.zeros((2, 17), np.uint8)}

    with pytest.raises(ValueError, match="image 4 of empty pictures has no person"):
        crop_views.crop_view(Nobody(), 4, SIZE)


def test_whom_a_page_follows_is_the_median_of_the_most_labelled():
    errors = np.array([[9.0, 1, 2], [1, 1, 1], [3, 1, 2], [np.nan, 2, 3], [5, 6, 4]])  # means 4, 1, 2, -, 5
    assert crop_views.typical(errors) == (2, 2, 2.0)  # of four the lower of the middle two; its joints: 3, 1, 2
    assert crop_views.typical(errors[:3])[0] == 2 and crop_views.typical(errors[[0]]) == (0, 2, 4.0)
    assert crop_views.typical(errors[[3]]) == (0, 1, 2.5)  # of a person's labelled joints
    with pytest.raises(ValueError, match="none of 1 people"):
        crop_views.typical(np.full((1, 3), np.nan))


def test_an_autoencoder_that_learned_nothing_gives_the_brightness(people, autoencoder):
    seen = [crop_views.crop_view(people, i, SIZE) for i in range(2)]
    with torch.no_grad():
        for part in (autoencoder.decoder_pred.weight, autoencoder.decoder_pred.bias):
            part.zero_()
    for one, painted in zip(seen, crop_views.reconstruct(autoencoder, seen), strict=True):
        assert painted.masked.sum() == 36 and painted.error == pytest.approx(1, abs=0.01)
        assert np.abs(painted.reconstructed.astype(int) - painted.brightness).max() <= 1
        shown = ~np.kron(painted.masked, np.ones((12, 12), bool))
        assert np.array_equal(painted.visible[shown], one.image[shown]) and (painted.visible[~shown] == 150).all()
        assert np.abs(painted.reconstructed[shown].astype(int) - one.image[shown]).max() <= 1
    told = words(vitpose_training.fig_reconstruction(crop_views.reconstruct(autoencoder, seen), "drawn people"))
    assert "75% of 8 x 6 patches masked" in told and "1.00" in told
    with pytest.raises(ValueError, match="nothing was reconstructed"):
        vitpose_training.fig_reconstruction([])


def test_data_sets_are_shown_as_annotated_and_as_found(people):
    torch.manual_seed(0)
    model = build("vitpose_tiny").eval()
    some = [crop_views.crop_view(people, i, SIZE) for i in range(2)]
    sets = [("people", COCO, some, crop_views.find_poses(model, [one.image for one in some]))]
    rows = vitpose_training.dataset_rows(sets)
    assert len(rows) == 34 and rows["found x"].between(-1, 73).all() and rows.x.notna().any()
    told = words(vitpose_training.fig_datasets(sets))
    assert "annotated" in told and "found by its own decoder" in told and "people\n17 joints" in told
    with pytest.raises(ValueError, match="no data set"):
        vitpose_training.fig_datasets([])
