"""Damaged and strange files through the doors: only clean results and documented errors.

    python tests/drills/fuzz.py --seed 0            600 annotation files, 300 of results, 200 images, 100 of weights
    python tests/drills/fuzz.py --seed 0 --kind images --only 17      one file, with its traceback and kept on the disk

Every file is tried in a process of its own, which may take 20 seconds and 4 GB more than it began with. Prints a table
and exits 1 if there was a fault: another exception than those documented, one that is not one sentence or was raised
by a library and not by posekit, a result that is none, a crash, a hang, too much memory.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import linecache
import multiprocessing
import os
import pickle
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fuzz_doors
import numpy as np

import posekit

SECONDS, BYTES = 20, 4 * 2**30  # that a file may take
CORES = 2  # files at a time
LONGEST = 1500  # characters of a sentence
PACKAGE = str(Path(posekit.__file__).parent)
COUNTS = {"annotations": 600, "results": 200, "boxes": 100, "images": 200, "weights": 70, "records": 30}


@dataclass
class Outcome:
    """What became of one file: "clean", "refused" or "fault"; the errors' sentences, or what went wrong."""

    word: str
    said: str
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=COUNTS, nargs="+", default=list(COUNTS))
    parser.add_argument("--only", type=int, help="number of the one file to try")
    parser.add_argument("--share", type=float, default=1.0, help="of the files; 0.02 is the short form")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a file may take (more on a busy machine)")
    parser.add_argument("--say", action="store_true", help="print every sentence")
    options = parser.parse_args()
    faults = 0
    print(f"{'kind':<12}{'files':>6}{'clean':>7}{'refused':>9}{'faults':>8}{'slowest':>9}")
    for kind in options.kind:
        numbers = range(max(1, round(options.share * COUNTS[kind]))) if options.only is None else [options.only]
        trial = functools.partial(tried, kind, options.seed, options.seconds, options.only is not None)
        with multiprocessing.get_context("fork").Pool(min(CORES, len(numbers))) as pool:
            outcomes = dict(zip(numbers, pool.imap(trial, numbers), strict=True))
        words = [outcome.word for outcome in outcomes.values()]
        counts = [words.count(word) for word in ("clean", "refused", "fault")]
        slowest = max(outcome.seconds for outcome in outcomes.values())
        print(f"{kind:<12}{len(words):>6}{counts[0]:>7}{counts[1]:>9}{counts[2]:>8}{slowest:>7.1f} s", flush=True)
        for number, outcome in outcomes.items():
            if outcome.word == "fault" or options.say:
                print(f"  --seed {options.seed} --kind {kind} --only {number}: {outcome.word}\n{outcome.said}")
        faults += counts[2]
    return int(faults > 0)


def tried(kind: str, seed: int, limit: float, keep: bool, number: int) -> Outcome:
    """What became of a file of a kind; `keep`: it stays where the last line of what was said says."""
    write, doors = fuzz_doors.KINDS[kind]
    folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
    given = write(np.random.default_rng((seed, list(COUNTS).index(kind), number)), folder)
    outcome = apart(lambda: through(doors, given, whole=keep), limit)
    if keep:
        outcome.said += f"\nthe file: {given}"
    else:
        shutil.rmtree(folder)
    return outcome


def through(doors: list[Callable], given, whole: bool) -> Outcome:
    """The file through each door: the worst outcome."""
    word, said = "clean", []
    for door in doors:
        try:
            door(given)
        except Exception as error:
            reason = undocumented(error)
            word = "fault" if reason or word == "fault" else "refused"
            lines = traceback.format_exception(error)
            said.append(f"    {door.__name__}: {reason or ''} {error!s}".rstrip()[: 2 * LONGEST])
            if reason:
                said.append("".join(lines if whole else lines[-1:] + _places(error)))
    return Outcome(word, "\n".join(said))


def undocumented(error: Exception) -> str | None:
    """Why an exception is none that the doors document; None if it is one."""
    if not isinstance(error, ValueError | FileNotFoundError):
        return f"{type(error).__name__}:"
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = (linecache.getline(last.filename, last.lineno) or "").strip()
    if not last.filename.startswith(PACKAGE) or not line.startswith("raise"):
        return f"{type(error).__name__} that posekit did not raise:"
    sentence = str(error)
    if not sentence or "\n" in sentence or len(sentence) > LONGEST:
        return f"a message of {len(sentence)} characters in {len(sentence.splitlines())} lines:"
    return None


def _places(error: Exception) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    return [f"      {Path(f.filename).name}:{f.lineno} {f.name}: {f.line}\n" for f in frames[-4:]]


def apart(call: Callable[[], Outcome], limit: float = SECONDS) -> Outcome:
    """The outcome of a call in a process of its own, with limits of time and memory."""
    began, (reading, writing) = time.monotonic(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            faulthandler.disable()  # what the child dies of is the parent's to tell
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(call(), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    raw, ended = b"", False
    while not ended and time.monotonic() - began < limit:
        if select.select([reading], [], [], max(0.0, began + limit - time.monotonic()))[0]:
            part = os.read(reading, 65536)
            raw, ended = raw + part, not part
    os.close(reading)
    if not ended:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    seconds = time.monotonic() - began
    if not ended:
        return Outcome("fault", f"    still running after {limit:g} s", seconds)
    if os.WIFSIGNALED(status) or not raw:
        end = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "nothing said"
        return Outcome("fault", f"    the process ended with {end}", seconds)
    outcome = pickle.loads(raw)
    outcome.seconds = seconds
    return outcome


if __name__ == "__main__":
    sys.exit(main())
