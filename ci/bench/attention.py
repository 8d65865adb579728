"""What ViTPose's attention variants cost in training: memory, CPU time and multiply-adds, crops of 256 x 192, stride 8.

    OMP_NUM_THREADS=1 python ci/bench/attention.py [--size s] [--batch 1] [--variants full window ...]

768 tokens a crop, so full attention keeps 768 x 768 scores per head and block. What is measured and how:
posebook/benchmarks/vitpose_cost.py. Times are of a training step per crop; GMAC without the decoder.

Exit status 1 when a windowed variant does not save at least a quarter of full attention's peak in the column `scores`,
or when a windowed variant needs more than full attention with the fused kernel (by more than a quarter).
"""

from __future__ import annotations

import argparse
import os
import sys

from posebook.benchmarks.vitpose_cost import KERNELS, cases, cost_rows
from posebook.studies import study


def main() -> int:
    """Prints the table; the exit status."""
    variants = study("attention").published
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", default="s", choices=["s", "b", "l", "h"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(variants), choices=list(variants))
    options = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    print(f"ViTPose-{options.size.upper()}, {options.batch} crop(s), {threads} thread(s)")
    print(f"{'attention':18}{'kernel':>8}{'peak MB':>10}{'kept MB':>10}{'CPU s':>8}{'GMAC':>8}")

    def line(row: dict) -> None:
        print(
            f"{row['variant']:18}{row['kernel']:>8}{row['peak_mb']:10.0f}{row['kept_mb']:10.0f}"
            f"{row['step_ms'] / 1000:8.2f}{row['gmac_transformer']:8.2f}",
            flush=True,
        )

    told = {"crops": options.batch, "only": options.variants, "drop_path": 0.0}
    rows = cost_rows(cases("attention", f"vitpose_{options.size}", variants, KERNELS, **told), 2, 4.0, threads, line)
    peak, status = rows.pivot(index="variant", columns="kernel", values="peak_mb"), 0
    for variant in (name for name in options.variants if name != "full" and "full" in options.variants):
        if peak.scores[variant] > 0.75 * peak.scores["full"]:
            print(f"{variant} saves less than a quarter of full attention's memory where scores are kept")
            status = 1
        if peak.fused[variant] > 1.25 * peak.fused["full"]:
            print(f"{variant} needs more memory than full attention with the fused kernel")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
