//! The life of one rollout.
//!
//! A stage sends, waits until each of its devices has installed or failed, watches for the soak time, passes its gates and hands
//! over. Gates: the share of failures in the stage, and drift on devices that already have the release. A closed gate pauses;
//! nothing is returned by itself unless somebody aborts.
//!
//! What abort does to a device: `waiting` → `skipped`; `sent` and `installed` → `returning` to the release it had, then
//! `returned`; `failed` stays (the device returned by itself).

use super::plan::Plan;
use driftline_shared::units::{Generation, Name, ReleaseId, WallMs};
use driftline_shared::wire::messages::SlotState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Entries in a rollout's activity.
const ACTIVITY_MAX: usize = 500;

/// Where a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Progress {
    /// Its stage has not begun.
    Waiting,
    /// It has been told.
    Sent {
        /// When.
        at: WallMs,
    },
    /// It runs the release for good.
    Installed,
    /// It does not, and runs what it had.
    Failed {
        /// Why.
        reason: String,
    },
    /// It has been told to return.
    Returning,
    /// It returned.
    Returned,
    /// It was never told.
    Skipped,
}

/// One device of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its stage, from 0.
    pub stage: usize,
    /// What it ran before.
    pub from: Option<ReleaseId>,
    /// Where it is.
    pub progress: Progress,
    /// The desired state that was sent last.
    pub generation: Generation,
}

/// State of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// The current stage is being installed.
    Running,
    /// The current stage is being watched until then.
    Watching {
        /// When the gate is read.
        until: WallMs,
    },
    /// Stopped, by a gate or by somebody.
    Paused {
        /// Why.
        why: Pause,
    },
    /// Devices are returning.
    Aborting,
    /// All have returned.
    Aborted,
    /// Every device has it, or has failed within the limit.
    Done,
}

/// Why a rollout stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Pause {
    /// Somebody pressed pause.
    User,
    /// Too many failures.
    Failures {
        /// Failed in the stage.
        failed: usize,
        /// Executed in the stage.
        executed: usize,
    },
    /// Devices on the new release drift.
    Drift {
        /// So many.
        devices: usize,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Activity {
    /// It was created.
    Created,
    /// A stage began.
    Stage {
        /// From 1.
        n: usize,
        /// Its devices.
        devices: usize,
    },
    /// A device could not install it.
    Failed {
        /// Which.
        device: Name,
        /// Why.
        reason: String,
    },
    /// It stopped.
    Paused {
        /// Why.
        why: Pause,
    },
    /// It went on.
    Resumed,
    /// It is being taken back.
    Aborted,
    /// It is over.
    Done,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its number.
    pub id: u64,
    /// What was confirmed.
    pub plan: Plan,
    /// Incident it answers, if any.
    pub incident: Option<u64>,
    /// State.
    pub state: State,
    /// The stage that is running or was last, from 0.
    pub stage: usize,
    /// Every device.
    pub targets: BTreeMap<Name, Target>,
    /// When it was created.
    pub created: WallMs,
    /// What happened.
    pub activity: Vec<(WallMs, Activity)>,
}

/// A device must be told to run a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// Which device.
    pub device: Name,
    /// Which release.
    pub release: ReleaseId,
}

/// Counts of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Devices.
    pub devices: usize,
    /// Have it.
    pub installed: usize,
    /// Have been told, no answer yet.
    pub in_progress: usize,
    /// Could not.
    pub failed: usize,
    /// Not told yet.
    pub waiting: usize,
    /// Returned or returning.
    pub returned: usize,
}

impl Rollout {
    /// A rollout that has just been confirmed; `from` is what each device runs. Its first stage begins at the next tick.
    pub fn new(id: u64, plan: Plan, incident: Option<u64>, from: &BTreeMap<Name, ReleaseId>, now: WallMs) -> Self {
        let target = |stage: usize, name: &Name| {
            let from = from.get(name).copied();
            (name.clone(), Target { stage, from, progress: Progress::Waiting, generation: Generation(0) })
        };
        let targets =
            plan.stages.iter().enumerate().flat_map(|(s, names)| names.iter().map(move |n| target(s, n))).collect();
        let activity = vec![(now, Activity::Created)];
        Self { id, plan, incident, state: State::Running, stage: 0, targets, created: now, activity }
    }

    /// Whether it can still do something by itself.
    pub fn is_live(&self) -> bool {
        !matches!(self.state, State::Done | State::Aborted)
    }

    /// Counts of a stage.
    pub fn counts(&self, stage: usize) -> Counts {
        let mut c = Counts::default();
        for target in self.targets.values().filter(|t| t.stage == stage) {
            c.devices += 1;
            match target.progress {
                Progress::Waiting | Progress::Skipped => c.waiting += 1,
                Progress::Sent { .. } => c.in_progress += 1,
                Progress::Installed => c.installed += 1,
                Progress::Failed { .. } => c.failed += 1,
                Progress::Returning | Progress::Returned => c.returned += 1,
            }
        }
        c
    }

    /// A device reported a slot's state for this rollout's release, or for the one it returns to.
    pub fn reported(&mut self, now: WallMs, device: &Name, release: ReleaseId, state: SlotState, reason: &str) {
        let to = self.plan.to;
        let Some(target) = self.targets.get_mut(device) else { return };
        let settled = state == SlotState::Committed;
        match &target.progress {
            Progress::Sent { .. } if release == to && settled => target.progress = Progress::Installed,
            Progress::Sent { .. } | Progress::Installed
                if release == to && matches!(state, SlotState::Failed | SlotState::RolledBack) =>
            {
                let reason = reason.to_owned();
                target.progress = Progress::Failed { reason: reason.clone() };
                self.log(now, Activity::Failed { device: device.clone(), reason });
            }
            Progress::Returning if Some(release) == target.from && settled => target.progress = Progress::Returned,
            _ => {}
        }
    }

    /// Lets time pass: times devices out, reads gates, begins stages. `drifting` counts devices that run the new release and
    /// drift on it. Returns what must be sent now.
    pub fn tick(&mut self, now: WallMs, drifting: usize) -> Vec<Send> {
        match self.state.clone() {
            State::Running => self.run(now),
            State::Watching { until } => {
                if drifting > 0 {
                    self.pause(now, Pause::Drift { devices: drifting });
                    return Vec::new();
                }
                if now < until {
                    return Vec::new();
                }
                if self.stage + 1 == self.plan.stages.len() {
                    self.state = State::Done;
                    self.log(now, Activity::Done);
                    return Vec::new();
                }
                self.stage += 1;
                self.state = State::Running;
                self.run(now)
            }
            State::Aborting => {
                if !self.targets.values().any(|t| t.progress == Progress::Returning) {
                    self.state = State::Aborted;
                    self.log(now, Activity::Done);
                }
                Vec::new()
            }
            State::Paused { .. } | State::Aborted | State::Done => Vec::new(),
        }
    }

    fn run(&mut self, now: WallMs) -> Vec<Send> {
        self.time_out(now);
        let counts = self.counts(self.stage);
        if self.gate_closed(counts) {
            let executed = counts.installed + counts.failed;
            self.pause(now, Pause::Failures { failed: counts.failed, executed });
            return Vec::new();
        }
        if counts.waiting > 0 {
            let (stage, to) = (self.stage, self.plan.to);
            if counts.waiting == counts.devices {
                self.log(now, Activity::Stage { n: stage + 1, devices: counts.devices });
            }
            let due = self.targets.iter_mut().filter(|(_, t)| t.stage == stage && t.progress == Progress::Waiting);
            return due
                .map(|(name, target)| {
                    target.progress = Progress::Sent { at: now };
                    Send { device: name.clone(), release: to }
                })
                .collect();
        }
        if counts.in_progress == 0 {
            self.state = State::Watching { until: WallMs(now.0 + self.plan.policy.soak_ms) };
        }
        Vec::new()
    }

    fn gate_closed(&self, counts: Counts) -> bool {
        let executed = counts.installed + counts.failed;
        executed > 0
            && counts.failed * 100 > executed * self.plan.policy.failure_limit_percent as usize
            // One early failure is no rate yet: wait until it would break the limit of the whole stage, too.
            && (counts.in_progress == 0
                || counts.failed * 100 > counts.devices * self.plan.policy.failure_limit_percent as usize)
    }

    fn time_out(&mut self, now: WallMs) {
        let limit = self.plan.policy.timeout_ms;
        let mut late = Vec::new();
        for (name, target) in &mut self.targets {
            if let Progress::Sent { at } = target.progress
                && now.0.saturating_sub(at.0) > limit
            {
                let reason = format!("no answer within {} s", limit / 1000);
                target.progress = Progress::Failed { reason: reason.clone() };
                late.push((name.clone(), reason));
            }
        }
        for (device, reason) in late {
            self.log(now, Activity::Failed { device, reason });
        }
    }

    /// Stops where it is. Devices that have been told go on.
    pub fn pause(&mut self, now: WallMs, why: Pause) -> bool {
        if !matches!(self.state, State::Running | State::Watching { .. }) {
            return false;
        }
        self.state = State::Paused { why: why.clone() };
        self.log(now, Activity::Paused { why });
        true
    }

    /// Goes on. After a closed failure gate, the failed devices of the stage are tried again.
    pub fn resume(&mut self, now: WallMs) -> bool {
        let State::Paused { why } = self.state.clone() else { return false };
        if matches!(why, Pause::Failures { .. }) {
            let stage = self.stage;
            for target in self.targets.values_mut().filter(|t| t.stage == stage) {
                if matches!(target.progress, Progress::Failed { .. }) {
                    target.progress = Progress::Waiting;
                }
            }
        }
        self.state = State::Running;
        self.log(now, Activity::Resumed);
        true
    }

    /// Takes it back. Returns what must be sent; `None` when it is over already.
    pub fn abort(&mut self, now: WallMs) -> Option<Vec<Send>> {
        if !self.is_live() || self.state == State::Aborting {
            return None;
        }
        let mut sends = Vec::new();
        for (name, target) in &mut self.targets {
            match (&target.progress, target.from) {
                (Progress::Waiting, _) => target.progress = Progress::Skipped,
                (Progress::Sent { .. } | Progress::Installed, Some(from)) => {
                    target.progress = Progress::Returning;
                    sends.push(Send { device: name.clone(), release: from });
                }
                // A device that ran nothing before has nothing to return to and keeps what it has.
                _ => {}
            }
        }
        self.state = State::Aborting;
        self.log(now, Activity::Aborted);
        Some(sends)
    }

    fn log(&mut self, now: WallMs, what: Activity) {
        if self.activity.len() < ACTIVITY_MAX {
            self.activity.push((now, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Policy;
    use super::*;

    /// Runs a script against a rollout of four devices in two stages and returns what was sent and the states it went through.
    fn play(script: &[&str]) -> String {
        let name = |s: &str| Name::new(s).expect("a name");
        let devices: Vec<_> = ["a", "b", "c", "d"].map(|d| (name(d), "x".to_owned())).into();
        let policy = Policy { stages: vec![50, 100], failure_limit_percent: 40, soak_ms: 100, timeout_ms: 1_000 };
        let from = devices.iter().map(|(n, _)| (n.clone(), ReleaseId(1))).collect();
        let plan = Plan::new(name("m"), ReleaseId(2), policy, &devices);
        let first: Vec<String> = plan.stages[0].iter().map(ToString::to_string).collect();
        let mut r = Rollout::new(1, plan, None, &from, WallMs(0));
        let mut out = String::new();
        for line in script {
            let words: Vec<&str> = line.split(' ').collect();
            let who = |i: usize| {
                name(if words[i] == "first" {
                    &first[0]
                } else if words[i] == "second" {
                    &first[1]
                } else {
                    words[i]
                })
            };
            let num = |i: usize| words[i].parse::<u64>().expect("a number");
            let sends = match words[0] {
                "tick" => r.tick(WallMs(num(1)), words.get(2).map_or(0, |_| num(2) as usize)),
                "ok" => {
                    r.reported(WallMs(0), &who(1), ReleaseId(2), SlotState::Committed, "");
                    vec![]
                }
                "back" => {
                    r.reported(WallMs(0), &who(1), ReleaseId(1), SlotState::Committed, "");
                    vec![]
                }
                "bad" => {
                    r.reported(WallMs(0), &who(1), ReleaseId(2), SlotState::RolledBack, "trial");
                    vec![]
                }
                "rest" => {
                    for n in r.targets.clone().keys() {
                        r.reported(WallMs(0), n, ReleaseId(2), SlotState::Committed, "");
                    }
                    vec![]
                }
                "pause" => {
                    r.pause(WallMs(0), Pause::User);
                    vec![]
                }
                "resume" => {
                    r.resume(WallMs(0));
                    vec![]
                }
                "abort" => r.abort(WallMs(0)).unwrap_or_default(),
                other => panic!("no such line: {other}"),
            };
            let to = sends.first().map_or(0, |s| s.release.0);
            out += &format!("{line}: {:?} sends {} v{to}\n", r.state, sends.len());
        }
        out
    }

    #[test]
    fn a_good_rollout_goes_stage_by_stage() {
        assert_eq!(
            play(&[
                "tick 0",
                "tick 1",
                "ok first",
                "ok second",
                "tick 2",
                "tick 50",
                "tick 102",
                "rest",
                "tick 110",
                "tick 300"
            ]),
            "tick 0: Running sends 2 v2\ntick 1: Running sends 0 v0\nok first: Running sends 0 v0\nok second: Running sends 0 v0\n\
             tick 2: Watching { until: WallMs(102) } sends 0 v0\ntick 50: Watching { until: WallMs(102) } sends 0 v0\n\
             tick 102: Running sends 2 v2\nrest: Running sends 0 v0\ntick 110: Watching { until: WallMs(210) } sends 0 v0\n\
             tick 300: Done sends 0 v0\n"
        );
    }

    #[test]
    fn failures_pause_and_resume_tries_only_the_failed_again() {
        let said = play(&["tick 0", "bad first", "ok second", "tick 1", "tick 500", "resume", "tick 501"]);
        assert!(said.contains("tick 1: Paused { why: Failures { failed: 1, executed: 2 } } sends 0"), "{said}");
        assert!(said.ends_with("tick 500: Paused { why: Failures { failed: 1, executed: 2 } } sends 0 v0\nresume: Running sends 0 v0\ntick 501: Running sends 1 v2\n"), "{said}");
    }

    #[test]
    fn silence_is_a_failure() {
        let said = play(&["tick 0", "ok first", "tick 2000"]);
        assert!(
            said.ends_with("tick 2000: Paused { why: Failures { failed: 1, executed: 2 } } sends 0 v0\n"),
            "{said}"
        );
    }

    #[test]
    fn drift_on_the_new_release_pauses_the_watch() {
        let said = play(&["tick 0", "ok first", "ok second", "tick 1", "tick 2 1"]);
        assert!(said.ends_with("tick 2 1: Paused { why: Drift { devices: 1 } } sends 0 v0\n"), "{said}");
    }

    #[test]
    fn abort_returns_what_was_told_and_skips_the_rest() {
        let said =
            play(&["tick 0", "ok first", "abort", "tick 1", "back first", "tick 2", "back second", "tick 3", "abort"]);
        assert!(said.contains("abort: Aborting sends 2 v1\n"), "{said}");
        assert!(said.ends_with("tick 2: Aborting sends 0 v0\nback second: Aborting sends 0 v0\ntick 3: Aborted sends 0 v0\nabort: Aborted sends 0 v0\n"), "{said}");
    }
}
