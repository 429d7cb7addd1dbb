//! Deequ's distances (`com.amazon.deequ.analyzers.Distance`): L-infinity simple and robust, its chi-square test with regrouped
//! categories, and its PSI, which leaves empty cells as they are.
//!
//! Current is Deequ's first sample and the reference its second. Numbers are compared by quantile sketches as they are before anything was
//! compacted, that is of small samples. Their rank maps have one entry per value, so equal values count once, in the sample sizes too.
//! SageMaker's model monitor is built on these.

use super::input::Input;
use super::params::Params;
use super::sample::{Counts, Pair};
use super::scipy::tested;
use super::stated::Stated;
use super::tables::{Tested, chi2_sf};
use super::{Answer, Metric, Refusal, evidently, float, ks};
use driftline_shared::drift::distance::{self, Base, Convention, Edges, ROBUST_FACTOR, ZeroPolicy};
use std::collections::BTreeSet;

/// What Deequ has.
pub const METRICS: &[Metric] =
    &[Metric::LInfinity, Metric::LInfinityRobust, Metric::Chisquare, Metric::Psi, Metric::KsD];

/// Smallest expected count of a table with more than two categories, and the share of categories that may be below it
/// (Yates, Moore and McCabe 1999).
const EXPECTED_MIN: f64 = 5.0;
const EXPECTED_SHARE: f64 = 0.2;
/// Smallest expected count with two categories (Cochran 1952).
const EXPECTED_MIN_OF_TWO: f64 = 10.0;

/// Answers as Deequ.
pub fn answer(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    match metric {
        Metric::LInfinity | Metric::LInfinityRobust => l_infinity(metric, input, params),
        Metric::KsD => ks_d(input),
        Metric::Chisquare => chisquare(input, params),
        _ => {
            let zero = evidently::zero(params, ZeroPolicy::Keep)?;
            let convention = Convention { metric: distance::Metric::Psi, base: Base::E, zero, edges: Edges::Given };
            if let Some((p, q)) = &input.shares {
                return Ok(Answer::value(convention.of_shares(p, q), convention.into()));
            }
            let counts = input.given_counts().map_or_else(|| Ok(input.pair_or_cells()?.counts()), Ok)?;
            Ok(Answer::value(convention.of(&counts.reference, &counts.current), convention.into()))
        }
    }
}

/// max |F−G| of numbers, or over cells in their order.
fn ks_d(input: &Input) -> Result<Answer, Refusal> {
    let stated = || Stated::counted("max |F−G|", Edges::Given);
    if let Some(counts) = input.given_counts() {
        return Ok(Answer::value(Convention::KS.of(&counts.reference, &counts.current), stated()));
    }
    if let Some((p, q)) = &input.shares {
        return Ok(Answer::value(Convention::KS.of_shares(p, q), stated()));
    }
    let (d, ..) = different(&input.pair_or_cells()?.cleaned(false))?;
    Ok(Answer::value(d, Stated::raw("max |F−G| of the different values")))
}

/// max |F−G| of both sides' different values, and how many there are.
fn different(pair: &Pair) -> Result<(f64, f64, f64), Refusal> {
    let (reference, current) = pair.numbers()?;
    if reference.is_empty() || current.is_empty() {
        return Err(Refusal::peer("a sample has no values"));
    }
    let once = |values: &[f64]| {
        let mut once = float::sorted(values);
        once.dedup();
        once
    };
    let (reference, current) = (once(reference), once(current));
    Ok((ks::d(&reference, &current), reference.len() as f64, current.len() as f64))
}

/// Simple and robust at once; `value` is the one that was asked for.
pub fn l_infinity(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let factor = match params.number(&["alpha"])? {
        Some(alpha) => (-(alpha / 2.0).ln() * 1.0 / 2.0).sqrt(),
        None => params.number(&["c", "c_alpha", "factor"])?.unwrap_or(ROBUST_FACTOR),
    };
    let numeric = evidently::kind(params)?;
    let simple_only =
        params.switch(&["correct_for_low_number_of_samples", "correctForLowNumberOfSamples"])?.unwrap_or(false);
    let sizes = (params.number(&["n", "n_ref"])?, params.number(&["m", "n_cur"])?);
    let pair = input.pair.as_ref().map(|pair| pair.cleaned(false));
    let by_value = |counts: &Counts| {
        let convention = Convention { metric: distance::Metric::LInfinity, ..Convention::KS };
        let total = |side: &[f64]| side.iter().sum::<f64>();
        let simple = convention.of(&counts.reference, &counts.current);
        (simple, total(&counts.reference), total(&counts.current))
    };
    let (simple, n, m) = match (input.given_counts(), &input.shares, &pair) {
        (Some(counts), ..) => by_value(&counts),
        (None, Some((p, q)), _) => {
            let simple = p.iter().zip(q).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max);
            (simple, f64::NAN, f64::NAN)
        }
        (None, None, Some(pair)) if numeric.unwrap_or(true) && pair.reference.is_numeric() => different(pair)?,
        (None, None, Some(pair)) => by_value(&pair.counts()),
        _ => return Err(Refusal::input("this metric needs ref and cur, ref_counts and cur_counts, or p and q")),
    };
    let (n, m) = (sizes.0.unwrap_or(n), sizes.1.unwrap_or(m));
    let correction = factor * ((n + m) / (n * m)).sqrt();
    let robust = simple - correction;
    let robust = if robust.is_nan() { robust } else { robust.max(0.0) };
    if robust.is_nan() && metric == Metric::LInfinityRobust && input.shares.is_some() {
        return Err(Refusal::input("linf_robust needs the sample sizes: give counts, or n and m with p and q"));
    }
    let stated = Stated::counted(
        format!(
            "max |p−q| by value or max |F−G| of the different numbers; robust: less {factor} √((n+m)/(nm)), at least 0"
        ),
        Edges::Categories,
    );
    let value = if metric == Metric::LInfinityRobust && !simple_only { robust } else { simple };
    Ok(Answer::new(&[("robust", robust), ("simple", simple), ("value", value)], stated))
}

fn chisquare(input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let least = params.number(&["abs_threshold_yates"])?.unwrap_or(EXPECTED_MIN);
    let share = params.number(&["perc_threshold_yates"])?.unwrap_or(EXPECTED_SHARE);
    let least_of_two = params.number(&["abs_threshold_cochran"])?.unwrap_or(EXPECTED_MIN_OF_TWO);
    let counts = input.counts()?;
    let expected_total: f64 = counts.reference.iter().sum();
    // Current categories that the reference does not know are in no cell.
    let current = counts.current.into_iter().map(|count| (count > 0.0).then_some(count));
    let (mut cells, unknown): (Vec<(f64, Option<f64>)>, Vec<_>) =
        counts.reference.into_iter().zip(current).partition(|(reference, _)| *reference > 0.0);
    let total: f64 = cells.iter().filter_map(|cell| cell.1).sum();
    cells.iter_mut().for_each(|cell| cell.0 = cell.0 / expected_total * total);
    let rare = |cells: usize| if cells == 2 { (least_of_two, 0) } else { (least, (share * cells as f64) as usize) };
    merge_rare(&mut cells, rare);
    let stated = Stated::counted(
        "current counts against the reference's scaled to the same total, rare categories merged, χ² tail with k−1 degrees of freedom",
        Edges::Categories,
    );
    // It looks at what current has, unknown ones included; what then fails for want of cells is Spark's test.
    if unknown.iter().chain(&cells).filter(|cell| cell.1.is_some()).count() < 2 {
        let nan = Tested { stat: f64::NAN, p: f64::NAN, dof: f64::NAN };
        return Ok(tested(nan, f64::NAN, stated));
    }
    if cells.len() < 2 {
        return Err(Refusal::peer("fewer than two categories of the reference are left to test"));
    }
    let stat = cells.iter().map(|(e, o)| (o.unwrap_or(0.0) - e).powi(2) / e).sum();
    let dof = (cells.len() - 1) as f64;
    let p = chi2_sf(stat, dof);
    Ok(tested(Tested { stat, p, dof }, p, stated))
}

/// Adds the cell with the smallest expected count to the second smallest, until no more of them are rare than may be: of so many
/// cells those below the first number, and as many as the second.
fn merge_rare(cells: &mut Vec<(f64, Option<f64>)>, rare: impl Fn(usize) -> (f64, usize)) {
    // Expected counts are not negative, so that their bits are in their order; the earlier of two equal ones is the smaller.
    let mut order: BTreeSet<(u64, usize)> = cells.iter().enumerate().map(|(at, cell)| (cell.0.to_bits(), at)).collect();
    let below = |order: &BTreeSet<(u64, usize)>, least: f64| {
        order.iter().take_while(|(bits, _)| f64::from_bits(*bits) < least).count()
    };
    let (mut least, mut may) = rare(order.len());
    let mut many = below(&order, least);
    while order.len() >= 2 && many > may {
        let (Some((smallest, at)), Some((second, next))) = (order.pop_first(), order.pop_first()) else { break };
        let merged = f64::from_bits(second) + f64::from_bits(smallest);
        cells[next] = (merged, Some(cells[at].1.unwrap_or(0.0) + cells[next].1.unwrap_or(0.0)));
        order.insert((merged.to_bits(), next));
        let before = least;
        (least, may) = rare(order.len());
        if least == before {
            many -= [f64::from_bits(smallest), f64::from_bits(second)].iter().filter(|e| **e < least).count();
            many += usize::from(merged < least);
        } else {
            many = below(&order, least);
        }
    }
    let mut left: Vec<usize> = order.into_iter().map(|(_, at)| at).collect();
    left.sort_unstable();
    *cells = left.into_iter().map(|at| cells[at]).collect();
}

#[cfg(test)]
mod tests {
    use crate::compare::case::line;
    use serde_json::{Value, json};

    fn answer(metric: &str, input: &Value) -> Value {
        line(&json!({"as": "deequ", "metric": metric, "input": input}).to_string())
    }

    #[test]
    fn equal_values_count_once() {
        let same = json!({"ref": [1, 1, 1, 2], "cur": [1, 2, 2, 2]});
        assert_eq!(answer("ks_d", &same)["value"], 0.0);
        // Of 1 2 against 1 2 3 the functions differ most at 2: 1 and 2/3.
        let ties = json!({"ref": [1, 1, 1, 2], "cur": [1, 2, 2, 3]});
        for metric in ["ks_d", "l_infinity"] {
            assert!((answer(metric, &ties)["value"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-15);
        }
        assert_eq!(answer("ks_d", &json!({"ref": [], "cur": [1, 2]}))["error"], "a sample has no values");
    }

    #[test]
    fn many_rare_categories_are_merged_soon() {
        let of =
            |many: usize| answer("chisquare_p", &json!({"ref_counts": vec![1; many], "cur_counts": vec![1; many]}));
        // The cells that the restated rule of tests/peers leaves.
        assert_eq!([100, 1000, 3000].map(|many| of(many)["dof"].clone()), [json!(12.0), json!(137.0), json!(415.0)]);
        // Minutes, if every step looked at all of them.
        assert_eq!(of(200_000)["stat"], 0.0);
    }

    #[test]
    fn a_test_needs_two_categories_on_either_side() {
        let of = |reference: [u32; 2], current: [u32; 3]| {
            let [a, b] = reference;
            let [c, d, e] = current;
            answer("chisquare_p", &json!({"ref_counts": [a, b, 0], "cur_counts": [c, d, e]}))
        };
        assert_eq!(of([40, 40], [60, 0, 0])["value"], "NaN");
        // One of current's categories is unknown to the reference, which has one.
        assert!(of([40, 0], [20, 20, 0])["error"].is_string());
        // Expected 30 and 30, and the unknown one in no cell: 2·10²/30.
        let stat = of([40, 40], [20, 40, 7])["stat"].as_f64().unwrap();
        assert!((stat - 20.0 / 3.0).abs() < 1e-14, "{stat}");
    }
}
