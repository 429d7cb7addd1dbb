"""How fast values are sketched, beside whylogs and numpy, and models answer, beside onnxruntime and through the agent: one core, one run, each the
fastest of several rounds.

usage: tests/peers/speed.py    (tests/run speed makes its environment and calls it)

Prints Markdown tables. The exit code is 1 where sketching is slower than wanted, or a model by more than a tenth.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy
import onnxruntime
import pandas
import whylogs

ROUNDS = 3
FEATURES = 20
# Large tables are the other tools' best case: their cost per call is spread over many values.
SAMPLES = 50_000
WHYLOGS_MIN = 100.0
NUMPY_MIN = 8.0
# What two runs of a model on a shared machine may differ by.
NOISE = 0.1
ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BENCH = "window/add one sample of 20 features"
COMMAND = ["cargo", "bench", "--workspace", "--features", "driftline-tests/influxdb", "--bench", "core"]


def fastest(work, times):
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def bench(*names):
    """Benches' fastest samples in nanoseconds, one program's: of the others the fastest is taken too."""
    subprocess.run([*COMMAND, "--", "--noplot", "|".join(names)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for name in names:
        sample = json.loads((TARGET / "criterion" / name.replace("/", "_") / "new" / "sample.json").read_text())
        yield min(time / iterations for time, iterations in zip(sample["times"], sample["iters"]))


def driftline():
    return next(bench(BENCH)) / FEATURES


MODELS = {
    "MLP of the gas sensors": ("mlp", "gas-v1.onnx", 1.3),
    "random forest of 50 trees": ("forest", "corpus/sk-forest-names-plain.onnx", 1.5),
    "1D-CNN over 128 values": ("cnn", "corpus/nn-cnn1d-1x128.onnx", 2.0),
}


def runtime(file):
    """onnxruntime's time for one sample in nanoseconds, as near to its own as Python gets: inputs and outputs bound once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(ROOT / "tests/models" / file, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    taken = session.get_inputs()[0]
    shape = [1, *taken.shape[1:]]
    binding.bind_cpu_input(taken.name, numpy.random.default_rng(1).normal(size=shape).astype(numpy.float32))
    for output in session.get_outputs():
        # Labels are text.
        if output.type == "tensor(float)":
            binding.bind_output(output.name)
    times = 2000
    return fastest(lambda: [session.run_with_iobinding(binding) for _ in range(times)], 5) / times * 1e9


def main():
    # Built on all cores; only what is measured is held to one.
    subprocess.run([*COMMAND, "--no-run"], cwd=ROOT, check=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    random = numpy.random.default_rng(1)
    values = random.normal(size=(SAMPLES, FEATURES))
    edges = numpy.quantile(random.normal(size=6_000), [0.01, *numpy.arange(0.05, 0.96, 0.05), 0.99])
    frame = pandas.DataFrame(values, columns=[f"f{i}" for i in range(FEATURES)])

    columns = [numpy.ascontiguousarray(values[:, column]) for column in range(FEATURES)]

    def by_numpy():
        for column in columns:
            numpy.bincount(numpy.searchsorted(edges, column), minlength=len(edges) + 1)

    slow = []
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
    slow += ["whylogs"] * (logged / ours < WHYLOGS_MIN) + ["numpy"] * (counted / ours < NUMPY_MIN)
    print()
    print("| one sample | Driftline, µs | onnxruntime, µs | times | wanted | through the agent, µs | times the bare model | wanted |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, (which, file, most) in MODELS.items():
        own, theirs, answered = float("inf"), float("inf"), float("inf")
        for _ in range(ROUNDS):
            bare, through = bench(f"model/{which}", f"agent/{which}, answered")
            own, theirs, answered = min(own, bare), min(theirs, runtime(file)), min(answered, through)
        slow += [name] * (own / theirs > most * (1 + NOISE)) + [f"{name} through the agent"] * (answered / own > 1.05 * (1 + NOISE))
        print(
            f"| {name} | {own / 1e3:.2f} | {theirs / 1e3:.2f} | {own / theirs:.2f} | ≤ {most} "
            f"| {answered / 1e3:.2f} | {answered / own:.2f} | ≤ 1.05 |"
        )
    if slow:
        print(f"slower than wanted: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
