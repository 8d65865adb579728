"""`data/paper/figures.csv`: which notebook makes which figure or table of which paper, and what stands for an image."""

from pathlib import Path

import nbformat
import pytest
import yaml

from posebook import catalogue
from posebook.figures import style
from posebook.reports import committed_figure

ROOT = Path(__file__).parents[1]
ENTRIES = catalogue.entries()


def test_every_entry_is_whole_and_named_once():
    assert list(ENTRIES) == ["paper", "number", "kind", "stem", "notebook", "title"]
    assert not ENTRIES.isna().any().any() and ENTRIES.stem.is_unique and ENTRIES.title.is_unique
    assert set(ENTRIES.paper) == {"POET", "RTMO", "ViTPose", "all", "book"}
    assert not ENTRIES.title.str.endswith(".").any()


def test_entries_are_what_the_notebooks_of_the_profiles_make():
    made = set()
    for profile in ("smoke", "quick", "reference"):
        reports = yaml.safe_load((ROOT / f"ci/profiles/{profile}.yaml").read_text())["reports"]
        for name, report in reports.items():
            made |= {(name, "figure", stem) for stem in report.get("figures", [])}
            made |= {(name, "table", stem) for stem in report.get("tables", [])}
    assert made == set(ENTRIES[["notebook", "kind", "stem"]].itertuples(index=False, name=None))


def test_every_committed_file_has_an_entry_and_all_its_kinds():
    lie = {path.name for path in (ROOT / catalogue.COMMITTED).iterdir()} - {"README.md"}
    known = {f"{row.stem}.{kind}" for row in ENTRIES.itertuples() for kind in catalogue.SUFFIXES[row.kind]}
    assert lie <= known
    missing = {name.partition(".")[0] for name in known - lie}
    assert all(not (ROOT / catalogue.COMMITTED / f"{stem}.csv").exists() for stem in missing), missing


def test_the_page_of_all_figures_is_as_the_table_says():
    page = (ROOT / catalogue.COMMITTED / "README.md").read_text(encoding="utf-8")
    assert page == catalogue.page(), "run `python -m posebook.catalogue`"


def test_profiles_are_read_from_the_footers():
    assert catalogue.profile("poet_fig03_losses") == "quick"
    assert catalogue.profile("rtmo_table3") == "reference"
    assert catalogue.profile("poet_fig03_losses", "no/such/folder") == ""


def test_the_caption_of_a_saved_figure_is_its_alt_text(tmp_path):
    fig = style.figure(2.0, 1.0)
    style.save(fig, "poet_fig08_decoder_depth", ENTRIES.head(1), tmp_path)
    alt = "POET, Figure 8: AP read out after each decoder layer"
    assert style.as_image(fig)._repr_mimebundle_()[1]["image/png"]["alt"] == alt
    assert committed_figure("poet_fig08_decoder_depth").alt == alt


def test_another_figure_is_described_by_its_own_words():
    fig = style.figure(4.0, 2.0)
    left, right = fig.subplots(1, 2)
    style.panel(left, "a", "loss of $\\hat{\\sigma}$")
    left.set(xlabel="steps", ylabel="loss")
    right.set(xlabel="steps")
    assert catalogue.alt_text(fig) == "Figure: a loss of; steps; loss"
    assert catalogue.alt_text(style.figure()) == "Images of people"


def test_every_image_of_the_notebooks_has_alt_text_of_its_own_figure():
    titles = {catalogue.caption(stem) for stem in ENTRIES.stem}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        outputs = [out for cell in nbformat.read(path, 4).cells for out in cell.get("outputs", [])]
        alts = [meta["alt"] for out in outputs for kind, meta in out.get("metadata", {}).items() if "alt" in meta]
        mine = {catalogue.caption(row.stem) for row in ENTRIES[ENTRIES.notebook == path.stem].itertuples()}
        assert titles.intersection(alts) <= mine, path


def test_without_the_table_there_is_no_caption(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "posekit"\n')
    monkeypatch.chdir(tmp_path)
    assert catalogue.caption("poet_fig03_losses") == ""
    with pytest.raises(FileNotFoundError):
        catalogue.entries()
