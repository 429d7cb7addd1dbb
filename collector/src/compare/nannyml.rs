//! NannyML 0.13 (`nannyml.drift.univariate.methods`).
//!
//! Missing values are dropped, infinities are not. Cells are cut on the reference alone, numpy's doane edges for numbers and its
//! values for categories; what current has outside is one more cell that the reference leaves empty. From 10 000 reference
//! rows on, KS and Wasserstein are estimated on 10 000 equal cells, current mass above and below included in its own way.

use super::edges::{self, Bins};
use super::float;
use super::input::Input;
use super::ks;
use super::params::Params;
use super::sample::{Counts, Pair};
use super::scipy::{self, base, edges_answer, tested};
use super::stated::Stated;
use super::tables::{self, Lambda};
use super::{Answer, Metric, Refusal, evidently, transport};
use driftline_shared::drift::distance::{self, Base, Convention, Edges, ZeroPolicy};

/// What NannyML has.
pub const METRICS: &[Metric] = &[
    Metric::Js,
    Metric::Hellinger,
    Metric::KsD,
    Metric::Ks,
    Metric::Wasserstein,
    Metric::Contingency,
    Metric::LInfinity,
    Metric::Edges,
];

/// From so many reference rows on KS and Wasserstein are estimated.
const ESTIMATED_ROWS: usize = 10_000;
/// Cells of the estimates.
const ESTIMATED_CELLS: usize = 10_000;

/// Answers as NannyML.
pub fn answer(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    match metric {
        Metric::Js | Metric::Hellinger => on_cells(metric, input, params),
        Metric::Contingency | Metric::LInfinity => on_categories(metric, input, params),
        Metric::Edges => {
            let sample = match (&input.series, &input.pair) {
                (Some(series), _) => series.cleaned(false),
                (None, Some(pair)) => pair.reference.cleaned(false),
                (None, None) => return Err(Refusal::input("histogram_bin_edges needs the values x, or ref and cur")),
            };
            let bins = scipy::bins(params, Bins::Doane)?;
            // It converts to floats first, so whole numbers have no rule of their own.
            Ok(edges_answer(edges::edges(sample.numbers()?.0, false, bins)?, "numpy doane edges of the reference"))
        }
        _ => estimated(metric, input, params),
    }
}

fn cleaned(input: &Input) -> Result<Pair, Refusal> {
    Ok(input.pair()?.cleaned(false))
}

fn on_cells(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let js = metric == Metric::Js;
    let base = if js { base(params, Base::Two)? } else { Base::E };
    let metric = if js { distance::Metric::Js } else { distance::Metric::Hellinger };
    let convention = Convention { metric, base, zero: ZeroPolicy::Keep, edges: Edges::Given };
    let wanted = evidently::kind(params)?;
    if let Some((p, q)) = &input.shares {
        return Ok(Answer::value(convention.of_shares(p, q), convention.into()));
    }
    if let Some(Counts { reference, current, .. }) = input.given_counts() {
        return Ok(Answer::value(convention.of(&reference, &current), convention.into()));
    }
    let pair = cleaned(input)?;
    let numeric = wanted.unwrap_or(true) && pair.reference.is_numeric();
    let edges = if numeric { Edges::DoaneReference } else { Edges::Categories };
    let convention = Convention { edges, ..convention };
    let (n, m) = (pair.reference.len() as f64, pair.current.len() as f64);
    let (reference, current) = if numeric {
        let (reference, current) = pair.numbers()?;
        let edges = edges::edges(reference, false, Bins::Doane)?;
        let count = |values: &[f64]| edges::histogram(&float::sorted(values), &edges);
        (count(reference), count(current))
    } else {
        let counts = pair.counts();
        counts.reference.iter().zip(&counts.current).filter(|(r, _)| **r > 0.0).map(|(r, c)| (*r, *c)).unzip()
    };
    if m == 0.0 {
        return Ok(Answer::value(f64::NAN, convention.into()));
    }
    let shares = |counts: Vec<f64>, of: f64| -> Vec<f64> { counts.iter().map(|c| c / of).collect() };
    let (mut p, mut q) = (shares(reference, n), shares(current, m));
    let outside = 1.0 - float::sum(&q);
    if outside > 0.0 {
        p.push(0.0);
        q.push(outside);
    }
    Ok(Answer::value(convention.of_shares(&p, &q), convention.into()))
}

fn on_categories(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let counts = match (input.given_counts(), &input.shares) {
        (Some(given), _) => given,
        (None, Some((p, q))) => Counts { keys: Vec::new(), reference: p.clone(), current: q.clone() },
        (None, None) => cleaned(input)?.counts(),
    };
    let Counts { reference, current, .. } = &counts;
    let (n, m) = (float::sum(reference), float::sum(current));
    if metric == Metric::LInfinity {
        let convention = Convention {
            metric: distance::Metric::LInfinity,
            base: Base::E,
            zero: ZeroPolicy::Keep,
            edges: Edges::Categories,
        };
        let value = match (n == 0.0, m == 0.0) {
            (_, true) => f64::NAN,
            // Nothing on the reference's side counts as shares of 0.
            (true, _) => current.iter().map(|c| c / m).fold(0.0, f64::max),
            _ if counts.keys.is_empty() => convention.of_shares(reference, current),
            _ => convention.of(reference, current),
        };
        return Ok(Answer::value(value, convention.into()));
    }
    let correction = params.switch(&["correction", "yates"])?.unwrap_or(true);
    let stated = Stated::counted(
        "χ² of the table of both samples, with Yates' correction at one degree of freedom",
        Edges::Categories,
    );
    if m == 0.0 {
        return Ok(Answer::new(&[("stat", f64::NAN), ("p", f64::NAN), ("dof", f64::NAN), ("value", f64::NAN)], stated));
    }
    let rows = input.table.clone().unwrap_or_else(|| vec![reference.clone(), current.clone()]);
    let found = tables::contingency(&rows, correction, Lambda::PEARSON)?;
    Ok(tested(found, found.stat, stated))
}

/// KS D and Wasserstein-1, exact or estimated.
fn estimated(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let words = [("auto", None), ("exact", Some(false)), ("estimated", Some(true))];
    let estimate = params.word(&["calculation_method", "method"], &words)?.flatten();
    let cells =
        params.whole(&["n_bins", "bins"])?.map_or(ESTIMATED_CELLS, |n| usize::try_from(n).unwrap_or(usize::MAX));
    if !(1..=edges::CELLS_MAX).contains(&cells) {
        return Err(Refusal::input(format!("n_bins must be between 1 and {}", edges::CELLS_MAX)));
    }
    let pair = cleaned(input)?;
    let (reference, current) = pair.numbers()?;
    let estimate = estimate.unwrap_or(reference.len() >= ESTIMATED_ROWS);
    let wasserstein = metric == Metric::Wasserstein;
    let formula = match (wasserstein, estimate) {
        (true, false) => "∫ |F−G|",
        (true, true) => "∫ |F−G| on equal cells of the reference's range, current mass outside added",
        (false, false) => "max |F−G|",
        (false, true) => "max |F−G| at the right edges of equal cells of the reference's range",
    };
    let stated = Stated::raw(formula);
    let answer = |value: f64| match wasserstein {
        true => Answer::value(value, stated.clone()),
        false => Answer::new(&[("value", value), ("d", value)], stated.clone()),
    };
    let edges = match (estimate, wasserstein) {
        (false, _) => None,
        (true, true) => Some(edges::edges(reference, false, Bins::Count(cells))?),
        (true, false) => Some(equal(reference, cells)?),
    };
    if current.is_empty() {
        return Ok(answer(f64::NAN));
    }
    Ok(answer(match (edges, wasserstein) {
        (None, true) => transport::wasserstein(reference, current)?,
        (None, false) => ks::d(reference, current),
        (Some(edges), true) => Estimate::new(edges, reference, current).wasserstein(),
        (Some(edges), false) => Estimate::new(edges, reference, current).d(),
    }))
}

/// Edges as it cuts them itself, which may be equal: all of a constant are.
fn equal(reference: &[f64], cells: usize) -> Result<Vec<f64>, Refusal> {
    let (low, high) = float::range(reference).unwrap_or((f64::NAN, f64::NAN));
    let edges = edges::linspace(low, high, cells + 1);
    if edges.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err(Refusal::peer(format!("{cells} cells are too many for values between {low} and {high}")));
    }
    Ok(edges)
}

/// Both samples on equal cells of the reference's range.
struct Estimate {
    edges: Vec<f64>,
    current: Vec<f64>,
    /// Cumulated shares at the right edges.
    f: Vec<f64>,
    g: Vec<f64>,
}

impl Estimate {
    fn new(edges: Vec<f64>, reference: &[f64], current: &[f64]) -> Self {
        let (reference, current) = (float::sorted(reference), float::sorted(current));
        let cumulated = |sorted: &[f64]| {
            let mut sum = 0.0;
            let shares = edges::histogram(sorted, &edges).into_iter().map(|c| c / sorted.len() as f64);
            shares
                .map(|share| {
                    sum += share;
                    sum
                })
                .collect::<Vec<f64>>()
        };
        let (f, g) = (cumulated(&reference), cumulated(&current));
        Self { edges, current, f, g }
    }

    /// What current has below the range counts from the first cell on.
    fn d(&self) -> f64 {
        let below = self.current.iter().filter(|&&v| v < self.edges[0]).count() as f64 / self.current.len() as f64;
        let differences: Vec<f64> = self.f.iter().zip(&self.g).map(|(f, g)| (f - (below + g)).abs()).collect();
        float::range(&differences).map_or(f64::NAN, |(_, most)| most)
    }

    /// Its tails count their own end of the range as one of their values, so they weigh (k + 1)/m; and only what is below is
    /// added to G. Kept, since it is what people see.
    fn wasserstein(&self) -> f64 {
        let (low, high) = (self.edges[0], self.edges[self.edges.len() - 1]);
        let m = self.current.len() as f64;
        let below = &self.current[..float::below(&self.current, low)];
        let above = &self.current[float::at_most(&self.current, high)..];
        let weight = |tail: &[f64]| if tail.is_empty() { 0.0 } else { (tail.len() as f64 + 1.0) / m };
        let (lower, upper) = (weight(below), weight(above));
        let mut distance = 0.0;
        let width = self.edges[1] - self.edges[0];
        let within: Vec<f64> = self.f.iter().zip(&self.g).map(|(f, g)| (f - (g + lower)).abs() * width).collect();
        distance += float::sum(&within);
        if !below.is_empty() {
            distance += area(&[below, &[low]].concat(), false) * lower;
        }
        if !above.is_empty() {
            distance += area(&[&[high], above].concat(), true) * upper;
        }
        distance
    }
}

/// ∫ of the empirical distribution function of ascending values over their range, or of one minus it.
fn area(sorted: &[f64], complement: bool) -> f64 {
    let n = sorted.len() as f64;
    let mut distinct = sorted.to_vec();
    distinct.dedup();
    let terms: Vec<f64> = distinct
        .windows(2)
        .map(|pair| {
            let share = float::at_most(sorted, pair[0]) as f64 / n;
            (if complement { 1.0 - share } else { share }) * (pair[1] - pair[0])
        })
        .collect();
    float::sum(&terms)
}

#[cfg(test)]
mod tests {
    use crate::compare::case::line;
    use serde_json::{Value, json};

    #[test]
    fn the_estimate_of_d_by_hand() {
        let of = |reference: Value, current: Value| {
            let params = json!({"calculation_method": "estimated", "n_bins": 4});
            let input = json!({"ref": reference, "cur": current});
            line(&json!({"as": "nannyml", "metric": "ks_d", "params": params, "input": input}).to_string())["value"]
                .clone()
        };
        // All edges are 2.5 and the last cell has the constant; current is a quarter below and a quarter in it.
        assert_eq!(of(json!([2.5, 2.5, 2.5]), json!([2.0, 2.5, 2.6, 4.0])), 0.5);
        assert_eq!(of(json!([]), json!([1.0, 2.0])), "NaN");
        // Right edges 1 to 4: F is 1/4 2/4 3/4 1 and G 0 0 0 1/2.
        assert_eq!(of(json!([0.0, 1.0, 2.0, 4.0]), json!([3.5, 9.0])), 0.75);
        // The first edge is NaN, the others are infinite: F is −1/2 −1/2 −1/2 0, and G nothing.
        assert_eq!(of(json!([1.0, "Infinity"]), json!([1.0, 2.0])), 0.5);
    }
}
