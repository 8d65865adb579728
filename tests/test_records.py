"""run.json as everybody reads it: parts of another type are a sentence, missing ones are filled in."""

import json

import numpy as np
import pytest

from posebook import tables
from posebook.reports import RunFiles
from posekit import files, runs
from posekit.evaluation import STATS
from posekit.files import save_tensors, write_json
from posekit.training.evaluate import evaluate_run
from posekit.training.recipes import recipe
from posekit.training.weights import load

WHOLE = {"status": "done", "results": {"step": 8}, "parameters": {"model": "poet_tiny"}, "provenance": {"seed": 3}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('name = "posekit"\n')
    return tmp_path / "data" / "runs" / "mine" / "one"


def write(folder, content) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_missing_parts_are_filled_in(folder):
    write(folder, {"parameters": {}})
    record = runs.load_run(folder)
    assert record["status"] == "unknown" and record["results"] == {} and record["provenance"]["data"] is None
    assert record["folder"] == "data/runs/mine/one"
    assert runs.footer(folder) == "profile mine · one · commit unknown · unknown device"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{not json", r"data/runs/mine/one/run.json is not JSON"),
        pytest.param("[" * 100_000, r"data/runs/mine/one/run.json is not JSON", id="nested too deep"),
        ([], r"data/runs/mine/one/run.json is not the record of a run \(it holds a list\)"),
        ({"status": "done"}, r"is not the record of a run \(it has no 'parameters'\)"),
        (WHOLE | {"parameters": []}, "parameters is '\\[\\]'"),
        (WHOLE | {"results": "AP"}, "results is 'AP'"),
        (WHOLE | {"results": {"step": "8"}}, "results.step is '8'"),
        (WHOLE | {"status": 1}, "status is '1'"),
        (WHOLE | {"provenance": None}, "provenance is 'None'"),
        (WHOLE | {"provenance": {"data": 3}}, "provenance.data is '3'"),
        (WHOLE | {"provenance": {"started": 3}}, "provenance.started is '3'"),
        (WHOLE | {"provenance": {"seed": True}}, "provenance.seed is 'True'"),
    ],
)
def test_a_part_of_another_type_is_a_sentence_for_every_reader(folder, content, words):
    write(folder, content)
    (folder / "model.safetensors").write_bytes(b"")
    readers = {
        "load_run": lambda: runs.load_run(folder),
        "footer": lambda: runs.footer(folder),
        "RunFiles": lambda: RunFiles(str(folder)),
        "evaluate_run": lambda: evaluate_run(folder),
        "load": lambda: load("poet_tiny", folder),
        "open": lambda: runs.Run.open(folder, {}, seed=0),
    }
    for name, read in readers.items():
        with pytest.raises(ValueError, match=words):
            read()
            pytest.fail(f"{name} reads it")


def test_recipes_that_cannot_be_name_their_record(folder):
    write(folder, WHOLE | {"parameters": {"model": "poet_tiny", "steps": "many"}})
    (folder / "model.safetensors").write_bytes(b"")
    words = "data/runs/mine/one/run.json: steps of the recipe is 'many': it must be a whole number"
    with pytest.raises(ValueError, match=words):
        evaluate_run(folder, folder=folder.with_name("scores"))
    with pytest.raises(ValueError, match=words):
        RunFiles("data/runs/mine/one").recipe  # noqa: B018
    with pytest.raises(ValueError, match=words):
        load("poet_tiny", folder)


def test_a_run_that_was_not_finished_says_what_to_do(folder):
    write(folder, WHOLE | {"status": "interrupted"})
    with pytest.raises(FileNotFoundError, match="no weights in data/runs/mine/one: its run is interrupted, not done"):
        evaluate_run(folder, folder=folder.with_name("scores"))
    write(folder.with_name("scores"), WHOLE | {"parameters": {"evaluated": "data/runs/mine/one"}})
    with pytest.raises(FileNotFoundError, match="scores: it holds the evaluation of data/runs/mine/one; give that"):
        evaluate_run(folder.with_name("scores"))


def test_a_file_in_the_place_of_the_folder(folder):
    folder.parent.mkdir(parents=True)
    folder.write_text("mine")
    with pytest.raises(ValueError, match="data/runs/mine/one is a file, and a run needs a folder"):
        runs.Run.open(folder, {}, seed=0)
    assert folder.read_text() == "mine"


def test_a_folder_called_2024_as_papermill_types_it(folder, capsys):
    write(folder.parents[3] / "2024", WHOLE)
    assert files.resolve(2024) == files.resolve("2024") and RunFiles(2024).folder == "2024"
    assert runs.footer(2024) == runs.footer("2024") and runs.load_run(2024)["status"] == "done"
    assert files.text_of("2024") == "2024" and capsys.readouterr().out == ""
    assert files.text_of(2024) == "2024" and "papermill made 2024 of a text" in capsys.readouterr().out


def test_a_run_and_its_shipped_copy_stand_in_one_row(folder):
    made = recipe("poet_tiny", steps=8)
    facts = {"started": "2026-11-20T10:00:00+00:00", "commit": "abc1234", "seed": 0, "data": {"name": "drawn people"}}
    record = {"status": "done", "results": {"step": 8}, "parameters": vars(made), "provenance": facts}
    other = record | {"provenance": facts | {"started": "2026-11-20T11:00:00+00:00"}}
    evaluated = {"parameters": {"model": "poet_tiny", "evaluated": "data/runs/mine/one"}}
    names = {"one": record, "scores": evaluated, "shipped": record, "again": other}

    def row(name, method, ap):
        files.write_json(folder.with_name(name) / "metrics.json", dict.fromkeys(STATS, ap))
        return RunFiles(str(folder.with_name(name))).score_row() | {"method": method}

    for name, content in names.items():
        write(folder.with_name(name), content)
    ours = [
        row("scores", "poet_tiny", 0.5),
        row("shipped", "poet_tiny, shipped weights", 0.6),
        row("again", "other", 0.7),
    ]
    paper = tables.read_paper("poet_table1", folder=PAPER).head(1)
    page = tables.comparison(paper.assign(extra_data=""), ours, {"AP": "AP"})
    assert page[page.by == "ours"].method.tolist() == ["poet_tiny", "other"]
    assert page[page.by == "ours"].AP.tolist() == ["50.0", "70.0"]
    assert len(tables.distinct_runs(tables.pd.DataFrame(ours).drop(columns="trained"))) == 3  # rows without it stay


PAPER = files.root() / "data" / "paper"


def test_absent_numbers_are_dashes_in_rows_and_tables(folder):
    made = recipe("poet_tiny", steps=8, images=4, val_images=4)
    write(folder, {"parameters": vars(made), "results": {"step": 8}, "provenance": {"seed": 0}})
    save_tensors(folder / "model.safetensors", load("poet_tiny").state_dict())
    write_json(folder / "metrics.json", {"AP": None, "AP50": -1, "AR": 0.25, "APhard": None})
    files = RunFiles(str(folder))
    assert not files.metrics["APhard"] >= 0 and "APeasy" not in files.metrics
    row = files.score_row()
    assert np.isnan(row["AP"]) and np.isnan(row["AP50"]) and np.isnan(row["APM"]) and row["AR"] == 0.25
    table = tables.comparison(tables.pd.DataFrame(), [row], {"AP": "AP", "AP50": "AP50", "AR": "AR"})
    assert table[["AP", "AP50", "AR"]].values.tolist() == [["–", "–", "25.0"]]
