//! What people ask the collector to do, and its answers. Nothing wide happens without a plan that was confirmed by its hash.

use super::{Collector, EvidenceWanted, LabelsRequest, RELEASES_MAX, Topic};
use crate::record::Write;
use crate::release::Release;
use crate::rollout::machine::{Pause, Rollout};
use crate::rollout::plan::{Plan, Policy};
use driftline_shared::units::{Name, Now, ReleaseId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Query {
    /// Those an incident affects, by its label (`INC-7`).
    Incident(String),
    /// Those with all of these labels.
    Labels(BTreeMap<String, String>),
    /// All that run the model.
    All(bool),
}

/// A rollout that somebody wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// Model.
    pub model: Name,
    /// Release to bring out.
    pub release: Name,
    /// To whom.
    pub query: Query,
    /// Cumulative percentages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<u32>>,
    /// See [`Policy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_limit_percent: Option<u32>,
    /// See [`Policy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_ms: Option<u64>,
    /// See [`Policy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The plan that was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
}

/// Something to do.
#[derive(Debug)]
pub enum Command {
    /// Register a packed bundle.
    AddRelease(Vec<u8>),
    /// Work out a rollout's plan, and nothing else.
    Plan(Box<RolloutRequest>),
    /// Start the rollout whose plan was confirmed.
    Create(Box<RolloutRequest>),
    /// Pause a rollout.
    Pause(u64),
    /// Go on with it.
    Resume(u64),
    /// Take it back.
    Abort(u64),
    /// Mark an incident as seen.
    Acknowledge(u64),
    /// Tell a device what its samples really were.
    AddLabels(Box<LabelsRequest>),
    /// Ask a device for raw samples.
    Evidence(Box<EvidenceWanted>),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Code of docs/api.md.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// What to try.
    pub hint: String,
}

impl Refused {
    pub(super) fn new(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }
}

impl Collector {
    /// Carries out a command.
    pub fn command(&mut self, now: Now, command: Command) -> Result<Value, Refused> {
        match command {
            Command::AddRelease(packed) => self.add_release(now, &packed),
            Command::Plan(request) => {
                let (plan, _) = self.plan(&request)?;
                Ok(self.plan_json(&request, &plan))
            }
            Command::Create(request) => self.create(now, &request),
            Command::Pause(id) => self.change(now, id, "rollout.paused", |r, now| r.pause(now.wall, Pause::User)),
            Command::Resume(id) => self.change(now, id, "rollout.resumed", |r, now| r.resume(now.wall)),
            Command::Abort(id) => self.abort(now, id),
            Command::AddLabels(request) => self.add_labels(now, &request),
            Command::Evidence(wanted) => self.ask_for_evidence(now, *wanted),
            Command::Acknowledge(id) => {
                let state = self.book.acknowledge(id, now.wall).ok_or_else(|| {
                    Refused::new(
                        "not_found",
                        format!("There is no open incident INC-{id}."),
                        "driftline incidents list",
                    )
                })?;
                let incident = self.book.get(id).expect("just acknowledged").clone();
                self.writes.push(Write::Incident(Box::new(incident)));
                self.changed.extend([Topic::Overview, Topic::Incidents, Topic::Incident(id)]);
                Ok(json!({ "state": state }))
            }
        }
    }

    fn add_release(&mut self, now: Now, packed: &[u8]) -> Result<Value, Refused> {
        let (release, files) = Release::unpack(packed, now.wall).map_err(|why| {
            Refused::new("bad_request", format!("The bundle was not added: {why}."), "driftline baselines create")
        })?;
        let answer = json!({ "model": release.model, "release": release.name, "digest": release.digest });
        if self.releases.contains_key(&release.id) {
            return Ok(answer);
        }
        if self.releases.values().any(|r| r.model == release.model && r.name == release.name) {
            let (model, name) = (&release.model, &release.name);
            let message = format!("{model} {name} exists already with other content; a release never changes.");
            return Err(Refused::new("conflict", message, "give the new one another release name"));
        }
        if self.releases.len() >= RELEASES_MAX {
            let message = format!("There are {RELEASES_MAX} releases already, which is the most.");
            return Err(Refused::new("conflict", message, "remove one that no device runs"));
        }
        let id = format!("{}@{}", release.model, release.name);
        let files = files.into_iter().map(|(entry, bytes)| (entry, bytes.to_vec())).collect();
        self.writes.push(Write::Release { release: Box::new(release.clone()), files });
        self.register(Arc::new(release));
        self.event(now, "model.added", id);
        self.changed.extend([Topic::Overview, Topic::Models, Topic::Incidents]);
        let live: Vec<u64> = self.book.all().filter(|i| i.is_live()).map(|i| i.id).collect();
        self.changed.extend(live.into_iter().map(Topic::Incident));
        Ok(answer)
    }

    /// The plan for a request, and the incident it answers.
    fn plan(&self, request: &RolloutRequest) -> Result<(Plan, Option<u64>), Refused> {
        let (model, name) = (&request.model, &request.release);
        let release = self.releases.values().find(|r| r.model == *model && r.name == *name).ok_or_else(|| {
            Refused::new("not_found", format!("There is no release {name} of model {model}."), "driftline models list")
        })?;
        let mut policy: Policy = self.settings.rollout.clone();
        policy.stages = request.stages.clone().unwrap_or(policy.stages);
        policy.failure_limit_percent = request.failure_limit_percent.unwrap_or(policy.failure_limit_percent);
        policy.soak_ms = request.soak_ms.unwrap_or(policy.soak_ms);
        policy.timeout_ms = request.timeout_ms.unwrap_or(policy.timeout_ms);
        policy
            .check()
            .map_err(|why| Refused::new("bad_request", format!("This rollout is not possible: {why}."), ""))?;
        let (chosen, incident) = self.chosen(request)?;
        let busy = |name: &Name| self.rollouts.values().any(|r| r.is_live() && r.targets.contains_key(name));
        if let Some(device) = chosen.iter().find(|n| busy(n)) {
            let message = format!("{device} is part of a rollout that is not over.");
            return Err(Refused::new("conflict", message, "wait for it, or abort it, then try again"));
        }
        let devices: Vec<(Name, String)> = chosen
            .into_iter()
            .filter(|n| self.devices[n].release != Some(release.id))
            .map(|n| {
                let cohort = self.cohort_of(&n);
                (n, cohort)
            })
            .collect();
        if devices.is_empty() {
            let message = format!("No device is left that would get {model} {name}.");
            return Err(Refused::new("conflict", message, "driftline devices list"));
        }
        Ok((Plan::new(model.clone(), release.id, policy, &devices), incident))
    }

    fn chosen(&self, request: &RolloutRequest) -> Result<(Vec<Name>, Option<u64>), Refused> {
        let runs_model =
            |id: Option<ReleaseId>| id.and_then(|id| self.releases.get(&id)).is_none_or(|r| r.model == request.model);
        let all = || self.devices.iter().filter(|(_, d)| runs_model(d.release));
        match &request.query {
            Query::All(_) => Ok((all().map(|(n, _)| n.clone()).collect(), None)),
            Query::Labels(labels) => {
                let fits = |d: &crate::device::Device| labels.iter().all(|(k, v)| d.labels.get(k) == Some(v));
                Ok((all().filter(|(_, d)| fits(d)).map(|(n, _)| n.clone()).collect(), None))
            }
            Query::Incident(label) => {
                let id = label.strip_prefix("INC-").and_then(|n| n.parse().ok());
                let incident = id.and_then(|id: u64| self.book.get(id)).ok_or_else(|| {
                    Refused::new("not_found", format!("There is no incident {label}."), "driftline incidents list")
                })?;
                let known = incident.affected.iter().filter(|n| self.devices.contains_key(*n));
                Ok((known.cloned().collect(), Some(incident.id)))
            }
        }
    }

    fn plan_json(&self, request: &RolloutRequest, plan: &Plan) -> Value {
        let stages: Vec<Value> = plan
            .stages
            .iter()
            .enumerate()
            .map(|(i, names)| json!({ "n": i + 1, "percent": self.percent(plan, i), "devices": names.len() }))
            .collect();
        json!({
            "plan_hash": plan.hash(),
            "sentence": crate::explain::plan_sentence(crate::explain::Lang::En, request, plan),
            "devices": plan.devices(),
            "device_ids": plan.stages.concat(),
            "stages": stages,
            "command": command_line(request),
        })
    }

    /// The share of all devices that have it after a stage.
    pub(crate) fn percent(&self, plan: &Plan, stage: usize) -> usize {
        let upto: usize = plan.stages[..=stage].iter().map(Vec::len).sum();
        upto * 100 / plan.devices().max(1)
    }

    fn create(&mut self, now: Now, request: &RolloutRequest) -> Result<Value, Refused> {
        let (plan, incident) = self.plan(request)?;
        let hash = plan.hash();
        if request.plan_hash.as_deref() != Some(hash.as_str()) {
            let message = "The fleet has changed since this plan was made; nothing was started.";
            return Err(Refused::new("conflict", message, "look at the new plan and confirm it"));
        }
        let from: BTreeMap<Name, ReleaseId> =
            plan.stages.iter().flatten().filter_map(|n| Some((n.clone(), self.devices.get(n)?.release?))).collect();
        let id = self.rollouts.keys().next_back().map_or(1, |last| last + 1);
        self.rollouts.insert(id, Rollout::new(id, plan, incident, &from, now.wall));
        self.event(now, "rollout.created", id.to_string());
        self.rollout_changed(id);
        self.changed.extend(incident.map(Topic::Incident));
        Ok(json!({ "id": id.to_string() }))
    }

    fn rollout(&mut self, id: u64) -> Result<&mut Rollout, Refused> {
        let missing = || Refused::new("not_found", format!("There is no rollout {id}."), "driftline rollouts list");
        self.rollouts.get_mut(&id).ok_or_else(missing)
    }

    fn change(
        &mut self,
        now: Now,
        id: u64,
        kind: &'static str,
        change: impl FnOnce(&mut Rollout, Now) -> bool,
    ) -> Result<Value, Refused> {
        let rollout = self.rollout(id)?;
        if !change(rollout, now) {
            let message = format!("Rollout {id} is not in a state that allows this.");
            return Err(Refused::new("conflict", message, format!("driftline rollouts show {id}")));
        }
        let state = rollout.state.clone();
        self.event(now, kind, id.to_string());
        self.rollout_changed(id);
        Ok(json!({ "state": state }))
    }

    fn abort(&mut self, now: Now, id: u64) -> Result<Value, Refused> {
        let Some(sends) = self.rollout(id)?.abort(now.wall) else {
            let message = format!("Rollout {id} is over; there is nothing to abort.");
            return Err(Refused::new("conflict", message, format!("driftline rollouts show {id}")));
        };
        self.send_all(id, &sends);
        self.event(now, "rollout.aborted", id.to_string());
        self.rollout_changed(id);
        Ok(json!({ "state": self.rollout(id)?.state }))
    }
}

/// The command that does the same.
fn command_line(request: &RolloutRequest) -> String {
    let filter = match &request.query {
        Query::All(_) => "--all".to_owned(),
        Query::Incident(label) => format!("--incident {label}"),
        Query::Labels(labels) => labels.iter().map(|(k, v)| format!("--label {k}={v}")).collect::<Vec<_>>().join(" "),
    };
    let stages = request.stages.as_ref().map_or(String::new(), |s| {
        format!(" --stages {}", s.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    });
    format!("driftline rollouts create --model {}@{} {filter}{stages}", request.model, request.release)
}
