"""Replays of reference values: `replay.py` opens a directory, `checks.py` compares, `test_golden.py` runs copies."""
