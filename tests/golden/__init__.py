"""Replays of reference values: does this code compute what the published implementations compute?

`replay.py` finds the format of a directory and the function for each file; `checks.py` compares. The folders hold small
copies of the recorded values, which `test_golden.py` replays; `python ci/conformance.py DIR` replays any directory.
"""
