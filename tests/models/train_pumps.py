"""Trains the demo's pump models on the law of pumps.md and exports both.

usage: train_pumps.py [--out DIR]

v1 knows pumps with true temperature sensors only; half of v2's rows come from sensors that read 6 °C too high. Leaves out any tuning.
"""

import argparse
import os

from export import answers, export, fold  # first: it fixes the number of threads before numpy loads

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

UNITS = {"temp_c": "°C", "vibration_rms": "mm/s", "current_a": "A", "rpm": "rpm", "humidity": "%"}
CLASSES = np.array(["healthy", "worn", "faulty"])
FAULT_C = 6.0


def ar(rng, n, rho=0.3):
    noise = rng.standard_normal(n) * np.sqrt(1 - rho * rho)
    noise[0] = rng.standard_normal()
    for i in range(1, n):
        noise[i] += rho * noise[i - 1]
    return noise


def pump(rng, n, fault):
    """n samples of one pump (columns in the order of UNITS) and their labels."""
    load = ar(rng, n)
    wear = np.repeat(rng.choice(3, size=-(-n // 10), p=[0.7, 0.2, 0.1]), 10)[:n]
    worn, faulty, offset = wear == 1, wear == 2, rng.standard_normal()
    temp = 61 + 1.6 * load + 2 * worn + 5 * faulty + 1.8 * ar(rng, n) + 0.1 * offset + FAULT_C * fault
    vibration = 1.8 + 0.15 * load + 0.5 * worn + 1.1 * faulty + 0.4 * ar(rng, n)
    current = 12 + 1.2 * load + 0.4 * ar(rng, n) + 0.1 * offset
    rpm = 1480 - 6 * load + 4 * ar(rng, n)
    humidity = 45 + 6 * ar(rng, n)
    return np.column_stack([temp, vibration, current, rpm, humidity]), CLASSES[wear]


def fleet(seed, pumps, n, fault):
    rng = np.random.default_rng(seed)
    parts = [pump(rng, n, fault) for _ in range(pumps)]
    return np.vstack([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = parser.parse_args()
    (xn, yn), (xf, yf) = fleet(1, 20, 1000, False), fleet(2, 20, 1000, True)
    tests = {"true sensors": fleet(3, 20, 500, False), "sensors 6 °C high": fleet(4, 20, 500, True)}
    for release, (x, y) in {"v1": (xn, yn), "v2": (np.vstack([xn, xf]), np.concatenate([yn, yf]))}.items():
        scaler = StandardScaler().fit(x)
        mlp = fold(scaler, MLPClassifier((16, 8), max_iter=400, random_state=7).fit(scaler.transform(x), y))
        path = os.path.join(args.out, f"pump-{release}.onnx")
        export(mlp, path, name="pump", release=release, features=list(UNITS), label="wear", units=UNITS)
        for part, (rows, labels) in tests.items():
            print(f"pump {release} on {part}: accuracy {(mlp.classes_[answers(path, rows)] == labels).mean():.3f}")


if __name__ == "__main__":
    main()
