//! An incident that was resolved and was not over: the same reading of the same devices, changed again before long, is no new cause.

use super::{Activity, Book, Evidence, Incident, SAME_ONSET_WINDOWS, State};
use driftline_shared::units::WallMs;

impl Incident {
    /// Whether evidence says that this was not over.
    fn returns_with(&self, evidence: &Evidence) -> bool {
        let same = self.moved.get(evidence.name()).is_some_and(|moved| moved.change == evidence.change());
        let shared = evidence.devices.intersection(&self.affected).count();
        let soon = SAME_ONSET_WINDOWS * u64::from(evidence.release.schema.window_ms);
        let before_long = self.resolved.is_some_and(|at| evidence.onset().0 <= at.0.saturating_add(soon));
        // A release that ended it has a baseline of its own.
        self.state == State::Resolved
            && self.release == evidence.release.id
            && same
            && before_long
            && 2 * shared >= evidence.devices.len()
    }

    /// It goes on.
    fn reopen(&mut self, now: WallMs, evidence: &Evidence) {
        self.state = State::Open;
        self.resolved = None;
        self.absorb(evidence);
        self.log(now, Activity::Reopened);
    }
}

impl Book {
    /// The newest incident that evidence opens again.
    pub(super) fn reopened(&mut self, now: WallMs, evidence: &Evidence) -> Option<u64> {
        let known = self.incidents.values_mut().rev().find(|incident| incident.returns_with(evidence))?;
        known.reopen(now, evidence);
        Some(known.id)
    }
}
