"""Reference values for calibration and performance estimates, from numpy and scikit-learn: JSON to standard output.

usage: performance.py > cases.json      an array with one case per line; seeds are fixed, so two runs print the same bytes

Why: an implementation and a test by the same hand share mistakes. Here isotonic curves come from sklearn's IsotonicRegression, and estimates
from NannyML's CBPE formulas on every single sample's calibrated scores, where the Rust side has only counts per piece; tests/peers/cbpe.py
holds both beside NannyML itself.
Kinds: isotonic (scores, hits, values at the scores), cbpe (curves, scores, estimates, and deviations from draws of the truth).

Conventions: with more than two classes a sample's calibrated scores are divided by their sum, as NannyML does; figures are means over the
classes for which they exist. AUROC is the share of (true, other) pairs in the right order, by calibrated score, ties half, over expected pairs:
the area under NannyML's expected ROC curve, with its corner points. Deviations: 4,000 draws of every sample's truth from its calibrated
scores, curves taken as known. Leaves out the error of the curves themselves.
"""

import json

import numpy as np
from sklearn.isotonic import IsotonicRegression

RNG = np.random.default_rng(20_261_124)
DRAWS = 4_000


def grid(values):
    """Multiples of 1/1024, which f32 holds exactly."""
    return np.round(np.asarray(values) * 1024) / 1024


def isotonic():
    for name, rows, noise in [("clean", 400, 0.0), ("noisy", 300, 0.3), ("flat", 120, 1.0), ("few", 50, 0.2)]:
        scores = grid(RNG.random(rows))
        p = (1 - noise) * scores**2 + noise * 0.4
        hits = (RNG.random(rows) < p).astype(int)
        values = IsotonicRegression(out_of_bounds="clip").fit(scores, hits).predict(scores)
        yield {"kind": "isotonic", "name": name, "scores": scores.tolist(), "hits": hits.tolist(), "values": values.tolist()}


def curve(pieces):
    """A curve as the Rust side holds it: first scores and probabilities of its pieces."""
    start = np.unique(np.concatenate([[0.0], grid(RNG.random(pieces - 1))]))
    p = np.sort(np.round(RNG.beta(0.6, 0.6, len(start)), 4))
    return start, p


def calibrated(knots, scores):
    start, p = knots
    return p[np.clip(np.searchsorted(start, scores, side="right") - 1, 0, None)]


def pairs_in_order(order, p):
    """Expected share of pairs in the right order; a sample is half ahead of itself."""
    ahead = (order[:, None] > order[None, :]) + 0.5 * (order[:, None] == order[None, :])
    return (p[:, None] * (1 - p[None, :]) * ahead).sum() / (p.sum() * (1 - p).sum())


def ratio(a, b):
    return a / b if b > 0 else np.nan


def one_class(chosen, p):
    """NannyML's expected confusion table of one class, from predictions and calibrated scores."""
    tp, fp, fn = p[chosen].sum(), (1 - p[chosen]).sum(), p[~chosen].sum()
    return [ratio(tp, tp + fp), ratio(tp, tp + fn), ratio(2 * tp, 2 * tp + fp + fn)]


def figures(predicted, p):
    """Accuracy, precision, recall and F1; `p` holds probabilities, or a one for the true class and zeros."""
    accuracy = p[np.arange(len(p)), predicted].mean()
    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    return np.array([accuracy, *np.nanmean([one_class(predicted == k, p[:, k]) for k in classes], axis=0)])


def draws(predicted, p):
    cumulated = np.cumsum(p, axis=1)
    found = []
    for _ in range(DRAWS):
        truth = (RNG.random(len(p))[:, None] > cumulated[:, :-1]).sum(axis=1)
        found.append(figures(predicted, np.eye(p.shape[1])[truth]))
    return np.nanstd(found, axis=0)


def estimates():
    cases = [("two-60", 2, 60, 32), ("two-400", 2, 400, 12), ("two-one-piece", 2, 80, 1), ("three-200", 3, 200, 32), ("six-300", 6, 300, 16)]
    for name, classes, rows, pieces in cases:
        scores = grid(RNG.dirichlet(np.full(classes, 0.5), rows))
        if classes == 2:
            scores[:, 0] = 1 - scores[:, 1]
        knots = [curve(pieces) for _ in range(1 if classes == 2 else classes)]
        predicted = scores.argmax(axis=1)
        if classes == 2:
            positive = calibrated(knots[0], scores[:, 1])
            p = np.stack([1 - positive, positive], axis=1)
            auroc = pairs_in_order(positive, positive)
        else:
            p = np.stack([calibrated(k, scores[:, i]) for i, k in enumerate(knots)], axis=1)
            total = p.sum(axis=1, keepdims=True)
            p = np.where(total > 0, p / np.where(total > 0, total, 1), 1 / classes)
            auroc = np.mean([pairs_in_order(p[:, k], p[:, k]) for k in range(classes)])
        yield {
            "kind": "cbpe",
            "name": name,
            "curves": [[list(pair) for pair in zip(*(part.tolist() for part in k))] for k in knots],
            "scores": scores.tolist(),
            "value": [*figures(predicted, p).tolist(), float(auroc)],
            "sd": draws(predicted, p).tolist(),
        }


if __name__ == "__main__":
    print("[\n" + ",\n".join(json.dumps(case) for case in [*isotonic(), *estimates()]) + "\n]")
