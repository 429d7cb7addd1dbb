//! What time does to the collector: slots close, detectors step, incidents are reconciled, rollouts move.

use super::{Collector, Topic};
use crate::detect::panel::{Level, Panel, Signal, share};
use crate::incident::{Evidence, Figures, Fleet, Happened, Reporting};
use crate::record::Write;
use crate::rollout::machine::{Pause, Progress, State};
use driftline_shared::drift::detector::CALM_WINDOWS;
use driftline_shared::units::{Generation, Name, Now, ReleaseId, WallMs};
use driftline_shared::wire::messages::{self, SlotState};
use std::collections::{BTreeMap, BTreeSet};

/// A device counts as reporting when it had a window among so many closed slots.
pub(crate) const REPORTING_SLOTS: u64 = 3;
/// Grace when none is set: in windows, and at least.
const GRACE_WINDOWS: f64 = 1.5;
const GRACE_MS_MIN: u64 = 2_000;
/// What the release that a device runs is called among its labels.
pub(crate) const RELEASE_LABEL: &str = "release";

impl Collector {
    /// How long after its end a slot of this release stays open.
    fn grace_ms(&self, window_ms: u32) -> u64 {
        let by_window = (f64::from(window_ms) * GRACE_WINDOWS) as u64;
        self.settings.grace_ms.unwrap_or(by_window.max(GRACE_MS_MIN))
    }

    pub(super) fn close_slots(&mut self, now: Now) {
        let mut models = BTreeSet::new();
        let releases: Vec<_> = self.releases.values().cloned().collect();
        share::divide(self.settings.budget, now.wall, self.panels.values_mut());
        for release in releases {
            let window_ms = release.schema.window_ms;
            let closable = now.wall.0.saturating_sub(self.grace_ms(window_ms)) / u64::from(window_ms);
            let panel = self.panels.get_mut(&release.id).expect("every release has a panel");
            let due = panel.next_open().is_some_and(|open| open < closable) || panel.is_reopened();
            if due && closable > 0 && panel.close_through(closable - 1, &self.devices, &self.settings.cohort_label) {
                models.insert(release.model.clone());
                let state = panel.take_checkpoint();
                self.writes.extend(state.map(|(settled, body)| Write::Detectors {
                    release: release.id,
                    settled,
                    body,
                }));
            }
        }
        for model in models {
            self.reconcile(now, &model);
        }
    }

    fn reconcile(&mut self, now: Now, model: &Name) {
        let evidence = self.evidence(model);
        let alarmed: BTreeSet<Name> = evidence.iter().flat_map(|e| e.devices.iter().cloned()).collect();
        let view = FleetNow {
            panels: &self.panels,
            devices: &self.devices,
            reporting: self.reporting(model),
            alarmed: &alarmed,
        };
        let happened = self.book.reconcile(now.wall, model, &evidence, &view);
        self.alarmed.insert(model.clone(), alarmed);
        for what in happened {
            let (id, kind) = match what {
                Happened::Opened(id) => (id, "incident.opened"),
                Happened::Updated(id) => (id, "incident.updated"),
                Happened::Resolved(id) => (id, "incident.resolved"),
            };
            self.event(now, kind, format!("INC-{id}"));
        }
        let live: Vec<_> = self
            .book
            .all()
            .filter(|i| i.model == *model && (i.is_live() || i.resolved == Some(now.wall)))
            .cloned()
            .collect();
        for incident in live {
            self.changed.insert(Topic::Incident(incident.id));
            self.writes.push(Write::Incident(Box::new(incident)));
        }
        self.changed.extend([Topic::Overview, Topic::Incidents, Topic::Devices]);
    }

    /// Devices of a model that reported lately, with their labels: the cohort label first, and the release that runs last.
    pub(crate) fn reporting(&self, model: &Name) -> BTreeMap<Name, Reporting> {
        let panels = self.panels.iter().filter(|(id, _)| self.releases.get(id).is_some_and(|r| r.model == *model));
        let names = panels.flat_map(|(id, panel)| {
            let runs = move |name: &Name| self.devices.get(name).is_some_and(|d| d.release == Some(*id));
            panel.reporting(REPORTING_SLOTS).into_iter().filter(runs)
        });
        names.map(|name| (name.clone(), self.labels_of(&name))).collect()
    }

    fn labels_of(&self, name: &Name) -> Reporting {
        let first = &self.settings.cohort_label;
        let mut labels = vec![(first.clone(), self.cohort_of(name))];
        if let Some(device) = self.devices.get(name) {
            labels
                .extend(device.labels.iter().filter(|(label, _)| *label != first).map(|(l, v)| (l.clone(), v.clone())));
            let release = device.release.and_then(|id| self.releases.get(&id));
            labels.extend(release.map(|release| (RELEASE_LABEL.to_owned(), release.name.to_string())));
        }
        Reporting { labels }
    }

    pub(crate) fn cohort_of(&self, device: &Name) -> String {
        self.devices.get(device).map_or("-", |d| d.cohort(&self.settings.cohort_label)).to_owned()
    }

    /// Every standing alarm of a model on devices that still run the release it is about.
    fn evidence(&mut self, model: &Name) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        let releases: Vec<_> = self.releases.values().filter(|r| r.model == *model).cloned().collect();
        for release in releases {
            let reporting = self.reporting(model);
            let panel = self.panels.get_mut(&release.id).expect("every release has a panel");
            let here = |name: &Name| self.devices.get(name).is_some_and(|d| d.release == Some(release.id));
            let feature_name = |feature: usize| release.baseline.features[feature].name.as_str();
            let signals = panel.signals();
            for signal in &signals {
                let (place, devices) = match &signal.level {
                    Level::Device(name) if here(name) => (name.to_string(), BTreeSet::from([name.clone()])),
                    Level::Device(_) => continue,
                    level => {
                        let among: BTreeSet<Name> = reporting
                            .iter()
                            .filter(|(n, r)| here(n) && panel.seen(n).is_enough() && level.speaks_of(r))
                            .map(|(n, _)| n.clone())
                            .collect();
                        let label = &self.settings.cohort_label;
                        let latch = &signal.latch;
                        let clearer: Vec<BTreeSet<Name>> = signals
                            .iter()
                            .filter(|other| is_clearer(other, signal))
                            .map(|other| {
                                let members = reporting.iter().filter(|(_, r)| other.level.speaks_of(r));
                                members.map(|(n, _)| n.clone()).collect()
                            })
                            .collect();
                        let showing =
                            panel.showing(signal.feature, level, latch, &among, &clearer, &self.devices, label);
                        // A few very sick devices move a sum, too: then their own detectors name them.
                        if showing.is_empty() || 2 * showing.len() < among.len() {
                            continue;
                        }
                        (format!("{level:?}"), showing)
                    }
                };
                evidence.push(Evidence {
                    source: format!("{}/{place}/{}", release.id, feature_name(signal.feature)),
                    release: release.clone(),
                    feature: signal.feature,
                    latch: signal.latch,
                    threshold: signal.threshold,
                    devices,
                });
            }
        }
        evidence
    }

    pub(super) fn drive_rollouts(&mut self, now: Now) {
        let live: Vec<u64> = self.rollouts.values().filter(|r| r.is_live()).map(|r| r.id).collect();
        for id in live {
            let rollout = &self.rollouts[&id];
            let to = rollout.plan.to;
            let alarmed = self.alarmed.get(&rollout.plan.model);
            let drifts = |name: &Name| {
                alarmed.is_some_and(|a| a.contains(name))
                    && self.devices.get(name).is_some_and(|d| d.release == Some(to))
            };
            let installed = rollout.targets.iter().filter(|(_, t)| t.progress == Progress::Installed);
            let drifting = installed.filter(|(name, _)| drifts(name)).count();
            let rollout = self.rollouts.get_mut(&id).expect("listed above");
            let before = (rollout.state.clone(), rollout.stage, rollout.activity.len());
            let sends = rollout.tick(now.wall, drifting);
            let after = (rollout.state.clone(), rollout.stage, rollout.activity.len());
            let staged = !sends.is_empty();
            self.send_all(id, &sends);
            if before != after || staged {
                self.rollout_changed(id);
                let kind = match &after.0 {
                    State::Paused { why: Pause::User } | State::Aborting => None,
                    State::Paused { .. } if before.0 != after.0 => Some("rollout.paused"),
                    State::Done if before.0 != after.0 => Some("rollout.done"),
                    State::Aborted if before.0 != after.0 => Some("rollout.aborted"),
                    State::Running if staged => Some("rollout.stage"),
                    _ => None,
                };
                if let Some(kind) = kind {
                    self.event(now, kind, id.to_string());
                }
            }
        }
    }

    /// Gives devices a new desired release, each with a new generation.
    pub(super) fn send_all(&mut self, rollout: u64, sends: &[crate::rollout::machine::Send]) {
        for send in sends {
            let Some(device) = self.devices.get_mut(&send.device) else { continue };
            device.generation = Generation(device.generation.0 + 1);
            device.desired = Some(send.release);
            let (generation, stored) = (device.generation, Box::new(device.clone()));
            self.writes.push(Write::Device { name: send.device.clone(), device: stored });
            if let Some(target) = self.rollouts.get_mut(&rollout).and_then(|r| r.targets.get_mut(&send.device)) {
                target.generation = generation;
            }
            self.send_desired(&send.device);
        }
    }

    pub(super) fn rollout_changed(&mut self, id: u64) {
        if let Some(rollout) = self.rollouts.get(&id) {
            self.writes.push(Write::Rollout(Box::new(rollout.clone())));
        }
        self.changed.extend([Topic::Overview, Topic::Rollouts, Topic::Rollout(id), Topic::Devices]);
    }

    pub(super) fn born(&mut self, now: Now, name: &Name, birth: &messages::Birth) {
        let Some(device) = self.devices.get_mut(name) else { return };
        device.born(birth, now.wall);
        let behind = device.desired.is_some() && device.desired != device.release;
        self.writes.push(Write::Device { name: name.clone(), device: Box::new(device.clone()) });
        if behind {
            self.send_desired(name);
        }
        self.labels.again(name);
        self.ask_again(name);
        // What it has in flight may be stored already: say so before it sends again.
        self.acks.insert((name.clone(), birth.stream));
    }

    /// A device said what became of a release, or of truths.
    pub(super) fn reported(&mut self, now: Now, name: &Name, event: &messages::Event) {
        let (release, state, reason) = match event {
            messages::Event::Slot { release, state, reason, .. } => (release, state, reason),
            messages::Event::Truth(truth) => return self.told(now, name, truth),
        };
        let Some(device) = self.devices.get_mut(name) else { return };
        device.seen = now.wall;
        match state {
            SlotState::ActiveUncommitted | SlotState::Committed => device.release = Some(*release),
            // It runs what it had; asking again would fail again.
            SlotState::Failed | SlotState::RolledBack if device.desired == Some(*release) => {
                device.desired = device.release.filter(|r| r != release);
            }
            _ => {}
        }
        let stored = Box::new(device.clone());
        self.writes.push(Write::Device { name: name.clone(), device: stored });
        let touched: Vec<u64> =
            self.rollouts.values().filter(|r| r.is_live() && r.targets.contains_key(name)).map(|r| r.id).collect();
        for id in touched {
            let rollout = self.rollouts.get_mut(&id).expect("listed above");
            let failed_before = matches!(rollout.targets[name].progress, Progress::Failed { .. });
            rollout.reported(now.wall, name, *release, *state, reason.as_str());
            let failed = matches!(rollout.targets[name].progress, Progress::Failed { .. });
            self.rollout_changed(id);
            if failed && !failed_before {
                self.event(now, "device.failed", name.to_string());
            }
        }
    }
}

/// Whether another group shows the same change by more.
fn is_clearer(other: &Signal, signal: &Signal) -> bool {
    let (mine, theirs) = (&signal.latch, &other.latch);
    matches!(other.level, Level::Cohort(_))
        && other.level != signal.level
        && other.feature == signal.feature
        && (theirs.alarm.family, theirs.alarm.sign) == (mine.alarm.family, mine.alarm.sign)
        && theirs.effect > mine.effect
}

/// What incidents need to know of the fleet at this moment.
struct FleetNow<'a> {
    panels: &'a BTreeMap<ReleaseId, Panel>,
    devices: &'a crate::device::Devices,
    reporting: BTreeMap<Name, Reporting>,
    alarmed: &'a BTreeSet<Name>,
}

impl Fleet for FleetNow<'_> {
    fn reporting(&self) -> &BTreeMap<Name, Reporting> {
        &self.reporting
    }

    fn calm(&self, name: &Name) -> bool {
        let Some(device) = self.devices.get(name) else { return true };
        if !device.connected {
            return true;
        }
        let windows = device.release.and_then(|id| self.panels.get(&id)).map_or(0, |panel| panel.seen(name).slots);
        !self.alarmed.contains(name) && windows >= CALM_WINDOWS
    }

    fn runs(&self, name: &Name, release: ReleaseId) -> bool {
        self.reporting.contains_key(name) && self.devices.get(name).is_some_and(|d| d.release == Some(release))
    }

    fn figures(&self, release: ReleaseId, feature: &str, devices: &BTreeSet<Name>, since: WallMs) -> Option<Figures> {
        let panel = self.panels.get(&release)?;
        let index = panel.release().feature(feature)?;
        panel
            .sum(index, Some(devices), panel.slot_of(since.0))
            .map(|sketch| Figures::new(&sketch, &panel.release().baseline.features[index].cells))
    }
}
