//! The two-sample Kolmogorov-Smirnov test as `scipy.stats.ks_2samp` has it.
//!
//! Exact up to 10 000 rows a side: the probability that a random path of n + m steps leaves the strip around the diagonal (Hodges
//! 1958; for unequal sizes the recursion for the complement by Viehmann, arXiv 2102.08037). An exact probability that rounding
//! carries out of [0, 1] falls back to the asymptotic one, as there: operations keep their order so that this happens alike.

use super::float::{at_most, sort, sorted};
use super::kolmogorov;
use libm::lgamma;

/// Most rows a side that `auto` treats exactly.
const AUTO_ROWS_MAX: usize = 10_000;
/// Most cells of the paths' grid that an exact p-value may visit; beyond it only the asymptotic one is within reach.
const GRID_CELLS_MAX: usize = 2_000_000_000;
/// ln of the largest double: beyond it one-sided counts of paths overflow.
const LN_MAX: f64 = 709.782_712_893_384;

/// Which p-value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Exact where it is affordable.
    Auto,
    /// Exact unless the sizes' least common multiple is out of reach.
    Exact,
    /// Asymptotic.
    Asymptotic,
}

/// Which difference counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alternative {
    /// The larger of both.
    TwoSided,
    /// Current above reference: only where F is below G.
    Less,
    /// Only where F is above G.
    Greater,
}

/// D and p of two samples without NaN; both NaN where one is empty.
pub fn two_sample(reference: &[f64], current: &[f64], method: Method, alternative: Alternative) -> (f64, f64) {
    let (n, m) = (reference.len(), current.len());
    if n == 0 || m == 0 {
        return (f64::NAN, f64::NAN);
    }
    let (lowest, highest) = differences(&sorted(reference), &sorted(current));
    let down = (-lowest).clamp(0.0, 1.0);
    let d = match alternative {
        Alternative::Less => down,
        Alternative::TwoSided if down > highest => down,
        _ => highest,
    };
    let common = gcd(n, m);
    let exact = match method {
        Method::Auto => n.max(m) <= AUTO_ROWS_MAX,
        Method::Exact => {
            ((n / common) as f64) < f64::from(i32::MAX) / (m / common) as f64
                && (n == m || n.saturating_mul(m) <= GRID_CELLS_MAX)
        }
        Method::Asymptotic => false,
    };
    if !exact {
        return (d, asymptotic(n, m, d, alternative));
    }
    let multiple = (n / common) as f64 * m as f64;
    let steps = (d * multiple).round_ties_even();
    let d = steps / multiple;
    if steps == 0.0 {
        return (d, 1.0);
    }
    let p = exactly(n, m, common, steps as usize, alternative);
    let p = p.filter(|p| (0.0..=1.0).contains(p)).unwrap_or_else(|| asymptotic(n, m, d, alternative));
    (d, p)
}

/// The largest absolute difference of the two distribution functions; NaN where a side is empty.
pub fn d(reference: &[f64], current: &[f64]) -> f64 {
    if reference.is_empty() || current.is_empty() {
        return f64::NAN;
    }
    let (lowest, highest) = differences(&sorted(reference), &sorted(current));
    highest.max(-lowest)
}

/// Smallest and largest F − G at the values of both ascending samples.
fn differences(reference: &[f64], current: &[f64]) -> (f64, f64) {
    let (n, m) = (reference.len() as f64, current.len() as f64);
    let mut all: Vec<f64> = reference.iter().chain(current).copied().collect();
    sort(&mut all);
    all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| {
        let difference = at_most(reference, x) as f64 / n - at_most(current, x) as f64 / m;
        (low.min(difference), high.max(difference))
    })
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn asymptotic(n: usize, m: usize, d: f64, alternative: Alternative) -> f64 {
    let (m, n) = (n.max(m) as f64, n.min(m) as f64);
    let effective = m * n / (m + n);
    if alternative == Alternative::TwoSided {
        return kolmogorov::sf(d, effective.round_ties_even());
    }
    // Hodges' equation 5.3.
    let z = effective.sqrt() * d;
    (-2.0 * z.powi(2) - 2.0 * z * (m + 2.0 * n) / (m * n * (m + n)).sqrt() / 3.0).exp().clamp(0.0, 1.0)
}

/// P(D ≥ steps over the least common multiple); `None` where the counts leave the range of doubles.
fn exactly(n: usize, m: usize, common: usize, steps: usize, alternative: Alternative) -> Option<f64> {
    match (alternative, n == m) {
        (Alternative::TwoSided, true) => Some(outside_square(n, steps)),
        (Alternative::TwoSided, false) => Some(outside_strip(n.max(m), n.min(m), common, steps)),
        (_, true) => Some((0..steps).map(|j| (n as f64 - j as f64) / (n as f64 + j as f64 + 1.0)).product()),
        (_, false) => {
            let (a, b) = (n as f64, m as f64);
            let ln_paths = lgamma(a + b + 1.0) - lgamma(a + 1.0) - lgamma(b + 1.0);
            (ln_paths < LN_MAX).then(|| below_line(n.max(m), n.min(m), common, steps))
        }
    }
}

/// Equal sizes: 2 (C(2n, n−h) − C(2n, n−2h) + …)/C(2n, n), factored so that nothing cancels.
fn outside_square(n: usize, h: usize) -> f64 {
    let mut p = 0.0;
    for k in (0..=n / h).rev() {
        let mut term = 1.0;
        for j in 0..h {
            let top = n as f64 - (k * h) as f64 - j as f64;
            term = top * term / (n + k * h + j + 1) as f64;
        }
        p = term * (1.0 - p);
    }
    2.0 * p
}

/// Unequal sizes, m > n: columns of the probability to have left the strip, only the cells inside it.
fn outside_strip(m: usize, n: usize, common: usize, h: usize) -> f64 {
    let (mg, ng) = ((m / common) as i64, (n / common) as i64);
    let (h, last) = (h as i64, n as i64);
    let ceil = |a: i64| -(-a).div_euclid(mg);
    let mut to = ceil(h).min(last + 1);
    let mut from = 0;
    let mut cells = vec![1.0; (2 * to + 2).min(last + 1) as usize];
    cells[..to as usize].fill(0.0);
    for i in 1..=m as i64 {
        let (from_before, before) = (from, to - from);
        from = ((ng * i - h).div_euclid(mg) + 1).max(0).min(last);
        to = ceil(ng * i + h).min(last + 1);
        if to <= from {
            return 1.0;
        }
        let mut value = if from == 0 { 0.0 } else { 1.0 };
        for j in from..to {
            let left = cells.get((j - from_before) as usize).copied().unwrap_or(1.0);
            value = (left * i as f64 + value * j as f64) / (i + j) as f64;
            cells[(j - from) as usize] = value;
        }
        let now = to - from;
        if before > now {
            cells[now as usize..before as usize].fill(1.0);
        }
    }
    cells[(to - from - 1) as usize]
}

/// One side, m > n: the probability of a path to touch the line m·y = n·x − h·g.
fn below_line(m: usize, n: usize, common: usize, h: usize) -> f64 {
    let (mg, ng, h) = ((m / common) as i64, (n / common) as i64, h as i64);
    let mut column = vec![0.0; n + 1];
    for i in 1..=m as i64 {
        let mut value = 0.0;
        for (j, cell) in column.iter_mut().enumerate() {
            let j = j as i64;
            let touched = mg * j <= ng * i - h;
            value = if touched { 1.0 } else { (*cell * i as f64 + value * j as f64) / (i + j) as f64 };
            *cell = value;
        }
    }
    column[n]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_counting_paths() {
        // Two samples of two, apart: 2 of the 6 orders; of 2 and 1: 2 of 3.
        let both = |a: &[f64], b: &[f64]| two_sample(a, b, Method::Auto, Alternative::TwoSided);
        assert_eq!(both(&[1.0, 2.0], &[3.0, 4.0]), (1.0, 1.0 / 3.0));
        assert!((both(&[1.0, 2.0], &[3.0]).1 - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!(both(&[1.0, 2.0], &[1.0, 2.0]), (0.0, 1.0));
        let one = |alternative| two_sample(&[1.0, 2.0], &[3.0], Method::Exact, alternative);
        assert!((one(Alternative::Greater).1 - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!(one(Alternative::Less), (0.0, 1.0));
    }
}
