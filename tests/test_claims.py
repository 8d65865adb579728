"""The papers' sentences on accuracy and size: read from tables, judged by rules, every one of them exactly once."""

import shutil

import numpy as np
import pandas as pd
import pytest

from posebook import claims, verdicts
from posebook.tables import read_paper
from posebook.verdicts import AGREES, DISAGREES, NOT_RUN, TOO_LITTLE
from posekit.files import resolve


@pytest.fixture
def folder(tmp_path):
    for path in resolve(claims.FIGURES).glob("*.csv"):
        shutil.copy(path, tmp_path)
    return tmp_path


def changed(folder, stem, where, column, value):
    table = pd.read_csv(folder / f"{stem}.csv", dtype=str, keep_default_na=False)
    rows = np.logical_and.reduce([table[name] == known for name, known in where.items()])
    assert rows.sum() == 1
    table.loc[rows, column] = value
    table.to_csv(folder / f"{stem}.csv", index=False)
    return claims.all_claims(str(folder)).set_index("claim").here


def test_every_sentence_is_judged_once_with_what_was_measured(folder):
    table, known = claims.all_claims(str(folder)), read_paper("claims")
    assert table.claim.tolist() == known.claim.tolist() and known.claim.is_unique and len(known) >= 40
    assert set(table.here) <= {AGREES, DISAGREES, TOO_LITTLE, NOT_RUN} and (table.measured != "").all()
    explained = table["why not"] != ""
    assert explained[table.here == DISAGREES].all() and not explained[table.here == AGREES].any()
    pages = {f"notebooks/{page}.ipynb" for page in known.page}
    assert all(resolve(page).is_file() for page in pages)


def test_two_seeds_are_known_again_by_mean_and_deviation():
    seeds = pd.Series([34.8, 36.2])
    table = pd.DataFrame(
        {"variant": ["a", "b", "c"], "ours: AP": [f"{seeds.mean()} ± {seeds.std()}", "12.5", "not run"]}
    )
    np.testing.assert_allclose(claims.ap_of(table, {"variant": "a"}), seeds)
    assert claims.ap_of(table, {"variant": "b"}).tolist() == [12.5]
    assert (
        claims.ap_of(table, {"variant": "c"}) is claims.ap_of(table, {"variant": "d"}) is claims.ap_of(None, {}) is None
    )


def test_signs_spreads_and_single_seeds_decide(folder):
    encoding = {"by": "ours", "decoding": "CC+DBA+DBE", "loss": "MLE"}
    for value, word in (
        ("34.8 ± 0.4", AGREES),
        ("31.6 ± 0.4", TOO_LITTLE),
        ("20.0 ± 0.4", DISAGREES),
        ("34.8", TOO_LITTLE),
    ):
        assert changed(folder, "rtmo_table3", encoding, "AP", value)["rtmo-encoding"] == word
    assert changed(folder, "rtmo_table3", encoding, "AP", "not run")["rtmo-encoding"] == NOT_RUN


def test_hardly_a_difference_is_judged_by_its_size(folder):
    simple = {"variant": "simple"}
    for value, word in (
        ("27.3 ± 1.0", DISAGREES),
        ("34.9 ± 0.4", AGREES),
        ("38.0 ± 0.1", DISAGREES),
        ("34.9", NOT_RUN),
    ):
        assert changed(folder, "vitpose_decoders", simple, "ours: AP", value)["vitpose-decoder"] == word


def test_an_order_holds_on_every_seed_or_not_at_all(folder):
    wide = {"variant": "wide"}
    for value, word in (
        ("38.8 ± 0.3", AGREES),
        ("35.2 ± 0.6", TOO_LITTLE),
        ("20.0 ± 0.1", DISAGREES),
        ("38.8", NOT_RUN),
    ):
        assert changed(folder, "vitpose_scaling", wide, "ours: AP", value)["vitpose-size"] == word


def test_what_was_not_measured_is_not_run(tmp_path, folder):
    (folder / "poet_fig01_claims.csv").unlink(missing_ok=True)
    (folder / "vitpose_decoders.csv").unlink()
    here = claims.all_claims(str(folder)).set_index("claim").here
    assert here["poet-speed-flat"] == here["vitpose-decoder"] == NOT_RUN


def test_a_claim_that_is_not_listed_is_an_error():
    with pytest.raises(KeyError):
        verdicts.judged("poet-flies", True, "measured")
