//! The first screen: one headline, what needs a decision, and where.

use super::{DeviceState, SILENT_MS_MIN, SILENT_WINDOWS, View};
use crate::detect::panel::Level;
use crate::explain::number;
use crate::incident::Incident;
use driftline_shared::units::Name;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Incidents on the first screen; all of them are on the next.
const CARDS_MAX: usize = 5;
/// Rows and columns of the heat map.
const HEAT_MAX: usize = 40;

#[derive(Default)]
struct Counts {
    normal: usize,
    drifting: usize,
    updating: usize,
    offline: usize,
    learning: usize,
}

impl View<'_> {
    pub(super) fn overview(&self) -> Value {
        let mut counts = Counts::default();
        for name in self.core.devices.keys() {
            match self.device_state(name) {
                DeviceState::Offline => counts.offline += 1,
                DeviceState::Updating => counts.updating += 1,
                DeviceState::Drifting => counts.drifting += 1,
                DeviceState::Learning => counts.learning += 1,
                DeviceState::Normal => counts.normal += 1,
            }
        }
        let open: Vec<&Incident> = self.core.book.all().rev().filter(|i| i.is_live()).collect();
        let (state, headline, summary) = self.headline(&counts, &open);
        let cards: Vec<Value> = open.iter().take(CARDS_MAX).map(|i| self.incident_card(i)).collect();
        let rollouts: Vec<Value> =
            self.core.rollouts.values().rev().filter(|r| r.is_live()).map(|r| self.rollout_card(r)).collect();
        let c = &self.core.counters;
        json!({
            "state": state, "headline": headline, "summary": summary,
            "counts": {
                "total": self.core.devices.len(), "normal": counts.normal, "watch": 0, "drifting": counts.drifting,
                "updating": counts.updating, "offline": counts.offline, "learning": counts.learning,
            },
            "incidents": cards, "rollouts": rollouts, "heat": self.heat(), "timeline": self.main_timeline(),
            "accuracy": self.performance_panel(),
            "ingest": {
                "windows": c.windows, "refused": c.refused.values().sum::<u64>(), "silent": self.silent(),
                "last_ms": c.last_window.map(|t| t.0),
            },
            "notes": self.notes(),
            "empty": (state == "empty").then(|| self.say("summary-empty", &[])),
        })
    }

    /// What is good to know and wants no decision: clocks that are off, devices that had no room for their windows.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let off = |name| self.core.clocks.behind_ms(name);
        let wrong: Vec<&Name> = self.core.devices.keys().filter(|name| off(name) != 0).collect();
        if let Some(worst) = wrong.iter().max_by_key(|name| off(name).unsigned_abs()) {
            let id = if off(worst) > 0 { "note-clocks-behind" } else { "note-clocks-ahead" };
            let (n, time) = (wrong.len().to_string(), number::duration(self.lang, off(worst).unsigned_abs()));
            notes.push(self.say(id, &[("n", &n), ("device", worst.as_str()), ("time", &time)]));
        }
        let ledgers = || self.core.devices.values().map(|d| &d.ledger);
        let (merged, evicted): (u64, u64) =
            (ledgers().map(|l| l.windows_merged).sum(), ledgers().map(|l| l.windows_evicted).sum());
        if merged + evicted > 0 {
            let (merged, evicted) = (number::count(merged), number::count(evicted));
            notes.push(self.say("note-no-room", &[("merged", &merged), ("evicted", &evicted)]));
        }
        notes
    }

    /// State, headline and the sentence below it. A failure to hear anything outranks drift.
    fn headline(&self, counts: &Counts, open: &[&Incident]) -> (&'static str, String, String) {
        let total = self.core.devices.len();
        let problems = || {
            let (drifting, normal) = (counts.drifting.to_string(), counts.normal.to_string());
            self.say("summary-problems", &[("drifting", &drifting), ("n", &total.to_string()), ("normal", &normal)])
        };
        if total == 0 {
            return ("empty", self.say("headline-empty", &[]), self.say("summary-empty", &[]));
        }
        if let Some(last) = self.stalled() {
            let ago = self.duration(self.now.0 - last);
            let when = self.when(driftline_shared::units::WallMs(last));
            return (
                "stalled",
                self.say("headline-stalled", &[("ago", &ago)]),
                self.say("summary-stalled", &[("when", &when)]),
            );
        }
        if !open.is_empty() {
            let undecided = open.iter().filter(|i| self.answer(i).is_none()).count();
            let headline = match undecided {
                0 => self.say_n("headline-fixing", open.len()),
                n => self.say_n("headline-problems", n),
            };
            return ("drifting", headline, problems());
        }
        if counts.normal + counts.drifting == 0 && counts.learning > 0 {
            let most = self.core.devices.keys().filter_map(|name| self.seen(name)).max_by_key(|seen| seen.samples);
            let few = most.filter(|seen| seen.samples > 0).and_then(|seen| self.too_few(seen.samples, seen.needed));
            let summary = match few {
                Some(few) => self.say("summary-few", &[("few", &few)]),
                None => self.say_n("summary-learning", total),
            };
            return ("learning", self.say("headline-learning", &[]), summary);
        }
        if counts.drifting > 0 {
            // Evidence that has not stood long enough to be a problem, or that is going away.
            return ("watch", self.say("headline-normal", &[]), problems());
        }
        let reporting = (total - counts.offline).to_string();
        let summary = self.say("summary-normal", &[("reporting", &reporting), ("n", &total.to_string())]);
        ("normal", self.say("headline-normal", &[]), summary)
    }

    /// When the last window came, if that is too long ago for every release in use.
    fn stalled(&self) -> Option<u64> {
        let last = self.core.counters.last_window?.0;
        let used: BTreeSet<_> = self.core.devices.values().filter_map(|d| d.release).collect();
        let longest = used.iter().filter_map(|id| self.release(*id)).map(|r| u64::from(r.schema.window_ms)).max()?;
        (self.now.0.saturating_sub(last) > (SILENT_WINDOWS * longest).max(SILENT_MS_MIN)).then_some(last)
    }

    /// Which share of each cohort's devices differs, by reading.
    fn heat(&self) -> Value {
        let mut groups: BTreeMap<String, BTreeSet<Name>> = BTreeMap::new();
        // Reading to devices that differ in it, and those of them that are part of an open problem.
        let mut rows: BTreeMap<&str, (BTreeSet<Name>, BTreeSet<Name>)> = BTreeMap::new();
        let models: BTreeSet<&Name> = self.core.releases.values().map(|r| &r.model).collect();
        for model in models {
            for (device, cohort) in self.core.reporting(model) {
                groups.entry(cohort.cohort().to_owned()).or_default().insert(device);
            }
        }
        for (id, panel) in &self.core.panels {
            let runs = |name: &Name| self.core.devices.get(name).is_some_and(|d| d.release == Some(*id));
            if !self.core.devices.values().any(|d| d.release == Some(*id)) {
                continue;
            }
            for feature in &panel.release().baseline.features {
                rows.entry(feature.name.as_str()).or_default();
            }
            for signal in panel.signals() {
                let name = panel.release().baseline.features[signal.feature].name.as_str();
                if let (Level::Device(device), Some(row)) = (&signal.level, rows.get_mut(name))
                    && runs(device)
                {
                    row.0.insert(device.clone());
                }
            }
        }
        for incident in self.core.book.all().filter(|i| i.is_live()) {
            let alarmed = self.core.alarmed.get(&incident.model);
            for (name, moved) in &incident.moved {
                if let (Some(row), Some(alarmed)) = (rows.get_mut(name.as_str()), alarmed) {
                    let standing = moved.devices.intersection(alarmed).cloned();
                    standing.for_each(|device| {
                        row.0.insert(device.clone());
                        row.1.insert(device);
                    });
                }
            }
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by_key(|(_, (differ, _))| std::cmp::Reverse(differ.len()));
        let columns: Vec<&String> = groups.keys().take(HEAT_MAX).collect();
        let rows = rows.iter().take(HEAT_MAX).map(|(name, (differ, open))| {
            let cells = columns.iter().map(|column| {
                let members = &groups[*column];
                let n = members.intersection(differ).count();
                let share = n as f64 / members.len().max(1) as f64;
                json!({ "share": share, "devices": n, "of": members.len(), "alert": members.intersection(open).next().is_some() })
            });
            json!({ "feature": name, "cells": cells.collect::<Vec<_>>() })
        });
        let rows: Vec<Value> = rows.collect();
        json!({ "columns": columns, "rows": rows, "caption": self.say("heat-caption", &[]) })
    }

    /// The reading of the newest incident, or the first input of the model with the most devices.
    fn main_timeline(&self) -> Value {
        let newest = self.core.book.all().rev().max_by_key(|i| (i.is_live(), i.id));
        if let Some(incident) = newest {
            return self.timeline(&incident.model, &incident.primary, None);
        }
        let mut used: BTreeMap<_, usize> = BTreeMap::new();
        self.core.devices.values().filter_map(|d| d.release).for_each(|id| *used.entry(id).or_default() += 1);
        let most = used.iter().max_by_key(|(_, n)| **n).and_then(|(id, _)| self.release(*id));
        most.map_or(Value::Null, |r| self.timeline(&r.model, r.baseline.features[0].name.as_str(), None))
    }
}
