"""What the detector says about real sensors: the gas batches replayed against a baseline of batch 1, and an oracle of what truly moved.

usage: study_gas.py --data DIR [--windows 1440] [--sizes 20,40,60] [--batch3] [--extra]

Why: batch files come in long runs of one gas (9 runs in batch 1), so how rows are replayed and how the baseline's phi is estimated decide
whether an incident means "the sensors moved" or "another gas came". Each combination is run on the held-out quarter of batch 1, where every
alarm is false, and on batch 2, where the features that alarm are compared with the oracle. Written from STATISTICS section 3 alone and not
from the Rust code, so that the two can be held against each other.

Replays: `file` keeps the order of the file, each agent from another row on; `shuffled` is a new random order at each pass; `mix` draws rows
at random so that each gas comes as often as in the training part (a diagnosis, it needs the labels). All loop.
Phi: `file` from contiguous windows of the training rows in file order; `one` assumes independent rows.

Leaves out: seasons, cohorts, device offsets (agents replay the same file), missing readings (there are none), the latch.
Looping a short file is harder than a healthy fleet: its own sampling error never averages out, so it is part of every window.
"""

import argparse
import csv
import json
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
from scipy.stats import chi2, norm, rankdata, spearmanr

QUANTILES = np.array([0.01, *np.arange(1, 20) / 20, 0.99])
TOLERANCE = 0.1
MOVED = 0.25  # within-gas sd from which the oracle calls a feature moved; far above its own noise (0.09)
WINDOWS_PER_MONTH = 43_200  # one-minute windows, 30 days
FAMILIES = ("location", "scale", "top", "bottom")
PLANS = {"location": (7, (1, -1), 0.6), "scale": (4, (1, -1), 0.2), "top": (2, (1,), 0.1), "bottom": (2, (1,), 0.1)}
REACH = 0.95  # a tilted mean this near to the largest score cannot be bet on


def read(path):
    """(feature names, values, gases, ppm) of a batch in file order."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    names = [n for n in rows[0] if n not in ("gas", "ppm")]
    values = np.array([[float(r[n]) for n in names] for r in rows], dtype=np.float32)
    return names, values, np.array([r["gas"] for r in rows]), np.array([float(r["ppm"]) for r in rows])


# --- baseline (3.2) ---------------------------------------------------------------------------------------------------------------


class Feature:
    """Cells, shares and standardised scores of one column of the training part."""

    def __init__(self, values):
        ordered = np.sort(values)
        at = np.clip(np.ceil(QUANTILES * len(ordered)).astype(int), 1, len(ordered)) - 1
        self.edges = np.unique(ordered[at])
        counts = np.bincount(self.cells(values), minlength=len(self.edges) + 1)
        self.p = (counts + 0.5) / (len(values) + len(counts) / 2)
        location = norm.ppf(np.cumsum(self.p) - self.p / 2)
        one = np.eye(len(self.p))
        raw = {"location": location, "scale": location**2, "top": one[-1], "bottom": one[0]}
        self.g = np.array([self.standardised(raw[f]) for f in FAMILIES])

    def cells(self, values):
        """Cell k holds (edge[k-1], edge[k]]."""
        return np.searchsorted(self.edges, values, side="left")

    def standardised(self, g):
        g = g - self.p @ g
        return g / np.sqrt(self.p @ g**2)


def lag1(a):
    a = a - a.mean()
    return (a[1:] @ a[:-1]) / max(a @ a, 1e-300)


def phi_upper(scores, n):
    """(upper bound of phi, lag-1 autocorrelation of window means) of a score series cut into windows of n rows."""
    windows = len(scores) // n
    a = scores[: windows * n].reshape(windows, n).mean(axis=1)
    c = a - a.mean()
    lags = min(int(4 * (windows / 100) ** (2 / 9)), windows - 1)
    gamma = [(c[l:] @ c[: windows - l]) / windows for l in range(lags + 1)]
    phi = n * (gamma[0] + 2 * sum((1 - l / (lags + 1)) * gamma[l] for l in range(1, lags + 1)))
    return max(1.0, phi * (windows - 1) / chi2.ppf(0.05, windows - 1)), lag1(a)


# --- bets (3.3) -------------------------------------------------------------------------------------------------------------------


def log_mgf(p, g, theta):
    return np.logaddexp.reduce(np.log(p) + theta * g)


def tilt(p, g, mean):
    """The theta with A'(theta) = mean, by bisection."""

    def tilted(theta):
        w = p * np.exp(theta * g - np.max(theta * g))
        return w @ g / w.sum()

    low, high = 0.0, 1.0
    while tilted(high) < mean:
        high *= 2
        if high > 1e6:
            return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tilted(middle) < mean else (low, middle)
    return (low + high) / 2


class Design:
    """Every feature's bets as arrays [F, C], padded with bets of weight 0."""

    def __init__(self, features, phis, rows, n, watched):
        z = norm.ppf(1 - 0.01 / (2 * 4 * watched))
        bets, self.tau = [], np.zeros((len(features), len(FAMILIES)))
        for i, (feature, phi) in enumerate(zip(features, phis)):
            own = []
            for f, family in enumerate(FAMILIES):
                shifts, signs, stake = PLANS[family]
                tau = self.tau[i, f] = z * np.sqrt(phi[f] / rows) + TOLERANCE
                smallest = min(np.sqrt(2 * 11.5 * phi[f] / (n * 200)), 0.8)
                for shift in np.geomspace(smallest, 1.6, shifts):
                    for sign in signs:
                        g = sign * feature.g[f]
                        if tau + shift >= REACH * g.max():
                            continue
                        low, high = tilt(feature.p, g, tau), tilt(feature.p, g, tau + shift)
                        psi = log_mgf(feature.p, g, high) - log_mgf(feature.p, g, low)
                        own.append((f, sign * (high - low) / phi[f], psi / phi[f], stake / (shifts * len(signs))))
            bets.append(own)
        most = max(map(len, bets))
        padded = np.array([own + [(0, 0.0, 0.0, 0.0)] * (most - len(own)) for own in bets])
        self.family, self.slope, self.price, self.weight = padded[..., 0].astype(int), padded[..., 1], padded[..., 2], padded[..., 3]
        self.blind = sum(1 for own in bets if not any(f == 0 for f, *_ in own))


def smallest_shift(design, phis, n, log_c, windows):
    """Location shift (median feature) that the planning formula expects to be seen within so many windows, in sd of the score."""
    phi = phis[:, 0]
    return float(np.median(design.tau[:, 0] + np.sqrt(2 * phi * (log_c + np.log(20)) / (n * windows))))


# --- replay and detection -----------------------------------------------------------------------------------------------------------


def order(kind, rng, gases, mix, rows):
    """Row indices of one agent's endless replay, cut to `rows`."""
    size = len(gases)
    if kind == "file":
        return (rng.integers(size) + np.arange(rows)) % size
    if kind == "shuffled":
        return np.concatenate([rng.permutation(size) for _ in range(-(-rows // size))])[:rows]
    present = [gas for gas in mix if (gases == gas).any()]  # batch 3 has no toluene
    weights = np.array([mix[gas] for gas in present])
    drawn = rng.choice(present, size=rows, p=weights / weights.sum())
    found = np.empty(rows, dtype=int)
    for gas in present:
        at = drawn == gas
        found[at] = rng.choice(np.flatnonzero(gases == gas), size=at.sum())
    return found


def replay(design, scores, kind, gases, mix, *, agents, n, windows, log_c, seed):
    """First alarm per agent and feature (window number from 1; 0: never), number of alarms, family and sign of each first alarm."""
    rngs = [np.random.default_rng([seed, agent]) for agent in range(agents)]
    orders = np.stack([order(kind, rng, gases, mix, n * windows).reshape(windows, n) for rng in rngs])
    count = scores.shape[1]
    grown = np.zeros((agents, *design.weight.shape))
    first = np.zeros((agents, count), dtype=int)
    named = np.zeros((agents, count), dtype=int)
    alarms, worst, total_e = 0, -np.inf, 0.0
    at = np.arange(count)[:, None]
    for window in range(windows):
        sums = scores[orders[:, window]].sum(axis=1)  # [A, F, 4]
        log_e = sums[:, at, design.family] * design.slope - n * design.price
        total_e += (np.exp(np.minimum(log_e, 50)) * design.weight).sum(axis=2).mean()
        grown = np.exp(np.minimum(log_e, 300)) * (grown + 1)
        evidence = np.log(np.maximum((grown * design.weight).sum(axis=2), 1e-300))
        worst = max(worst, evidence.max())
        alarm = evidence >= log_c
        alarms += alarm.sum()
        new = alarm & (first == 0)
        if new.any():
            best = (grown * design.weight).argmax(axis=2)
            named[new] = (np.take_along_axis(np.broadcast_to(design.family, grown.shape), best[..., None], 2)[..., 0])[new]
            first[new] = window + 1
        grown[alarm] = 0
    return {"first": first, "alarms": int(alarms), "named": named, "worst": float(worst), "mean_e": float(total_e / windows)}


# --- oracle -------------------------------------------------------------------------------------------------------------------------


def oracle(xa, ga, pa, xb, gb, pb):
    """Shift of each feature from a to b at the same gas and concentration, in within-gas robust sd of a: [gas, feature] and the gases.

    A gas counts when both sides have at least three common concentrations with two rows each; its shift is the median over them of the
    difference of medians. The sd is 1.4826 times the median absolute deviation within the gas, over all its concentrations.
    """
    shifts, used = [], []
    for gas in sorted(set(ga) & set(gb)):
        common = [c for c in np.unique(pa[ga == gas]) if (pb[gb == gas] == c).sum() >= 2 and (pa[ga == gas] == c).sum() >= 2]
        if len(common) < 3:
            continue
        own = xa[ga == gas].astype(float)
        sd = 1.4826 * np.median(abs(own - np.median(own, axis=0)), axis=0)
        at = lambda x, g, p, c: np.median(x[(g == gas) & (p == c)].astype(float), axis=0)
        moved = [at(xb, gb, pb, c) - at(xa, ga, pa, c) for c in common]
        shifts.append(np.median(moved, axis=0) / np.maximum(sd, 1e-12))
        used.append(gas)
    return np.array(shifts), used


def oracle_noise(x, gases, ppm, repeats, seed):
    """99 % of the shift sizes that the oracle finds in batch 1 against itself, halves drawn within gas and concentration, are below this."""
    rng, sizes = np.random.default_rng(seed), []
    for _ in range(repeats):
        half = np.zeros(len(gases), dtype=bool)
        for gas in np.unique(gases):
            for c in np.unique(ppm[gases == gas]):
                rows = rng.permutation(np.flatnonzero((gases == gas) & (ppm == c)))
                half[rows[: len(rows) // 2]] = True
        sizes.append(size_of(oracle(x[half], gases[half], ppm[half], x[~half], gases[~half], ppm[~half])[0]))
    return float(np.quantile(sizes, 0.99))


def size_of(shifts):
    """One figure per feature: the median over gases of the absolute shift."""
    return np.median(abs(shifts), axis=0)


def first_features(names, first, effect, count):
    """Names in the order in which they alarm (median over agents, never counts as last), the larger effect first among equals."""
    middle = np.median(np.where(first == 0, 10**9, first), axis=0)
    return [names[i] for i in np.lexsort((-abs(effect), middle)) if middle[i] < 10**9][:count]


def one_run(names, base, now, gases, kind, n, independent, args, log_c, seed):
    """One line of figures: baseline rows `base` (in order) against a replay of `now`."""
    count = base.shape[1]
    features = [Feature(base[:, i]) for i in range(count)]
    tables = lambda x: np.stack([f.g[:, f.cells(x[:, i])].T for i, f in enumerate(features)], axis=1)
    ours, short = tables(base), min(n, len(base) // 10)
    phis = np.ones((count, 4))
    if not independent:
        phis = np.array([[phi_upper(ours[:, i, f], short)[0] for f in range(4)] for i in range(count)])
    design = Design(features, phis, len(base), n, count)
    found = replay(design, tables(now), kind, gases, {}, agents=args.agents, n=n, windows=args.windows, log_c=log_c, seed=seed)
    hit = found["first"] > 0
    first = [int(row[row > 0].min()) if (row > 0).any() else None for row in found["first"]]
    mean = tables(now)[..., 0].mean(axis=0)
    which = [f"{names[i]} {FAMILIES[found['named'][hit[:, i].argmax(), i]]}" for i in np.flatnonzero(hit.any(axis=0))]
    return (f"{found['alarms']:6} alarms, {hit.sum():3} of {hit.size} streams, {hit.any(axis=0).sum():3} features, first {first}, ln M max {found['worst']:.1f}, "
            f"mean e {found['mean_e']:.2f}; |mean location| median {np.median(abs(mean)):.2f} max {abs(mean).max():.2f}"
            + (f"; {', '.join(which)}" if 0 < len(which) <= 6 else ""))


def extra(names, x1, g1, x2, g2, args, log_c):
    """What the choice of held-out rows, of v2's baseline and of the rows' order does."""
    runs = lambda labels: int(1 + (labels[1:] != labels[:-1]).sum())
    rng = np.random.default_rng(args.seed)
    for name, x, gases in (("batch 1", x1, g1), ("batch 2", x2, g2)):
        rank = norm.ppf((np.argsort(np.argsort(x, axis=0), axis=0) + 0.5) / len(x))
        rows = np.array([lag1(rank[:, i]) for i in range(x.shape[1])])
        mixed = rank[rng.permutation(len(x))]
        shuffled = np.array([lag1(mixed[:, i]) for i in range(x.shape[1])])
        print(f"\n{name}: {runs(gases)} runs of one gas, {runs(rng.permutation(gases))} when shuffled; lag-1 correlation of rows (normal scores) "
              f"median {np.median(rows):.2f}, min {rows.min():.2f}; shuffled max |{abs(shuffled).max():.2f}|")
    print("\nother folds of batch 1, shuffled replay, independent rows: every alarm is false")
    for n in (20, 60):
        for fold in range(4):
            held = np.arange(len(x1)) % 4 == fold
            print(f"  n={n} held out index % 4 == {fold}: " + one_run(names, x1[~held], x1[held], g1[held], "shuffled", n, True, args, log_c, 11 + fold))
    held1, held2 = np.arange(len(x1)) % 4 == 3, np.arange(len(x2)) % 2 == 1
    both = np.vstack([x1[~held1], x2[~held2]])
    print("\nself-test, training rows of batch 1 replayed against their own baseline: mean e should be at most 1, every alarm is false")
    train = np.arange(len(x1)) % 4 != 3
    for n in (20, 60):
        for kind, independent in (("file", True), ("file", False), ("shuffled", True)):
            line = one_run(names, x1[train], x1[train], g1[train], kind, n, independent, args, log_c, 5)
            print(f"  n={n} replay {kind}, phi {'one' if independent else 'file'}: {line}", flush=True)
    print("\nafter v2 is rolled out, replay of batch 2's test rows")
    for base, rows in (("batches 1+2 training", both), ("batch 2 training only", x2[~held2])):
        for kind, independent in (("shuffled", True), ("shuffled", False), ("file", False), ("file", True)):
            line = one_run(names, rows, x2[held2], g2[held2], kind, 60, independent, args, log_c, 3)
            print(f"  baseline {base}, replay {kind}, phi {'one' if independent else 'file'}, n=60: {line}", flush=True)


def show_oracle(names, shifts, used, noise):
    size, ranking = size_of(shifts), np.argsort(-size_of(shifts))
    sensors = np.median(size.reshape(16, 8), axis=1)
    print(f"oracle, batch 1 to 2: gases {', '.join(map(str, used))}; 99 % of its own noise below {noise:.2f} sd")
    print("  most: " + ", ".join(f"{names[i]} {np.median(shifts[:, i]):+.2f}({size[i]:.2f})" for i in ranking[:16]))
    print("  least: " + ", ".join(f"{names[i]} {size[i]:.2f}" for i in ranking[-8:]))
    print("  sensors by median |shift|: " + ", ".join(f"s{s + 1:02d} {sensors[s]:.2f}" for s in np.argsort(-sensors)))


def show_agreement(shifts, moved, scores, gases, mix):
    """How far the shift that a detector can see, the mean score over whatever gases come, agrees with the oracle."""
    size, direction = size_of(shifts), np.sign(np.median(shifts, axis=0))
    share = np.array([mix.get(g, 0) / (gases == g).mean() for g in gases])
    marginal, matched = scores.mean(axis=0), (scores * share[:, None]).sum(axis=0) / share.sum()
    for label, value in (("as it comes", marginal), ("at batch 1's gas mix", matched)):
        both = set(np.argsort(-abs(value))[:16]) & set(np.argsort(-size)[:32])
        print(f"  mean location score {label}: |median| {np.median(abs(value)):.2f}, max {abs(value).max():.2f}; Spearman with the oracle "
              f"{spearmanr(abs(value), size)[0]:+.2f}, sign agrees on {np.mean(np.sign(value) == direction, where=moved):.2f} of moved, "
              f"top 16 in oracle's top 32: {len(both)}")


def show_run(names, found, effect, kind, part, size, noise):
    """Prints one replay and returns its figures; `size` is the oracle's, None where nothing has moved."""
    first, hit = found["first"], found["first"] > 0
    soonest = [int(row[row > 0].min()) if (row > 0).any() else None for row in first]
    line = {"replay": kind, "part": part, "alarms": found["alarms"], "streams": int(hit.sum()), "features": int(hit.any(axis=0).sum()),
            "first": soonest, "worst_log": round(found["worst"], 1), "mean_e": round(found["mean_e"], 3)}
    print(f"  {kind:8} {part:8}: {line['alarms']:6} alarms, {line['streams']:3} of {first.size} streams, first {soonest}, "
          f"ln M max {found['worst']:.1f}, mean e {found['mean_e']:.2f}")
    lead = first_features(names, first, effect, 16)
    if size is None or not lead:
        return line
    moved, place = size > max(noise, MOVED), rankdata(-size)
    index = [names.index(name) for name in lead]
    line |= {
        "lead": lead,
        "lead_moved": float(moved[index].mean()),
        "lead_top32": float((place[index] <= 32).mean()),
        "by_window": {w: int((hit & (first <= w)).any(axis=0).sum()) for w in (1, 10, 60)},
        "families": {FAMILIES[f]: int((found["named"][hit] == f).sum()) for f in range(4)},
        "moved_hit": float(hit.any(axis=0)[moved].mean()),
        "unmoved_hit": float(hit.any(axis=0)[~moved].mean()) if (~moved).any() else None,
    }
    by, unmoved = line["by_window"], line["unmoved_hit"]
    print(f"           features by window 1/10/60/end {by[1]}/{by[10]}/{by[60]}/{line['features']}; of the first {len(lead)} {line['lead_moved']:.2f} "
          f"moved (chance {moved.mean():.2f}), {line['lead_top32']:.2f} in oracle's top 32 (chance .25), mean oracle rank {place[index].mean():.0f}; "
          f"alarmed of moved {line['moved_hit']:.2f}, of unmoved {'-' if unmoved is None else f'{unmoved:.2f}'}; {line['families']}\n"
          f"           first: {', '.join(lead[:8])}", flush=True)
    return line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--windows", type=int, default=480)
    parser.add_argument("--sizes", default="20,40,60")
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="file,shuffled,mix")
    parser.add_argument("--phis", default="file,one")
    parser.add_argument("--batch3", action="store_true", help="also replay batch 3")
    parser.add_argument("--extra", action="store_true", help="also other held-out folds, the self-test and v2's baselines")
    parser.add_argument("--json", help="also write every figure here")
    args = parser.parse_args()

    names, x1, g1, p1 = read(os.path.join(args.data, "batch01.csv"))
    held = np.arange(len(x1)) % 4 == 3
    train, count = x1[~held], len(names)
    features = [Feature(train[:, i]) for i in range(count)]
    tables = lambda x: np.stack([f.g[:, f.cells(x[:, i])].T for i, f in enumerate(features)], axis=1)  # [rows, F, 4]
    mix = {gas: float((g1[~held] == gas).mean()) for gas in np.unique(g1)}
    log_c = float(np.log(args.agents * count * WINDOWS_PER_MONTH))
    noise = oracle_noise(x1, g1, p1, 40, args.seed)

    parts = {"held-out": (tables(x1[held]), g1[held], None)}
    for number in (2, 3) if args.batch3 else (2,):
        _, x, gases, ppm = read(os.path.join(args.data, f"batch{number:02}.csv"))
        shifts, used = oracle(x1, g1, p1, x, gases, ppm)
        moved = size_of(shifts) > max(noise, MOVED)
        parts[f"batch {number}"] = (tables(x), gases, size_of(shifts))
        print(f"batch {number}: {moved.sum()} of {count} features moved")
        if number == 2:
            x2, g2 = x, gases
            show_oracle(names, shifts, used, noise)
            show_agreement(shifts, moved, tables(x)[..., 0], gases, mix)

    report, ours = [], tables(train)
    for n in (int(v) for v in args.sizes.split(",")):
        for how in args.phis.split(","):
            both = np.array([[phi_upper(ours[:, i, f], min(n, len(train) // 10)) for f in range(4)] for i in range(count)])
            phis = both[..., 0] if how == "file" else np.ones((count, 4))
            design = Design(features, phis, len(train), n, count)
            print(f"\nn={n} phi={how}: phi+ location median {np.median(phis[:, 0]):.1f}, tau median {np.median(design.tau[:, 0]):.2f}; lag-1 of window "
                  f"means > .3 on {(both[:, 0, 1] > 0.3).sum()}; no location bet left on {design.blind}; shift seen within an hour "
                  f"{smallest_shift(design, phis, n, log_c, 60):.2f} sd, a day {smallest_shift(design, phis, n, log_c, 1440):.2f} sd")
            for kind in args.kinds.split(","):
                for part, (table, gases, size) in parts.items():
                    found = replay(design, table, kind, gases, mix, agents=args.agents, n=n, windows=args.windows, log_c=log_c, seed=args.seed)
                    report.append({"n": n, "phi": how} | show_run(names, found, table[..., 0].mean(axis=0), kind, part, size, noise))
    if args.extra:
        extra(names, x1, g1, x2, g2, args, log_c)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
