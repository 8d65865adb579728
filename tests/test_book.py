"""The book as it is committed, and the checks that it must pass."""

import ast
import re
from copy import deepcopy
from pathlib import Path

import check_book
import execute
import jobs
import nbformat
import publish
import pytest
import ran_with
from test_execute import notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHIPPED = [path.relative_to(ROOT).parts for path in sorted((ROOT / "data" / "weights").iterdir())]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path):
    assert list(check_book.faults(path)) == []


# What a sentence made by code may not say: it would stand beside any numbers (until one verdict function stands).
JUDGEMENT = re.compile(
    r"\b(better|worse|helps?|hurts?|sharper|smoother|wider|hope|direction|machinery|flat|clearly|roughly|verdict|still|"
    r"as in the paper|as the paper says)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem[0] in "34"], ids=lambda path: path.stem)
def test_sentences_made_by_code_state_numbers_and_no_judgement(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    nodes = [node for source in cells for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    texts = [node.value for node in nodes if isinstance(node.value, str)]
    assert len(texts) > 5 and [text for text in texts if JUDGEMENT.search(text)] == []


def test_the_studies_in_the_readme_are_the_committed_ones():
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if " ± " in line]
    said = set(re.findall(r"\d+\.\d ± \d+\.\d", " ".join(rows)))
    tables = [
        ROOT / f"figures/reference/{stem}.csv"
        for stem in (
            "rtmo_table3",
            *(
                f"vitpose_{name}"
                for name in (
                    "scaling",
                    "decoders",
                    "pretraining",
                    "resolution",
                    "finetuning",
                    "datasets",
                    "distillation",
                )
            ),
        )
    ]
    measured = " ".join(table.read_text(encoding="utf-8") for table in tables)
    assert len(said) > 10 and {number for number in said if number not in measured} == set()


@pytest.mark.parametrize("profile", ["smoke", "quick", "reference", "paper", "published"])
def test_profile_fits_the_notebooks(profile, monkeypatch):
    monkeypatch.chdir(ROOT)
    wanted = jobs.read(profile)
    for job in wanted:
        execute.check(job.notebook, job.parameters)
    if profile == "smoke":
        assert {Path(job.notebook).stem for job in wanted} == {path.stem for path in NOTEBOOKS}


GOOD = 'name: str = "a"  # a word\nrate: float = 0.5  # how fast'


def worker(folder, *cells, parameters=GOOD):
    """A worker without faults, but for what is given."""
    path = notebook(folder / "10_worker.ipynb", *cells, parameters=parameters)
    book = nbformat.read(path, as_version=4)
    book.cells[0].source = parameters
    book.cells.insert(0, nbformat.v4.new_markdown_cell("# What it makes"))
    check_book.fold(book)
    nbformat.write(book, path)
    return path


def test_a_good_worker_has_no_fault(tmp_path):
    assert list(check_book.faults(worker(tmp_path, "x = 1", "%matplotlib inline\nx"))) == []


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("\n".join(["x = 1"] * 31), "has 31 lines"),
        ("def f():\n" + "\n".join(["    x = 1"] * 10), "defines f, 11 lines"),
        ("open('/home/me/coco')", "holds an absolute path"),
        ("!pip install posekit", "holds an installation"),
        ("import sys\nsys.path.append('..')", "holds sys.path"),
        ("x = ", "is not Python"),
        ("steps = 3  # as often as XX", "holds a placeholder"),
        ("interact(draw, x=slider)", "holds interact"),
    ],
)
def test_a_bad_cell_is_named(tmp_path, cell, fault):
    found = list(check_book.faults(worker(tmp_path, cell)))
    assert len(found) == 1 and found[0].startswith("code cell 2") and fault in found[0]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("steps = 3  # typed by nobody", "is not `name: type = literal  # help`"),
        ("steps: int = 3", "is not `name: type = literal  # help`"),
        ("steps: int = 3 * 4  # derived", "has no literal default"),
        ("steps: int = 3.0  # wrong", "steps: int has the default 3.0"),
        ("steps: int | None = 3  # papermill cannot", "papermill does not read parameter steps"),
        ("steps: tuple = (1,)  # unknown", "'tuple' is not one of"),
    ],
)
def test_a_bad_parameter_is_named(tmp_path, line, fault):
    found = list(check_book.faults(worker(tmp_path, parameters=f"{GOOD}\n{line}")))
    assert len(found) == 1 and fault in found[0]


def test_long_cells_are_folded_but_for_parameters(tmp_path):
    long = "\n".join(["x = 1"] * 11)
    path = worker(tmp_path, long, "x", parameters="\n".join(f"p{i}: int = 0  # one" for i in range(12)))
    book = nbformat.read(path, as_version=4)
    assert [check_book.is_folded(cell) for cell in book.cells[1:]] == [False, True, False]
    assert not check_book.fold(book) and list(check_book.faults(path)) == []
    del book.cells[2].metadata["jupyter"]  # folded on the site, open in JupyterLab
    nbformat.write(book, path)
    assert ["is open" in fault for fault in check_book.faults(path)] == [True]
    assert check_book.fold(book) and check_book.is_folded(book.cells[2])


def test_an_image_needs_alt_text(tmp_path):
    path = worker(tmp_path, "x").rename(tmp_path / "20_report.ipynb")
    book = nbformat.read(path, as_version=4)
    book.cells[2].outputs = [nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": ""})]
    nbformat.write(book, path)
    assert "no alt text" in " ".join(check_book.faults(path))
    book.cells[2].outputs[0].metadata = {"image/png": {"alt": "AP while learning"}}
    nbformat.write(book, path)
    assert "no alt text" not in " ".join(check_book.faults(path))


def test_a_report_must_have_run_and_a_worker_must_be_stripped(tmp_path):
    path = worker(tmp_path, "1 / 0")
    book = nbformat.read(path, as_version=4)
    error = nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="", traceback=[])
    book.cells[2].outputs = [error]
    nbformat.write(book, path)
    assert "committed without outputs" in next(check_book.faults(path))
    report = path.rename(tmp_path / "20_report.ipynb")
    assert list(check_book.faults(report)) == [
        "a report is committed as run from top to bottom (ci/publish.py)",
        "it holds an error: ZeroDivisionError",
        "it does not say with which parameters it was run: commit it with ci/publish.py",
    ]


def test_a_copy_from_papermill_is_not_the_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute.execute(worker(tmp_path, "x = 1"), "10_copy.ipynb", {"name": "b"})
    assert "papermill's copy" in next(check_book.faults(Path("10_copy.ipynb")))


MEASURED = """\
raw = pd.read_csv(folder / "raw.csv")
parts = raw[raw.part != "total"].groupby(keys).ms.sum()
whole = raw[raw.part == "total"].set_index(keys).ms.reindex(parts.index)
"""


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ('print("the same" if a == b else "another")', "prints that a check failed and goes on"),
        ("print(f\"bins: {told if a == b else 'NOT the same'}\")", "prints that a check failed and goes on"),
        ("f\"{off:.0%}, {'fine' if off < 0.1 else 'TOO MUCH'}\"", "prints that a check failed and goes on"),
        ('print(f"by hand {a:.3f}, in the code {b:.3f}")', "compares something by hand without posebook.checks.check"),
        ('check("the bins", model.bins(box), model.bins(box))', "compares model.bins(box) with itself"),
        (MEASURED + "off = ((parts - whole).abs() / whole).median()", "compares parts with whole, both taken from raw"),
        (MEASURED + 'check("times", parts, whole, rtol=0.1)', "compares parts with whole, both taken from raw"),
        (MEASURED + "assert np.allclose(parts, whole)", "compares parts with whole, both taken from raw"),
    ],
)
def test_a_check_that_cannot_fail_or_does_not_stop_the_page_is_named(tmp_path, cell, fault):
    found = list(check_book.faults(worker(tmp_path, cell)))
    assert len(found) == 1 and found[0].startswith(f"code cell 2 {fault}")


def test_a_check_of_two_measurements_is_none_of_these(tmp_path):
    cells = (
        MEASURED + 'again = pd.read_csv(folder / "again.csv").ms\ncheck("times", whole, again, rtol=0.1)',
        'by_hand = left + (right - left) * i\ncheck("bins by hand", by_hand, model.bins(box)[0], atol=1e-3)',
        MEASURED + 'check("medians", np.median(raw.ms), latency.summary(raw).median_ms)',
        "gain = (raw.AP.max() - raw.AP.min()) / 2",
    )
    assert list(check_book.faults(worker(tmp_path, *cells))) == []


def test_a_promise_in_the_text_needs_a_check(tmp_path):
    path = worker(tmp_path, "x = 1", 'check("x", x, 1)')
    book = nbformat.read(path, as_version=4)
    book.cells.insert(2, nbformat.v4.new_markdown_cell("Parts and whole: their sum must agree."))
    nbformat.write(book, path)
    assert list(check_book.faults(path)) == []
    del book.cells[-1]
    nbformat.write(book, path)
    assert ["must agree" in fault for fault in check_book.faults(path)] == [True]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A small report, its execution with profile quick, and what that cost."""
    folder = tmp_path_factory.mktemp("book")
    lines = f'profile: str = "mine"  # where figures go\n{GOOD}'
    cells = ('print(f"figures/{profile}/a.svg")', "rate * 2")
    path = worker(folder, *cells, parameters=lines).rename(folder / "20_report.ipynb")
    cost = execute.execute(path, folder / "build.ipynb", {"profile": "quick", "rate": 0.25})
    return *(nbformat.read(name, as_version=4) for name in (path, folder / "build.ipynb")), cost


@pytest.fixture
def page(executed, tmp_path):
    """(path, notebook) of the report as it is published."""
    source, copy, cost = deepcopy(executed)
    return tmp_path / "20_report.ipynb", publish.published(source, copy, cost)


def faults_of(page):
    path, book = page
    nbformat.write(book, path)
    return list(check_book.faults(path))


def test_a_published_page_says_what_it_was_run_with(page, executed):
    path, book = page
    assert faults_of(page) == []
    first = ran_with.parameters_cell(book)
    told = first.outputs[0].text.splitlines()
    assert told[:2] == ["run with profile = 'quick'", "         rate = 0.25"]
    assert told[2].lstrip().startswith("everything else as above; commit ")
    assert first.source.startswith('profile: str = "mine"') and "papermill" not in book.metadata  # still the source
    text = path.read_text()
    _, copy, cost = executed
    nbformat.write(publish.published(nbformat.read(path, as_version=4), copy, cost), path)  # once more, onto the page
    assert path.read_text() == text
    book.cells[0].source += ", in other words"  # text may change after the execution, code may not
    assert publish.published(deepcopy(book), copy, cost).cells[0].source == book.cells[0].source
    book.cells[-1].source += "\n"
    with pytest.raises(ValueError, match="its code was changed after it ran"):
        publish.published(book, copy, cost)
    with pytest.raises(ValueError, match="its last execution failed: it broke"):
        publish.published(book, copy, cost | {"status": "failed", "error": "it broke"})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda first, last: first.update(source=first.source.replace('"a"', '"b"')), "name = 'a', not with 'b'"),
        (lambda first, last: first.update(source=first.source + "\nmore: int = 0  # new"), "and now has profile, name"),
        (lambda first, last: first.outputs[0].update(text="run with profile = 'smoke'\n"), "is not the record"),
        (lambda first, last: first.metadata.ran_with["values"].update(profile="smoke"), "is not the record"),
        (lambda first, last: first.update(outputs=[]), "is not the record"),
        (lambda first, last: last.update(source="rate * 3"), "its code was changed after it ran"),
        (lambda first, last: first.metadata.pop("ran_with"), "does not say with which parameters it was run"),
    ],
)
def test_a_page_that_was_run_otherwise_is_named(page, change, fault):
    code = [cell for cell in page[1].cells if cell.cell_type == "code"]
    change(code[0], code[-1])
    found = faults_of(page)
    assert found and fault in found[0]


def test_a_figure_without_a_footer_and_a_page_without_verdicts_are_named():
    saved = 'written = style.save(fig, "a", rows, figures, footer)\nclaims.of_page("21_poet_results", figures)'
    page = Path("notebooks/21_poet_results.ipynb")
    assert list(check_book.claim_faults(page, saved)) == []
    assert "has no footer" in next(check_book.claim_faults(page, saved.replace(", footer", "")))
    assert "does not close with their verdicts" in next(check_book.claim_faults(page, saved.partition("\n")[0]))
    assert list(check_book.claim_faults(Path("notebooks/33_rtmo_heatmaps.ipynb"), "x = 1")) == []


def test_outputs_of_another_profile_and_failed_checks_are_named(page):
    cell = page[1].cells[-2]
    cell.outputs[0].text = "figures/smoke/a.svg\n"
    assert faults_of(page) == ["it was run with profile = 'quick' and its outputs name figures/smoke"]
    for text in ("by hand and in the code: NOT the same", "Parts and whole differ by 0.0% in the median (fine)"):
        cell.outputs[0].text = text
        assert ["an output holds a failed check" in fault for fault in faults_of(page)] == [True]


def test_every_report_asks_for_runs_that_profile_reference_makes(monkeypatch):
    """By default a report reads data/runs/mine/NAME, and `reports.find_run` goes by the name."""
    monkeypatch.chdir(ROOT)
    asked = [job.parameters for job in jobs.read("reference")]
    made = {Path(one[key]).name for one in asked for key in ("run_dir", "out_dir") if key in one}
    for path in NOTEBOOKS:
        if not path.name.startswith("1"):
            values = ran_with.defaults(ran_with.parameters_cell(nbformat.read(path, as_version=4)).source).values()
            folders = [Path(word) for value in values if isinstance(value, str) for word in value.split()]
            folders = [folder for folder in folders if folder.parts[0] == "data"]
            assert {folder.parts[:3] for folder in folders} <= {("data", "runs", "mine"), *SHIPPED}, path.name
            assert {folder.name for folder in folders if folder.parts[1] == "runs"} <= made, path.name
