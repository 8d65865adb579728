"""Our code against the small copies of recorded values: each file is replayed, and every value of it is read."""

from pathlib import Path

import pytest

from golden.checks import Directory
from golden.replay import FORMATS, checks_of, data_files, functions_for

HERE = Path(__file__).parent
ROWS = {"schedule.json": 9, "layer_decay.json": 8, "geometry.json": 103, "manifest.json": 12}  # lists in single fields
SLOW = ("loss_s_256x256.npz",)  # both modes, all cases: a minute
FILES = [(name, file) for name in ("POET", "RTMO", "ViTPose") for file in data_files(HERE / name.lower())]


def parameters():
    for name, file in FILES:
        if isinstance(functions_for(FORMATS[name], file), tuple):
            marks = pytest.mark.long if file.name in SLOW else ()
            yield pytest.param(name, file, marks=marks, id=f"{name}-{file}")


@pytest.mark.parametrize("name, file", parameters())
def test_agrees_with_the_published_code(name, file):
    directory = Directory(HERE / name.lower())
    checks = list(checks_of(FORMATS[name], file, directory))
    assert len(checks) >= ROWS.get(file.name, 1)
    for check in checks:
        assert check.reference is not None, f"{check.file} has no {check.check}"
        check.verify()
    for other in {Path(check.file) for check in checks}:
        assert directory.unread(other) == []


def test_every_file_is_replayed_or_belongs_to_one_that_is():
    assert len(FILES) > 45
    for name, file in FILES:
        partner = functions_for(FORMATS[name], file)
        assert partner, f"{name} {file}"
        if isinstance(partner, str):
            assert list((HERE / name.lower()).glob(partner))
