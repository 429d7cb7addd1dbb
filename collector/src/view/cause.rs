//! What affected devices share that others do not: the likely causes of a problem, ranked.

use super::View;
use crate::collector::RELEASE_LABEL;
use crate::incident::{Incident, Scope};
use driftline_shared::units::Name;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Causes that are listed.
const CAUSES_MAX: usize = 5;
/// Causes named in the sentence beside the first.
const ALSO_MAX: usize = 2;
/// Share of the affected devices that have a label, and of the others that lack it, for "most".
const MOST: f64 = 0.8;
/// Below this difference of shares a label explains nothing.
const CONTRAST_MIN: f64 = 0.3;

/// A label's value, and who has it.
struct Cause {
    label: String,
    value: String,
    /// Affected devices that have it, and all affected.
    affected: (usize, usize),
    /// The same of the others that report.
    others: (usize, usize),
}

impl Cause {
    /// Share among the affected less share among the others.
    fn contrast(&self) -> f64 {
        let share = |(have, all): (usize, usize)| have as f64 / all.max(1) as f64;
        share(self.affected) - share(self.others)
    }
}

impl View<'_> {
    /// Every label's value, by contrast; nothing where every device is affected.
    fn causes(&self, incident: &Incident) -> Vec<Cause> {
        let reporting = self.core.reporting(&incident.model);
        let is_affected = |name: &&Name| incident.affected.contains(*name);
        let affected: BTreeSet<&Name> = reporting.keys().filter(is_affected).collect();
        let others = reporting.len() - affected.len();
        if others == 0 || affected.is_empty() {
            return Vec::new();
        }
        let began_on = self.release_name(Some(incident.release));
        let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
        for (name, device) in &reporting {
            for (label, value) in &device.labels {
                // A release that came later is an answer, not a cause.
                if label == RELEASE_LABEL && *value != began_on {
                    continue;
                }
                let entry = counts.entry((label, value)).or_default();
                if affected.contains(name) { entry.0 += 1 } else { entry.1 += 1 }
            }
        }
        let mut causes: Vec<Cause> = counts
            .into_iter()
            .map(|((label, value), (bad, good))| Cause {
                label: label.to_owned(),
                value: value.to_owned(),
                affected: (bad, affected.len()),
                others: (good, others),
            })
            .filter(|cause| cause.contrast() >= CONTRAST_MIN && cause.affected.0 > 1)
            .collect();
        let first = &self.core.settings.cohort_label;
        causes.sort_by_key(|cause| (Reverse((cause.contrast() * 1e6) as i64), cause.label != *first));
        causes.truncate(CAUSES_MAX);
        causes
    }

    /// The ranked causes, for programs.
    pub(super) fn causes_value(&self, incident: &Incident) -> Vec<Value> {
        let item = |cause: Cause| {
            json!({
                "label": cause.label, "value": cause.value, "contrast": (cause.contrast() * 1e3).round() / 1e3,
                "affected": cause.affected.0, "of_affected": cause.affected.1,
                "others": cause.others.0, "of_others": cause.others.1,
            })
        };
        self.causes(incident).into_iter().map(item).collect()
    }

    /// The likely cause in words, and what comes next.
    pub(super) fn cause_fact(&self, incident: &Incident) -> String {
        if incident.scope == Scope::Fleet {
            return self.say("cause-everywhere", &[]);
        }
        let causes = self.causes(incident);
        let Some(best) = causes.first() else { return self.say("cause-none", &[]) };
        let arguments = [("label", best.label.as_str()), ("value", best.value.as_str())];
        let share = |(have, all): (usize, usize)| have as f64 / all.max(1) as f64;
        let text = if best.affected.0 == best.affected.1 && best.others.0 == 0 {
            self.say("cause-label", &arguments)
        } else if share(best.affected) >= MOST && share(best.others) <= 1.0 - MOST {
            self.say("cause-label-most", &arguments)
        } else {
            self.say("cause-none", &[])
        };
        let also: Vec<String> = causes
            .iter()
            .skip(1)
            .take(ALSO_MAX)
            .map(|cause| {
                let number = |n: usize| n.to_string();
                self.say(
                    "cause-share",
                    &[
                        ("label", &cause.label),
                        ("value", &cause.value),
                        ("bad", &number(cause.affected.0)),
                        ("affected", &number(cause.affected.1)),
                        ("good", &number(cause.others.0)),
                        ("others", &number(cause.others.1)),
                    ],
                )
            })
            .collect();
        if also.is_empty() {
            text
        } else {
            format!("{text} {}", self.say("cause-also", &[("causes", &self.list(&also))]))
        }
    }
}
