//! Unbiased maximum mean discrepancy with a Gaussian kernel, with the bandwidth that Evidently takes: half the median of the squared
//! distances within the reference, each with itself included.
//!
//! Squared distances are expanded, y² − 2xy + x², and tables are summed in numpy's order, because the three means nearly cancel
//! and must round alike. The permutation p-value is left out: it depends on numpy's random numbers.

use super::Refusal;
use driftline_shared::drift::distance::pairwise;

/// Most pairs of rows of one sample that are compared; their distances are kept for the median.
pub const PAIRS_MAX: usize = 50_000_000;

/// Numbers that numpy buffers at a time.
const BUFFER: usize = 8192;

/// The discrepancy and the bandwidth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Discrepancy {
    /// Unbiased estimate of MMD²; below 0 by chance where both samples are alike.
    pub mmd2: f64,
    /// The kernel's bandwidth.
    pub sigma: f64,
}

/// MMD² between two samples of at least two rows each.
pub fn unbiased(reference: &[f64], current: &[f64], sigma: Option<f64>) -> Result<Discrepancy, Refusal> {
    let (n, m) = (reference.len(), current.len());
    if n < 2 || m < 2 {
        return Err(Refusal::peer("the unbiased estimate needs at least two values on each side"));
    }
    if n.max(m).saturating_mul(n.max(m)) > PAIRS_MAX {
        return Err(Refusal::input(format!("{n} and {m} rows are too many pairs; at most {PAIRS_MAX} are compared")));
    }
    let sigma = sigma.filter(|&s| s != 0.0).unwrap_or_else(|| bandwidth(reference));
    let gamma = 1.0 / (2.0 * (sigma * sigma));
    let kernel = |x: f64, y: f64| (-gamma * squared(x, y)).exp();
    // A row's kernel with itself is taken off: nothing is left of it, or no number.
    let others = |values: &[f64], i: usize, j: usize| {
        let k = kernel(values[i], values[j]);
        if i == j && !k.is_nan() { 0.0 } else { k }
    };
    let within = |values: &[f64]| total(values.len(), values.len(), &|i, j| others(values, i, j));
    let between = total(m, n, &|j, i| kernel(reference[i], current[j]));
    let pairs = |n: usize| 1.0 / (n * (n - 1)) as f64;
    let mmd2 = pairs(n) * within(reference) + pairs(m) * within(current) - 2.0 * (between / (n * m) as f64);
    Ok(Discrepancy { mmd2, sigma })
}

/// Σ over a table as numpy sums one that is part of a larger one: as many whole rows as fit its buffer at a time, pairwise.
fn total(rows: usize, columns: usize, term: &impl Fn(usize, usize) -> f64) -> f64 {
    let at_once = (BUFFER / columns).max(1);
    (0..rows).step_by(at_once).fold(0.0, |sum, from| {
        let terms = at_once.min(rows - from) * columns;
        sum + pairwise(terms, &|at| term(from + at / columns, at % columns))
    })
}

fn squared(x: f64, y: f64) -> f64 {
    y * y - 2.0 * (x * y) + x * x
}

/// √(median/2) of the squared distances, the median being an element (at a half, the one of even rank); √(1/2) where it is 0.
fn bandwidth(values: &[f64]) -> f64 {
    let mut distances: Vec<f64> = values.iter().flat_map(|&x| values.iter().map(move |&y| squared(x, y))).collect();
    if distances.iter().any(|d| d.is_nan()) {
        return f64::NAN;
    }
    let last = distances.len() - 1;
    let rank = if last.is_multiple_of(2) { last / 2 } else { (last / 2) + (last / 2) % 2 };
    let (_, median, _) = distances.select_nth_unstable_by(rank, f64::total_cmp);
    let sigma = (0.5 * *median).powf(0.5);
    if sigma == 0.0 { 0.5_f64.powf(0.5) } else { sigma }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // {0, 1}: squared distances 0, 1, 1, 0; rank 1.5 goes to 2, so the median is 1 and sigma √½, gamma 1.
        let found = unbiased(&[0.0, 1.0], &[0.0, 2.0], None).unwrap();
        let wanted =
            (-1.0_f64).exp() + (-4.0_f64).exp() - 0.5 * (1.0 + (-4.0_f64).exp() + (-1.0_f64).exp() + (-1.0_f64).exp());
        assert!((found.mmd2 - wanted).abs() < 1e-15 && (found.sigma - 0.5_f64.sqrt()).abs() < 1e-15, "{found:?}");
        assert!(unbiased(&[1.0], &[0.0, 2.0], None).is_err());
    }
}
