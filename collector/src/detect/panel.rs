//! All detectors of one release.
//!
//! Windows are kept by slot. A slot is stepped once it is closed: first every device, then every cohort on the sum of its
//! devices' windows, then the fleet. A window that comes late for a stepped slot makes the panel go back to its checkpoint and
//! step again, so that verdicts do not depend on the order of arrival. What is older than the checkpoint is refused and counted.

use super::budget::Budget;
use crate::device::Devices;
use crate::history::{Group, Merged};
use crate::release::Release;
use driftline_shared::drift::design::Design;
use driftline_shared::drift::detector::{Detector, Latch};
use driftline_shared::drift::scores::Family;
use driftline_shared::sketch::Sketch;
use driftline_shared::units::Name;
use driftline_shared::window::Window;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Slots between the checkpoint and the newest, at most twice this.
const REPLAY_SLOTS_MAX: usize = 64;
/// And at least.
const REPLAY_SLOTS_MIN: usize = 8;
/// Memory for kept windows of one release; more devices make the replayed span shorter.
const LOG_BYTES_MAX: usize = 256 << 20;

/// Where a detector stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One device.
    Device(Name),
    /// A cohort, or the fleet.
    Group(Group),
}

/// A latched detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Where.
    pub level: Level,
    /// Which feature of the release.
    pub feature: usize,
    /// What it alarms about.
    pub latch: Latch,
    /// The threshold it had to pass.
    pub threshold: f64,
}

type Row = Vec<Detector>;

/// The detectors' state after some slot.
#[derive(Debug, Clone, Default)]
struct Detectors {
    device: BTreeMap<Name, Row>,
    group: BTreeMap<Group, Row>,
    /// Slots stepped with windows of this device.
    stepped: BTreeMap<Name, u32>,
}

/// All detectors of one release.
#[derive(Debug)]
pub struct Panel {
    release: Arc<Release>,
    budget: Budget,
    designs: BTreeMap<(usize, u32), Arc<Design>>,
    checkpoint: Detectors,
    /// Windows of this slot and before are settled.
    settled: Option<u64>,
    now: Detectors,
    closed: Option<u64>,
    log: BTreeMap<u64, BTreeMap<Name, Merged>>,
    reopened: bool,
}

impl Panel {
    /// A panel that has seen nothing.
    pub fn new(release: Arc<Release>, budget: Budget) -> Self {
        Self {
            release,
            budget,
            designs: BTreeMap::new(),
            checkpoint: Detectors::default(),
            settled: None,
            now: Detectors::default(),
            closed: None,
            log: BTreeMap::new(),
            reopened: false,
        }
    }

    /// The release it watches.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The slot that holds a time.
    pub fn slot_of(&self, start_ms: u64) -> u64 {
        start_ms / u64::from(self.release.schema.window_ms)
    }

    /// Takes in a device's window. False when its slot is settled: too late for a verdict.
    pub fn add(&mut self, slot: u64, device: &Name, window: &Window) -> bool {
        if self.settled.is_some_and(|settled| slot <= settled) {
            return false;
        }
        self.reopened |= self.closed.is_some_and(|closed| slot <= closed);
        self.log.entry(slot).or_default().entry(device.clone()).or_default().add(window);
        true
    }

    /// Steps every slot up to and including `slot`. Returns whether anything was stepped.
    pub fn close_through(&mut self, slot: u64, devices: &Devices, cohort_label: &str) -> bool {
        let from = if self.reopened {
            self.now = self.checkpoint.clone();
            self.reopened = false;
            self.settled
        } else {
            self.closed
        };
        // A reopened span is stepped again up to where it had been closed.
        let slot = self.closed.map_or(slot, |closed| closed.max(slot));
        let first = from.map_or(0, |from| from + 1);
        if first > slot {
            return false;
        }
        let due: Vec<u64> = self.log.range(first..=slot).map(|(&s, _)| s).collect();
        for &s in &due {
            let mut state = std::mem::take(&mut self.now);
            self.step(&mut state, s, devices, cohort_label);
            self.now = state;
        }
        self.closed = Some(slot);
        self.settle(devices, cohort_label);
        !due.is_empty()
    }

    /// The first slot that is not closed but has windows.
    pub fn next_open(&self) -> Option<u64> {
        let first = self.closed.map_or(0, |closed| closed + 1);
        self.log.range(first..).next().map(|(&slot, _)| slot)
    }

    /// Whether a stepped slot was reopened by a late window.
    pub fn is_reopened(&self) -> bool {
        self.reopened
    }

    /// The last closed slot.
    pub fn closed(&self) -> Option<u64> {
        self.closed
    }

    /// Slots stepped with windows of a device.
    pub fn stepped(&self, device: &Name) -> u32 {
        self.now.stepped.get(device).copied().unwrap_or(0)
    }

    /// Devices with a window among the last `slots` closed ones.
    pub fn reporting(&self, slots: u64) -> BTreeSet<Name> {
        let Some(closed) = self.closed else { return BTreeSet::new() };
        let from = closed.saturating_sub(slots.saturating_sub(1));
        self.log.range(from..=closed).flat_map(|(_, windows)| windows.keys().cloned()).collect()
    }

    /// Every latched detector.
    pub fn signals(&self) -> Vec<Signal> {
        let devices = self.now.device.iter().map(|(name, row)| (Level::Device(name.clone()), row));
        let groups = self.now.group.iter().map(|(group, row)| (Level::Group(group.clone()), row));
        let mut signals = Vec::new();
        for (level, row) in devices.chain(groups) {
            let threshold = self.threshold(&level, &self.now);
            for (feature, detector) in row.iter().enumerate() {
                if let Some(latch) = detector.latch() {
                    signals.push(Signal { level: level.clone(), feature, latch: *latch, threshold });
                }
            }
        }
        signals
    }

    /// A feature's sketch summed over these devices (all when `None`) from a slot on, as far back as windows are kept.
    pub fn sum(&self, feature: usize, devices: Option<&BTreeSet<Name>>, from_slot: u64) -> Option<Sketch> {
        let mut sum: Option<Sketch> = None;
        for windows in self.log.range(from_slot..).map(|(_, windows)| windows) {
            for (_, merged) in windows.iter().filter(|(name, _)| devices.is_none_or(|d| d.contains(*name))) {
                let Some(sketch) = merged.sketches.get(feature) else { continue };
                match &mut sum {
                    Some(sum) => sum.merge(sketch).expect("windows of one release have the cells of its baseline"),
                    None => sum = Some(sketch.clone()),
                }
            }
        }
        sum
    }

    /// The devices that themselves show what a group's detector alarms about: whose mean score since the onset is further
    /// from tolerance than half of the group's own. `among` are the group's devices.
    pub fn showing(&mut self, feature: usize, latch: &Latch, among: &BTreeSet<Name>) -> BTreeSet<Name> {
        let alarm = latch.alarm;
        let Some(all) = self.sum(feature, Some(among), alarm.onset) else { return BTreeSet::new() };
        let design = self.design(feature, &all);
        let tau = tolerated(&design, alarm.family);
        let mean = |sketch: &Sketch| {
            let score = design.scores.sum(alarm.family, sketch.counts(), gone(sketch));
            if score.n > 0.0 { alarm.sign * score.sum / score.n } else { 0.0 }
        };
        let limit = tau + 0.5 * (mean(&all) - tau).max(0.0);
        let shows = |name: &&Name| {
            let one = BTreeSet::from([(*name).clone()]);
            self.sum(feature, Some(&one), alarm.onset).is_some_and(|sketch| mean(&sketch) > limit)
        };
        among.iter().filter(shows).cloned().collect()
    }

    fn threshold(&self, level: &Level, state: &Detectors) -> f64 {
        let watched = self.release.baseline.features.iter().filter(|f| f.unwatched.is_none()).count();
        let streams = match level {
            Level::Device(_) => state.device.len(),
            Level::Group(Group::Cohort(_)) => state.group.len().saturating_sub(1),
            Level::Group(Group::Fleet) => 1,
        };
        self.budget.threshold(streams.max(1) * watched.max(1), self.release.schema.window_ms)
    }

    fn step(&mut self, state: &mut Detectors, slot: u64, devices: &Devices, cohort_label: &str) {
        let Some(windows) = self.log.get_mut(&slot).map(std::mem::take) else { return };
        let mut groups: BTreeMap<Group, Merged> = BTreeMap::new();
        let rows = || vec![Detector::default(); self.release.baseline.features.len()];
        // Every device is known before any threshold is taken, so that thresholds do not depend on the order of names.
        for (name, merged) in &windows {
            state.device.entry(name.clone()).or_insert_with(rows);
            *state.stepped.entry(name.clone()).or_default() += 1;
            let cohort = devices.get(name).map_or("-", |d| d.cohort(cohort_label)).to_owned();
            groups.entry(Group::Cohort(cohort)).or_default().merge(merged);
            groups.entry(Group::Fleet).or_default().merge(merged);
        }
        for group in groups.keys() {
            state.group.entry(group.clone()).or_insert_with(rows);
        }
        for (name, merged) in &windows {
            let threshold = self.threshold(&Level::Device(name.clone()), state);
            let row = state.device.get_mut(name).expect("inserted above");
            self.step_row(row, merged, slot, threshold);
        }
        for (group, merged) in &groups {
            let threshold = self.threshold(&Level::Group(group.clone()), state);
            let row = state.group.get_mut(group).expect("inserted above");
            self.step_row(row, merged, slot, threshold);
        }
        self.log.insert(slot, windows);
    }

    fn step_row(&mut self, row: &mut Row, merged: &Merged, slot: u64, threshold: f64) {
        for (feature, (detector, sketch)) in row.iter_mut().zip(&merged.sketches).enumerate() {
            let design = self.design(feature, sketch);
            if !design.components.is_empty() {
                detector.step(&design, sketch.counts(), gone(sketch), slot, threshold);
            }
        }
    }

    /// The design for windows of this size, by powers of two: the bets follow the size, the arithmetic uses the true one.
    fn design(&mut self, feature: usize, sketch: &Sketch) -> Arc<Design> {
        let n = (sketch.n() + u64::from(gone(sketch))).max(1);
        let size = n.ilog2();
        let features = self.release.baseline.features.len();
        let baseline = &self.release.baseline.features[feature];
        let make = || Arc::new(Design::new(baseline, features, (1u64 << size) as f64));
        Arc::clone(self.designs.entry((feature, size)).or_insert_with(make))
    }

    /// Moves the checkpoint on when the log has grown to twice the span that is replayed.
    fn settle(&mut self, devices: &Devices, cohort_label: &str) {
        let a_slot = self.now.device.len().max(1) * self.release.baseline.features.len() * size_of::<Sketch>();
        let keep = (LOG_BYTES_MAX / a_slot.max(1)).clamp(REPLAY_SLOTS_MIN, REPLAY_SLOTS_MAX);
        let Some(closed) = self.closed else { return };
        let kept: Vec<u64> = self.log.range(..=closed).map(|(&slot, _)| slot).collect();
        if kept.len() < 2 * keep {
            return;
        }
        let old = &kept[..kept.len() - keep];
        let mut state = std::mem::take(&mut self.checkpoint);
        for &slot in old {
            self.step(&mut state, slot, devices, cohort_label);
        }
        self.checkpoint = state;
        for slot in old {
            self.log.remove(slot);
        }
        self.settled = old.last().copied();
    }
}

/// Readings that were missing or broken: to the detector the same.
pub fn gone(sketch: &Sketch) -> u32 {
    sketch.missing().saturating_add(sketch.non_finite())
}

fn tolerated(design: &Design, family: Family) -> f64 {
    design.components.iter().find(|c| c.family == family).map_or(0.0, |c| c.tau)
}
