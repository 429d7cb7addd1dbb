//! scouter-drift 0.25: PSI with 1e-10 added to every share.
//!
//! Numbers are counted in (edge, next] at the quantiles of the reference's finite values, deciles unless said otherwise, and categories
//! by the reference's values, of which missing is one: what only current has is in no cell. Shares are of all rows, so in current NaN and
//! −∞, which are in no cell either, make the others smaller.

use super::float;
use super::input::Input;
use super::params::Params;
use super::sample::Pair;
use super::{Answer, Metric, Refusal, evidently};
use driftline_shared::drift::distance::{self, Base, Convention, Edges, ZeroPolicy};

/// What scouter has.
pub const METRICS: &[Metric] = &[Metric::Psi];

/// What it adds to every share.
const EPS: f64 = 1e-10;
/// Its number of quantile cells.
const BINS: u64 = 10;
/// Most cells.
const BINS_MAX: u64 = 1_000_000;

/// Answers as scouter.
pub fn answer(_metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let zero = evidently::zero(params, ZeroPolicy::AddEps(EPS))?;
    let bins = params.whole(&["num_bins", "bins", "n_bins"])?.unwrap_or(BINS);
    let equal_width = params
        .word(&["binning", "binning_strategy", "strategy"], &[("quantile", false), ("equal_width", true)])?
        .unwrap_or(false);
    let numeric = evidently::kind(params)?;
    let convention = Convention { metric: distance::Metric::Psi, base: Base::E, zero, edges: Edges::Given };
    if let Some((p, q)) = &input.shares {
        return Ok(Answer::value(convention.of_shares(p, q), convention.into()));
    }
    if let Some(counts) = input.given_counts() {
        return Ok(Answer::value(convention.of(&counts.reference, &counts.current), convention.into()));
    }
    if !(2..=BINS_MAX).contains(&bins) {
        return Err(Refusal::peer(format!("num_bins must be between 2 and {BINS_MAX}")));
    }
    let Pair { reference, current } = input.pair_or_cells()?;
    let categorical = !numeric.unwrap_or(true) || !reference.is_numeric();
    let pair = match categorical {
        true => Pair { reference: reference.with_missing(), current: current.with_missing() },
        false => Pair { reference: reference.cleaned(true), current: current.clone() },
    };
    if pair.reference.is_empty() {
        return Err(Refusal::peer("the reference has no finite values"));
    }
    let (n, m) = (pair.reference.len() as f64, pair.current.len() as f64);
    let shares = |counts: &[f64], of: f64| counts.iter().map(|c| c / of).collect::<Vec<f64>>();
    if categorical {
        let counts = pair.counts();
        let known = counts.reference.iter().zip(&counts.current).filter(|(r, _)| **r > 0.0);
        let (reference, current): (Vec<f64>, Vec<f64>) = known.map(|(r, c)| (*r, *c)).unzip();
        let convention = Convention { edges: Edges::Categories, ..convention };
        return Ok(Answer::value(
            convention.of_shares(&shares(&reference, n), &shares(&current, m)),
            convention.into(),
        ));
    }
    let (reference, current) = pair.numbers()?;
    let (reference, current) = (float::sorted(reference), float::sorted(current));
    let edges = if equal_width { equal(&reference, bins) } else { quantiles(&reference, bins) };
    let edges = [&[f64::NEG_INFINITY], edges.as_slice(), &[f64::INFINITY]].concat();
    let count = |sorted: &[f64]| -> Vec<f64> {
        let at: Vec<usize> = edges.iter().map(|&e| float::at_most(sorted, e)).collect();
        // Rounding may make interpolated edges of equal values descend: no value is between those.
        at.windows(2).map(|ends| ends[1].saturating_sub(ends[0]) as f64).collect()
    };
    let convention = Convention { edges: Edges::Deciles, ..convention };
    let (p, q) = (shares(&count(&reference), n), shares(&count(&current), m));
    Ok(Answer::value(convention.of_shares(&p, &q), convention.into()))
}

/// Inner edges at i/bins by type 7 of Hyndman and Fan, interpolated from both neighbours.
fn quantiles(sorted: &[f64], bins: u64) -> Vec<f64> {
    let n = sorted.len();
    (1..bins)
        .map(|i| {
            let p = i as f64 / bins as f64;
            let at = n as f64 * p + (1.0 - p);
            let rank = at.floor();
            let share = at - rank;
            let low = (rank as usize).saturating_sub(1).min(n - 1);
            (1.0 - share) * sorted[low] + share * sorted[(low + 1).min(n - 1)]
        })
        .collect()
}

/// Inner edges of equal cells.
fn equal(sorted: &[f64], bins: u64) -> Vec<f64> {
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    let width = (high - low) / bins as f64;
    (1..bins).map(|i| low + i as f64 * width).collect()
}

#[cfg(test)]
mod tests {
    use crate::compare::case::line;
    use serde_json::{Value, json};

    fn check(reference: &Value, current: &Value, expected: f64) {
        let case = json!({"as": "scouter", "metric": "psi", "input": {"ref": reference, "cur": current}});
        let found = line(&case.to_string())["value"].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-12 * expected.abs(), "{case}: {found}, expected {expected}");
    }

    /// Σ (p−q) ln(p/q) with 1e-10 added to every share.
    fn psi(p: &[f64], q: &[f64]) -> f64 {
        p.iter().zip(q).map(|(p, q)| (p - q) * ((p + 1e-10) / (q + 1e-10)).ln()).sum()
    }

    #[test]
    fn only_the_reference_is_cleaned() {
        // Ten values, one in each cell; of current's five rows four or five are in a cell of their own.
        let reference = json!([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, "NaN", "Infinity"]);
        let share = |rows: &[usize]| (0..10).map(|k| if rows.contains(&k) { 0.2 } else { 0.0 }).collect::<Vec<f64>>();
        for (odd, rows) in [("NaN", &[0, 2, 4, 6][..]), ("-Infinity", &[0, 2, 4, 6]), ("Infinity", &[0, 2, 4, 6, 9])] {
            check(&reference, &json!([0.0, 2, 4, 6, odd]), psi(&[0.1; 10], &share(rows)));
        }
        check(&reference, &json!(["NaN"]), psi(&[0.1; 10], &[0.0; 10]));
        let empty = line(&json!({"as": "scouter", "input": {"ref": reference, "cur": []}}).to_string());
        assert_eq!(empty["value"], "NaN");
    }

    #[test]
    fn missing_is_a_category_of_the_reference() {
        check(
            &json!(["a", "b", "a", null]),
            &json!(["a", "b", null, null]),
            psi(&[0.5, 0.25, 0.25], &[0.25, 0.25, 0.5]),
        );
        // Only current misses some: they are in no cell.
        check(&json!(["a", "b"]), &json!(["a", "b", null, null]), psi(&[0.5, 0.5], &[0.25, 0.25]));
    }
}
