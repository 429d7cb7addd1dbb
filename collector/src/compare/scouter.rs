//! scouter-drift 0.25: PSI with 1e-10 added to every share.
//!
//! Values that are not finite are dropped. Numbers are counted in (edge, next] at the reference's quantiles, deciles unless said
//! otherwise, and categories by the reference's values: what only current has is in no cell, and shares are of all rows.

use super::edges::linspace;
use super::float;
use super::input::Input;
use super::params::Params;
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
    let pair = input.pair_or_cells()?.cleaned(true);
    if pair.reference.is_empty() || pair.current.is_empty() {
        return Err(Refusal::peer("a sample has no finite values"));
    }
    let (n, m) = (pair.reference.len() as f64, pair.current.len() as f64);
    let shares = |counts: &[f64], of: f64| counts.iter().map(|c| c / of).collect::<Vec<f64>>();
    if !numeric.unwrap_or(true) || !pair.reference.is_numeric() {
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
    let edges = if equal_width { equal(&reference, bins as usize) } else { quantiles(&reference, bins) };
    let count = |sorted: &[f64]| -> Vec<f64> {
        let at: Vec<f64> = edges.iter().map(|&e| float::at_most(sorted, e) as f64).collect();
        let ends = at.iter().copied().chain([sorted.len() as f64]);
        let starts = [0.0].into_iter().chain(at.iter().copied());
        ends.zip(starts).map(|(end, start)| end - start).collect()
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
fn equal(sorted: &[f64], bins: usize) -> Vec<f64> {
    let all = linspace(sorted[0], sorted[sorted.len() - 1], bins + 1);
    all[1..bins].to_vec()
}
