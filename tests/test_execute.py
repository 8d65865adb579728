"""The notebook runner: strict parameters, a time limit, partial notebooks kept, outputs whole or absent."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import execute
import nbformat
import pytest
from drills import run_all
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]

PARAMETERS = """\
name: str = "a"  # a word
count: int = 3  # how many
rate: float = 0.5  # how fast
quick: bool = True  # be quick
sizes: list[int] = [1, 2]  # some sizes
limit: Optional[int] = None  # at most"""


def notebook(path, *cells, parameters=PARAMETERS):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    first = nbformat.v4.new_code_cell("from typing import Optional\n" + parameters)
    first.metadata["tags"] = ["parameters"]
    book.cells = [first, *map(nbformat.v4.new_code_cell, cells)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return notebook(tmp_path / "toy.ipynb", "print(name, count, rate, quick, sizes, limit)")


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", [1, -1], [1.0, True, "1", None]),
        ("float", [1, 0.5], [True, "0.5", None]),
        ("bool", [True], [1, "True"]),
        ("str", ["", "a"], [1, None]),
        ("list", [[], [1, "a"]], ["a", {}]),
        ("list[int]", [[1]], [[1.5], 1]),
        ("Optional[float]", [None, 1, 0.5], ["a"]),
        ("dict", [{}], [[]]),
    ],
)
def test_types_are_strict(kind, good, bad):
    assert [execute.accepts(kind, value) for value in good + bad] == [True] * len(good) + [False] * len(bad)


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.lists(st.integers()) | st.none())
def test_values_survive_the_command_line(value):
    kind = {"NoneType": "Optional[int]"}.get(type(value).__name__, type(value).__name__)
    for text in (json.dumps(value), repr(value)):
        if "inf" not in text:
            assert execute.from_text(kind, text) == value
    assert execute.from_text("float", "8e-4") == 8e-4
    assert execute.from_text("str", "12") == "12"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-p", "cuont", "3"], "has no parameter 'cuont'; it has name: str, count: int"),
        (["-p", "count", "2.5"], "wants count: int, not 2.5; it has name: str"),
        (["-p", "quick", "1"], "wants quick: bool, not 1"),
        (["-p", "sizes", "[1, 'a']"], r"wants sizes: list\[int\]"),
    ],
)
def test_wrong_parameter_is_one_sentence_and_nothing_runs(toy, capsys, arguments, sentence):
    import re

    assert execute.main([str(toy), "out.ipynb", *arguments]) == 2
    complaint = capsys.readouterr().err.strip()
    assert re.search(sentence, complaint) and "\n" not in complaint
    assert not Path("out.ipynb").exists() and not Path("unfinished").exists()


def test_missing_notebook_is_one_sentence(toy, capsys):
    assert execute.main(["none.ipynb", "out.ipynb"]) == 2
    assert capsys.readouterr().err == "there is no notebook none.ipynb\n"


def test_parameters_arrive_typed_and_the_cost_is_written(toy):
    values = {"name": "as typed", "rate": "8e-4", "count": "9", "limit": "5"}
    arguments = [word for pair in values.items() for word in ("-p", *pair)]
    assert execute.main([str(toy), "build/out.ipynb", *arguments]) == 0
    assert printed("build/out.ipynb") == "as typed 9 0.0008 True [1, 2] 5\n"
    cost = json.loads(Path("build/out.cost.json").read_text())
    assert cost["status"] == "done" and cost["cpu_seconds"] > 0
    assert sorted(os.listdir("build")) == ["out.cost.json", "out.ipynb"]


def test_failing_notebook_is_kept_and_its_error_comes_last(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    book = notebook(Path("toy.ipynb"), "print('so far')", "raise ValueError('no joint')", "print('never')")
    Path("out.ipynb").write_text("an older output")
    assert execute.main([str(book), "out.ipynb"]) == 1
    assert "failed in cell 3: ValueError: no joint" in capsys.readouterr().err.splitlines()[-1]
    assert "so far" in printed("unfinished/out.ipynb") and "never" not in printed("unfinished/out.ipynb")
    assert json.loads(Path("out.cost.json").read_text())["status"] == "failed"
    assert Path("out.ipynb").read_text() == "an older output"


def test_a_neighbour_that_ends_cannot_take_the_folder_away(toy, monkeypatch):
    """Two notebooks side by side: one ends, and removes the empty folder, while papermill prepares the other."""
    real = execute.papermill.execute_notebook

    def prepared(notebook, output, *arguments, **options):
        with contextlib.suppress(OSError):
            Path(output).parent.rmdir()
        return real(notebook, output, *arguments, **options)

    monkeypatch.setattr(execute.papermill, "execute_notebook", prepared)
    assert execute.main([str(toy), "build/out.ipynb"]) == 0
    assert sorted(os.listdir("build")) == ["out.cost.json", "out.ipynb"]


def test_the_folder_may_go_before_the_notebook_lies_in_it(toy, monkeypatch):
    real, gone = Path.write_bytes, []

    def late(self, content):
        if not gone:
            gone.append(self.parent.rmdir())
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", late)
    assert execute.main([str(toy), "build/out.ipynb"]) == 0
    assert gone and Path("build/out.ipynb").exists()


def test_a_notebook_must_make_what_it_promises(toy, capsys):
    arguments = [str(toy), "out.ipynb", "--makes", "toy.ipynb", "figures/a.svg"]
    assert execute.main(arguments) == 1
    assert "toy.ipynb ran, but did not make figures/a.svg (" in capsys.readouterr().err
    assert Path("unfinished/out.ipynb").exists() and not Path("out.ipynb").exists()


def test_time_limit_kills_a_notebook_that_ignores_interrupts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execute, "GRACE", 0.5)
    deaf = "while True:\n    try:\n        time.sleep(600)\n    except KeyboardInterrupt:\n        pass"
    book = notebook(Path("toy.ipynb"), "import time", deaf)
    with pytest.raises(execute.NotebookError, match=r"was stopped after its time limit of 0.05 minutes"):
        execute.execute(book, "out.ipynb", time_limit=0.05)
    assert Path("unfinished/out.ipynb").exists() and not Path("out.ipynb").exists()


def test_pictures_behind_a_slider_do_not_hang(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slider = "from ipywidgets import FloatSlider, interact"
    # a large output and at once the end of the cell: nbclient's own handling of widgets waited for ever
    drawn = "interact(lambda x: 'drawn' + 150_000 * '.', x=FloatSlider(0.5))"
    book = notebook(Path("toy.ipynb"), f"{slider}\n{drawn}", "print('the end')")
    execute.execute(book, "out.ipynb", time_limit=1)
    cells = nbformat.read("out.ipynb", as_version=4).cells
    assert any("drawn" in str(output) for output in cells[-2].outputs) and "the end" in printed("out.ipynb")


def test_dead_kernel_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    book = notebook(Path("toy.ipynb"), "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(execute.NotebookError, match="Kernel died"):
        execute.execute(book, "out.ipynb")
    assert Path("unfinished/out.ipynb").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows delivers no SIGTERM to handlers")
def test_sigterm_lets_the_notebook_put_its_things_away(tmp_path):
    cell = "open('started', 'w')\ntry:\n    time.sleep(600)\nfinally:\n    open('put away', 'w')"
    book = notebook(tmp_path / "toy.ipynb", "import time", cell)
    job = subprocess.Popen([sys.executable, ROOT / "ci/execute.py", book, "out.ipynb"], cwd=tmp_path)
    for _ in range(600):
        if (tmp_path / "started").exists() or job.poll() is not None:
            break
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 1
    assert (tmp_path / "put away").exists() and (tmp_path / "unfinished" / "out.ipynb").exists()


def test_run_all_takes_reports_first_and_tells_who_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    notebook(Path("book/10_worker.ipynb"), "import os\nopen('made', 'w').write(name)")
    notebook(Path("book/20_report.ipynb"), "open('made')")  # nobody has made it: reports run first
    assert run_all.main(["--notebooks", "book", "--output", "out"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["notebook", "20_report", "10_worker", "2"]
    assert "failed in cell 2: FileNotFoundError" in told[1] and told[2].endswith(" done")
    assert told[3] == "2 notebooks, 1 failed"
    assert Path("book/made").read_text() == "a"  # at its default, where JupyterLab would run it
    assert Path("out/10_worker.ipynb").exists() and not Path("out/20_report.ipynb").exists()
    assert run_all.main(["--notebooks", "book", "--output", "out", "20_report"]) == 0
    assert run_all.main(["--notebooks", "book", "21_gone"]) == 2
    assert "no notebook '21_gone'; it has 20_report, 10_worker" in capsys.readouterr().err


def test_two_executions_of_one_output_are_refused(toy):
    from posekit import locks

    with locks.take(Path("build/.out.ipynb.lock"), "it"):
        with pytest.raises(execute.NotebookError, match="build/out.ipynb is being written by this process"):
            execute.execute(toy, "build/out.ipynb")
    assert not Path("build").exists()
