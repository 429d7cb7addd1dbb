//! What people see: the collector's state as the views of docs/api.md. Reads, words and pictures; decides nothing.
//!
//! Each view is a pure function of the state, the time and the language, so that the live channel can send it again at any moment.

mod cause;
mod chart;
mod figures;
mod incident;
mod lists;
mod overview;
mod performance;
mod rollout;

use crate::collector::{Collector, Topic};
use crate::detect::panel::Seen;
use crate::detect::plan::Assumed;
use crate::explain::{self, Lang, number};
use crate::incident::Incident;
use crate::record::Event;
use crate::release::Release;
use crate::rollout::machine::{Progress, Rollout};
use driftline_shared::drift::detector::CALM_WINDOWS;
use driftline_shared::units::{Name, Now, ReleaseId, WallMs};
use serde_json::{Value, json};

/// A device that was silent for so many of its windows is called silent.
const SILENT_WINDOWS: u64 = 3;
/// Shorter silences are never called so.
const SILENT_MS_MIN: u64 = 30_000;

/// A view as JSON; null when there is no such thing.
pub fn render(core: &Collector, now: Now, topic: &Topic, lang: Lang) -> Value {
    let view = View { core, now: now.wall, lang };
    match topic {
        Topic::Overview => view.overview(),
        Topic::Incidents => view.incidents(),
        Topic::Incident(id) => core.book.get(*id).map_or(Value::Null, |i| view.incident(i)),
        Topic::Rollouts => view.rollouts(),
        Topic::Rollout(id) => core.rollouts.get(id).map_or(Value::Null, |r| view.rollout(r)),
        Topic::Models => view.models(),
        Topic::Devices => view.devices(),
        Topic::EvidenceList => view.evidence_list(),
        Topic::Evidence(id) => core.evidence.get(*id).map_or(Value::Null, |r| json!(r)),
        Topic::Performance(model) => view.performance(model),
        Topic::Plan(model, assumed) => view.plan(model, *assumed),
    }
}

/// An event in one sentence.
pub fn event_text(core: &Collector, lang: Lang, event: &Event) -> String {
    let view = View { core, now: event.at, lang };
    let incident = || event.id.strip_prefix("INC-").and_then(|n| core.book.get(n.parse().ok()?));
    let titled = |id: &str| incident().map(|i| view.say(id, &[("title", &view.title(i))]));
    let rollout = || core.rollouts.get(&event.id.parse().ok()?);
    let text = match event.kind {
        "incident.opened" => titled("incident-opened"),
        "incident.updated" => titled("event-incident-updated"),
        "incident.resolved" => titled("incident-resolved"),
        "model.added" => Some(view.say("event-model-added", &[("id", &event.id)])),
        "evidence.asked" | "evidence.came" | "evidence.refused" | "evidence.expired" => {
            let request = event.id.parse().ok().and_then(|id| core.evidence.get(id));
            request.map(|r| {
                let (samples, rows) = (r.wanted.samples.to_string(), r.rows.len().to_string());
                let arguments = [
                    ("device", r.wanted.device.as_str()),
                    ("samples", &samples),
                    ("rows", &rows),
                    ("reason", &r.wanted.reason),
                    ("said", &r.said),
                ];
                view.say(&format!("event-{}", event.kind.replace('.', "-")), &arguments)
            })
        }
        "device.failed" => Some(view.say("event-device-failed", &[("device", &event.id)])),
        "rollout.created" => rollout()
            .map(|r| view.say("event-rollout-created", &[("id", &event.id), ("title", &view.rollout_title(r))])),
        _ => rollout()
            .map(|r| view.say("event-rollout-stage", &[("id", &event.id), ("sentence", &view.rollout_sentence(r))])),
    };
    text.unwrap_or_else(|| event.kind.to_owned())
}

/// The collector's own numbers.
pub fn health(core: &Collector) -> Value {
    let c = &core.counters;
    let refused: serde_json::Map<String, Value> =
        c.refused.iter().map(|(why, n)| (why.as_str().to_owned(), json!(n))).collect();
    json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "devices": core.devices.len(),
        "windows": c.windows,
        "frames_received": c.frames_received,
        "frames_accepted": c.frames_accepted,
        "frames_duplicate": c.frames_duplicate,
        "frames_refused": c.frames_refused,
        "frames_lost": c.frames_lost,
        "frames_corrupt": c.frames_corrupt,
        "frames_merged": c.frames_merged,
        "refused": refused,
        "labels": {
            "waiting": core.labels.waiting(), "counted": c.truth.counted, "repeated": c.truth.repeated,
            "unknown": c.truth.unknown, "refused": c.truth.refused,
        },
    })
}

/// A topic as clients write it.
pub fn topic_name(topic: &Topic) -> String {
    match topic {
        Topic::Overview => "overview".into(),
        Topic::Incidents => "incidents".into(),
        Topic::Incident(id) => format!("incident:INC-{id}"),
        Topic::Rollouts => "rollouts".into(),
        Topic::Rollout(id) => format!("rollout:{id}"),
        Topic::Models => "models".into(),
        Topic::Devices => "devices".into(),
        Topic::EvidenceList => "evidence".into(),
        Topic::Evidence(id) => format!("evidence:{id}"),
        Topic::Performance(model) => format!("performance:{model}"),
        Topic::Plan(model, _) => format!("plan:{model}"),
    }
}

/// The topic of a name, if it names one.
pub fn parse_topic(name: &str) -> Option<Topic> {
    Some(match name {
        "overview" => Topic::Overview,
        "incidents" => Topic::Incidents,
        "rollouts" => Topic::Rollouts,
        "evidence" => Topic::EvidenceList,
        "models" => Topic::Models,
        "devices" => Topic::Devices,
        _ => match name.split_once(':')? {
            ("incident", id) => Topic::Incident(id.strip_prefix("INC-")?.parse().ok()?),
            ("rollout", id) => Topic::Rollout(id.parse().ok()?),
            ("evidence", id) => Topic::Evidence(id.parse().ok()?),
            ("plan", model) => Topic::Plan(Name::new(model).ok()?, Assumed::default()),
            ("performance", model) => Topic::Performance(Name::new(model).ok()?),
            _ => return None,
        },
    })
}

/// What every view is made from.
#[derive(Clone, Copy)]
struct View<'a> {
    core: &'a Collector,
    now: WallMs,
    lang: Lang,
}

/// What a device is doing, in the order in which one state hides the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeviceState {
    Offline,
    Updating,
    Drifting,
    Learning,
    Normal,
}

impl DeviceState {
    fn code(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Updating => "updating",
            Self::Drifting => "drifting",
            Self::Learning => "learning",
            Self::Normal => "normal",
        }
    }
}

impl<'a> View<'a> {
    fn say(&self, id: &str, arguments: &[(&str, &str)]) -> String {
        explain::say(self.lang, id, arguments)
    }

    /// A message that depends on a number alone.
    fn say_n(&self, id: &str, n: usize) -> String {
        self.say(id, &[("n", &n.to_string())])
    }

    fn list(&self, names: &[String]) -> String {
        explain::list(self.lang, names)
    }

    fn when(&self, at: WallMs) -> String {
        number::when(self.lang, at, self.now)
    }

    fn duration(&self, ms: u64) -> String {
        number::duration(self.lang, ms)
    }

    fn release(&self, id: ReleaseId) -> Option<&'a Release> {
        self.core.releases.get(&id).map(|r| &**r)
    }

    /// The short name of a release, such as `v2`.
    fn release_name(&self, id: Option<ReleaseId>) -> String {
        id.map_or("–".into(), |id| self.release(id).map_or_else(|| id.to_string(), |r| r.name.to_string()))
    }

    fn device_state(&self, name: &Name) -> DeviceState {
        let Some(device) = self.core.devices.get(name) else { return DeviceState::Offline };
        if !device.connected {
            return DeviceState::Offline;
        }
        let under_way = |r: &Rollout| {
            r.is_live()
                && r.targets
                    .get(name)
                    .is_some_and(|t| matches!(t.progress, Progress::Sent { .. } | Progress::Returning))
        };
        if self.core.rollouts.values().any(under_way) {
            return DeviceState::Updating;
        }
        if self.core.alarmed.values().any(|alarmed| alarmed.contains(name)) {
            return DeviceState::Drifting;
        }
        let known = self.seen(name).is_some_and(|seen| seen.is_enough() && seen.slots >= CALM_WINDOWS);
        if known { DeviceState::Normal } else { DeviceState::Learning }
    }

    /// How much was seen of a device on the release it runs.
    fn seen(&self, name: &Name) -> Option<Seen> {
        let release = self.core.devices.get(name)?.release?;
        Some(self.core.panels.get(&release)?.seen(name))
    }

    /// "not enough data yet (12 of 60)".
    fn too_few(&self, samples: u64, needed: u64) -> Option<String> {
        let arguments = [("n", &number::count(samples)), ("needed", &number::count(needed))];
        (samples < needed).then(|| self.say("too-few", &arguments.map(|(name, text)| (name, text.as_str()))))
    }

    /// Devices that are connected and have said nothing for a while.
    fn silent(&self) -> usize {
        let silent = |d: &&crate::device::Device| {
            let window_ms = d.release.and_then(|id| self.release(id)).map_or(0, |r| u64::from(r.schema.window_ms));
            self.now.0.saturating_sub(d.seen.0) > (SILENT_WINDOWS * window_ms).max(SILENT_MS_MIN)
        };
        self.core.devices.values().filter(|d| d.connected).filter(silent).count()
    }

    /// A live rollout that answers an incident.
    fn answer(&self, incident: &Incident) -> Option<&'a Rollout> {
        self.core.rollouts.values().find(|r| r.is_live() && r.incident == Some(incident.id))
    }
}
