"""Asks deepchecks itself whether tests/peers/deepchecks_restated.py, which stands for it wherever the numbers of `driftline compare` are checked,
says what it says.

usage: tests/peers/deepchecks_itself.py [SEEDS]    (tests/run deepchecks makes its environment and calls it)

Prints how many figures were compared and the largest relative difference. The exit code is 1 where one differs by more than 1e-10, or where one
of the two refuses and the other does not.
"""

import sys
import warnings

import deepchecks_restated as restated
import numpy as np
from deepchecks.utils.distribution import drift

warnings.filterwarnings("ignore")
np.seterr(all="ignore")
NEAR = 1e-10


def samples(rng):
    size = lambda: int(rng.integers(1, 300))
    yield rng.normal(size=size()), rng.normal(rng.normal(), rng.uniform(0.3, 3), size())
    yield rng.standard_cauchy(size()), rng.standard_t(2, size())
    yield np.round(rng.normal(size=size()), 1), np.round(rng.normal(size=size()), 1)
    yield rng.integers(0, 9, size()).astype(float), rng.integers(3, 15, size()).astype(float)
    yield np.full(size(), 3.0), np.full(size(), rng.choice([3.0, 4.0]))
    yield rng.normal(size=size()) * 1e300, rng.normal(size=size()) * 1e300
    yield rng.normal(size=size()) * 1e-310, rng.normal(size=size()) * 1e-310
    yield np.append(rng.normal(size=size()), rng.choice([np.inf, -np.inf])), rng.normal(size=size())
    yield rng.normal(size=size()), np.array([])


def labels(rng):
    for kinds in [1, 2, 5, 30]:
        words = np.array([f"k{i:02}" for i in range(kinds + 2)])
        share, other = rng.dirichlet(np.full(kinds, 0.5)), rng.dirichlet(np.full(kinds, 0.5))
        sizes = rng.integers(1, 1000, 2)
        shifted = int(rng.integers(0, 3))
        yield rng.choice(words[:kinds], sizes[0], p=share), rng.choice(words[shifted:][:kinds], sizes[1], p=other)


def figures(rng):
    """Every figure twice: as deepchecks and as the restated formula give it."""
    for a, b in samples(rng):
        yield "ks_d", lambda: drift.kolmogorov_smirnov(a, b), lambda: restated.ks(a, b)
        for margin in [0, 0.025, 0.1, 0.49, 0.5]:
            yield "emd_scaled", lambda: drift.earth_movers_distance(a, b, margin), lambda: restated.emd(a, b, margin)
        yield "psi", lambda: drift.psi(a, b, 0.01), lambda: restated.psi(*restated.counts(a, b))
    for a, b in labels(rng):
        for least in [0, 0.01, 0.2]:
            for most, sort_by in [(None, "dist1"), (1, "dist1"), (3, "dist1"), (3, "dist2"), (2, "difference")]:
                def counted():
                    return restated.counts(a, b, least, most, sort_by)
                for metric in ["psi", "cramers_v"]:
                    yield (metric, lambda: getattr(drift, metric)(a, b, min_category_size_ratio=least, max_num_categories=most, sort_by=sort_by),
                           lambda: getattr(restated, metric)(*counted()))
        x, y = (np.array([np.sum(v == k) for k in np.unique(np.append(a, b))]) for v in (a, b))
        yield "psi", lambda: drift.psi(x, y, from_freqs=True), lambda: restated.psi(x, y)
        yield "cramers_v", lambda: drift.cramers_v(x, y, from_freqs=True), lambda: restated.cramers_v(x, y, given=True)


def answer(call):
    """The figure, or None where it is refused."""
    try:
        found = call()
        return float(found["value"] if isinstance(found, dict) else found)
    except Exception:  # noqa: BLE001 - whatever is raised is an answer
        return None


def main():
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    compared, worst, differ = 0, 0.0, 0
    for seed in range(seeds):
        for metric, theirs, ours in figures(np.random.default_rng(seed)):
            theirs, ours = answer(theirs), answer(ours)
            compared += 1
            if theirs is None or ours is None:
                same = theirs is ours
            elif np.isfinite(theirs) and np.isfinite(ours):
                difference = abs(theirs - ours) / max(abs(theirs), 1e-12)
                worst, same = max(worst, difference), difference <= NEAR
            else:
                # Of almost nothing over nothing, the order of a Python set decides whether it is infinite or NaN.
                same = not np.isfinite(theirs) and not np.isfinite(ours)
            if not same:
                differ += 1
                if differ <= 20:
                    print(f"seed {seed}, {metric}: deepchecks says {theirs}, the restated formula {ours}", file=sys.stderr)
    print(f"{compared} figures of deepchecks, {differ} restated otherwise; largest relative difference of the others {worst:.1e}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
