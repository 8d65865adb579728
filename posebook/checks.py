"""Self-checks of the pages: a number computed by hand against the code's, or the page stops."""

from __future__ import annotations

import numpy as np

SIDES = ("by hand", "in the code")


class CheckError(AssertionError):
    """A number computed by hand is not the one that the code computes."""


def check(what: str, by_hand, computed, rtol: float = 0.0, atol: float = 0.0, sides: tuple[str, str] = SIDES) -> None:
    """Prints that both sides are the same, or stops the page: |by_hand - computed| <= atol + rtol |computed|.

    by_hand, computed: numbers, texts, truth values or arrays of one shape, each made in its own way. Lists of unequal
    length, NaN and infinite numbers are never the same. sides: how the two were made.

    Raises:
        CheckError: they differ. ValueError: a check that could not fail: nothing to compare, a thing compared with
            itself, or a tolerance that even zeros would meet.
    """
    one, other = sides
    a, b = (np.asarray(getattr(side, "detach", lambda side=side: side)()) for side in (by_hand, computed))
    if by_hand is computed and a.ndim or np.may_share_memory(a, b):
        raise ValueError(f"{what}: a thing is compared with itself, so this check cannot fail; compute one side apart")
    if a.shape != b.shape:
        raise CheckError(f"{what}: the shape is {a.shape} {one}, {b.shape} {other}")
    if not a.size:
        raise ValueError(f"{what}: there is nothing to compare, so this check cannot fail")
    if a.dtype.kind in "biufc" and b.dtype.kind in "biufc":
        a, b = (side.astype(complex if side.dtype.kind == "c" else float) for side in (a, b))
        with np.errstate(invalid="ignore"):
            allowed, off = atol + rtol * np.abs(b), np.abs(a - b)
        if (rtol or atol) and (np.isfinite(b) & (np.abs(b) <= allowed)).all():
            raise ValueError(f"{what}: zeros would meet this tolerance as well, so this check cannot fail; lower it")
        if (apart := ~(off <= allowed)).any():  # NaN, too
            first = np.unravel_index(apart.argmax(), apart.shape)
            limit = np.broadcast_to(allowed, off.shape)[first]
            words = f"{a[first]:g} {one}, {b[first]:g} {other}, more than {limit:.0e} apart"
            raise CheckError(f"{what}: {words}, as {apart.sum()} of {apart.size} numbers are")
        words = f"at most {off.max():.0e} apart" if off.any() else "to the last digit"
    elif not (a == b).all():
        raise CheckError(f"{what}: {by_hand} {one}, {computed} {other}")
    else:
        words = "word for word"
    print(f"{what}: the same {one} and {other}, {words}")
