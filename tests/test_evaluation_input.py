"""Scoring from disk and from memory: JSON in pieces, numbers to the last bit, a sentence for each fault."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from coco_rows import folder, found, person, pose
from hypothesis import given
from hypothesis import strategies as st

from posekit.data import coco_json
from posekit.evaluation import detections as reading
from posekit.evaluation import evaluate
from posekit.evaluation.__main__ import main

GOLDEN = Path(__file__).parent / "golden" / "poet_evaluation.json"


def awkward_rows():
    """Rows whose text looks like the end of a row where there is none."""
    rows = [found(number % 3 + 1, pose(number), round(0.001 * number, 3)) for number in range(60)]
    rows[20]["note"] = 'a brace } , { in a string, "quoted" \\ too'
    rows[33]["parts"] = [{"a": 1}, {"b": {"c": 2}}, {"d": []}]
    rows[40]["image_id"] = float(rows[40]["image_id"])  # 2.0 is 2, but not to a typed reader
    return rows


@pytest.mark.parametrize("piece", [16, 700, 5000, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_pieces_add_up_to_the_file(tmp_path, monkeypatch, piece, indent):
    monkeypatch.setattr(reading, "PIECE", piece)
    people = [person(1, 1, pose(3)), person(2, 2, pose(10)), person(3, 3, pose(20))]
    (tmp_path / "dt.json").write_text("\n " + json.dumps(awkward_rows(), indent=indent) + "\n\n")
    (tmp_path / "gt.json").write_text(json.dumps(folder([1, 2, 3], people), indent=indent))
    from_disk = evaluate(tmp_path / "gt.json", tmp_path / "dt.json")
    from_memory = evaluate(folder([1, 2, 3], people), awkward_rows())
    assert from_disk.stats == from_memory.stats and from_disk.stats["AR"] > 0
    np.testing.assert_array_equal(from_disk.detections.keypoints, from_memory.detections.keypoints)
    np.testing.assert_array_equal(from_disk.detections.row, from_memory.detections.row)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=30))
def test_numbers_are_read_to_the_last_bit(values):
    row = {"image_id": 1, "category_id": 1, "score": 1, "keypoints": values}
    (read,) = reading.decode_rows(json.dumps([row]).encode())
    assert read.keypoints == values


def test_without_the_typed_readers_the_numbers_are_the_same(tmp_path, monkeypatch):
    golden = json.loads(GOLDEN.read_text())
    for name in ("ground_truth", "detections"):
        (tmp_path / name).write_text(json.dumps(golden[name]))

    def misfit(*_):
        raise msgspec.DecodeError

    monkeypatch.setattr(coco_json, "_decode_typed", misfit)
    monkeypatch.setattr(coco_json, "_documented", lambda *_: None)
    monkeypatch.setattr(reading, "decode_rows", misfit)
    result = evaluate(tmp_path / "ground_truth", tmp_path / "detections")
    np.testing.assert_allclose(list(result.stats.values()), golden["stats"], rtol=0, atol=1e-12)


def without(row, *fields):
    return {key: value for key, value in row.items() if key not in fields}


GOOD = person(1, 1, pose()), found(1, pose(), 0.5)


@pytest.mark.parametrize(
    ("people", "rows", "sentence"),
    [
        (
            [GOOD[0]],
            {"annotations": []},
            "must be a list of rows, or a dict of arrays.*lacks score, image_id, keyp",
        ),
        ([GOOD[0]], 7, "must be a list of rows .*not one int"),
        (
            [GOOD[0]],
            [GOOD[1], found(1, pose(k=14), 0.5)],
            "row 1 has 42 keypoint numbers; 17 keypoints need 51",
        ),
        ([GOOD[0]], [GOOD[1] | {"keypoints": [1, 2]}], "row 0 has 2 keypoint numbers; 17 keypoints need 51"),
        ([GOOD[0]], [GOOD[1] | {"keypoints": ["a"] * 51}], "row 0 holds something other than numbers in"),
        ([GOOD[0]], [GOOD[1], found(99, pose(), 0.5)], "image 99 not in the ground truth"),
        ([GOOD[0]], [GOOD[1], without(GOOD[1], "score")], "row 1 has no 'score'"),
        (
            [GOOD[0]],
            [GOOD[1], GOOD[1] | {"image_id": 7.5}],
            "row 1 has the image_id 7.5 .a number., not a whole",
        ),
        ([GOOD[0]], [GOOD[1], GOOD[1] | {"image_id": True}], "row 1 has the image_id true, not a number or text"),
        ([GOOD[0]], [GOOD[1], 5], "row 1 has no 'image_id'"),
        (
            [GOOD[0]],
            [found(1, pose(), float("nan"))],
            "row 0 .image 1. holds a keypoint or score that is not finite",
        ),
        (
            [GOOD[0]],
            [found(1, pose() * np.inf, 1.0)],
            "row 0 .image 1. holds a keypoint or score that is not finite",
        ),
        ([GOOD[0]], [GOOD[1] | {"segmentation": []}], "'segmentation': remove it"),
        ([without(GOOD[0], "area")], [], "annotation 1 .image 1. has no 'area'"),
        (
            [GOOD[0] | {"area": float("inf")}],
            [],
            "annotation 1 .image 1. holds a number that is not finite",
        ),
    ],
)
def test_errors_are_sentences(people, rows, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        evaluate(folder([1], people), rows)
    if isinstance(rows, list):  # the same sentence when read from disk
        (tmp_path / "gt.json").write_text(json.dumps(folder([1], people)))
        (tmp_path / "dt.json").write_text(json.dumps(rows))
        with pytest.raises(ValueError, match=sentence):
            evaluate(tmp_path / "gt.json", tmp_path / "dt.json")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sigmas": [0.1] * 14}, r"sigmas of shape \(14,\) do not fit 17 keypoints"),
        ({"sigmas": [0.0] * 17}, "sigmas must be positive, not 0"),
        ({"image_ids": [1, 5]}, "image_ids: 5 not among the 1 images"),
        ({"category_id": 3}, "no category 3; it has 1 .*--category"),
        ({"max_detections": 0}, "must be at least 1"),
    ],
)
def test_options_that_cannot_be(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate(folder([1], [GOOD[0]]), [GOOD[1]], **options)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not a JSON file"),
        ("[1]", "must hold 'images' and 'annotations'.*a list"),
        ('{"images": []}', "must hold 'images' and 'annotations'.*the fields images"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_no_annotations(tmp_path, text, sentence):
    path = tmp_path / "annotations.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"annotations.json.*{sentence}"):
        evaluate(path, [])


@pytest.mark.parametrize("text", ['[{"image_id": 1', '{"a": 1}', "", '[{"image_id": 1}] x'])
def test_files_that_are_no_detections(tmp_path, text):
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="found.json(: detections must be a list| is not a JSON file)"):
        evaluate(folder([1], [GOOD[0]]), path)


def test_command_line(tmp_path, capsys):
    golden = json.loads(GOLDEN.read_text())
    for name in ("ground_truth", "detections"):
        (tmp_path / name).write_text(json.dumps(golden[name]))
    assert main([str(tmp_path / "ground_truth"), str(tmp_path / "detections")]) == 0
    assert "0.487  0.659  0.534  0.703  0.391  0.584" in capsys.readouterr().out
    assert main([str(tmp_path / "ground_truth"), str(tmp_path / "nothing")]) == 1
    assert "cannot be read" in capsys.readouterr().err
