//! The two samples of a comparison, as they come from JSON or CSV, and how the peers clean and count them.
//!
//! A sample is numbers or labels; numbers remember whether all of them were written as whole numbers, because numpy gives integers
//! edges of their own. A missing value is NaN among numbers and nothing among labels.

use super::Refusal;
use serde_json::Value;
use std::collections::BTreeMap;

/// One side.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// Numbers, NaN where one is missing.
    Numbers {
        /// In the order of the rows.
        values: Vec<f64>,
        /// All were written without point or exponent, and none is missing.
        integer: bool,
    },
    /// Labels.
    Labels(Vec<Option<String>>),
}

/// A category: a number or a label, in the order in which Python sorts them.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// A number; never NaN.
    Number(f64),
    /// A label.
    Label(String),
}

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            // 0.0 and −0.0 are one category.
            (Self::Number(a), Self::Number(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Self::Label(a), Self::Label(b)) => a.cmp(b),
            (Self::Number(_), Self::Label(_)) => std::cmp::Ordering::Less,
            (Self::Label(_), Self::Number(_)) => std::cmp::Ordering::Greater,
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Counts of both sides per category, in the categories' order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    /// The categories.
    pub keys: Vec<Key>,
    /// Of the reference.
    pub reference: Vec<f64>,
    /// Of current.
    pub current: Vec<f64>,
}

/// A number that JSON cannot say, by its name.
pub fn special(text: &str) -> Option<f64> {
    Some(match text {
        "NaN" | "nan" => f64::NAN,
        "Infinity" | "+Infinity" | "inf" | "+inf" => f64::INFINITY,
        "-Infinity" | "-inf" => f64::NEG_INFINITY,
        _ => return None,
    })
}

/// One JSON value as a number; null is NaN.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(f64::NAN),
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        Value::Number(n) => n.as_f64(),
        Value::String(s) => special(s),
        _ => None,
    }
}

/// A JSON array of numbers.
pub fn numbers(value: &Value, name: &str) -> Result<Vec<f64>, Refusal> {
    let list = value.as_array().ok_or_else(|| Refusal::input(format!("{name} must be an array of numbers")))?;
    let wrong = || Refusal::input(format!("{name} has a value that is no number"));
    list.iter().map(|v| number(v).ok_or_else(wrong)).collect()
}

impl Sample {
    /// A JSON array; labels if any string in it is not the name of a number.
    pub fn parse(value: &Value, name: &str) -> Result<Self, Refusal> {
        let list = value.as_array().ok_or_else(|| Refusal::input(format!("{name} must be an array")))?;
        if let Some(wrong) = list.iter().find(|v| v.is_array() || v.is_object()) {
            return Err(Refusal::input(format!("{name} must hold numbers, strings or null, not {wrong}")));
        }
        if list.iter().all(|v| number(v).is_some() && !as_whole(v).is_some_and(too_long)) {
            let integer = !list.is_empty() && list.iter().all(|v| v.is_i64() || v.is_u64() || v.is_boolean());
            return Ok(Self::Numbers { values: list.iter().filter_map(number).collect(), integer });
        }
        let label = |v: &Value| match v {
            Value::String(s) => (s != "NaN").then(|| s.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        };
        Ok(Self::Labels(list.iter().map(label).collect()))
    }

    /// Values of a CSV column; numbers if all that are there are. Whole numbers that would not be kept exactly, such as identifiers,
    /// are labels: as numbers some of them would be the same.
    pub fn from_texts<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Self {
        let parsed: Option<Vec<f64>> = texts
            .clone()
            .map(|t| match t.trim() {
                t if missing(t) => Some(f64::NAN),
                t if t.parse().is_ok_and(too_long) => None,
                t => t.parse().ok(),
            })
            .collect();
        match parsed {
            Some(values) => {
                let integer = !values.is_empty() && texts.clone().all(|t| t.trim().parse::<i64>().is_ok());
                Self::Numbers { values, integer }
            }
            None => Self::labels(texts),
        }
    }

    /// Values of a CSV column as they stand there.
    pub fn labels<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        Self::Labels(texts.map(|t| (!missing(t.trim())).then(|| t.to_owned())).collect())
    }

    /// Truth values as 1 and 0, where there is nothing else.
    fn booleans(&self) -> Option<Self> {
        let Self::Labels(labels) = self else { return None };
        let value = |label: &Option<String>| match label.as_deref().map(str::trim) {
            Some("True" | "TRUE" | "true") => Some(1.0),
            Some("False" | "FALSE" | "false") => Some(0.0),
            _ => None,
        };
        let values: Option<Vec<f64>> = labels.iter().map(value).collect();
        Some(Self::Numbers { values: values?, integer: true })
    }

    /// Rows, missing ones included.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers { values, .. } => values.len(),
            Self::Labels(labels) => labels.len(),
        }
    }

    /// No rows at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers rather than labels.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Numbers { .. })
    }

    /// The numbers with NaN, and whether they are whole; an error for labels.
    pub fn numbers(&self) -> Result<(&[f64], bool), Refusal> {
        match self {
            Self::Numbers { values, integer } => Ok((values, *integer)),
            Self::Labels(labels) => {
                let example = labels.iter().flatten().find(|label| label.trim().parse::<f64>().is_err());
                Err(Refusal::input(match (example, labels.iter().flatten().next()) {
                    (Some(label), _) => format!("this metric needs numbers, and there are labels such as {label:?}"),
                    (None, Some(_)) => {
                        "this metric needs numbers, and there are labels or whole numbers too long to be kept exactly"
                            .into()
                    }
                    (None, None) => "this metric needs numbers, and there are labels".into(),
                }))
            }
        }
    }

    /// The same without missing values and, if `finite`, without infinities.
    pub fn cleaned(&self, finite: bool) -> Self {
        match self {
            Self::Numbers { values, integer } => Self::Numbers {
                values: values.iter().copied().filter(|v| !v.is_nan() && (!finite || v.is_finite())).collect(),
                integer: *integer,
            },
            Self::Labels(labels) => Self::Labels(labels.iter().filter(|l| l.is_some()).cloned().collect()),
        }
    }

    /// The same as labels, what is missing among them.
    pub fn with_missing(&self) -> Self {
        let Self::Labels(labels) = self.as_labels() else { return self.clone() };
        Self::Labels(labels.into_iter().map(|label| label.or_else(|| Some("None".into()))).collect())
    }

    /// The same with numbers written as labels, for when the other side has labels.
    fn as_labels(&self) -> Self {
        match self {
            Self::Numbers { values, .. } => {
                Self::Labels(values.iter().map(|v| (!v.is_nan()).then(|| v.to_string())).collect())
            }
            labels @ Self::Labels(_) => labels.clone(),
        }
    }

    /// What is there, as categories.
    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let (values, labels): (&[f64], &[Option<String>]) = match self {
            Self::Numbers { values, .. } => (values, &[]),
            Self::Labels(labels) => (&[], labels),
        };
        let numbers = values.iter().filter(|v| !v.is_nan()).map(|&v| Key::Number(v));
        numbers.chain(labels.iter().flatten().map(|l| Key::Label(l.clone())))
    }

    /// Different values that are there.
    pub fn distinct(&self) -> usize {
        self.keys().collect::<std::collections::BTreeSet<_>>().len()
    }
}

/// A whole number as it was written.
fn as_whole(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

/// Whether a double would make another number of it.
fn too_long(whole: i128) -> bool {
    whole as f64 as i128 != whole
}

/// What pandas reads as missing.
fn missing(text: &str) -> bool {
    matches!(
        text,
        "" | "NaN"
            | "nan"
            | "NA"
            | "N/A"
            | "n/a"
            | "<NA>"
            | "#N/A"
            | "#NA"
            | "#N/A N/A"
            | "NULL"
            | "null"
            | "None"
            | "-nan"
            | "-NaN"
            | "1.#IND"
            | "-1.#IND"
            | "1.#QNAN"
            | "-1.#QNAN"
    )
}

/// Two samples of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The reference.
    pub reference: Sample,
    /// Current.
    pub current: Sample,
}

impl Pair {
    /// Both sides; numbers become labels where the other side has labels. A side without any value has no kind.
    pub fn new(reference: Sample, current: Sample) -> Self {
        let nothing = |s: &Sample| matches!(s, Sample::Numbers { values, .. } if values.iter().all(|v| v.is_nan()));
        if reference.is_numeric() == current.is_numeric() {
            return Self { reference, current };
        }
        if nothing(&reference) || nothing(&current) {
            let empty = |s: Sample| if nothing(&s) { Sample::Labels(vec![None; s.len()]) } else { s };
            return Self { reference: empty(reference), current: empty(current) };
        }
        Self { reference: reference.as_labels(), current: current.as_labels() }
    }

    /// Two columns of CSV files: numbers where every cell on both sides is one, else labels as they stand there, so that 01 and 1
    /// are two.
    pub fn from_texts<'a>(
        reference: impl Iterator<Item = &'a str> + Clone,
        current: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        let (before, now) = (Sample::from_texts(reference.clone()), Sample::from_texts(current.clone()));
        match before.is_numeric() && now.is_numeric() {
            true => Self { reference: before, current: now },
            false => Self { reference: Sample::labels(reference), current: Sample::labels(current) },
        }
    }

    /// Truth values as 1 and 0, where there is nothing else on either side.
    pub fn booleans(&self) -> Option<Self> {
        Some(Self { reference: self.reference.booleans()?, current: self.current.booleans()? })
    }

    /// Both cleaned alike.
    pub fn cleaned(&self, finite: bool) -> Self {
        Self { reference: self.reference.cleaned(finite), current: self.current.cleaned(finite) }
    }

    /// Both sides' numbers.
    pub fn numbers(&self) -> Result<(&[f64], &[f64]), Refusal> {
        Ok((self.reference.numbers()?.0, self.current.numbers()?.0))
    }

    /// Counts per category of either side.
    pub fn counts(&self) -> Counts {
        let mut table: BTreeMap<Key, (f64, f64)> = BTreeMap::new();
        self.reference.keys().for_each(|k| table.entry(k).or_default().0 += 1.0);
        self.current.keys().for_each(|k| table.entry(k).or_default().1 += 1.0);
        let mut counts = Counts::default();
        for (key, (reference, current)) in table {
            counts.keys.push(key);
            counts.reference.push(reference);
            counts.current.push(current);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Sample {
        Sample::parse(&value, "ref").unwrap()
    }

    #[test]
    fn kinds_of_samples() {
        assert_eq!(parse(json!([1, 2])), Sample::Numbers { values: vec![1.0, 2.0], integer: true });
        assert!(matches!(parse(json!([1, 2.0])), Sample::Numbers { integer: false, .. }));
        let Sample::Numbers { values, integer: false } = parse(json!([1, null, "-Infinity"])) else { panic!() };
        assert!(values[1].is_nan() && values[2] == f64::NEG_INFINITY);
        assert_eq!(parse(json!(["a", null, 3])), Sample::Labels(vec![Some("a".into()), None, Some("3".into())]));
        assert!(Sample::parse(&json!([[1]]), "ref").is_err());
        assert!(matches!(Sample::from_texts(["1", "", "x"].into_iter()), Sample::Labels(_)));
    }

    #[test]
    fn whole_numbers_that_would_become_one_are_labels() {
        let ids = ["1000000000000000001", "1000000000000000002"];
        assert!(!Sample::from_texts(ids.into_iter()).is_numeric());
        assert_eq!(parse(json!([1_000_000_000_000_000_001_i64, 2])).distinct(), 2);
        assert!(!parse(json!([u64::MAX])).is_numeric());
        assert!(parse(json!([1_u64 << 60, 1e300])).is_numeric(), "kept exactly");
    }

    #[test]
    fn truth_values_are_numbers_only_among_themselves() {
        let of = |texts: &[&str]| Sample::labels(texts.iter().copied()).booleans();
        assert_eq!(of(&["True", "false"]), Some(Sample::Numbers { values: vec![1.0, 0.0], integer: true }));
        assert_eq!((of(&["True", ""]), of(&["True", "1"])), (None, None));
    }

    #[test]
    fn categories_in_order() {
        let counts = Pair::new(parse(json!([10, 2, 2])), parse(json!([2, 7.0]))).counts();
        assert_eq!(counts.keys, [Key::Number(2.0), Key::Number(7.0), Key::Number(10.0)]);
        assert_eq!((counts.reference, counts.current), (vec![2.0, 0.0, 1.0], vec![1.0, 1.0, 0.0]));
    }
}
