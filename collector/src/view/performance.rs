//! How often a model is right: measured where truth is known, estimated from calibrated scores where it is not, and which of the two it is.

use super::View;
use crate::detect::budget::Budget;
use crate::detect::plan::{Assumed, plan};
use crate::explain::number;
use crate::history::{Group, Known};
use crate::release::Release;
use driftline_shared::estimate::{Estimate, Figure, estimate, realised};
use driftline_shared::manifest::Task;
use driftline_shared::units::Name;
use serde_json::{Value, json};

/// Slots of one series; more would not be seen on any screen.
const SERIES_MAX: usize = 1_000;
/// Rows of the small panel on the first screen.
const PANEL_MAX: usize = 6;

impl View<'_> {
    /// Every release of a model; null when there is none.
    pub(super) fn performance(&self, model: &Name) -> Value {
        let releases: Vec<&Release> = self.releases_of(model).collect();
        if releases.is_empty() {
            return Value::Null;
        }
        let newest_used = releases.iter().rev().find(|r| !self.core.history.known(r.id, &Group::Fleet).is_empty());
        let sentence = newest_used.or(releases.last()).map(|r| self.performance_sentence(r, &self.known_of(r)));
        let releases: Vec<Value> = releases.iter().map(|r| self.release_performance(r)).collect();
        json!({ "model": model, "sentence": sentence, "releases": releases })
    }

    /// What will be seen of the newest release's readings on the devices that run the model, or on as many as are assumed; null when
    /// there is no release.
    pub(super) fn plan(&self, model: &Name, assumed: Assumed) -> Value {
        let Some(release) = self.releases_of(model).last() else { return Value::Null };
        let runs = |release: &Release| self.core.devices.values().filter(|d| d.release == Some(release.id)).count();
        let running = || self.releases_of(model).map(runs).sum::<usize>().max(1);
        let devices = assumed.devices.map_or_else(running, |n| n as usize);
        let tolerated = assumed.tolerated.map(|t| Budget { false_alarms_per_month: t.per_month() });
        let budget = tolerated.unwrap_or(self.core.settings.budget);
        let items = plan(&release.baseline, release.schema.window_ms, devices, budget);
        json!({
            "model": model, "release": release.name, "devices": devices,
            "false_alarms_per_month": budget.false_alarms_per_month, "items": items,
        })
    }

    /// The newest release in use of each model, for the first screen; null when nothing is known of any.
    pub(super) fn performance_panel(&self) -> Value {
        let mut models: Vec<&Name> = self.core.releases.values().map(|r| &r.model).collect();
        models.sort();
        models.dedup();
        let used = |r: &&Release| self.core.devices.values().any(|d| d.release == Some(r.id));
        let mut items = Vec::new();
        for release in models.into_iter().flat_map(|model| self.releases_of(model)).filter(used) {
            let label = format!("{} {}", release.model, release.name);
            items.extend(self.accuracy_item(label, release, &self.known_of(release)));
        }
        items.truncate(PANEL_MAX);
        if items.is_empty() {
            return Value::Null;
        }
        json!({ "title": self.say("accuracy-title", &[]), "caption": self.say("accuracy-caption", &[]), "items": items })
    }

    /// One line about a release over some slots: measured where anything was, else estimated; `None` where neither can be, or too
    /// little was seen.
    pub(super) fn accuracy_item(&self, label: String, release: &Release, known: &Known) -> Option<Value> {
        if self.too_few_of(release, known).is_some() {
            return None;
        }
        if known.labelled > 0 {
            let (labelled, correct) = (known.labelled, known.correct);
            let text = self.say("accuracy-measured", &[("readings", &number::count(labelled))]);
            return Some(json!({
                "label": label, "kind": "measured", "text": text, "labelled": labelled, "correct": correct,
                "share": correct as f64 / labelled as f64, "low": null, "high": null,
                "more": self.more_figures(realised(&known.performance).as_ref(), false),
            }));
        }
        let estimated = self.estimate_of(release, known)?;
        let accuracy = estimated.accuracy;
        let (low, high) = (number::percent(accuracy.low()), number::percent(accuracy.high()));
        let text = self.say("accuracy-estimated", &[("low", &low), ("high", &high)]);
        Some(json!({
            "label": label, "kind": "estimated", "text": text, "labelled": 0, "correct": 0,
            "share": accuracy.value, "low": accuracy.low(), "high": accuracy.high(),
            "more": self.more_figures(Some(&estimated), true),
        }))
    }

    /// Precision, recall, F1 and AUROC as far as they are known, for those who ask for them; with intervals where they are estimates.
    fn more_figures(&self, of: Option<&Estimate>, estimated: bool) -> Vec<Value> {
        let Some(e) = of else { return Vec::new() };
        let figures = [("precision", e.precision), ("recall", e.recall), ("f1", e.f1), ("auroc", e.auroc)];
        let known = figures.into_iter().filter_map(|(id, figure)| Some((id, figure?)));
        known
            .map(|(id, figure)| {
                let [value, low, high] = [figure.value, figure.low(), figure.high()].map(|v| format!("{v:.2}"));
                let text = if estimated { format!("{value} ({low} – {high})") } else { value };
                json!({ "label": self.say(&format!("figure-{id}"), &[]), "text": text })
            })
            .collect()
    }

    /// Why a release's performance cannot be estimated.
    pub(super) fn why_no_estimate(&self, release: &Release) -> Option<String> {
        let classifies = matches!(release.schema.task, Task::Classification(_));
        let id = match (classifies, &release.baseline.calibration) {
            (false, _) => "performance-numbers",
            (true, None) => "performance-no-calibration",
            (true, Some(_)) => return None,
        };
        Some(self.say(id, &[("model", &format!("{} {}", release.model, release.name))]))
    }

    /// Why nothing is said of a release that has judged something, but too little.
    fn too_few_of(&self, release: &Release, known: &Known) -> Option<String> {
        let few = self.too_few(known.samples, u64::from(release.baseline.window_samples));
        few.filter(|_| known.samples > 0)
    }

    fn known_of(&self, release: &Release) -> Known {
        self.core.history.known_within(release.id, &Group::Fleet, 0..u64::MAX)
    }

    fn estimate_of(&self, release: &Release, known: &Known) -> Option<Estimate> {
        estimate(&known.performance, release.baseline.calibration.as_ref()?)
    }

    fn release_performance(&self, release: &Release) -> Value {
        let window = u64::from(release.schema.window_ms);
        let slots = self.core.history.known(release.id, &Group::Fleet);
        let point = |(slot, known): (&u64, &Known)| {
            let estimated = self
                .estimate_of(release, known)
                .map(|e| json!({ "accuracy": e.accuracy.value, "low": e.accuracy.low(), "high": e.accuracy.high() }));
            let measured = (known.labelled > 0).then(
                || json!({ "accuracy": known.correct as f64 / known.labelled as f64, "labelled": known.labelled }),
            );
            json!({ "t_ms": slot * window, "samples": known.samples, "estimated": estimated, "realised": measured })
        };
        let series: Vec<Value> = slots.iter().skip(slots.len().saturating_sub(SERIES_MAX)).map(point).collect();
        let known = self.known_of(release);
        let enough = self.too_few_of(release, &known).is_none();
        let estimated = self.estimate_of(release, &known).filter(|_| enough);
        let measured = (known.labelled > 0 && enough).then(|| measured_json(&known));
        let shown = match (&measured, &estimated) {
            (Some(_), _) => Some("measured"),
            (None, Some(_)) => Some("estimated"),
            (None, None) => None,
        };
        let calibration = release.baseline.calibration.as_ref();
        json!({
            "release": release.name, "samples": known.samples, "shown": shown,
            "sentence": self.performance_sentence(release, &known),
            "calibration": calibration.map(|c| json!({ "of": c.of, "rows": c.rows, "held_out": c.held_out })),
            "why_not": self.why_no_estimate(release),
            "estimated": estimated.map(|e| estimate_json(&e)), "realised": measured, "series": series,
        })
    }

    fn performance_sentence(&self, release: &Release, known: &Known) -> String {
        let model = format!("{} {}", release.model, release.name);
        if let Some(too_few) = self.too_few_of(release, known) {
            return self.say("performance-too-few", &[("model", &model), ("few", &too_few)]);
        }
        let estimated = self.estimate_of(release, known);
        let interval = |e: &Estimate| [e.accuracy.value, e.accuracy.low(), e.accuracy.high()].map(number::percent);
        if known.labelled > 0 {
            let share = number::percent(known.correct as f64 / known.labelled as f64);
            let readings = number::count(known.labelled);
            let arguments = [("model", model.as_str()), ("share", &share), ("readings", &readings)];
            let sentence = self.say("performance-measured", &arguments);
            let Some(estimated) = estimated else { return sentence };
            let [value, low, high] = interval(&estimated);
            let samples = number::count(estimated.samples);
            let more = [("value", value.as_str()), ("low", &low), ("high", &high), ("samples", &samples)];
            return format!("{sentence} {}", self.say("performance-beside", &more));
        }
        let Some(estimated) = estimated else {
            let nothing = || self.say("performance-nothing", &[("model", &model)]);
            return self.why_no_estimate(release).unwrap_or_else(nothing);
        };
        let [value, low, high] = interval(&estimated);
        let arguments = [("model", model.as_str()), ("value", &value), ("low", &low), ("high", &high)];
        let sentence = self.say("performance-estimated", &arguments);
        let seen = release.baseline.calibration.as_ref().is_some_and(|c| !c.held_out);
        if seen { format!("{sentence} {}", self.say("performance-training-rows", &[])) } else { sentence }
    }
}

fn estimate_json(e: &Estimate) -> Value {
    let figure = |f: Figure| json!({ "value": f.value, "low": f.low(), "high": f.high() });
    json!({
        "samples": e.samples, "accuracy": figure(e.accuracy), "precision": e.precision.map(figure),
        "recall": e.recall.map(figure), "f1": e.f1.map(figure), "auroc": e.auroc.map(figure),
    })
}

fn measured_json(known: &Known) -> Value {
    let figures = realised(&known.performance);
    let value = |of: fn(&Estimate) -> Option<Figure>| figures.as_ref().and_then(of).map(|f| f.value);
    json!({
        "labelled": known.labelled, "correct": known.correct, "accuracy": known.correct as f64 / known.labelled as f64,
        "precision": value(|e| e.precision), "recall": value(|e| e.recall), "f1": value(|e| e.f1),
    })
}
