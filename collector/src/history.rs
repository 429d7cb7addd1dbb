//! Windows merged by release, group and slot: what charts show and what an incident's figures are made of.
//!
//! Merging is integer addition, so a late window simply reopens its slot. Each group keeps its newest [`SLOTS_MAX`] slots here;
//! the store keeps them longer.

use driftline_shared::sketch::Sketch;
use driftline_shared::units::{ReleaseId, WallMs};
use driftline_shared::window::Window;
use std::collections::{BTreeMap, BTreeSet};

/// Slots kept in memory per release and group.
pub const SLOTS_MAX: usize = 360;
/// Groups of one release, the fleet included; devices of further cohorts count for the fleet alone.
pub const GROUPS_MAX: usize = 256;

/// Whose windows were merged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// All devices.
    Fleet,
    /// Devices with this value of the cohort label.
    Cohort(String),
}

/// The sum of windows of one release.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Merged {
    /// Samples in the sketches.
    pub samples: u64,
    /// Samples whose true label was known on the device.
    pub labelled: u64,
    /// Those that the model got right.
    pub correct: u64,
    /// One sketch per feature.
    pub sketches: Vec<Sketch>,
}

impl Merged {
    /// Adds a window. Its cells were checked against the baseline when it came in.
    pub fn add(&mut self, window: &Window) {
        self.add_parts(
            u64::from(window.samples),
            u64::from(window.labelled),
            u64::from(window.correct),
            &window.sketches,
        );
    }

    /// Adds another sum of the same release.
    pub fn merge(&mut self, other: &Self) {
        self.add_parts(other.samples, other.labelled, other.correct, &other.sketches);
    }

    fn add_parts(&mut self, samples: u64, labelled: u64, correct: u64, sketches: &[Sketch]) {
        self.samples += samples;
        self.labelled += labelled;
        self.correct += correct;
        if self.sketches.is_empty() {
            self.sketches = sketches.to_vec();
            return;
        }
        for (mine, theirs) in self.sketches.iter_mut().zip(sketches) {
            mine.merge(theirs).expect("windows of one release have the cells of its baseline");
        }
    }

    /// The sum as a window that can be written to the store.
    pub fn to_window(&self, release: ReleaseId, start: WallMs, span_ms: u32) -> Box<Window> {
        let mut window = Box::new(Window::new(release, start, span_ms, std::iter::empty()));
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        (window.samples, window.labelled, window.correct) =
            (narrow(self.samples), narrow(self.labelled), narrow(self.correct));
        window.sketches = self.sketches.iter().cloned().collect();
        window
    }
}

/// Where a merged slot stands.
pub type Place = (ReleaseId, Group, u64);

/// Merged slots.
#[derive(Debug, Default)]
pub struct History {
    slots: BTreeMap<ReleaseId, BTreeMap<Group, BTreeMap<u64, Merged>>>,
    changed: BTreeSet<Place>,
}

impl History {
    /// Adds a device's window to its cohort and to the fleet.
    pub fn add(&mut self, slot: u64, cohort: &str, window: &Window) {
        let groups = self.slots.entry(window.release).or_default();
        for group in [Group::Fleet, Group::Cohort(cohort.to_owned())] {
            if groups.len() >= GROUPS_MAX && !groups.contains_key(&group) {
                continue;
            }
            let slots = groups.entry(group.clone()).or_default();
            slots.entry(slot).or_default().add(window);
            while slots.len() > SLOTS_MAX {
                slots.pop_first();
            }
            self.changed.insert((window.release, group, slot));
        }
    }

    /// Puts back a slot that the store kept.
    pub fn restore(&mut self, group: Group, slot: u64, window: &Window) {
        let slots = self.slots.entry(window.release).or_default().entry(group).or_default();
        slots.entry(slot).or_default().add(window);
        while slots.len() > SLOTS_MAX {
            slots.pop_first();
        }
    }

    /// The slots that changed since this was asked last, with their sums.
    pub fn take_changed(&mut self) -> Vec<(Place, Merged)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .filter_map(|place| {
                let merged = self.slots.get(&place.0)?.get(&place.1)?.get(&place.2)?.clone();
                Some((place, merged))
            })
            .collect()
    }

    /// The slots of a group, oldest first.
    pub fn slots(&self, release: ReleaseId, group: &Group) -> impl Iterator<Item = (u64, &Merged)> {
        self.slots.get(&release).and_then(|g| g.get(group)).into_iter().flatten().map(|(slot, merged)| (*slot, merged))
    }

    /// The cohorts of a release.
    pub fn cohorts(&self, release: ReleaseId) -> impl Iterator<Item = &str> {
        self.slots.get(&release).into_iter().flat_map(|groups| groups.keys()).filter_map(|group| match group {
            Group::Cohort(name) => Some(name.as_str()),
            Group::Fleet => None,
        })
    }
}
