//! Which release runs, and how another one takes its place: offered, fetched, staged, tried in the shadow, active, committed.
//!
//! The release before is kept until the new one has proved itself, and comes back at the first failure. What must survive a power cut
//! is in [`SlotFile`], written before the step it allows. A device refuses a generation older than the last one it accepted,
//! and does not try again what failed until a new generation says so. The driver does what [`Action`] says with models and
//! files; fetching is [`crate::fetch`].

mod file;

pub use file::{ATTEMPTS_MAX, FORMAT, Given, Settled, SlotFile};

use crate::bundle::{BundleError, sha256};
use crate::fetch::{Fetch, Progress};
use crate::inference::Outputs;
use crate::observe::Profile;
use driftline_shared::list::Text;
use driftline_shared::manifest::Digest;
use driftline_shared::units::{Generation, MonoMs, ReleaseId};
use driftline_shared::wire::messages::{Block, Event, Request, SlotState};
use std::collections::VecDeque;
use std::sync::Arc;

/// Something the driver does.
#[derive(Debug)]
pub enum Action {
    /// Writes the file, and tells [`Slots::persisted`].
    Persist {
        /// Which write.
        number: u64,
        /// What.
        file: SlotFile,
    },
    /// Stores, loads and checks a release, and tells [`Slots::staged`].
    Stage {
        /// Which.
        digest: Digest,
        /// Where it comes from.
        from: StageFrom,
    },
    /// Runs the staged model on every sample beside the active one.
    Try,
    /// Makes the staged model the active one, and keeps the one before.
    Switch,
    /// Makes the model before active again.
    Back,
    /// Lets go of the staged model.
    Discard,
    /// Lets go of the model before, unless a guard falls back to it.
    Settle {
        /// Whether this was the way back.
        reverted: bool,
    },
}

/// Where a release to be staged comes from.
#[derive(Debug)]
pub enum StageFrom {
    /// Its files were just fetched: manifest, then files in the manifest's order.
    Fetched(Vec<u8>, Vec<Vec<u8>>),
    /// It was active before and is stored.
    Stored,
}

/// How many live samples prove a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// In the shadow of the active model.
    pub trial: u32,
    /// Active.
    pub commit: u32,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Fetching(Box<Fetch>),
    Staging {
        revert: bool,
    },
    Trial {
        good: u32,
    },
    /// `active = candidate` is being written.
    Switching {
        write: u64,
        revert: bool,
        before: Box<SlotFile>,
    },
    Uncommitted {
        good: u32,
    },
    /// `committed` is being written.
    Committing {
        write: u64,
    },
}

/// The slots of one device.
#[derive(Debug)]
pub struct Slots {
    file: SlotFile,
    proof: Proof,
    phase: Phase,
    active: Option<Arc<Profile>>,
    before: Option<Arc<Profile>>,
    candidate: Option<Arc<Profile>>,
    writes: u64,
    actions: VecDeque<Action>,
    events: VecDeque<(Event, bool)>,
}

impl Slots {
    /// Starts with what was loaded; `file` says how it stands.
    pub fn new(file: SlotFile, active: Option<Arc<Profile>>, proof: Proof) -> Self {
        let uncommitted = active.is_some() && !file.committed;
        let phase = if uncommitted { Phase::Uncommitted { good: 0 } } else { Phase::Idle };
        let mut slots = Self {
            file,
            proof,
            phase,
            active,
            before: None,
            candidate: None,
            writes: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        };
        slots.tell_where_it_stands();
        slots
    }

    /// The release that answers.
    pub fn active(&self) -> Option<&Arc<Profile>> {
        self.active.as_ref()
    }

    /// The last desired state that was accepted.
    pub fn generation(&self) -> Generation {
        self.file.generation
    }

    /// The next thing the driver has to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing to tell the collector, and whether it is said again after a reconnect.
    pub fn next_event(&mut self) -> Option<(Event, bool)> {
        self.events.pop_front()
    }

    /// The collector wants this release to run.
    pub fn desired(&mut self, generation: Generation, manifest: &[u8]) {
        let digest = sha256(manifest);
        if generation < self.file.generation {
            let newer = self.file.generation.0;
            let reason = format!("generation {} is older than {newer}, which this device has accepted", generation.0);
            self.event(generation, digest, SlotState::Failed, &reason, false);
            return;
        }
        let known = self.file.settled.as_ref().filter(|s| s.generation == generation && s.release == digest);
        if let Some(settled) = known.cloned() {
            self.event(generation, digest, settled.state(), &settled.reason, true);
            return;
        }
        let switching_to_it = matches!(self.phase, Phase::Switching { .. }) && self.file.active == Some(digest);
        if switching_to_it || self.file.candidate == Some(digest) {
            self.accept(generation);
            return;
        }
        self.abandon(generation, digest);
        if self.file.active == Some(digest) {
            self.accept(generation);
            let proved = matches!(self.phase, Phase::Idle);
            let state = if proved { SlotState::Committed } else { SlotState::ActiveUncommitted };
            self.event(generation, digest, state, "", true);
            return;
        }
        self.begin(generation, digest, manifest);
    }

    /// A block of a file has come.
    pub fn block(&mut self, block: &Block<'_>) {
        if let Phase::Fetching(fetch) = &mut self.phase {
            let progress = fetch.block(block);
            self.fetched(progress);
        }
    }

    /// The next block to ask for.
    pub fn next_request(&mut self, now: MonoMs) -> Option<Request> {
        match &mut self.phase {
            Phase::Fetching(fetch) => fetch.next_request(now),
            _ => None,
        }
    }

    /// The link is there again.
    pub fn link_up(&mut self) {
        if let Phase::Fetching(fetch) = &mut self.phase {
            fetch.ask_again();
        }
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        if let Phase::Fetching(fetch) = &mut self.phase {
            let progress = fetch.tick();
            self.fetched(progress);
        }
    }

    /// When [`Slots::next_request`] has something to ask for.
    pub fn poll_at(&self, now: MonoMs) -> Option<MonoMs> {
        match &self.phase {
            Phase::Fetching(fetch) => fetch.poll_at(now),
            _ => None,
        }
    }

    /// A release was stored, loaded and checked, or could not be.
    pub fn staged(&mut self, digest: Digest, result: Result<Arc<Profile>, String>) {
        let Phase::Staging { revert } = self.phase else { return self.unwanted(result.is_ok()) };
        if self.file.candidate != Some(digest) {
            return self.unwanted(result.is_ok());
        }
        let profile = match result {
            Ok(profile) => profile,
            Err(reason) => return self.fail(SlotState::Failed, &reason, false),
        };
        if let Some(active) = &self.active
            && (active.sampled != profile.sampled || active.sampled.is_none() && active.inputs != profile.inputs)
        {
            return self.fail(SlotState::Failed, &other_inputs(active, &profile), true);
        }
        self.candidate = Some(profile);
        self.candidate_event(SlotState::Staged);
        if revert || self.active.is_none() {
            self.begin_switch(revert);
        } else {
            self.phase = Phase::Trial { good: 0 };
            self.actions.push_back(Action::Try);
            self.candidate_event(SlotState::Trial);
        }
    }

    /// A write is on the disk, or is not.
    pub fn persisted(&mut self, number: u64, result: Result<(), String>) {
        match &self.phase {
            Phase::Switching { write, .. } if *write == number => self.switch(result),
            Phase::Committing { write } if *write == number => self.commit(result),
            _ => {}
        }
    }

    /// A sample was answered: by the active model, and by the one on trial when there is one.
    pub fn sample(&mut self, active: Outputs<'_>, trial: Option<Outputs<'_>>) {
        match (&mut self.phase, active, trial) {
            (Phase::Trial { good }, _, Some(Outputs::Values(_))) => {
                *good += 1;
                if *good >= self.proof.trial {
                    self.begin_switch(false);
                }
            }
            (Phase::Trial { good }, _, Some(Outputs::Failed)) => {
                let reason = format!("the model gave an error or no finite number on trial sample {}", *good + 1);
                self.fail(SlotState::RolledBack, &reason, true);
            }
            (Phase::Uncommitted { good }, Outputs::Values(_), _) => {
                *good += 1;
                if *good >= self.proof.commit {
                    self.begin_commit();
                }
            }
            (Phase::Uncommitted { .. } | Phase::Committing { .. }, Outputs::Failed, _) => {
                self.roll_back("the model gave an error or no finite number after it became active");
            }
            _ => {}
        }
    }

    // -- steps --

    fn begin(&mut self, generation: Generation, digest: Digest, manifest: &[u8]) {
        self.file.generation = generation;
        self.file.candidate = Some(digest);
        self.file.settled = None;
        self.persist();
        self.candidate_event(SlotState::Offered);
        if self.file.previous == Some(digest) {
            self.phase = Phase::Staging { revert: true };
            self.actions.push_back(Action::Stage { digest, from: StageFrom::Stored });
            return;
        }
        match Fetch::new(manifest) {
            Ok(fetch) => {
                self.phase = Phase::Fetching(Box::new(fetch));
                self.candidate_event(SlotState::Fetching);
            }
            Err(error) => self.refuse_manifest(&error),
        }
    }

    fn refuse_manifest(&mut self, error: &BundleError) {
        self.fail(SlotState::Failed, &error.to_string(), false);
    }

    fn fetched(&mut self, progress: Progress) {
        match progress {
            Progress::Going => {}
            Progress::Failed(reason) => self.fail(SlotState::Failed, &reason, false),
            Progress::Done => {
                let phase = std::mem::replace(&mut self.phase, Phase::Staging { revert: false });
                if let (Phase::Fetching(fetch), Some(digest)) = (phase, self.file.candidate) {
                    let (manifest, files) = fetch.into_files();
                    self.actions.push_back(Action::Stage { digest, from: StageFrom::Fetched(manifest, files) });
                }
            }
        }
    }

    fn begin_switch(&mut self, revert: bool) {
        let before = Box::new(self.file.clone());
        let leaving = self.file.active.filter(|_| self.file.committed);
        self.file.active = self.file.candidate.take();
        self.file.previous = leaving.or(self.file.previous).filter(|&d| Some(d) != self.file.active);
        self.file.committed = revert;
        self.file.attempts = 0;
        let write = self.persist();
        self.phase = Phase::Switching { write, revert, before };
    }

    fn switch(&mut self, result: Result<(), String>) {
        let Phase::Switching { revert, before, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        if let Err(reason) = result {
            self.file = self.file.back_to(*before);
            return self.fail(SlotState::Failed, &format!("the new state cannot be stored: {reason}"), true);
        }
        self.before = std::mem::replace(&mut self.active, self.candidate.take());
        self.actions.push_back(Action::Switch);
        if revert {
            // It was committed before; there is nothing left to prove.
            self.before = None;
            self.actions.push_back(Action::Settle { reverted: true });
        } else {
            self.phase = Phase::Uncommitted { good: 0 };
        }
        self.tell_where_it_stands();
    }

    fn begin_commit(&mut self) {
        self.file.committed = true;
        let write = self.persist();
        self.phase = Phase::Committing { write };
    }

    fn commit(&mut self, result: Result<(), String>) {
        if result.is_err() {
            // Nothing is lost by proving itself for longer; then it is written again.
            self.file.committed = false;
            self.phase = Phase::Uncommitted { good: 0 };
            return;
        }
        self.phase = Phase::Idle;
        self.before = None;
        self.actions.push_back(Action::Settle { reverted: false });
        self.tell_where_it_stands();
    }

    /// The release before answers again. Not conditional on the disk: the failing one must not go on answering.
    fn roll_back(&mut self, reason: &str) {
        let Some(failed) = self.file.active else { return };
        self.phase = Phase::Idle;
        self.file.fall_back(reason.into(), true);
        self.active = self.before.take();
        self.actions.push_back(Action::Back);
        self.persist();
        self.event(self.file.generation, failed, SlotState::RolledBack, reason, true);
        if self.active.is_some() {
            return;
        }
        // After a restart the release before is on the disk only; nothing answers until it is loaded.
        if let Some(digest) = self.file.active.take() {
            self.file.candidate = Some(digest);
            self.phase = Phase::Staging { revert: true };
            self.actions.push_back(Action::Stage { digest, from: StageFrom::Stored });
        }
    }

    /// Gives up what is not active yet.
    fn fail(&mut self, state: SlotState, reason: &str, loaded: bool) {
        self.phase = Phase::Idle;
        self.candidate = None;
        if loaded {
            self.actions.push_back(Action::Discard);
        }
        let Some(release) = self.file.candidate.take() else { return };
        let (generation, rolled_back) = (self.file.generation, state == SlotState::RolledBack);
        self.file.settled = Some(Settled { generation, release, rolled_back, reason: reason.into() });
        self.persist();
        self.event(generation, release, state, reason, true);
    }

    /// Another release is wanted before this one came to an end.
    fn abandon(&mut self, generation: Generation, wanted: Digest) {
        let reason = format!("generation {} asks for another release", generation.0);
        match &self.phase {
            Phase::Idle => {}
            Phase::Fetching(_) | Phase::Staging { .. } => self.fail(SlotState::Failed, &reason, false),
            Phase::Trial { .. } => self.fail(SlotState::RolledBack, &reason, true),
            Phase::Switching { before, .. } => {
                self.file = self.file.back_to((**before).clone());
                self.fail(SlotState::RolledBack, &reason, true);
            }
            Phase::Uncommitted { .. } | Phase::Committing { .. } if self.file.active == Some(wanted) => {}
            Phase::Uncommitted { .. } | Phase::Committing { .. } => self.roll_back(&reason),
        }
    }

    /// A load that nobody waits for any more. Loads end in the order they began, so it is not the one on trial.
    fn unwanted(&mut self, loaded: bool) {
        if loaded {
            self.actions.push_back(Action::Discard);
        }
    }

    fn accept(&mut self, generation: Generation) {
        if generation > self.file.generation {
            self.file.generation = generation;
            self.file.settled = None;
            self.persist();
        }
    }

    /// So many raw samples have been given out within the running day; the number of the write that says so.
    pub fn gave(&mut self, given: Given) -> u64 {
        self.file.given = given;
        self.persist()
    }

    fn persist(&mut self) -> u64 {
        self.writes += 1;
        self.actions.push_back(Action::Persist { number: self.writes, file: self.file.clone() });
        self.writes
    }

    fn tell_where_it_stands(&mut self) {
        let generation = self.file.generation;
        if let Some(settled) = self.file.settled.clone() {
            self.event(settled.generation, settled.release, settled.state(), &settled.reason, true);
        } else if let (Some(active), true) = (self.file.active, generation > Generation(0)) {
            let state = if self.file.committed { SlotState::Committed } else { SlotState::ActiveUncommitted };
            self.event(generation, active, state, "", true);
        }
    }

    fn candidate_event(&mut self, state: SlotState) {
        if let Some(candidate) = self.file.candidate {
            self.event(self.file.generation, candidate, state, "", true);
        }
    }

    fn event(&mut self, generation: Generation, release: Digest, state: SlotState, reason: &str, lasting: bool) {
        let release = ReleaseId::of(&release.0);
        self.events.push_back((Event::Slot { generation, release, state, reason: Text::cut(reason) }, lasting));
    }
}

fn other_inputs(active: &Profile, candidate: &Profile) -> String {
    let differs = candidate.inputs.iter().zip(&active.inputs).find(|(new, old)| new != old);
    match differs {
        Some((new, old)) => format!("it takes input {new} where this device's samples have {old}"),
        None => format!(
            "it takes {} inputs, and this device's samples have {}",
            candidate.inputs.len(),
            active.inputs.len()
        ),
    }
}
