"""POET's Figure 1: six methods, timed against the number of people (Stoffl, Vidal, Mathis 2021)."""

from __future__ import annotations

from importlib.metadata import version

import torch

from posebook.benchmarks import bottom_up, systems, timing
from posebook.benchmarks.timing import Method, Scene, Speed
from posebook.verdicts import slope
from posekit import models, runs
from posekit.files import relative, resolve, write_bytes
from posekit.provenance import provenance

POET, OPENPOSE, AE_R50, AE_HRNET = "poet_r50", "openpose_coco", "ae_r50_stride4", "ae_hrnet_w32"
TOP_DOWN_GT_BOXES, TOP_DOWN_DETECTOR = "simple_baseline_r50", "mask_rcnn_simple_baseline_r50"
FIGURE_1 = (POET, AE_R50, AE_HRNET, OPENPOSE, TOP_DOWN_DETECTOR, TOP_DOWN_GT_BOXES)
LOOP, FAST = f"{TOP_DOWN_GT_BOXES}_loop", f"{AE_R50}_fast"  # one crop at a time; our quick grouping
BESIDE = (TOP_DOWN_GT_BOXES, LOOP, AE_R50, FAST)
OFTEN = 4  # runs of POET in a round: its claim, no slope at all, wants the narrowest interval
TOLERANCE = 0.1  # between the sum of the stages and the whole


def speed_rows(people, scenes=5, size=512, seed=0, threads=1, device="cpu", **protocol) -> Speed:
    """Figure 1's six methods, with random weights, and `LOOP` and `FAST`; on a GPU POET also compiled and as a graph.

    Args:
        people: numbers of people; scenes: different images for each; size: of the drawn images, size x size.
        protocol: repeats, warmup, budget_s of `timing.measure`.
    """
    drawn = systems.drawn_scenes(people, scenes, size, seed)
    methods = speed_methods(drawn, size, seed, device)
    options = {"seed": seed, "threads": threads, "device": device, "often": {POET: OFTEN}}
    raw = timing.measure(methods, drawn, **options, **protocol)
    clock = timing.choose_clock(raw, threads) if device == "cpu" else "wall"
    settings = {"weights": "random", "clock": clock, "threads": threads, "device": device, "backend": "PyTorch, eager"}
    settings |= {"precision": "float32", "batch": 1, "size": size, "crops": "one batch", "proposals": 1000}
    settings |= {"heads of bottom-up": "rendered", "grouping": "paper", "grouped on": "maps of the image's size"}
    settings |= {"flip test": False, "rounds": int(raw["round"].max()) + 1, "seed": seed}
    settings |= {name: version(name) for name in ("torch", "torchvision", "timm")}
    tables = timing.summary(raw, clock), timing.fit_lines(raw, clock, seed)
    rows, lines = (timing.in_order(table, methods) for table in tables)
    return Speed(rows, raw, lines, settings)


def speed_methods(scenes: dict[int, list[Scene]], size: int, seed: int = 0, device: str = "cpu") -> dict[str, Method]:
    """The methods of `speed_rows` for these scenes, in the order of Figure 1."""
    torch.manual_seed(seed)
    poet, crops, ae = (models.build(name) for name in (POET, TOP_DOWN_GT_BOXES, AE_R50))
    options = {"device": device, "seed": seed}
    methods = {
        POET: systems.poet_method(poet, device),
        AE_R50: bottom_up.associative_embedding_method(ae, scenes, **options),
        AE_HRNET: bottom_up.associative_embedding_method(models.build(AE_HRNET), scenes, **options),
        OPENPOSE: bottom_up.openpose_method(models.build(OPENPOSE), scenes, **options),
        TOP_DOWN_DETECTOR: systems.top_down_method(crops, systems.PinnedMaskRCNN(size, **options), device),
        TOP_DOWN_GT_BOXES: systems.top_down_method(crops, None, device),
        LOOP: systems.top_down_method(crops, None, device, batched=False),
        FAST: bottom_up.associative_embedding_method(ae, scenes, "fast", **options),
    }
    if device != "cpu":
        forms = {
            "compiled": torch.compile(poet),
            "cuda_graph": systems.cuda_graph(poet, torch.zeros(1, 3, size, size, device=device)),
        }
        methods |= {f"{POET}_{name}": systems.poet_method(poet, device, forward=form) for name, form in forms.items()}
    return methods


def device_words(settings: dict) -> str:
    """The device of a study in a few words; `settings` as it stores them."""
    threads = f"{settings['threads']} thread{'s' * (settings['threads'] != 1)}"
    words = settings["device"], threads, settings["precision"], f"{settings['clock']} time"
    return ", ".join(words).replace("cpu", "CPU")


def poet(people: tuple[int, ...] = (0, 4, 10), repeats: int = 3, folder: str = "figures/mine") -> list[str]:
    """POET's Figure 1 from few runs, several minutes: POET's line must be flat, those of top-down and of AE must rise.

    Writes poet_fig01_speed and its raw times into `folder`.
    """
    from posebook.figures import style
    from posebook.figures.poet import fig01_speed

    speed = speed_rows(people, scenes=1, repeats=repeats, warmup=1)
    shown = speed.rows[speed.rows.method.isin(FIGURE_1)]
    made = provenance({"threads": 1}, seed=0, data={"name": "drawn people"})
    fig, stem = fig01_speed(shown, device_words(speed.settings)), "poet_fig01_speed"
    written = style.save(fig, stem, speed.rows, resolve(folder), runs.footer(made))
    written.append(written[-1].with_name(f"{stem}_raw.csv"))
    write_bytes(written[-1], speed.raw.to_csv(index=False, lineterminator="\n").encode())
    missed, wanted = (
        [],
        dict.fromkeys((AE_R50, AE_HRNET, TOP_DOWN_DETECTOR, TOP_DOWN_GT_BOXES), "rises") | {POET: "flat"},
    )
    for _, line in speed.lines.iterrows():
        found, name = slope(line), style.label(line.method)
        print(f"  {name:<32} {timing.formula(line)}: {found}")
        if found != wanted.get(line.method, found):
            missed.append(f"the line of {name} was to be called {wanted[line.method]!r}, and here it is {found!r}")
    sums = timing.parts_sum(speed.rows)
    off = sums.where((sums - 1).abs() > TOLERANCE).stack().dropna()
    missed += [
        f"the parts of {style.label(name)} add up to {share:.2f} of the whole" for (_, name), share in off.items()
    ]
    print("  " + "\n  ".join(map(relative, written)))
    return missed
