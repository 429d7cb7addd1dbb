//! Windows merged by release, group and slot: what charts show and what an incident's figures are made of.
//!
//! Merging is integer addition, so a late window simply reopens its slot. Each group keeps its newest [`SLOTS_MAX`] slots here;
//! the store keeps them longer. Truth that comes late is kept apart and longer, because it comes for slots of days ago.

use driftline_shared::embedding::Embedding;
use driftline_shared::performance::{CONFUSION_MAX, Counts, Performance};
use driftline_shared::sketch::Sketch;
use driftline_shared::units::{ReleaseId, WallMs};
use driftline_shared::window::Window;
use std::collections::{BTreeMap, BTreeSet};

/// Slots kept in memory per release and group.
pub const SLOTS_MAX: usize = 360;
/// Groups of one release, the fleet included; devices of further cohorts count for the fleet alone.
pub const GROUPS_MAX: usize = 256;

/// Slots with late truth kept in memory, of all releases and groups; the oldest of the largest group give way.
pub const TRUTHS_MAX: usize = 100_000;

/// Whose windows were merged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// All devices.
    Fleet,
    /// Devices with this value of the cohort label.
    Cohort(String),
}

/// Samples per piece of a curve.
type Pieces = Box<[[u32; 2]]>;

/// [`Performance`] in no more memory than it needs: hundreds of slots of every group are kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    curves: Vec<(Pieces, [u64; 2])>,
    confusion: Box<[u32]>,
}

impl Tally {
    fn add(&mut self, window: &Performance) {
        let mut sum = self.unpacked();
        sum.merge(window).expect("windows of one release have the curves of its calibration");
        self.curves = sum.curves.iter().map(|counts| (counts.pieces.as_slice().into(), counts.sums)).collect();
        self.confusion = sum.confusion.as_slice().into();
    }

    fn unpacked(&self) -> Performance {
        let counts = |(pieces, sums): &(Pieces, _)| Counts { pieces: pieces.iter().copied().collect(), sums: *sums };
        Performance {
            curves: self.curves.iter().map(counts).collect(),
            confusion: self.confusion.iter().copied().collect(),
        }
    }
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
    /// What scores and truth say of the model; kept by [`History`] alone.
    pub performance: Tally,
    /// How inputs lay together; kept by the detectors alone.
    pub embedding: Option<Box<Embedding>>,
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

    /// Adds a window's embedding.
    pub fn add_embedding(&mut self, window: &Window) {
        if let Some(theirs) = &window.embedding {
            self.embedding.get_or_insert_default().merge(theirs);
        }
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
        window.performance = Some(self.performance.unpacked()).filter(|p| !p.is_empty());
        window
    }
}

/// Truth that came after its samples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Truths {
    /// Samples whose true label became known.
    pub labelled: u64,
    /// Those that the model got right.
    pub correct: u64,
    /// By predicted class, then true class; empty for models with many classes.
    pub confusion: Vec<u32>,
}

impl Truths {
    fn add(&mut self, window: &Window) {
        self.labelled += u64::from(window.labelled);
        self.correct += u64::from(window.correct);
        let Some(performance) = &window.performance else { return };
        if self.confusion.len() < performance.confusion.len() {
            self.confusion.resize(performance.confusion.len(), 0);
        }
        for (mine, theirs) in self.confusion.iter_mut().zip(&performance.confusion) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

/// What is known of a model's performance over some slots.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Known {
    /// Samples in the sketches.
    pub samples: u64,
    /// Samples whose true label is known.
    pub labelled: u64,
    /// Those that the model got right.
    pub correct: u64,
    /// Scores and errors.
    pub performance: Performance,
}

impl Known {
    fn add(&mut self, merged: &Merged) {
        self.samples += merged.samples;
        self.labelled += merged.labelled;
        self.correct += merged.correct;
        let theirs = merged.performance.unpacked();
        self.performance.merge(&theirs).expect("windows of one release have the curves of its calibration");
    }

    /// Adds what is known of another group.
    pub fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        self.labelled += other.labelled;
        self.correct += other.correct;
        self.performance.merge(&other.performance).expect("groups of one release have its calibration and classes");
    }

    fn add_truths(&mut self, truths: &Truths) {
        self.labelled += truths.labelled;
        self.correct += truths.correct;
        let confusion = truths.confusion.iter().copied().take(CONFUSION_MAX).collect();
        let late = Performance { confusion, ..Performance::default() };
        self.performance.merge(&late).expect("windows of one release have its classes");
    }
}

/// Where a merged slot stands.
pub type Place = (ReleaseId, Group, u64);

/// Merged slots.
#[derive(Debug, Default)]
pub struct History {
    slots: BTreeMap<ReleaseId, BTreeMap<Group, BTreeMap<u64, Merged>>>,
    changed: BTreeSet<Place>,
    truths: BTreeMap<(ReleaseId, Group), BTreeMap<u64, Truths>>,
    truths_kept: usize,
    truths_changed: BTreeSet<Place>,
}

impl History {
    /// Adds a device's window to its cohort and to the fleet. An embedding is nothing that charts show.
    pub fn add(&mut self, slot: u64, cohort: &str, window: &Window) {
        if window.is_embedding_only() {
            return;
        }
        let groups = self.slots.entry(window.release).or_default();
        for group in [Group::Fleet, Group::Cohort(cohort.to_owned())] {
            if groups.len() >= GROUPS_MAX && !groups.contains_key(&group) {
                continue;
            }
            let slots = groups.entry(group.clone()).or_default();
            let merged = slots.entry(slot).or_default();
            merged.add(window);
            window.performance.iter().for_each(|p| merged.performance.add(p));
            while slots.len() > SLOTS_MAX {
                slots.pop_first();
            }
            self.changed.insert((window.release, group, slot));
        }
    }

    /// Adds a window that carries late truth alone.
    pub fn add_truths(&mut self, slot: u64, cohort: &str, window: &Window) {
        for group in [Group::Fleet, Group::Cohort(cohort.to_owned())] {
            let place = (window.release, group, slot);
            if let Some(truths) = self.truths_at(&place) {
                truths.add(window);
                self.truths_changed.insert(place);
            }
        }
    }

    /// Puts back truth that the store kept.
    pub fn restore_truths(&mut self, place: &Place, truths: Truths) {
        if let Some(kept) = self.truths_at(place) {
            *kept = truths;
        }
    }

    /// `None` for one group too many. The oldest slot of the group with the most gives way to a new one.
    fn truths_at(&mut self, (release, group, slot): &Place) -> Option<&mut Truths> {
        let key = (*release, group.clone());
        let known = self.truths.get(&key);
        let groups = || self.truths.keys().filter(|(of, _)| of == release).count();
        if known.is_none() && groups() >= GROUPS_MAX {
            return None;
        }
        if known.is_none_or(|slots| !slots.contains_key(slot)) {
            self.truths_kept += 1;
            if self.truths_kept > TRUTHS_MAX
                && let Some(most) = self.truths.values_mut().max_by_key(|slots| slots.len())
            {
                most.pop_first();
                self.truths_kept -= 1;
            }
        }
        Some(self.truths.entry(key).or_default().entry(*slot).or_default())
    }

    /// Late truth that changed since this was asked last.
    pub fn take_changed_truths(&mut self) -> Vec<(Place, Truths)> {
        let changed = std::mem::take(&mut self.truths_changed);
        let now = |place: Place| {
            let truths = self.truths.get(&(place.0, place.1.clone()))?.get(&place.2)?.clone();
            Some((place, truths))
        };
        changed.into_iter().filter_map(now).collect()
    }

    /// What is known of a release's performance in a group, slot by slot, oldest first.
    pub fn known(&self, release: ReleaseId, group: &Group) -> BTreeMap<u64, Known> {
        let mut known: BTreeMap<u64, Known> = BTreeMap::new();
        for (slot, merged) in self.slots(release, group) {
            known.entry(slot).or_default().add(merged);
        }
        for (slot, truths) in self.truths.get(&(release, group.clone())).into_iter().flatten() {
            known.entry(*slot).or_default().add_truths(truths);
        }
        known
    }

    /// The sum of that over these slots.
    pub fn known_within(&self, release: ReleaseId, group: &Group, slots: std::ops::Range<u64>) -> Known {
        let mut sum = Known::default();
        let merged = self.slots(release, group).filter(|(slot, _)| slots.contains(slot));
        merged.for_each(|(_, merged)| sum.add(merged));
        if let Some(truths) = self.truths.get(&(release, group.clone())) {
            truths.range(slots).for_each(|(_, truths)| sum.add_truths(truths));
        }
        sum
    }

    /// Puts back a slot that the store kept.
    pub fn restore(&mut self, group: Group, slot: u64, window: &Window) {
        let slots = self.slots.entry(window.release).or_default().entry(group).or_default();
        let merged = slots.entry(slot).or_default();
        merged.add(window);
        window.performance.iter().for_each(|p| merged.performance.add(p));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_truth_of_ever_new_cohorts_has_a_limit() {
        let mut history = History::default();
        let mut window = Window::new(ReleaseId(1), WallMs(0), 1_000, std::iter::empty());
        window.labelled = 1;
        for cohort in 0..2 * GROUPS_MAX as u64 {
            history.add_truths(cohort, &cohort.to_string(), &window);
        }
        let changed = history.take_changed_truths();
        let groups: BTreeSet<&Group> = changed.iter().map(|((_, group, _), _)| group).collect();
        assert_eq!(groups.len(), GROUPS_MAX);
        // The fleet's own truth is complete all the same.
        assert_eq!(changed.iter().filter(|((_, group, _), _)| *group == Group::Fleet).count(), 2 * GROUPS_MAX);
    }
}
