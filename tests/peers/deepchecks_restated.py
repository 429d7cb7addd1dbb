"""What deepchecks 0.19.1 computes (deepchecks/utils/distribution/drift.py and preprocessing.py), written anew from its formulas, for it is AGPL and
does not import beside the versions of pandas and scikit-learn that the other tools want. tests/peers/deepchecks_itself.py asks deepchecks.
"""

from collections import Counter

import numpy as np
from scipy import stats


def counts(a, b, least=0.01, most=None, sort_by="dist1"):
    """Counts of both sides, rare categories put together; `least` is what its checks hand on."""
    x, y = Counter(a), Counter(b)
    keys, other = sorted(set(x) | set(y)), np.zeros(2)
    if most is not None and len(keys) > most:
        weigh = {"dist1": x, "dist2": y, "difference": {k: abs(x[k] - y[k]) for k in keys}}[sort_by]
        # A side's own order knows only what occurs on that side.
        keys = sorted(weigh, key=lambda k: (-weigh[k], k))[:most]
        other += [len(a) - sum(x[k] for k in keys), len(b) - sum(y[k] for k in keys)]
    rare = [k for k in keys if x[k] < len(a) * least]
    other += [sum(x[k] for k in rare), sum(y[k] for k in rare)]
    cells = [(x[k], y[k]) for k in keys if k not in rare]
    if other[0] > least * len(a) or other[1] > least * len(b):
        cells.append(tuple(other))
    return np.array(cells, float).reshape(-1, 2).T


def psi(x, y):
    if len(x) == 0:
        return {"value": 0.0}
    p, q = x / x.sum(), y / y.sum()
    p, q = np.where(p < 0.01, 0.01, p), np.where(q < 0.01, 0.01, q)
    return {"value": np.sum((p - q) * np.log(p / q))}


def cramers_v(x, y, given=False):
    """`given` counts are neither scaled nor rounded, only cut to whole ones."""
    if not given:
        if len(x) == 1:
            return {"value": 0.0}
        n, m = x.sum(), y.sum()
        x, y = np.round(x * (m / n) if n > m else x), np.round(y * (n / m) if m > n else y)
    table = np.trunc(np.array([x, y]))
    table = table[:, (table != 0).any(axis=0)]
    n, k = table.sum(), np.float64(table.shape[1])
    phi2 = stats.chi2_contingency(table)[0] / n
    phi2 = max(0, phi2 - (k - 1) / (n - 1))
    return {"value": np.sqrt(phi2 / min(k - (k - 1) ** 2 / (n - 1) - 1, 2 - 1 / (n - 1) - 1))}


def emd(a, b, margin=0.025):
    if not 0 <= margin < 0.5:
        raise ValueError("margin")
    parts = [v[(np.quantile(v, 1 - margin) >= v) & (v >= np.quantile(v, margin))] if margin else v for v in (a, b)]
    low, high = min(map(np.min, parts)), max(map(np.max, parts))
    if low == high:
        return {"value": 0.0}
    return {"value": stats.wasserstein_distance(*[(v - low) / (high - low) for v in parts])}


def ks(a, b):
    if min(len(a), len(b)) == 0:
        raise ValueError("empty")
    both = np.concatenate([a, b])
    f, g = (np.searchsorted(np.sort(v), both, side="right") / len(v) for v in (a, b))
    return {"value": np.max(np.abs(f - g))}
