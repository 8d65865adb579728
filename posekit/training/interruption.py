"""Ctrl-C and SIGTERM as a wish that long work reads where it can stop without loss.

Python may break into any line: between an optimiser's step and its counter, say, and a state that is saved there is
none that the uninterrupted work ever had. Inside `deferred` the first signal only sets a flag; a second one breaks in.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

AT_ONCE = "stopped at once; the same call goes on from the last checkpoint"


@dataclass
class Stop:
    """`signal`: the number of the signal that came, 0 = none."""

    signal: int = 0


@contextmanager
def deferred() -> Iterator[Stop]:
    """The first SIGINT or SIGTERM sets the flag that is yielded, a second one raises KeyboardInterrupt at once.

    Who leaves without having read the flag is interrupted at the end. After SIGTERM the signal is sent again once the
    former handlers are back: the process ends as one that was terminated. Signals that were ignored stay ignored. In
    another thread than the main one nothing changes: Python gives it no signals.

    Raises:
        KeyboardInterrupt: at the end, if the flag is set and the body did not raise.
    """
    stop, before = Stop(), {}

    def ask(number: int, frame) -> None:
        again, stop.signal = stop.signal, number
        if again:
            raise KeyboardInterrupt(AT_ONCE)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's, it could not be put back
                before[number] = signal.signal(number, ask)
    try:
        yield stop
        if stop.signal:
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if stop.signal == signal.SIGTERM:
            sys.stdout.flush()  # the default handler ends the process where it stands
            sys.stderr.flush()
            signal.raise_signal(signal.SIGTERM)
