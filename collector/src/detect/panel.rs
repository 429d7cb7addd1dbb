//! All detectors of one release.
//!
//! Windows are kept by slot. A slot is stepped once it is closed: every device, every cohort (devices that share the value of a
//! label) and the fleet, each beside its [`super::reference`]. A window that comes late for a stepped slot makes the panel go back to its checkpoint and
//! step again, so that verdicts do not depend on the order of arrival. What is older than the checkpoint is refused and counted.

use super::budget::Budget;
use super::designs::{Designs, Place, watched};
use super::reference::{Cohort, Layout, References, Views};
use crate::device::Devices;
use crate::history::Merged;
use crate::incident::Reporting;
use crate::release::Release;
use driftline_shared::drift::detector::{Detector, Latch, View};
use driftline_shared::drift::scores::{Family, Scores, Sum, Sums};
use driftline_shared::sketch::Sketch;
use driftline_shared::units::{Name, WallMs};
use driftline_shared::window::Window;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Slots between the checkpoint and the newest, at most twice this.
const REPLAY_SLOTS_MAX: usize = 64;
/// And at least.
const REPLAY_SLOTS_MIN: usize = 8;
/// Memory for kept windows of one release; more devices make the replayed span shorter.
const LOG_BYTES_MAX: usize = 256 << 20;

/// Groups that have detectors; further ones are only part of the fleet.
const COHORTS_MAX: usize = 1_024;

/// Where a detector stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One device.
    Device(Name),
    /// Devices that share a label's value.
    Cohort(Cohort),
    /// All devices.
    Fleet,
}

impl Level {
    /// Whether a device with these labels is below it.
    pub fn speaks_of(&self, device: &Reporting) -> bool {
        match self {
            Self::Device(_) => false,
            Self::Cohort(Cohort { label, value }) => device.labels.iter().any(|(l, v)| l == label && v == value),
            Self::Fleet => true,
        }
    }
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

/// What a device, a cohort or the fleet brought to its detectors, one per feature.
#[derive(Debug, Clone, Default)]
struct Row {
    detectors: Vec<Detector>,
    /// Slots stepped.
    slots: u32,
    /// Samples in them.
    samples: u64,
}

impl Row {
    fn seen(&mut self, features: usize, samples: u64) {
        self.detectors.resize(features, Detector::default());
        self.slots = self.slots.saturating_add(1);
        self.samples = self.samples.saturating_add(samples);
    }
}

/// How much of a device was seen, and how much a verdict needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Slots stepped with its windows.
    pub slots: u32,
    /// Samples in them.
    pub samples: u64,
    /// Samples before the first verdict: those of a window as the baseline expects it.
    pub needed: u64,
}

impl Seen {
    /// Whether a verdict may be given.
    pub fn is_enough(&self) -> bool {
        self.samples >= self.needed
    }
}

/// The detectors' state after some slot.
#[derive(Debug, Clone, Default)]
struct Detectors {
    device: BTreeMap<Name, Row>,
    cohort: BTreeMap<Cohort, Row>,
    fleet: Row,
}

/// All detectors of one release.
#[derive(Debug)]
pub struct Panel {
    release: Arc<Release>,
    budget: Budget,
    designs: Designs,
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
            designs: Designs::default(),
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

    /// How much of a device was seen.
    pub fn seen(&self, device: &Name) -> Seen {
        let (slots, samples) = self.now.device.get(device).map_or((0, 0), |row| (row.slots, row.samples));
        Seen { slots, samples, needed: self.needed() }
    }

    fn needed(&self) -> u64 {
        u64::from(self.release.baseline.window_samples)
    }

    /// Devices with a window among the last `slots` closed ones.
    pub fn reporting(&self, slots: u64) -> BTreeSet<Name> {
        let Some(closed) = self.closed else { return BTreeSet::new() };
        let from = closed.saturating_sub(slots.saturating_sub(1));
        self.log.range(from..=closed).flat_map(|(_, windows)| windows.keys().cloned()).collect()
    }

    /// Every latched detector of those that have seen enough for a verdict.
    pub fn signals(&self) -> Vec<Signal> {
        let devices = self.now.device.iter().map(|(name, row)| (Level::Device(name.clone()), row));
        let cohorts = self.now.cohort.iter().map(|(cohort, row)| (Level::Cohort(cohort.clone()), row));
        let mut signals = Vec::new();
        let rows = devices.chain(cohorts).chain([(Level::Fleet, &self.now.fleet)]);
        for (level, row) in rows.filter(|(_, row)| row.samples >= self.needed()) {
            let threshold = self.threshold(&level, &self.now);
            for (feature, detector) in row.detectors.iter().enumerate() {
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

    /// The devices that themselves show what a group's detector alarms about: whose mean score since the onset, beside the
    /// group's own reference, is further from tolerance than half of the group's. `among` are the group's devices.
    pub fn showing(
        &mut self,
        feature: usize,
        level: &Level,
        latch: &Latch,
        among: &BTreeSet<Name>,
        devices: &Devices,
        cohort_label: &str,
    ) -> BTreeSet<Name> {
        let alarm = latch.alarm;
        let slots: Vec<u64> = self.log.range(alarm.onset..).map(|(&slot, _)| slot).collect();
        let mut beyond: BTreeMap<&Name, Sum> = BTreeMap::new();
        let mut all = Sum::default();
        for slot in slots {
            let layout = Layout::new(self.log[&slot].keys().cloned(), devices, cohort_label);
            let scores = self.scores(feature, slot);
            let sums: Vec<Sum> = self.log[&slot]
                .values()
                .map(|merged| merged.sketches.get(feature))
                .map(|sketch| sketch.map_or(Sum::default(), |s| scores.sum(alarm.family, s)))
                .collect();
            let references = References::new(alarm.family, &layout, &sums);
            let span = match level {
                Level::Cohort(cohort) => match layout.cohorts.iter().position(|c| c.cohort == *cohort) {
                    Some(c) => references.of_cohort(c),
                    None => continue,
                },
                _ => references.of_fleet(),
            };
            for (name, sum) in layout.devices.iter().zip(&sums) {
                if let Some(name) = among.get(name) {
                    let moved = Sum { n: sum.n, sum: span.beyond(*sum, alarm.sign) };
                    beyond.entry(name).or_default().add(moved);
                    all.add(moved);
                }
            }
        }
        let (start, n) = (self.start_of(alarm.onset), all.n.max(1.0));
        let place = Place { feature, start, n, devices: among.len() as f64, own: 0.0 };
        let design = self.designs.design(&self.release.baseline, place);
        let tau = design.frame(alarm.family).map_or(0.0, |frame| frame.tau);
        let limit = tau + 0.5 * (all.mean() - tau).max(0.0);
        beyond.into_iter().filter(|(_, sum)| sum.mean() > limit).map(|(name, _)| name.clone()).collect()
    }

    fn threshold(&self, level: &Level, state: &Detectors) -> f64 {
        let streams = match level {
            Level::Device(_) => state.device.len(),
            Level::Cohort(_) => state.cohort.len(),
            Level::Fleet => 1,
        };
        self.budget.threshold(streams.max(1) * watched(&self.release.baseline).max(1), self.release.schema.window_ms)
    }

    fn step(&mut self, state: &mut Detectors, slot: u64, devices: &Devices, cohort_label: &str) {
        let Some(windows) = self.log.get_mut(&slot).map(std::mem::take) else { return };
        let layout = Layout::new(windows.keys().cloned(), devices, cohort_label);
        let features = self.release.baseline.features.len();
        // Every stream is known before any threshold is taken, so that thresholds do not depend on the order of names.
        let samples: Vec<u64> = windows.values().map(|merged| merged.samples).collect();
        for (name, &samples) in layout.devices.iter().zip(&samples) {
            state.device.entry(name.clone()).or_default().seen(features, samples);
        }
        for members in &layout.cohorts {
            if state.cohort.len() < COHORTS_MAX || state.cohort.contains_key(&members.cohort) {
                let samples = members.devices.iter().map(|&device| samples[device]).sum();
                state.cohort.entry(members.cohort.clone()).or_default().seen(features, samples);
            }
        }
        state.fleet.seen(features, samples.iter().sum());
        for feature in 0..features {
            if self.release.baseline.features[feature].unwatched.is_some() {
                continue;
            }
            let scores = self.scores(feature, slot);
            let sums: Vec<Sums> = windows
                .values()
                .map(|merged| merged.sketches.get(feature))
                .map(|sketch| sketch.map_or_else(Sums::default, |s| scores.sums(s)))
                .collect();
            let families: Vec<Family> = scores.families().collect();
            let views = Views::new(&families, &layout, &sums);
            self.step_feature(state, feature, slot, &layout, &views);
        }
        self.log.insert(slot, windows);
    }

    /// Steps the detectors of one feature at every level.
    fn step_feature(&mut self, state: &mut Detectors, feature: usize, slot: u64, layout: &Layout, views: &Views) {
        let by_device = self.threshold(&Level::Device(layout.devices[0].clone()), state);
        for (name, view) in layout.devices.iter().zip(&views.devices) {
            let detector = &mut state.device.get_mut(name).expect("inserted before").detectors[feature];
            self.step_one(detector, feature, slot, view, 1.0, by_device);
        }
        let by_cohort = self.budget_of_cohorts(state);
        for (members, view) in layout.cohorts.iter().zip(&views.cohorts) {
            if let Some(row) = state.cohort.get_mut(&members.cohort) {
                self.step_one(
                    &mut row.detectors[feature],
                    feature,
                    slot,
                    view,
                    members.devices.len() as f64,
                    by_cohort,
                );
            }
        }
        let by_fleet = self.threshold(&Level::Fleet, state);
        let all = layout.devices.len() as f64;
        self.step_one(&mut state.fleet.detectors[feature], feature, slot, &views.fleet, all, by_fleet);
    }

    fn budget_of_cohorts(&self, state: &Detectors) -> f64 {
        state.cohort.keys().next().map_or(f64::INFINITY, |c| self.threshold(&Level::Cohort(c.clone()), state))
    }

    fn step_one(
        &mut self,
        detector: &mut Detector,
        feature: usize,
        slot: u64,
        view: &View,
        devices: f64,
        threshold: f64,
    ) {
        let n = view.iter().map(|compared| compared.n).fold(1.0, f64::max);
        let place = Place { feature, start: self.start_of(slot), n, devices, own: detector.own_readings() };
        let design = self.designs.design(&self.release.baseline, place);
        detector.step(design, view, slot, threshold);
    }

    fn start_of(&self, slot: u64) -> WallMs {
        WallMs(slot.saturating_mul(u64::from(self.release.schema.window_ms)))
    }

    fn scores(&mut self, feature: usize, slot: u64) -> Arc<Scores> {
        let start = self.start_of(slot);
        self.designs.scores(&self.release.baseline, feature, start)
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
