//! What survives a restart: how the slots stand, and what raw samples were given out.

use driftline_shared::manifest::Digest;
use driftline_shared::units::{Generation, WallMs};
use driftline_shared::wire::messages::SlotState;
use serde::{Deserialize, Serialize};

/// Version of [`SlotFile`].
pub const FORMAT: u32 = 1;
/// Starts that a release gets to be committed in; one of them may be an honest reboot.
pub const ATTEMPTS_MAX: u32 = 2;

/// What is known of the slots across a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotFile {
    /// [`FORMAT`].
    pub format: u32,
    /// How often the agent has started.
    pub starts: u64,
    /// The last desired state that was accepted.
    pub generation: Generation,
    /// The bundle that the configuration named when this was written.
    pub configured: Option<Digest>,
    /// The release that answers.
    pub active: Option<Digest>,
    /// Whether it has proved itself.
    pub committed: bool,
    /// Starts since it became active without being committed.
    pub attempts: u32,
    /// The committed release before it.
    pub previous: Option<Digest>,
    /// The release that is being fetched or tried.
    pub candidate: Option<Digest>,
    /// What was tried last and failed.
    pub settled: Option<Settled>,
    /// Raw samples given out within the running day.
    #[serde(default)]
    pub given: Given,
}

/// Raw samples that left within a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// When the day began.
    pub since: WallMs,
    /// How many.
    pub samples: u32,
}

/// A release that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// Under which generation.
    pub generation: Generation,
    /// Which release.
    pub release: Digest,
    /// Whether it had been active or on trial.
    pub rolled_back: bool,
    /// Why.
    pub reason: String,
}

impl SlotFile {
    /// What to start with, given what was written last and the bundle in the configuration.
    pub fn at_start(last: Option<Self>, configured: Option<Digest>) -> Self {
        let fresh = Self { format: FORMAT, configured, active: configured, committed: true, ..Self::default() };
        let Some(mut file) = last else { return Self { starts: 1, ..fresh } };
        file.starts += 1;
        file.candidate = None;
        if configured.is_some() && configured != file.configured {
            // The operator has put another bundle there since: that is newer than any slot.
            let SlotFile { starts, generation, given, .. } = file;
            return Self { starts, generation, given, ..fresh };
        }
        if !file.committed {
            file.attempts += 1;
            if file.attempts > ATTEMPTS_MAX {
                let reason = format!("the agent stopped {} times before the release had proved itself", file.attempts);
                file.fall_back(reason, true);
            }
        }
        file
    }

    /// An earlier state of the slots; what was asked for and given out since stays true.
    pub(super) fn back_to(&self, before: Self) -> Self {
        Self { generation: self.generation, given: self.given, ..before }
    }

    /// The active release cannot run: the one before it takes its place.
    pub fn fall_back(&mut self, reason: String, rolled_back: bool) {
        if let Some(release) = self.active {
            self.settled = Some(Settled { generation: self.generation, release, rolled_back, reason });
        }
        let before = self.previous.take().or(self.configured).filter(|&d| Some(d) != self.active);
        self.active = before;
        self.committed = true;
        self.attempts = 0;
    }

    /// Every release whose files must stay.
    pub fn kept(&self) -> impl Iterator<Item = Digest> {
        [self.active, self.previous, self.candidate, self.configured].into_iter().flatten()
    }
}

impl Settled {
    pub(super) fn state(&self) -> SlotState {
        if self.rolled_back { SlotState::RolledBack } else { SlotState::Failed }
    }
}
