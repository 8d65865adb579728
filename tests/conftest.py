"""Shared by all tests: one thread per test process, so that results do not depend on the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from hypothesis import settings  # noqa: E402

# The same commit passes or fails the same everywhere; `HYPOTHESIS_PROFILE=default` searches with new examples.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
