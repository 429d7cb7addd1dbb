//! The numbers behind an incident: readings ranked, accuracy, effect per device, and the statistics for experts.

use super::View;
use crate::explain::number;
use crate::history::{Group, Known};
use crate::incident::{Change, Incident, Scope};
use crate::release::Release;
use driftline_shared::drift::distance::{Convention, ks_bounds};
use driftline_shared::drift::scores::Family;
use driftline_shared::drift::transport;
use driftline_shared::sketch::Cells;
use driftline_shared::units::Name;
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl View<'_> {
    /// Every reading of the model by how far the affected devices' readings are from training.
    pub(super) fn ranked(&self, incident: &Incident) -> Value {
        let Some(release) = self.began_on(incident) else { return Value::Null };
        let mut items: Vec<(f64, Value)> = incident
            .moved
            .iter()
            .filter_map(|(name, moved)| {
                let feature = &release.baseline.features[release.feature(name)?];
                let figures = moved.now.as_ref().filter(|f| f.counts.len() == feature.cells.len())?;
                let difference = Convention::JS.of(&feature.counts, &figures.counts);
                let text = match feature.cells {
                    Cells::Edges(_) if moved.change != Change::Missing => {
                        number::change(figures.mean - feature.mean, feature.unit.as_str())
                    }
                    _ => self.what(incident, name, moved),
                };
                Some((difference, json!({ "feature": name, "difference": difference, "text": text, "alert": true })))
            })
            .collect();
        for (index, feature) in release.baseline.features.iter().enumerate() {
            if !incident.moved.contains_key(feature.name.as_str())
                && let Some(difference) = self.distance_now(release, index, &Group::Fleet)
            {
                items.push((
                    difference,
                    json!({ "feature": feature.name, "difference": difference, "text": "", "alert": false }),
                ));
            }
        }
        items.sort_by(|a, b| b.0.total_cmp(&a.0));
        json!({
            "title": self.say("ranked-title", &[]),
            "caption": self.say("ranked-caption", &[]),
            "items": items.into_iter().map(|(_, item)| item).collect::<Vec<_>>(),
        })
    }

    /// How often the model was right: before, since, and on newer releases; measured where truth is known, else estimated.
    pub(super) fn accuracy(&self, incident: &Incident) -> Value {
        let Some(release) = self.began_on(incident) else { return Value::Null };
        let groups = scope_groups(incident, &self.core.settings.cohort_label);
        let sum = |release: &Release, from: u64, to: u64| {
            let window = u64::from(release.schema.window_ms);
            let slots = from.div_ceil(window)..to.div_ceil(window);
            let mut sum = Known::default();
            groups.iter().for_each(|g| sum.merge(&self.core.history.known_within(release.id, g, slots.clone())));
            sum
        };
        let onset = incident.onset.0;
        let mut items = Vec::new();
        let mut add = |id: &str, release: &Release, known: Known| {
            let model = format!("{} {}", release.model, release.name);
            items.extend(self.accuracy_item(self.say(id, &[("model", &model)]), release, &known));
        };
        add("accuracy-before", release, sum(release, 0, onset));
        add("accuracy-since", release, sum(release, onset, u64::MAX));
        for newer in self.releases_of(&incident.model).filter(|r| r.id != release.id) {
            add("accuracy-now", newer, sum(newer, onset, u64::MAX));
        }
        let classifies = release.schema.task.classes() > 0;
        let caption = match self.why_no_estimate(release).filter(|_| items.is_empty()) {
            Some(why) if classifies => why,
            _ if items.is_empty() => return Value::Null,
            _ => self.say("accuracy-caption", &[]),
        };
        json!({ "title": self.say("accuracy-title", &[]), "caption": caption, "items": items })
    }

    pub(super) fn affected_device(&self, incident: &Incident, name: &Name) -> Value {
        let site = self.core.devices.get(name).map_or("-", |d| d.cohort(&self.core.settings.cohort_label));
        let release = self.core.devices.get(name).and_then(|d| d.release);
        let effect = self.device_effect(incident, name);
        json!({
            "id": name, "site": site, "state": self.device_state(name).code(),
            "effect": effect, "release": self.release_name(release),
        })
    }

    /// How far this device's own mean is from the mean in training, on the reading that names the incident.
    fn device_effect(&self, incident: &Incident, name: &Name) -> Option<String> {
        let panel = self.core.panels.get(&incident.release)?;
        let index = panel.release().feature(&incident.primary)?;
        let feature = &panel.release().baseline.features[index];
        let sum = panel.sum(index, Some(&BTreeSet::from([name.clone()])), panel.slot_of(incident.onset.0))?;
        (sum.moments().n > 0).then(|| number::change(sum.moments().mean() - feature.mean, feature.unit.as_str()))
    }

    pub(super) fn expert(&self, incident: &Incident) -> Vec<Value> {
        let main = incident.main();
        let release = self.began_on(incident);
        let (family, direction) = match main.change {
            Change::Up => ("location", "up"),
            Change::Down => ("location", "down"),
            Change::Scattered => ("scale", "up"),
            Change::Stuck if main.family == Some(Family::Repeats) => ("repeats", "up"),
            Change::Stuck => ("scale", "down"),
            Change::HighTail => ("top cell", "up"),
            Change::LowTail => ("bottom cell", "up"),
            Change::Missing => ("missing", "up"),
            Change::Unseen | Change::MoreOf(_) => ("category share", "up"),
        };
        let mut rows = Vec::new();
        let mut row = |id: &str, value: String| rows.push(json!({ "label": self.say(id, &[]), "value": value }));
        row("expert-statistic", self.say("expert-statistic-value", &[("family", family), ("direction", direction)]));
        row("expert-evidence", format!("{:.2}", main.log_evidence));
        row("expert-threshold", format!("{:.2}", main.threshold.ln()));
        row("expert-budget", number::significant(self.core.settings.budget.false_alarms_per_month, 3));
        row("expert-effect", number::significant(main.effect_sd, 3));
        let feature = release.and_then(|r| Some(&r.baseline.features[r.feature(&incident.primary)?]));
        if let (Some(feature), Some(now)) = (feature, &main.now)
            && now.counts.len() == feature.cells.len()
        {
            row("expert-js", format!("{:.4}", Convention::JS.of(&feature.counts, &now.counts)));
            row("expert-psi", format!("{:.4}", Convention::PSI.of(&feature.counts, &now.counts)));
            if let Cells::Edges(edges) = &feature.cells {
                let (low, high) = (feature.min.min(now.min), feature.max.max(now.max));
                let (at_least, at_most) = ks_bounds(&feature.counts, &now.counts);
                row("expert-ks", format!("{at_least:.4} – {at_most:.4}"));
                // Incidents and bundles of before sums were kept have counts alone.
                let w1 = if feature.sums.len() == now.sums.len() && !now.sums.is_empty() {
                    transport::w1_by_sums(edges, &feature.counts, &feature.sums, &now.counts, &now.sums)
                } else {
                    transport::w1(edges, &feature.counts, &now.counts, low, high)
                };
                row("expert-w1", number::with_unit(&number::significant(w1, 4), feature.unit.as_str()));
            }
            row("expert-n", number::count(now.counts.iter().map(|&c| u64::from(c)).sum()));
        }
        if let Some(r) = release {
            let name = format!("{} {}", r.model, r.name);
            let rows_text = number::count(u64::from(r.baseline.rows));
            row("expert-baseline", self.say("expert-baseline-value", &[("release", &name), ("rows", &rows_text)]));
        }
        rows
    }
}

/// The groups that an incident's scope is made of.
pub(super) fn scope_groups(incident: &Incident, cohort_label: &str) -> Vec<Group> {
    match &incident.scope {
        Scope::Cohorts { label, values } if label == cohort_label => {
            values.iter().cloned().map(Group::Cohort).collect()
        }
        _ => vec![Group::Fleet],
    }
}
