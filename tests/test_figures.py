"""Figures: repeatable bytes, nothing outside the page, colours that stay apart, honest labels."""

import itertools

import numpy as np
import pandas as pd
import pytest

from posebook.figures import people, poet, poet_images, poet_overview, style, training
from posekit.layouts import COCO
from posekit.poses import Poses


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def scene(rng, n=3, queries=6, size=96):
    """(image, target, predictions) with random joints: the drawing does not care for anatomy."""
    keypoints = rng.uniform(0.2, 0.8, (queries, 17, 2)) * size
    image = np.tile(np.linspace(40, 200, size)[:, None, None], (1, size, 3)).astype(np.uint8)
    visibility = rng.integers(0, 3, (n, 17)).astype(np.uint8)
    visibility[:, 0] = 2
    low, high = keypoints[:n].min(1), keypoints[:n].max(1)
    target = {
        "keypoints": keypoints[:n].astype(np.float32),
        "visibility": visibility,
        "boxes": np.concatenate([low, high], 1),
        "areas": (high - low).prod(1),
    }
    scores = np.sort(rng.uniform(0, 1, queries))[::-1]
    poses = Poses(
        keypoints.astype(np.float32),
        rng.uniform(0, 1, (queries, 17)),
        scores,
        centers=keypoints.mean(1).astype(np.float32),
    )
    return image, target, poses


def run_log(epochs=12, drop=8):
    epoch = np.arange(1, epochs + 1)
    log = pd.DataFrame({"epoch": epoch, "step": epoch * 100, "minutes": epoch * 0.5})
    log["lr"] = np.where(epoch > drop, 1e-5, 1e-4)
    for term in poet.TERMS:
        name = term if term == "total" else term
        log[f"train_{name}"], log[f"val_{name}"] = 3.0 / epoch, 3.5 / epoch
    for name in ("AP", "AP50", "APM", "APL"):
        log[name] = np.where(epoch % 2 == 0, 0.4 * epoch / epochs, np.nan)
    return log


def over_epochs(log):
    return training.ap_over_epochs(log, "poet_tiny", "drawn people")


def speed():
    rows = []
    for method, fixed, each in (("poet_r50", 300, 0), ("simple_baseline_r50", 0, 70)):
        for n in (0, 1, 5, 13):
            for part in ("F", "total"):
                value = fixed + each * n
                rows.append((method, n, part, value, value * 0.95, value * 1.05))
    return pd.DataFrame(rows, columns=["method", "people", "part", "median_ms", "q25", "q75"])


def every_figure(rng):
    """(stem, figure, data) of every figure function."""
    image, target, poses = scene(rng)
    log, maps = run_log(), [((30.0, 40.0), rng.random((4, 4))) for _ in range(6)]
    decoder = [(rng.random((4, 4)), poses.select([i])) for i in range(3)]
    depth = pd.DataFrame({"layer": [1, 2, 3], "AP": [0.2, 0.3, 0.33], "AP50": [0.4, 0.5, 0.6]})
    offsets = pd.DataFrame({"dx": rng.normal(0, 0.05, 200), "dy": rng.normal(0, 0.05, 200)})
    joints = poet_images.fig10_data(target["visibility"], poses.visibility[:3])
    yield "poet_fig01_speed", poet.fig01_speed(speed(), "1 CPU thread"), speed()
    yield "poet_fig02_overview", poet_overview.fig02_overview(image, target, poses, [(2, 0), (0, 1)]), depth
    yield "poet_fig03_losses", poet.fig03_losses(log, weights={"loss_ce": 1}), log
    yield (
        "poet_fig04_examples",
        poet_images.fig04_examples([(image, poses, target, 0.9)] * 3, [(image, poses, None, 0.1)]),
        depth,
    )
    yield "poet_fig05_map", over_epochs(log), log
    yield (
        "poet_fig07_attention",
        poet_images.fig07_attention(image, maps, decoder),
        poet_images.fig07_data(maps, decoder),
    )
    strides = pd.DataFrame({"method": ["POET", "AE", "AE"], "stride": [16, 4, 16], "AP": [0.2, 0.3, 0.1]})
    yield "poet_fig06_stride", poet.fig06_stride(strides), strides
    yield "poet_fig08_decoder_depth", poet.fig08_decoder_depth(depth), depth
    yield (
        "poet_fig09_centers",
        poet_images.fig09_centers(
            [(image, poses)], offsets, [(image, poses, poses)], COCO, "drawn people", 0.0, "released"
        ),
        offsets,
    )
    yield "poet_fig10_visibility", poet_images.fig10_visibility(joints), joints
    yield "poet_ext_queries", poet.ext_queries(log, log), log
    yield "contact_sheet", people.grid([image] * 5, [poses] * 5, [str(i) for i in range(5)]), depth


TWICE = ("poet_fig01_speed", "poet_fig07_attention")  # lines, images: what writes the bytes is the same for all


def test_every_figure_is_saved_says_drawn_people_and_has_the_same_bytes_twice(tmp_path):
    footer = "commit 0000000 · seed 0 · " * 20
    twice = zip(every_figure(np.random.default_rng(0)), every_figure(np.random.default_rng(0)), strict=True)
    for (stem, first, data), (_, second, _) in twice:
        size = tuple(first.get_size_inches())
        a = style.save(first, stem, data, tmp_path / "a", footer)
        if stem in TWICE:
            b = style.save(second, stem, data, tmp_path / "b", footer)
            assert [path.read_bytes() for path in a] == [path.read_bytes() for path in b], stem
        assert [path.suffix for path in a] == [".svg", ".png", ".csv"]
        assert a[0].stat().st_size < 1_000_000
        assert tuple(first.get_size_inches()) == size and not [t for t in first.texts if "commit" in t.get_text()]
        words = " ".join(_texts(first))
        assert "COCO" not in words, f"{stem} names COCO"
        if stem not in ("poet_fig01_speed", "contact_sheet"):
            assert "drawn people" in words, f"{stem} does not say on what it was measured"


def _texts(fig):
    import matplotlib.text

    return [text.get_text() for text in fig.findobj(matplotlib.text.Text)]


def test_saving_again_replaces_whole_files_and_refuses_odd_stems(tmp_path):
    data = pd.DataFrame({"layer": [1, 2], "AP": [0.1, 0.2]})
    for _ in range(2):
        style.save(poet.fig08_decoder_depth(data), "depth", data, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depth.csv", "depth.png", "depth.svg"]
    assert pd.read_csv(tmp_path / "depth.csv").equals(data)
    with pytest.raises(ValueError, match="Fig 8"):
        style.save(poet.fig08_decoder_depth(data), "Fig 8", data, tmp_path)


def test_the_callers_matplotlib_settings_neither_change_figures_nor_are_changed(tmp_path):
    import matplotlib

    data = pd.DataFrame({"layer": [1, 2], "AP": [0.1, 0.2]})
    plain = style.save(poet.fig08_decoder_depth(data), "depth", data, tmp_path / "a")[1].read_bytes()
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9}):
        loud = style.save(poet.fig08_decoder_depth(data), "depth", data, tmp_path / "b")[1].read_bytes()
        assert matplotlib.rcParams["font.size"] == 20
    assert plain == loud


def test_the_footer_lies_below_the_figure(tmp_path):
    data = pd.DataFrame({"layer": [1, 2], "AP": [0.1, 0.2]})
    from PIL import Image

    heights = []
    for footer in ("", "x" * 60, "word " * 100):
        path = style.save(poet.fig08_decoder_depth(data), "depth", data, tmp_path, footer)[1]
        heights.append(Image.open(path).height)
    assert heights[0] < heights[1] < heights[2]


def test_models_have_colours_that_stay_apart_for_colour_blind_readers():
    families = ("poet_tiny", "rtmo", "vitpose", "ae", "openpose", "simple_baseline")
    rgb = np.array([[int(style.colour(name)[i : i + 2], 16) / 255 for i in (1, 3, 5)] for name in families])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    # Machado, Oliveira, Fernandes 2009, severity 1.0: protanopia and deuteranopia.
    protan = np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    )
    deutan = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    for seen in (np.eye(3), protan, deutan):
        shown = np.clip(linear @ seen.T, 0, 1) ** (1 / 2.2)
        for a, b in itertools.combinations(range(len(families)), 2):
            assert np.linalg.norm(shown[a] - shown[b]) > 0.12, (families[a], families[b])


def test_colour_goes_by_the_longest_known_name():
    assert style.colour("poet_tiny_proposals") != style.colour("poet_tiny")
    assert style.colour("rtmo_s") == style.colour("rtmo_l") == style.colour("rtmo")
    with pytest.raises(ValueError, match="no_such_model"):
        style.colour("no_such_model")


def test_drawing_respects_threshold_and_visibility(rng):
    _, target, poses = scene(rng)
    fig = style.figure(2, 2)
    ax = fig.subplots()
    assert people.draw(ax, poses, COCO, threshold=float(poses.scores[1])) == 2
    assert people.draw(ax, poses, COCO, threshold=2.0) == 0
    ax = style.figure(2, 2).subplots()
    people.draw(ax, poses.select([0]), COCO)
    faces = max(ax.collections, key=lambda drawn: drawn.get_zorder()).get_facecolors()
    hollow = (faces[:, :3] == 1).all(1)
    assert (hollow == (poses.visibility[0] < 0.5)).all()
    truth = people.from_target(target)
    assert np.isnan(truth.keypoints[target["visibility"] == 0]).all()
    assert ((truth.visibility >= 0.5) == (target["visibility"] == 2)).all()


def test_pictures_lie_in_cocos_frame():
    ax = style.figure(2, 2).subplots()
    people.show(ax, np.zeros((40, 60, 3), np.uint8))
    assert tuple(ax.images[0].get_extent()) == (0, 60, 40, 0)
    assert ax.get_xlim() == (0, 60) and ax.get_ylim() == (40, 0)


def test_direct_labels_do_not_overlap():
    fig = style.figure(3.4, 2.5)
    ax = fig.subplots()
    ax.set_ylim(0, 1)
    style.direct_labels(ax, [(0.5, "a", "k"), (0.51, "b", "k"), (0.505, "c", "k"), (0.0, "d", "k")])
    heights = sorted(text.xyann[1] for text in ax.texts)
    assert min(np.diff(heights)) * ax.get_position().height * 2.5 * 72 > 8.5
    assert all(-0.01 <= height <= 1.2 for height in heights)


def test_learning_rate_drops_are_steps_not_cosines():
    epochs = np.arange(50)
    step = pd.DataFrame({"epoch": epochs, "lr": np.where(epochs >= 40, 1e-5, 1e-4)})
    cosine = pd.DataFrame({"epoch": epochs, "lr": 1e-3 * (1 + np.cos(np.pi * epochs / 50)) / 2})
    assert training.learning_rate_drops(step) == [40.0] and training.learning_rate_drops(cosine) == []


def test_visibility_counts_every_joint_once_and_scores_at_one_half():
    truth = np.array([0, 0, 1, 2, 2, 2, 2])
    predicted = np.array([0.1, 0.6, 0.0, 0.5, 1.0, 0.9, 0.2])
    data = poet_images.fig10_data(truth, predicted, bins=10)
    assert data["count"].sum() == 7
    shares = data.groupby("truth").correct.first()
    assert shares.tolist() == [0.5, 1.0, 0.75]


def test_figures_say_what_is_missing(rng):
    image, target, poses = scene(rng)
    nobody = {**target, "keypoints": np.zeros((0, 17, 2), np.float32)}
    with pytest.raises(ValueError, match="at least one person"):
        poet_overview.fig02_overview(image, nobody, poses, [])
    with pytest.raises(ValueError, match="at least one image"):
        people.grid([])


def test_photographs_do_not_swell_the_files(rng, tmp_path):
    import matplotlib
    from PIL import Image

    _, _, poses = scene(rng)
    smooth = rng.uniform(40, 215, (50, 50, 3)).repeat(8, 0).repeat(8, 1)
    photograph = (smooth + rng.normal(0, 6, smooth.shape)).astype(np.uint8)  # surfaces, edges, and a sensor's noise
    fig = people.grid([photograph] * 4, [poses] * 4, ["."] * 4, columns=2)
    svg, png, _ = style.save(fig, "sheet", pd.DataFrame({"x": [1]}), tmp_path)
    assert b"data:image/jpeg" in svg.read_bytes()
    picture = Image.open(png)
    assert picture.mode == "RGB" and picture.getpixel((picture.width // 2, 1)) == (255, 255, 255)
    assert len(picture.getcolors(1 << 24)) > 10_000, "a palette would show"
    shown = style.as_image(fig)
    assert shown.format == "jpeg" and shown.data[:2] == b"\xff\xd8"
    data = pd.DataFrame({"layer": [1, 2], "AP": [0.1, 0.2]})
    with matplotlib.rc_context():
        assert style.as_image(poet.fig08_decoder_depth(data)).format == "png"


def test_the_shortest_runs_can_be_drawn(tmp_path):
    log = run_log(2).assign(AP=0.0, AP50=0.0, APM=-1.0)
    for rows in (log, log.head(1)):
        for fig in (poet.fig03_losses(rows), over_epochs(rows), poet.ext_queries(rows, rows)):
            assert style.save(fig, "short", rows, tmp_path)[1].stat().st_size > 1000
    assert "APM" not in " ".join(_texts(over_epochs(log))), "COCO's -1 means that no such person is in the data"
