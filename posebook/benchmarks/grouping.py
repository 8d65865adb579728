"""What grouping costs in associative embedding: the algorithm whose runtimes the papers print against the quick one."""

from __future__ import annotations

from functools import partial

import numpy as np

from posebook.benchmarks.bottom_up import rendered_people
from posebook.benchmarks.rendered import tag_maps
from posebook.benchmarks.timing import cpu_ms
from posekit.models.associative_embedding import enlarged
from posekit.models.tag_grouping import MODES, Grouping, group

SIZE, STRIDE, PEOPLE, FASTER = 512, 4, 10, 20.0


def grouping(rounds: int = 3) -> list[str]:
    """Quick grouping must find the people of the published one, with the flip test at a twentieth of its cost."""
    missed = []
    for tags in (1, 2):  # 2: with the flip test, as published

        def render(points: np.ndarray, rng: np.random.Generator, tags=tags) -> dict:
            return tag_maps(points, SIZE, STRIDE, tags, rng)

        def grouped(outputs: dict, mode: str = "fast") -> tuple[np.ndarray, np.ndarray]:
            heatmaps, tag = enlarged(outputs, STRIDE)
            return group(heatmaps[0], tag[0], Grouping(mode))

        outputs = rendered_people(render, lambda outputs: grouped(outputs)[1], PEOPLE, SIZE)
        maps = [array[0] for array in enlarged(outputs, STRIDE)]
        ms = cpu_ms({mode: partial(group, *maps, Grouping(mode)) for mode in MODES}, rounds)
        ratio = ms["paper"] / ms["fast"]
        print(f"  {tags} tag(s): paper {ms['paper']:7.1f} ms, fast {ms['fast']:6.1f} ms, {ratio:5.1f} times as fast")
        one, other = (group(*maps, Grouping(mode)) for mode in MODES)
        if not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)):
            missed.append(f"with {tags} tag(s) the two find different people")
        if tags == 2 and ratio < FASTER:
            missed.append(f"with the flip test quick grouping is {ratio:.1f} times as fast, less than {FASTER:.0f}")
    return missed
