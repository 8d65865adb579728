"""The book as it is committed, and the checks that it must pass."""

from pathlib import Path

import check_book
import execute
import jobs
import nbformat
import pytest
from test_execute import notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path):
    assert list(check_book.faults(path)) == []


@pytest.mark.parametrize("profile", ["smoke", "quick", "reference", "paper"])
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
    ]


def test_a_copy_from_papermill_is_not_the_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute.execute(worker(tmp_path, "x = 1"), "10_copy.ipynb", {"name": "b"})
    assert "papermill's copy" in next(check_book.faults(Path("10_copy.ipynb")))
