//! Parameters of a case: each is asked for under all names people give it, and what nobody asked for is an error.

use super::sample::special;
use super::{Metric, Refusal};
use serde_json::{Map, Value};
use std::cell::RefCell;

/// The parameters of one case and the names that were asked for.
#[derive(Debug)]
pub struct Params<'a> {
    given: &'a Map<String, Value>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Params<'a> {
    /// Nothing asked yet.
    pub fn new(given: &'a Map<String, Value>) -> Self {
        Self { given, known: RefCell::default() }
    }

    /// The value under any of these names; null is as good as absent.
    pub fn get(&self, names: &[&'static str]) -> Option<&'a Value> {
        self.known.borrow_mut().extend(names);
        names.iter().find_map(|&name| self.given.get(name)).filter(|v| !v.is_null())
    }

    /// A number.
    pub fn number(&self, names: &[&'static str]) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.get(names) else { return Ok(None) };
        let number = match value {
            Value::String(text) => special(text).or_else(|| text.parse().ok()),
            other => other.as_f64(),
        };
        number.map(Some).ok_or_else(|| Refusal::input(format!("{} must be a number, not {value}", names[0])))
    }

    /// A whole number of at least 0.
    pub fn whole(&self, names: &[&'static str]) -> Result<Option<u64>, Refusal> {
        let Some(number) = self.number(names)? else { return Ok(None) };
        if number >= 0.0 && number.fract() == 0.0 && number < 9e15 {
            return Ok(Some(number as u64));
        }
        Err(Refusal::input(format!("{} must be a whole number of at least 0, not {number}", names[0])))
    }

    /// A switch.
    pub fn switch(&self, names: &[&'static str]) -> Result<Option<bool>, Refusal> {
        let Some(value) = self.get(names) else { return Ok(None) };
        match value {
            Value::Bool(on) => Ok(Some(*on)),
            Value::Number(n) if n.as_f64() == Some(0.0) || n.as_f64() == Some(1.0) => Ok(Some(n.as_f64() == Some(1.0))),
            Value::String(s) if s.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Value::String(s) if s.eq_ignore_ascii_case("false") => Ok(Some(false)),
            _ => Err(Refusal::input(format!("{} must be true or false, not {value}", names[0]))),
        }
    }

    /// One of several words.
    pub fn word<T: Copy>(&self, names: &[&'static str], words: &[(&str, T)]) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(names) else { return Ok(None) };
        let found = value.as_str().and_then(|v| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(v)));
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Refusal::input(format!("{} must be one of {}, not {value}", names[0], words.join(", ")))
        })
    }

    /// An error if something was given that nobody asked for.
    pub fn finish(&self, metric: Metric) -> Result<(), Refusal> {
        let known = self.known.borrow();
        let Some(unknown) = self.given.keys().find(|k| !known.contains(&k.as_str())) else { return Ok(()) };
        if known.is_empty() {
            return Err(Refusal::input(format!("there is no parameter {unknown}; {} takes none", metric.name())));
        }
        let mut names = known.clone();
        names.sort_unstable();
        names.dedup();
        Err(Refusal::input(format!("there is no parameter {unknown}; {} takes {}", metric.name(), names.join(", "))))
    }
}
