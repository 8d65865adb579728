"""Notebooks 10 and 11 as a reader runs them on a folder of one's own: what they print, and that they come to an end."""

import ast
import contextlib
import io
import json
from pathlib import Path

import nbformat
import pytest
import torch
from test_training_data import person, write

from posekit import runs

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SMALL = {"steps": 2, "batch_size": 2, "ema": 0.0, "seed": 0}


@pytest.fixture
def house(monkeypatch, tmp_path):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('name = "posekit"\n')
    return tmp_path


def page(name: str, **parameters) -> str:
    """What the code cells of a notebook print, and show as text or HTML, run in order in this process."""
    out, scope = io.StringIO(), {"__name__": "__main__"}
    with contextlib.redirect_stdout(out):
        for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells:
            if cell.cell_type != "code":
                continue
            tree = ast.parse(cell.source)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, name, "exec"), scope)
            shown = eval(compile(ast.Expression(last.value), name, "eval"), scope) if last else None
            print(shown.to_html() if hasattr(shown, "to_html") else shown if isinstance(shown, str) else "")
            if "parameters" in cell.metadata.get("tags", []):
                assert parameters.keys() <= scope.keys()
                scope |= parameters
    return out.getvalue()


def test_a_folder_called_2024_with_a_missing_image(house):
    folder = write(house / "2024", [person(i, v=1) for i in (1, 2, 3)])
    (folder / "images" / "2.png").unlink()
    asked = {"recipe": "rtmo_tiny", "dataset": 2024, "size": 64, "on_error": "skip", **SMALL}
    text = page("10_train", run_dir="data/runs/mine/one", **asked)  # plain papermill makes a number of 2024
    assert "papermill made 2024 of a text; it is read as '2024'" in text
    assert "note: training and validation: " in text and "v = 2" in text and "OKS sigmas: coco" in text
    assert text.count("left out: 1") == 2 and "image 2" in text  # in the log, and beside the numbers
    text = page("11_evaluate", run_dir="data/runs/mine/one", out_dir="data/runs/mine/scores")
    assert "2 pictures, 2 people that count, 1 left out" in text and "with the OKS sigmas coco" in text
    assert "note: " in text and "v = 2" in text


def test_nobody_to_validate_on_is_dashes_to_the_last_cell(house):
    folder = write(house / "photos", [person(1), person(2), person(3)], name="train.json")
    write(folder, [person(1, v=0)], name="val.json")
    text = page("10_train", recipe="vitpose_tiny", run_dir="run", dataset="photos", size=0, **SMALL)
    assert "AP –" in text and "AP on photos is –" in text and "-1.0" not in text and "nan" not in text.lower()
    text = page("11_evaluate", run_dir="run", out_dir="scores", dataset="photos")
    assert "0 people that count" in text and "AP –" in text and "Nobody to show." in text
    assert "-1.0" not in text and "nan" not in text.lower()
    assert json.loads(Path("scores/metrics.json").read_text())["AP"] is None


def test_a_model_without_poses_has_its_losses_alone(house):
    write(house / "photos", [person(1), person(2)])
    text = page("10_train", recipe="mae_tiny", run_dir="run", dataset="photos", **SMALL)
    assert "There is no AP to draw." in text and "AP on photos is –" in text
    assert runs.load_run("run")["status"] == "done"


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("10_train", {"more": "ema=0.9"}, "more is 'ema=0.9', which is not JSON"),
        ("10_train", {"more": '{"emma": 0.9}'}, "a recipe has no field emma; it has"),
        ("10_train", {"precision": "fp16"}, "precision of the recipe is 'fp16': choose"),
        ("10_train", {"steps": 0}, "steps of the recipe is 0: it must be at least 1"),
        ("11_evaluate", {"data_options": "[]"}, "data_options is '\\[\\]': it must hold names with values"),
        ("14_study", {"seeds": "zero"}, "seeds is 'zero': give whole numbers"),
        ("14_study", {"given": "teacher"}, "given has 'teacher': give VARIANT=FOLDER"),
    ],
)
def test_parameters_that_cannot_be_are_a_sentence(house, name, parameters, words):
    with pytest.raises(ValueError, match=words):
        page(name, **parameters)
