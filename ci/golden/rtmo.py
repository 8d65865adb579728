"""RTMO's golden files: each module of `PARTS` replays what it knows.

Reference: mmpose 1.3.2 (Lu et al. 2023). A file may hold arrays of several parts (`components.npz`): every part that
knows its name sees it.
"""

from __future__ import annotations

from pathlib import Path

from golden import rtmo_forward, rtmo_geometry, rtmo_losses, rtmo_schedule
from golden.report import Report

TITLE = "RTMO"
PARTS = [rtmo_forward, rtmo_losses, rtmo_geometry, rtmo_schedule]


def replay(file: Path, report: Report) -> None:
    """Hand the file to every part with a pattern that fits."""
    for part in PARTS:
        function = next((function for pattern, function in part.HANDLERS if file.match(pattern)), None)
        if function is not None:
            function(file, report)


HANDLERS = [(pattern, replay) for part in PARTS for pattern, _ in part.HANDLERS]
