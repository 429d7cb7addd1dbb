"""Reference values for the formulas of the `shared` crate, from numpy and scipy: JSON to standard output.

usage: conformance.py > cases.json      an array with one case per line; seeds are fixed, so two runs print the same bytes

Why: an implementation and a test by the same hand share mistakes. Here every figure comes from scipy where it has the function (ndtri,
chi2.ppf, jensenshannon, brentq, logsumexp) and from the formulas of docs/detection.md in numpy where it has not.
Kinds: inv_norm, chi2_lower, psi_jeffreys, js2_distance, ks_d, w1_spread, scores, design, log_e, mixture, lrv, moments_merge, cell.

Conventions: PSI takes shares (c+1/2)/(N+K/2) and natural logarithms; JS (base 2, square root), KS and W1 take raw shares c/N; scores take
shares (b+1/2)/(N0+K/2). `design` gives null for theta1, lambda and psi when no bet can be laid (tau + d at or above 0.95 of the largest score).
Leaves out wire formats and whole detector runs.
"""

import json
import os
import sys

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
from scipy.optimize import brentq
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp, ndtri
from scipy.stats import chi2

RNG = np.random.default_rng(20_261_123)
QUANTILE_SHARES = np.diff([0, 0.01, *np.arange(1, 20) / 20, 0.99, 1])
REACH = 0.95


def plain(value):
    """numpy to what JSON has."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def counts_pairs():
    """Named pairs of counts: typical windows, sparse ones, empty cells, disjoint, equal, one cell, large totals."""
    yield "equal", [5, 5, 5], [5, 5, 5]
    yield "proportional", [10, 20, 30], [1, 2, 3]
    yield "disjoint", [7, 0], [0, 9]
    yield "one-cell", [12], [5]
    yield "by-hand", [2, 2], [1, 3]
    yield "large", [4_000_000_000, 1], [1, 4_000_000_000]
    yield "empty-current", [3, 4, 5], [0, 0, 1]
    for i in range(24):
        cells = int(RNG.integers(2, 25))
        p = RNG.dirichlet(np.full(cells, (0.3, 1.0, 5.0)[i % 3]))
        q = RNG.dirichlet(np.full(cells, 1.0)) if i % 2 else p
        size = int((20, 60, 1000, 100_000)[i % 4])
        yield f"random-{i}", RNG.multinomial(6000, p), RNG.multinomial(size, q)


def shares(counts):
    counts = np.asarray(counts, dtype=float)
    return counts / counts.sum()


def jeffreys(counts):
    counts = np.asarray(counts, dtype=float)
    return (counts + 0.5) / (counts.sum() + len(counts) / 2)


def distances():
    for name, b, c in counts_pairs():
        p, q, jp, jq = shares(b), shares(c), jeffreys(b), jeffreys(c)
        yield {"kind": "psi_jeffreys", "name": name, "p": b, "q": c, "value": np.sum((jp - jq) * np.log(jp / jq))}
        yield {"kind": "js2_distance", "name": name, "p": b, "q": c, "value": np.nan_to_num(jensenshannon(p, q, base=2))}
        yield {"kind": "ks_d", "name": name, "p": b, "q": c, "value": np.max(np.abs(np.cumsum(p) - np.cumsum(q)))}
        if len(b) > 1:
            edges = np.sort(RNG.choice(np.arange(-400, 400), len(b) - 1, replace=False)) / np.float32(64)
            low, high = float(edges[0]) - 1.5, float(edges[-1]) + 2.25
            value = w1_spread(edges.astype(float), p, q, low, high)
            yield {"kind": "w1_spread", "name": name, "edges": edges, "low": low, "high": high, "p": b, "q": c, "value": value}


def w1_spread(edges, p, q, low, high):
    """Integral of |F - G| for densities constant within cells: exact on each piece, cut where F - G changes sign."""
    knots = np.array([low, *edges, high])
    gap = np.concatenate([[0.0], np.cumsum(p - q)])
    gap[-1] = 0.0
    at = [(knots[i], gap[i]) for i in range(len(knots))]
    for i in range(len(p)):
        if gap[i] * gap[i + 1] < 0:
            at.append((knots[i] + (knots[i + 1] - knots[i]) * gap[i] / (gap[i] - gap[i + 1]), 0.0))
    x, y = np.array(sorted(at)).T
    return np.trapezoid(np.abs(y), x)


def standardised(p, g):
    g = g - p @ g
    sd = np.sqrt(p @ g**2)
    return g / sd if sd > 0 else np.zeros_like(g)


def score_table(counts):
    p = jeffreys(counts)
    location = ndtri(np.cumsum(p) - p / 2)
    one = np.eye(len(p))
    raw = {"location": location, "scale": location**2, "top": one[-1], "bottom": one[0]}
    return p, {family: standardised(p, g) for family, g in raw.items()}


def baselines():
    yield "quantile-6000", np.round(QUANTILE_SHARES * 6000).astype(int)
    yield "quantile-334", RNG.multinomial(334, QUANTILE_SHARES)
    yield "quantile-60000", RNG.multinomial(60_000, QUANTILE_SHARES)
    yield "few-distinct", [0, 34, 33, 33, 0]
    yield "two-cells", [30, 70]
    yield "heavy-tie", [3, 4, 800, 100, 93]
    for i in range(6):
        cells = int(RNG.integers(3, 25))
        yield f"random-{i}", RNG.multinomial(int((40, 334, 6000, 100_000)[i % 4]), RNG.dirichlet(np.full(cells, 2.0)))


def log_mgf(p, g, theta):
    return logsumexp(theta * g, b=p)


def tilted_mean(p, g, theta):
    w = np.exp(np.log(p) + theta * g - log_mgf(p, g, theta))
    return w @ g


def tilt(p, g, mean):
    """The theta >= 0 with A'(theta) = mean."""
    if mean == 0.0:
        return 0.0
    high = 1.0
    while tilted_mean(p, g, high) < mean:
        high *= 2
    return brentq(lambda theta: tilted_mean(p, g, theta) - mean, 0.0, high, xtol=1e-14, rtol=8.9e-16, maxiter=500)


def bet(p, g, tau, d):
    if tau + d >= REACH * g.max():
        return None
    theta0, theta1 = tilt(p, g, tau), tilt(p, g, tau + d)
    return {"theta0": theta0, "theta1": theta1, "lambda": theta1 - theta0, "psi": log_mgf(p, g, theta1) - log_mgf(p, g, theta0)}


def detector():
    for name, counts in baselines():
        p, table = score_table(counts)
        yield {"kind": "scores", "name": name, "counts": counts, "p": p, **table}
        for family, sign in (("location", 1), ("location", -1), ("scale", 1), ("scale", -1), ("top", 1), ("bottom", 1)):
            g = sign * table[family]
            pairs = ((0.0, 0.05), (0.1, 0.25), (0.154, 0.5), (0.35, 1.6))
            for tau, d in pairs[::2] if sign > 0 else pairs[1::2]:
                found = bet(p, g, tau, d)
                nothing = {"theta0": None, "theta1": None, "lambda": None, "psi": None}
                yield {"kind": "design", "name": f"{name}/{family}/{sign:+d}", "p": p, "g": g, "tau": tau, "d": d, **(found or nothing)}
        g, phi = table["location"], float(RNG.choice([1.0, 1.37, 6.5, 24.0]))
        found = bet(p, g, 0.154, 0.25)
        if found:
            window = RNG.multinomial(60, p)
            value = window @ (found["lambda"] * g - found["psi"]) / phi
            yield {"kind": "log_e", "name": name, "counts": window, "g": g, "lambda": found["lambda"], "psi": found["psi"], "phi": phi, "value": value}


def mixtures():
    """l_t = ln e_t + ln(1 + exp l_{t-1}) from -inf; log of the weighted sum after each window."""
    for i in range(8):
        bets, windows = int(RNG.integers(1, 27)), 25
        weights = RNG.dirichlet(np.ones(bets))
        log_e = RNG.normal(-0.5, (0.3, 1.5)[i % 2], (windows, bets))
        level, out = np.full(bets, -np.inf), []
        for row in log_e:
            level = row + np.logaddexp(0.0, level)
            out.append(logsumexp(level, b=weights))
        yield {"kind": "mixture", "name": f"random-{i}", "weights": weights, "log_e": log_e, "log_mixture": out}


def long_run_variance():
    for i in range(36):
        windows = int((2, 3, 5, 10, 16, 27, 40, 100, 150, 181, 1000, 2001)[i % 12])
        rho, n = (0.0, 0.5, -0.4)[i // 12], int((20, 60, 33)[i % 3])
        x = RNG.normal(0, 1 / np.sqrt(n), windows)
        for t in range(1, windows):
            x[t] += rho * x[t - 1]
        c = x - x.mean()
        lags = min(int(4 * (windows / 100) ** (2 / 9)), windows - 1)
        gamma = np.array([(c[lag:] @ c[: windows - lag]) / windows for lag in range(lags + 1)])
        bartlett = 1 - np.arange(lags + 1) / (lags + 1)
        phi = max(0.0, n * (2 * (bartlett @ gamma) - gamma[0]))
        quantile = chi2.ppf(0.05, windows - 1)
        one = (c[1:] @ c[:-1]) / (c @ c) if windows >= 3 else 0.0
        yield {"kind": "lrv", "name": f"{windows}x{n}/{rho}", "x": x, "n": n, "lag": lags, "phi": phi, "chi2_lower": quantile,
               "phi_upper": max(1.0, phi * (windows - 1) / quantile), "lag1": one}


def moments():
    for i in range(20):
        sizes = RNG.integers(0, 80, int(RNG.integers(2, 6)))
        centre = (0.0, 1e6, -3.5)[i % 3]
        parts = [(centre + RNG.normal(0, 1 + k, size)).astype(np.float32) for k, size in enumerate(sizes)]
        whole = np.concatenate(parts).astype(np.float64)
        if len(whole) == 0:
            continue
        mean = whole.mean()
        yield {"kind": "moments_merge", "name": f"random-{i}", "parts": [p.astype(float) for p in parts], "n": len(whole), "mean": mean,
               "m2": np.sum((whole - mean) ** 2), "sd": whole.std(), "min": whole.min(), "max": whole.max()}


def cells():
    """Cell k holds (edge[k-1], edge[k]], compared as float32."""
    for i in range(12):
        edges = np.unique(RNG.normal(0, 2, int(RNG.integers(1, 24))).astype(np.float32))
        around = [np.nextafter(edges, np.float32(-9)), edges, np.nextafter(edges, np.float32(9)), RNG.normal(0, 3, 10).astype(np.float32)]
        values = np.concatenate(around)
        yield {"kind": "cell", "name": f"random-{i}", "edges": edges.astype(float), "values": values.astype(float),
               "cells": np.searchsorted(edges, values, side="left")}


def quantiles():
    grid = [*np.arange(1, 100) / 100, 0.001, 0.999, 0.9999, 1e-4, 1e-6, 1e-8, 1e-10, 1e-15, 1e-30, 1e-100, 1e-300, 0.0249, 0.0251, 0.425, 0.5 - 1e-9]
    grid += [1 - 0.01 / (8 * features) for features in (1, 5, 20, 128, 130)]
    for p in grid:
        yield {"kind": "inv_norm", "p": p, "value": ndtri(p)}
    for dof in [*range(1, 41), 50, 64, 99, 100, 149, 199, 300, 500, 999, 1999, 5000]:
        yield {"kind": "chi2_lower", "dof": dof, "value": chi2.ppf(0.05, dof)}


def main():
    groups = (quantiles, distances, detector, mixtures, long_run_variance, moments, cells)
    cases = [json.dumps(plain(case), allow_nan=False) for group in groups for case in group()]
    sys.stdout.write("[\n" + ",\n".join(cases) + "\n]\n")


if __name__ == "__main__":
    main()
