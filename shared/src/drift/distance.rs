//! Distances between two histograms on the same cells, as people know them from other tools. Shown, never alarmed on.
//!
//! A number without its convention means nothing: the same two samples have a PSI of 0.21 in one tool and 0.25 in another. So
//! every figure is asked of a [`Convention`], which says formula, logarithm, what an empty cell counts as, and whose cells they
//! are. Sums are pairwise and relative entropies are those of scipy, so that values equal the other tools' to rounding. What
//! starts from raw values is the collector's business (`driftline compare`).

use libm::{exp2, fabs, log, log1p, sqrt};

/// The factor of the robust L-infinity distance: c(α) for α = 0.003 (Knuth, volume 2, 3.3.1, equation 15), as Deequ has it.
pub const ROBUST_FACTOR: f64 = 1.8;
/// Evidently's share of an empty cell, and the share at or below which it takes [`EVIDENTLY_DIVISOR`] instead.
pub const EVIDENTLY_FLOOR: f64 = 1e-4;
/// Where some share is at most [`EVIDENTLY_FLOOR`], Evidently's empty cell has the smallest share divided by this.
pub const EVIDENTLY_DIVISOR: f64 = 1e6;
/// Fewest terms that a pairwise sum splits, and how many sums run side by side below that; both as in numpy.
const PAIRWISE_BLOCK: usize = 128;
const LANES: usize = 8;

/// What is worked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Population stability index Σ (p−q) ln(p/q).
    Psi,
    /// Jensen-Shannon distance, the square root of the divergence.
    Js,
    /// Kullback-Leibler divergence Σ p ln(p/q), both sides renormalised after the zero policy.
    Kl,
    /// Hellinger distance ‖√p − √q‖/√2.
    Hellinger,
    /// Pearson's statistic of current against the baseline's counts scaled to the current total.
    ChiSquare,
    /// The likelihood-ratio statistic 2 Σ o ln(o/e) with the same expected counts.
    G,
    /// Largest difference of shares.
    LInfinity,
    /// Largest difference of shares less what chance explains: 1.8 √((n+m)/(nm)), never below 0.
    LInfinityRobust,
    /// Kolmogorov-Smirnov D between the cell-wise distribution functions: a lower bound of D on the raw values.
    KsD,
    /// Total variation, half the sum of the differences of shares.
    TotalVariation,
}

/// The logarithm's base.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Base {
    /// Natural logarithm.
    E,
    /// Base 2: a Jensen-Shannon distance between 0 and 1.
    Two,
    /// Another base.
    Other(f64),
}

impl Base {
    fn ln(self) -> Option<f64> {
        match self {
            Self::E => None,
            Self::Two => Some(log(2.0)),
            Self::Other(base) => Some(log(base)),
        }
    }
}

/// What an empty cell counts as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ZeroPolicy {
    /// Nothing is done: logarithms of 0 give infinity.
    Keep,
    /// 1e-4, or a millionth of the side's smallest share where that is at most 1e-4; not renormalised (Evidently).
    Evidently,
    /// No share counts as less than this; not renormalised (deepchecks: 0.01).
    Floor(f64),
    /// The smallest normal double, 2.2e-308 (frouros).
    MinPositive,
    /// This much is added to every share (scouter: 1e-10).
    AddEps(f64),
    /// Shares (c+1/2)/(N+K/2): half a sample in every cell (ours). Needs counts.
    Jeffreys,
}

/// Whose cells the counts are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edges {
    /// The cells of a baseline, cut at quantiles of the training data.
    Baseline,
    /// Equal-width cells on both samples together, their number after Sturges (Evidently).
    SturgesJoint,
    /// Equal-width cells on the reference alone, their number after Doane, and one cell for what lies outside (NannyML).
    DoaneReference,
    /// Cells at the reference's deciles (scouter).
    Deciles,
    /// One cell per value.
    Categories,
    /// Whatever the caller counted on.
    Given,
}

/// Everything that makes two figures comparable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Convention {
    /// What is worked out.
    pub metric: Metric,
    /// In which logarithm.
    pub base: Base,
    /// What an empty cell counts as.
    pub zero: ZeroPolicy,
    /// On whose cells.
    pub edges: Edges,
}

impl Convention {
    /// Driftline's own PSI.
    pub const PSI: Self = Self::own(Metric::Psi, ZeroPolicy::Jeffreys);
    /// Driftline's own Jensen-Shannon distance.
    pub const JS: Self = Self { base: Base::Two, ..Self::own(Metric::Js, ZeroPolicy::Keep) };
    /// Driftline's own Kolmogorov-Smirnov D.
    pub const KS: Self = Self::own(Metric::KsD, ZeroPolicy::Keep);

    const fn own(metric: Metric, zero: ZeroPolicy) -> Self {
        Self { metric, base: Base::E, zero, edges: Edges::Baseline }
    }

    /// The figure for two sides with the same cells; of unequal ones the longer is cut. NaN where a side is empty, infinity where
    /// the formula has it.
    pub fn of<C: Count>(&self, reference: &[C], current: &[C]) -> f64 {
        let cells = reference.len().min(current.len());
        let total = |counts: &[C]| pairwise(cells, &|i| counts[i].number());
        let (n, m) = (total(reference), total(current));
        if n == 0.0 || m == 0.0 {
            return f64::NAN;
        }
        let side = |counts, total| Side::new(counts, self.zero, total);
        self.between(&side(&reference[..cells], n), &side(&current[..cells], m))
    }

    /// The same from shares, which are taken as they are. No figure that depends on how many samples there were.
    pub fn of_shares(&self, p: &[f64], q: &[f64]) -> f64 {
        let cells = p.len().min(q.len());
        if cells == 0 {
            return f64::NAN;
        }
        self.between(&Side::new(&p[..cells], self.zero, 1.0), &Side::new(&q[..cells], self.zero, 1.0))
    }

    fn between<C: Count>(&self, reference: &Side<'_, C>, current: &Side<'_, C>) -> f64 {
        let cells = reference.counts.len();
        let (p, q) = (|i| reference.share(i), |i| current.share(i));
        let value = match self.metric {
            Metric::Psi => pairwise(cells, &|i| (p(i) - q(i)) * log(p(i) / q(i))),
            Metric::Js => {
                let divergence = js(reference, current, self.base);
                // Rounding may leave a sum just below nothing; other tools answer NaN then.
                let divergence = if self.edges == Edges::Baseline && divergence < 0.0 { 0.0 } else { divergence };
                return sqrt(divergence);
            }
            Metric::Kl => {
                let (of_p, of_q) = (pairwise(cells, &p), pairwise(cells, &q));
                pairwise(cells, &|i| relative_entropy(p(i) / of_p, q(i) / of_q))
            }
            Metric::Hellinger => {
                return sqrt(pairwise(cells, &|i| square(sqrt(p(i)) - sqrt(q(i))))) / sqrt(2.0);
            }
            Metric::ChiSquare => {
                return pairwise(cells, &|i| chi_square(current.count(i), expected(reference, current, i)));
            }
            Metric::G => pairwise(cells, &|i| 2.0 * g(current.count(i), expected(reference, current, i))),
            Metric::LInfinity => return l_infinity(reference, current),
            Metric::LInfinityRobust => {
                let (n, m) = (reference.total, current.total);
                let beyond_chance = l_infinity(reference, current) - ROBUST_FACTOR * sqrt((n + m) / (n * m));
                return if beyond_chance < 0.0 { 0.0 } else { beyond_chance };
            }
            Metric::KsD => return ks_d(reference, current),
            Metric::TotalVariation => return 0.5 * pairwise(cells, &|i| fabs(p(i) - q(i))),
        };
        self.base.ln().map_or(value, |ln| value / ln)
    }
}

/// What a cell can hold: counts, or shares.
pub trait Count: Copy {
    /// As a number.
    fn number(self) -> f64;
}

impl Count for u32 {
    fn number(self) -> f64 {
        f64::from(self)
    }
}

impl Count for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Count for f64 {
    fn number(self) -> f64 {
        self
    }
}

/// One side's counts with what its zero policy needs to know.
struct Side<'a, C> {
    counts: &'a [C],
    total: f64,
    zero: ZeroPolicy,
    /// Share of an empty cell.
    empty: f64,
}

impl<'a, C: Count> Side<'a, C> {
    fn new(counts: &'a [C], zero: ZeroPolicy, total: f64) -> Self {
        let empty = match zero {
            ZeroPolicy::Evidently => {
                let occupied = counts.iter().map(|c| c.number() / total).filter(|&p| p != 0.0);
                let smallest = occupied.fold(f64::INFINITY, f64::min);
                if smallest <= EVIDENTLY_FLOOR { smallest / EVIDENTLY_DIVISOR } else { EVIDENTLY_FLOOR }
            }
            ZeroPolicy::MinPositive => f64::MIN_POSITIVE,
            _ => 0.0,
        };
        Self { counts, total, zero, empty }
    }

    fn count(&self, i: usize) -> f64 {
        self.counts[i].number()
    }

    fn share(&self, i: usize) -> f64 {
        let share = self.count(i) / self.total;
        match self.zero {
            ZeroPolicy::Keep => share,
            ZeroPolicy::Evidently | ZeroPolicy::MinPositive => {
                if share == 0.0 {
                    self.empty
                } else {
                    share
                }
            }
            ZeroPolicy::Floor(floor) => {
                if share < floor {
                    floor
                } else {
                    share
                }
            }
            ZeroPolicy::AddEps(eps) => share + eps,
            ZeroPolicy::Jeffreys => (self.count(i) + 0.5) / (self.total + self.counts.len() as f64 / 2.0),
        }
    }
}

/// The Jensen-Shannon divergence as scipy has it: shares renormalised, each side's sum apart, both divided by the logarithm.
fn js<C: Count>(reference: &Side<'_, C>, current: &Side<'_, C>, base: Base) -> f64 {
    let cells = reference.counts.len();
    let (of_p, of_q) = (pairwise(cells, &|i| reference.share(i)), pairwise(cells, &|i| current.share(i)));
    let p = |i| reference.share(i) / of_p;
    let q = |i| current.share(i) / of_q;
    let middle = |i| (p(i) + q(i)) / 2.0;
    let sum = pairwise(cells, &|i| relative_entropy(p(i), middle(i)))
        + pairwise(cells, &|i| relative_entropy(q(i), middle(i)));
    base.ln().map_or(sum, |ln| sum / ln) / 2.0
}

fn l_infinity<C: Count>(reference: &Side<'_, C>, current: &Side<'_, C>) -> f64 {
    worst((0..reference.counts.len()).map(|i| fabs(reference.share(i) - current.share(i))))
}

/// Between what and what the Kolmogorov-Smirnov D of the values lies, given their counts on the same cells: at the edges both
/// distributions are known, and inside a cell each may have all of its values before the first of the other.
pub fn ks_bounds(reference: &[u32], current: &[u32]) -> (f64, f64) {
    let total = |counts: &[u32]| counts.iter().map(|&c| f64::from(c)).sum::<f64>();
    let (n, m) = (total(reference), total(current));
    if n <= 0.0 || m <= 0.0 {
        return (0.0, 1.0);
    }
    let (mut f, mut g, mut low, mut high) = (0.0, 0.0, 0.0f64, 0.0f64);
    for (&p, &q) in reference.iter().zip(current) {
        let (before_f, before_g) = (f, g);
        f += f64::from(p) / n;
        g += f64::from(q) / m;
        low = low.max(libm::fabs(f - g));
        high = high.max(f - before_g).max(g - before_f);
    }
    (low, high.min(1.0))
}

fn ks_d<C: Count>(reference: &Side<'_, C>, current: &Side<'_, C>) -> f64 {
    let (mut below, mut below_now) = (0.0, 0.0);
    worst((0..reference.counts.len()).map(|i| {
        below += reference.count(i);
        below_now += current.count(i);
        fabs(below / reference.total - below_now / current.total)
    }))
}

/// The largest; NaN if any is.
fn worst(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |worst, v| if v.is_nan() || v > worst { v } else { worst })
}

fn expected<C: Count>(reference: &Side<'_, C>, current: &Side<'_, C>, i: usize) -> f64 {
    reference.count(i) * (current.total / reference.total)
}

fn square(x: f64) -> f64 {
    x * x
}

fn chi_square(observed: f64, expected: f64) -> f64 {
    // No sample of either side: such a cell says nothing.
    if observed == 0.0 && expected == 0.0 { 0.0 } else { square(observed - expected) / expected }
}

fn g(observed: f64, expected: f64) -> f64 {
    if observed == 0.0 { 0.0 } else { observed * log(observed / expected) }
}

/// p ln(p/q); 0 where p is, infinity where only q is (scipy's `rel_entr`, exact also where p and q are close).
pub fn relative_entropy(p: f64, q: f64) -> f64 {
    if p.is_nan() || q.is_nan() {
        f64::NAN
    } else if p <= 0.0 || q <= 0.0 {
        if p == 0.0 && q >= 0.0 { 0.0 } else { f64::INFINITY }
    } else {
        let ratio = p / q;
        if 0.5 < ratio && ratio < 2.0 {
            p * log1p((p - q) / q)
        } else if ratio > exp2(-1022.0) && ratio < f64::INFINITY {
            p * log(ratio)
        } else {
            p * (log(p) - log(q))
        }
    }
}

/// Σ f(i) over 0..n with numpy's pairwise order: error grows with ln n, and equal to the last bit where the terms are.
pub fn pairwise(n: usize, term: &impl Fn(usize) -> f64) -> f64 {
    block(0, n, term)
}

fn block(from: usize, n: usize, term: &impl Fn(usize) -> f64) -> f64 {
    if n < LANES {
        // numpy starts at −0.0, which only shows where all terms are.
        return (from..from + n).fold(-0.0, |sum, i| sum + term(i));
    }
    if n > PAIRWISE_BLOCK {
        let half = n / 2;
        let half = half - half % LANES;
        return block(from, half, term) + block(from + half, n - half, term);
    }
    let mut lanes = [0.0; LANES];
    for (lane, sum) in lanes.iter_mut().enumerate() {
        *sum = term(from + lane);
    }
    let whole = n - n % LANES;
    for at in (LANES..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(from + at + lane);
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
    (from + whole..from + n).fold(sum, |sum, i| sum + term(i))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        // p = (1/2, 1/2), q = (1/4, 3/4).
        let (p, q) = ([2_u32, 2], [1_u32, 3]);
        let of = |metric| Convention { metric, base: Base::E, zero: ZeroPolicy::Keep, edges: Edges::Given }.of(&p, &q);
        assert!((Convention::KS.of(&p, &q) - 0.25).abs() < 1e-15);
        assert!((of(Metric::LInfinity) - 0.25).abs() < 1e-15);
        assert!((of(Metric::TotalVariation) - 0.25).abs() < 1e-15);
        // Expected (2, 2): 1/2 + 1/2; 2 (ln(1/2) + 3 ln(3/2)).
        assert!((of(Metric::ChiSquare) - 1.0).abs() < 1e-15);
        assert!((of(Metric::G) - 2.0 * (log(0.5) + 3.0 * log(1.5))).abs() < 1e-15);
        // 1 − (√(1/8) + √(3/8)) under the root.
        assert!((square(of(Metric::Hellinger)) - (1.0 - sqrt(0.125) - sqrt(0.375))).abs() < 1e-15);
        assert!((of(Metric::Kl) - 0.5 * (log(2.0) + log(2.0 / 3.0))).abs() < 1e-15);
        // Four readings a side: 1.8 √(8/16) is far more than 1/4.
        assert_eq!(of(Metric::LInfinityRobust), 0.0);
        // Jeffreys: (2.5/5, 2.5/5) and (1.5/5, 3.5/5): .2 ln(.5/.3) + .2 ln(.7/.5).
        let psi = 0.2 * log(0.5 / 0.3) + 0.2 * log(0.7 / 0.5);
        assert!((Convention::PSI.of(&p, &q) - psi).abs() < 1e-15);
        assert_eq!(Convention::JS.of(&[1_u32, 0], &[0, 1]), 1.0);
        assert_eq!(Convention::JS.of(&p, &p), 0.0);
    }

    proptest! {
        #[test]
        fn the_distance_of_the_values_lies_within_the_bounds_of_their_counts(
            a in prop::collection::vec(0u8..40, 1..60),
            b in prop::collection::vec(0u8..40, 1..60),
            mut edges in prop::collection::vec(0u8..40, 0..8),
        ) {
            edges.sort_unstable();
            let counts = |values: &[u8]| {
                let mut counts = [0u32; 9];
                values.iter().for_each(|v| counts[edges.partition_point(|edge| edge < v)] += 1);
                counts
            };
            let upto = |values: &[u8], x: u8| values.iter().filter(|v| **v <= x).count() as f64 / values.len() as f64;
            let d = (0..40).map(|x| libm::fabs(upto(&a, x) - upto(&b, x))).fold(0.0, f64::max);
            let (low, high) = ks_bounds(&counts(&a), &counts(&b));
            prop_assert!(low <= d + 1e-12 && d <= high + 1e-12, "{} {} {}", low, d, high);
            prop_assert!((low - Convention::KS.of(&counts(&a), &counts(&b))).abs() < 1e-12);
        }
    }

    #[test]
    fn an_empty_cell_counts_as_its_policy_says() {
        let psi = |zero, p: &[u32], q: &[u32]| Convention { zero, ..Convention::PSI }.of(p, q);
        let term = |p: f64, q: f64| (p - q) * log(p / q);
        // (1/2, 1/2, 0) and (1/2, 1/4, 1/4).
        let (p, q) = ([2, 2, 0], [2, 1, 1]);
        let rest = term(0.5, 0.25);
        assert_eq!(psi(ZeroPolicy::Keep, &p, &q), f64::INFINITY);
        assert!((psi(ZeroPolicy::Evidently, &p, &q) - rest - term(1e-4, 0.25)).abs() < 1e-15);
        assert!((psi(ZeroPolicy::Floor(0.01), &p, &q) - rest - term(0.01, 0.25)).abs() < 1e-15);
        assert!((psi(ZeroPolicy::MinPositive, &p, &q) - rest - term(f64::MIN_POSITIVE, 0.25)).abs() < 1e-12);
        let added = term(0.5 + 1e-10, 0.25 + 1e-10) + term(1e-10, 0.25 + 1e-10);
        assert!((psi(ZeroPolicy::AddEps(1e-10), &p, &q) - added).abs() < 1e-14);
        // One in 20 000 is rarer than 1e-4, so the empty cell takes a millionth of that.
        let (p, q) = ([19_999, 1, 0], [1, 1, 2]);
        let rare = term(19_999.0 / 2e4, 0.25) + term(5e-5, 0.25) + term(5e-11, 0.5);
        assert!((psi(ZeroPolicy::Evidently, &p, &q) - rare).abs() < 1e-13);
    }

    #[test]
    fn nothing_on_one_side_is_no_number() {
        let metrics = [
            Metric::Psi,
            Metric::Js,
            Metric::Kl,
            Metric::Hellinger,
            Metric::ChiSquare,
            Metric::G,
            Metric::LInfinity,
            Metric::LInfinityRobust,
            Metric::KsD,
            Metric::TotalVariation,
        ];
        let policies = [
            ZeroPolicy::Keep,
            ZeroPolicy::Evidently,
            ZeroPolicy::Floor(0.01),
            ZeroPolicy::MinPositive,
            ZeroPolicy::AddEps(1e-10),
            ZeroPolicy::Jeffreys,
        ];
        for (metric, zero) in metrics.into_iter().flat_map(|metric| policies.map(|zero| (metric, zero))) {
            let convention = Convention { metric, zero, ..Convention::PSI };
            for (reference, current) in [([0_u32, 0], [1, 2]), ([1, 2], [0, 0]), ([0, 0], [0, 0])] {
                assert!(convention.of(&reference, &current).is_nan(), "{metric:?} {zero:?} {reference:?} {current:?}");
            }
            assert!(convention.of::<u32>(&[], &[]).is_nan() && convention.of_shares(&[], &[]).is_nan(), "{metric:?}");
        }
    }
}
