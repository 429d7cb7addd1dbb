//! A rollout: one sentence, its stages, what may be done, and what failed why.

use super::View;
use super::figures::scope_groups;
use crate::explain::number;
use crate::history::Group;
use crate::release::Release;
use crate::rollout::machine::{Activity, Pause, Progress, Rollout, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl View<'_> {
    fn rollout_release(&self, rollout: &Rollout) -> String {
        format!("{} {}", rollout.plan.model, self.release_name(Some(rollout.plan.to)))
    }

    /// The release most of its devices had before.
    fn rollout_from(&self, rollout: &Rollout) -> Option<&Release> {
        let mut had: BTreeMap<_, usize> = BTreeMap::new();
        rollout.targets.values().filter_map(|t| t.from).for_each(|id| *had.entry(id).or_default() += 1);
        had.iter().max_by_key(|(_, n)| **n).and_then(|(id, _)| self.release(*id))
    }

    pub(super) fn rollout_title(&self, rollout: &Rollout) -> String {
        let n = rollout.targets.len().to_string();
        self.say("rollout-title", &[("model", &self.rollout_release(rollout)), ("n", &n)])
    }

    fn progress(rollout: &Rollout, is: impl Fn(&Progress) -> bool) -> usize {
        rollout.targets.values().filter(|t| is(&t.progress)).count()
    }

    pub(super) fn rollout_sentence(&self, rollout: &Rollout) -> String {
        let counts = rollout.counts(rollout.stage);
        let installed = Self::progress(rollout, |p| *p == Progress::Installed);
        let failed = Self::progress(rollout, |p| matches!(p, Progress::Failed { .. }));
        let (stage, stages) = ((rollout.stage + 1).to_string(), rollout.plan.stages.len().to_string());
        let limit = rollout.plan.policy.failure_limit_percent.to_string();
        let text = |n: usize| n.to_string();
        let at = [("stage", stage.as_str()), ("stages", stages.as_str()), ("limit", limit.as_str())];
        let say = |id: &str, more: &[(&str, &str)]| self.say(id, &[&at, more].concat());
        match &rollout.state {
            State::Running => say(
                "rollout-running",
                &[
                    ("installed", &text(counts.installed)),
                    ("n", &text(counts.devices)),
                    ("failed", &text(counts.failed)),
                ],
            ),
            State::Watching { until } => {
                let left = self.duration(until.0.saturating_sub(self.now.0));
                let (had, n) = (text(counts.installed), text(counts.devices));
                say("rollout-watching", &[("installed", &had), ("n", &n), ("left", &left)])
            }
            State::Paused { why: Pause::User } => say("rollout-paused-user", &[]),
            State::Paused { why: Pause::Failures { failed, executed } } => {
                say("rollout-paused-failures", &[("failed", &text(*failed)), ("executed", &text(*executed))])
            }
            State::Paused { why: Pause::Drift { devices } } => say("rollout-paused-drift", &[("n", &text(*devices))]),
            State::Aborting => self.say_n("rollout-aborting", Self::progress(rollout, |p| *p == Progress::Returning)),
            State::Aborted => self.say("rollout-aborted", &[]),
            State::Done => {
                let id = if failed > 0 { "rollout-done-failures" } else { "rollout-done" };
                let (had, n) = (text(installed), text(rollout.targets.len()));
                say(id, &[("installed", &had), ("n", &n), ("failed", &text(failed))])
            }
        }
    }

    pub(super) fn rollout_card(&self, rollout: &Rollout) -> Value {
        let failed = Self::progress(rollout, |p| matches!(p, Progress::Failed { .. }));
        let state = match rollout.state {
            State::Running => "running",
            State::Watching { .. } => "watching",
            State::Paused { .. } => "paused",
            State::Aborting => "aborting",
            State::Aborted => "aborted",
            State::Done if failed > 0 => "done_with_failures",
            State::Done => "done",
        };
        let label = match state {
            "done_with_failures" => "state-done-failures".to_owned(),
            other => format!("state-{other}"),
        };
        json!({
            "id": rollout.id.to_string(),
            "title": self.rollout_title(rollout),
            "state": state,
            "state_label": self.say(&label, &[]),
            "sentence": self.rollout_sentence(rollout),
            "installed": Self::progress(rollout, |p| *p == Progress::Installed),
            "failed": failed,
            "total": rollout.targets.len(),
        })
    }

    pub(super) fn rollout(&self, rollout: &Rollout) -> Value {
        let from = self.rollout_from(rollout);
        let mut value = self.rollout_card(rollout);
        let more = json!({
            "model": rollout.plan.model,
            "release": self.release_name(Some(rollout.plan.to)),
            "from_release": from.map(|r| &r.name),
            "incident": rollout.incident.map(|id| format!("INC-{id}")),
            "buttons": self.buttons(rollout, from),
            "stages": (0..rollout.plan.stages.len()).map(|i| self.stage(rollout, i)).collect::<Vec<_>>(),
            "failures": failures(rollout),
            "compare": self.compared(rollout, from),
            "devices": rollout.targets.iter().map(|(name, t)| {
                let (state, reason) = progress_code(&t.progress);
                json!({ "id": name, "state": state, "stage": t.stage + 1, "reason": reason })
            }).collect::<Vec<_>>(),
            "activity": rollout.activity.iter().map(|(at, what)| {
                json!({ "t_ms": at.0, "text": self.rollout_activity(what) })
            }).collect::<Vec<_>>(),
        });
        super::incident::extend(&mut value, more);
        value
    }

    fn buttons(&self, rollout: &Rollout, from: Option<&Release>) -> Vec<Value> {
        let paused = matches!(rollout.state, State::Paused { .. });
        let over = (!rollout.is_live() || rollout.state == State::Aborting).then(|| self.say("why-over", &[]));
        let from = from.map_or("–".into(), |r| r.name.to_string());
        let to = self.release_name(Some(rollout.plan.to));
        let count = |is: fn(&Progress) -> bool| Self::progress(rollout, is).to_string();
        let consequences = self.say(
            "abort-text",
            &[
                ("installed", &count(|p| *p == Progress::Installed)),
                ("progress", &count(|p| matches!(p, Progress::Sent { .. }))),
                ("waiting", &count(|p| *p == Progress::Waiting)),
                ("from", &from),
                ("to", &to),
            ],
        );
        let button = |code: &str, label: String, why: Option<String>, confirm: Option<Value>| {
            json!({
                "code": code, "label": label, "enabled": why.is_none(), "why": why,
                "danger": confirm.is_some(), "confirm": confirm,
            })
        };
        let abort = json!({ "text": consequences, "button": self.say("abort-button", &[]) });
        vec![
            button(
                "pause",
                self.say("button-pause", &[]),
                over.clone().or_else(|| paused.then(|| self.say("why-paused", &[]))),
                None,
            ),
            button(
                "resume",
                self.say("button-resume", &[]),
                over.clone().or_else(|| (!paused).then(|| self.say("why-not-paused", &[]))),
                None,
            ),
            button("abort", self.say("button-abort", &[("from", &from)]), over, Some(abort)),
        ]
    }

    fn stage(&self, rollout: &Rollout, index: usize) -> Value {
        let counts = rollout.counts(index);
        let current = index == rollout.stage;
        let state = match &rollout.state {
            _ if index > rollout.stage => "waiting",
            State::Running if current => "running",
            State::Watching { .. } if current => "watching",
            State::Paused { .. } if current => "stopped",
            State::Aborting | State::Aborted => "stopped",
            _ => "done",
        };
        let (installed, n, failed) =
            (counts.installed.to_string(), counts.devices.to_string(), counts.failed.to_string());
        let label = self.say(&format!("stage-{state}"), &[("installed", &installed), ("n", &n), ("failed", &failed)]);
        json!({
            "n": index + 1, "percent": self.core.percent(&rollout.plan, index), "devices": counts.devices,
            "installed": counts.installed, "in_progress": counts.in_progress, "failed": counts.failed,
            "waiting": counts.waiting, "state": state, "label": label,
        })
    }

    /// The new release against the old one on the reading that the rollout is about.
    fn compared(&self, rollout: &Rollout, from: Option<&Release>) -> Value {
        let (Some(from), Some(to)) = (from, self.release(rollout.plan.to)) else { return Value::Null };
        if Self::progress(rollout, |p| *p == Progress::Installed) == 0 {
            return Value::Null;
        }
        let incident = rollout.incident.and_then(|id| self.core.book.get(id));
        let reading = incident.map_or(from.baseline.features[0].name.as_str(), |i| i.primary.as_str());
        self.compare(
            &rollout.plan.model,
            reading,
            &[from, to],
            &incident.map_or(vec![Group::Fleet], |i| scope_groups(i, &self.core.settings.cohort_label)),
        )
    }

    fn rollout_activity(&self, what: &Activity) -> String {
        match what {
            Activity::Created => self.say("act-created", &[]),
            Activity::Stage { n, devices } => {
                self.say("act-stage", &[("stage", &n.to_string()), ("n", &devices.to_string())])
            }
            Activity::Failed { device, reason } => {
                self.say("act-failed", &[("device", device.as_str()), ("reason", reason)])
            }
            Activity::Paused { why } => {
                let more = match why {
                    Pause::User => String::new(),
                    Pause::Failures { failed, executed } => {
                        format!(" {}/{}", number::count(*failed as u64), number::count(*executed as u64))
                    }
                    Pause::Drift { devices } => format!(" {}", self.say_n("incident-spread", *devices)),
                };
                format!("{}{more}", self.say("act-paused", &[]))
            }
            Activity::Resumed => self.say("act-resumed", &[]),
            Activity::Aborted => self.say("act-aborted", &[]),
            Activity::Done => self.say("act-done", &[]),
        }
    }
}

fn progress_code(progress: &Progress) -> (&'static str, Option<&str>) {
    match progress {
        Progress::Waiting => ("waiting", None),
        Progress::Sent { .. } => ("in_progress", None),
        Progress::Installed => ("installed", None),
        Progress::Failed { reason } => ("failed", Some(reason)),
        Progress::Returning => ("returning", None),
        Progress::Returned => ("returned", None),
        Progress::Skipped => ("skipped", None),
    }
}

fn failures(rollout: &Rollout) -> Vec<Value> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, target) in &rollout.targets {
        if let Progress::Failed { reason } = &target.progress {
            reasons.entry(reason).or_default().push(name.as_str());
        }
    }
    reasons.into_iter().map(|(reason, devices)| json!({ "reason": reason, "devices": devices })).collect()
}
