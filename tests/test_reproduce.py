"""`make reproduce` on a toy book: only what is missing is made, training resumes, profiles are checked."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Hashable
from datetime import date
from pathlib import Path

import jobs
import nbformat
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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


FOLDER = "$(touch x) {y} 'z'"  # a clone may lie anywhere: nothing in it means anything to a shell or to Snakemake


@pytest.fixture
def book(tmp_path, monkeypatch):
    tmp_path = tmp_path / FOLDER
    (tmp_path / "ci").mkdir(parents=True)
    for script in ("Snakefile", "jobs.py", "reproduce.py", "execute.py"):
        shutil.copy(ROOT / "ci" / script, tmp_path / "ci")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    training = 'run_dir: str = ""  # r\nfails: bool = False  # f'
    notebook(Path("nb/10_train.ipynb"), TRAIN, FAIL, parameters=training)
    names = 'profile: str = ""  # p\nstem: str = ""  # s\ncaption: str = ""  # c'
    for report in ("20_free", "21_curve"):
        notebook(Path(f"nb/{report}.ipynb"), DRAW, parameters=names)
    Path("toy.yaml").write_text(PROFILE)
    return tmp_path


def reproduce(*arguments):
    call = [sys.executable, Path("ci/reproduce.py").resolve(), "--profile", "toy.yaml", "--notebooks", "nb"]
    return subprocess.run([*call, *arguments], capture_output=True, text=True)


def started(done):
    return sorted(line for line in done.stderr.splitlines() if line.endswith("| started"))


def test_only_what_is_missing_is_made(book):
    first = reproduce("--book", "poet")
    assert first.returncode == 1, first.stderr
    error, repeat = first.stderr.splitlines()[-2:]
    assert "RuntimeError: out of luck" in error
    assert "20_free" in first.stdout and "10_train.idle" not in first.stdout
    assert Path("figures/toy/free.svg").exists() and not Path("figures/toy/curve.svg").exists()

    command = repeat.partition("to repeat it alone: ")[2]  # as copied from the screen
    alone = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    assert started(alone) == ["10_train.first | started"]
    assert "started at epoch 1" in alone.stderr  # the failed run's files were still there
    assert Path("data/runs/toy/first/weights").exists() and not Path("figures/toy/curve.svg").exists()

    second = reproduce("--book", "poet")
    assert second.returncode == 0, second.stderr
    assert started(second) == ["21_curve | started"]
    assert Path("figures/toy/curve.csv").read_text() == "it's {AP} $5"
    assert "2 of 2 figures" in second.stdout

    # only what a report says and does counts: neither clocks, nor outputs in it, nor a word in a worker
    tomorrow = time.time() + 86400
    for path in Path().glob("nb/*.ipynb"):
        edit(path, lambda cells: cells[-1].update(outputs=[nbformat.v4.new_output("stream", text="published")]))
        os.utime(path, (tomorrow, tomorrow))
    edit(Path("nb/10_train.ipynb"), lambda cells: cells[-1].update(source=f"# a remark\n{FAIL}"))
    third = reproduce("--book", "poet")
    assert third.returncode == 0 and started(third) == []
    assert json.loads(Path("build/toy/20_free.cost.json").read_text())["status"] == "done"

    for path in [*Path("build/toy").iterdir(), *Path("figures/toy").iterdir()]:
        os.utime(path, (tomorrow + 86400, tomorrow + 86400))  # newer than any edit
    edit(Path("nb/20_free.ipynb"), lambda cells: cells.append(nbformat.v4.new_markdown_cell("more words")))
    Path("figures/toy/curve.png").unlink()
    fourth = reproduce("--book", "poet")
    assert fourth.returncode == 0 and started(fourth) == ["20_free | started", "21_curve | started"]
    assert Path("figures/toy/curve.png").exists()
    assert not Path("x").exists()  # the folder's name ran nowhere


def edit(path, change):
    book = nbformat.read(path, as_version=4)
    change(book.cells)
    nbformat.write(book, path)


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
        (
            ("figures: [free]", "figure: [free]"),
            "report 20_free: Object contains unknown field `figure`.*; its keys are alone, book",
        ),
        (("reports:", "report:"), "unknown field `report`.*; its keys are reports, time_limit, workers"),
        (("20_free", "20_gone"), "20_gone wants nb/20_gone.ipynb, which does not exist"),
        (("{notebook: 10_train}", "{}"), "worker idle: Object missing required field `notebook`"),
        (("time_limit: 2", "time_limit: ]"), "toy.yaml is not YAML"),
        (("time_limit: 2", "time_limit: 2026-99-99"), "toy.yaml is not YAML"),
        (("time_limit: 2", "time_limit: -2"), r"toy.yaml: Expected `float` > 0.0 - at `\$.time_limit`"),
        (("workers:", "workers: []\nreports:"), r"toy.yaml: Expected `object`, got `array` - at `\$.workers`"),
        (("{notebook: 10_train}", "[10_train]"), "worker idle: Expected `object`, got `array`"),
        (
            ("parameters: {fails: true}", "parameters: fails"),
            r"worker first: Expected `object`, got `str` - at `\$.parameters`",
        ),
        (("{fails: true}", "{fails: 2026-11-27}"), "worker first: the parameter fails is datetime.date.* in quotes"),
        (
            ("{fails: true}", "{1: true}"),
            "worker first: Expected `str`, got `int` - at `key` in `.*parameters`, in .*{1: True}",
        ),
        (("needs: [first]", "needs: first"), r"report 21_curve: Expected `array`, got `str` - at `\$.needs`"),
        (
            ("figures: [free]", "figures: ['../free']"),
            "report 20_free: Expected `str` matching regex .* in {'figures': .*../free",
        ),
        (("figures: [free]", "figures: [curve]"), "figures/toy/curve.csv is made twice"),
        (("first: {", "first: {needs: [idle], "), None),
        (("first: {", "first: {needs: [first], "), "first need one another in a circle"),
        (("first: {", "all: {"), "a job is called 'all'; each needs a name"),
        (("idle: {", "{a}: {"), "a job is called|is not YAML|Expected `str`"),
    ],
)
def test_a_profile_that_does_not_hang_together_is_one_sentence(book, change, sentence):
    Path("toy.yaml").write_text(PROFILE.replace(*change))
    if sentence is None:
        assert jobs.read("toy.yaml", notebooks="nb")
        return
    with pytest.raises(jobs.ProfileError, match=sentence) as caught:
        jobs.read("toy.yaml", notebooks="nb")
    assert "\n" not in str(caught.value)


ODD = (
    None,
    True,
    -1,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "a",
    "{y}",
    "../a",
    "first",
    "10_train",
    date(2026, 1, 2),
    b"a",
)
THINGS = st.recursive(
    st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([1, True, None, "needs", "a"]), inner),
    max_leaves=4,
)


def places(value, way=()):
    """The way to everything in a profile: ("workers", "first", "notebook")."""
    yield way
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*way, key))


PLACES = list(places(yaml.safe_load(PROFILE)))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.sampled_from(PLACES), thing=THINGS, rename=st.booleans())
def test_a_profile_of_anything_is_read_or_refused_in_a_sentence(book, place, thing, rename):
    content = {"": yaml.safe_load(PROFILE)}
    *way, last = ("", *place)
    inside = content
    for key in way:
        inside = inside[key]
    if rename and isinstance(inside, dict) and isinstance(thing, Hashable) and place:
        inside[thing] = inside.pop(last)
    else:
        inside[last] = thing
    Path("toy.yaml").write_text(yaml.safe_dump(content[""]))
    try:
        found = jobs.read("toy.yaml", notebooks="nb")
    except jobs.ProfileError as error:
        assert "\n" not in str(error) and "toy.yaml" in str(error)
    else:  # what is read can be run
        for job in found:
            assert shlex.split(job.command())[:2] == [job.notebook, job.output] and job.source() is not None


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    at=st.integers(0, len(PROFILE)), cut=st.integers(0, 20), put=st.text("[]{}:,-&*!?|>'\"%@#\n\t\0 0aé", max_size=4)
)
def test_a_profile_with_broken_text_is_read_or_refused_in_a_sentence(book, at, cut, put):
    Path("toy.yaml").write_text(PROFILE[:at] + put + PROFILE[at + cut :], encoding="utf-8")
    try:
        [job.command() for job in jobs.read("toy.yaml", notebooks="nb")]
    except jobs.ProfileError as error:
        assert "\n" not in str(error) and "toy.yaml" in str(error)


def test_unknown_names_are_answered_with_the_known_ones(book):
    with pytest.raises(jobs.ProfileError, match="no profile 'qiuck'; there are paper, published, quick, reference"):
        jobs.read("qiuck")
    with pytest.raises(jobs.ProfileError, match="no book 'rtmo'; there are all, poet"):
        jobs.read("toy.yaml", "rtmo", "nb")
