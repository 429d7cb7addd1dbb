//! Histogram edges as `numpy.histogram_bin_edges` chooses them (numpy 2.4), and counting on them.
//!
//! The number of cells is the ceiling of range over width, so the last bit of a width can decide: every width is worked out in
//! numpy's order of operations. Whole numbers have a rule of their own: no cell is narrower than 1.

use super::Refusal;
use super::float::{at_most, below, mean, quantile, range, sorted, std};

/// Most cells that are cut.
pub const CELLS_MAX: usize = 10_000_000;

/// How the number of cells is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bins {
    /// A given number.
    Count(usize),
    /// log2 n + 1.
    Sturges,
    /// Sturges with a term for skewness.
    Doane,
    /// The narrower of Freedman-Diaconis, held to half the square-root rule, and Sturges.
    Auto,
    /// Freedman-Diaconis: 2 IQR n^(−1/3).
    Fd,
    /// (24 √π / n)^(1/3) standard deviations.
    Scott,
    /// √n.
    Sqrt,
    /// 2 n^(1/3).
    Rice,
    /// Least estimated squared error by leaving one out.
    Stone,
}

impl Bins {
    /// By numpy's name.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "sturges" => Self::Sturges,
            "doane" => Self::Doane,
            "auto" => Self::Auto,
            "fd" => Self::Fd,
            "scott" => Self::Scott,
            "sqrt" => Self::Sqrt,
            "rice" => Self::Rice,
            "stone" => Self::Stone,
            _ => return None,
        })
    }

    /// Width of a cell for values that are to lie between the outer edges; 0 where the rule gives none.
    fn width(self, values: &[f64], outer: (f64, f64)) -> f64 {
        let n = values.len() as f64;
        // A rule sees the values' own range even where the outer edges are given or a constant's are apart.
        let spread = range(values).map_or(0.0, |(low, high)| high - low);
        let fd = || {
            let sorted = sorted(values);
            2.0 * (quantile(&sorted, 0.75) - quantile(&sorted, 0.25)) * n.powf(-1.0 / 3.0)
        };
        let sturges = spread / (n.log2() + 1.0);
        match self {
            Self::Count(_) => 0.0,
            Self::Sturges => sturges,
            Self::Doane => doane(values, spread),
            Self::Auto => fd().max(spread / n.sqrt() / 2.0).min(sturges),
            Self::Fd => fd(),
            Self::Scott => (24.0 * std::f64::consts::PI.powf(0.5) / n).powf(1.0 / 3.0) * std(values),
            Self::Sqrt => spread / n.sqrt(),
            Self::Rice => spread / (2.0 * n.powf(1.0 / 3.0)),
            Self::Stone => stone(values, spread, outer),
        }
    }
}

/// Doane's width: Sturges plus log2(1 + |skewness| / its standard error).
fn doane(values: &[f64], spread: f64) -> f64 {
    let n = values.len() as f64;
    let sigma = std(values);
    // Also where sigma is no number.
    if values.len() <= 2 || sigma.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        return 0.0;
    }
    let error = (6.0 * (n - 2.0) / ((n + 1.0) * (n + 3.0))).sqrt();
    let centre = mean(values);
    let cubes: Vec<f64> = values.iter().map(|v| ((v - centre) / sigma).powf(3.0)).collect();
    spread / (1.0 + n.log2() + (1.0 + mean(&cubes).abs() / error).log2())
}

/// Stone's width: of 1 to max(100, √n) cells those with the least cross-validated error, between the outer edges.
fn stone(values: &[f64], spread: f64, (low, high): (f64, f64)) -> f64 {
    let n = values.len() as f64;
    if values.len() <= 1 || spread == 0.0 {
        return 0.0;
    }
    let sorted = sorted(values);
    let error = |cells: usize| {
        let edges = linspace(low, high, cells + 1);
        if !ascending(&edges) {
            // No width at all, which is then refused.
            return None;
        }
        let squares: f64 = histogram(&sorted, &edges).iter().map(|c| (c / n).powi(2)).sum();
        Some((2.0 - (n + 1.0) * squares) / (spread / cells as f64))
    };
    let most = 100.max(n.sqrt() as usize);
    let errors: Option<Vec<f64>> = (1..=most).map(error).collect();
    let Some(errors) = errors else { return f64::NAN };
    let best = (0..most).reduce(|best, next| if errors[next] < errors[best] { next } else { best });
    spread / (best.unwrap_or(0) + 1) as f64
}

/// `n` numbers from `start` to `stop`, evenly spaced: start + i·step, the last one `stop` itself.
pub fn linspace(start: f64, stop: f64, n: usize) -> Vec<f64> {
    let steps = n.saturating_sub(1).max(1) as f64;
    let delta = stop - start;
    let step = delta / steps;
    let mut points: Vec<f64> = (0..n)
        .map(|i| {
            // A step that underflows is applied in the other order.
            let offset = if step == 0.0 { i as f64 / steps * delta } else { i as f64 * step };
            offset + start
        })
        .collect();
    if n > 1
        && let Some(last) = points.last_mut()
    {
        *last = stop;
    }
    points
}

/// The edges for values, all of which are whole numbers of an integer type if `integer`, over their own range.
pub fn edges(values: &[f64], integer: bool, bins: Bins) -> Result<Vec<f64>, Refusal> {
    within(values, integer, bins, None)
}

/// The same over a given range; values outside it are left out of the rule.
pub fn within(values: &[f64], integer: bool, bins: Bins, given: Option<(f64, f64)>) -> Result<Vec<f64>, Refusal> {
    let (low, high) = given.or_else(|| range(values)).unwrap_or((0.0, 1.0));
    if !low.is_finite() || !high.is_finite() {
        return Err(Refusal::peer(format!(
            "the range of the values, {low} to {high}, is not finite, so there are no edges"
        )));
    }
    if low > high {
        return Err(Refusal::peer("a range's upper end must be above its lower end"));
    }
    let (low, high) = if low == high { (low - 0.5, high + 0.5) } else { (low, high) };
    let kept: Vec<f64> = match given {
        Some(_) => values.iter().copied().filter(|&v| v >= low && v <= high).collect(),
        None => values.to_vec(),
    };
    let cells = match bins {
        Bins::Count(n) => n as f64,
        _ if kept.is_empty() => 1.0,
        rule => match rule.width(&kept, (low, high)) {
            0.0 => 1.0,
            width if integer && width < 1.0 => ((high - low) / 1.0).ceil(),
            width => ((high - low) / width).ceil(),
        },
    };
    if cells == 0.0 && !matches!(bins, Bins::Count(_)) {
        // A width that overflowed: numpy answers with the lower end alone.
        return Ok(vec![low]);
    }
    if !(1.0..=CELLS_MAX as f64).contains(&cells) {
        return Err(Refusal::peer(format!("this rule asks for {cells} cells, which cannot be cut")));
    }
    let edges = linspace(low, high, cells as usize + 1);
    if !ascending(&edges) {
        return Err(Refusal::peer(format!("{cells} cells are too many for values between {low} and {high}")));
    }
    Ok(edges)
}

/// As numpy has it: NaN, which is what a range that overflows begins with, is not above anything.
fn ascending(edges: &[f64]) -> bool {
    !edges.windows(2).any(|pair| pair[0] >= pair[1])
}

/// Counts per cell [edge, next), the last one with its right edge; what lies outside and NaN is not counted. An edge that is NaN is above
/// all values, so the cell after it may have a negative count.
pub fn histogram(sorted: &[f64], edges: &[f64]) -> Vec<f64> {
    let Some((&last, inner)) = edges.split_last() else { return Vec::new() };
    let mut from: Vec<usize> = inner.iter().map(|&e| below(sorted, e)).collect();
    from.push(at_most(sorted, last));
    from.windows(2).map(|pair| pair[1] as f64 - pair[0] as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], bins: Bins, given: Option<(f64, f64)>, expected: &[f64]) {
        assert_eq!(within(values, false, bins, given).unwrap(), expected, "{values:?} {bins:?} {given:?}");
    }

    #[test]
    fn stone_has_the_spread_of_the_values_and_cells_between_the_outer_edges() {
        // 0 1 2 3 are within; one cell has the error (2 − 5)/3, two (2 − 5·10/16)/1.5, more a larger one. So the width is 3, and of those
        // 0 to 5 takes two.
        check(&[0.0, 1.0, 2.0, 3.0, 10.0], Bins::Stone, Some((0.0, 5.0)), &[0.0, 2.5, 5.0]);
        check(&[0.5; 3], Bins::Stone, None, &[0.0, 1.0]);
        check(&[1.5], Bins::Stone, Some((0.0, 4.0)), &[0.0, 4.0]);
    }

    #[test]
    fn a_range_that_overflows_begins_with_nan() {
        let edges = within(&[1.5], false, Bins::Sturges, Some((-1e308, 1e308))).unwrap();
        assert!(edges[0].is_nan() && edges[1..] == [1e308], "{edges:?}");
        assert!(within(&[1.5], false, Bins::Count(2), Some((-1e308, 1e308))).is_err());
    }
}
