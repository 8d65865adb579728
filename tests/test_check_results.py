"""Printed results are those of the shipped weights, and a changed one is found."""

import shutil
from pathlib import Path

import check_results
import pytest

from posekit.files import resolve


@pytest.fixture
def copied(tmp_path):
    shutil.copy(resolve("README.md"), tmp_path)
    shutil.copytree(resolve(check_results.FIGURES), tmp_path / check_results.FIGURES)
    return tmp_path


def test_what_is_committed_is_what_two_networks_reach(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["check_results.py", "--short"])
    assert check_results.main() == 0, capsys.readouterr().out


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_one_changed_number_is_found(copied):
    known = check_results.records()
    assert list(check_results.printed(known, copied)) == []
    changed(copied / "README.md", "| 65 | 0.599 | 0.884 |", "| 65 | 0.610 | 0.884 |")
    (fault,) = check_results.printed(known, copied)
    assert fault == "README.md: AP 0.610 of data/weights/rtmo_tiny, whose record says 0.599"
    old = 'shipped weights",CSPDarknet,0.7,–,59.'
    changed(copied / check_results.FIGURES / "rtmo_table1.csv", f"{old}9", f"{old}8")
    assert any("rtmo_table1.csv: AP 59.8" in one for one in check_results.printed(known, copied))
    known.pop("data/weights/rtmo_tiny")
    assert any("which is not shipped" in one for one in check_results.printed(known, copied))
