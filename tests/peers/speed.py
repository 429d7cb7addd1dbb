"""How fast values are sketched, beside whylogs and numpy: one core, one run, each the fastest of several rounds.

usage: tests/peers/speed.py    (tests/run speed makes its environment and calls it)

Prints a Markdown table. The exit code is 1 when sketching is less than 100 times as fast as whylogs, which no noise of a shared
machine explains.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy
import pandas
import whylogs

ROUNDS = 3
FEATURES = 20
# Large tables are the other tools' best case: their cost per call is spread over many values.
SAMPLES = 50_000
WHYLOGS_MIN = 100.0
ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BENCH = "window_add one sample of 20 features"
COMMAND = ["cargo", "bench", "--workspace", "--features", "driftline-tests/influxdb", "--bench", "core"]


def fastest(work, times):
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def driftline():
    subprocess.run([*COMMAND, "--", "--noplot", "window/add"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    estimates = json.loads((TARGET / "criterion" / BENCH / "new" / "estimates.json").read_text())
    # Per sample, in nanoseconds; the median of many is steadier than the mean.
    return estimates["median"]["point_estimate"] / FEATURES


def main():
    # Built on all cores; only what is measured is held to one.
    subprocess.run([*COMMAND, "--no-run"], cwd=ROOT, check=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    random = numpy.random.default_rng(1)
    values = random.normal(size=(SAMPLES, FEATURES))
    edges = numpy.quantile(random.normal(size=6_000), [0.01, *numpy.arange(0.05, 0.96, 0.05), 0.99])
    frame = pandas.DataFrame(values, columns=[f"f{i}" for i in range(FEATURES)])

    def by_numpy():
        for column in range(FEATURES):
            numpy.bincount(numpy.searchsorted(edges, values[:, column]), minlength=len(edges) + 1)

    ours, counted, logged = float("inf"), float("inf"), float("inf")
    for _ in range(ROUNDS):
        ours = min(ours, driftline())
        counted = min(counted, fastest(by_numpy, 5) / values.size * 1e9)
        logged = min(logged, fastest(lambda: whylogs.log(frame), 1) / values.size * 1e9)
    print("| one value of 20 features | ns | times Driftline's |")
    print("| --- | --- | --- |")
    print(f"| Driftline: cell, position in it, repeats, moments | {ours:.1f} | 1 |")
    print(f"| numpy {numpy.__version__}: searchsorted and bincount | {counted:.1f} | {counted / ours:.1f} |")
    print(f"| whylogs {whylogs.__version__}: log | {logged:.0f} | {logged / ours:.0f} |")
    return 0 if logged / ours >= WHYLOGS_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
