"""Estimates of performance without labels, from NannyML's CBPE itself: cases for tests/it/performance.rs, as an array on standard output.

usage: cbpe.py > cases.json      (tests/run peers makes its environment and gives the cases to the test `estimates_agree`)

Worlds of two and three classes, from balanced to one class in fifty: scores that say too much, curves fitted to them on labelled rows, and
other rows to estimate. CBPE runs as its users run it, but with these curves in place of its own calibrators, so that both estimate from the
same probabilities. What it says of a world is what the test wants from the Rust code. Checked on the way, here: the reference values of
tests/models/performance.py, those committed in tests/golden/performance.json too, are NannyML's.

Where the two differ by definition:
  AUROC with two classes: NannyML rounds its sums of true and false ones to 5 decimals; equal to AUROC_TWO.
  AUROC with more: NannyML ranks a class's rows by the class's score and weighs them by its probability after all were made to add up to one.
  Ours ranks the same and weighs by the probability before; the reference values rank by the share. All within AUROC_MORE (0.008 and 0.016
  at most in these cases).
  A class that is never predicted, and one that no row can be: NannyML counts its precision, recall and F1 as 0, ours leave it out of the mean.
"""

import json
import os
import pathlib
import sys
import warnings

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent / "models"))

import nannyml
import numpy as np
import pandas as pd
import performance
from nannyml.calibration import Calibrator
from sklearn.isotonic import IsotonicRegression

warnings.filterwarnings("ignore")
METRICS = ["accuracy", "precision", "recall", "f1", "roc_auc"]
EXACT, AUROC_TWO, AUROC_MORE = 1e-9, 1e-6, 0.03
PIECES = 32
SEED = 20_261_126


class Known(Calibrator):
    """A curve that is known already."""

    def __init__(self, knots=None):
        self.knots = knots

    def fit(self, *_args, **_kw):
        pass

    def calibrate(self, scores, *_args, **_kw):
        return performance.calibrated(self.knots, np.asarray(scores))


def nannyml_says(knots, scores, predicted):
    """The figures of METRICS from NannyML, of raw scores and one curve for the second class, or one for each of several."""
    classes = scores.shape[1]
    names = [f"score {k}" for k in range(classes)]
    two = classes == 2
    rows = pd.DataFrame(scores, columns=names).assign(predicted=predicted)
    # fit() only wants rows with truth, of every class, for thresholds and sampling errors, which are not compared; and scores that
    # add up to one.
    labelled = rows.assign(truth=np.arange(len(rows)) % classes)
    labelled[names] = scores / scores.sum(axis=1, keepdims=True)
    estimator = nannyml.CBPE(
        metrics=METRICS, y_pred="predicted", y_true="truth", chunk_number=1, calibrator=Known(knots[0]),
        y_pred_proba=names[1] if two else dict(enumerate(names)), problem_type="classification_binary" if two else "classification_multiclass")
    estimator.fit(labelled)
    estimator.needs_calibration = True
    estimator._calibrators = {k: Known(curve) for k, curve in enumerate(knots)}
    found = estimator.estimate(rows).filter(period="analysis").to_df()
    return [float(found[metric, "value"].iloc[0]) for metric in METRICS]


def probabilities(knots, scores):
    """As tests/models/performance.py has them."""
    if len(knots) == 1:
        positive = performance.calibrated(knots[0], scores[:, 1])
        return np.stack([1 - positive, positive], axis=1)
    p = np.stack([performance.calibrated(k, scores[:, i]) for i, k in enumerate(knots)], axis=1)
    total = p.sum(axis=1, keepdims=True)
    return np.where(total > 0, p / np.where(total > 0, total, 1), 1 / p.shape[1])


def area(p):
    """AUROC as tests/models/performance.py has it."""
    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    return np.mean([performance.pairs_in_order(p[:, k], p[:, k]) for k in classes])


def with_zeros(predicted, p):
    """The figures of tests/models/performance.py, but 0 where there is none."""
    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    rows = [np.nan_to_num(performance.one_class(predicted == k, p[:, k]), nan=0.0) for k in classes]
    return np.array([p[np.arange(len(p)), predicted].mean(), *np.mean(rows, axis=0)])


def agree(name, wanted, p, predicted, reference=None):
    """Holds reference values beside NannyML's: all figures but AUROC, and AUROC."""
    ours = with_zeros(predicted, p) if reference is None else np.array(reference[:4])
    auroc = area(p) if reference is None else reference[4]
    figures = np.max(np.abs(ours - wanted[:4]))
    assert figures < EXACT, f"{name}: {ours} here, {wanted} says NannyML"
    off = abs(auroc - wanted[4])
    assert off < (AUROC_TWO if p.shape[1] == 2 else AUROC_MORE), f"{name}: AUROC {auroc} here, {wanted[4]} says NannyML"
    print(f"{name}: figures to {figures:.1e}, AUROC to {off:.1e}", file=sys.stderr)


def committed():
    for case in json.loads((here.parent / "golden/performance.json").read_text()):
        if case["kind"] == "cbpe":
            knots = [tuple(np.array(list(zip(*curve)))) for curve in case["curves"]]
            scores = np.array(case["scores"])
            predicted = scores.argmax(axis=1)
            agree(f"committed {case['name']}", nannyml_says(knots, scores, predicted), probabilities(knots, scores), predicted, case["value"])


def drawn(rng, rows, shares, skew):
    """Scores of a model that is too sure, and the truth; `skew` moves rows towards the last class."""
    classes = len(shares)
    shares = np.array(shares) * np.exp(skew * np.arange(classes))
    truth = rng.choice(classes, size=rows, p=shares / shares.sum())
    logits = rng.normal(size=(rows, classes)) + 1.2 * np.eye(classes)[truth] + np.log(shares / shares.sum())
    scores = np.exp(1.7 * logits)
    scores = performance.grid(scores / scores.sum(axis=1, keepdims=True))
    if classes == 2:
        scores[:, 0] = 1 - scores[:, 1]
    return scores, truth


def fitted(scores, hits):
    """A rising curve of at most PIECES pieces: means per quantile of the scores, made isotonic."""
    start = np.unique(np.r_[0.0, np.quantile(scores, np.arange(1, PIECES) / PIECES, method="lower")])
    piece = np.searchsorted(start, scores, side="right") - 1
    rows = np.bincount(piece, minlength=len(start))
    start, rows, hits = start[rows > 0], rows[rows > 0], np.bincount(piece, weights=hits, minlength=len(start))[rows > 0]
    p = IsotonicRegression().fit_transform(start, hits / rows, sample_weight=rows)
    return start, p


def worlds():
    shapes = [("two even", [0.5, 0.5], 0), ("two moved", [0.5, 0.5], 0.8), ("two skewed", [0.9, 0.1], 0), ("two skewed, moved", [0.9, 0.1], -0.5),
              ("two rare", [0.98, 0.02], 0.3), ("three even", [1 / 3, 1 / 3, 1 / 3], 0), ("three moved", [1 / 3, 1 / 3, 1 / 3], -0.7),
              ("three skewed", [0.7, 0.2, 0.1], 0), ("three skewed, moved", [0.8, 0.15, 0.05], 0.5)]
    for at, (name, shares, skew) in enumerate(shapes):
        rng = np.random.default_rng([SEED, at])
        scores, truth = drawn(rng, 6_000, shares, 0)
        classes = len(shares)
        knots = [fitted(scores[:, k], truth == k) for k in ([1] if classes == 2 else range(classes))]
        yield name, knots, drawn(rng, 1_500, shares, skew)[0]


def never_predicted():
    """A class that nobody predicts, which NannyML counts as 0 and ours leave out."""
    knots = [(np.array([0.0, 0.4]), np.array([0.1, 0.8]))] * 3
    scores = performance.grid(np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.45, 0.5, 0.05]] * 20))
    predicted, p = scores.argmax(axis=1), probabilities(knots, scores)
    agree("never predicted", nannyml_says(knots, scores, predicted), p, predicted)
    assert performance.figures(predicted, p)[1] > with_zeros(predicted, p)[1], "ours leave it out"


def cases():
    for name, knots, scores in worlds():
        predicted, p = scores.argmax(axis=1), probabilities(knots, scores)
        wanted = nannyml_says(knots, scores, predicted)
        agree(name, wanted, p, predicted)
        assert len(np.unique(predicted)) == scores.shape[1], f"{name}: every class is predicted, or the means are of different classes"
        yield {
            "kind": "cbpe",
            "name": name,
            "curves": [[list(pair) for pair in zip(*(part.tolist() for part in k))] for k in knots],
            "scores": scores.tolist(),
            "value": wanted,
            "sd": performance.draws(predicted, p).tolist(),
        }


if __name__ == "__main__":
    committed()
    never_predicted()
    print("[\n" + ",\n".join(json.dumps(case) for case in cases()) + "\n]")
