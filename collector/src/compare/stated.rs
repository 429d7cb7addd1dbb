//! A convention in words: the four things without which a figure means nothing.

use driftline_shared::drift::distance::{Base, Convention, Edges, Metric, ZeroPolicy};
use serde_json::{Value, json};

/// Formula, logarithm, zero policy and edges of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// The formula.
    pub formula: String,
    /// The logarithm's base, where there is a logarithm.
    pub base: Option<String>,
    /// What an empty cell counts as, where there are cells.
    pub zero: Option<String>,
    /// Whose cells, or that values are taken as they are.
    pub edges: String,
}

impl Stated {
    /// A figure on the values themselves.
    pub fn raw(formula: impl Into<String>) -> Self {
        Self { formula: formula.into(), base: None, zero: None, edges: "none, values as they are".into() }
    }

    /// A figure on counts per category or cell.
    pub fn counted(formula: impl Into<String>, edges: Edges) -> Self {
        Self { edges: words(edges).into(), ..Self::raw(formula) }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "metric": self.formula, "base": self.base, "zero": self.zero, "edges": self.edges })
    }

    /// As one line.
    pub fn line(&self) -> String {
        let part =
            |name: &str, value: &Option<String>| value.as_ref().map_or(String::new(), |v| format!("; {name}: {v}"));
        format!("{}{}{}; edges: {}", self.formula, part("log", &self.base), part("empty cells", &self.zero), self.edges)
    }
}

impl From<Convention> for Stated {
    fn from(convention: Convention) -> Self {
        let formula = match convention.metric {
            Metric::Psi => "Σ (p−q) ln(p/q)",
            Metric::Js => "√ of the Jensen-Shannon divergence",
            Metric::Kl => "Σ p ln(p/q), renormalised",
            Metric::Hellinger => "‖√p − √q‖/√2",
            Metric::ChiSquare => "Σ (o−e)²/e",
            Metric::G => "2 Σ o ln(o/e)",
            Metric::LInfinity => "max |p−q|",
            Metric::LInfinityRobust => "max |p−q| − 1.8 √((n+m)/(nm)), at least 0",
            Metric::KsD => "max |F−G| at the edges",
            Metric::TotalVariation => "½ Σ |p−q|",
        };
        let logarithm = matches!(convention.metric, Metric::Psi | Metric::Js | Metric::Kl | Metric::G);
        let base = match convention.base {
            Base::E => "e".into(),
            Base::Two => "2".into(),
            Base::Other(base) => base.to_string(),
        };
        let zero = match convention.zero {
            ZeroPolicy::Keep => "0".into(),
            ZeroPolicy::Evidently => "1e-4, or a millionth of the smallest share where that is at most 1e-4".into(),
            ZeroPolicy::Floor(floor) => format!("no share below {floor}"),
            ZeroPolicy::MinPositive => "2.2e-308".into(),
            ZeroPolicy::AddEps(eps) => format!("{eps:e} added to every share"),
            ZeroPolicy::Jeffreys => "half a sample in every cell (Jeffreys)".into(),
        };
        Self {
            formula: formula.into(),
            base: logarithm.then_some(base),
            zero: Some(zero),
            edges: words(convention.edges).into(),
        }
    }
}

fn words(edges: Edges) -> &'static str {
    match edges {
        Edges::Baseline => "quantiles of the reference, 1 % and every 5 %",
        Edges::SturgesJoint => "numpy sturges on both samples",
        Edges::DoaneReference => "numpy doane on the reference, and one cell for what lies outside",
        Edges::Deciles => "quantiles of the reference",
        Edges::Categories => "one cell per value",
        Edges::Given => "as given",
    }
}
