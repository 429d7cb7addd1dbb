//! Lists: incidents, rollouts, models, devices.

use super::View;
use crate::collector::Collector;
use crate::history::Group;
use crate::incident::Incident;
use crate::release::Release;
use driftline_shared::units::Name;
use serde_json::{Value, json};

impl<'a> View<'a> {
    /// The releases of a model, oldest first.
    pub(super) fn releases_of<'m>(&self, model: &'m Name) -> impl Iterator<Item = &'a Release> + use<'a, 'm> {
        let core: &'a Collector = self.core;
        let mut releases: Vec<&'a Release> =
            core.releases.values().map(|r| &**r).filter(|r| r.model == *model).collect();
        releases.sort_by_key(|r| (r.added, r.id));
        releases.into_iter()
    }

    pub(super) fn incidents(&self) -> Value {
        // Newest first, what needs a decision before what is over.
        let mut incidents: Vec<&Incident> = self.core.book.all().collect();
        incidents.sort_by_key(|i| (!i.is_live(), std::cmp::Reverse(i.id)));
        let items: Vec<Value> = incidents.iter().map(|i| self.incident_card(i)).collect();
        self.list_of(items, "empty-incidents")
    }

    pub(super) fn rollouts(&self) -> Value {
        let items: Vec<Value> = self.core.rollouts.values().rev().map(|r| self.rollout_card(r)).collect();
        self.list_of(items, "empty-rollouts")
    }

    pub(super) fn models(&self) -> Value {
        let mut releases: Vec<&Release> = self.core.releases.values().map(|r| &**r).collect();
        releases.sort_by(|a, b| a.model.cmp(&b.model).then(a.added.cmp(&b.added)));
        let items = releases.iter().map(|r| {
            let known = self.core.history.known_within(r.id, &Group::Fleet, 0..u64::MAX);
            let (labelled, correct) = (known.labelled, known.correct);
            let accuracy = self.accuracy_item(format!("{} {}", r.model, r.name), r, &known);
            let devices = self.core.devices.values().filter(|d| d.release == Some(r.id)).count();
            json!({
                "model": r.model, "release": r.name, "digest": r.digest, "devices": devices,
                "baseline_rows": r.baseline.rows, "added_ms": r.added.0, "labelled": labelled, "correct": correct,
                "accuracy": accuracy, "accuracy_missing": self.why_no_estimate(r),
            })
        });
        self.list_of(items.collect(), "empty-models")
    }

    pub(super) fn devices(&self) -> Value {
        let items = self.core.devices.iter().map(|(name, d)| {
            let release = d.release.and_then(|id| self.release(id));
            let worst = release.and_then(|r| self.worst(r, name));
            let too_few = self.seen(name).and_then(|seen| self.too_few(seen.samples, seen.needed));
            json!({
                "id": name, "labels": d.labels, "state": self.device_state(name).code(),
                "worst_feature": worst.as_ref().map(|w| &w.0), "difference": worst.as_ref().map(|w| w.1),
                "model": release.map(|r| &r.model), "release": self.release_name(d.release),
                "seen_ms": d.seen.0, "connected": d.connected, "note": too_few,
            })
        });
        self.list_of(items.collect(), "empty-devices")
    }

    /// Requests for raw samples, without the samples.
    pub(super) fn evidence_list(&self) -> Value {
        let items = self.core.evidence.all().map(|r| {
            json!({
                "id": r.id, "device": r.wanted.device, "samples": r.wanted.samples, "reason": r.wanted.reason,
                "asked_ms": r.asked_ms, "state": r.state, "said": r.said, "rows": r.rows.len(),
            })
        });
        self.list_of(items.collect(), "empty-evidence")
    }

    /// The reading of a device in which a live incident sees the largest change, with that effect in standard deviations.
    fn worst(&self, release: &Release, device: &Name) -> Option<(String, f64)> {
        let live = self.core.book.all().filter(|i| i.is_live() && i.model == release.model);
        let moved = live.flat_map(|i| &i.moved).filter(|(_, m)| m.devices.contains(device));
        moved.map(|(name, m)| (name.clone(), m.effect_sd)).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn list_of(&self, items: Vec<Value>, empty: &str) -> Value {
        let sentence = items.is_empty().then(|| self.say(empty, &[]));
        json!({ "items": items, "empty": sentence })
    }
}
