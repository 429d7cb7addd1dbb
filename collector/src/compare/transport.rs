//! Distances between samples by moving mass: Wasserstein-1 and energy distance as scipy has them, and deepchecks' earth mover.
//!
//! All of them are integrals of a power of |F − G| over the joint, sorted values. NaN or infinities give what scipy gives: they
//! enter the differences of neighbouring values as they are.

use super::Refusal;
use super::float::{at_most, dot, quantile, range, sort, sorted, sum};
use std::f64::consts::SQRT_2;

/// A sample, weighted or not.
#[derive(Debug, Clone, Copy)]
pub struct Weighted<'a> {
    /// The values.
    pub values: &'a [f64],
    /// One weight each, or all the same.
    pub weights: Option<&'a [f64]>,
}

impl<'a> From<&'a [f64]> for Weighted<'a> {
    fn from(values: &'a [f64]) -> Self {
        Self { values, weights: None }
    }
}

impl Weighted<'_> {
    fn check(&self) -> Result<(), Refusal> {
        if self.values.is_empty() {
            return Err(Refusal::peer("a sample has no values"));
        }
        let Some(weights) = self.weights else { return Ok(()) };
        if weights.len() != self.values.len() {
            return Err(Refusal::input("there must be one weight per value"));
        }
        let total = sum(weights);
        if weights.iter().any(|&w| w < 0.0) || !(total > 0.0 && total < f64::INFINITY) {
            return Err(Refusal::peer("weights must not be negative and must have a positive, finite sum"));
        }
        Ok(())
    }

    /// The distribution function at each of `points`.
    fn distribution(&self, points: &[f64]) -> Vec<f64> {
        let Some(weights) = self.weights else {
            let (sorted, n) = (sorted(self.values), self.values.len() as f64);
            return points.iter().map(|&x| at_most(&sorted, x) as f64 / n).collect();
        };
        let mut pairs: Vec<(f64, f64)> = self.values.iter().copied().zip(weights.iter().copied()).collect();
        pairs.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or_else(|| a.0.is_nan().cmp(&b.0.is_nan())));
        let values: Vec<f64> = pairs.iter().map(|p| p.0).collect();
        let mut sums = vec![0.0];
        let mut total = 0.0;
        sums.extend(pairs.iter().map(|p| {
            total += p.1;
            total
        }));
        points.iter().map(|&x| sums[at_most(&values, x)] / total).collect()
    }
}

/// Differences of neighbours of the joint values, and F − G over each.
fn gaps(reference: Weighted<'_>, current: Weighted<'_>) -> Result<(Vec<f64>, Vec<f64>), Refusal> {
    reference.check()?;
    current.check()?;
    let mut all: Vec<f64> = reference.values.iter().chain(current.values).copied().collect();
    sort(&mut all);
    let widths = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
    all.pop();
    let (f, g) = (reference.distribution(&all), current.distribution(&all));
    Ok((widths, f.iter().zip(&g).map(|(f, g)| f - g).collect()))
}

/// ∫ |F − G|.
pub fn wasserstein<'a>(reference: impl Into<Weighted<'a>>, current: impl Into<Weighted<'a>>) -> Result<f64, Refusal> {
    let (widths, differences) = gaps(reference.into(), current.into())?;
    Ok(dot(&differences.iter().map(|d| d.abs()).collect::<Vec<_>>(), &widths))
}

/// √2 √∫ (F − G)².
pub fn energy<'a>(reference: impl Into<Weighted<'a>>, current: impl Into<Weighted<'a>>) -> Result<f64, Refusal> {
    let (widths, differences) = gaps(reference.into(), current.into())?;
    Ok(SQRT_2 * dot(&differences.iter().map(|d| d * d).collect::<Vec<_>>(), &widths).sqrt())
}

/// Wasserstein-1 after each side loses what lies outside its own quantiles `margin` and 1 − `margin` and both are scaled to the
/// joint range 0 to 1 (deepchecks; its check takes 0.025).
pub fn scaled(reference: &[f64], current: &[f64], margin: f64) -> Result<f64, Refusal> {
    if !(0.0..0.5).contains(&margin) {
        return Err(Refusal::peer(format!("margin_quantile_filter must be at least 0 and below 0.5, not {margin}")));
    }
    let inner = |values: &[f64]| -> Vec<f64> {
        if margin == 0.0 {
            return values.to_vec();
        }
        let sorted = sorted(values);
        let (low, high) = (quantile(&sorted, margin), quantile(&sorted, 1.0 - margin));
        values.iter().copied().filter(|&v| high >= v && v >= low).collect()
    };
    let (reference, current) = (inner(reference), inner(current));
    let ranges = range(&reference).zip(range(&current));
    let Some((a, b)) = ranges else { return Err(Refusal::peer("a sample has no values between its margins")) };
    let (low, high) = (a.0.min(b.0), a.1.max(b.1));
    if low == high {
        return Ok(0.0);
    }
    let scale = |values: &[f64]| values.iter().map(|v| (v - low) / (high - low)).collect::<Vec<_>>();
    wasserstein(scale(&reference).as_slice(), scale(&current).as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Each of three values moves by 5; with weights a quarter of the mass moves by 1.
        let w1 = |a: &[f64], b: &[f64]| wasserstein(a, b).unwrap();
        assert!((w1(&[0.0, 1.0, 3.0], &[5.0, 6.0, 8.0]) - 5.0).abs() < 1e-15);
        let (a, b) = ([3.0, 1.0], [2.0, 2.0]);
        let weighted = |weights| Weighted { values: &[0.0, 1.0], weights: Some(weights) };
        assert!((wasserstein(weighted(&a), weighted(&b)).unwrap() - 0.25).abs() < 1e-15);
        assert!((energy([0.0].as_slice(), [2.0].as_slice()).unwrap() - 2.0).abs() < 1e-15);
        assert!(w1(&[f64::NAN, 1.0], &[2.0]).is_nan());
        assert!(wasserstein([].as_slice(), [1.0].as_slice()).is_err());
    }
}
