//! The whole agent as one state machine: samples and messages in, messages and actions out, no clock, disk or network.
//!
//! The driver in `io::driver` owns the models, infers, and calls `handle`; then it does what `poll_output` says, and publishes what
//! `poll_publish` gives while the link has room, so that nothing is queued beyond that. The simulator drives the same
//! machine from a priority queue. The ledger holds after every call: taken = in windows + refused, and
//! closed = acknowledged + merged + evicted + waiting.

mod port;

use crate::evidence::{Part, Ring};
use crate::labels::{Id, Memory};
use crate::observe::{Profile, top};
use crate::slot::{Action, SlotFile, Slots};
use crate::spool::journal::{Entry, Recovered};
use crate::spool::{Acknowledged, Spool};
use crate::uplink::{Say, Uplink};
use crate::watch::Watch;
use crate::windows::{Observation, Taken, Windows};
use bytes::Bytes;
use driftline_shared::list::Text;
use driftline_shared::units::{MonoMs, Name, Now, Stream, WallMs, hash, hash_of_number};
use driftline_shared::window::Window;
use driftline_shared::wire::messages::{Birth, Block, Death, Host, Labels, Ledger, Request, ToDevice, Whole};
use driftline_shared::wire::topic::{DeviceTopic, HostTopic, Leaf};
use driftline_shared::wire::{self, FRAME_BYTES_MAX, Frame, Kind};
use std::collections::VecDeque;
use std::sync::Arc;

pub use port::{Input, MessagesRefused, Publish, Sample, Settings};

/// The state machine.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    commands_topic: String,
    labels_topic: String,
    host_topic: String,
    now: Now,
    connection: u64,
    slots: Slots,
    windows: Option<Windows>,
    spool: Spool,
    uplink: Uplink,
    memory: Memory,
    evidence: Ring,
    /// The device's own detectors, where the release has a guard.
    watch: Option<Watch>,
    /// When waiting windows are to be put on the disk.
    commit_at: Option<MonoMs>,
    /// How far the clock is behind the collector's; `None` until that has spoken.
    clock_behind_ms: Option<i64>,
    samples_numbered: u64,
    samples_taken: u64,
    samples_in_windows: u64,
    samples_refused: u64,
    messages_refused: MessagesRefused,
    outputs: VecDeque<Action>,
    scratch: Box<[u8]>,
}

impl Agent {
    /// An agent with what was loaded at the start; `file` says how its slots stand.
    pub fn new(now: Now, settings: Settings, file: SlotFile, active: Option<Arc<Profile>>) -> Self {
        let topic = |leaf| device_topic(&settings, leaf);
        let commands_topic = topic(Leaf::Commands);
        let labels_topic = topic(Leaf::Labels);
        let memory = Memory::new(settings.labels_samples_max);
        let evidence = Ring::new(settings.evidence, file.given);
        let host_topic = HostTopic(&settings.fleet).to_string();
        let spool = Spool::new(settings.stream, settings.room).with_drain(settings.drain);
        let watch = active.as_ref().and_then(|p| p.watch.clone());
        let windows = active.clone().map(|p| Windows::new(p, settings.window_samples_max, WallMs(0)));
        let slots = Slots::new(file, active, settings.proof);
        Self {
            settings,
            commands_topic,
            labels_topic,
            host_topic,
            now,
            connection: 0,
            slots,
            windows,
            spool,
            uplink: Uplink::default(),
            memory,
            evidence,
            watch,
            commit_at: None,
            clock_behind_ms: None,
            samples_numbered: 0,
            samples_taken: 0,
            samples_in_windows: 0,
            samples_refused: 0,
            messages_refused: MessagesRefused::default(),
            outputs: VecDeque::new(),
            scratch: vec![0; FRAME_BYTES_MAX].into(),
        }
    }

    /// From now on windows are also handed out for the disk, by [`Agent::poll_entry`]; `recovered` is what was found there.
    pub fn durable(&mut self, recovered: Vec<Recovered>) {
        let active = self.slots.active().map(|profile| (profile.release, profile.window_ms));
        self.spool.durable(recovered, active);
    }

    /// The disk knows that frames of a stream leave, for which [`Entry::Sends`] had asked, or has refused to.
    pub fn may_leave(&mut self, stream: Stream) {
        self.spool.may_leave(stream);
    }

    /// What is remembered of samples whose truth may come after a restart; empty when there is nothing.
    pub fn remembered(&self) -> Vec<u8> {
        self.memory.save()
    }

    /// The same, at the next start; how many samples. Of another release, or damaged, it is of no use.
    pub fn remember(&mut self, bytes: &[u8]) -> Option<usize> {
        self.memory.restore(self.slots.active()?, bytes)
    }

    /// The next thing to put on the disk.
    pub fn poll_entry(&mut self) -> Option<Entry> {
        self.spool.next_entry()
    }

    /// Topics to subscribe to on every connection.
    pub fn subscriptions(&self) -> [&str; 3] {
        [&self.commands_topic, &self.labels_topic, &self.host_topic]
    }

    /// Takes one input. Allocates nothing for a sample that closes no window.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.now = now;
        match input {
            Input::Sample(sample) => self.sample(&sample),
            Input::Malformed(rows) => self.malformed(rows),
            Input::LinkUp { connection } => {
                self.connection = connection;
                self.uplink.up(now.mono, &mut self.spool);
                self.slots.link_up();
            }
            Input::LinkDown => self.uplink.down(),
            Input::Message { topic, payload } => self.message(topic, payload),
            Input::Staged { digest, result } => self.slots.staged(digest, result),
            Input::Persisted { number, result } => {
                self.evidence.written(number, result.is_ok());
                self.slots.persisted(number, result);
            }
            Input::Flush => {
                self.finish_window();
                self.spool.commit(self.uplink.sends());
            }
            Input::Tick => {}
        }
        self.advance();
    }

    /// The next thing the driver has to do with models or files.
    pub fn poll_output(&mut self) -> Option<Action> {
        self.outputs.pop_front()
    }

    /// The next message to publish; to be called only while the link takes messages.
    pub fn poll_publish(&mut self) -> Option<Publish> {
        if !self.uplink.is_up() {
            return None;
        }
        // A block request before frames: a release should not wait behind a backlog.
        if let Some(request) = self.slots.next_request(self.now.mono) {
            return Some(self.publish(Leaf::Requests, |buffer| wire::write(Kind::Request, &request, buffer)));
        }
        let Some(say) = self.uplink.next(self.now.mono, &mut self.spool) else {
            // What people look at later comes last.
            let part = self.evidence.next_part()?;
            return Some(publish(&self.settings, &mut self.scratch, Leaf::Evidence, |buffer| match part {
                Part::Rows(rows) => wire::write(Kind::Evidence, rows, buffer),
                Part::Whole { request, sample, offset, values } => {
                    Whole::write(request, sample, offset, values, buffer)
                }
            }));
        };
        Some(match say {
            Say::Birth => {
                let birth = Box::new(self.birth());
                self.publish(Leaf::Birth, |buffer| wire::write(Kind::Birth, &*birth, buffer))
            }
            Say::Event(event) => self.publish(Leaf::Events, |buffer| wire::write(Kind::Event, &event, buffer)),
            Say::Request(request) => {
                self.publish(Leaf::Requests, |buffer| wire::write(Kind::Request, &request, buffer))
            }
            Say::Clock => {
                let clock = Request::Clock { stream: self.spool.stream(), wall: self.now.wall };
                self.publish(Leaf::Requests, |buffer| wire::write(Kind::Request, &clock, buffer))
            }
            Say::Frame(payload) => {
                let topic = device_topic(&self.settings, Leaf::Windows);
                Publish { topic, payload, at_least_once: true, retain: false }
            }
        })
    }

    /// When `handle` is to be called with [`Input::Tick`] at the latest.
    pub fn poll_at(&self) -> Option<MonoMs> {
        let close = self.windows.as_ref().and_then(Windows::close_at);
        let close = close.map(|at| self.now.mono.after(at.0.saturating_sub(self.now.wall.0)));
        let slot = self.slots.poll_at(self.now.mono).filter(|_| self.uplink.is_up());
        let evidence = (self.evidence.is_due() && self.uplink.is_up()).then_some(self.now.mono);
        [close, slot, self.uplink.poll_at(&self.spool), self.commit_at, evidence].into_iter().flatten().min()
    }

    /// The agent's own account.
    pub fn ledger(&self) -> Ledger {
        let counts = self.spool.counts();
        Ledger {
            samples_taken: self.samples_taken,
            samples_in_windows: self.samples_in_windows,
            samples_refused: self.samples_refused,
            windows_closed: counts.closed,
            windows_acknowledged: counts.acknowledged,
            windows_merged: counts.merged,
            windows_evicted: counts.evicted,
            windows_waiting: self.spool.windows_waiting(),
        }
    }

    /// Messages from outside that were no use.
    pub fn messages_refused(&self) -> MessagesRefused {
        self.messages_refused
    }

    /// The release that answers.
    pub fn active(&self) -> Option<&Arc<Profile>> {
        self.slots.active()
    }

    /// What the device's own detectors see changed, in a word.
    pub fn drifted(&self) -> Option<&str> {
        self.watch.as_ref().and_then(Watch::word)
    }

    /// Raw samples that are kept, and those that were given out.
    pub fn evidence(&self) -> [u64; 2] {
        self.evidence.counts()
    }

    /// The life of this agent's spool.
    pub fn stream(&self) -> Stream {
        self.spool.stream()
    }

    /// Windows on their way that were closed before the clock had been compared with the collector's.
    pub fn windows_undated(&self) -> u64 {
        self.spool.undated()
    }

    /// How many milliseconds the clock is behind the collector's; `None` until that has acknowledged something.
    pub fn clock_behind_ms(&self) -> Option<i64> {
        self.clock_behind_ms
    }

    /// Whether there is a link.
    pub fn is_up(&self) -> bool {
        self.uplink.is_up()
    }

    fn sample(&mut self, sample: &Sample<'_>) {
        self.samples_taken += 1;
        let observation = Observation {
            event_time: sample.event_time,
            inputs: sample.inputs,
            outputs: sample.outputs,
            label: sample.label,
        };
        self.samples_numbered += 1;
        let id = sample.id.map_or_else(|| Id::Numbered(hash_of_number(self.samples_numbered)), Id::Given);
        let mut closed = closed(&mut self.spool, &mut self.watch);
        let taken = self.windows.as_mut().map(|windows| windows.add(&observation, &mut closed));
        drop(closed);
        match (taken, &self.windows) {
            (Some(Taken::InWindow), Some(windows)) => {
                self.samples_in_windows += 1;
                self.evidence.remember(id.hash(), sample);
                if let Some((class, _)) = sample.outputs.values().and_then(top)
                    && !windows.profile().classes.is_empty()
                {
                    self.memory.remember(windows.profile(), id, sample.event_time, class, sample.label.is_some());
                }
            }
            _ => self.samples_refused += 1,
        }
        self.slots.sample(sample.outputs, sample.trial);
    }

    fn malformed(&mut self, rows: u32) {
        self.samples_taken += u64::from(rows);
        self.samples_refused += u64::from(rows);
        if let Some(windows) = &mut self.windows {
            windows.malformed(rows, self.now.wall, &mut closed(&mut self.spool, &mut self.watch));
        }
    }

    fn message(&mut self, topic: &str, payload: &[u8]) {
        let outcome = if topic == self.commands_topic {
            self.command(payload)
        } else if topic == self.labels_topic {
            self.labels(payload)
        } else if topic == self.host_topic {
            Frame::parse(payload).and_then(|frame| frame.read::<Host>(Kind::Host)).map(|host| {
                self.uplink.host(self.now.mono, host, &mut self.spool);
            })
        } else {
            self.messages_refused.topic += 1;
            return;
        };
        if outcome.is_err() {
            self.messages_refused.malformed += 1;
        }
    }

    /// Truth, in a frame from the collector or as JSON from a tool of the operator.
    fn labels(&mut self, payload: &[u8]) -> Result<(), wire::Malformed> {
        let spool = &mut self.spool;
        let answer = if payload.first() == Some(&b'{') {
            if payload.len() > FRAME_BYTES_MAX {
                return Err(wire::Malformed::TooLarge);
            }
            self.memory.tell_json(payload, &mut |w| spool.append(w)).ok_or(wire::Malformed::Payload)?
        } else {
            let labels: Box<Labels> = Box::new(Frame::parse(payload)?.read(Kind::Labels)?);
            match self.memory.answered(labels.batch) {
                Some(before) => before,
                None => {
                    let classes: Vec<&str> = labels.classes.iter().map(Text::as_str).collect();
                    self.memory.tell(labels.batch, &classes, labels.truths.to_vec(), &mut |w| spool.append(w))
                }
            }
        };
        self.uplink.answer(answer);
        Ok(())
    }

    fn command(&mut self, payload: &[u8]) -> Result<(), wire::Malformed> {
        let frame = Frame::parse(payload)?;
        if frame.kind == Kind::Block {
            let block = Block::read(frame.payload).ok_or(wire::Malformed::Payload)?;
            self.slots.block(&block);
            return Ok(());
        }
        match frame.read::<ToDevice>(Kind::ToDevice)? {
            ToDevice::Ack { stream, through, wall } => {
                self.clock_behind_ms = i64::try_from(i128::from(wall.0) - i128::from(self.now.wall.0)).ok();
                self.spool.dated();
                let outcome = self.uplink.acknowledge(self.now.mono, stream, through, &mut self.spool);
                let foreign = matches!(outcome, Acknowledged::Foreign | Acknowledged::NeverSent);
                self.messages_refused.acknowledgement += u64::from(foreign);
            }
            ToDevice::Desired { generation, manifest } => self.slots.desired(generation, &manifest),
            ToDevice::Evidence(request) => {
                let release = self.slots.active().map(|p| p.release);
                if let Some(given) = self.evidence.ask(self.now, release, &request) {
                    self.evidence.hold(self.slots.gave(given));
                }
            }
        }
        Ok(())
    }

    /// Lets time pass in every part, and carries what one part says to the others.
    fn advance(&mut self) {
        if let Some(windows) = &mut self.windows {
            windows.tick(self.now.wall, &mut closed(&mut self.spool, &mut self.watch));
        }
        self.commit();
        self.uplink.tick(self.now.mono, &mut self.spool);
        self.slots.tick();
        while let Some(action) = self.slots.next_action() {
            if matches!(action, Action::Switch | Action::Back) {
                // Here and not when the driver gets to it: the next sample already belongs to the other release.
                self.change_release();
            }
            self.outputs.push_back(action);
        }
        while let Some((event, lasting)) = self.slots.next_event() {
            self.uplink.event(event, lasting);
        }
        debug_assert_eq!(
            self.samples_taken,
            self.samples_in_windows + self.samples_refused,
            "samples are accounted for"
        );
    }

    /// Windows that came together go to the disk together.
    fn commit(&mut self) {
        if !self.spool.wants_commit() {
            self.commit_at = None;
            return;
        }
        let at = *self.commit_at.get_or_insert(self.now.mono.after(self.phase_ms()));
        if self.now.mono >= at {
            self.commit_at = None;
            self.spool.commit(self.uplink.sends());
        }
    }

    /// How long windows wait for others before they are numbered, written and sent: each device has its own share of the time that it may
    /// take, always the same, so that a fleet whose windows end together does not send together.
    fn phase_ms(&self) -> u64 {
        let most = u64::from(self.settings.spool_commit_ms);
        hash(self.settings.device.as_str().as_bytes()) % (most + 1)
    }

    fn change_release(&mut self) {
        self.finish_window();
        let floor = self.windows.as_ref().map_or(WallMs(0), Windows::floor);
        let samples_max = self.settings.window_samples_max;
        self.evidence.clear();
        self.watch = self.slots.active().and_then(|p| p.watch.clone());
        self.windows = self.slots.active().cloned().map(|p| Windows::new(p, samples_max, floor));
        self.uplink.renew_birth();
    }

    fn finish_window(&mut self) {
        if let Some(windows) = &mut self.windows {
            windows.finish(&mut closed(&mut self.spool, &mut self.watch));
        }
    }

    fn birth(&self) -> Birth {
        Birth {
            agent_version: Text::cut(env!("CARGO_PKG_VERSION")),
            stream: self.spool.stream(),
            connection: self.connection,
            release: self.slots.active().map(|p| p.release),
            generation: self.slots.generation(),
            labels: self.settings.labels.clone(),
            ledger: self.ledger(),
        }
    }

    fn publish(&mut self, leaf: Leaf, write: impl FnOnce(&mut [u8]) -> Result<usize, wire::TooLarge>) -> Publish {
        publish(&self.settings, &mut self.scratch, leaf, write)
    }
}

fn publish(
    settings: &Settings,
    scratch: &mut [u8],
    leaf: Leaf,
    write: impl FnOnce(&mut [u8]) -> Result<usize, wire::TooLarge>,
) -> Publish {
    let len = write(scratch).expect("every message has bounded parts that together fit a frame");
    Publish {
        topic: device_topic(settings, leaf),
        payload: Bytes::copy_from_slice(&scratch[..len]),
        // A lost request is asked again; a lost answer costs no more.
        at_least_once: leaf != Leaf::Requests,
        retain: matches!(leaf, Leaf::Birth | Leaf::Death),
    }
}

/// Where closed windows go: to the collector, and past the device's own detectors.
fn closed<'a>(spool: &'a mut Spool, watch: &'a mut Option<Watch>) -> impl FnMut(&Window) + 'a {
    |window| {
        spool.append(window);
        watch.iter_mut().for_each(|watch| watch.window(window));
    }
}

/// The last will for a connection, and the message of a graceful end.
pub fn death(fleet: &Name, device: &Name, connection: u64) -> Publish {
    let mut buffer = [0; 64];
    let len = wire::write(Kind::Death, &Death { connection }, &mut buffer).expect("a number and a header fit");
    let topic = DeviceTopic { fleet: fleet.clone(), device: device.clone(), leaf: Leaf::Death }.to_string();
    Publish { topic, payload: Bytes::copy_from_slice(&buffer[..len]), at_least_once: true, retain: true }
}

fn device_topic(settings: &Settings, leaf: Leaf) -> String {
    DeviceTopic { fleet: settings.fleet.clone(), device: settings.device.clone(), leaf }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Outputs;
    use crate::slot::Proof;
    use crate::testing;
    use driftline_shared::list::List;

    /// When a device sends the window of the first minute, in milliseconds.
    fn sends_at(device: &str) -> u64 {
        let name = |text| Name::new(text).expect("a name");
        let settings = Settings {
            fleet: name("f"),
            device: name(device),
            labels: List::default(),
            stream: Stream(1),
            window_samples_max: 1_000,
            room: Default::default(),
            spool_commit_ms: 10_000,
            drain: Default::default(),
            labels_samples_max: 0,
            evidence: Default::default(),
            proof: Proof { trial: 1, commit: 1 },
        };
        let profile = testing::profile("v1", 2, 2);
        let file = SlotFile { active: Some(profile.digest), committed: true, ..SlotFile::default() };
        let now = |ms| Now { mono: MonoMs(ms), wall: WallMs(ms) };
        let mut agent = Agent::new(now(0), settings, file, Some(profile));
        agent.durable(Vec::new());
        agent.handle(now(0), Input::LinkUp { connection: 1 });
        let (inputs, outputs) = ([0.5, 0.5], [0.5, 0.5]);
        let outputs = Outputs::Values(&outputs);
        let sample =
            Sample { event_time: WallMs(1), inputs: &inputs, whole: &[], outputs, trial: None, label: None, id: None };
        agent.handle(now(1), Input::Sample(sample));
        let sent = (0..80_000).step_by(50).find(|&ms| {
            agent.handle(now(ms), Input::Tick);
            while agent.poll_entry().is_some() {}
            let mut topics = std::iter::from_fn(|| agent.poll_publish()).map(|publish| publish.topic);
            topics.any(|topic| DeviceTopic::parse(&topic).is_some_and(|topic| topic.leaf == Leaf::Windows))
        });
        sent.expect("it is sent")
    }

    #[test]
    fn a_fleet_whose_windows_end_together_does_not_send_together() {
        let at: Vec<u64> = (0..20).map(|device| sends_at(&format!("d-{device:02}"))).collect();
        let first = *at.iter().min().expect("twenty");
        assert!(first >= 60_000 && at.iter().all(|&at| at <= first + 10_050), "{at:?}");
        let mut seconds: Vec<u64> = at.iter().map(|at| at / 1_000).collect();
        seconds.sort_unstable();
        seconds.dedup();
        assert!(seconds.len() >= 6, "spread over ten seconds: {at:?}");
        assert_eq!(sends_at("d-00"), at[0], "always the same");
    }
}
