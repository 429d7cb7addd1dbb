//! scipy's functions and numpy's edges: `ks_2samp`, `kstwo.sf`, `wasserstein_distance`, `energy_distance`, `chisquare`,
//! `power_divergence`, `chi2_contingency`, `entropy`, `jensenshannon`, `histogram_bin_edges`.
//!
//! NaN propagates as there: the tests answer NaN, sorted values keep NaN last; `nan_policy` is where scipy has it. What scipy takes as vectors (shares, counts) can be
//! given as p and q, as counts, or as ref and cur; labels are counted first.

use super::edges::{self, Bins};
use super::input::Input;
use super::ks::{self, Alternative, Method};
use super::params::Params;
use super::stated::Stated;
use super::tables::{self, Lambda, Tested};
use super::transport::{self, Weighted};
use super::{Answer, Figure, Metric, Refusal, kolmogorov};
use driftline_shared::drift::distance::{self, Base, Convention, Edges, ZeroPolicy};

/// Most statistics that one case of `kstwo_sf` may have.
const TAILS_MAX: usize = 10_000;
/// Most terms that all of them together may take: some seconds.
const TAIL_TERMS_MAX: f64 = 1e7;

/// What scipy and numpy have.
pub const METRICS: &[Metric] = &[
    Metric::Ks,
    Metric::KsD,
    Metric::KstwoSf,
    Metric::Js,
    Metric::Kl,
    Metric::Wasserstein,
    Metric::Energy,
    Metric::Chisquare,
    Metric::Contingency,
    Metric::G,
    Metric::Edges,
];

/// Answers as scipy.
pub fn answer(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    match metric {
        Metric::Ks | Metric::KsD => ks_2samp(input, params, metric),
        Metric::KstwoSf => kstwo_sf(input, params),
        Metric::Js | Metric::Kl => entropies(metric, input, params),
        Metric::Wasserstein | Metric::Energy => moved(metric, input),
        Metric::Chisquare | Metric::G => one_sample(metric, input, params),
        Metric::Contingency => contingency(input, params),
        _ => bin_edges(input, params),
    }
}

/// What NaN does to a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NanPolicy {
    Propagate,
    Omit,
    Raise,
}

impl NanPolicy {
    fn new(params: &Params<'_>) -> Result<Self, Refusal> {
        let policies = [("propagate", Self::Propagate), ("omit", Self::Omit), ("raise", Self::Raise)];
        Ok(params.word(&["nan_policy"], &policies)?.unwrap_or(Self::Propagate))
    }

    /// What is left of values, `N` of which belong together.
    fn left<const N: usize>(self, rows: impl Iterator<Item = [f64; N]>) -> Result<Vec<[f64; N]>, Refusal> {
        let (missing, there): (Vec<_>, Vec<_>) = match self {
            Self::Propagate => (Vec::new(), rows.collect()),
            Self::Omit | Self::Raise => rows.partition(|row| row.iter().any(|v| v.is_nan())),
        };
        if self == Self::Raise && !missing.is_empty() {
            return Err(Refusal::peer("the input contains NaN, and nan_policy is raise"));
        }
        Ok(there)
    }

    /// What is left of two vectors.
    fn pairs(self, p: &[f64], q: &[f64]) -> Result<(Vec<f64>, Vec<f64>), Refusal> {
        Ok(self.left(p.iter().zip(q).map(|(&p, &q)| [p, q]))?.into_iter().map(|[p, q]| (p, q)).unzip())
    }
}

fn ks_2samp(input: &Input, params: &Params<'_>, metric: Metric) -> Result<Answer, Refusal> {
    let (method, alternative) = ks_params(params)?;
    let policy = NanPolicy::new(params)?;
    let (reference, current) = input.pair()?.numbers()?;
    let left = |values: &[f64]| Ok(policy.left(values.iter().map(|&v| [v]))?.concat());
    let (reference, current) = (left(reference)?, left(current)?);
    let missing = reference.iter().chain(&current).any(|v| v.is_nan());
    let (d, p) = if missing { (f64::NAN, f64::NAN) } else { ks::two_sample(&reference, &current, method, alternative) };
    Ok(ks_answer(d, p, metric))
}

/// `method` and `alternative`.
pub fn ks_params(params: &Params<'_>) -> Result<(Method, Alternative), Refusal> {
    let methods = [
        ("auto", Method::Auto),
        ("exact", Method::Exact),
        ("asymp", Method::Asymptotic),
        ("asymptotic", Method::Asymptotic),
        ("approx", Method::Asymptotic),
    ];
    let alternatives = [
        ("two-sided", Alternative::TwoSided),
        ("two_sided", Alternative::TwoSided),
        ("less", Alternative::Less),
        ("greater", Alternative::Greater),
    ];
    let method = params.word(&["method", "mode"], &methods)?.unwrap_or(Method::Auto);
    Ok((method, params.word(&["alternative"], &alternatives)?.unwrap_or(Alternative::TwoSided)))
}

/// D and p, or D alone where only that was asked for.
pub fn ks_answer(d: f64, p: f64, metric: Metric) -> Answer {
    if metric == Metric::KsD {
        return Answer::new(&[("value", d), ("d", d)], Stated::raw("max |F−G|"));
    }
    let stated = Stated::raw("max |F−G|; p exact up to 10 000 rows, above by the limit for nm/(n+m) rows");
    Answer::new(&[("d", d), ("p", p), ("statistic", d), ("value", p)], stated)
}

fn kstwo_sf(input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let given = params.number(&["d", "x", "statistic", "D", "stat"])?;
    let n = params.number(&["n", "N", "size"])?.or(input.size);
    let n = n.ok_or_else(|| Refusal::input("kstwo_sf needs the sample size n"))?;
    let stated = Stated::raw("P(D_n ≥ d), two-sided, one sample of n");
    if let Some(d) = given {
        return Ok(Answer::value(kolmogorov::sf(d, n), stated));
    }
    let Some(series) = &input.series else { return Err(Refusal::input("kstwo_sf needs the statistic d")) };
    if series.len() > TAILS_MAX {
        return Err(Refusal::input(format!("kstwo_sf takes at most {TAILS_MAX} statistics at once")));
    }
    if series.len() as f64 * kolmogorov::terms(n) > TAIL_TERMS_MAX {
        let most = (TAIL_TERMS_MAX / kolmogorov::terms(n)).floor();
        return Err(Refusal::input(format!(
            "kstwo_sf takes at most {most} statistics at once for n = {n}, not {}; split them",
            series.len()
        )));
    }
    let values: Vec<f64> = series.numbers()?.0.iter().map(|&d| kolmogorov::sf(d, n)).collect();
    match values.as_slice() {
        [one] => Ok(Answer::value(*one, stated)),
        _ => Ok(Answer { figures: vec![("value", Figure::Numbers(values))], stated }),
    }
}

/// `base`: a number, "e" or "2"; `default` where it is not given.
pub fn base(params: &Params<'_>, default: Base) -> Result<Base, Refusal> {
    let names = ["base", "log_base", "log"];
    if params.get(&names).and_then(|v| v.as_str()).is_some_and(|s| ["e", "natural", "ln"].contains(&s)) {
        return Ok(Base::E);
    }
    match params.number(&names)? {
        None => Ok(default),
        Some(2.0) => Ok(Base::Two),
        Some(std::f64::consts::E) => Ok(Base::E),
        Some(base) if base > 0.0 => Ok(Base::Other(base)),
        Some(base) => Err(Refusal::peer(format!("the base of a logarithm must be positive, not {base}"))),
    }
}

/// Two vectors of equal length: shares, counts, or the samples themselves.
fn vectors(input: &Input) -> Result<(Vec<f64>, Vec<f64>), Refusal> {
    if let Some(shares) = &input.shares {
        return Ok(shares.clone());
    }
    let counts = |counts: super::sample::Counts| (counts.reference, counts.current);
    if let Some(given) = input.given_counts() {
        return Ok(counts(given));
    }
    let pair = input.pair()?;
    if !pair.reference.is_numeric() {
        return Ok(counts(pair.counts()));
    }
    let (p, q) = pair.numbers()?;
    if p.len() != q.len() {
        return Err(Refusal::peer(
            "scipy takes two vectors of equal length here and cuts no cells; give p and q or counts",
        ));
    }
    Ok((p.to_vec(), q.to_vec()))
}

fn entropies(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let metric = if metric == Metric::Js { distance::Metric::Js } else { distance::Metric::Kl };
    let convention = Convention { metric, base: base(params, Base::E)?, zero: ZeroPolicy::Keep, edges: Edges::Given };
    let (mut p, mut q) = vectors(input)?;
    if metric == distance::Metric::Kl {
        (p, q) = NanPolicy::new(params)?.pairs(&p, &q)?;
    }
    if p.is_empty() {
        // A sum of nothing.
        return Ok(Answer::value(0.0, convention.into()));
    }
    Ok(Answer::value(convention.of_shares(&p, &q), convention.into()))
}

fn moved(metric: Metric, input: &Input) -> Result<Answer, Refusal> {
    let (reference, current) = input.pair()?.numbers()?;
    let reference = Weighted { values: reference, weights: input.weights.0.as_deref() };
    let current = Weighted { values: current, weights: input.weights.1.as_deref() };
    if metric == Metric::Energy {
        return Ok(Answer::value(transport::energy(reference, current)?, Stated::raw("√(2 ∫ (F−G)²)")));
    }
    Ok(Answer::value(transport::wasserstein(reference, current)?, Stated::raw("∫ |F−G|")))
}

/// `lambda_` by number or scipy's name.
fn lambda(params: &Params<'_>, default: Lambda) -> Result<Lambda, Refusal> {
    let names = ["lambda_", "lambda"];
    if let Some(named) = params.get(&names).and_then(|v| v.as_str()).and_then(Lambda::by_name) {
        return Ok(named);
    }
    Ok(params.number(&names)?.map_or(default, Lambda))
}

/// All figures of a test; `value` is what the metric is named after.
pub fn tested(tested: Tested, value: f64, stated: Stated) -> Answer {
    let Tested { stat, p, dof } = tested;
    Answer::new(&[("stat", stat), ("p", p), ("dof", dof), ("value", value)], stated)
}

fn one_sample(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let power = lambda(params, if metric == Metric::G { Lambda::G } else { Lambda::PEARSON })?;
    let ddof = params.number(&["ddof"])?.unwrap_or(0.0);
    let policy = NanPolicy::new(params)?;
    let stated =
        Stated::counted("current counts against expected ones, χ² tail with k−1−ddof degrees of freedom", Edges::Given);
    if let Some([observed]) = input.table.as_deref() {
        let observed = policy.left(observed.iter().map(|&v| [v]))?.concat();
        let found = tables::one_sample(&observed, None, power, ddof)?;
        return Ok(tested(found, found.p, stated));
    }
    let (expected, observed) = match (input.given_counts(), &input.shares) {
        (Some(counts), _) => (counts.reference, counts.current),
        (None, Some((p, q))) => (p.clone(), q.clone()),
        (None, None) => {
            // Raw samples have no expected counts of their own: the reference's, scaled to the current total.
            let counts = input.counts()?;
            let scale = counts.current.iter().sum::<f64>() / counts.reference.iter().sum::<f64>();
            (counts.reference.iter().map(|c| c * scale).collect(), counts.current)
        }
    };
    let (expected, observed) = policy.pairs(&expected, &observed)?;
    let found = tables::one_sample(&observed, Some(&expected), power, ddof)?;
    Ok(tested(found, found.p, stated))
}

fn contingency(input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let correction = params.switch(&["correction", "yates", "yates_correction"])?.unwrap_or(true);
    let power = lambda(params, Lambda::PEARSON)?;
    let rows = match (&input.table, &input.shares) {
        (Some(table), _) => table.clone(),
        (None, Some((p, q))) => vec![p.clone(), q.clone()],
        (None, None) => {
            let counts = input.counts()?;
            vec![counts.reference, counts.current]
        }
    };
    let found = tables::contingency(&rows, correction, power)?;
    let yates = if correction { "with" } else { "without" };
    let formula = format!("χ² of the table, {yates} Yates' correction at one degree of freedom");
    Ok(tested(found, found.stat, Stated::counted(formula, Edges::Categories)))
}

/// `bins`: a rule's name or a number; `default` where it is not given.
pub fn bins(params: &Params<'_>, default: Bins) -> Result<Bins, Refusal> {
    let names = ["bins", "rule", "n_bins"];
    let Some(value) = params.get(&names) else { return Ok(default) };
    if let Some(rule) = value.as_str().and_then(Bins::by_name) {
        return Ok(rule);
    }
    match value.as_u64() {
        Some(n) if n > 0 => Ok(Bins::Count(usize::try_from(n).unwrap_or(usize::MAX))),
        _ => Err(Refusal::input(format!(
            "bins must be a number of cells or one of sturges, doane, auto, fd, scott, sqrt, rice, stone, not {value}"
        ))),
    }
}

fn bin_edges(input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let bins = bins(params, Bins::Count(10))?;
    let given = match params.get(&["range"]) {
        None => None,
        Some(list) => match super::sample::numbers(list, "range")?.as_slice() {
            [low, high] => Some((*low, *high)),
            _ => return Err(Refusal::input("range must be two numbers")),
        },
    };
    let (values, integer) = match (&input.series, &input.pair) {
        (Some(series), _) => {
            let (values, integer) = series.numbers()?;
            (values.to_vec(), integer)
        }
        (None, Some(pair)) => joint(pair)?,
        (None, None) => return Err(Refusal::input("histogram_bin_edges needs the values x")),
    };
    let integer = params
        .word(&["dtype"], &[("int", true), ("float", false), ("float64", false), ("int64", true)])?
        .unwrap_or(integer);
    Ok(edges_answer(edges::within(&values, integer, bins, given)?, "numpy.histogram_bin_edges"))
}

/// Both samples as one.
pub fn joint(pair: &super::sample::Pair) -> Result<(Vec<f64>, bool), Refusal> {
    let ((reference, whole), (current, too)) = (pair.reference.numbers()?, pair.current.numbers()?);
    Ok(([reference, current].concat(), whole && too))
}

/// Edges as an answer.
pub fn edges_answer(edges: Vec<f64>, formula: &str) -> Answer {
    let figures = vec![("value", Figure::Numbers(edges.clone())), ("edges", Figure::Numbers(edges))];
    Answer { figures, stated: Stated::raw(formula) }
}

#[cfg(test)]
mod tests {
    use crate::compare::case::line;
    use serde_json::{Value, json};

    #[test]
    fn missing_values_leave_pairs_together_and_only_where_scipy_has_a_policy() {
        let of = |metric: &str, policy: &str, input: &Value| {
            let params = json!({"nan_policy": policy});
            line(&json!({"as": "scipy", "metric": metric, "params": params, "input": input}).to_string())
        };
        let vectors = json!({"p": [2.0, "NaN", 1.0, 1.0], "q": [1.0, 1.0, "NaN", 2.0]});
        // Left are 2 1 and 1 2: 2/3 ln 2 − 1/3 ln 2.
        let kl = of("kl", "omit", &vectors)["value"].as_f64().unwrap();
        assert!((kl - std::f64::consts::LN_2 / 3.0).abs() < 1e-15, "{kl}");
        assert_eq!(of("kl", "raise", &vectors)["error"], "the input contains NaN, and nan_policy is raise");
        assert_eq!(of("kl", "propagate", &vectors)["value"], "NaN");
        // Left are 1 1 2 against 4/3: (1/9 + 1/9 + 4/9)/(4/3).
        let stat = of("chisquare_p", "omit", &json!({"cur_counts": [1, 1, "NaN", 2]}))["stat"].as_f64().unwrap();
        assert!((stat - 0.5).abs() < 1e-15, "{stat}");
        let why = of("wasserstein1", "omit", &json!({"ref": [1, 2], "cur": [2]}))["error"].to_string();
        assert!(why.contains("there is no parameter nan_policy"), "{why}");
    }

    #[test]
    fn kolmogorov_tails_of_large_samples_are_few_at_once() {
        let of = |n: f64, statistics: usize| {
            let x = vec![1.5e-3; statistics];
            line(&json!({"as": "scipy", "metric": "kstwo_sf", "params": {"n": n}, "input": {"x": x}}).to_string())
        };
        let why = of(1e6, 10_000)["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(why, "kstwo_sf takes at most 10 statistics at once for n = 1000000, not 10000; split them");
        assert_eq!(of(1e6, 2)["value"].as_array().map(Vec::len), Some(2));
        // Larger samples have a closed form.
        assert_eq!(of(2e6, 10_000)["value"].as_array().map(Vec::len), Some(10_000));
    }
}
