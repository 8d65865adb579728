"""`make reproduce` on a toy book: only what is missing is made, training resumes, profiles are checked."""

import json
import subprocess
import sys
from pathlib import Path

import jobs
import nbformat
import pytest
from test_execute import notebook

ROOT = Path(__file__).parents[1]
TRAIN = """\
from pathlib import Path
folder = Path(run_dir)
folder.mkdir(parents=True, exist_ok=True)
done = len(list(folder.glob("epoch*")))
(folder / f"epoch{done}").touch()
print("started at epoch", done)"""
FAIL = "if done == 0 and fails:\n    raise RuntimeError('out of luck')\n(folder / 'weights').touch()"
DRAW = """\
from pathlib import Path
folder = Path("figures") / profile
folder.mkdir(parents=True, exist_ok=True)
for end in ("svg", "png", "csv"):
    (folder / f"{stem}.{end}").write_text(caption)"""
PROFILE = """\
time_limit: 2
workers:
  first: {notebook: 10_train, parameters: {fails: true}}
  idle: {notebook: 10_train}
reports:
  20_free: {figures: [free], parameters: {stem: free}}
  21_curve: {book: poet, needs: [first], figures: [curve], parameters: {stem: curve, caption: "it's {AP} $5"}}
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = 'run_dir: str = ""  # r\nfails: bool = False  # f'
    notebook(Path("nb/10_train.ipynb"), TRAIN, FAIL, parameters=training)
    names = 'profile: str = ""  # p\nstem: str = ""  # s\ncaption: str = ""  # c'
    for report in ("20_free", "21_curve"):
        notebook(Path(f"nb/{report}.ipynb"), DRAW, parameters=names)
    Path("toy.yaml").write_text(PROFILE)
    return tmp_path


def reproduce(*arguments):
    call = [sys.executable, ROOT / "ci/reproduce.py", "--profile", "toy.yaml", "--notebooks", "nb"]
    return subprocess.run([*call, *arguments], capture_output=True, text=True)


def test_only_what_is_missing_is_made(book):
    first = reproduce("--book", "poet")
    assert first.returncode == 1, first.stderr
    assert "RuntimeError: out of luck" in first.stderr.splitlines()[-1]
    assert "20_free" in first.stdout and "10_train.idle" not in first.stdout
    assert Path("figures/toy/free.svg").exists() and not Path("figures/toy/curve.svg").exists()

    second = reproduce("--book", "poet")
    assert second.returncode == 0, second.stderr
    assert "started at epoch 1" in second.stderr  # the failed run's files were still there
    assert "20_free | started" not in second.stderr
    assert Path("figures/toy/curve.csv").read_text() == "it's {AP} $5"
    assert "2 of 2 figures" in second.stdout

    Path("figures/toy/curve.png").unlink()
    third = reproduce("--book", "poet")
    assert [line for line in third.stderr.splitlines() if "started" in line] == ["21_curve | started"]
    assert Path("figures/toy/curve.png").exists()

    fourth = reproduce("--book", "poet")
    assert fourth.returncode == 0 and "started" not in fourth.stderr
    assert json.loads(Path("build/toy/20_free.cost.json").read_text())["status"] == "done"


def test_a_report_publishes_its_outputs_into_the_source(book):
    import execute
    import publish

    execute.execute("nb/20_free.ipynb", "out.ipynb", {"profile": "toy", "stem": "free"})
    source, executed = (nbformat.read(path, as_version=4) for path in ("nb/20_free.ipynb", "out.ipynb"))
    executed.cells[-1].outputs = [nbformat.v4.new_output("stream", text="drawn")]
    done = publish.published(source, executed)
    assert [cell.execution_count for cell in done.cells] == [1, 2]
    assert done.cells[1].outputs[0].text == "drawn" and "papermill" not in done.metadata
    source.cells[0].source += "\n# changed since"
    with pytest.raises(ValueError, match="changed after it ran"):
        publish.published(source, executed)


def test_workers_come_with_the_reports_that_need_them(book):
    every, poet = (jobs.read("toy.yaml", name, "nb") for name in ("all", "poet"))
    assert [job.name for job in every] == ["first", "idle", "20_free", "21_curve"]
    assert [job.name for job in poet] == ["first", "20_free", "21_curve"]
    first = poet[0]
    assert first.parameters == {"run_dir": "data/runs/toy/first", "fails": True}
    assert "-p fails true" in first.command() and first.alone


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("needs: [first]", "needs: [frist]"), "21_curve needs 'frist', which is not among its workers"),
        (("figures: [free]", "figure: [free]"), "report 20_free, has no key 'figure'; it has alone, book"),
        (("reports:", "report:"), "has no key 'report'; it has reports, time_limit, workers"),
        (("20_free", "20_gone"), "20_gone wants nb/20_gone.ipynb, which does not exist"),
        (("{notebook: 10_train}", "{}"), "worker idle does not say its notebook"),
        (("time_limit: 2", "time_limit: ]"), "toy.yaml is not YAML"),
    ],
)
def test_a_profile_that_does_not_hang_together_is_one_sentence(book, change, sentence):
    Path("toy.yaml").write_text(PROFILE.replace(*change))
    with pytest.raises(jobs.ProfileError, match=sentence):
        jobs.read("toy.yaml", notebooks="nb")


def test_unknown_names_are_answered_with_the_known_ones(book):
    with pytest.raises(jobs.ProfileError, match="no profile 'qiuck'; there are paper, quick, reference"):
        jobs.read("qiuck")
    with pytest.raises(jobs.ProfileError, match="no book 'rtmo'; there are all, poet"):
        jobs.read("toy.yaml", "rtmo", "nb")
