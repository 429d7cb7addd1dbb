//! Many alarms, one cause: evidence that shares devices and a time becomes one incident, is followed and closed.
//!
//! The book is reconciled with the detectors' latched state after every closed slot, never fed with events: when a late window
//! changes a verdict, the next reconciliation says so. Numbers that people read (the sketch since the onset) are copied in while
//! the incident is open and stay when it is resolved. What it all means in words is the business of `view` and `explain`.

use crate::release::Release;
use driftline_shared::drift::detector::Latch;
use driftline_shared::drift::scores::Family;
use driftline_shared::sketch::{Category, Cells, Sketch};
use driftline_shared::units::{Name, ReleaseId, WallMs};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod again;
mod scope;

pub use scope::{Reporting, Scope};

/// Incidents kept in memory, the open ones first; older resolved ones stay in the store.
pub const INCIDENTS_MAX: usize = 200;
/// Entries in an incident's activity.
const ACTIVITY_MAX: usize = 100;
/// Reconciliations that evidence must stand before it opens an incident, so that the first title names the whole scope.
const SETTLE: u32 = 1;
/// Evidence whose onset lies within so many windows of an incident's, on the same devices, has the same cause.
const SAME_ONSET_WINDOWS: u64 = 30;
/// The primary feature may still change for so many reconciliations after the opening.
const PRIMARY_SETTLES: u32 = 3;
/// For so many reconciliations a device that no longer shows the change is taken off the list: the first windows are noisy.
const DEVICES_SETTLE: u32 = 10;

/// What happened to a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Values moved up.
    Up,
    /// Values moved down.
    Down,
    /// Values became more scattered.
    Scattered,
    /// Values became less scattered: stuck, in the extreme.
    Stuck,
    /// More values than before in the top range.
    HighTail,
    /// More values than before in the bottom range.
    LowTail,
    /// Readings are missing.
    Missing,
    /// Values never seen in training.
    Unseen,
    /// More in this cell of categories.
    MoreOf(u8),
}

impl Change {
    /// What an alarm on a feature with these cells is called.
    pub fn of(latch: &Latch, cells: &Cells) -> Self {
        match (latch.alarm.family, latch.alarm.sign > 0.0) {
            // How badly inputs go together went up, as their residual does.
            (Family::Location, true) | (Family::Embedding(_), _) => Self::Up,
            (Family::Location, false) => Self::Down,
            (Family::Scale, true) => Self::Scattered,
            (Family::Scale, false) | (Family::Repeats, _) => Self::Stuck,
            (Family::Top, _) => Self::HighTail,
            (Family::Bottom, _) => Self::LowTail,
            (Family::Missing, _) => Self::Missing,
            (Family::Category(k), _) => match cells.category(usize::from(k)) {
                Some(Category::NeverSeen) => Self::Unseen,
                _ => Self::MoreOf(k),
            },
        }
    }
}

/// A latched alarm together with the devices that show it.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The release whose baseline was left.
    pub release: Arc<Release>,
    /// Which feature of it.
    pub feature: usize,
    /// Identity of the detector, for telling new evidence from old.
    pub source: String,
    /// The alarm.
    pub latch: Latch,
    /// What it had to pass.
    pub threshold: f64,
    /// Devices that show it now.
    pub devices: BTreeSet<Name>,
}

impl Evidence {
    fn name(&self) -> &str {
        self.release.baseline.features[self.feature].name.as_str()
    }

    fn change(&self) -> Change {
        Change::of(&self.latch, &self.release.baseline.features[self.feature].cells)
    }

    fn onset(&self) -> WallMs {
        WallMs(self.latch.alarm.onset * u64::from(self.release.schema.window_ms))
    }
}

/// A sketch's figures, kept with the incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Readings per cell of the baseline.
    pub counts: Vec<u32>,
    /// Sum of the readings in each cell, in the feature's unit; empty for categories.
    #[serde(default)]
    pub sums: Vec<f64>,
    /// Readings that were missing or broken.
    pub gone: u32,
    /// Mean of the finite ones.
    pub mean: f64,
    /// Their standard deviation.
    pub sd: f64,
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
}

impl Figures {
    /// Of a sketch that counted on these cells.
    pub fn new(sketch: &Sketch, cells: &Cells) -> Self {
        let m = sketch.moments();
        // JSON has no infinities; an empty sketch has no bounds.
        let (min, max) = if m.n > 0 { (m.min.max(f32::MIN), m.max.min(f32::MAX)) } else { (0.0, 0.0) };
        let gone = crate::detect::panel::gone(sketch);
        let sums = sketch.sums(cells).to_vec();
        Self { counts: sketch.counts().to_vec(), sums, gone, mean: m.mean(), sd: m.sd(), min, max }
    }
}

/// One feature's part in an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Whether it is a model input.
    pub input: bool,
    /// What happened to it.
    pub change: Change,
    /// Which score showed it first; `None` in incidents of earlier versions.
    #[serde(default)]
    pub family: Option<Family>,
    /// Devices that showed it.
    pub devices: BTreeSet<Name>,
    /// Mean score beyond the baseline's, in standard deviations of the score.
    pub effect_sd: f64,
    /// The most evidence there was, as a natural logarithm.
    pub log_evidence: f64,
    /// The threshold that evidence had to pass.
    pub threshold: f64,
    /// When it began.
    pub onset: WallMs,
    /// The readings since then.
    pub now: Option<Figures>,
}

/// Life of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Needs a decision.
    Open,
    /// Somebody has seen it.
    Acknowledged,
    /// The values returned, or a release came for which they are normal.
    Resolved,
}

/// Something that happened to an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Activity {
    /// It opened, at this scope.
    Opened,
    /// More devices, or fewer at first; now this many.
    Spread {
        /// Devices affected now.
        devices: usize,
    },
    /// Somebody acknowledged it.
    Acknowledged,
    /// It was resolved.
    Resolved,
    /// It was not over.
    Reopened,
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number; people write `INC-7`.
    pub id: u64,
    /// Model.
    pub model: Name,
    /// The release on which it began.
    pub release: ReleaseId,
    /// Life.
    pub state: State,
    /// Where.
    pub scope: Scope,
    /// The feature that names it.
    pub primary: String,
    /// Every feature that moved.
    pub moved: BTreeMap<String, Moved>,
    /// Devices affected, over all features.
    pub affected: BTreeSet<Name>,
    /// Devices that reported when the scope was last worked out.
    pub reporting: usize,
    /// (affected, reporting) inside the scope.
    #[serde(default)]
    pub inside: (usize, usize),
    /// (affected, reporting) per cohort.
    pub cohorts: BTreeMap<String, (usize, usize)>,
    /// When the change began.
    pub onset: WallMs,
    /// When the incident opened.
    pub opened: WallMs,
    /// When it was resolved.
    pub resolved: Option<WallMs>,
    /// What happened to it.
    pub activity: Vec<(WallMs, Activity)>,
    /// Reconciliations since it opened.
    #[serde(default)]
    age: u32,
}

impl Incident {
    /// What people call it.
    pub fn label(&self) -> String {
        format!("INC-{}", self.id)
    }

    /// The feature that names it.
    pub fn main(&self) -> &Moved {
        self.moved.get(&self.primary).expect("the primary feature is one that moved")
    }

    /// Whether it still needs watching.
    pub fn is_live(&self) -> bool {
        self.state != State::Resolved
    }

    fn log(&mut self, now: WallMs, what: Activity) {
        if self.activity.len() < ACTIVITY_MAX {
            self.activity.push((now, what));
        }
    }

    /// Whether evidence belongs here: the same reading and change on any device, or the same devices since the same time; what follows
    /// from inputs that moved, whenever it shows.
    fn takes(&self, evidence: &Evidence) -> bool {
        if self.model != evidence.release.model {
            return false;
        }
        let same_reading = self.moved.get(evidence.name()).is_some_and(|m| m.change == evidence.change());
        let shared = evidence.devices.intersection(&self.affected).count();
        let near = evidence.onset().0.abs_diff(self.onset.0)
            <= SAME_ONSET_WINDOWS * u64::from(evidence.release.schema.window_ms);
        same_reading
            || (self.moved.contains_key(evidence.name()) && shared > 0)
            || ((near || self.explains(evidence)) && 2 * shared >= evidence.devices.len())
    }

    /// Whether evidence is about outputs, or how inputs go together, and inputs have moved here.
    fn explains(&self, evidence: &Evidence) -> bool {
        let feature = &evidence.release.baseline.features[evidence.feature];
        !feature.role.is_input() && self.moved.values().any(|moved| moved.input)
    }

    fn absorb(&mut self, evidence: &Evidence) {
        self.affected.extend(evidence.devices.iter().cloned());
        self.onset = self.onset.min(evidence.onset());
        let latch = &evidence.latch;
        let feature = &evidence.release.baseline.features[evidence.feature];
        let fresh = || Moved {
            input: feature.role.is_input(),
            change: evidence.change(),
            family: Some(evidence.latch.alarm.family),
            devices: BTreeSet::new(),
            effect_sd: 0.0,
            log_evidence: f64::NEG_INFINITY,
            threshold: evidence.threshold,
            onset: evidence.onset(),
            now: None,
        };
        let moved = self.moved.entry(evidence.name().to_owned()).or_insert_with(fresh);
        moved.devices.extend(evidence.devices.iter().cloned());
        moved.effect_sd = moved.effect_sd.max(latch.effect);
        if latch.alarm.log_evidence > moved.log_evidence {
            moved.log_evidence = latch.alarm.log_evidence;
            moved.threshold = evidence.threshold;
        }
        moved.onset = moved.onset.min(evidence.onset());
    }

    /// Inputs before outputs, then the most devices, then the largest effect: a cause is looked for where data comes in.
    fn choose_primary(&mut self) {
        let rank = |m: &Moved| (m.input, m.devices.len(), (m.effect_sd * 1e6) as i64);
        if let Some((name, _)) = self.moved.iter().max_by_key(|(_, m)| rank(m)) {
            self.primary = name.clone();
        }
    }
}

/// What reconciliation did, for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// A new incident.
    Opened(u64),
    /// Its devices or readings changed.
    Updated(u64),
    /// It is over.
    Resolved(u64),
}

/// What the book needs to know of the fleet.
pub trait Fleet {
    /// Devices of the model that reported lately, with their labels.
    fn reporting(&self) -> &BTreeMap<Name, Reporting>;
    /// Whether a device is back to normal: no alarm holds and enough windows were seen on the release it runs now.
    fn calm(&self, device: &Name) -> bool;
    /// Whether a device reports and still runs a release, so that evidence can be found on it.
    fn runs(&self, device: &Name, release: ReleaseId) -> bool;
    /// The readings of a feature on these devices since a time.
    fn figures(&self, release: ReleaseId, feature: &str, devices: &BTreeSet<Name>, since: WallMs) -> Option<Figures>;
}

/// All incidents.
#[derive(Debug, Default)]
pub struct Book {
    incidents: BTreeMap<u64, Incident>,
    next: u64,
    /// Reconciliations for which evidence has stood, by model and detector.
    standing: BTreeMap<(Name, String), u32>,
}

impl Book {
    /// The book as the store kept it.
    pub fn restore(incidents: impl IntoIterator<Item = Incident>) -> Self {
        let incidents: BTreeMap<u64, Incident> = incidents.into_iter().map(|i| (i.id, i)).collect();
        let next = incidents.keys().next_back().copied().unwrap_or(0);
        Self { incidents, next, standing: BTreeMap::new() }
    }

    /// Every incident kept in memory, oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Incident> {
        self.incidents.values()
    }

    /// One incident.
    pub fn get(&self, id: u64) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// Marks an incident as seen by somebody. `None` when there is no such live incident.
    pub fn acknowledge(&mut self, id: u64, now: WallMs) -> Option<State> {
        let incident = self.incidents.get_mut(&id).filter(|i| i.is_live())?;
        if incident.state == State::Open {
            incident.state = State::Acknowledged;
            incident.log(now, Activity::Acknowledged);
        }
        Some(incident.state)
    }

    /// Brings a model's incidents in line with the evidence after a closed slot.
    pub fn reconcile(&mut self, now: WallMs, model: &Name, evidence: &[Evidence], fleet: &dyn Fleet) -> Vec<Happened> {
        self.stand(model, evidence);
        let mut happened = Vec::new();
        let mut left: Vec<&Evidence> = evidence.iter().collect();
        let live: Vec<u64> = self.all().filter(|i| i.is_live() && i.model == *model).map(|i| i.id).collect();
        for id in live {
            let incident = self.incidents.get_mut(&id).expect("listed above");
            let before = (incident.affected.len(), incident.moved.len(), incident.primary.clone());
            let (mine, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|e| incident.takes(e));
            left = others;
            if mine.is_empty() {
                if incident.affected.iter().all(|device| fleet.calm(device)) {
                    incident.state = State::Resolved;
                    incident.resolved = Some(now);
                    incident.log(now, Activity::Resolved);
                    happened.push(Happened::Resolved(id));
                }
                continue;
            }
            follow(incident, &mine, fleet);
            if before != (incident.affected.len(), incident.moved.len(), incident.primary.clone()) {
                if before.0 != incident.affected.len() {
                    incident.log(now, Activity::Spread { devices: incident.affected.len() });
                }
                happened.push(Happened::Updated(id));
            }
        }
        while let Some(first) = self.ripe(model, &left) {
            let again = self.reopened(now, first);
            let id = again.unwrap_or_else(|| self.open(now, first));
            happened.push(Happened::Opened(id));
            let incident = self.incidents.get_mut(&id).expect("just opened");
            // What belongs to it may belong only by way of what it has already taken in.
            loop {
                let (mine, others): (Vec<_>, Vec<_>) = left.iter().partition(|e| incident.takes(e));
                left = others;
                if mine.is_empty() {
                    break;
                }
                follow(incident, &mine, fleet);
            }
        }
        self.trim();
        happened
    }

    fn stand(&mut self, model: &Name, evidence: &[Evidence]) {
        let now: BTreeSet<&str> = evidence.iter().map(|e| e.source.as_str()).collect();
        self.standing.retain(|(m, source), _| m != model || now.contains(source.as_str()));
        for source in now {
            *self.standing.entry((model.clone(), source.to_owned())).or_default() += 1;
        }
    }

    /// The strongest evidence that has stood long enough to open an incident.
    fn ripe<'e>(&self, model: &Name, left: &[&'e Evidence]) -> Option<&'e Evidence> {
        let stood = |e: &&&Evidence| self.standing.get(&(model.clone(), e.source.clone())).is_some_and(|&n| n > SETTLE);
        left.iter()
            .filter(stood)
            .max_by(|a, b| a.latch.alarm.log_evidence.total_cmp(&b.latch.alarm.log_evidence))
            .copied()
    }

    fn open(&mut self, now: WallMs, first: &Evidence) -> u64 {
        self.next += 1;
        let mut incident = Incident {
            id: self.next,
            model: first.release.model.clone(),
            release: first.release.id,
            state: State::Open,
            scope: Scope::Devices(Vec::new()),
            primary: first.name().to_owned(),
            moved: BTreeMap::new(),
            affected: BTreeSet::new(),
            reporting: 0,
            inside: (0, 0),
            cohorts: BTreeMap::new(),
            onset: first.onset(),
            opened: now,
            resolved: None,
            activity: Vec::new(),
            age: 0,
        };
        incident.absorb(first);
        incident.log(now, Activity::Opened);
        self.incidents.insert(self.next, incident);
        self.next
    }

    fn trim(&mut self) {
        while self.incidents.len() > INCIDENTS_MAX {
            let Some(oldest) = self.incidents.values().find(|i| !i.is_live()).map(|i| i.id) else { break };
            self.incidents.remove(&oldest);
        }
    }
}

/// Takes evidence in and works out scope, primary feature and figures again.
fn follow(incident: &mut Incident, mine: &[&Evidence], fleet: &dyn Fleet) {
    if incident.age <= DEVICES_SETTLE {
        let (release, again) = (incident.release, |name: &str| mine.iter().any(|evidence| evidence.name() == name));
        for (_, moved) in incident.moved.iter_mut().filter(|(name, _)| again(name)) {
            // A device that got an answer, or is silent, is still one that was affected.
            moved.devices.retain(|device| !fleet.runs(device, release));
        }
    }
    mine.iter().for_each(|evidence| incident.absorb(evidence));
    incident.affected = incident.moved.values().flat_map(|moved| moved.devices.iter().cloned()).collect();
    if incident.age <= PRIMARY_SETTLES {
        incident.choose_primary();
    }
    incident.age += 1;
    let (reporting, affected) = (fleet.reporting(), incident.main().devices.clone());
    incident.scope = scope::scope(reporting, &affected);
    incident.inside = scope::inside(&incident.scope, reporting, &affected);
    (incident.cohorts, incident.reporting) = (scope::cohorts(reporting, &affected), reporting.len());
    for (name, moved) in &mut incident.moved {
        // Figures are of the release on which it began: another release counts on other cells.
        let of_it = mine.iter().any(|e| e.name() == name && e.release.id == incident.release);
        if of_it && let Some(figures) = fleet.figures(incident.release, name, &moved.devices, moved.onset) {
            moved.now = Some(figures);
        }
    }
}
