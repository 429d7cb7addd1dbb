//! What a case compares: samples, counts, shares, a table, or one series; under the names that each tool's people use.

use super::Refusal;
use super::sample::{Counts, Key, Pair, Sample, number, numbers};
use serde_json::Value;
use std::collections::BTreeMap;

const REFERENCE: &[&str] = &["ref", "reference", "baseline", "data1", "u_values", "u"];
const CURRENT: &[&str] = &["cur", "current", "data2", "v_values", "v"];
const REFERENCE_COUNTS: &[&str] = &["ref_counts", "reference_counts", "f_exp", "expected"];
const CURRENT_COUNTS: &[&str] = &["cur_counts", "current_counts", "f_obs", "observed_counts"];
const P: &[&str] = &["p", "pk", "ref_shares"];
const Q: &[&str] = &["q", "qk", "cur_shares"];
const TABLE: &[&str] = &["table", "observed"];
const SERIES: &[&str] = &["x", "series", "values", "a", "data", "d"];
const SIZE: &[&str] = &["n", "size"];
const REFERENCE_WEIGHTS: &[&str] = &["ref_weights", "u_weights"];
const CURRENT_WEIGHTS: &[&str] = &["cur_weights", "v_weights"];

/// Everything a case brought along.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    /// Two raw samples.
    pub pair: Option<Pair>,
    /// Counts on common cells.
    pub counts: Option<Counts>,
    /// Shares on common cells.
    pub shares: Option<(Vec<f64>, Vec<f64>)>,
    /// Rows of counts.
    pub table: Option<Vec<Vec<f64>>>,
    /// One series.
    pub series: Option<Sample>,
    /// A sample size, for a distribution.
    pub size: Option<f64>,
    /// Weights of the two samples' values.
    pub weights: (Option<Vec<f64>>, Option<Vec<f64>>),
}

impl Input {
    /// From a case's `input`.
    pub fn parse(value: &Value) -> Result<Self, Refusal> {
        let Some(fields) = value.as_object() else {
            return Err(Refusal::input("input must be an object, such as {\"ref\":[…],\"cur\":[…]}"));
        };
        let all = [
            REFERENCE,
            CURRENT,
            REFERENCE_COUNTS,
            CURRENT_COUNTS,
            P,
            Q,
            TABLE,
            SERIES,
            SIZE,
            REFERENCE_WEIGHTS,
            CURRENT_WEIGHTS,
        ];
        if let Some(unknown) = fields.keys().find(|k| !all.iter().any(|names| names.contains(&k.as_str()))) {
            return Err(Refusal::input(format!(
                "there is no input {unknown}; give ref and cur, ref_counts and cur_counts, p and q, table, or x"
            )));
        }
        let field = |names: &[&str]| names.iter().find_map(|&n| fields.get(n)).filter(|v| !v.is_null());
        let both = |one: &[&str], other: &[&str]| match (field(one), field(other)) {
            (Some(a), Some(b)) => Ok(Some((a, b))),
            (None, None) => Ok(None),
            _ => Err(Refusal::input(format!("input needs both {} and {}", one[0], other[0]))),
        };
        let mut input = Self::default();
        if let Some((reference, current)) = both(REFERENCE, CURRENT)? {
            input.pair = Some(Pair::new(Sample::parse(reference, "ref")?, Sample::parse(current, "cur")?));
        }
        if let (Some(observed), None) = (field(CURRENT_COUNTS), field(REFERENCE_COUNTS)) {
            // Observed counts alone are tested against equal ones.
            input.table = Some(vec![numbers(observed, "cur_counts")?]);
        } else if let Some((reference, current)) = both(REFERENCE_COUNTS, CURRENT_COUNTS)? {
            input.counts = Some(counts(reference, current)?);
        }
        if let Some((p, q)) = both(P, Q)? {
            input.shares = Some(equally_long(numbers(p, "p")?, numbers(q, "q")?)?);
        }
        if let Some(table) = field(TABLE) {
            input.table = Some(rows(table)?);
        }
        if let Some(series) = field(SERIES) {
            let one = Value::Array(vec![series.clone()]);
            input.series = Some(Sample::parse(if series.is_array() { series } else { &one }, "x")?);
        }
        input.size = field(SIZE).and_then(number);
        let weights = |names| field(names).map(|v| numbers(v, "weights")).transpose();
        input.weights = (weights(REFERENCE_WEIGHTS)?, weights(CURRENT_WEIGHTS)?);
        Ok(input)
    }

    /// The two samples, or an error that asks for them.
    pub fn pair(&self) -> Result<&Pair, Refusal> {
        self.pair.as_ref().ok_or_else(|| Refusal::input("this metric needs the raw samples ref and cur"))
    }

    /// The two samples for a figure on cells, which could also have been given as counts or shares.
    pub fn pair_or_cells(&self) -> Result<&Pair, Refusal> {
        self.pair.as_ref().ok_or_else(|| {
            Refusal::input(
                "this metric needs the raw samples ref and cur, counts as ref_counts and cur_counts or as a table of two rows, \
                 or shares as p and q",
            )
        })
    }

    /// Counts that were given as such, in a table of two rows included.
    pub fn given_counts(&self) -> Option<Counts> {
        if let Some(counts) = &self.counts {
            return Some(counts.clone());
        }
        match self.table.as_deref() {
            Some([reference, current]) if reference.len() == current.len() => Some(Counts {
                keys: (0..reference.len()).map(|i| Key::Number(i as f64)).collect(),
                reference: reference.clone(),
                current: current.clone(),
            }),
            _ => None,
        }
    }

    /// Given counts, or those of the samples' different values; missing values are not counted.
    pub fn counts(&self) -> Result<Counts, Refusal> {
        if let Some(given) = self.given_counts() {
            return Ok(given);
        }
        match &self.pair {
            Some(pair) => Ok(pair.counts()),
            None => Err(Refusal::input("this metric needs ref_counts and cur_counts, or ref and cur")),
        }
    }
}

fn equally_long(a: Vec<f64>, b: Vec<f64>) -> Result<(Vec<f64>, Vec<f64>), Refusal> {
    if a.len() == b.len() {
        return Ok((a, b));
    }
    Err(Refusal::input(format!("both sides must have equally many cells, not {} and {}", a.len(), b.len())))
}

/// Two arrays on the same cells, or two objects from category to count.
fn counts(reference: &Value, current: &Value) -> Result<Counts, Refusal> {
    let (Some(a), Some(b)) = (reference.as_object(), current.as_object()) else {
        let (reference, current) = equally_long(numbers(reference, "ref_counts")?, numbers(current, "cur_counts")?)?;
        return Ok(Counts { keys: (0..reference.len()).map(|i| Key::Number(i as f64)).collect(), reference, current });
    };
    let mut table: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let wrong = |key: &str| Refusal::input(format!("the count of {key} is no number"));
    for (key, count) in a {
        table.entry(key).or_default().0 = count.as_f64().ok_or_else(|| wrong(key))?;
    }
    for (key, count) in b {
        table.entry(key).or_default().1 = count.as_f64().ok_or_else(|| wrong(key))?;
    }
    Ok(Counts {
        keys: table.keys().map(|&k| Key::Label(k.to_owned())).collect(),
        reference: table.values().map(|c| c.0).collect(),
        current: table.values().map(|c| c.1).collect(),
    })
}

fn rows(table: &Value) -> Result<Vec<Vec<f64>>, Refusal> {
    let list = table.as_array().ok_or_else(|| Refusal::input("table must be an array of rows"))?;
    if !list.iter().any(Value::is_array) {
        return Ok(vec![numbers(table, "table")?]);
    }
    list.iter().map(|row| numbers(row, "a row of the table")).collect()
}
