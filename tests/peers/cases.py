"""Cases for `driftline compare --json -` with the answers of the tools themselves, one JSON object per line.

    cases.py [--small] [--seed N] [--repeat N] > cases.ndjson

Every line is a case with a field `want`: figures, or {"error": true} where the tool raises. tools.py asks the tools; forms.py and
own.py add the metrics, parameters and forms of input that the samples here do not reach.

Everything comes from one seed. tests/golden/compare.ndjson is the output of `cases.py --small`.
"""

import argparse
import os
import sys

if os.environ.get("PYTHONHASHSEED") != "0":
    # evidently adds up categories in the order of a set, so the last digit would change from run to run.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})

import forms
import deepchecks_restated as deepchecks
import numpy as np
from evidently.legacy.calculations.stattests.chisquare_stattest import _chi_stat_test
from evidently.legacy.calculations.stattests.energy_distance import _energy_dist
from evidently.legacy.calculations.stattests.g_stattest import _g_stat_test
from evidently.legacy.calculations.stattests.hellinger_distance import _hellinger_distance
from evidently.legacy.calculations.stattests.jensenshannon import _jensenshannon
from evidently.legacy.calculations.stattests.kl_div import _kl_div
from evidently.legacy.calculations.stattests.ks_stattest import _ks_stat_test
from evidently.legacy.calculations.stattests.psi import _psi
from evidently.legacy.calculations.stattests.tvd_stattest import _total_variation_distance
from evidently.legacy.calculations.stattests.wasserstein_distance_norm import _wasserstein_distance_norm
from evidently.legacy.calculations.stattests.z_stattest import _z_stat_test
from evidently.legacy.core import ColumnType
from nannyml.drift.univariate.methods import FeatureType
from river import drift
from scipy import stats
from scipy.spatial import distance
from tools import (CATEGORIES, EPS, INF, NAN, Cases, contingency, deequ, deequ_psi, detections, edges, evidently, ks, mmd, nannyml, nannyml_chi2,
                   scouter, shares, tested)


# --- data ---------------------------------------------------------------------------------------------------------------

def numeric_pairs(rng, small):
    """Pairs of numeric samples, ordinary and awkward, by name."""
    def n(scale=1):
        return int(rng.integers(5, 24 if small else 400)) * scale

    yield "normal", rng.normal(size=n()), rng.normal(rng.normal(0, 0.5), 1, size=n())
    yield "scale", rng.normal(size=n()), rng.normal(0, rng.uniform(0.5, 2), size=n())
    yield "heavy", rng.standard_t(2, size=n()), rng.standard_cauchy(size=n())
    yield "exponential", rng.exponential(size=n()), rng.exponential(1.3, size=n())
    size = n()
    yield "same size", rng.normal(size=size), rng.normal(0.3, 1, size=size)
    yield "same sample", (a := rng.normal(size=n())), a.copy()
    yield "permuted", (a := rng.normal(size=n())), rng.permutation(a)
    yield "ties", rng.integers(0, 12, n()).astype(float), rng.integers(2, 15, n()).astype(float)
    yield "many ties", np.round(rng.normal(size=n(2)), 1), np.round(rng.normal(0.2, 1, size=n(2)), 1)
    yield "integers", rng.integers(-50, 50, n()), rng.integers(-40, 70, n())
    yield "few integers", rng.integers(0, 30, n(3)), rng.integers(0, 34, n(3))
    yield "disjoint", rng.uniform(0, 1, n()), rng.uniform(5, 6, n())
    yield "constant reference", np.full(n(), 3.25), rng.normal(3.25, 1, n())
    yield "constant current", rng.normal(3.25, 1, n()), np.full(n(), 3.25)
    yield "both constant", np.full(n(), 2.0), np.full(n(), 2.0)
    yield "constants apart", np.full(n(), 2.0), np.full(n(), -7.5)
    yield "one each", rng.normal(size=1), rng.normal(size=1)
    yield "one against many", rng.normal(size=1), rng.normal(size=n())
    yield "many against one", rng.normal(size=n()), rng.normal(size=1)
    yield "NaN", with_some(rng, rng.normal(size=n()), NAN), with_some(rng, rng.normal(0.2, 1, n()), NAN)
    yield "infinity", with_some(rng, rng.normal(size=n()), INF), with_some(rng, rng.normal(size=n()), -INF)
    yield "infinity in current", rng.normal(size=n()), with_some(rng, rng.normal(size=n()), INF)
    yield "NaN and infinity", with_some(rng, rng.normal(size=n()), NAN), with_some(rng, rng.normal(size=n()), INF)
    yield "huge", rng.normal(size=n()) * 1e300, rng.normal(size=n()) * 1e300
    yield "huge and small", rng.normal(size=n()), rng.normal(size=n()) * 1e300
    yield "subnormal", rng.normal(size=n()) * 1e-310, rng.normal(size=n()) * 1e-310
    yield "smallest subnormal", rng.integers(0, 40, n()) * 5e-324, rng.integers(0, 40, n()) * 5e-324
    yield "tiny", rng.normal(size=n()) * 1e-200, rng.normal(0.5, 1, size=n()) * 1e-200
    yield "offset", 1e9 + rng.normal(size=n()), 1e9 + rng.normal(0.2, 1, size=n())
    yield "empty", np.array([]), rng.normal(size=n())
    yield "empty current", rng.normal(size=n()), np.array([])
    yield "all NaN", np.full(n(), NAN), rng.normal(size=n())
    yield "powers of two", rng.normal(size=64), rng.normal(size=64)


def with_some(rng, values, odd):
    values = values.copy()
    values[rng.integers(0, len(values), max(1, len(values) // 20))] = odd
    return values


def categorical_pairs(rng, small):
    def n(scale=1):
        return int(rng.integers(10, 30 if small else 500)) * scale

    def draw(names, size, skew=1.0):
        p = rng.dirichlet(np.full(len(names), skew))
        return rng.choice(names, size=size, p=p)

    abc = np.array(list("abcdef"))
    yield "six", draw(abc, n()), draw(abc, n())
    yield "rare", draw(abc, n(4), 0.3), draw(abc, n(4), 0.3)
    yield "two", draw(abc[:2], n()), draw(abc[:2], n())
    yield "unseen in reference", draw(abc[:4], n()), draw(abc, n())
    yield "gone in current", draw(abc, n()), draw(abc[:3], n())
    size = n()
    yield "same size", draw(abc, size), draw(abc, size)
    yield "one value", np.array(["a"] * n()), np.array(["a"] * n())
    yield "one value each", np.array(["a"] * n()), np.array(["b"] * n())
    yield "missing", np.array([None if rng.random() < 0.1 else v for v in draw(abc, n())], dtype=object), draw(abc, n())
    yield "very rare", np.array(["a"] * 30000 + ["b"] * 2) if not small else np.array(["a"] * 120 + ["b"]), draw(abc[:3], n())
    yield "numbers", rng.integers(0, 4, n()), rng.integers(0, 5, n())
    yield "many", draw(np.array([f"c{i}" for i in range(30)]), n()), draw(np.array([f"c{i}" for i in range(33)]), n())
    yield "one each", np.array(["a"]), np.array(["b"])


def counts_pairs(rng):
    k = int(rng.integers(2, 20))
    yield "counts", rng.integers(1, 200, k), rng.integers(1, 200, k)
    yield "empty cells", rng.integers(0, 4, k) * rng.integers(0, 50, k) + (np.arange(k) == 0), rng.integers(0, 3, k) * 7 + (np.arange(k) == 1)
    yield "proportional", (a := rng.integers(1, 50, k)), a * 3
    yield "large", rng.integers(10**6, 10**9, k), rng.integers(10**6, 10**9, k)
    yield "two", rng.integers(1, 60, 2), rng.integers(1, 60, 2)
    yield "one", rng.integers(1, 60, 1), rng.integers(1, 60, 1)


# --- scipy and numpy ----------------------------------------------------------------------------------------------------

def scipy_numeric(cases, a, b, bins):
    given = {"ref": a, "cur": b}
    cases.add("scipy", "ks_2samp", given, lambda: ks(a, b))
    cases.add("scipy", "ks_2samp", given, lambda: ks(a, b, method="asymp"), {"method": "asymp"})
    for alternative in ["less", "greater"]:
        cases.add("scipy", "ks_2samp", given, lambda: ks(a, b, alternative=alternative), {"alternative": alternative})
    cases.add("scipy", "wasserstein1", given, lambda: {"value": stats.wasserstein_distance(a, b)})
    cases.add("scipy", "energy_distance", given, lambda: {"value": stats.energy_distance(a, b)})
    for rule in bins:
        try:
            found = {"value": np.histogram_bin_edges(a, rule)}
        except Exception:  # noqa: BLE001
            found = None
        if found is None or len(found["value"]) <= 300:
            cases.add("scipy", "histogram_bin_edges", {"x": a}, lambda: edges(a, rule), {"bins": rule})


def scipy_counts(cases, a, b):
    given = {"ref_counts": a, "cur_counts": b}
    p, q = a / a.sum(), b / b.sum()
    cases.add("scipy", "js_distance", {"p": p, "q": q}, lambda: {"value": distance.jensenshannon(p, q)})
    cases.add("scipy", "js_distance", {"p": p, "q": q}, lambda: {"value": distance.jensenshannon(p, q, 2)}, {"base": 2})
    cases.add("scipy", "kl", {"p": p, "q": q}, lambda: {"value": stats.entropy(p, q)})
    cases.add("scipy", "kl", given, lambda: {"value": stats.entropy(a, b, base=2)}, {"base": 2})
    dof = len(a) - 1
    cases.add("scipy", "chisquare_p", given, lambda: tested(stats.chisquare(b, a), dof))
    scaled = a * (b.sum() / a.sum())
    cases.add("scipy", "chisquare_p", {"ref_counts": scaled, "cur_counts": b}, lambda: tested(stats.chisquare(b, scaled), dof))
    cases.add("scipy", "chisquare_p", {"ref_counts": scaled, "cur_counts": b},
              lambda: tested(stats.chisquare(b, scaled, ddof=1), dof - 1), {"ddof": 1})
    cases.add("scipy", "g_test_p", {"ref_counts": scaled, "cur_counts": b},
              lambda: tested(stats.power_divergence(b, scaled, lambda_="log-likelihood"), dof))
    for kw in [{"correction": True}, {"correction": False}, {"lambda_": "log-likelihood"}]:
        cases.add("scipy", "chi2_contingency", {"table": [a, b]}, lambda: contingency([a, b], **kw), kw)


def kstwo(cases, rng, times):
    for _ in range(times):
        n = int(np.exp(rng.uniform(0, np.log(200000))))
        d = float(np.clip(np.exp(rng.uniform(np.log(0.2), np.log(8))) / np.sqrt(n), 0, 1.1))
        cases.add("scipy", "kstwo_sf", {"x": d}, lambda: {"value": stats.kstwo.sf(d, n)}, {"n": n})
    for n, d in [(1, 0.4), (1, 0.75), (3, 0.1), (10, 0.05), (10, 0.0), (10, 1.0), (10, -1.0), (140, 0.07), (141, 0.07), (141, 0.2),
                 (500, 0.002), (1000, 0.5), (1000, 0.9), (1000, 0.9995), (100000, 0.0005), (2000000, 0.001), (0, 0.5)]:
        cases.add("scipy", "kstwo_sf", {}, lambda: {"value": stats.kstwo.sf(d, n)}, {"d": d, "n": n})


def ks_sizes(cases, rng, sizes):
    for n, m in sizes:
        a, b = np.round(rng.normal(size=n), 6), np.round(rng.normal(rng.uniform(0, 0.3), 1, size=m), 6)
        cases.add("scipy", "ks_2samp", {"ref": a, "cur": b}, lambda: ks(a, b))


# --- evidently ----------------------------------------------------------------------------------------------------------

def evidently_numeric(cases, a, b):
    given = {"ref": a, "cur": b}
    tests = [("psi", _psi), ("js_distance", _jensenshannon), ("kl", _kl_div), ("hellinger", _hellinger_distance),
             ("ks_2samp", _ks_stat_test), ("wasserstein_norm", _wasserstein_distance_norm), ("energy_distance", _energy_dist)]
    for metric, test in tests:
        cases.add("evidently", metric, given, lambda: evidently(test)(a, b))
    cases.add("evidently", "mmd2_unbiased_rbf", given, lambda: mmd(a, b))


def evidently_categorical(cases, a, b):
    given = {"ref": a, "cur": b}
    tests = [("psi", _psi), ("js_distance", _jensenshannon), ("kl", _kl_div), ("hellinger", _hellinger_distance),
             ("chisquare_p", _chi_stat_test), ("g_test_p", _g_stat_test), ("z_test_p", _z_stat_test)]
    for metric, test in tests:
        cases.add("evidently", metric, given, lambda: evidently(test, ColumnType.Categorical)(a, b), CATEGORIES)

    def tvd(x, y, *_):
        return (_total_variation_distance(x, y),)
    cases.add("evidently", "total_variation", given, lambda: evidently(tvd)(a, b))


# --- nannyml ------------------------------------------------------------------------------------------------------------

def nannyml_numeric(cases, a, b, params=None):
    given = {"ref": a, "cur": b}
    keys = [("js_distance", "jensen_shannon"), ("hellinger", "hellinger"), ("ks_d", "kolmogorov_smirnov"), ("wasserstein1", "wasserstein")]
    for metric, key in keys:
        extra = {"computation_params": {key: {}, **params}} if params and metric in ("ks_d", "wasserstein1") else {}
        cases.add("nannyml", metric, given, lambda: {"value": nannyml(key, FeatureType.CONTINUOUS, a, b, **extra)[1]},
                  params if extra else None)


def nannyml_categorical(cases, a, b):
    given = {"ref": a, "cur": b}
    for metric, key in [("js_distance", "jensen_shannon"), ("hellinger", "hellinger"), ("l_infinity", "l_infinity")]:
        cases.add("nannyml", metric, given, lambda: {"value": nannyml(key, FeatureType.CATEGORICAL, a, b)[1]},
                  CATEGORIES if metric != "l_infinity" else None)
    cases.add("nannyml", "chi2_contingency", given, lambda: nannyml_chi2(a, b))


# --- the others ----------------------------------------------------------------------------------------------------------

def others_categorical(cases, a, b):
    cases.add("scouter", "psi", {"ref": a, "cur": b}, lambda: scouter(a, b, categorical=True), CATEGORIES)
    a, b = [v for v in a if v is not None], [v for v in b if v is not None]
    given = {"ref": a, "cur": b}
    cases.add("deequ", "linf_robust", given, lambda: deequ(*shares(a, b)), CATEGORIES)
    cases.add("deepchecks", "psi", given, lambda: deepchecks.psi(*deepchecks.counts(a, b)))


def others_counts(cases, a, b):
    given = {"ref_counts": a, "cur_counts": b}
    cases.add("deequ", "linf_robust", given, lambda: deequ(a, b))
    cases.add("deequ", "psi", given, lambda: deequ_psi(a, b))
    p, q = a / a.sum(), b / b.sum()

    def psi(p, q):
        return {"value": np.sum((p - q) * np.log(p / q))}
    cases.add("deepchecks", "psi", given, lambda: deepchecks.psi(a, b))
    cases.add("scouter", "psi", given, lambda: psi(p + EPS, q + EPS))
    k = len(a)
    cases.add("driftline", "psi", given, lambda: psi((a + 0.5) / (a.sum() + k / 2), (b + 0.5) / (b.sum() + k / 2)))
    cases.add("driftline", "js_distance", given, lambda: {"value": distance.jensenshannon(p, q, 2)})
    cases.add("driftline", "total_variation", given, lambda: {"value": np.abs(p - q).sum() / 2})
    zero = {"zero": "floor", "eps": 1e-3}
    cases.add("driftline", "psi", given, lambda: psi(np.maximum(p, 1e-3), np.maximum(q, 1e-3)), zero)
    tiny = np.finfo(float).tiny
    cases.add("driftline", "psi", given, lambda: psi(np.where(p > 0, p, tiny), np.where(q > 0, q, tiny)), {"zero": "min_positive"})


def others_numeric(cases, a, b):
    given = {"ref": a, "cur": b}
    cases.add("deepchecks", "emd_scaled", given, lambda: deepchecks.emd(a[~np.isnan(a)], b[~np.isnan(b)]))
    cases.add("scouter", "psi", given, lambda: scouter(a, b))


# --- river --------------------------------------------------------------------------------------------------------------

def river(cases, rng, size):
    def steps(levels, noise):
        return np.concatenate([rng.normal(level, noise, size // len(levels)) for level in levels])
    digits = 4 if size > 1000 else 1
    series = [steps([0, 2, -1, 0.5], 1), steps([0, 0.3, 0.6], 0.5), rng.integers(0, 2, size).astype(float), steps([0, 300, 0], 1),
              np.full(size // 2, 2.5), np.cumsum(rng.normal(0, 0.3, size)), steps([1e6, 1e6 + 1], 0.2), rng.normal(size=3),
              -np.abs(steps([1, 5], 1)), np.sin(np.arange(size) / 50) * 3]
    for x in series:
        x = np.round(x, digits)
        cases.add("river", "adwin", {"x": x}, lambda: detections(drift.ADWIN(), x))
        kw = {"delta": float(rng.choice([0.05, 1e-4, 0.3])), "clock": int(rng.choice([1, 8, 50])), "max_buckets": int(rng.integers(2, 9)),
              "min_window_length": int(rng.integers(1, 12)), "grace_period": int(rng.integers(2, 40))}
        cases.add("river", "adwin", {"x": x}, lambda: detections(drift.ADWIN(**kw), x), kw)
        cases.add("river", "page_hinkley", {"x": x}, lambda: detections(drift.PageHinkley(), x))
        kw = {"min_instances": int(rng.integers(5, 60)), "delta": 0.01, "threshold": float(rng.uniform(1, 30)),
              "alpha": float(rng.choice([1.0, 0.99])), "mode": str(rng.choice(["up", "down", "both"]))}
        cases.add("river", "page_hinkley", {"x": x}, lambda: detections(drift.PageHinkley(**kw), x), kw)


# --- all ----------------------------------------------------------------------------------------------------------------

def main():
    options = argparse.ArgumentParser()
    options.add_argument("--small", action="store_true", help="few and short, to be committed")
    options.add_argument("--seed", type=int, default=20261125)
    options.add_argument("--repeat", type=int, default=2)
    options = options.parse_args()
    small, rng, cases = options.small, np.random.default_rng(options.seed), Cases(sys.stdout)
    rules = ["sturges", "doane", "auto", "fd", "scott", "sqrt", "rice", 7]
    for _ in range(1 if small else options.repeat):
        for at, (_, a, b) in enumerate(numeric_pairs(rng, small)):
            if small:
                a, b = (v[:24] if v.dtype.kind == "i" else [float(f"{x:.4g}") for x in v[:24]] for v in (a, b))
                a, b = np.array(a), np.array(b)
            scipy_numeric(cases, a, b, [rules[at % 8]] if small else rules)
            evidently_numeric(cases, a, b)
            nannyml_numeric(cases, a, b)
            others_numeric(cases, a.astype(float), b.astype(float))
        for _, a, b in categorical_pairs(rng, small):
            evidently_categorical(cases, a, b)
            nannyml_categorical(cases, a, b)
            if a.dtype.kind != "i":
                others_categorical(cases, a.tolist(), b.tolist())
        for _ in range(1 if small else 6):
            for _, a, b in counts_pairs(rng):
                scipy_counts(cases, a, b)
                others_counts(cases, a, b)
        river(cases, rng, 360 if small else 3000)
        kstwo(cases, rng, 20 if small else 300)
        forms.add(cases, rng, small)
        if not small:
            ks_sizes(cases, rng, [(700, 1000), (997, 1009), (1000, 1000), (2000, 3000), (10001, 300), (4001, 9999), (1, 10000)])
            a = rng.normal(size=12000)
            nannyml_numeric(cases, a, rng.normal(0.1, 1.2, size=3000))
            nannyml_numeric(cases, np.round(a, 1), np.round(rng.normal(0.1, 1.2, size=3000), 1))
            nannyml_numeric(cases, a[:500], rng.normal(size=90), {"calculation_method": "estimated", "n_bins": 50})
            nannyml_numeric(cases, a, rng.normal(size=800), {"calculation_method": "exact"})


if __name__ == "__main__":
    main()
