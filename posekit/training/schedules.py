"""What a training run does at which step: learning rate, stage, the average's momentum, all pure functions of the step.

Nothing here remembers anything, so a resumed run goes on exactly where it was. Sources: POET (Stoffl et al. 2021,
"Implementation Details"), RTMO (Lu et al. 2024, section 4.1, and its published configuration), ViTPose (Xu et al. 2022,
"Implementation details"). A step is one update of the weights, counted from 0; shares are of all steps, in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from posekit.training.recipes import Recipe

if TYPE_CHECKING:
    from torch import Tensor

RESTART = 2.5  # RTMO: the rate is raised so much once, between its two cosines
WARM_UPS: dict[str, Callable[[int, int], float]] = {  # (step, steps of warm-up) -> the factor of the rate, in (0, 1]
    "linear": lambda step, steps: (step + 1) / steps,
    "quadratic": lambda step, steps: ((step + 1) / steps) ** 2,  # RTMO
    "thousandth": lambda step, steps: 0.001 + 0.999 * step / steps,  # ViTPose: 1 only after the warm-up
}


def rate(step: int, recipe: Recipe, base: float) -> float:
    """The learning rate at a step of parameters whose own rate is `base`; the recipe's `floor` is absolute."""
    if step < recipe.warmup:
        return base * WARM_UPS[recipe.warmup_form](step, recipe.warmup)
    if recipe.schedule == "cosine":
        done = (step - recipe.warmup) / max(recipe.steps - recipe.warmup, 1)
        return recipe.floor + (base - recipe.floor) * half_cosine(done)
    if recipe.schedule == "step":
        drops = recipe.drop_at if isinstance(recipe.drop_at, tuple) else (recipe.drop_at,)
        return base * 0.1 ** sum(step >= share * recipe.steps for share in drops)
    return two_cosines(step, base, recipe) if recipe.schedule == "two_cosines" else base


def half_cosine(done: float) -> float:
    """From 1 to 0 as `done` goes from 0 to 1, and 0 after that."""
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def two_cosines(step: int, base: float, recipe: Recipe) -> float:
    """RTMO's rate: a cosine, its last value times 2.5 for a moment, a second cosine, and what is left of it.

    `recipe.restart_at` = shares at which the moment begins, at which it ends, and at which the second cosine stops.
    # differs from paper: it names 4e-3, 5e-4 and 2e-4 only. In the published configuration the cosines are as long as
    their stages, counted from the warm-up's end and from the moment's end, so that both are cut off a little above
    their floor (golden values in tests/golden/rtmo).
    """
    hold, again, level = (round(share * recipe.steps) for share in recipe.restart_at)
    turn = round(recipe.stage2_at * recipe.steps)

    def first(at: int) -> float:
        return recipe.floor + (base - recipe.floor) * half_cosine((at - recipe.warmup) / max(turn, 1))

    if step < hold:
        return first(step)
    raised = RESTART * first(hold - 1)
    done = (min(step, level - 1) - again) / max(level - turn, 1)
    return recipe.floor + (raised - recipe.floor) * half_cosine(max(done, 0.0))


def stage(step: int, recipe: Recipe) -> int:
    """1, or 2 from `recipe.stage2_at` on: RTMO's proxy branch then learns from the classifier, not the annotation."""
    return 2 if step >= round(recipe.stage2_at * recipe.steps) else 1


def is_late(step: int, recipe: Recipe) -> bool:
    """From `recipe.late_at` on: no mosaic any more, and RTMO's auxiliary L1 loss of the boxes."""
    return step >= round(recipe.late_at * recipe.steps)


def averaging_momentum(step: int, momentum: float, ramp: float) -> float:
    """How much of the new weights enters the average at its update `step`; YOLOX's ramp, which RTMO took over.

    Near 1 at first, so that the average forgets the random start, then `momentum`; the excess falls by e in `ramp`
    updates.
    """
    return (1 - momentum) * math.exp(-(1 + step) / ramp) + momentum


def averaging(recipe: Recipe) -> Callable:
    """How the averaged weights take up new ones: by a constant share, or RTMO's falling one."""
    from torch.optim.swa_utils import get_ema_multi_avg_fn

    if not recipe.ema_ramp:
        return get_ema_multi_avg_fn(recipe.ema)

    def update(average: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        momentum = averaging_momentum(int(count), 1 - recipe.ema, recipe.ema_ramp)
        get_ema_multi_avg_fn(1 - momentum)(average, current, count)

    return update
