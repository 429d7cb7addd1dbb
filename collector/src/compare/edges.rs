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

    /// Width of a cell for values between `low` and `high`; 0 where the rule gives none.
    fn width(self, values: &[f64], low: f64, high: f64) -> f64 {
        let n = values.len() as f64;
        let spread = high - low;
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
            Self::Stone => stone(values, low, high),
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

/// Stone's width: of 1 to max(100, √n) cells those with the least cross-validated error.
fn stone(values: &[f64], low: f64, high: f64) -> f64 {
    let (n, spread) = (values.len() as f64, high - low);
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
        let squares: f64 = histogram(&sorted, &edges).iter().map(|&c| (c as f64 / n).powi(2)).sum();
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
        rule => {
            // A rule sees the values' own range even where the edges are widened for a constant.
            let (from, to) = range(&kept).unwrap_or((low, high));
            let width = if let Bins::Stone = rule { rule.width(&kept, low, high) } else { rule.width(&kept, from, to) };
            match width {
                0.0 => 1.0,
                width if integer && width < 1.0 => ((high - low) / 1.0).ceil(),
                width => ((high - low) / width).ceil(),
            }
        }
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

fn ascending(edges: &[f64]) -> bool {
    edges.windows(2).all(|pair| pair[0] < pair[1])
}

/// Counts per cell [edge, next), the last one with its right edge; what lies outside and NaN is not counted.
pub fn histogram(sorted: &[f64], edges: &[f64]) -> Vec<u64> {
    let Some((&last, inner)) = edges.split_last() else { return Vec::new() };
    let mut from: Vec<usize> = inner.iter().map(|&e| below(sorted, e)).collect();
    from.push(at_most(sorted, last));
    from.windows(2).map(|pair| (pair[1].saturating_sub(pair[0])) as u64).collect()
}
