//! Raw samples of a device, asked for by a person with a reason, and what came of it.
//!
//! The device decides by its own policy what it gives out. Every request and every answer is stored and said on the live channel: who
//! looks at the events later sees what left which device and why. A request is told again until it is answered or a day has passed.

use super::{Collector, Refused, Topic};
use crate::record::Write;
use driftline_shared::baseline::Role;
use driftline_shared::list::Text;
use driftline_shared::manifest::{Sampled, Task};
use driftline_shared::units::{MonoMs, Name, Now, ReleaseId, WallMs};
use driftline_shared::wire::messages::{
    self, EVIDENCE_OUTPUTS_MAX, EVIDENCE_SAMPLES_MAX, EvidenceRequest, ToDevice, WHOLE_VALUES_MAX,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Requests kept; the oldest that is answered gives way.
pub const REQUESTS_MAX: usize = 256;
/// A request without an answer is told again after so long.
const RETRY_MS: u64 = 30_000;
/// And given up after so long.
const PATIENCE_MS: u64 = 86_400_000;
/// Numbers of images and signals that are kept of all answers together; the oldest answer's give way.
const WHOLE_KEPT_MAX: usize = 1 << 23;
/// Longest reason.
const REASON_BYTES_MAX: usize = 400;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceWanted {
    /// Whose samples.
    pub device: Name,
    /// How many at most, the newest.
    pub samples: u16,
    /// Why; it is kept with the request.
    pub reason: String,
    /// Sensed then or later, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<u64>,
    /// And then or earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<u64>,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The device has not answered, or not with everything.
    Waiting,
    /// The samples are here.
    Complete,
    /// The device gives out none.
    Refused,
    /// It did not answer within a day.
    Expired,
}

/// A sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Hash of its id.
    pub id: String,
    /// When it was sensed, by the device's clock.
    pub at_ms: u64,
    /// Inputs; null where a reading was missing.
    pub inputs: Vec<Option<f32>>,
    /// What the model made of them.
    pub outputs: Vec<Option<f32>>,
    /// The image or stretch of a signal as the model took it, whose figures the inputs are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole: Vec<Option<f32>>,
}

/// A request with what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its number.
    pub id: u64,
    /// What was asked for.
    pub wanted: EvidenceWanted,
    /// When.
    pub asked_ms: u64,
    /// How far it is.
    pub state: State,
    /// What the device says where it gives out none.
    pub said: String,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// What a sample is, where it is more than a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Box<Sampled>>,
    /// The samples, oldest first.
    pub rows: Vec<Row>,
}

/// All requests.
#[derive(Debug, Default)]
pub struct Requests {
    by_id: BTreeMap<u64, Request>,
    last: u64,
    /// What has come of requests that are not complete, and when they were told.
    coming: BTreeMap<u64, Coming>,
}

#[derive(Debug, Default)]
struct Coming {
    told: Option<MonoMs>,
    /// Rows by part, of so many, with the release that they are of.
    parts: BTreeMap<u16, Vec<messages::EvidenceRow>>,
    of: u16,
    release: Option<ReleaseId>,
    /// Numbers by sample and where in it they belong.
    whole: BTreeMap<(u16, u32), Vec<f32>>,
}

impl Coming {
    /// The samples, once all of them are here.
    fn rows(&self, most: usize) -> Option<Vec<Row>> {
        let rows = || self.parts.values().flatten().take(most);
        let wanted: usize = rows().map(|row| row.whole as usize).sum();
        if self.of == 0 || self.parts.len() < usize::from(self.of) || self.held() < wanted {
            return None;
        }
        let whole = |sample: u16, wanted: u32| {
            let mut values = Vec::with_capacity((wanted as usize).min(WHOLE_VALUES_MAX));
            for ((_, offset), part) in self.whole.range((sample, 0)..=(sample, u32::MAX)) {
                if *offset as usize != values.len() {
                    return None;
                }
                values.extend_from_slice(part);
            }
            (values.len() == wanted as usize).then_some(values)
        };
        rows().zip(0u16..).map(|(read, sample)| Some(row(read, &whole(sample, read.whole)?))).collect()
    }

    /// Numbers of samples that are here.
    fn held(&self) -> usize {
        self.whole.values().map(Vec::len).sum()
    }
}

impl Requests {
    /// As they were stored, oldest first.
    pub fn restore(stored: Vec<Request>) -> Self {
        let waiting = stored.iter().filter(|r| r.state == State::Waiting);
        let coming = waiting.map(|r| (r.id, Coming::default())).collect();
        let last = stored.last().map_or(0, |r| r.id);
        Self { by_id: stored.into_iter().map(|r| (r.id, r)).collect(), last, coming }
    }

    /// Newest first.
    pub fn all(&self) -> impl Iterator<Item = &Request> {
        self.by_id.values().rev()
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<&Request> {
        self.by_id.get(&id)
    }
}

impl Collector {
    pub(super) fn ask_for_evidence(&mut self, now: Now, wanted: EvidenceWanted) -> Result<Value, Refused> {
        let device = &wanted.device;
        if !self.devices.contains_key(device) {
            let message = format!("There is no device {device}.");
            return Err(Refused::new("not_found", message, "driftline devices list"));
        }
        let bad = |message: String| Err(Refused::new("bad_request", message, "docs/api.md shows the fields"));
        let most = EVIDENCE_SAMPLES_MAX;
        if wanted.samples == 0 || usize::from(wanted.samples) > most {
            return bad(format!("A request asks for 1 to {most} samples."));
        }
        let reason = wanted.reason.trim();
        if reason.is_empty() || reason.len() > REASON_BYTES_MAX || reason.contains(char::is_control) {
            return bad(format!("A request needs a reason of at most {REASON_BYTES_MAX} bytes: it is kept."));
        }
        if self.evidence.by_id.values().any(|r| r.state == State::Waiting && r.wanted.device == *device) {
            let message = format!("{device} has not answered the last request yet.");
            return Err(Refused::new("conflict", message, "driftline evidence list"));
        }
        while self.evidence.by_id.len() >= REQUESTS_MAX {
            let Some(oldest) = self.evidence.by_id.values().find(|r| r.state != State::Waiting).map(|r| r.id) else {
                let message = format!("{REQUESTS_MAX} requests wait for their devices already.");
                return Err(Refused::new("conflict", message, "driftline evidence list"));
            };
            self.evidence.by_id.remove(&oldest);
            self.writes.push(Write::EvidenceGone(oldest));
        }
        // Numbers of an earlier life of this program must not come again: the device would answer as it did then.
        let id = (self.evidence.last + 1).max(now.wall.0);
        self.evidence.last = id;
        let request = Request {
            id,
            wanted,
            asked_ms: now.wall.0,
            state: State::Waiting,
            said: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            sampled: None,
            rows: Vec::new(),
        };
        self.evidence.by_id.insert(id, request);
        self.evidence.coming.insert(id, Coming::default());
        self.evidence_changed(now, id, "evidence.asked");
        self.tell_evidence(now);
        Ok(json!({ "id": id, "state": State::Waiting }))
    }

    /// Tells devices what is wanted of them, again where it was long ago.
    pub(super) fn tell_evidence(&mut self, now: Now) {
        let mut told = Vec::new();
        let mut expired = Vec::new();
        for (id, coming) in &mut self.evidence.coming {
            let Some(request) = self.evidence.by_id.get(id) else { continue };
            if now.wall.0 > request.asked_ms.saturating_add(PATIENCE_MS) {
                expired.push(*id);
                continue;
            }
            let due = coming.told.is_none_or(|at| now.mono >= at.after(RETRY_MS));
            if due && self.devices.get(&request.wanted.device).is_some_and(|d| d.connected) {
                coming.told = Some(now.mono);
                let from = WallMs(request.wanted.from_ms.unwrap_or(0));
                let to = WallMs(request.wanted.to_ms.unwrap_or(u64::MAX));
                let message = EvidenceRequest { request: *id, samples: request.wanted.samples, from, to };
                told.push((request.wanted.device.clone(), ToDevice::Evidence(message)));
            }
        }
        told.into_iter().for_each(|(device, message)| self.tell(&device, &message, 1));
        for id in expired {
            self.end_evidence(now, id, State::Expired, "evidence.expired");
        }
    }

    /// The device may have lost what it was told.
    pub(super) fn ask_again(&mut self, device: &Name) {
        let Requests { by_id, coming, .. } = &mut self.evidence;
        for (id, coming) in coming {
            if by_id.get(id).is_some_and(|r| r.wanted.device == *device) {
                coming.told = None;
            }
        }
    }

    /// Part of an answer. What nobody asked this device for is not taken.
    pub(super) fn evidence_came(&mut self, now: Now, device: &Name, part: &messages::Evidence) {
        let id = part.request;
        let Some(request) = self.evidence.by_id.get_mut(&id).filter(|r| r.wanted.device == *device) else { return };
        let Some(coming) = self.evidence.coming.get_mut(&id) else { return };
        if part.refused != Text::default() {
            request.said = part.refused.to_string();
            return self.end_evidence(now, id, State::Refused, "evidence.refused");
        }
        let parts = usize::from(part.parts);
        let most = usize::from(request.wanted.samples).div_ceil(messages::EVIDENCE_ROWS_MAX);
        if part.part >= part.parts || parts > most {
            return;
        }
        let rows: Vec<messages::EvidenceRow> = part.rows.iter().cloned().collect();
        // A device that was restarted meanwhile gives out other samples. Only what names them is compared: a missing reading is not
        // equal to itself.
        let others = |known: &Vec<messages::EvidenceRow>| {
            known.len() != rows.len() || known.iter().zip(&rows).any(|(a, b)| (a.id, a.at) != (b.id, b.at))
        };
        if ![0, part.parts].contains(&coming.of) || coming.parts.get(&part.part).is_some_and(others) {
            (coming.parts, coming.whole) = Default::default();
        }
        (coming.of, coming.release) = (part.parts, part.release);
        coming.parts.insert(part.part, rows);
        self.complete_evidence(now, id);
    }

    /// Part of a sample as the model took it.
    pub(super) fn whole_came(&mut self, now: Now, device: &Name, part: &messages::Whole<'_>) {
        let id = part.request;
        let Some(request) = self.evidence.by_id.get(&id).filter(|r| r.wanted.device == *device) else { return };
        let Some(coming) = self.evidence.coming.get_mut(&id) else { return };
        let values: Vec<f32> = part.values().collect();
        let fits = part.sample < request.wanted.samples && coming.held() + values.len() <= WHOLE_VALUES_MAX;
        if values.is_empty() || !fits || coming.whole.contains_key(&(part.sample, part.offset)) {
            return;
        }
        coming.whole.insert((part.sample, part.offset), values);
        self.complete_evidence(now, id);
    }

    /// Keeps an answer that is complete.
    fn complete_evidence(&mut self, now: Now, id: u64) {
        let Some(coming) = self.evidence.coming.get_mut(&id) else { return };
        let Some(request) = self.evidence.by_id.get_mut(&id) else { return };
        let Some(rows) = coming.rows(usize::from(request.wanted.samples)) else { return };
        request.rows = rows;
        let release = coming.release;
        let (inputs, outputs) = self.names_of(release);
        let sampled = release.and_then(|id| self.releases.get(&id)?.schema.sampled.clone()).map(Box::new);
        if let Some(request) = self.evidence.by_id.get_mut(&id) {
            (request.inputs, request.outputs, request.sampled) = (inputs, outputs, sampled);
        }
        self.end_evidence(now, id, State::Complete, "evidence.came");
        self.make_room();
    }

    /// The numbers of the oldest answers give way to those of new ones; their figures stay.
    fn make_room(&mut self) {
        let size = |request: &Request| request.rows.iter().map(|row| row.whole.len()).sum::<usize>();
        let mut kept: usize = self.evidence.by_id.values().map(size).sum();
        for request in self.evidence.by_id.values_mut() {
            if kept <= WHOLE_KEPT_MAX {
                break;
            }
            let of_request = size(request);
            if of_request > 0 {
                kept -= of_request;
                request.rows.iter_mut().for_each(|row| row.whole = Vec::new());
                self.writes.push(Write::Evidence(Box::new(request.clone())));
            }
        }
    }

    fn names_of(&self, release: Option<ReleaseId>) -> (Vec<String>, Vec<String>) {
        let Some(release) = release.and_then(|id| self.releases.get(&id)) else { return Default::default() };
        let inputs = release.baseline.features.iter().filter(|f| matches!(f.role, Role::Input(_)));
        let outputs = match &release.schema.task {
            Task::Classification(classes) => {
                classes.iter().take(EVIDENCE_OUTPUTS_MAX).map(ToString::to_string).collect()
            }
            Task::Regression(n) => (0..*n).take(EVIDENCE_OUTPUTS_MAX).map(|i| format!("output{i}")).collect(),
        };
        (inputs.map(|f| f.name.to_string()).collect(), outputs)
    }

    fn end_evidence(&mut self, now: Now, id: u64, state: State, kind: &'static str) {
        self.evidence.coming.remove(&id);
        if let Some(request) = self.evidence.by_id.get_mut(&id) {
            request.state = state;
            self.evidence_changed(now, id, kind);
        }
    }

    fn evidence_changed(&mut self, now: Now, id: u64, kind: &'static str) {
        if let Some(request) = self.evidence.by_id.get(&id) {
            self.writes.push(Write::Evidence(Box::new(request.clone())));
            self.event(now, kind, id.to_string());
            self.changed.extend([Topic::EvidenceList, Topic::Evidence(id)]);
        }
    }
}

fn row(row: &messages::EvidenceRow, whole: &[f32]) -> Row {
    let known = |values: &[f32]| values.iter().map(|v| v.is_finite().then_some(*v)).collect();
    let (inputs, outputs, whole) = (known(&row.inputs), known(&row.outputs), known(whole));
    Row { id: format!("{:016x}", row.id), at_ms: row.at.0, inputs, outputs, whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::{Settings, Stored};
    use driftline_shared::list::List;
    use driftline_shared::wire::messages::{Evidence, EvidenceRow, Whole};
    use driftline_shared::wire::{FRAME_BYTES_MAX, Frame};

    const NOW: Now = Now { mono: MonoMs(1), wall: WallMs(1_795_000_000_000) };

    fn device() -> Name {
        Name::new("d").expect("a name")
    }

    /// A collector that has asked a device for three samples; the request's number.
    fn asked() -> (Collector, u64) {
        let mut collector = Collector::new(Settings::new(Name::new("f").expect("a name")), Stored::default());
        collector.devices.insert(device(), crate::device::Device::new(NOW.wall));
        let wanted = EvidenceWanted { device: device(), samples: 40, reason: "why".into(), from_ms: None, to_ms: None };
        let answer = collector.ask_for_evidence(NOW, wanted).expect("asked");
        (collector, answer["id"].as_u64().expect("a number"))
    }

    /// Part of an answer of two parts, with samples of these ids, the first of which has two numbers.
    fn part(request: u64, part: u16, ids: &[u64]) -> Evidence {
        let row = |(at, &id): (usize, &u64)| EvidenceRow {
            id,
            at: WallMs(id),
            inputs: [f32::NAN, 1.0].into_iter().collect(),
            outputs: List::default(),
            whole: if at == 0 && part == 0 { 2 } else { 0 },
        };
        let rows = ids.iter().enumerate().map(row).collect();
        Evidence { request, release: None, part, parts: 2, refused: Text::default(), rows }
    }

    fn whole(collector: &mut Collector, request: u64, offset: u32, values: &[f32]) {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let len = Whole::write(request, 0, offset, values, &mut buffer).expect("fits");
        let frame = Frame::parse(&buffer[..len]).expect("a frame");
        collector.whole_came(NOW, &device(), &Whole::read(frame.payload).expect("a part"));
    }

    fn state(collector: &Collector, request: u64) -> State {
        collector.evidence.get(request).expect("the request").state
    }

    #[test]
    fn parts_may_come_twice_and_in_any_order() {
        let (mut collector, id) = asked();
        whole(&mut collector, id, 1, &[0.5]);
        collector.evidence_came(NOW, &device(), &part(id, 1, &[3]));
        collector.evidence_came(NOW, &device(), &part(id, 0, &[1, 2]));
        collector.evidence_came(NOW, &device(), &part(id, 0, &[1, 2]));
        assert_eq!(state(&collector, id), State::Waiting, "a number is missing");
        whole(&mut collector, id, 0, &[0.25]);
        assert_eq!(state(&collector, id), State::Complete);
        let rows = &collector.evidence.get(id).expect("the request").rows;
        assert_eq!(rows.iter().map(|row| row.at_ms).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((&rows[0].whole[..], &rows[0].inputs[..]), (&[Some(0.25), Some(0.5)][..], &[None, Some(1.0)][..]));
    }

    #[test]
    fn a_restarted_device_begins_its_answer_anew() {
        let (mut collector, id) = asked();
        collector.evidence_came(NOW, &device(), &part(id, 0, &[1, 2]));
        whole(&mut collector, id, 0, &[0.25, 0.5]);
        collector.evidence_came(NOW, &device(), &part(id, 0, &[7, 8]));
        collector.evidence_came(NOW, &device(), &part(id, 1, &[9]));
        assert_eq!(state(&collector, id), State::Waiting, "the numbers were of another sample");
        whole(&mut collector, id, 0, &[0.75, 1.0]);
        assert_eq!(collector.evidence.get(id).expect("the request").rows[0].whole, [Some(0.75), Some(1.0)]);
    }
}
