"""The published numbers are transcribed whole, and paper-against-ours tables keep the two apart."""

import numpy as np
import pandas as pd
import pytest

from posebook import tables
from posebook.verdicts import verdict

ROWS = {"poet_table1": 11, "poet_table2": 5, "poet_table3": 11, "poet_table4": 6}


@pytest.mark.parametrize(("stem", "rows"), ROWS.items())
def test_every_row_of_the_paper_is_there(stem, rows):
    table = tables.read_paper(stem)
    assert len(table) == rows
    assert table.source.eq(f"Table {stem[-1]}").all()
    assert table.data.str.len().gt(0).all()


def test_values_as_printed():
    one = tables.read_paper("poet_table1").set_index("method")
    assert one.loc["POET-R50", ["stride", "params_m", "AP", "APM", "APL", "ARL"]].tolist() == [
        32,
        41.3,
        53.6,
        42.5,
        68.1,
        75.7,
    ]
    person_lab = one.loc["PersonLab"]
    assert person_lab[["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]].tolist() == [
        66.5,
        88.0,
        72.6,
        62.4,
        72.3,
        71.0,
        90.3,
        76.6,
        66.1,
        77.7,
    ]
    assert "34.00" in one.loc["AE + R50", "note"] and "val2017" in one.loc["AE + R50", "note"]
    assert tables.read_paper("poet_table2").AP.tolist() == [48.5, 48.5, 48.2, 47.9, 47.0]
    three = tables.read_paper("poet_table3")
    assert three.AP_50_epochs.max() == 32.2 and three.AP_250_epochs.dropna().tolist() == [35.5, 48.5]
    assert (three.deltas_and_centres == "yes").sum() == 5
    assert tables.read_paper("poet_table4").AP.tolist() == [52.5, 75.4, 65.5, 68.2, 75.5, 77.1]


@pytest.mark.parametrize("stem", ROWS)
def test_numbers_are_consistent(stem):
    table = tables.read_paper(stem)
    scores = table[[name for name in table if name.startswith(("AP", "AR"))]]
    assert pd.to_numeric(scores.stack().dropna()).between(0, 100).all()
    for mean, lenient in (("AP", "AP50"), ("AR", "AR50")):
        if lenient in table:
            both = table[[mean, lenient]].dropna()
            assert (both[mean] < both[lenient]).all()
    if "APM" in table:
        assert ((table.APM < table.AP) & (table.AP < table.APL)).all()


def test_joints_of_figure_10_are_whole_people():
    values = tables.read_paper("poet_statements").set_index("quantity").value
    assert (values["non-visible keypoints"] + values["visible keypoints"]) % 17 == 0
    assert values["POET-R50 trainable"] / 1e6 == pytest.approx(41.3, abs=0.05)


def run(seed, ap, **more):
    row = {
        "method": "POET-R50",
        "AP": ap,
        "AR": ap + 0.1,
        "seed": seed,
        "model": "poet_tiny",
        "command": "make x | y",
        "recipe": "{}",
    }
    return {**row, "data set": "drawn people", "scaled down": "128 px", **more}


MEASURES = ("AP", "AR")


def test_ours_never_stand_beside_cocos_numbers_unmarked():
    paper = tables.read_paper("poet_table1")
    table = tables.comparison(paper, [run(0, 0.30), run(1, 0.34)], MEASURES)
    ours = table[table.by == "ours"]
    assert ours["data set"].tolist() == ["drawn people"] and ours.seeds.tolist() == ["0, 1"]
    assert ours[["AP", "AR"]].values.tolist() == [["32.0 ± 2.8", "42.0 ± 2.8"]]
    printed = table[table.by == "paper"].set_index("method")
    assert printed.loc["POET-R50", ["AP", "AR"]].tolist() == ["53.6", "61.4"]
    assert len(printed) == len(paper) and not printed["data set"].str.contains("drawn").any()


def test_every_line_of_an_ablation_has_a_row_of_ours():
    paper = tables.read_paper("poet_table2")
    keys = ("lambda_abs", "lambda_ctrs", "lambda_deltas")
    ours = [run(0, 0.4, lambda_abs=4, lambda_ctrs=0, lambda_deltas=0)]
    table = tables.ablation(paper, ours, keys).query("by == 'ours'")
    assert len(table) == len(paper) and table.AP.tolist()[0] == "40.0" and table.AP[1:].eq("not run").sum() == 4
    assert tables.ablation(paper, [], keys).query("by == 'ours'").AP.eq("not run").all()


def test_runs_of_two_data_sets_are_two_rows_and_other_methods_have_rows_of_their_own():
    ours = [run(0, 0.3), run(0, 0.5, **{"data set": "folder"}), run(0, 0.2, method="extension")]
    table = tables.comparison(tables.read_paper("poet_table4").head(0), ours, MEASURES)
    assert table["data set"].tolist() == ["drawn people", "folder", "drawn people"]
    assert table.by.eq("ours").all() and table.method.tolist() == ["POET-R50", "POET-R50", "extension"]


def test_nothing_run_and_missing_columns():
    paper = tables.read_paper("poet_table1")
    assert tables.comparison(paper, [], MEASURES).by.eq("paper").all()
    with pytest.raises(ValueError, match="command"):
        tables.comparison(paper, [{"method": "POET-R50", "AP": 0.3}], MEASURES)
    with pytest.raises(FileNotFoundError, match="poet_table1"):
        tables.read_paper("poet_table9")


def test_a_measure_that_was_not_computed_is_a_dash():
    table = tables.comparison(tables.read_paper("poet_table1"), [run(0, np.nan)], MEASURES)
    assert table[table.by == "ours"].AP.tolist() == ["–"]


def test_a_verdict_needs_seeds_that_stay_apart_and_a_claim():
    below = verdict([10, 11], [20, 22], claimed=-0.3)
    assert (below.difference, below.word, below.claim, below.seeds) == (-10.5, "below on every seed", "agrees", 2)
    assert verdict([10, 11], [20, 22], claimed=0.3).claim == "disagrees"
    assert verdict([10, 11], [20, 22]).claim == "too little to say"
    within = verdict([10, 21], [20, 22], claimed=-1)
    assert within.word == "within the spread" and within.claim == "too little to say"
    single = verdict([10], [20, 22], claimed=-1)
    assert single.word == "–" and single.claim == "too little to say" and single.seeds == 1
    with pytest.raises(ValueError, match="one has none"):
        verdict([], [1.0])


def test_files_are_repeatable_and_escaped(tmp_path):
    table = tables.comparison(tables.read_paper("poet_table1"), [run(0, 0.3)], MEASURES)
    first = [path.read_bytes() for path in tables.write(table, "poet_table1", tmp_path, "Caption", "footer_1 100 %")]
    again = [path.read_bytes() for path in tables.write(table, "poet_table1", tmp_path, "Caption", "footer_1 100 %")]
    assert first == again and len(first) == 3
    _, md, tex = (content.decode() for content in first)
    assert "`make x \\| y`" in md and r"footer\_1 100 \%" in tex
    body = [line for line in md.splitlines() if line.startswith("|")]
    assert len(body) == len(table) + 2
    assert tex.count(r"\\") == len(table) + 1
