"""What the sliders of the book draw: limits and stated effects of the moved numbers; and one slider in a browser."""

import shutil
from pathlib import Path

import lab
import nbformat
import numpy as np
import pytest
import torch

from posebook import playground
from posebook.analysis import coordinate_classifier, target_sigma, windows
from posebook.analysis.leniency import Leniency
from posebook.analysis.matching import matching_terms
from posebook.figures import metrics, poet_matching, rtmo_likelihood, vitpose_target, vitpose_windows
from posebook.figures import playground as playground_figures
from posekit.data.drawn.scenes import Scenes
from posekit.losses.poet import PoetCriterion
from posekit.models.coordinate_classifier import classifier
from posekit.models.poet import poet_tiny

ROOT = Path(__file__).parents[1]
PAPER = {"w_class": 1.0, "w_abs": 4.0, "w_ctr": 0.5, "w_deltas": 0.5, "w_vis": 0.2}


# --- POET: the weights of the matching cost ---


@pytest.fixture(scope="module")
def matched():
    """(terms, outputs, target, image): two people, three queries. Query 0 lies on person 0 and query 1 on person 1;
    query 2 lies between them and is the surest."""
    scenes = Scenes(seed=3, count=1, people=(2, 2), size=128)
    target = scenes.target(0)
    model = poet_tiny(num_queries=3).eval()
    size = torch.tensor([128.0, 128.0])
    points = torch.tensor(target["keypoints"])
    queries = torch.cat([points, points.mean(0, keepdim=True)]) / size
    centers = queries.mean(1)
    joints = torch.cat([(queries - centers[:, None]) / 2 + 0.5, torch.full((3, 17, 1), 0.5)], -1)
    pose = torch.cat([centers, joints.flatten(1)], -1)[None, None]
    logits = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 8.0, 0.0]])[None, None]
    named = {"keypoints": points, "visibility": torch.full((2, 17), 2), "size": size, "to_original": torch.eye(2, 3)}
    outputs = {"logits": logits, "pose": pose}
    return matching_terms(model, outputs, [named]), outputs, named, scenes.image(0)


def test_the_cost_is_the_criterions(matched):
    terms, outputs, target, _ = matched
    criterion = PoetCriterion(17, **PAPER)
    parts = criterion.cost(outputs["logits"], outputs["pose"], criterion.pack([target], "cpu"))
    np.testing.assert_allclose(terms.cost(**PAPER), sum(parts.values())[0, 0], rtol=1e-5)
    np.testing.assert_allclose(terms.cost(), sum(PoetCriterion(17).cost(*_arguments(outputs, target)).values())[0, 0])


def _arguments(outputs, target):
    return outputs["logits"], outputs["pose"], PoetCriterion(17).pack([target], "cpu")


def test_lambdas_decide_who_is_matched(matched):
    terms = matched[0]
    assert terms.assign(**PAPER)[1] == [(0, 0), (1, 1)]
    surest = terms.assign(**PAPER | {"w_class": 1000.0})[1]
    assert 2 in [query for query, _ in surest]  # the surest query gets somebody, wherever it lies
    alone = dict.fromkeys(PAPER, 0.0) | {"w_class": 1.0}
    assert np.ptp(terms.cost(**alone), axis=1).max() < 1e-6  # the class alone does not tell people apart
    assert terms.assign(**dict.fromkeys(PAPER, 0.0) | {"w_abs": 1.0})[1] == [(0, 0), (1, 1)]


def test_a_wrong_weight_is_named(matched):
    with pytest.raises(ValueError, match="w_abs is -1"):
        matched[0].cost(w_abs=-1)
    with pytest.raises(TypeError, match="w_pose"):
        matched[0].cost(w_pose=1)


def test_poses_stand_in_the_order_of_the_queries(matched):
    terms, outputs, _, image = matched
    np.testing.assert_allclose(terms.poses[0].centers, outputs["pose"][0, 0, :, :2] * 128, rtol=1e-5)
    cost, pairs = terms.assign(**PAPER)
    points = matched[2]["keypoints"].numpy()
    target = {"keypoints": points, "visibility": np.full((2, 17), 2), "boxes": np.zeros((2, 4))}
    fig = poet_matching.matching(image, target, terms.poses[0], cost, pairs, usual=[(0, 0)], words="weights")
    assert len(fig.axes[1].patches) == 2 and len(fig.axes[0].lines) == 2
    assert fig.axes[1].patches[0].get_edgecolor() != fig.axes[1].patches[1].get_edgecolor()  # one is not the usual one


# --- RTMO: bins, temperature, sigma ---


@pytest.fixture(scope="module")
def read():
    """(classifier, its inputs for one person)."""
    torch.manual_seed(0)
    module = classifier(32, 17, bins=(32, 48), dim=16).eval()
    return module, (torch.randn(1, 32), torch.tensor([[20.0, 10.0, 60.0, 100.0]]), torch.tensor([[40.0, 50.0]]))


@torch.no_grad()
def test_as_trained_it_is_the_classifier(read):
    module, inputs = read
    before = {name: value.clone() for name, value in module.named_buffers()}
    again, plain = coordinate_classifier.read_again(module, *inputs), module(*inputs)
    for name in ("heatmap_x", "heatmap_y", "bins_x", "keypoints"):
        torch.testing.assert_close(again[name], plain[name], atol=1e-4, rtol=1e-4)
    coordinate_classifier.read_again(module, *inputs, bins=9, period=50.0)
    assert all(value.equal(before[name]) for name, value in module.named_buffers())  # the model is left alone


def test_bins_cover_the_same_range_whatever_their_number(read):
    made = coordinate_classifier.read_again(*read[:1], *read[1], bins=8)
    assert made["heatmap_x"].shape[-1] == 8 and made["heatmap_y"].shape[-1] == 12
    trained = coordinate_classifier.read_again(*read[:1], *read[1])
    assert made["bins_x"][0, [0, -1]].tolist() == trained["bins_x"][0, [0, -1]].tolist()


def test_temperature_goes_from_the_highest_bin_to_all_alike(read):
    cold, hot = (coordinate_classifier.read_again(*read[:1], *read[1], temperature=t) for t in (1e-4, 1e5))
    assert float(cold["heatmap_x"].max(-1).values.min()) > 0.999
    torch.testing.assert_close(hot["heatmap_x"], torch.full_like(hot["heatmap_x"], 1 / 32), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(hot["keypoints"][..., 0], torch.full((1, 17), 40.0), atol=1e-2, rtol=0)


def test_likelihood_falls_with_a_sigma_that_is_too_small_and_one_that_is_too_large(read):
    made = coordinate_classifier.read_again(*read[:1], *read[1])
    truth = made["keypoints"][0, 3].numpy() + 5
    found = [coordinate_classifier.coordinate(made, 3, truth, 1600.0, sigma) for sigma in (0.001, 0.1, 100.0)]
    losses = [one.loss for one in found]
    assert losses[1] < losses[0] and losses[1] < losses[2]
    # a wide error model says 1 / sigma of every place
    assert found[2].likelihood["x"] == pytest.approx(1 / 100, rel=1e-2)
    assert found[1].loss == pytest.approx(-sum(np.log(list(found[1].likelihood.values()))), abs=1e-3)
    fig = rtmo_likelihood.likelihood_of(found[1], "left eye", "settings")
    assert "32 bins" in fig.axes[0].get_title(loc="left")


def test_what_cannot_be_read_again_is_named(read):
    with pytest.raises(ValueError, match="0 bins, temperature 0"):
        coordinate_classifier.read_again(*read[:1], *read[1], temperature=0)
    with pytest.raises(ValueError, match="'cc'"):
        coordinate_classifier.read_again(classifier(32, 17, "cc", bins=(4, 4), dim=16), *read[1])


# --- ViTPose: sigma of the target, windows of attention ---


def test_a_target_without_width_keeps_the_cell_alone():
    points, labelled = np.random.default_rng(0).uniform(24, 48, (20, 17, 2)), np.ones((20, 17), bool)
    errors = target_sigma.decoding_errors(points, labelled, (72, 96), (18, 24), (0.1, 1.0, 2.0)).set_index("sigma")
    assert errors.dark[0.1] == pytest.approx(errors.argmax[0.1], rel=0.1)  # nothing is left to be finer with
    assert errors.dark[2.0] < 0.1 < errors.quarter[2.0] < errors.argmax[2.0]
    assert errors.argmax[1.0] == pytest.approx(errors.argmax[2.0])
    maps, places = target_sigma.decoded_targets(points[:1], labelled[:1], (72, 96), (18, 24), 2.0)
    one = {name: where[0, 0] for name, where in places.items()}
    image, unit = np.zeros((96, 72, 3), np.uint8), np.array([4.2, 4.1])
    fig = vitpose_target.fig_sigma(image, maps[0, 0], one, one["dark"], unit, errors.reset_index(), 2.0)
    assert "σ = 2 cells" in fig.axes[0].get_title(loc="left")


def test_window_masks():
    full, cut = windows.allowed((8, 6), None), windows.allowed((8, 6), (4, 3))
    assert full.all() and cut.sum() == 48 * 12  # four windows of twelve tokens
    assert len(np.unique(windows.window_numbers((8, 6), (4, 3)))) == 4
    assert windows.allowed((8, 6), (99, 99)).all()  # a window larger than the grid is the grid
    shifted = windows.allowed((8, 6), (4, 3), (2, 1))
    assert shifted[0, 1] == 0 and shifted[13, 33] == 1 and shifted[0, 47] == 0  # no neighbours across the rim
    assert (shifted == shifted.T).all() and len(np.unique(windows.window_numbers((8, 6), (4, 3), (2, 1)))) == 9
    pooled = windows.allowed((8, 6), (4, 3), pool=True)
    assert ((pooled == 1) == (cut == 1)).all() and (pooled[cut == 0] == 2).all()
    assert windows.allowed((5, 5), (4, 4)).shape == (25, 25)  # padding is nobody's


def test_window_costs():
    full = windows.cost((32, 24), None)
    cut, pooled = (windows.cost((32, 24), (8, 8), pool=pool) for pool in (False, True))
    n, c = 768, 768
    assert full.gmac == pytest.approx((4 * n * c * c + 2 * n * n * c) / 1e9)
    assert cut.gmac == pytest.approx((4 * n * c * c + 2 * n * 64 * c) / 1e9)
    assert full.scores_mb == pytest.approx(4 * 12 * n * n / 2**20) and cut.scores_mb == full.scores_mb / 12
    assert cut.gmac < pooled.gmac < full.gmac and pooled.scores_mb == cut.scores_mb * 76 / 64
    assert windows.cost((5, 5), (4, 4), dim=8, heads=2).gmac > 0  # padded
    fig = vitpose_windows.fig_mask((8, 6), (4, 3), (2, 1), True, (99, 0), dim=8, heads=2)
    assert "token (7, 0)" in fig.axes[0].get_title(loc="left")


# --- OKS and AP: sigma and area ---


def test_only_sigma_times_the_root_of_the_area_counts():
    data, rng = Scenes(seed=1, count=12, size=128), np.random.default_rng(0)
    targets = [data.target(i) for i in range(len(data))]
    points = np.concatenate([one["keypoints"] for one in targets])
    ids = np.repeat(data.ids, [len(one["areas"]) for one in targets])
    off = rng.normal(size=points.shape) * 4
    ruler = Leniency.of(data, {"image_id": ids, "keypoints": points + off, "score": rng.uniform(size=len(points))})
    twice, larger, same = ruler.score(2.0), ruler.score(1.0, 4.0), ruler.score(2.0, 0.25)
    assert twice.stats["AP"] == larger.stats["AP"] and same.stats["AP"] == ruler.score().stats["AP"]
    assert ruler.score(1e-3).stats["AP"] == 0 and ruler.score(1e3).stats["AP"] == pytest.approx(1)
    over = ruler.over_sigma()
    assert over.AP.is_monotonic_increasing and over.AP[over.sigma == 1].item() == ruler.score().stats["AP"]
    with pytest.raises(ValueError, match="sigma times 0"):
        ruler.score(0)
    figures = [
        metrics.leniency(data.image(0), targets[0], 0, targets[0]["keypoints"][0] + 2, ruler.score(s, a), over, s, a)
        for s, a in ((1, 1), (2, 1), (1, 4))
    ]
    names = [fig.axes[0].get_title(loc="left") for fig in figures]
    assert names[0] != names[1] == names[2]


# --- the playground ---


def test_every_choice_is_a_recipe_and_is_named_in_the_table():
    for model, options in playground.OPTIONS.items():
        made = [playground.Choice(model, option).recipe for option in options]
        assert len({str(vars(one)) for one in made}) == len(options)
        assert [playground._option(one, model) for one in made] == list(options)
    fast = playground.Choice("poet_tiny", lr=8e-4, start=playground.SHIPPED).recipe
    assert (fast.lr, fast.weights, fast.backbone_steps) == (8e-4, "data/weights/poet_tiny", 0)
    for wrong in ({"model": "poet"}, {"option": "cc"}, {"start": "nothing"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            _ = playground.Choice(**{"model": "poet_tiny"} | wrong).recipe


def test_a_short_run_is_played_shown_and_not_made_twice(tmp_path):
    choice = playground.Choice("rtmo_tiny", steps=4, images=32, val_images=4)
    said, drawn = [], []

    def play(what):
        return playground.play(what, tmp_path, lambda: drawn.append(len(playground.logs(tmp_path))), said.append)

    assert playground.page(tmp_path) == "No run yet." and playground.logs(tmp_path) == {}
    run = play(choice)
    assert run.name == "001" and len(drawn) >= 2 and drawn[-1] == 1
    assert "4 steps" in said[-1] and "64 images seen" in said[-1] and said[-1].endswith("numbers, no verdict.")
    assert play(choice) == run and any("nothing to train" in line for line in said)
    assert play(playground.Choice("rtmo_tiny", lr=1e-4, steps=2, images=32, val_images=4)).name == "002"
    rows = playground.table(tmp_path)
    assert rows.run.tolist() == ["001", "002"] and {"lr", "steps"} < set(rows) and "seed" not in rows
    assert "1.0e-04" in playground.page(tmp_path).to_html()
    assert len(playground_figures.curves(playground.logs(tmp_path)).axes[0].lines) == 4
    assert "not run" in str([text.get_text() for text in playground_figures.curves({}).axes[0].texts])


def test_a_stopped_run_says_so_and_goes_on(tmp_path, monkeypatch):
    import os
    import signal

    from posekit.training.loop import Loop

    choice, said = playground.Choice("rtmo_tiny", steps=4, images=32, val_images=4), []
    train_batch = Loop.train_batch

    def stopped(loop, batch):
        os.kill(os.getpid(), signal.SIGINT)  # Jupyter's stop button
        train_batch(loop, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train_batch", stopped)
        run = playground.play(choice, tmp_path, report=said.append)
    assert "interrupted at step 1 of 4" in " ".join(said) and "interrupted" in said[-1]
    assert playground.play(choice, tmp_path, report=said.append) == run and "done: 4 steps" in said[-1]


# --- in JupyterLab ---

CELLS = (
    """
import numpy as np

from posebook.analysis import windows
from posebook.figures import style, vitpose_windows
from posebook.widgets import sliders


def drawn(rows):
    return style.as_image(vitpose_windows.fig_mask((8, 6), (rows, 3), dim=8, heads=2))


drawn(4)
""",
    """
from ipywidgets import IntSlider

sliders(drawn, rows=IntSlider(4, min=2, max=8))
""",
)
IMAGES = ".jupyter-widgets img, .jp-OutputArea-output img"


@pytest.mark.browser
@pytest.mark.skipif(bool(lab.missing()), reason=lab.missing() or "there is a browser")
def test_a_slider_redraws_its_figure_in_jupyterlab(tmp_path):
    book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, CELLS)))
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}  # or it asks
    nbformat.write(book, tmp_path / "a.ipynb")
    with lab.lab(tmp_path) as (driver, address):
        lab.run_all(driver, address, "a.ipynb")
        move_and_watch(driver)


@pytest.mark.long
@pytest.mark.skipif(bool(lab.missing()), reason=lab.missing() or "there is a browser")
def test_the_first_slider_of_20_moves_its_figure(tmp_path):
    shutil.copy(ROOT / "notebooks/20_poet.ipynb", tmp_path)
    with lab.lab(tmp_path) as (driver, address):
        lab.run_all(driver, address, "20_poet.ipynb")
        move_and_watch(driver)


def move_and_watch(driver) -> None:
    """The first slider, moved by the keyboard: an image appears, and at the next key another one in its place."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def images():
        # at once, in the page: between two calls it may replace an image
        return driver.execute_script(f"return [...document.querySelectorAll('{IMAGES}')].map(image => image.src)")

    handle = lab.until(lambda: driver.find_elements(By.CSS_SELECTOR, ".noUi-handle"), what="a slider")[0]
    static = images()
    lab.scrolled_to(driver, handle).send_keys(Keys.ARROW_RIGHT)
    first = lab.until(lambda: set(images()) - set(static), what="the figure of the moved slider")
    handle.send_keys(Keys.ARROW_RIGHT)
    second = lab.until(lambda: set(images()) - set(static) - first, what="another figure")
    assert second and all(source.startswith("data:image/") for source in first | second)
