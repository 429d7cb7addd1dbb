//! One problem in words: title, five facts, what to do, and the pictures that show it.

use super::View;
use super::chart::{Shift, shift_of};
use crate::explain::number;
use crate::incident::{Activity, Change, Incident, Moved, Scope, State};
use crate::release::Release;
use driftline_shared::baseline::Role;
use driftline_shared::manifest::Task;
use driftline_shared::sketch::Category;
use driftline_shared::units::Name;
use serde_json::{Value, json};

/// Names spelled out in a sentence before it counts them.
const NAMES_MAX: usize = 4;
/// Below so many baseline rows nothing is said about how sure we are.
const ROWS_MIN: u32 = 200;

/// Adds the fields of `more` to `value`; both are objects.
pub(super) fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

impl<'a> View<'a> {
    pub(super) fn began_on(&self, incident: &Incident) -> Option<&'a Release> {
        self.release(incident.release)
    }

    /// What a cell of categories is called: a class by its name, an input's category by its number.
    pub(super) fn category(&self, release: Option<&Release>, reading: &str, k: u8) -> String {
        let known = release.and_then(|r| Some((r, &r.baseline.features[r.feature(reading)?])));
        let Some((release, feature)) = known else { return k.to_string() };
        match (feature.cells.category(usize::from(k)), &release.schema.task) {
            (Some(Category::One(class)), Task::Classification(classes)) if !feature.role.is_input() => {
                classes.get(class as usize).map_or_else(|| class.to_string(), ToString::to_string)
            }
            (Some(Category::One(value)), _) => value.to_string(),
            (Some(Category::Others), _) => self.say("category-others", &[]),
            (Some(Category::NeverSeen), _) => self.say("category-never-seen", &[]),
            (None, _) => k.to_string(),
        }
    }

    /// What happened to one reading, in words.
    pub(super) fn what(&self, incident: &Incident, name: &str, moved: &Moved) -> String {
        let release = self.began_on(incident);
        let reading = [("reading", name)];
        let shift = release.and_then(|r| shift_of(r, incident, name));
        let by = |id: &str| {
            let amount = self.amount(shift.as_ref(), release, name, moved);
            self.say(id, &[("reading", name), ("amount", &amount)])
        };
        if self.is_joint(release, name) {
            return self.say("unusual-combination", &[]);
        }
        match moved.change {
            Change::Up => by("moved-up"),
            Change::Down => by("moved-down"),
            Change::Scattered => self.say("scattered", &reading),
            Change::Stuck => self.say("stuck", &reading),
            Change::HighTail => self.say("high-tail", &reading),
            Change::LowTail => self.say("low-tail", &reading),
            Change::Missing => self.say("missing", &reading),
            Change::Unseen => self.say("unseen", &reading),
            Change::MoreOf(k) => {
                let id = if moved.input { "more-of-input" } else { "more-of" };
                self.say(id, &[("reading", name), ("category", &self.category(release, name, k))])
            }
        }
    }

    /// Whether a reading is how badly the inputs go together, which has no unit of its own.
    pub(super) fn is_joint(&self, release: Option<&Release>, name: &str) -> bool {
        release.is_some_and(|r| r.feature(name).is_some_and(|i| r.baseline.features[i].role == Role::Joint))
    }

    /// How far a reading moved, in its own unit: the middle value, or the mean where that did not move along.
    fn amount(&self, shift: Option<&Shift<'_>>, release: Option<&Release>, name: &str, moved: &Moved) -> String {
        let up = moved.change == Change::Up;
        let feature = release.and_then(|r| Some(&r.baseline.features[r.feature(name)?]));
        let Some(feature) = feature else { return "?".into() };
        let by_median =
            shift.map(|s| s.median_now() - f64::from(feature.median)).filter(|d| (*d > 0.0) == up && *d != 0.0);
        let by_mean = moved.now.as_ref().map(|f| f.mean - feature.mean);
        let amount = by_median.or(by_mean).unwrap_or(moved.effect_sd * feature.sd);
        number::with_unit(&number::significant(amount.abs(), 2), feature.unit.as_str())
    }

    fn place(&self, incident: &Incident) -> String {
        match &incident.scope {
            Scope::Fleet => self.say("on-all", &[]),
            Scope::Cohorts { label, values } if *label == self.core.settings.cohort_label => {
                self.say("at-cohorts", &[("cohorts", &self.list(values))])
            }
            Scope::Cohorts { label, values } => {
                self.say("on-label", &[("label", label), ("values", &self.list(values))])
            }
            Scope::Devices(names) => match names.as_slice() {
                [one] => self.say("on-device", &[("device", one.as_str())]),
                many => self.say_n("on-devices", many.len()),
            },
        }
    }

    /// What happened, and where.
    pub(super) fn title(&self, incident: &Incident) -> String {
        let what = self.what(incident, &incident.primary, incident.main());
        let place = self.place(incident);
        let others = incident.moved.values().filter(|m| m.input).count() - usize::from(incident.main().input);
        let n = others.to_string();
        let id = if others > 0 { "title-others" } else { "title" };
        self.say(id, &[("what", &what), ("where", &place), ("n", &n)])
    }

    pub(super) fn incident_card(&self, incident: &Incident) -> Value {
        json!({
            "id": incident.label(), "state": incident.state, "title": self.title(incident),
            "where": self.where_fact(incident), "since": self.since_fact(incident), "since_ms": incident.onset.0,
            "sure": self.sure_fact(incident), "model": incident.model,
            "release": self.release_name(Some(incident.release)),
        })
    }

    pub(super) fn incident(&self, incident: &Incident) -> Value {
        let release = self.began_on(incident);
        let shift = release.and_then(|r| shift_of(r, incident, &incident.primary));
        let shares = shift.as_ref().map(|s| s.ranges(self)).or_else(|| self.shares(incident));
        let fact = |code: &str, text: String| json!({ "code": code, "label": self.say(&format!("fact-{code}"), &[]), "text": text });
        let subtitle = match (incident.state, incident.main().input) {
            (State::Resolved, _) => "subtitle-resolved",
            (_, true) => "subtitle",
            _ if self.is_joint(release, &incident.primary) => "subtitle",
            (_, false) => "subtitle-output",
        };
        let model = format!("{} {}", incident.model, self.release_name(Some(incident.release)));
        let cohorts: Option<Vec<String>> = (incident.cohorts.len() > 12).then(|| {
            let affected = incident.cohorts.iter().filter(|(_, (bad, _))| *bad > 0);
            affected.map(|(name, _)| name.clone()).take(12).collect()
        });
        let mut value = self.incident_card(incident);
        let more = json!({
            "subtitle": self.say(subtitle, &[("model", &model)]),
            "facts": [
                fact("what", self.what_fact(incident, shift.as_ref())),
                fact("where", self.where_fact(incident)),
                fact("since", self.since_fact(incident)),
                fact("sure", self.sure_fact(incident)),
                fact("cause", self.cause_fact(incident)),
            ],
            "causes": self.causes_value(incident),
            "actions": self.actions(incident),
            "shift": shift.as_ref().map(|s| s.picture(self, incident.main().onset)),
            "shift_missing": shares.is_none().then(|| self.say("shift-missing", &[])),
            "ranges": shares,
            "timeline": self.timeline(&incident.model, &incident.primary, cohorts.as_deref()),
            "ranked": self.ranked(incident),
            "accuracy": self.accuracy(incident),
            "devices": incident.affected.iter().map(|name| self.affected_device(incident, name)).collect::<Vec<_>>(),
            "expert": self.expert(incident),
            "activity": incident.activity.iter().map(|(at, what)| {
                json!({ "t_ms": at.0, "text": self.incident_activity(incident, what) })
            }).collect::<Vec<_>>(),
        });
        extend(&mut value, more);
        value
    }

    fn what_fact(&self, incident: &Incident, shift: Option<&Shift<'_>>) -> String {
        let (name, main, release) = (incident.primary.as_str(), incident.main(), self.began_on(incident));
        if self.is_joint(release, name) {
            return self.say("what-combination", &[]);
        }
        let feature = release.and_then(|r| Some(&r.baseline.features[r.feature(name)?]));
        let (Some(feature), Some(now)) = (feature, &main.now) else { return self.what(incident, name, main) };
        let unit = feature.unit.as_str();
        let value = |v: f64| number::with_unit(&number::significant(v, 3), unit);
        let n: f64 = now.counts.iter().map(|&c| f64::from(c)).sum();
        let (rows, gone) = (feature.rows().max(1) as f64, f64::from(now.gone));
        let share = |cell: usize| now.counts.get(cell).map_or(0.0, |&c| f64::from(c)) / n.max(1.0);
        let was = |cell: usize| feature.counts.get(cell).map_or(0.0, |&c| f64::from(c)) / rows;
        let last = feature.cells.len() - 1;
        let text = match (main.change, shift) {
            (Change::Up | Change::Down | Change::HighTail | Change::LowTail, Some(shift)) => {
                let up = matches!(main.change, Change::Up | Change::HighTail);
                // Cells hold a twentieth; a range people can picture holds a tenth.
                let cells: Vec<usize> = outer_tenth(&feature.counts, up);
                let sum = |of: &dyn Fn(usize) -> f64| number::percent(cells.iter().map(|&c| of(c)).sum());
                let arguments = [
                    ("reading", name),
                    ("before", &value(f64::from(feature.median))),
                    ("after", &value(shift.median_now())),
                    ("share", &sum(&share)),
                    ("was", &sum(&was)),
                    ("side", &self.say(if up { "side-above" } else { "side-below" }, &[])),
                ];
                self.say("what-middle", &arguments)
            }
            (Change::Scattered | Change::Stuck, _) => {
                self.say("what-spread", &[("reading", name), ("before", &value(feature.sd)), ("after", &value(now.sd))])
            }
            (Change::Missing, _) => {
                let share = number::percent(gone / (n + gone).max(1.0));
                let was = number::percent(f64::from(feature.missing) / (rows + f64::from(feature.missing)));
                self.say("what-missing", &[("reading", name), ("share", &share), ("was", &was)])
            }
            (Change::MoreOf(k), _) => {
                let k_cell = usize::from(k);
                let (share, was) = (number::percent(share(k_cell)), number::percent(was(k_cell)));
                let id = if main.input { "what-category-input" } else { "what-category" };
                let category = self.category(release, name, k);
                self.say(id, &[("reading", name), ("category", &category), ("share", &share), ("was", &was)])
            }
            (Change::Unseen, _) => {
                self.say("what-unseen", &[("reading", name), ("share", &number::percent(share(last)))])
            }
            _ => self.what(incident, name, main),
        };
        let mut others: Vec<(&String, &Moved)> = incident.moved.iter().filter(|(other, _)| *other != name).collect();
        if others.is_empty() {
            return text;
        }
        others.sort_by(|a, b| b.1.effect_sd.total_cmp(&a.1.effect_sd));
        let left = others.len().saturating_sub(NAMES_MAX);
        let mut names: Vec<String> = others.iter().take(NAMES_MAX).map(|(other, _)| (*other).clone()).collect();
        // The furthest are named, in an order that does not change with the windows that came first.
        names.sort();
        if left > 0 {
            names.push(format!("+{left}"));
        }
        format!("{text} {}", self.say("what-others", &[("others", &self.list(&names))]))
    }

    fn where_fact(&self, incident: &Incident) -> String {
        let affected = incident.affected.len();
        let (text, affected_text) = (|n: usize| n.to_string(), affected.to_string());
        let base = match &incident.scope {
            Scope::Fleet => self.say(
                "where-all",
                &[("affected", &affected_text), ("reporting", &text(incident.reporting.max(affected)))],
            ),
            Scope::Cohorts { label, values } => {
                let (bad, all) = incident.inside;
                let by_cohort = *label == self.core.settings.cohort_label;
                let (id, none) = if by_cohort {
                    ("where-cohorts", "where-others-none")
                } else {
                    ("where-label", "where-devices-none")
                };
                let elsewhere = affected.saturating_sub(bad);
                let rest = if elsewhere == 0 { self.say(none, &[]) } else { self.say_n("where-others", elsewhere) };
                self.say(
                    id,
                    &[
                        ("affected", &text(bad)),
                        ("reporting", &text(all)),
                        ("label", label),
                        ("cohorts", &self.list(values)),
                        ("rest", &rest),
                    ],
                )
            }
            Scope::Devices(_) => {
                let mut names: Vec<String> =
                    incident.affected.iter().take(NAMES_MAX).map(ToString::to_string).collect();
                if affected > NAMES_MAX {
                    names.push(format!("+{}", affected - NAMES_MAX));
                }
                self.say(
                    "where-devices",
                    &[
                        ("affected", &affected_text),
                        ("reporting", &text(incident.reporting.max(affected))),
                        ("devices", &self.list(&names)),
                    ],
                )
            }
        };
        let offline =
            incident.affected.iter().filter(|d| self.core.devices.get(*d).is_none_or(|d| !d.connected)).count();
        if offline == 0 { base } else { format!("{base} {}", self.say_n("where-offline", offline)) }
    }

    fn since_fact(&self, incident: &Incident) -> String {
        let window = self.began_on(incident).map_or(0, |r| u64::from(r.schema.window_ms));
        let (from, to) = (incident.onset, driftline_shared::units::WallMs(incident.onset.0 + window));
        let ago = self.duration(self.now.0.saturating_sub(from.0));
        let since =
            self.say("since-between", &[("from", &number::clock(from)), ("to", &number::clock(to)), ("ago", &ago)]);
        match incident.resolved {
            Some(at) => self.say("since-resolved", &[("since", &since), ("resolved", &self.when(at))]),
            None => since,
        }
    }

    fn sure_fact(&self, incident: &Incident) -> String {
        let main = incident.main();
        let rows = self.began_on(incident).map_or(0, |r| r.baseline.rows);
        if rows < ROWS_MIN {
            return self.say("sure-few-rows", &[("rows", &number::count(u64::from(rows)))]);
        }
        let per_month = self.core.settings.budget.by_chance_per_month(main.log_evidence, main.threshold);
        let id = sure(per_month);
        let readings =
            main.now.as_ref().map_or(0, |f| f.counts.iter().map(|&c| u64::from(c)).sum::<u64>() + u64::from(f.gone));
        self.say(id, &[("readings", &number::count(readings))])
    }

    fn actions(&self, incident: &Incident) -> Value {
        let newest = self.releases_of(&incident.model).filter(|r| r.id != incident.release).last();
        let resolved = (!incident.is_live()).then(|| self.say("why-resolved", &[]));
        let answer = self.answer(incident);
        let why =
            resolved.clone().or_else(|| answer.map(|r| self.say("why-running", &[("rollout", &r.id.to_string())])));
        let why = why.or_else(|| match newest {
            None => Some(self.say("why-no-release", &[])),
            Some(r) => {
                let have = |n: &Name| self.core.devices.get(n).is_none_or(|d| d.release == Some(r.id));
                incident.affected.iter().all(have).then(|| self.say("why-all-have-it", &[]))
            }
        });
        let label = newest.map_or_else(
            || self.say("action-rollout-none", &[]),
            |r| {
                let (model, n) = (format!("{} {}", r.model, r.name), incident.affected.len().to_string());
                self.say("action-rollout", &[("model", &model), ("n", &n)])
            },
        );
        let plan =
            newest.map(|r| json!({ "model": r.model, "release": r.name, "query": { "incident": incident.label() } }));
        let seen = (incident.state == State::Acknowledged).then(|| self.say("why-acknowledged", &[]));
        let acknowledge = resolved.or(seen);
        json!([
            {
                "code": "rollout", "label": label, "primary": true, "enabled": why.is_none(), "why": why, "plan": plan,
                "rollout": answer.map(|r| r.id.to_string()),
            },
            {
                "code": "acknowledge", "label": self.say("action-acknowledge", &[]), "primary": false,
                "enabled": acknowledge.is_none(), "why": acknowledge,
            },
        ])
    }

    fn incident_activity(&self, incident: &Incident, what: &Activity) -> String {
        match what {
            Activity::Opened => self.say("incident-opened", &[("title", &self.title(incident))]),
            Activity::Spread { devices } => self.say_n("incident-spread", *devices),
            Activity::Acknowledged => self.say("incident-acknowledged", &[]),
            Activity::Resolved => self.say("incident-resolved", &[("title", &self.title(incident))]),
            Activity::Reopened => self.say("incident-reopened", &[("title", &self.title(incident))]),
        }
    }
}

/// How sure it is that something changed, from how often a month chance alone would look like it: less than once in ten years, in a
/// year, in a month.
fn sure(by_chance_per_month: f64) -> &'static str {
    match by_chance_per_month {
        p if p < 1.0 / 120.0 => "sure-very",
        p if p < 1.0 / 12.0 => "sure-yes",
        p if p < 1.0 => "sure-probably",
        _ => "sure-not-yet",
    }
}

/// The outermost cells that together hold about a tenth of the baseline.
fn outer_tenth(counts: &[u32], top: bool) -> Vec<usize> {
    let total: f64 = counts.iter().map(|&c| f64::from(c)).sum::<f64>().max(1.0);
    let order: Vec<usize> = if top { (0..counts.len()).rev().collect() } else { (0..counts.len()).collect() };
    let mut sum = 0.0;
    let mut cells = Vec::new();
    for cell in order {
        if !cells.is_empty() && sum + 0.5 * f64::from(counts[cell]) / total > 0.1 {
            break;
        }
        sum += f64::from(counts[cell]) / total;
        cells.push(cell);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::budget::Budget;

    #[test]
    fn how_sure_it_is_follows_from_the_evidence() {
        let budget = Budget::default();
        let threshold = budget.threshold(2_000, 60_000);
        // Evidence of so many times the threshold comes by chance so many times less often than once a month.
        let of = |times: f64| sure(budget.by_chance_per_month((threshold * times).ln(), threshold));
        let words = [0.5, 0.99, 1.01, 11.9, 12.1, 119.0, 121.0].map(of);
        let (not_yet, probably, yes, very) = ("sure-not-yet", "sure-probably", "sure-yes", "sure-very");
        assert_eq!(words, [not_yet, not_yet, probably, probably, yes, yes, very]);
        // Who tolerates more false alarms is less sure of an alarm that just passed the threshold.
        let generous = Budget { false_alarms_per_month: 30.0 };
        let threshold = generous.threshold(2_000, 60_000);
        assert_eq!(sure(generous.by_chance_per_month((threshold * 2.0).ln(), threshold)), not_yet);
    }

    #[test]
    fn the_outer_tenth_is_made_of_whole_cells() {
        assert_eq!(outer_tenth(&[5, 5, 30, 30, 20, 10], false), [0, 1]);
        assert_eq!(outer_tenth(&[5, 5, 30, 30, 20, 10], true), [5]);
        assert_eq!(outer_tenth(&[50, 50], true), [1], "one cell at least");
    }
}
