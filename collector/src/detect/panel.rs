//! All detectors of one release.
//!
//! Windows are kept by slot. A slot is stepped once it is closed: every device, every cohort (devices that share the value of a
//! label) and the fleet, each beside its [`super::reference`]. A window that comes late for a stepped slot makes the panel go back to its checkpoint and
//! step again, so that verdicts do not depend on the order of arrival. What is older than the checkpoint is refused and counted.

use super::budget::{Budget, simultaneous};
use super::designs::{Designs, Place, watched};
use super::reference::{Cohort, Layout, References, Views};
use crate::device::Devices;
use crate::history::Merged;
use crate::incident::Reporting;
use crate::release::Release;
use driftline_shared::drift::design::{Design, GROUP, GROUPS};
use driftline_shared::drift::detector::{Detector, Latch, Taken, View};
use driftline_shared::drift::scores::{Family, Scores, Sum, Sums};
use driftline_shared::embedding;
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

/// What a device, a cohort or the fleet brought to its detectors: one per feature, then one per group of the embedding.
#[derive(bincode::Encode, bincode::Decode, Debug, Clone, Default)]
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

mod checkpoint;
pub mod share;

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
    /// The checkpoint has moved since it was last taken to be stored.
    moved: bool,
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
            moved: false,
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
        let merged = self.log.entry(slot).or_default().entry(device.clone()).or_default();
        merged.add(window);
        merged.add_embedding(window);
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
            let mut signal = |feature, latch| signals.push(Signal { level: level.clone(), feature, latch, threshold });
            let (features, groups) = row.detectors.split_at(self.features().min(row.detectors.len()));
            for (feature, detector) in features.iter().enumerate() {
                detector.latch().iter().for_each(|latch| signal(feature, **latch));
            }
            let Some((_, joint)) = self.release.embedded() else { continue };
            // One thing is said of how inputs lie together, by what shows it best; the residual says it in a unit.
            let best = groups.iter().filter_map(Detector::latch);
            let best = best.max_by(|a, b| a.alarm.log_evidence.total_cmp(&b.alarm.log_evidence));
            if let (Some(latch), None) = (best, features.get(joint).and_then(Detector::latch)) {
                let mut latch = *latch;
                latch.alarm.onset = latch.alarm.onset.saturating_mul(embedding::WINDOWS);
                signal(joint, latch);
            }
        }
        signals
    }

    fn features(&self) -> usize {
        self.release.baseline.features.len()
    }

    /// Every device's score sum of a family in a slot, in the order of names.
    fn sums(&mut self, feature: usize, family: Family, slot: u64) -> Vec<Sum> {
        let scores = self.scores(feature, slot);
        let release = Arc::clone(&self.release);
        let of = |merged: &Merged| match (family, release.embedded()) {
            (Family::Embedding(coordinate), Some((embedded, _))) => {
                let sum = merged.embedding.as_ref().map(|e| embedded.score(e, coordinate.into()));
                sum.unwrap_or_default()
            }
            _ => merged.sketches.get(feature).map_or(Sum::default(), |s| scores.sum(family, s)),
        };
        self.log.get(&slot).into_iter().flat_map(|windows| windows.values().map(of)).collect()
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
    /// group's own reference, is further from tolerance than half of the group's. `among` are the group's devices; `others` are groups
    /// that show the same change more clearly. Where nothing is left of it without one of those, its devices say nothing of this group:
    /// a site with many devices of a bad firmware is off on average, and not by itself.
    #[expect(clippy::too_many_arguments, reason = "who, what, and of whom")]
    pub fn showing(
        &mut self,
        feature: usize,
        level: &Level,
        latch: &Latch,
        among: &BTreeSet<Name>,
        others: &[BTreeSet<Name>],
        devices: &Devices,
        cohort_label: &str,
    ) -> BTreeSet<Name> {
        let alarm = latch.alarm;
        let slots: Vec<u64> = self.log.range(alarm.onset..).map(|(&slot, _)| slot).collect();
        let mut beyond: BTreeMap<&Name, Sum> = BTreeMap::new();
        let mut all = Sum::default();
        for slot in slots {
            let layout = Layout::new(self.log[&slot].keys().cloned(), devices, cohort_label);
            let sums = self.sums(feature, alarm.family, slot);
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
        let designed = match alarm.family {
            Family::Embedding(coordinate) => self.features() + usize::from(coordinate) / GROUP,
            _ => feature,
        };
        let place = Place { feature: designed, start, n, devices: among.len() as f64, own: 0.0 };
        let design = self.designs.design(&self.release.baseline, place);
        let tau = design.frame(alarm.family).map_or(0.0, |frame| frame.tau);
        let limit = tau + 0.5 * (all.mean() - tau).max(0.0);
        let without = |other: &&BTreeSet<Name>| {
            let mut rest = Sum::default();
            beyond.iter().filter(|(name, _)| !other.contains(**name)).for_each(|(_, sum)| rest.add(*sum));
            rest.mean() <= limit
        };
        let explained: Vec<&BTreeSet<Name>> = others.iter().filter(without).collect();
        let shows = |(name, sum): &(&&Name, &Sum)| sum.mean() > limit && !explained.iter().any(|e| e.contains(**name));
        beyond.iter().filter(shows).map(|(name, _)| (*name).clone()).collect()
    }

    fn threshold(&self, level: &Level, state: &Detectors) -> f64 {
        let streams = match level {
            Level::Device(_) => state.device.len(),
            Level::Cohort(_) => state.cohort.len(),
            Level::Fleet => 1,
        };
        // The groups of an embedding are stepped so seldom that together they count as one feature.
        let watched = watched(&self.release.baseline) + usize::from(self.release.embedded().is_some());
        self.budget.threshold(streams.max(1) * watched.max(1), self.release.schema.window_ms)
    }

    fn step(&mut self, state: &mut Detectors, slot: u64, devices: &Devices, cohort_label: &str) {
        let Some(windows) = self.log.get_mut(&slot).map(std::mem::take) else { return };
        let layout = Layout::new(windows.keys().cloned(), devices, cohort_label);
        let features = self.features();
        let groups = if self.release.embedded().is_some() { GROUPS } else { 0 };
        // Every stream is known before any threshold is taken, so that thresholds do not depend on the order of names.
        let samples: Vec<u64> = windows.values().map(|merged| merged.samples).collect();
        for (name, &samples) in layout.devices.iter().zip(&samples) {
            state.device.entry(name.clone()).or_default().seen(features + groups, samples);
        }
        for members in &layout.cohorts {
            if state.cohort.len() < COHORTS_MAX || state.cohort.contains_key(&members.cohort) {
                let samples = members.devices.iter().map(|&device| samples[device]).sum();
                state.cohort.entry(members.cohort.clone()).or_default().seen(features + groups, samples);
            }
        }
        state.fleet.seen(features + groups, samples.iter().sum());
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
            self.step_feature(state, feature, slot, &layout, &views, |devices| devices as f64);
        }
        self.step_embedding(state, slot, &layout, &windows);
        self.log.insert(slot, windows);
    }

    /// Steps the detectors of the embedding, whose time is counted in embeddings, where any device sent one.
    fn step_embedding(&mut self, state: &mut Detectors, slot: u64, layout: &Layout, windows: &BTreeMap<Name, Merged>) {
        let release = Arc::clone(&self.release);
        let Some((embedded, _)) = release.embedded().filter(|_| windows.values().any(|m| m.embedding.is_some())) else {
            return;
        };
        for group in 0..GROUPS {
            let families: Vec<Family> =
                (GROUP * group..GROUP * (group + 1)).map(|at| Family::Embedding(at as u8)).collect();
            let sums = |merged: &Merged| -> Sums {
                let embedding = merged.embedding.as_ref();
                let of = |at| embedding.map_or(Sum::default(), |e| embedded.score(e, at));
                (GROUP * group..GROUP * (group + 1)).map(of).collect()
            };
            let sums: Vec<Sums> = windows.values().map(sums).collect();
            let mut views = Views::new(&families, layout, &sums);
            // An embedding has no season slots: how inputs lie by day and by night differs on all devices at once, so that a group of
            // many is no surer than one device.
            let groups = layout.cohorts.iter().zip(&mut views.cohorts).map(|(c, view)| (c.devices.len(), view));
            for (devices, view) in groups.chain([(layout.devices.len(), &mut views.fleet)]) {
                view.iter_mut().for_each(|compared| *compared = compared.scaled(1.0 / devices.max(1) as f64));
            }
            let slot = slot / embedding::WINDOWS;
            self.step_feature(state, self.features() + group, slot, layout, &views, |_| 1.0);
        }
    }

    /// Steps the detectors of one feature at every level; `independent` says of how many independent ones so many devices are worth.
    fn step_feature(
        &mut self,
        state: &mut Detectors,
        feature: usize,
        slot: u64,
        layout: &Layout,
        views: &Views,
        independent: impl Fn(usize) -> f64,
    ) {
        let by_device = self.threshold(&Level::Device(layout.devices[0].clone()), state);
        let taken: Vec<Taken> = layout
            .devices
            .iter()
            .zip(&views.devices)
            .map(|(name, view)| {
                let detector = &mut state.device.get_mut(name).expect("inserted before").detectors[feature];
                detector.take(self.design_of(detector, feature, slot, view, 1.0), view, slot)
            })
            .collect();
        let quiet = |name: &Name| state.device[name].detectors[feature].latch().is_none();
        let evidence = layout.devices.iter().zip(&taken).filter(|(name, _)| quiet(name)).map(|(_, t)| t.evidence);
        let by_device = simultaneous(evidence.collect(), by_device);
        for ((name, view), taken) in layout.devices.iter().zip(&views.devices).zip(&taken) {
            let detector = &mut state.device.get_mut(name).expect("inserted before").detectors[feature];
            detector.judge(self.design_of(detector, feature, slot, view, 1.0), view, taken, by_device);
        }
        let by_cohort = self.budget_of_cohorts(state);
        for (members, view) in layout.cohorts.iter().zip(&views.cohorts) {
            if let Some(row) = state.cohort.get_mut(&members.cohort) {
                let (detector, devices) = (&mut row.detectors[feature], independent(members.devices.len()));
                detector.step(self.design_of(detector, feature, slot, view, devices), view, slot, by_cohort);
            }
        }
        let by_fleet = self.threshold(&Level::Fleet, state);
        let (detector, view) = (&mut state.fleet.detectors[feature], &views.fleet);
        let all = independent(layout.devices.len());
        detector.step(self.design_of(detector, feature, slot, view, all), view, slot, by_fleet);
    }

    fn budget_of_cohorts(&self, state: &Detectors) -> f64 {
        state.cohort.keys().next().map_or(f64::INFINITY, |c| self.threshold(&Level::Cohort(c.clone()), state))
    }

    fn design_of(&mut self, detector: &Detector, feature: usize, slot: u64, view: &View, devices: f64) -> &Design {
        let n = view.iter().map(|compared| compared.n).fold(1.0, f64::max);
        let place = Place { feature, start: self.start_of(slot), n, devices, own: detector.own_readings() };
        self.designs.design(&self.release.baseline, place)
    }

    fn start_of(&self, slot: u64) -> WallMs {
        WallMs(slot.saturating_mul(u64::from(self.release.schema.window_ms)))
    }

    fn scores(&mut self, feature: usize, slot: u64) -> Arc<Scores> {
        let start = self.start_of(slot);
        self.designs.scores(&self.release.baseline, feature, start)
    }
}

/// Readings that were missing or broken: to the detector the same.
pub fn gone(sketch: &Sketch) -> u32 {
    sketch.missing().saturating_add(sketch.non_finite())
}
