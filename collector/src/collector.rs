//! The collector's state machine: messages and commands in, things to store, to send and to show out.
//!
//! `handle` and `command` change memory and note what must be stored ([`Collector::take_writes`]); what they want sent becomes visible
//! in [`Collector::poll_output`], which the driver reads only after those writes are committed. Time comes in as an argument.

use crate::clocks::Clocks;
use crate::detect::budget::Budget;
use crate::detect::panel::Panel;
use crate::device::{DEVICES_MAX, Device, Devices};
use crate::history::History;
use crate::incident::Book;
use crate::ingest::{self, Content, Refusal};
use crate::ledger::{Admission, Entry, Key, Ledger};
use crate::record::{Event, Stored, Write};
use crate::release::Release;
use crate::rollout::machine::Rollout;
use driftline_shared::list::List;
use driftline_shared::manifest::Digest;
use driftline_shared::units::{MonoMs, Name, Now, ReleaseId, Stream, WallMs};
use driftline_shared::window::Window;
use driftline_shared::wire::messages::{self, Birth, Death, Request, ToDevice};
use driftline_shared::wire::topic::{DeviceTopic, Leaf};
use driftline_shared::wire::{self, Frame, Kind, Malformed};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

mod command;
mod counters;
pub mod evidence;
mod follow;
mod host;
mod labels;

pub(crate) use follow::RELEASE_LABEL;

pub use command::{Command, Query, Refused, RolloutRequest};
pub use counters::Counters;
pub use evidence::EvidenceWanted;
pub use labels::{LABELS_PER_REQUEST_MAX, LabelsRequest, Queues};

/// Releases of one collector.
pub const RELEASES_MAX: usize = 1_000;
/// Outputs waiting for the driver; blocks beyond are not sent and asked for again.
const OUTPUTS_MAX: usize = 100_000;
/// How often timers are looked at while anything lives.
const TICK_MS: u64 = 250;
/// Bytes kept of a frame that does not decode.
const DEAD_LETTER_BYTES_MAX: usize = 4096;

/// What a collector is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Fleet in topics.
    pub fleet: Name,
    /// The label that makes cohorts.
    pub cohort_label: String,
    /// Tolerated false alarms.
    pub budget: Budget,
    /// How long after its end a slot stays open for stragglers; `None`: one and a half windows, at least two seconds.
    pub grace_ms: Option<u64>,
    /// Rollout defaults.
    pub rollout: crate::rollout::plan::Policy,
}

impl Settings {
    /// Settings for a fleet, everything else at its default.
    pub fn new(fleet: Name) -> Self {
        Self {
            fleet,
            cohort_label: "site".into(),
            budget: Budget::default(),
            grace_ms: None,
            rollout: crate::rollout::plan::Policy::default(),
        }
    }
}

/// Something for the driver to do, after what came before it was stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Publish.
    Publish {
        /// Topic.
        topic: String,
        /// Frame.
        payload: Vec<u8>,
        /// 0 or 1.
        qos: u8,
        /// Kept by the broker for later subscribers.
        retain: bool,
    },
    /// Read part of a file and publish it as a block to a device.
    Block {
        /// The device's command topic.
        topic: String,
        /// The file.
        file: Digest,
        /// From which byte.
        offset: u64,
        /// How many at most.
        bytes: u32,
    },
    /// Tell live clients.
    Event(Event),
}

/// A view that may have changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The first screen.
    Overview,
    /// The list of incidents.
    Incidents,
    /// One incident.
    Incident(u64),
    /// The list of rollouts.
    Rollouts,
    /// One rollout.
    Rollout(u64),
    /// The list of models.
    Models,
    /// The list of devices.
    Devices,
    /// The list of requests for raw samples.
    EvidenceList,
    /// One of them.
    Evidence(u64),
    /// How often the releases of a model are right.
    Performance(Name),
    /// What will be seen of a model's readings, and how soon, on a fleet that may differ from this one.
    Plan(Name, crate::detect::plan::Assumed),
}

/// The collector.
pub struct Collector {
    pub(crate) settings: Settings,
    pub(crate) epoch: u64,
    pub(crate) devices: Devices,
    pub(crate) releases: BTreeMap<ReleaseId, Arc<Release>>,
    pub(crate) clocks: Clocks,
    ledger: Ledger,
    pub(crate) panels: BTreeMap<ReleaseId, Panel>,
    pub(crate) history: History,
    pub(crate) book: Book,
    pub(crate) rollouts: BTreeMap<u64, Rollout>,
    /// Devices in standing evidence, by model: what the views call drifting.
    pub(crate) alarmed: BTreeMap<Name, BTreeSet<Name>>,
    pub(crate) counters: Counters,
    pub(crate) labels: Queues,
    pub(crate) evidence: evidence::Requests,
    pace: host::Pace,
    writes: Vec<Write>,
    outputs: VecDeque<Output>,
    acks: BTreeSet<Key>,
    changed: BTreeSet<Topic>,
    events: u64,
    ticked: MonoMs,
}

impl Collector {
    /// A collector rebuilt from what was stored (nothing, at the first start). Announces itself.
    pub fn new(settings: Settings, stored: Stored) -> Self {
        let mut collector = Self {
            settings,
            epoch: stored.epoch,
            devices: stored.devices.into_iter().collect(),
            releases: BTreeMap::new(),
            clocks: Clocks::default(),
            ledger: Ledger::restore(stored.ledger),
            panels: BTreeMap::new(),
            history: History::default(),
            book: Book::restore(stored.incidents),
            rollouts: stored.rollouts.into_iter().map(|r| (r.id, r)).collect(),
            alarmed: BTreeMap::new(),
            counters: Counters::default(),
            labels: Queues::restore(stored.labels),
            evidence: evidence::Requests::restore(stored.evidence),
            pace: host::Pace::default(),
            writes: Vec::new(),
            outputs: VecDeque::new(),
            acks: BTreeSet::new(),
            changed: BTreeSet::new(),
            events: 0,
            ticked: MonoMs(0),
        };
        for device in collector.devices.values_mut() {
            // Births are retained or come again; until then nobody is known to be there.
            device.connected = false;
        }
        for release in stored.releases {
            collector.register(Arc::new(release));
        }
        for (release, body) in stored.detectors {
            // What cannot be understood begins anew, from the windows that are there.
            let _ = collector.panels.get_mut(&release).is_some_and(|panel| panel.restore(&body));
        }
        for (group, slot, window) in stored.fleet_windows {
            collector.history.restore(group, slot, &window);
        }
        collector.restore_truths(stored.truths);
        for (device, slot, window) in stored.windows.into_iter().filter(|(_, _, window)| !window.is_labels_only()) {
            let length = collector.releases.get(&window.release).map_or(0, |r| r.schema.window_ms);
            if let Some(panel) = collector.panels.get_mut(&window.release).filter(|_| window.span_ms <= length) {
                panel.add(slot, &device, &window);
            }
        }
        collector.announce();
        collector
    }

    /// A message from a device. When it returns, the message is dealt with for good: stored by the next commit, or refused.
    pub fn handle(&mut self, now: Now, topic: &str, client: Option<&str>, payload: &[u8]) {
        let topic = match ingest::sender(&self.settings.fleet, topic, client) {
            Ok(topic) => topic,
            Err(refusal) => return self.refuse(refusal),
        };
        if !self.devices.contains_key(&topic.device) {
            if self.devices.len() >= DEVICES_MAX {
                return self.refuse(Refusal::TooManyDevices);
            }
            if topic.leaf == Leaf::Death {
                return;
            }
            self.devices.insert(topic.device.clone(), Device::new(now.wall));
        }
        self.changed.extend([Topic::Overview, Topic::Devices]);
        if topic.leaf == Leaf::Windows {
            return self.numbered(now, &topic.device, payload);
        }
        let outcome = match Frame::parse(payload) {
            Ok(frame) => self.message(now, &topic, &frame),
            Err(why) => Err(why),
        };
        if let Err(why) = outcome {
            self.refuse(refusal_of(why));
        }
    }

    /// Lets time pass: closes slots, reconciles incidents, drives rollouts.
    pub fn tick(&mut self, now: Now) {
        self.ticked = now.mono;
        self.close_slots(now);
        self.send_labels(now);
        self.tell_evidence(now);
        self.drive_rollouts(now);
    }

    /// When [`Collector::tick`] is due.
    pub fn poll_at(&self) -> MonoMs {
        self.ticked.after(TICK_MS)
    }

    /// What must be committed before any output may leave.
    pub fn take_writes(&mut self) -> Vec<Write> {
        for ((release, group, slot), merged) in self.history.take_changed() {
            if let Some(release) = self.releases.get(&release) {
                let span = release.schema.window_ms;
                let window = merged.to_window(release.id, WallMs(slot * u64::from(span)), span);
                self.writes.push(Write::FleetWindow { group, slot, window });
            }
        }
        self.write_truths();
        for key in &self.acks {
            let entry = self.ledger.get(key);
            self.writes.push(Write::Ledger { device: key.0.clone(), stream: key.1, entry });
        }
        std::mem::take(&mut self.writes)
    }

    /// Tells that everything taken was committed: acknowledgements may go out.
    pub fn committed(&mut self, now: Now) {
        for key in std::mem::take(&mut self.acks) {
            let through = self.ledger.get(&key).through;
            let ack = ToDevice::Ack { stream: key.1, through, wall: now.wall };
            self.tell(&key.0, &ack, 0);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The views that may have changed since this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<Topic> {
        std::mem::take(&mut self.changed)
    }

    /// The collector's own numbers.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes over who is connected from a collector that this one replaces: births do not come again.
    pub fn keep_connections(&mut self, old: &Self) {
        for (name, device) in &mut self.devices {
            device.connected = old.devices.get(name).is_some_and(|d| d.connected);
        }
    }

    fn register(&mut self, release: Arc<Release>) {
        let panel = Panel::new(Arc::clone(&release), self.settings.budget);
        self.panels.insert(release.id, panel);
        self.releases.insert(release.id, release);
    }

    fn refuse(&mut self, refusal: Refusal) {
        *self.counters.refused.entry(refusal).or_default() += 1;
    }

    /// A frame with a number: windows or a gap.
    fn numbered(&mut self, now: Now, device: &Name, payload: &[u8]) {
        self.counters.frames_received += 1;
        let decoded = match ingest::decode(payload) {
            Ok(decoded) => decoded,
            Err(bad) => {
                self.counters.frames_refused += 1;
                self.refuse(refusal_of(bad.why));
                // Settle its number, or it would be sent for ever.
                if let Some((stream, seq)) = bad.number
                    && self.entry(device, stream).admit_back(seq, bad.back, bad.crc).settles()
                {
                    self.acks.insert((device.clone(), stream));
                }
                let body = payload[..payload.len().min(DEAD_LETTER_BYTES_MAX)].to_vec();
                let (device, number, reason) = (device.clone(), bad.number, bad.why.to_string());
                self.writes.push(Write::DeadLetter { device, number, reason, body });
                return;
            }
        };
        let stream = decoded.stream;
        let entry = self.entry(device, stream);
        let admission = match &decoded.content {
            Content::Windows(_) => entry.admit_back(decoded.seq, decoded.back, decoded.crc),
            Content::Gap(gap) => match entry.declare_lost(gap) {
                Some(0) => Admission::Duplicate,
                Some(lost) => {
                    self.counters.gap(gap.reason, lost);
                    Admission::Accepted
                }
                None => Admission::TooFarAhead,
            },
        };
        match admission {
            Admission::Accepted => self.counters.frames_accepted += 1,
            Admission::Duplicate => self.counters.frames_duplicate += 1,
            Admission::Overlap(lost) => {
                self.counters.frames_duplicate += 1;
                self.counters.gap(messages::GapReason::Corrupt, lost);
            }
            Admission::Cloned | Admission::TooFarAhead => {
                self.counters.frames_refused += 1;
                let far = admission == Admission::TooFarAhead;
                return self.refuse(if far { Refusal::TooFarAhead } else { Refusal::Cloned });
            }
        }
        self.acks.insert((device.clone(), stream));
        if let Some(known) = self.devices.get_mut(device) {
            known.seen = now.wall;
        }
        if let (Admission::Accepted, Content::Windows(windows)) = (admission, decoded.content) {
            self.counters.frames_merged += u64::from(decoded.back);
            windows.into_iter().for_each(|window| self.window(now, device, stream, window));
        }
    }

    fn entry(&mut self, device: &Name, stream: Stream) -> &mut Entry {
        let (entry, gone) = self.ledger.entry(device, stream);
        if let Some(stream) = gone {
            self.acks.remove(&(device.clone(), stream));
            self.writes.push(Write::Forget { device: device.clone(), stream });
        }
        entry
    }

    /// Merges one window of an accepted frame.
    fn window(&mut self, now: Now, device: &Name, stream: Stream, mut window: Box<Window>) {
        let Some(release) = self.releases.get(&window.release).cloned() else {
            return self.refuse(Refusal::UnknownRelease);
        };
        self.clocks.date(now.wall, device, stream, &mut window, release.schema.window_ms);
        if let Err(refusal) = ingest::fits(&window, &release, now.wall) {
            return self.refuse(refusal);
        }
        self.counters.window(&window);
        self.counters.last_window = Some(now.wall);
        let slot = window.start.0 / u64::from(release.schema.window_ms);
        self.changed.extend([Topic::Models, Topic::Performance(release.model.clone())]);
        if window.is_labels_only() {
            return self.take_truths(device, slot, window, &release.model);
        }
        if let Some(known) = self.devices.get_mut(device) {
            // What it counts under is what it runs, whatever was said before.
            if known.release != Some(release.id) && known.desired.is_none_or(|d| d == release.id) {
                known.release = Some(release.id);
            }
            let cohort = known.cohort(&self.settings.cohort_label).to_owned();
            self.history.add(slot, &cohort, &window);
        }
        // One that spans several slots belongs to none of them: it is history, and no verdict is made of it.
        let wide = window.span_ms > release.schema.window_ms;
        let taken = wide || self.panels.get_mut(&release.id).is_some_and(|panel| panel.add(slot, device, &window));
        if !taken {
            self.refuse(Refusal::TooLate);
        }
        self.writes.push(Write::Window { device: device.clone(), slot, window });
    }

    /// A message without a number.
    fn message(&mut self, now: Now, topic: &DeviceTopic, frame: &Frame<'_>) -> Result<(), Malformed> {
        let name = &topic.device;
        match topic.leaf {
            Leaf::Birth => {
                let birth: Birth = frame.read(Kind::Birth)?;
                self.born(now, name, &birth);
            }
            Leaf::Death => {
                let death: Death = frame.read(Kind::Death)?;
                if let Some(device) = self.devices.get_mut(name)
                    && device.connection == death.connection
                {
                    device.connected = false;
                }
            }
            Leaf::Events => {
                let event: messages::Event = frame.read(Kind::Event)?;
                self.reported(now, name, &event);
            }
            Leaf::Requests => match frame.read(Kind::Request)? {
                Request::Block { file, offset, bytes } => {
                    let topic = command_topic(&self.settings.fleet, name);
                    self.output(Output::Block { topic, file, offset, bytes });
                }
                Request::Desired => self.send_desired(name),
                Request::Clock { stream, wall } if self.devices.contains_key(name) => {
                    self.clocks.told(now.wall, name, stream, wall);
                }
                Request::Clock { .. } => {}
            },
            Leaf::Evidence if frame.kind == Kind::Whole => {
                let part = messages::Whole::read(frame.payload).ok_or(wire::Malformed::Payload)?;
                self.whole_came(now, name, &part);
            }
            Leaf::Evidence => {
                let part: Box<messages::Evidence> = Box::new(frame.read(Kind::Evidence)?);
                self.evidence_came(now, name, &part);
            }
            Leaf::Windows | Leaf::Commands | Leaf::Labels => {}
        }
        Ok(())
    }

    /// Tells a device what it should run.
    fn send_desired(&mut self, name: &Name) {
        let Some(device) = self.devices.get(name) else { return };
        let Some(release) = device.desired.and_then(|id| self.releases.get(&id)) else { return };
        let manifest: List<u8, { driftline_shared::manifest::MANIFEST_BYTES_MAX }> =
            release.manifest.iter().copied().collect();
        let desired = ToDevice::Desired { generation: device.generation, manifest };
        self.tell(name, &desired, 1);
    }

    fn tell(&mut self, device: &Name, message: &ToDevice, qos: u8) {
        let topic = command_topic(&self.settings.fleet, device);
        self.publish(topic, Kind::ToDevice, message, qos, false);
    }

    fn publish(&mut self, topic: String, kind: Kind, message: &impl wire::Payload, qos: u8, retain: bool) {
        let mut buffer = vec![0; wire::FRAME_BYTES_MAX];
        let len =
            wire::write(kind, message, &mut buffer).expect("the collector's own messages are bounded below a frame");
        buffer.truncate(len);
        self.output(Output::Publish { topic, payload: buffer, qos, retain });
    }

    fn output(&mut self, output: Output) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        }
    }

    fn event(&mut self, now: Now, kind: &'static str, id: String) {
        self.events += 1;
        self.writes.push(Write::Event { at: now.wall, kind, id: id.clone() });
        let event = Event { seq: self.events, at: now.wall, kind, id };
        self.output(Output::Event(event));
    }
}

fn command_topic(fleet: &Name, device: &Name) -> String {
    DeviceTopic { fleet: fleet.clone(), device: device.clone(), leaf: Leaf::Commands }.to_string()
}

fn refusal_of(why: Malformed) -> Refusal {
    if matches!(why, Malformed::Version(_)) { Refusal::Version } else { Refusal::Malformed }
}
