//! Where a problem is: one device, the devices that share a label's value, or the whole fleet.
//!
//! Every label is tried (site, firmware, hardware, the release that runs), and the smallest statement that separates affected from
//! unaffected devices best is taken. A group is affected when at least half of its reporting devices are.

use driftline_shared::units::Name;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Another label must separate affected from unaffected devices this much better than the one tried before it.
const BETTER_BY: f64 = 0.05;
/// A group statement covers at least this share of the affected devices, or the devices are named.
const COVERED_MIN: f64 = 0.5;

/// Where an incident is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Most devices of every group.
    Fleet,
    /// Most devices with these values of a label.
    Cohorts {
        /// The label, such as `site`.
        label: String,
        /// Its values.
        values: Vec<String>,
    },
    /// These devices.
    Devices(Vec<Name>),
}

/// A device that reported lately: its labels, that of the cohorts first.
#[derive(Debug, Clone, PartialEq)]
pub struct Reporting {
    /// (label, value).
    pub labels: Vec<(String, String)>,
}

impl Reporting {
    /// The value of the cohort label.
    pub fn cohort(&self) -> &str {
        self.labels.first().map_or("-", |(_, value)| value.as_str())
    }
}

/// (affected, reporting) per value of a label.
pub type Counts = BTreeMap<String, (usize, usize)>;

/// How many are affected per value of the cohort label, and of all.
pub fn cohorts(reporting: &BTreeMap<Name, Reporting>, affected: &BTreeSet<Name>) -> Counts {
    let mut counts = Counts::new();
    for (name, device) in reporting {
        let entry = counts.entry(device.cohort().to_owned()).or_default();
        entry.0 += usize::from(affected.contains(name));
        entry.1 += 1;
    }
    counts
}

/// The statement that describes the affected devices best.
pub fn scope(reporting: &BTreeMap<Name, Reporting>, affected: &BTreeSet<Name>) -> Scope {
    let devices = || Scope::Devices(affected.iter().cloned().collect());
    let bad = reporting.keys().filter(|name| affected.contains(*name)).count();
    if affected.len() < 2 || bad < 2 {
        return devices();
    }
    let mut best = (0.0, devices());
    let mut offer = |fit: f64, scope: &dyn Fn() -> Scope| {
        if fit > best.0 + if best.0 > 0.0 { BETTER_BY } else { 0.0 } {
            best = (fit, scope());
        }
    };
    let by_cohort = cohorts(reporting, affected);
    if by_cohort.values().all(sick) {
        offer(fit(bad, bad, reporting.len()), &|| Scope::Fleet);
    }
    for (label, counts) in by_label(reporting, affected) {
        let sick: Vec<(&String, &(usize, usize))> = counts.iter().filter(|(_, n)| n.1 > 1 && sick(n)).collect();
        // A label that is sick at every value says no more than "everywhere".
        if sick.is_empty() || (sick.len() == counts.len() && sick.len() > 1) {
            continue;
        }
        let (covered, all) = sick.iter().fold((0, 0), |sum, (_, n)| (sum.0 + n.0, sum.1 + n.1));
        if covered as f64 >= COVERED_MIN * bad as f64 {
            let values = || sick.iter().map(|(value, _)| (*value).clone()).collect();
            offer(fit(covered, bad, all), &|| Scope::Cohorts { label: label.clone(), values: values() });
        }
    }
    best.1
}

/// (affected, reporting) among the devices that a scope speaks of.
pub fn inside(scope: &Scope, reporting: &BTreeMap<Name, Reporting>, affected: &BTreeSet<Name>) -> (usize, usize) {
    let speaks_of = |device: &Reporting| match scope {
        Scope::Cohorts { label, values } => device.labels.iter().any(|(l, v)| l == label && values.contains(v)),
        Scope::Fleet | Scope::Devices(_) => true,
    };
    let all: Vec<&Name> = reporting.iter().filter(|(_, device)| speaks_of(device)).map(|(name, _)| name).collect();
    (all.iter().filter(|name| affected.contains(**name)).count(), all.len())
}

/// At least half is affected.
fn sick((bad, all): &(usize, usize)) -> bool {
    2 * bad >= *all
}

/// The harmonic mean of "which share of the affected is in the group" and "which share of the group is affected" (F1).
fn fit(covered: usize, affected: usize, members: usize) -> f64 {
    2.0 * covered as f64 / (affected + members).max(1) as f64
}

/// Counts of every label, the cohort label first.
fn by_label(reporting: &BTreeMap<Name, Reporting>, affected: &BTreeSet<Name>) -> Vec<(String, Counts)> {
    let mut labels: Vec<(String, Counts)> = Vec::new();
    for (name, device) in reporting {
        for (label, value) in &device.labels {
            let at = labels.iter().position(|(known, _)| known == label).unwrap_or_else(|| {
                labels.push((label.clone(), Counts::new()));
                labels.len() - 1
            });
            let entry = labels[at].1.entry(value.clone()).or_default();
            entry.0 += usize::from(affected.contains(name));
            entry.1 += 1;
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 24 devices: site a or b, firmware 1, 2 or 3, a serial number each.
    fn fleet() -> BTreeMap<Name, Reporting> {
        (0..24)
            .map(|i| {
                let labels = [
                    ("site", ["a", "b"][i % 2].to_owned()),
                    ("firmware", format!("{}", 1 + (i / 2) % 3)),
                    ("serial", i.to_string()),
                ];
                let labels = labels.map(|(label, value)| (label.to_owned(), value)).to_vec();
                (Name::new(&format!("d{i:02}")).expect("a name"), Reporting { labels })
            })
            .collect()
    }

    fn scope_of(affected: impl Fn(usize) -> bool) -> Scope {
        let fleet = fleet();
        let names = fleet.keys().enumerate().filter(|(i, _)| affected(*i)).map(|(_, name)| name.clone()).collect();
        scope(&fleet, &names)
    }

    fn cohorts(label: &str, values: &[&str]) -> Scope {
        Scope::Cohorts { label: label.into(), values: values.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn the_label_that_separates_best_is_named() {
        assert_eq!(scope_of(|i| i % 2 == 0), cohorts("site", &["a"]));
        assert_eq!(scope_of(|i| (i / 2) % 3 == 1), cohorts("firmware", &["2"]));
        assert_eq!(scope_of(|i| (i / 2) % 3 != 1), cohorts("firmware", &["1", "3"]));
        assert_eq!(scope_of(|_| true), Scope::Fleet);
        assert_eq!(scope_of(|i| i != 3 && i != 8), Scope::Fleet, "two are not sick yet");
    }

    #[test]
    fn a_few_devices_are_named_by_themselves() {
        assert!(matches!(scope_of(|i| i == 5), Scope::Devices(names) if names.len() == 1));
        assert!(matches!(scope_of(|i| i == 5 || i == 6 || i == 13), Scope::Devices(names) if names.len() == 3));
    }
}
