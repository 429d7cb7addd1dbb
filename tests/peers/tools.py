"""How each tool is asked for its own figures, and the lines of cases; cases.py and forms.py say which data.

scipy, numpy, evidently, nannyml, scouter and river are called themselves (requirements.txt). Two tools are not in the environment, so their
expected values are computed independently of the Rust code from the formulas in their sources: deepchecks' in deepchecks_restated.py, which is
held beside deepchecks itself, and here those of

  deequ       Distance.scala of awslabs/deequ at 06df314: categoricalLInfinityDistance, numericalDistance, selectMetrics,
              categoricalChiSquareTest and regroupCategories, populationStabilityIndex; QuantileNonSample.scala: getRankMap
"""

import json
import math
import warnings
from collections import Counter

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import mmd_stattest
from evidently.legacy.core import ColumnType
from nannyml.drift.univariate.methods import FeatureType, MethodFactory
from nannyml.thresholds import ConstantThreshold
from scipy import stats
from scouter.drift import Drifter, EqualWidthBinning, Manual, PsiDriftConfig, QuantileBinning

warnings.filterwarnings("ignore")
np.seterr(all="ignore")

NAN, INF = float("nan"), float("inf")
CATEGORIES = {"feature_type": "cat"}
EPS = 1e-10


# --- JSON ---------------------------------------------------------------------------------------------------------------

def plain(value):
    """A value as JSON can say it."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (np.bool_,)):
        return bool(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (int, np.integer)):
        return int(value)
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


class Cases:
    def __init__(self, out):
        self.out, self.n = out, 0

    def add(self, tool, metric, given, call, params=None):
        """One case; `call` asks the tool itself and returns its figures by name."""
        self.n += 1
        try:
            want = plain(call())
        except Exception as e:  # noqa: BLE001 - whatever the tool raises is its answer
            want = {"error": True, "why": f"{type(e).__name__}: {str(e)[:80]}"}
        case = {"id": f"{self.n}", "as": tool, "metric": metric, "input": plain(given)}
        if params:
            case["params"] = plain(params)
        case["want"] = want
        self.out.write(json.dumps(case, separators=(",", ":")) + "\n")


class Few:
    """The first of every so many cases of a tool's metric."""

    def __init__(self, cases, every):
        self.cases, self.every, self.seen = cases, every, Counter()

    def add(self, tool, metric, *case):
        if self.seen[tool, metric] % self.every == 0:
            self.cases.add(tool, metric, *case)
        self.seen[tool, metric] += 1


# --- scipy and numpy ----------------------------------------------------------------------------------------------------

def ks(a, b, **kw):
    found = stats.ks_2samp(a, b, **kw)
    return {"d": found.statistic, "p": found.pvalue}


def tested(found, dof):
    return {"stat": found[0], "p": found[1], "dof": dof}


def contingency(table, **kw):
    found = stats.chi2_contingency(table, **kw)
    return tested(found[:2], found.dof)


def edges(a, *args, **kw):
    found = np.histogram_bin_edges(a, *args, **kw)
    if len(found) > 3000:
        raise MemoryError("too long for a case")
    return {"value": found}


# --- evidently ----------------------------------------------------------------------------------------------------------

def evidently_cleaned(*sides):
    """The cleaning that evidently's drift calculation does."""
    for values in sides:
        column = pd.Series(values)
        if pd.api.types.is_numeric_dtype(column):
            column = column.replace([-np.inf, np.inf], np.nan)
        column = column.dropna()
        if column.empty:
            raise ValueError("empty column")
        yield column


def evidently(test, kind=ColumnType.Numerical, **kw):
    """The test behind that cleaning."""
    return lambda a, b: {"value": test(*evidently_cleaned(a, b), kind, 0.1, **kw)[0]}


def mmd(a, b, sigma=None):
    a, b = (column.to_numpy().reshape(-1, 1) for column in evidently_cleaned(a, b))
    kxx, sigma = mmd_stattest.rbf(a, a, sigma)
    kxy, kyy = mmd_stattest.rbf(a, b, sigma)[0], mmd_stattest.rbf(b, b, sigma)[0]
    kernel = np.concatenate((np.concatenate((kxx, kxy), axis=1), np.concatenate((kxy.T, kyy), axis=1)), axis=0)
    kernel = kernel - np.diag(np.diagonal(kernel))
    return {"mmd2": mmd_stattest.mmd_2samp(kernel, len(b)), "sigma": sigma}


# --- nannyml ------------------------------------------------------------------------------------------------------------

def nannyml(key, kind, a, b, **params):
    method = MethodFactory.create(key, kind, chunker=None, threshold=ConstantThreshold(), **params)
    method._fit(pd.Series(a))
    return method, method._calculate(pd.Series(b))


def nannyml_chi2(a, b):
    method, stat = nannyml("chi2", FeatureType.CATEGORICAL, a, b)
    return {"stat": stat, "p": getattr(method, "_p_value", NAN)}


# --- scouter ------------------------------------------------------------------------------------------------------------

def scouter(a, b, categorical=False, bins=10, equal_width=False):
    binning = EqualWidthBinning(Manual(bins)) if equal_width else QuantileBinning(bins)
    features = {"categorical_features": ["x"]} if categorical else {}
    config = PsiDriftConfig(name="x", space="x", version="0.1.0", binning_strategy=binning, **features)
    frames = [pd.DataFrame({"x": np.asarray(v, dtype=object if categorical else float)}) for v in (a, b)]
    profile = Drifter().create_drift_profile(frames[0], config)
    # It adds up categories in the order of a map that changes from run to run, and so does the last digit.
    return {"value": float(f"{Drifter().compute_drift(frames[1], profile).features['x']:.13g}")}


# --- deequ --------------------------------------------------------------------------------------------------------------

def sample_of(counts):
    """A sample with so many of each category, the categories in the order of the cells."""
    return np.repeat([f"c{i:03}" for i in range(len(counts))], counts).tolist()


def shares(a, b):
    """Counts of both sides per category."""
    keys = sorted(set(a) | set(b))
    x, y = Counter(a), Counter(b)
    return np.array([x[k] for k in keys], float), np.array([y[k] for k in keys], float)


def psi_of(p, q):
    return {"value": np.sum((p - q) * np.log(p / q))}


def deequ_robust(simple, n, m, alpha=None):
    c = 1.8 if alpha is None else math.sqrt(-math.log(alpha / 2) * 1 / 2)
    return {"simple": simple, "robust": np.maximum(0.0, simple - c * np.sqrt((n + m) / (n * m)))}


def simple(found):
    return found | {"value": found["simple"]}


def robust(found):
    return found | {"value": found["robust"]}


def deequ(x, y, alpha=None):
    n, m = np.float64(x.sum()), np.float64(y.sum())
    return deequ_robust(np.max(np.abs(x / n - y / m)), n, m, alpha)


def deequ_numeric(a, b, alpha=None):
    """As long as nothing was compacted. A rank map has one entry per value, so that equal values count once, in n and m too."""
    a, b = np.unique(a), np.unique(b)
    if len(a) == 0 or len(b) == 0:
        raise ValueError("max of an empty map")
    f, g = (np.searchsorted(v, np.union1d(a, b), side="right") / len(v) for v in (a, b))
    return deequ_robust(np.max(np.abs(f - g)), float(len(a)), float(len(b)), alpha)


def deequ_chisquare(sample, expected, least=5, share=0.2, least_of_two=10):
    """`sample` and `expected` map categories to counts. Spark's p is 1 - cdf, of which little is left below 1e-5."""
    total = sum(v for k, v in sample.items() if k in expected)
    of = sum(expected.values())
    sample = {k: float(v) for k, v in sample.items()}
    expected = {k: v / of * total for k, v in expected.items()}
    while len(expected) >= 2:
        limit, may = (least, int(share * len(expected))) if len(expected) > 2 else (least_of_two, 0)
        if sum(v < limit for v in expected.values()) <= may:
            break
        small = min(expected, key=expected.get)
        e, s = expected.pop(small), sample.pop(small, 0.0)
        second = min(expected, key=expected.get)
        expected[second] += e
        sample[second] = s + sample.get(second, 0.0)
    if len(sample) < 2:
        return {"value": NAN}
    if len(expected) < 2:
        raise ValueError("degrees of freedom must be positive")
    stat = sum((sample.get(k, 0.0) - e) ** 2 / e for k, e in expected.items())
    found = {"stat": stat, "dof": len(expected) - 1, "p": 1 - stats.chi2.cdf(stat, len(expected) - 1)}
    if found["p"] < 1e-5:
        del found["p"]
    return found


def deequ_psi(a, b):
    return psi_of(b / b.sum(), a / a.sum())


# --- river --------------------------------------------------------------------------------------------------------------

def detections(detector, series):
    found = []
    for at, x in enumerate(series):
        detector.update(x)
        if detector.drift_detected:
            found.append(at)
    return {"detections": found}
