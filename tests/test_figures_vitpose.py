"""ViTPose's published numbers, study tables, figures, and the attention maps behind them."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posebook import tables
from posebook.analysis import tokens
from posebook.figures import style, vitpose, vitpose_overview, vitpose_partial
from posekit import models
from posekit.models.windows import KINDS, Attention

ROWS = {
    "scaling": 4,
    "decoders": 12,
    "pretraining": 4,
    "resolution": 6,
    "attention": 6,
    "finetuning": 3,
    "datasets": 6,
    "distillation": 4,
    "sota": 24,
    "statements": 22,
}
STUDIES = [name for name in ROWS if name not in ("sota", "statements")]
SOURCES = {
    "Abstract",
    "summary of the paper",
    "released README",
    "released configuration",
    "released log",
    "third party",
    "unverified",
}
DATA = "drawn people, crops of 96 x 72 px"


@pytest.fixture(scope="module")
def paper():
    return tables.read_paper("vitpose_attention")


def run(variant, seed, ap, **changes):
    row = {"variant": variant, "seed": seed, "AP": ap, "steps": 1500, "data set": DATA, "command": f"train {variant}"}
    return row | {"scaled down": "1,500 steps of 32", "memory_mb": 120.0 + seed, "gmac": 0.037} | changes


def words(fig):
    return " ".join(text.get_text() for text in fig.findobj(lambda part: hasattr(part, "get_text")))


@pytest.mark.parametrize("name", ROWS)
def test_every_published_number_says_where_it_comes_from(name):
    table = tables.read_paper(f"vitpose_{name}")
    assert len(table) == ROWS[name] and set(table.source) <= SOURCES
    if name == "statements":
        return
    assert table.AP.between(30, 100).all() and table.data.str.len().gt(0).all()
    if "AR" in table:
        both = table.dropna(subset=["AP", "AR"])
        assert (both.AP < both.AR).all()


@pytest.mark.parametrize("name", STUDIES)
def test_the_same_network_has_the_same_number_in_every_study(name):
    one = {
        "scaling": "ViTPose-B",
        "decoders": "classic",
        "pretraining": "ImageNet-1k",
        "resolution": "256x192",
        "finetuning": "all trained",
        "datasets": "COCO",
        "distillation": "none",
    }
    table = tables.read_paper(f"vitpose_{name}")
    if name == "attention":  # the only study at stride 8, and nobody has checked it
        assert table.source.eq("unverified").all() and table.AP.idxmax() == 0
        return
    row = table[(table.variant == one[name]) & table.method.isin(["ViTPose", "ViTPose-B"])]
    assert row.AP.tolist() == [75.8] and row.source.tolist() == ["released README"]


def test_what_nobody_checked_is_marked_wherever_it_is_printed(paper):
    table = tables.study_table(paper, [], "full")
    printed = table[[tables.PAPER + name for name in ("AP", "memory, MB", "GFLOPs")]]
    assert printed.apply(lambda column: column.str.endswith(" ?")).all(axis=None)
    assert table[tables.PAPER + "source"].eq(tables.UNVERIFIED).all()
    assert tables.UNVERIFIED in tables.page(table).to_html()
    tuning = tables.study_table(tables.read_paper("vitpose_finetuning"), [], "all trained")
    assert tuning[tables.PAPER + "AP"].tolist() == ["75.8", "75.1 ?", "72.8 ?"]
    assert tuning[tables.PAPER + "difference"].tolist() == ["", "-0.7 ?", "-3.0 ?"]
    sets = tables.study_table(tables.read_paper("vitpose_datasets"), [], "COCO")
    assert sets[tables.PAPER + "AP"].str.endswith("‡").sum() == 1
    ours = tables.study_table(tables.read_paper("vitpose_datasets"), [], "people", paper_base="COCO")
    assert ours[tables.PAPER + "difference"].tolist() == sets[tables.PAPER + "difference"].tolist()
    scaling = tables.read_paper("vitpose_scaling")
    assert tables.UNVERIFIED in words(vitpose.fig_tradeoff(scaling, points(), DATA, scaling, {}))


def test_ours_stand_in_columns_of_their_own_and_seeds_are_averaged(paper):
    ours = [run("full", 0, 0.50), run("full", 1, 0.52), run("window", 0, 0.4), run("minimal", 0, 0.3)]
    table = tables.study_table(paper, ours, "full").set_index("variant")
    assert table[tables.OURS + "AP"].tolist() == ["51.0 ± 1.4", "40.0", *["not run"] * 4, "30.0"]
    assert table.loc["full", [tables.OURS + name for name in ("seeds", "steps", "memory, MB", "GMAC")]].tolist() == [
        "0, 1",
        "1,500",
        "120",
        "0.037",
    ]
    assert table.loc["minimal", tables.PAPER + "AP"] == "–"
    assert tables.OURS + "ms" not in table and tables.PAPER + "GMAC" not in table  # nobody measured them
    assert not table[tables.PAPER + "AP"].str.contains("51.0|40.0").any()
    nothing = tables.study_table(paper, [], "full")
    assert nothing[tables.OURS + "AP"].eq("not run").all() and len(nothing) == 6


def test_verdicts_need_seeds_that_stay_apart_and_equal_budgets(paper):
    ours = [run("full", seed, 0.50 + 0.02 * seed) for seed in (0, 1)]
    ours += [run("window", seed, 0.40 + 0.01 * seed) for seed in (0, 1)]
    ours += [run("shift", seed, 0.49 + 0.04 * seed) for seed in (0, 1)]
    ours += [run("pool", seed, 0.60 + 0.01 * seed) for seed in (0, 1)] + [run("shift+pool", 0, 0.3, steps=500)]
    table = tables.study_table(paper, ours, "full").set_index("variant")
    assert table[tables.OURS + "verdict"].tolist() == [
        "compared with",
        "below on every seed",
        "within the spread",
        "above on every seed",
        "other budget",
        "",
    ]
    assert table.loc["window", tables.OURS + "difference"] == "-10.5"
    assert table.loc["shift+pool", tables.OURS + "difference"] == ""
    single = [run("full", 0, 0.5), run("window", 0, 0.1)]
    assert tables.study_table(paper, single, "full")[tables.OURS + "verdict"][1] == "–"


def test_sentences_state_the_numbers_of_every_row_and_no_judgement(paper):
    def said(ours):
        return tables.study_numbers(tables.study_table(paper, ours, "full"), "full")

    ours = [run("full", seed, 0.50 + 0.02 * seed) for seed in (0, 1)]
    both = said(ours + [run("window", seed, 0.40 + 0.01 * seed) for seed in (0, 1)])
    assert both == (
        "Ours, AP: full 51.0 ± 1.4, window 40.5 ± 0.7 (1,500 steps, seeds 0, 1). "
        "Minus full, in points: window -10.5 (published -11.0 ?)."
    )
    short = said(ours + [run("pool", 0, 0.3, steps=500)])
    assert "pool 30.0 (500 steps, seed 0)" in short and "Minus" not in short  # other budgets are not compared
    alone = said([run("window", 0, 0.1)])
    assert alone == "Ours, AP: window 10.0 (1,500 steps, seed 0). full was not run: no differences."
    assert said([]) == "Not run."
    for word in ("direction", "better", "worse", "verdict", "machinery"):
        assert word not in both


def test_a_study_refuses_what_it_cannot_tell_apart(paper):
    with pytest.raises(ValueError, match="'classic' stands twice"):
        tables.study_table(tables.read_paper("vitpose_decoders"), [], "classic")
    with pytest.raises(ValueError, match="steps, seed"):
        tables.study_table(paper, [{"variant": "full", "AP": 0.1, "data set": "x", "command": "y"}], "full")


def test_the_state_of_the_art_is_a_block_per_data_set():
    rows = tables.read_paper("vitpose_sota")
    facts = {"trained_on": ("trained on", ""), "source": ("source", "")}
    table = tables.comparison(rows, [], {"AP": "AP", "AR": "AR"}, facts)
    shown = tables.page(table).to_html()
    assert "OCHuman test" in shown and "released README" in shown


def points():
    rows = [("vitpose_tiny", "vitpose_tiny", 0.67, 230, 0.62), ("deeper", "vitpose_tiny", 1.2, 140, 0.66)]
    return pd.DataFrame(rows, columns=["label", "model", "params_m", "per_s", "AP"])


def partial(trainings=("without half-body", "with half-body")):
    rows = [
        (name, seed, share, 0.7 * share + 0.02 * i * (1 + seed) if share > 0.1 else np.nan, int(200 * share))
        for i, name in enumerate(trainings)
        for seed in (0, 1)
        for share in (0.1, 0.5, 0.9)
    ]
    return pd.DataFrame(rows, columns=["training", "seed", "share", "AP", "people"]).assign(kept="upper", AP_whole=0.7)


def followed(attention="full"):
    torch.manual_seed(0)
    model = models.build("vitpose_tiny", attention=attention, window=(4, 3))
    image = np.random.default_rng(0).integers(0, 255, (96, 72, 3)).astype(np.uint8)
    return tokens.follow(model, image, (40.0, 50.0))


def test_figures_can_be_saved_and_nothing_leaves_the_page(tmp_path):
    seen = followed()
    scaling = tables.read_paper("vitpose_scaling")
    figures = {
        "vitpose_fig_tradeoff": lambda: vitpose.fig_tradeoff(scaling, points(), DATA, scaling, {"HRFormer-B": 158}),
        "vitpose_fig_partial": lambda: vitpose_partial.fig_partial(partial()),
        "vitpose_fig_overview": lambda: vitpose_overview.fig_overview(seen, [0, 9, 10]),
        "vitpose_ext_attention": lambda: vitpose_overview.fig_attention({"full": seen, "again": seen}),
    }
    data = pd.DataFrame({"x": [1]})
    for stem, draw in figures.items():
        fig = draw()
        assert "drawn people" in words(fig), stem
        style.save(fig, stem, data, tmp_path, "footer")
        fig.draw_without_rendering()
        drawn, page = fig.get_tightbbox(), fig.get_size_inches()
        assert drawn.min.min() >= -0.02 and (drawn.max <= page + 0.02).all(), stem


def test_figures_without_data_say_so():
    scaling = tables.read_paper("vitpose_scaling")
    assert "not run" in words(vitpose.fig_tradeoff(scaling, points().head(0), DATA, scaling, {}))
    assert "not run" in words(vitpose_partial.fig_partial(partial(["without half-body"])))
    with pytest.raises(ValueError, match="at least one row"):
        vitpose_partial.fig_partial(partial().head(0))
    with pytest.raises(ValueError, match="at least one"):
        vitpose_overview.fig_attention({})
    with pytest.raises(ValueError, match="at least one"):
        vitpose_overview.fig_overview(followed(), [])


def test_gains_are_those_of_the_same_seed():
    right = vitpose_partial.fig_partial(partial()).axes[1]
    dots = [line for line in right.lines if line.get_linestyle() == "None"]
    assert len(dots) == 1 and sorted(np.round(dots[0].get_ydata(), 6)) == [2, 2, 4, 4]


@pytest.mark.parametrize("attention", KINDS)
def test_a_token_is_followed_through_every_kind_of_attention(attention):
    seen = followed(attention)
    assert seen.grid == (8, 6) and seen.cell == 4 * 6 + 3 and seen.attention.shape == (4, 4, 8, 6)
    np.testing.assert_allclose(seen.place, (42, 54))
    np.testing.assert_allclose(seen.attention.sum((2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(seen.alike.reshape(5, -1)[:, seen.cell], 1, atol=1e-5)
    support = (seen.attention[0].mean(0) > 0).sum()
    assert support == (12 if attention in ("window", "shift") else 48)
    rows = vitpose_overview.attention_rows({attention: seen})
    assert len(rows) == 4 * 48 and rows.groupby("block").weight.sum().round(4).eq(1).all()
    assert set(vitpose_overview.overview_rows(seen, [0, 9]).part) == {"alike", "heatmap"}


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1),
    st.integers(0, 999),
)
def test_weights_times_values_are_what_attention_returns(rows, columns, tall, wide, shift, pool, others, seed):
    torch.manual_seed(seed)
    attention = Attention(8, 2, (tall, wide), (tall // 2, wide // 2) if shift else (0, 0), pool)
    count, cell = rows * columns, seed % (rows * columns)
    x = torch.randn(2, count + others, 8)
    with torch.no_grad():
        weights = tokens.attention_of(attention, x, (rows, columns), cell)
        left = 1 - weights.sum(-1, keepdim=True)  # what the further token gets
        values = attention.qkv(x)[..., 16:].unflatten(-1, (2, 4)).transpose(1, 2)
        if others:
            weights = torch.cat([weights, left], -1)
        else:
            torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-5, rtol=0)
        by_hand = attention.proj(torch.einsum("bht,bhtd->bhd", weights, values).flatten(1))
        torch.testing.assert_close(by_hand, attention(x, (rows, columns))[:, cell], atol=1e-5, rtol=1e-4)


def test_looking_changes_nothing_and_needs_a_place_in_the_crop():
    model = models.build("vitpose_tiny", knowledge_token=True).train()
    image = np.zeros((96, 72, 3), np.uint8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = tokens.follow(model, image, (0, 0))
    assert model.training and seen.cell == 0 and (seen.attention.sum((2, 3)) < 1).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="outside the crop of 72 x 96"):
        tokens.follow(model, image, (72, 5))
