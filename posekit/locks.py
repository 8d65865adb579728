"""One writer at a time: a lock that ends with the process that holds it, however that ends.

The lock is the system's (`flock`) on a small file that holds the number of the process. It stays with the file when
its folder is moved, and no killed process leaves one behind. Windows, and network disks that know no locks, go without.
"""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO

from posekit.files import relative, remove_leftovers

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HELD: weakref.WeakSet[Lock] = weakref.WeakSet()


class InUseError(RuntimeError):
    """Another process, or this one elsewhere, is writing there; one sentence."""


class Lock(AbstractContextManager):
    """A lock file while it is held; `file` is None where there are no locks, and after `release`."""

    def __init__(self, path: Path, file: IO[str] | None = None, fresh: bool = False) -> None:
        self.path, self.file, self.fresh = path, file, fresh
        HELD.add(self)

    def release(self) -> None:
        """Lets go and takes the file away, and a folder that was made for it alone. A second time nothing happens."""
        if self.file is not None:
            with suppress(OSError):
                if _is_at(self.file, self.path):
                    self.path.unlink()
                    if self.fresh:
                        self.path.parent.rmdir()  # fails where something was written
            self.file.close()
            self.file = None

    def __exit__(self, *_) -> None:
        self.release()


def take(path: Path, what: str, wait: bool = False) -> Lock:
    """Holds the lock file `path`; `what` it protects, for the sentence.

    wait: until the holder lets go, instead of refusing.

    Raises:
        InUseError: it is held already. OSError: its folder cannot be written.
    """
    fresh = not path.parent.exists()
    while fcntl is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+", encoding="ascii")  # as it is: the number in it is the holder's
        except FileNotFoundError:  # its last holder took the folder away
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            number = file.read().strip()
            holder = f"process {number}" if number else "another process"
            holder = f"this process ({number})" if number == str(os.getpid()) else holder
            if not wait:
                file.close()
                raise InUseError(
                    f"{what} is being written by {holder}: wait until that is done or stop it, or choose another folder"
                ) from None
            print(f"waiting for {holder}, which is writing {what}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a disk without locks
            file.close()
            break
        if not _is_at(file, path):
            file.close()  # its last holder took it away after we had opened it
            continue
        with suppress(OSError):  # a full disk: the lock holds without the number
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        return Lock(path, file, fresh)
    return Lock(path)


def writing(folder: Path) -> Lock:
    """Holds a folder for writing and removes what killed processes left half written in it.

    Raises:
        InUseError: another process is writing there; the sentence names the folder and the process.
    """
    lock = take(folder / ".lock", relative(folder))
    remove_leftovers(folder)
    return lock


def _is_at(file: IO[str], path: Path) -> bool:
    """Is the open file still the one of that name?"""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _forget() -> None:
    """In a forked child (a data worker): the lock is its parent's alone and must not outlive it."""
    for lock in list(HELD):
        if lock.file is not None:
            lock.file.close()
            lock.file = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
