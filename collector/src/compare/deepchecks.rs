//! deepchecks 0.19 (`deepchecks.utils.distribution.drift`), written from its documented formulas.
//!
//! Missing values are dropped. Categories with less than 1 % of the reference become "Other", which itself is only kept where it
//! has more than 1 % on either side; then PSI has no share below 0.01 and Cramér's V is corrected for bias after the larger
//! sample was scaled down. Numbers: KS D, and the earth mover's distance of trimmed, scaled samples.

use super::input::Input;
use super::ks;
use super::params::Params;
use super::sample::Counts;
use super::scipy::ks_answer;
use super::stated::Stated;
use super::tables::{self, Lambda};
use super::{Answer, Metric, Refusal, evidently, transport};
use driftline_shared::drift::distance::{self, Base, Convention, Edges, ZeroPolicy};

/// What deepchecks has.
pub const METRICS: &[Metric] = &[Metric::Psi, Metric::KsD, Metric::EmdScaled, Metric::CramersV];

/// Its smallest share in PSI.
const SHARE_MIN: f64 = 0.01;
/// Categories with a smaller share of the reference become "Other".
const CATEGORY_SHARE_MIN: f64 = 0.01;
/// What its earth mover's distance leaves out at each end.
const MARGIN: f64 = 0.025;

/// The order of categories by how much their counts differ, after those by either side's counts.
const DIFFERENCE: usize = 2;

/// Answers as deepchecks.
pub fn answer(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    match metric {
        Metric::KsD => {
            let pair = input.pair()?.cleaned(false);
            let (reference, current) = pair.numbers()?;
            if reference.is_empty() || current.is_empty() {
                return Err(Refusal::peer("a sample has no values"));
            }
            Ok(ks_answer(ks::d(reference, current), f64::NAN, metric))
        }
        Metric::EmdScaled => {
            let margin = params.number(&["margin_quantile_filter", "margin", "q"])?.unwrap_or(MARGIN);
            let pair = input.pair()?.cleaned(false);
            let (reference, current) = pair.numbers()?;
            let formula = format!("∫ |F−G| after cutting {margin} at both ends of each side and scaling both to 0…1");
            Ok(Answer::value(transport::scaled(reference, current, margin)?, Stated::raw(formula)))
        }
        Metric::Psi => psi(input, params),
        _ => cramers_v(input, params),
    }
}

fn psi(input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let zero = evidently::zero(params, ZeroPolicy::Floor(SHARE_MIN))?;
    let convention = Convention { metric: distance::Metric::Psi, base: Base::E, zero, edges: Edges::Categories };
    let counts = match &input.shares {
        Some((p, q)) => return Ok(Answer::value(convention.of_shares(p, q), convention.into())),
        None => {
            if input.given_counts().is_none() {
                input.pair_or_cells()?;
            }
            categories(input, params)?
        }
    };
    Ok(Answer::value(convention.of(&counts.reference, &counts.current), convention.into()))
}

/// Given counts as they are, or categories with the rare ones put together.
fn categories(input: &Input, params: &Params<'_>) -> Result<Counts, Refusal> {
    let least = params.number(&["min_category_size_ratio"])?;
    let most = params.whole(&["max_num_categories"])?;
    let sort_by = params.word(&["sort_by"], &[("dist1", 0), ("dist2", 1), ("difference", DIFFERENCE)])?.unwrap_or(0);
    let ignore_na = params.switch(&["ignore_na"])?.unwrap_or(true);
    evidently::kind(params)?;
    if !ignore_na {
        return Err(Refusal::input("ignore_na false, missing as a category of its own, is not available"));
    }
    let (counts, least) = match input.given_counts() {
        Some(given) => (given, least.unwrap_or(0.0)),
        None => (input.counts()?, least.unwrap_or(CATEGORY_SHARE_MIN)),
    };
    if counts.keys.is_empty() {
        return Err(Refusal::peer("a sample has no values"));
    }
    let (n, m): (f64, f64) = (counts.reference.iter().sum(), counts.current.iter().sum());
    let mut cells: Vec<(f64, f64)> = counts.reference.into_iter().zip(counts.current).collect();
    let mut other = (0.0, 0.0);
    let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    if cells.len() > most {
        let weight = |cell: &(f64, f64)| [cell.0, cell.1, (cell.0 - cell.1).abs()][sort_by];
        // The order of one side knows only what occurs there. A stable sort keeps equal ones in the order of their names.
        cells.retain(|cell| sort_by == DIFFERENCE || weight(cell) > 0.0);
        cells.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        cells.truncate(most);
        other = cells.iter().fold((n, m), |rest, cell| (rest.0 - cell.0, rest.1 - cell.1));
    }
    let mut kept = Vec::new();
    for cell in cells {
        if cell.0 < n * least {
            other = (other.0 + cell.0, other.1 + cell.1);
        } else {
            kept.push(cell);
        }
    }
    if other.0 > least * n || other.1 > least * m {
        kept.push(other);
    }
    let (reference, current): (Vec<f64>, Vec<f64>) = kept.into_iter().unzip();
    Ok(Counts { keys: vec![super::sample::Key::Number(0.0); reference.len()], reference, current })
}

/// √(φ²/min(k−1, r−1)), each corrected for bias (Bergsma 2013), after the larger side was scaled to the smaller and rounded.
fn cramers_v(input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let given = input.given_counts().is_some();
    let counts = categories(input, params)?;
    let stated = Stated::counted(
        "bias-corrected Cramér's V of the table, the larger sample scaled down, Yates' correction at one degree of freedom",
        Edges::Categories,
    );
    if counts.keys.len() == 1 && !given {
        return Ok(Answer::value(0.0, stated));
    }
    let (n, m): (f64, f64) = (counts.reference.iter().sum(), counts.current.iter().sum());
    let scaled = |side: &[f64], by: f64| -> Vec<f64> {
        let scaled = side.iter().map(|c| if by < 1.0 { c * by } else { *c });
        // Whole numbers, as its table holds; given counts are cut rather than rounded.
        scaled.map(|c| if given { c.trunc() } else { c.round_ties_even() }).collect()
    };
    let (to_n, to_m) = if given { (1.0, 1.0) } else { (m / n, n / m) };
    let (reference, current) = (scaled(&counts.reference, to_n), scaled(&counts.current, to_m));
    let (a, b): (Vec<f64>, Vec<f64>) =
        reference.into_iter().zip(current).filter(|(a, b)| *a != 0.0 || *b != 0.0).unzip();
    let chi2 = tables::contingency(&[a.clone(), b.clone()], true, Lambda::PEARSON)?.stat;
    let n = a.iter().chain(&b).sum::<f64>();
    let (r, k) = (2.0, a.len() as f64);
    let phi2 = (chi2 / n - (k - 1.0) * (r - 1.0) / (n - 1.0)).max(0.0);
    let corrected = |size: f64| size - (size - 1.0).powi(2) / (n - 1.0);
    Ok(Answer::value((phi2 / (corrected(k) - 1.0).min(corrected(r) - 1.0)).sqrt(), stated))
}
