//! Arithmetic in the order in which numpy does it, so that results agree to rounding also where terms cancel.

use driftline_shared::drift::distance::pairwise;

/// Sum in numpy's pairwise order.
pub fn sum(values: &[f64]) -> f64 {
    pairwise(values.len(), &|i| values[i])
}

/// Arithmetic mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len() as f64
}

/// Population standard deviation (ddof 0), two passes.
pub fn std(values: &[f64]) -> f64 {
    let mean = mean(values);
    (pairwise(values.len(), &|i| (values[i] - mean) * (values[i] - mean)) / values.len() as f64).sqrt()
}

/// Smallest and largest; NaN if any value is. `None` of nothing.
pub fn range(values: &[f64]) -> Option<(f64, f64)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(low, high), &v| {
        if v.is_nan() || low.is_nan() { (f64::NAN, f64::NAN) } else { (low.min(v), high.max(v)) }
    }))
}

/// Ascending, NaN last, as numpy sorts.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sort(&mut sorted);
    sorted
}

/// Ascending, NaN last, whatever its sign.
pub fn sort(values: &mut [f64]) {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
}

/// How many of the ascending values are at most `x`; with NaN last, of NaN all.
pub fn at_most(sorted: &[f64], x: f64) -> usize {
    sorted.partition_point(|&v| v <= x || x.is_nan())
}

/// How many of the ascending values are below `x`; with NaN last, of NaN all that are numbers.
pub fn below(sorted: &[f64], x: f64) -> usize {
    sorted.partition_point(|&v| v < x || (x.is_nan() && !v.is_nan()))
}

/// Quantile with linear interpolation (numpy's default, type 7 of Hyndman and Fan), from ascending values; NaN if any is NaN.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let (Some(&last), n) = (sorted.last(), sorted.len()) else { return f64::NAN };
    if last.is_nan() {
        return f64::NAN;
    }
    let at = (n - 1) as f64 * q;
    let low = (at.floor() as usize).min(n - 1);
    let (a, b) = (sorted[low], sorted[(low + 1).min(n - 1)]);
    let t = at - low as f64;
    // From the nearer end, so that both ends are hit exactly.
    let difference = b - a;
    if t >= 0.5 { b - difference * (1.0 - t) } else { a + difference * t }
}

/// Σ a·b.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    pairwise(a.len().min(b.len()), &|i| a[i] * b[i])
}
