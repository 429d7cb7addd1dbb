//! What affected devices share that others do not: the likely causes of a problem, ranked.

use super::View;
use crate::collector::RELEASE_LABEL;
use crate::incident::{Incident, Scope};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Causes that are listed.
const CAUSES_MAX: usize = 5;
/// Causes named in the sentence beside the first.
const ALSO_MAX: usize = 2;
/// Share of the affected devices that have a label at least, and of the others at most, for "most".
const MOST: (f64, f64) = (0.8, 0.2);
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

/// How far affected devices, and no others, have a value.
#[derive(Debug, PartialEq)]
enum Shared {
    AllAndOnly,
    Most,
    Some,
}

impl Cause {
    fn shared(&self) -> Shared {
        let share = |(have, all): (usize, usize)| have as f64 / all.max(1) as f64;
        if self.affected.0 == self.affected.1 && self.others.0 == 0 {
            Shared::AllAndOnly
        } else if share(self.affected) >= MOST.0 && share(self.others) <= MOST.1 {
            Shared::Most
        } else {
            Shared::Some
        }
    }

    /// Share among the affected less share among the others.
    fn contrast(&self) -> f64 {
        let share = |(have, all): (usize, usize)| have as f64 / all.max(1) as f64;
        share(self.affected) - share(self.others)
    }
}

/// Values that more of the affected devices have than of the others, the greatest contrast first; of equal ones that of the label `first`.
/// Nothing where every device is affected. A device is whether it is affected, and its labels.
fn rank<'a>(devices: impl Iterator<Item = (bool, Vec<(&'a str, &'a str)>)>, began_on: &str, first: &str) -> Vec<Cause> {
    let (mut affected, mut others) = (0, 0);
    let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for (is_affected, labels) in devices {
        *if is_affected { &mut affected } else { &mut others } += 1;
        // A release that came later is an answer, not a cause.
        for label in labels.into_iter().filter(|(label, value)| *label != RELEASE_LABEL || *value == began_on) {
            let (bad, good) = counts.entry(label).or_default();
            *if is_affected { bad } else { good } += 1;
        }
    }
    if others == 0 || affected == 0 {
        return Vec::new();
    }
    let mut causes: Vec<Cause> = counts
        .into_iter()
        .map(|((label, value), (bad, good))| Cause {
            label: label.to_owned(),
            value: value.to_owned(),
            affected: (bad, affected),
            others: (good, others),
        })
        .filter(|cause| cause.contrast() >= CONTRAST_MIN && cause.affected.0 > 1)
        .collect();
    causes.sort_by_key(|cause| (Reverse((cause.contrast() * 1e6) as i64), cause.label != first));
    causes.truncate(CAUSES_MAX);
    causes
}

impl View<'_> {
    fn causes(&self, incident: &Incident) -> Vec<Cause> {
        let devices = self.core.reporting(&incident.model);
        let began_on = self.release_name(Some(incident.release));
        let devices = devices.iter().map(|(name, device)| {
            let labels = device.labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
            (incident.affected.contains(name), labels)
        });
        rank(devices, &began_on, &self.core.settings.cohort_label)
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
        let text = match best.shared() {
            Shared::AllAndOnly => self.say("cause-label", &arguments),
            Shared::Most => self.say("cause-label-most", &arguments),
            Shared::Some => self.say("cause-none", &[]),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether affected, how many such devices, their labels.
    type Row = (bool, usize, &'static [(&'static str, &'static str)]);

    fn ranked(fleet: &[Row]) -> Vec<(String, Shared)> {
        let devices = fleet.iter().flat_map(|&(bad, n, labels)| std::iter::repeat_n((bad, labels.to_vec()), n));
        rank(devices, "v1", "site").into_iter().map(|c| (format!("{} {}", c.label, c.value), c.shared())).collect()
    }

    fn cause(name: &str, shared: Shared) -> (String, Shared) {
        (name.to_owned(), shared)
    }

    #[test]
    fn what_only_affected_devices_share_comes_first() {
        let found = ranked(&[
            (true, 6, &[("site", "busan"), ("firmware", "2.1")]),
            (false, 14, &[("site", "ulsan"), ("firmware", "2.1")]),
            (false, 20, &[("site", "seoul"), ("firmware", "2.0")]),
        ]);
        let firmware = cause("firmware 2.1", Shared::Some);
        assert_eq!(found, [cause("site busan", Shared::AllAndOnly), firmware]);
    }

    #[test]
    fn equal_contrasts_name_the_label_that_fleets_are_grouped_by() {
        let found = ranked(&[
            (true, 3, &[("firmware", "2.1"), ("site", "busan")]),
            (false, 9, &[("firmware", "2.0"), ("site", "ulsan")]),
        ]);
        assert_eq!(found, [cause("site busan", Shared::AllAndOnly), cause("firmware 2.1", Shared::AllAndOnly)]);
    }

    #[test]
    fn most_is_four_of_five_and_no_more_than_one_of_five_others() {
        let fleet = |bad: usize, good: usize| {
            ranked(&[
                (true, bad, &[("hardware", "b")]),
                (true, 20 - bad, &[]),
                (false, good, &[("hardware", "b")]),
                (false, 20 - good, &[]),
            ])
        };
        assert_eq!(fleet(16, 4), [cause("hardware b", Shared::Most)]);
        assert_eq!(fleet(15, 4), [cause("hardware b", Shared::Some)]);
        assert_eq!(fleet(16, 5), [cause("hardware b", Shared::Some)]);
        assert_eq!(fleet(10, 4), [cause("hardware b", Shared::Some)], "a contrast of 0.3");
        assert_eq!(fleet(9, 4), [], "less explains nothing");
    }

    #[test]
    fn one_device_everybody_and_an_answer_are_no_causes() {
        assert_eq!(ranked(&[(true, 1, &[("site", "busan")]), (false, 9, &[("site", "ulsan")])]), []);
        assert_eq!(ranked(&[(true, 9, &[("site", "busan")])]), [], "all are affected");
        let later = ranked(&[(true, 4, &[(RELEASE_LABEL, "v2")]), (false, 9, &[])]);
        assert_eq!(later, [], "it came after the problem");
        let began_on = ranked(&[(true, 4, &[(RELEASE_LABEL, "v1")]), (false, 9, &[])]);
        assert_eq!(began_on, [cause(&format!("{RELEASE_LABEL} v1"), Shared::AllAndOnly)]);
    }
}
