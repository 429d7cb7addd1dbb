//! Evidently 0.7 (`evidently.legacy.calculations.stattests`).
//!
//! Infinities become missing and missing values are dropped first. Numbers with more than 20 different reference values are counted
//! on numpy's sturges edges of both samples together, everything else by value. The rule by which it chooses a test per
//! column is [`choice`].

use super::edges::{self, Bins};
use super::float;
use super::input::Input;
use super::ks::{self, Alternative, Method};
use super::params::Params;
use super::sample::{Counts, Pair, Sample};
use super::scipy::{self, base, edges_answer, joint, ks_answer, tested};
use super::stated::Stated;
use super::tables::{self, Lambda};
use super::{Answer, Metric, Refusal, mmd, transport};
use driftline_shared::drift::distance::{self, Base, Convention, Edges, ZeroPolicy};

/// What Evidently has.
pub const METRICS: &[Metric] = &[
    Metric::Psi,
    Metric::Js,
    Metric::Kl,
    Metric::Hellinger,
    Metric::Ks,
    Metric::KsD,
    Metric::WassersteinNorm,
    Metric::Energy,
    Metric::Chisquare,
    Metric::G,
    Metric::Z,
    Metric::TotalVariation,
    Metric::Mmd,
    Metric::Edges,
];

/// Up to so many different reference values numbers are counted by value.
const VALUES_BY_ONE_MAX: usize = 20;
/// Up to so many reference rows it tests; above it measures.
const ROWS_TESTED_MAX: usize = 1000;
/// Whole numbers with up to so many different values are categories.
const INTEGERS_FEW: usize = 10;
/// Up to so many different values a number is treated as a category when choosing.
const VALUES_FEW: usize = 5;
/// Smallest standard deviation that Wasserstein-1 is divided by.
const NORM_MIN: f64 = 0.001;

/// Answers as Evidently.
pub fn answer(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    // Its tests take a limit, which changes no figure.
    params.number(&["threshold"])?;
    match metric {
        Metric::Psi | Metric::Js | Metric::Kl => on_cells(metric, input, params),
        Metric::Hellinger => hellinger(input, params),
        Metric::Chisquare | Metric::G | Metric::Z | Metric::TotalVariation => on_categories(metric, input),
        Metric::Edges => {
            let (values, integer) = match &input.series {
                Some(series) => (series.cleaned(true).numbers()?.0.to_vec(), series.numbers()?.1),
                None => joint(&cleaned(input)?)?,
            };
            let bins = scipy::bins(params, Bins::Sturges)?;
            Ok(edges_answer(edges::edges(&values, integer, bins)?, "numpy sturges edges of both samples"))
        }
        _ => on_values(metric, input, params),
    }
}

/// The test it chooses for a column, and whether it takes it for numbers: current says what kind of column it is, then the
/// reference's rows and the number of different values decide.
pub fn choice(input: &Input, params: &Params<'_>) -> Result<(Metric, bool), Refusal> {
    let Ok(pair) = cleaned(input) else { return Ok((Metric::Psi, true)) };
    let distinct = pair.current.distinct();
    let numeric = match (kind(params)?, &pair.current) {
        (Some(said), _) => said && pair.reference.is_numeric(),
        (None, Sample::Numbers { integer, .. }) => !integer || distinct > INTEGERS_FEW,
        (None, Sample::Labels(labels)) if 2 * distinct > labels.len() => {
            let why = "Evidently takes it for text, since more than half of its values are different, and learns to tell texts apart; name a metric";
            return Err(Refusal::peer(why));
        }
        (None, Sample::Labels(_)) => false,
    };
    let values = pair.counts().keys.len();
    let tested = pair.reference.len() <= ROWS_TESTED_MAX;
    let metric = match (tested, numeric && values > VALUES_FEW) {
        (true, true) => Metric::Ks,
        (true, false) if values > 2 => Metric::Chisquare,
        (true, false) => Metric::Z,
        (false, true) => Metric::WassersteinNorm,
        (false, false) => Metric::Js,
    };
    Ok((metric, numeric))
}

/// Both samples as its drift calculation hands them on; empty ones are an error there.
fn cleaned(input: &Input) -> Result<Pair, Refusal> {
    let pair = input.pair()?.cleaned(true);
    for (side, sample) in [("reference", &pair.reference), ("current", &pair.current)] {
        if sample.is_empty() {
            return Err(Refusal::peer(format!("the {side} sample is empty once missing values are dropped")));
        }
    }
    Ok(pair)
}

/// Treated as numbers rather than categories.
fn numeric(params: &Params<'_>, pair: &Pair) -> Result<bool, Refusal> {
    Ok(kind(params)?.unwrap_or(pair.reference.is_numeric()) && pair.reference.is_numeric())
}

/// What a case says about the kind of its column: `Some(true)` for numbers.
pub fn kind(params: &Params<'_>) -> Result<Option<bool>, Refusal> {
    let words = [
        ("num", true),
        ("numerical", true),
        ("numeric", true),
        ("continuous", true),
        ("cat", false),
        ("categorical", false),
    ];
    if let Some(categorical) = params.get(&["categorical"]).and_then(|v| v.as_bool()) {
        return Ok(Some(!categorical));
    }
    params.word(&["feature_type", "column_type", "type", "kind", "categorical"], &words)
}

/// A case's `zero` policy with its `eps`, or the tool's own.
pub fn zero(params: &Params<'_>, own: ZeroPolicy) -> Result<ZeroPolicy, Refusal> {
    let names = ["zero", "zero_policy"];
    let eps = params.number(&["eps", "epsilon", "floor"])?;
    // Also as one word, such as floor(0.01) or add_eps:1e-10.
    let word = params.get(&names).and_then(|v| v.as_str()).unwrap_or("");
    let (name, amount) = word.split_once(['(', ':']).unwrap_or((word, ""));
    let amount: Option<f64> = amount.trim_end_matches(')').trim().parse().ok();
    let eps = amount.or(eps);
    let words = [
        ("evidently", ZeroPolicy::Evidently),
        ("floor", ZeroPolicy::Floor(eps.unwrap_or(0.01))),
        ("min_positive", ZeroPolicy::MinPositive),
        ("minpositive", ZeroPolicy::MinPositive),
        ("frouros", ZeroPolicy::MinPositive),
        ("add_eps", ZeroPolicy::AddEps(eps.unwrap_or(1e-10))),
        ("addeps", ZeroPolicy::AddEps(eps.unwrap_or(1e-10))),
        ("add", ZeroPolicy::AddEps(eps.unwrap_or(1e-10))),
        ("scouter", ZeroPolicy::AddEps(1e-10)),
        ("deepchecks", ZeroPolicy::Floor(0.01)),
        ("jeffreys", ZeroPolicy::Jeffreys),
        ("keep", ZeroPolicy::Keep),
        ("none", ZeroPolicy::Keep),
    ];
    if amount.is_some() {
        let known = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(name.trim()));
        return known
            .map(|(_, policy)| *policy)
            .ok_or_else(|| Refusal::input(format!("there is no zero policy {word}")));
    }
    Ok(params.word(&names, &words)?.unwrap_or(own))
}

fn on_cells(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let (metric, own) = match metric {
        Metric::Psi => (distance::Metric::Psi, ZeroPolicy::Evidently),
        Metric::Js => (distance::Metric::Js, ZeroPolicy::Keep),
        _ => (distance::Metric::Kl, ZeroPolicy::Evidently),
    };
    let base = if metric == distance::Metric::Js { base(params, Base::E)? } else { Base::E };
    // Its functions take a number of cells and do not use it.
    params.get(&["n_bins", "bins", "n"]);
    let convention = Convention { metric, base, zero: zero(params, own)?, edges: Edges::Given };
    if let Some((p, q)) = &input.shares {
        return Ok(Answer::value(convention.of_shares(p, q), convention.into()));
    }
    if let Some(counts) = input.given_counts() {
        return Ok(Answer::value(convention.of(&counts.reference, &counts.current), convention.into()));
    }
    input.pair_or_cells()?;
    let pair = cleaned(input)?;
    if !numeric(params, &pair)? || pair.reference.distinct() <= VALUES_BY_ONE_MAX {
        let counts = pair.counts();
        let convention = Convention { edges: Edges::Categories, ..convention };
        return Ok(Answer::value(convention.of(&counts.reference, &counts.current), convention.into()));
    }
    let (all, integer) = joint(&pair)?;
    let edges = edges::edges(&all, integer, Bins::Sturges)?;
    let count = |sample: &Sample| Ok(edges::histogram(&float::sorted(sample.numbers()?.0), &edges));
    let convention = Convention { edges: Edges::SturgesJoint, ..convention };
    Ok(Answer::value(convention.of(&count(&pair.reference)?, &count(&pair.current)?), convention.into()))
}

/// √(1 − Σ √(pq)), the sum clipped to [0, 1]; numbers on sturges edges of the set of different values, by density.
fn hellinger(input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let root = |overlap: f64| (1.0 - overlap.clamp(0.0, 1.0)).sqrt();
    let by_value = |counts: &Counts| {
        let (n, m): (f64, f64) = (counts.reference.iter().sum(), counts.current.iter().sum());
        let terms = counts.reference.iter().zip(&counts.current).map(|(a, b)| ((a / n) * (b / m)).sqrt());
        root(terms.fold(0.0, |sum, t| sum + t))
    };
    let stated = |edges| Stated::counted("√(1 − Σ √(pq))", edges);
    if let Some((p, q)) = &input.shares {
        let overlap = p.iter().zip(q).fold(0.0, |sum, (p, q)| sum + (p * q).sqrt());
        return Ok(Answer::value(root(overlap), stated(Edges::Given)));
    }
    if let Some(counts) = input.given_counts() {
        return Ok(Answer::value(by_value(&counts), stated(Edges::Given)));
    }
    let pair = cleaned(input)?;
    if !numeric(params, &pair)? {
        return Ok(Answer::value(by_value(&pair.counts()), stated(Edges::Categories)));
    }
    let (mut values, integer) = joint(&pair)?;
    float::sort(&mut values);
    values.dedup();
    let edges = edges::edges(&values, integer, Bins::Sturges)?;
    let density = |values: &[f64]| -> Vec<f64> {
        let counts = edges::histogram(&float::sorted(values), &edges);
        let total = counts.iter().sum::<f64>();
        counts.iter().zip(edges.windows(2)).map(|(n, e)| n / (e[1] - e[0]) / total).collect()
    };
    let (reference, current) = pair.numbers()?;
    let (p, q) = (density(reference), density(current));
    let width = (edges[edges.len() - 1] - edges[0]) / (edges.len() - 1) as f64;
    let overlap = p.iter().zip(&q).fold(0.0, |sum, (p, q)| sum + (p * q).sqrt() * width);
    let mut stated = stated(Edges::SturgesJoint);
    stated.edges.push_str(", each value once");
    Ok(Answer::value(root(overlap), stated))
}

/// Current counts against the reference's, scaled to the same total.
pub fn scaled(lambda: Lambda, counts: &Counts) -> Result<Answer, Refusal> {
    let scale = counts.current.iter().sum::<f64>() / counts.reference.iter().sum::<f64>();
    let expected: Vec<f64> = counts.reference.iter().map(|c| c * scale).collect();
    let found = tables::one_sample(&counts.current, Some(&expected), lambda, 0.0)?;
    let formula =
        "current counts against the reference's scaled to the same total, χ² tail with k−1 degrees of freedom";
    Ok(tested(found, found.p, Stated::counted(formula, Edges::Categories)))
}

fn on_categories(metric: Metric, input: &Input) -> Result<Answer, Refusal> {
    let (metric_of, edges) = (distance::Metric::TotalVariation, Edges::Categories);
    let convention = Convention { metric: metric_of, base: Base::E, zero: ZeroPolicy::Keep, edges };
    if let (Metric::TotalVariation, Some((p, q))) = (metric, &input.shares) {
        return Ok(Answer::value(convention.of_shares(p, q), convention.into()));
    }
    let counts = match input.given_counts() {
        Some(given) => given,
        None if input.pair.is_none() => {
            return Err(Refusal::input("this metric needs ref and cur, or ref_counts and cur_counts"));
        }
        None => cleaned(input)?.counts(),
    };
    let (n, m): (f64, f64) = (counts.reference.iter().sum(), counts.current.iter().sum());
    match metric {
        Metric::Chisquare => scaled(Lambda::PEARSON, &counts),
        Metric::G => {
            let found = tables::one_sample(&counts.current, Some(&counts.reference), Lambda::G, 0.0)?;
            let formula =
                "2 Σ o ln(o/e) with the reference's counts as they are, so both sides must have equally many rows";
            Ok(tested(found, found.p, Stated::counted(formula, Edges::Categories)))
        }
        Metric::Z => {
            let stated = Stated::counted(
                "share of all values but the first, pooled variance, 2 (1 − Φ(|z|))",
                Edges::Categories,
            );
            if counts.keys.len() == 1 {
                return Ok(Answer::new(&[("p", 1.0), ("value", 1.0)], stated));
            }
            let first = |side: &[f64]| side.first().copied().unwrap_or(0.0);
            let hits = (n - first(&counts.reference), m - first(&counts.current));
            let (z, p) = tables::two_proportions(hits, (n, m));
            Ok(Answer::new(&[("stat", z), ("p", p), ("value", p)], stated))
        }
        _ => Ok(Answer::value(convention.of(&counts.reference, &counts.current), convention.into())),
    }
}

fn on_values(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let (method, alternative) = match metric {
        Metric::Ks | Metric::KsD => scipy::ks_params(params)?,
        _ => (Method::Auto, Alternative::TwoSided),
    };
    let sigma = if metric == Metric::Mmd { params.number(&["sigma", "bandwidth", "pass_sigma"])? } else { None };
    let pair = cleaned(input)?;
    let (reference, current) = pair.numbers()?;
    match metric {
        Metric::Ks | Metric::KsD => {
            let (d, p) = ks::two_sample(reference, current, method, alternative);
            Ok(ks_answer(d, p, metric))
        }
        Metric::WassersteinNorm => {
            let norm = float::std(reference);
            let norm = if NORM_MIN > norm { NORM_MIN } else { norm };
            let stated = Stated::raw("∫ |F−G| over the reference's standard deviation (ddof 0, at least 0.001)");
            Ok(Answer::value(transport::wasserstein(reference, current)? / norm, stated))
        }
        Metric::Energy => Ok(Answer::value(transport::energy(reference, current)?, Stated::raw("√(2 ∫ (F−G)²)"))),
        _ => {
            let found = mmd::unbiased(reference, current, sigma)?;
            let stated =
                Stated::raw("unbiased MMD², Gaussian kernel, σ² half the median squared distance within the reference");
            Ok(Answer::new(&[("mmd2", found.mmd2), ("sigma", found.sigma), ("value", found.mmd2)], stated))
        }
    }
}
