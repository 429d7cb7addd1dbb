"""Every metric of `driftline compare --as driftline`: ours computed here, and where another tool defines one, that tool is asked after NaN
and infinities are gone.
"""

import deepchecks_restated as deepchecks
import numpy as np
from evidently.legacy.calculations.stattests.chisquare_stattest import _chi_stat_test
from evidently.legacy.calculations.stattests.wasserstein_distance_norm import _wasserstein_distance_norm
from evidently.legacy.calculations.stattests.z_stattest import _z_stat_test
from evidently.legacy.core import ColumnType
from river import drift
from scipy import stats
from scipy.spatial import distance
from tools import (INF, NAN, contingency, deequ, detections, edges, evidently, ks, mmd, psi_of, robust, sample_of, shares, tested)

# The quantiles at which a baseline is cut (docs/compare.md).
QUANTILES = [0.01, *(i / 20 for i in range(1, 20)), 0.99]


def kl_of(p, q):
    return {"value": stats.entropy(p, q)}


def own_figures(a, b):
    """Ours on counts a and b of the same cells: half a sample in every cell where a quotient's logarithm is taken, NaN where a side is empty."""
    p, q = a / a.sum(), b / b.sum()
    there = 1 if a.sum() > 0 < b.sum() else NAN
    jeffreys = [there * (v + 0.5) / (v.sum() + len(v) / 2) for v in (a, b)]
    yield "psi", lambda: psi_of(*jeffreys)
    yield "kl", lambda: kl_of(*jeffreys)
    yield "js_distance", lambda: {"value": distance.jensenshannon(p, q, 2)}
    yield "hellinger", lambda: {"value": np.sqrt(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2)) / np.sqrt(2)}
    yield "total_variation", lambda: {"value": np.abs(p - q).sum() / 2}
    yield "ks_d", lambda: {"value": np.max(np.abs(np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum()))}
    yield "l_infinity", lambda: {"value": deequ(a, b)["simple"]}
    yield "linf_robust", lambda: robust(deequ(a, b))


def own_counts(cases, a, b):
    p, q = a / a.sum(), b / b.sum()
    for metric, call in own_figures(a, b):
        for given in [{"ref_counts": a, "cur_counts": b}, {"table": [a, b]}]:
            cases.add("driftline", metric, given, call)
    # From shares there is nothing to add half a sample to.
    shares_given = {"p": p, "q": q}
    for metric, call in [*own_figures(a, b)][2:7]:
        cases.add("driftline", metric, shares_given, call)
    cases.add("driftline", "psi", shares_given, lambda: psi_of(p, q))
    cases.add("driftline", "kl", shares_given, lambda: kl_of(p, q))
    cases.add("driftline", "linf_robust", shares_given, lambda: robust(deequ(a, b)), {"n": int(a.sum()), "m": int(b.sum())})
    tiny = np.finfo(float).tiny

    def evidently_zero(v):
        least = v[v > 0].min()
        return np.where(v == 0, least / 1e6 if least <= 1e-4 else 1e-4, v)
    policies = [({"zero": "keep"}, lambda v: v), ({"zero": "floor(0.02)"}, lambda v: np.maximum(v, 0.02)),
                ({"zero": "min_positive"}, lambda v: np.where(v > 0, v, tiny)), ({"zero": "add_eps", "eps": 1e-6}, lambda v: v + 1e-6),
                ({"zero": "evidently"}, evidently_zero)]
    for params, fill in policies:
        u, v = fill(p), fill(q)
        for given in [{"ref_counts": a, "cur_counts": b}, shares_given]:
            cases.add("driftline", "psi", given, lambda: psi_of(u, v), params)
            cases.add("driftline", "kl", given, lambda: kl_of(u, v), params)
            cases.add("driftline", "js_distance", given, lambda: {"value": distance.jensenshannon(u, v, 2)}, params)
    cases.add("driftline", "js_distance", shares_given, lambda: {"value": distance.jensenshannon(p, q)}, {"base": "e"})
    for metric, call in [("chisquare_p", lambda: tested(stats.chisquare(b, a * (b.sum() / a.sum())), len(a) - 1)),
                         ("g_test_p", lambda: tested(stats.power_divergence(b, a * (b.sum() / a.sum()), lambda_="log-likelihood"), len(a) - 1)),
                         ("chi2_contingency", lambda: contingency([a, b])),
                         ("z_test_p", lambda: evidently(_z_stat_test, ColumnType.Categorical)(sample_of(a), sample_of(b))),
                         ("cramers_v", lambda: deepchecks.cramers_v(a, b, given=True))]:
        cases.add("driftline", metric, {"ref_counts": a, "cur_counts": b}, call)


def own_labels(cases, a, b):
    given = {"ref": a, "cur": b}
    x, y = shares(a, b)
    for metric, call in own_figures(x, y):
        if metric != "ks_d":
            cases.add("driftline", metric, given, call)
    for metric, call in [("chisquare_p", lambda: evidently(_chi_stat_test, ColumnType.Categorical)(a, b)),
                         ("g_test_p", lambda: tested(stats.power_divergence(y, x * (y.sum() / x.sum()), lambda_="log-likelihood"), len(x) - 1)),
                         ("chi2_contingency", lambda: contingency(np.array([x, y]))),
                         ("z_test_p", lambda: evidently(_z_stat_test, ColumnType.Categorical)(a, b)),
                         ("cramers_v", lambda: deepchecks.cramers_v(*deepchecks.counts(a, b)))]:
        cases.add("driftline", metric, given, call)


def baseline_counts(a, b):
    """Counts on the cells of a baseline, (edge, next]: edges are the 32-bit values at rank ceil(q n), equal ones once."""
    narrow = np.sort(a).astype(np.float32)
    cut = np.unique([narrow[max(int(np.ceil(q * len(a))), 1) - 1] for q in QUANTILES])
    if cut[0] == narrow[0] < narrow[-1]:
        cut = np.r_[np.nextafter(narrow[0], np.float32(-np.inf), dtype=np.float32), cut]
    cut = np.r_[-INF, cut.astype(float), INF]
    return [np.array([((v > low) & (v <= high)).sum() for low, high in zip(cut, cut[1:])], float) for v in (a, b)]


def own_samples(cases, a, b):
    given = {"ref": a, "cur": b}
    a, b = (v[np.isfinite(v)] for v in (np.asarray(a), np.asarray(b)))

    def add(metric, call, params=None):
        cases.add("driftline", metric, given, call, params)
    fits = len(a) and len(b) and np.max(np.abs(np.r_[a, b])) < 3e38 and (np.ptp(a) == 0 or np.ptp(a.astype(np.float32)) > 0)
    if fits:
        for metric, call in own_figures(*baseline_counts(a, b)):
            if metric != "ks_d":
                add(metric, call)
    for rule, values in [("sturges", np.concatenate([a, b])), ("doane", a)]:
        try:
            cut = edges(values.astype(float), rule)["value"]
        except Exception:  # noqa: BLE001
            continue
        x, y = (np.r_[h := np.histogram(v, cut)[0], len(v) - h.sum()].astype(float) for v in (a, b))
        if len(cut) > 1 and len(a) and len(b):
            for metric, call in [*own_figures(x, y)][:4]:
                add(metric, call, {"edges": rule})
    # Defined by others, who see what is left of the values.
    add("ks_2samp", lambda: ks(a, b))
    add("ks_2samp", lambda: ks(a, b, method="asymp", alternative="less"), {"method": "asymp", "alternative": "less"})
    add("ks_d", lambda: {"value": stats.ks_2samp(a, b).statistic})
    add("wasserstein1", lambda: {"value": stats.wasserstein_distance(a, b)})
    add("energy_distance", lambda: {"value": stats.energy_distance(a, b)})
    add("wasserstein_norm", lambda: evidently(_wasserstein_distance_norm)(a, b))
    add("mmd2_unbiased_rbf", lambda: mmd(a, b))
    add("emd_scaled", lambda: deepchecks.emd(a, b))
    add("histogram_bin_edges", lambda: edges(np.concatenate([a, b]), "fd"), {"bins": "fd"})


def own_series(cases, x):
    cases.add("driftline", "adwin", {"x": x}, lambda: detections(drift.ADWIN(), x))
    cases.add("driftline", "page_hinkley", {"x": x}, lambda: detections(drift.PageHinkley(threshold=5), x), {"threshold": 5})
    cases.add("driftline", "kstwo_sf", {"x": 0.3, "n": 20}, lambda: {"value": stats.kstwo.sf(0.3, 20)})
