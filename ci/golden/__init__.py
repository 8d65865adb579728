"""Formats of golden directories: one module per published reference.

A format module has two names. `HANDLERS`: a list of (file pattern, function(file, report)), most specific
pattern first; the function replays that file (and may replay companions of the same stem) and adds rows to
the report. `TITLE`: what the reference is. A directory belongs to the format whose patterns fit most of its
files, so a format is added by writing its module and naming it in `FORMATS`.
"""

from __future__ import annotations

from pathlib import Path

from golden import poet, rtmo, vitpose
from golden.report import Report

FORMATS = [poet, rtmo, vitpose]
IGNORED = ("README*", ".*")


def data_files(folder: Path) -> list[Path]:
    """Every file below the folder that holds reference values, relative to the folder, sorted."""
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in inside if not any(path.match(pattern) for pattern in IGNORED))


def handler_for(module, file: Path):
    """The function of a format that replays `file`, or None."""
    return next((function for pattern, function in module.HANDLERS if file.match(pattern)), None)


def replay(folder: Path) -> Report:
    """Replay every file of one golden directory; what cannot be replayed is a failed row."""
    report = Report(folder)
    files = data_files(folder)
    fits = {module: sum(handler_for(module, file) is not None for file in files) for module in FORMATS}
    module = max(fits, key=fits.get)
    if not fits[module]:
        known = ", ".join(module.TITLE for module in FORMATS)
        report.fail(".", "format", f"no file fits a known format ({known})")
        return report
    for file in files:
        function = handler_for(module, file)
        if function is None or report.replayed(file):
            continue
        try:
            function(file, report)
        except Exception as error:  # one broken file must not hide the others
            report.fail(file, "replay", f"{type(error).__name__}: {error}")
    report.close(files)
    return report
