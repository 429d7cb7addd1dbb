"""The metrics, parameters and forms of input of `driftline compare` that the samples of cases.py do not reach.

Forms: samples, labels, counts as arrays and as objects, shares, tables, one series. A tool that only takes samples is asked about counts
by samples with those counts, and about shares by the same. `--as driftline` is in own.py. Left out: what the real tool has no function for.
"""

import deepchecks_restated as deepchecks
import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests.chisquare_stattest import _chi_stat_test
from evidently.legacy.calculations.stattests.g_stattest import _g_stat_test
from evidently.legacy.calculations.stattests.hellinger_distance import _hellinger_distance
from evidently.legacy.calculations.stattests.jensenshannon import _jensenshannon
from evidently.legacy.calculations.stattests.kl_div import _kl_div
from evidently.legacy.calculations.stattests.psi import _psi
from evidently.legacy.calculations.stattests.tvd_stattest import _total_variation_distance
from evidently.legacy.calculations.stattests.wasserstein_distance_norm import _wasserstein_distance_norm
from evidently.legacy.calculations.stattests.z_stattest import _z_stat_test
from evidently.legacy.core import ColumnType
from nannyml.drift.univariate.methods import FeatureType
from river import drift
from scipy import stats
from scipy.spatial import distance
from own import own_counts, own_labels, own_samples, own_series
from tools import (CATEGORIES, EPS, INF, NAN, Few, contingency, deequ, deequ_chisquare, deequ_numeric, deequ_psi, detections, edges, evidently,
                   evidently_cleaned, ks, mmd, nannyml, nannyml_chi2, psi_of, robust, sample_of, scouter, shares, simple, tested)

BINNED = [("psi", _psi), ("js_distance", _jensenshannon), ("kl", _kl_div), ("hellinger", _hellinger_distance)]
TESTS = [("chisquare_p", _chi_stat_test), ("g_test_p", _g_stat_test), ("z_test_p", _z_stat_test)]
RULES = ["stone", "sturges", "doane", "auto", "fd", "scott", "sqrt", "rice", 1, 3]
LAMBDAS = ["pearson", "log-likelihood", "freeman-tukey", "mod-log-likelihood", "neyman", "cressie-read", 2.5, -0.25]


# --- data ---------------------------------------------------------------------------------------------------------------

def rounded(values):
    return np.array([float(f"{x:.4g}") for x in values])


def samples(rng, small):
    """Pairs of samples: ordinary ones, and those at which tools part ways."""
    def n():
        return int(rng.integers(12, 26)) if small else int(rng.integers(25, 300))
    yield "normal", rounded(rng.normal(size=n())), rounded(rng.normal(0.4, 1.3, n()))
    yield "missing", rounded(np.r_[rng.normal(size=n()), NAN, NAN]), rounded(np.r_[rng.normal(size=n()), NAN])
    yield "infinite", np.r_[rounded(rng.normal(size=n())), INF], np.r_[rounded(rng.normal(size=n())), -INF, INF]
    yield "whole", rng.integers(0, 9, n()), rng.integers(2, 12, n())
    yield "constant", np.full(n(), 0.1), np.full(n(), 0.1)
    yield "constant reference", np.full(n(), 0.5), rounded(rng.normal(0.5, 1, n()))
    yield "one each", np.array([1.5]), np.array([-2.0])
    yield "one against many", np.array([0.25]), rounded(rng.normal(size=n()))
    yield "two each", np.array([1.0, 2.0]), np.array([2.0, 3.0])
    yield "huge", rounded(rng.normal(size=n())) * 1e300, rounded(rng.normal(size=n())) * 1e300
    yield "subnormal", rng.integers(0, 30, n()) * 5e-324, rng.integers(5, 40, n()) * 5e-324
    yield "narrow", 1e9 + rng.integers(0, 5, n()) * 1e-7, 1e9 + rng.integers(1, 7, n()) * 1e-7
    yield "zeros of both signs", np.array([0.0, -0.0, 0.0, 1.0] * 4), np.array([-0.0, 1.0, 1.0, 2.0] * 4)
    yield "empty", np.array([]), rounded(rng.normal(size=n()))
    yield "empty current", rounded(rng.normal(size=n())), np.array([])
    yield "none there", np.full(4, NAN), rounded(rng.normal(size=n()))


def labels(rng, small):
    def draw(names, skew, size=None):
        size = size or (int(rng.integers(15, 40)) if small else int(rng.integers(40, 500)))
        return rng.choice(list(names), size=size, p=rng.dirichlet(np.full(len(names), skew))).tolist()
    yield draw("abcdef", 1), draw("abcdef", 1)
    yield draw("abcdef", 0.3), draw("cdefgh", 0.3)
    yield draw("abcdefghijkl", 0.5), draw("abcdefghijklmn", 0.5)
    yield draw("ab", 2), draw("ab", 2)
    yield draw("abc", 1, 30), draw("abc", 1, 30)
    yield ["a"] * 40 + ["b"] * 41, ["a"] * 60
    yield ["a"] * 60, ["a"] * 40 + ["b"] * 41
    yield ["a", "b", "c"] * 30, ["d", "e"] * 20
    yield ["a"] * 300 + ["b"] * 3 + ["c"], ["a"] * 90 + ["c"] * 9 + ["d"] * 2
    yield ["a"] * 30, ["a"] * 20
    yield ["a"], ["b"]
    yield ["a"], ["a"]
    yield ["", " ", "é", "ß", "Z", "a"] * 3, ["é", "z", "Z", "", "a"] * 4
    yield [], ["a", "b"]
    yield ["a", "b"], []


def counts(rng):
    def one(k, most):
        a = rng.integers(0, most, k)
        b = np.where(a == 0, rng.integers(1, most, k), rng.integers(0, most, k))
        a[0], b[0] = a[0] + 1, b[0] + 1
        return a, b
    yield one(int(rng.integers(3, 12)), 40)
    yield one(int(rng.integers(3, 12)), 4)
    yield one(2, 60)
    yield np.array([20, 0]), np.array([0, 30])
    yield np.array([5, 0, 7]), np.array([1, 4, 0])
    yield np.array([1]), np.array([4])


# --- scipy and numpy ----------------------------------------------------------------------------------------------------

def scipy_samples(cases, a, b):
    given = {"ref": a, "cur": b}

    def add(metric, call, params=None):
        cases.add("scipy", metric, given, call, params)
    for policy in ["propagate", "omit", "raise"]:
        kw = {"nan_policy": policy}
        add("ks_2samp", lambda: ks(a, b, **kw), kw)
    for alternative in ["two-sided", "less", "greater"]:
        for method in ["exact", "asymp"]:
            kw = {"alternative": alternative, "method": method}
            add("ks_2samp", lambda: ks(a, b, **kw), kw)
    add("ks_d", lambda: {"value": stats.ks_2samp(a, b).statistic, "d": stats.ks_2samp(a, b).statistic})
    both = np.concatenate([a, b])
    add("histogram_bin_edges", lambda: edges(both))
    for rule in RULES:
        cases.add("scipy", "histogram_bin_edges", {"x": a}, lambda: edges(a, rule), {"bins": rule})
    for low, high in [(-1.5, 2), (0, 0), (0, 1e-300), (3, 1), (-1e308, 1e308)]:
        for rule in ["sturges", "stone"]:
            kw = {"bins": rule, "range": [low, high]}
            cases.add("scipy", "histogram_bin_edges", {"x": a}, lambda: edges(a, **kw), kw)


def scipy_weights(cases, rng):
    for n, m, u, v in [(6, 8, 1, 1), (3, 3, 0, 1), (5, 1, 1, None), (4, 6, None, 1), (3, 3, -1, 1), (3, 2, INF, 1), (3, 2, NAN, 1)]:
        a, b = rounded(rng.normal(size=n)), rounded(rng.normal(size=m))
        x, y = (None if w is None else np.r_[rng.integers(1, 9, size - 1), w] for w, size in [(u, n), (v, m)])
        given = {"ref": a, "cur": b} | ({} if x is None else {"u_weights": x}) | ({} if y is None else {"v_weights": y})
        cases.add("scipy", "wasserstein1", given, lambda: {"value": stats.wasserstein_distance(a, b, x, y)})
        cases.add("scipy", "energy_distance", given, lambda: {"value": stats.energy_distance(a, b, x, y)})
    a, b, zeros = np.array([1.0, 2.0]), np.array([2.0, 4.0]), np.zeros(2)
    cases.add("scipy", "wasserstein1", {"ref": a, "cur": b, "u_weights": zeros, "v_weights": [1, 1]},
              lambda: {"value": stats.wasserstein_distance(a, b, zeros, [1, 1])})


def scipy_vectors(cases, rng):
    """What scipy takes as two vectors: shares, counts, a table of two rows, or samples of one length."""
    dirichlet = rng.dirichlet(np.ones(7)), rng.dirichlet(np.ones(7))
    pairs = [dirichlet, (rng.integers(0, 9, 140).astype(float), rng.integers(0, 9, 140).astype(float)),
             ([0.5, 0.5, 0], [0.25, 0, 0.75]), ([0, 0.5, 0.5], [0, 0.5, 0.5]), ([1, 0], [0, 1]), ([0, 0], [1, 1]), ([1, 1], [0, 0]),
             ([1], [1]), ([3, 1], [1e-320, 1]), ([1e300, 1e300], [1e300, 2e300]), ([1e-200, 1e-200], [1e-200, 3e-200]),
             ([NAN, 1], [1, 1]), ([INF, 1], [1, 1]), ([-1, 2], [1, 1]), ([1, 1], [-1, 2]), ([], [])]
    for at, (p, q) in enumerate(pairs):
        p, q = np.array(p, float), np.array(q, float)
        forms = [{"p": p, "q": q}, {"ref_counts": p, "cur_counts": q}, {"table": [p, q]}, {"ref": p, "cur": q}]
        for given in forms if at < 4 else forms[:1]:
            cases.add("scipy", "kl", given, lambda: {"value": stats.entropy(p, q)})
            cases.add("scipy", "js_distance", given, lambda: {"value": distance.jensenshannon(p, q)})
        for base in [10, 0.5, 1] if at < 5 else [10]:
            kw = {"base": base}
            cases.add("scipy", "kl", forms[0], lambda: {"value": stats.entropy(p, q, **kw)}, kw)
            cases.add("scipy", "js_distance", forms[0], lambda: {"value": distance.jensenshannon(p, q, **kw)}, kw)
    p, q = np.array([2.0, NAN, 1.0, 1.0]), np.array([1.0, 1.0, NAN, 2.0])
    for policy in ["propagate", "omit", "raise"]:
        kw = {"nan_policy": policy}
        for given in [{"p": p, "q": q}, {"ref": p, "cur": q}]:
            cases.add("scipy", "kl", given, lambda: {"value": stats.entropy(p, q, **kw)}, kw)
        cases.add("scipy", "chisquare_p", {"cur_counts": q}, lambda: {"p": stats.chisquare(q, **kw).pvalue}, kw)
        cases.add("scipy", "chisquare_p", {"ref_counts": p, "cur_counts": q}, lambda: {"p": stats.chisquare(q, p, **kw).pvalue}, kw)
    # Samples of different lengths are no two vectors.
    p, q = np.array([1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    cases.add("scipy", "kl", {"ref": p, "cur": q}, lambda: {"value": stats.entropy(p, q)})
    cases.add("scipy", "kl", {"p": [1, 1], "q": [1, 1]}, lambda: {"value": stats.entropy([1, 1], [1, 1], base=-2)}, {"base": -2})


def scipy_tables(cases, rng):
    k = int(rng.integers(3, 9))
    a, b = rng.integers(1, 40, k), rng.integers(1, 40, k)
    scaled = a * (b.sum() / a.sum())
    for observed in [b, b[:1], [0, 0], [0, 5, 1], [1e300, 2e300], [NAN, 1], [-3, 5], []]:
        observed = np.array(observed, float)
        for metric, kw in [("chisquare_p", {}), ("g_test_p", {"lambda_": "log-likelihood"})]:
            for given in [{"cur_counts": observed}, {"table": [observed]}]:
                cases.add("scipy", metric, given, lambda: tested(stats.power_divergence(observed, **kw), len(observed) - 1))
    for power in LAMBDAS:
        kw = {"lambda_": power}
        cases.add("scipy", "chisquare_p", {"ref_counts": scaled, "cur_counts": b}, lambda: tested(stats.power_divergence(b, scaled, **kw), k - 1), kw)
        cases.add("scipy", "chi2_contingency", {"table": [a, b]}, lambda: contingency([a, b], **kw), kw)
        cases.add("scipy", "chi2_contingency", {"table": [[7, 2], [3, 9]]}, lambda: contingency([[7, 2], [3, 9]], **kw), kw)
    zeros = np.array([0, *scaled[1:]]) * (scaled.sum() / scaled[1:].sum())
    for expected, observed in [(zeros, b), (scaled, np.array([0, b[0] + b[1], *b[2:]])), (np.array([0, 3, 3]), np.array([0, 2, 4]))]:
        for power in ["pearson", "log-likelihood", "neyman", 2.5]:
            kw = {"lambda_": power}
            cases.add("scipy", "chisquare_p", {"ref_counts": expected, "cur_counts": observed},
                      lambda: tested(stats.power_divergence(observed, expected, **kw), len(observed) - 1), kw)
    p, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
    cases.add("scipy", "chisquare_p", {"p": p, "q": q}, lambda: tested(stats.chisquare(q, p), 3))
    cases.add("scipy", "chisquare_p", {"table": [scaled, b]}, lambda: tested(stats.chisquare(b, scaled), k - 1))
    for ddof in [2, k - 1, k, -1, 0.5]:
        kw = {"ddof": ddof}
        cases.add("scipy", "g_test_p", {"ref_counts": scaled, "cur_counts": b},
                  lambda: tested(stats.power_divergence(b, scaled, lambda_="log-likelihood", **kw), k - 1 - ddof), kw)
    tables = [rng.integers(1, 30, (3, 4)), rng.integers(0, 3, (4, 6)) + np.eye(4, 6, dtype=int), rng.integers(1, 9, (2, 1)),
              rng.integers(1, 9, (1, 5)), [[1, 1], [1, 1]], [[1, 0], [0, 1]], [[5, 0], [6, 0]], [[0, 0], [1, 2]], [[3, -1], [2, 2]],
              [[1e15, 2e15], [3e15, 4e15]], [[0.5, 1.5], [2.5, 0.25]], [[1e-300, 1e-300], [1e-300, 3e-300]], [[NAN, 1], [1, 1]],
              [[INF, 1], [1, 1]], [[]]]
    for table in tables:
        for kw in [{}, {"correction": False}]:
            cases.add("scipy", "chi2_contingency", {"table": [list(row) for row in table]}, lambda: contingency(table, **kw), kw)
    cases.add("scipy", "chi2_contingency", {"ref_counts": a, "cur_counts": b}, lambda: contingency([a, b]))
    cases.add("scipy", "chi2_contingency", {"p": p, "q": q}, lambda: contingency([p, q]))
    for x, y in labels(rng, True):
        cases.add("scipy", "chi2_contingency", {"ref": x, "cur": y}, lambda: contingency(np.array(shares(x, y))))


def kstwo(cases):
    for n, d in [(5, [0.1, 0.5, 0.9, 1.0, NAN, -0.5, 2.0]), (170, [1e-9, 0.01, 0.3]), (1, [0.0, 0.5, 0.75]), (10**6, [1e-3, 2e-3, 0.5]),
                 (2.5, [0.4]), (-3, [0.4]), (NAN, [0.4]), (3 * 10**9, [1e-5, 1e-4])]:
        cases.add("scipy", "kstwo_sf", {"x": d, "n": n}, lambda: {"value": stats.kstwo.sf(d, n) if len(d) > 1 else stats.kstwo.sf(d[0], n)})


# --- evidently ----------------------------------------------------------------------------------------------------------

def tvd(x, y, *_):
    return (_total_variation_distance(x, y),)


def evidently_samples(cases, a, b):
    given = {"ref": a, "cur": b}

    def add(metric, call, params=None):
        cases.add("evidently", metric, given, call, params)

    def ks_d():
        d = stats.ks_2samp(*evidently_cleaned(a, b)).statistic
        return {"value": d, "d": d}
    add("ks_d", ks_d)
    add("histogram_bin_edges", lambda: edges(pd.concat(evidently_cleaned(a, b)).to_numpy(), "sturges"))
    for metric, test in [*BINNED, *TESTS]:
        add(metric, lambda: evidently(test, ColumnType.Categorical)(a, b), CATEGORIES)
    add("total_variation", lambda: evidently(tvd)(a, b))
    add("wasserstein_norm", lambda: evidently(_wasserstein_distance_norm)(a, b))
    add("js_distance", lambda: evidently(_jensenshannon, base=2)(a, b), {"base": 2})
    add("psi", lambda: evidently(_psi, n_bins=5)(a, b), {"n_bins": 5})
    for sigma in [0.7, 1e-3, 2]:
        add("mmd2_unbiased_rbf", lambda: mmd(a, b, sigma), {"sigma": sigma})


def evidently_counts(cases, a, b):
    x, y = sample_of(a), sample_of(b)
    for metric, test in [*BINNED, *TESTS, ("total_variation", tvd)]:
        forms = [{"ref_counts": a, "cur_counts": b}, {"table": [a, b]}]
        if metric not in ["chisquare_p", "g_test_p", "z_test_p"]:
            forms.append({"p": a / a.sum(), "q": b / b.sum()})
        for given in forms:
            cases.add("evidently", metric, given, lambda: evidently(test, ColumnType.Categorical)(x, y))


def evidently_labels(cases, a, b):
    for metric, test in [*BINNED, *TESTS, ("total_variation", tvd)]:
        cases.add("evidently", metric, {"ref": a, "cur": b}, lambda: evidently(test, ColumnType.Categorical)(a, b))


# --- nannyml ------------------------------------------------------------------------------------------------------------

def nannyml_samples(cases, a, b):
    given = {"ref": a, "cur": b}

    def continuous(key, **params):
        extra = {"computation_params": {key: {}, **params}} if params else {}
        return {"value": nannyml(key, FeatureType.CONTINUOUS, a, b, **extra)[1]}
    for metric in ["ks_d", "ks_2samp"]:
        cases.add("nannyml", metric, given, lambda: continuous("kolmogorov_smirnov"))
    for params in [{"calculation_method": "estimated", "n_bins": 7}, {"calculation_method": "estimated"}, {"calculation_method": "exact"}]:
        cases.add("nannyml", "ks_d", given, lambda: continuous("kolmogorov_smirnov", **params), params)
        cases.add("nannyml", "wasserstein1", given, lambda: continuous("wasserstein", **params), params)
    there = pd.Series(a).dropna().astype(float)
    cases.add("nannyml", "histogram_bin_edges", given, lambda: edges(there, "doane"))
    cases.add("nannyml", "histogram_bin_edges", {"x": a}, lambda: edges(there, "doane"))
    for metric, key in [("js_distance", "jensen_shannon"), ("hellinger", "hellinger"), ("l_infinity", "l_infinity")]:
        cases.add("nannyml", metric, given, lambda: {"value": nannyml(key, FeatureType.CATEGORICAL, a, b)[1]}, CATEGORIES)
    cases.add("nannyml", "chi2_contingency", given, lambda: nannyml_chi2(a, b))


def nannyml_labels(cases, a, b, forms):
    for metric, key in [("js_distance", "jensen_shannon"), ("hellinger", "hellinger"), ("l_infinity", "l_infinity")]:
        for given in forms:
            cases.add("nannyml", metric, given, lambda: {"value": nannyml(key, FeatureType.CATEGORICAL, a, b)[1]})
    for given in forms:
        if "p" not in given:
            cases.add("nannyml", "chi2_contingency", given, lambda: nannyml_chi2(a, b))


def nannyml_estimated(cases, rng):
    """10 000 reference rows, from which on it estimates, and current rows on the edges and outside."""
    a = np.round(rng.normal(size=10_000), 2)
    for b in [rng.choice(a, 300), np.array([a.min(), a.max(), 0.0]), np.full(20, a.max() + 1), np.full(20, a.min() - 1), np.array([-9.0, 9.0]),
              np.array([NAN, 0.5]), np.array([INF, -INF, 0.0]), np.array([])]:
        for metric, key in [("ks_d", "kolmogorov_smirnov"), ("wasserstein1", "wasserstein")]:
            cases.add("nannyml", metric, {"ref": a, "cur": b}, lambda: {"value": nannyml(key, FeatureType.CONTINUOUS, a, b)[1]})
    whole, constant = rng.integers(0, 50, 10_000), np.full(10_000, 2.5)
    for a, b in [(whole, rng.integers(5, 60, 200)), (constant, np.array([2.5, 2.5])), (constant, np.array([2.0, 2.5, 2.6, 4.0]))]:
        for metric, key in [("ks_d", "kolmogorov_smirnov"), ("wasserstein1", "wasserstein")]:
            cases.add("nannyml", metric, {"ref": a, "cur": b}, lambda: {"value": nannyml(key, FeatureType.CONTINUOUS, a, b)[1]})


# --- deequ --------------------------------------------------------------------------------------------------------------

def deequ_samples(cases, a, b):
    given = {"ref": a, "cur": b}
    a, b = (v[~np.isnan(v)] for v in (np.asarray(a, float), np.asarray(b, float)))
    cases.add("deequ", "ks_d", given, lambda: {"value": deequ_numeric(a, b)["simple"]})
    cases.add("deequ", "l_infinity", given, lambda: simple(deequ_numeric(a, b)))
    cases.add("deequ", "linf_robust", given, lambda: robust(deequ_numeric(a, b)))
    cases.add("deequ", "linf_robust", given, lambda: robust(deequ_numeric(a, b, alpha=0.5)), {"alpha": 0.5})
    x, y = shares(a, b)
    cases.add("deequ", "linf_robust", given, lambda: robust(deequ(x, y)), CATEGORIES)
    params = CATEGORIES | {"correct_for_low_number_of_samples": True}
    cases.add("deequ", "linf_robust", given, lambda: simple(deequ(x, y)), params)


def deequ_labels(cases, a, b):
    given = {"ref": a, "cur": b}
    x, y = shares(a, b)
    cases.add("deequ", "l_infinity", given, lambda: simple(deequ(x, y)))
    cases.add("deequ", "linf_robust", given, lambda: robust(deequ(x, y, alpha=0.5)), {"alpha": 0.5})
    cases.add("deequ", "psi", given, lambda: deequ_psi(x, y))

    def maps():
        return [dict(sorted(pd.Series(v, dtype=object).value_counts().items())) for v in (b, a)]
    ref, cur = maps()[::-1]
    for form in [given, {"ref_counts": ref, "cur_counts": cur}]:
        cases.add("deequ", "chisquare_p", form, lambda: deequ_chisquare(*maps()))
    limits = {"abs_threshold_yates": 2, "perc_threshold_yates": 0.5, "abs_threshold_cochran": 3}
    cases.add("deequ", "chisquare_p", given, lambda: deequ_chisquare(*maps(), 2, 0.5, 3), limits)


def deequ_counts(cases, a, b):
    p, q, n, m = a / a.sum(), b / b.sum(), int(a.sum()), int(b.sum())
    for given in [{"ref_counts": a, "cur_counts": b}, {"table": [a, b]}, {"p": p, "q": q}]:
        sizes = {"n": n, "m": m} if "p" in given else None
        cases.add("deequ", "l_infinity", given, lambda: {"value": deequ(a, b)["simple"]})
        cases.add("deequ", "linf_robust", given, lambda: robust(deequ(a, b)), sizes)
        cases.add("deequ", "psi", given, lambda: deequ_psi(a, b))
        cases.add("deequ", "ks_d", given, lambda: {"value": np.max(np.abs(np.cumsum(a) / n - np.cumsum(b) / m))})


# --- deepchecks and scouter ---------------------------------------------------------------------------------------------

def deepchecks_samples(cases, a, b):
    given = {"ref": a, "cur": b}
    a, b = (v[~np.isnan(v)] for v in (np.asarray(a, float), np.asarray(b, float)))
    cases.add("deepchecks", "ks_d", given, lambda: deepchecks.ks(a, b))
    cases.add("deepchecks", "psi", given, lambda: deepchecks.psi(*deepchecks.counts(a, b)))
    for margin in [0, 0.1, 0.49, 0.5]:
        cases.add("deepchecks", "emd_scaled", given, lambda: deepchecks.emd(a, b, margin), {"margin_quantile_filter": margin})


def deepchecks_labels(cases, a, b):
    given = {"ref": a, "cur": b}
    for params in [{}, {"min_category_size_ratio": 0}, {"min_category_size_ratio": 0.2}, {"max_num_categories": 3},
                   {"max_num_categories": 3, "sort_by": "dist2"}, {"max_num_categories": 2, "sort_by": "difference", "min_category_size_ratio": 0.3}]:
        kw = {{"min_category_size_ratio": "least", "max_num_categories": "most"}.get(k, k): v for k, v in params.items()}
        cases.add("deepchecks", "psi", given, lambda: deepchecks.psi(*deepchecks.counts(a, b, **kw)), params)
        cases.add("deepchecks", "cramers_v", given, lambda: deepchecks.cramers_v(*deepchecks.counts(a, b, **kw)), params)


def deepchecks_tables(cases, a, b):
    for given in [{"ref_counts": a, "cur_counts": b}, {"table": [a, b]}]:
        cases.add("deepchecks", "cramers_v", given, lambda: deepchecks.cramers_v(a, b, given=True))
    cases.add("deepchecks", "psi", {"p": a / a.sum(), "q": b / b.sum()}, lambda: deepchecks.psi(a, b))
    cases.add("scouter", "psi", {"p": a / a.sum(), "q": b / b.sum()}, lambda: psi_of(a / a.sum() + EPS, b / b.sum() + EPS))


def scouter_samples(cases, a, b):
    given = {"ref": a, "cur": b}
    for bins in [1, 2, 5, 20]:
        cases.add("scouter", "psi", given, lambda: scouter(a, b, bins=bins), {"num_bins": bins})
        cases.add("scouter", "psi", given, lambda: scouter(a, b, bins=bins, equal_width=True), {"num_bins": bins, "binning": "equal_width"})
    if a.dtype.kind == "i":
        cases.add("scouter", "psi", given, lambda: scouter(a.tolist(), b.tolist(), categorical=True), CATEGORIES)


# --- river --------------------------------------------------------------------------------------------------------------

def river(cases, rng, small):
    size = 60 if small else 700
    a, b = np.round(rng.normal(size=size), 1), np.round(rng.normal(2, 1, size), 1)
    step = np.concatenate([a, b])
    cases.add("river", "adwin", {"ref": a, "cur": b}, lambda: detections(drift.ADWIN(), step))
    cases.add("river", "page_hinkley", {"ref": a, "cur": b}, lambda: detections(drift.PageHinkley(threshold=8), step), {"threshold": 8})
    odd = [np.r_[a, NAN, b], np.r_[a, INF, b], np.r_[a, -INF, b], np.array([]), np.array([1.0]), np.r_[a, b] * 1e300, np.r_[a, b] * 1e-310,
           np.repeat([0.0, -0.0, 1e-12], size), np.r_[a * 1e-9 + 1, b * 1e-9 + 1], rng.integers(-3, 9, size), np.r_[a, [1e300], b]]
    for x in odd:
        for kw in [{}, {"clock": 1, "min_window_length": 1, "grace_period": 0, "delta": 0.5}, {"clock": 1, "max_buckets": 1},
                   {"delta": 1e-300, "clock": 4}]:
            cases.add("river", "adwin", {"x": x}, lambda: detections(drift.ADWIN(**kw), x), kw)
        for kw in [{}, {"min_instances": 1, "threshold": 0.5, "delta": 0}, {"min_instances": 0, "threshold": 0, "alpha": 0.5},
                   {"threshold": 2, "mode": "up"}, {"threshold": 2, "mode": "down"}]:
            cases.add("river", "page_hinkley", {"x": x}, lambda: detections(drift.PageHinkley(**kw), x), kw)
    own_series(cases, step)


# --- all ----------------------------------------------------------------------------------------------------------------

def add(cases, rng, small):
    if small:
        cases = Few(cases, 5)
    for _, a, b in samples(rng, small):
        for of_tool in [scipy_samples, evidently_samples, nannyml_samples, deequ_samples, deepchecks_samples, scouter_samples, own_samples]:
            of_tool(cases, a, b)
    for a, b in labels(rng, small):
        evidently_labels(cases, a, b)
        nannyml_labels(cases, a, b, [{"ref": a, "cur": b}])
        for of_tool in [deequ_labels, deepchecks_labels, own_labels]:
            of_tool(cases, a, b)
    for a, b in counts(rng):
        x, y = sample_of(a), sample_of(b)
        nannyml_labels(cases, x, y, [{"ref_counts": a, "cur_counts": b}, {"table": [a, b]}, {"p": a / a.sum(), "q": b / b.sum()}])
        for of_tool in [evidently_counts, deequ_counts, deepchecks_tables, own_counts]:
            of_tool(cases, a, b)
    for of_scipy in [scipy_weights, scipy_vectors, scipy_tables]:
        of_scipy(cases, rng)
    kstwo(cases)
    river(cases, rng, small)
    if not small:
        nannyml_estimated(cases, rng)
