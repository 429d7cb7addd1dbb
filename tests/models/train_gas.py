"""Trains the gas models: v1 on batch 1, v2 on batches 1 and 2, and exports both.

usage: train_gas.py --data DIR [--out DIR]     (DIR holds batch01.csv and batch02.csv of the UCI gas sensor drift set)

Held out, so that what is reported is honest: every fourth row of batch 1 (index % 4 == 3) and every second row of batch 2
(index % 2 == 1) train nothing. split_gas.py writes the same split for tests. Leaves out any tuning: layers and seed were fixed once.
"""

import argparse
import csv
import os

from export import answers, export, fold  # first: it fixes the number of threads before numpy loads

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

NOT_INPUTS = ("gas", "ppm")


def read(path):
    """(feature names, rows as float64, labels) of a batch."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    names = [n for n in rows[0] if n not in NOT_INPUTS]
    return names, np.array([[float(r[n]) for n in names] for r in rows]), np.array([r["gas"] for r in rows])


def parts(count, every, last):
    """Indices that train and indices that are held out."""
    index = np.arange(count)
    held = index % every == last
    return index[~held], index[held]


def fit(x, y):
    scaler = StandardScaler().fit(x)
    mlp = MLPClassifier((64, 32), max_iter=2000, random_state=7).fit(scaler.transform(x), y)
    return fold(scaler, mlp)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = parser.parse_args()
    names, x1, y1 = read(os.path.join(args.data, "batch01.csv"))
    _, x2, y2 = read(os.path.join(args.data, "batch02.csv"))
    train1, held1 = parts(len(y1), 4, 3)
    train2, held2 = parts(len(y2), 2, 1)
    both = np.vstack([x1[train1], x2[train2]]), np.concatenate([y1[train1], y2[train2]])
    for release, (x, y) in {"v1": (x1[train1], y1[train1]), "v2": both}.items():
        mlp = fit(x, y)
        path = os.path.join(args.out, f"gas-{release}.onnx")
        export(mlp, path, name="gas", release=release, features=names, label="gas")
        for part, rows, labels in (("batch 1 held out", x1[held1], y1[held1]), ("batch 2 held out", x2[held2], y2[held2])):
            found = mlp.classes_[answers(path, rows)]
            agree = (found == mlp.predict(rows)).mean()
            print(f"gas {release} on {part}: accuracy {(found == labels).mean():.3f}, onnxruntime agrees with scikit-learn on {agree:.3f}")


if __name__ == "__main__":
    main()
