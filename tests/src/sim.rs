//! The fleet simulator: agents, network, collector and store of one seed, without clock, threads or sockets.
//!
//! The state machines and the store are the real ones; simulated are time, pumps and the network, which cuts links, repeats and
//! delays messages, and the collector's end, which dies between a message and its commit and comes back from the store. After
//! every step the ledger must hold; at the end, with the network healed, every sample must have been counted exactly once.
//! With disks, power goes at any moment, disks fill, and clocks start in 1970 ([`power`]). Leaves out: inference (a formula answers), several
//! brokers, lost disks.

mod node;
mod power;

use node::{Node, node};

use crate::pump_bundle::answer;
use driftline_agent::agent::{self, Input, Publish, Sample};
use driftline_agent::bundle::Bundle;
use driftline_agent::inference::Outputs;
use driftline_agent::observe::{Profile, top};
use driftline_agent::pumps::{CLASSES, Random};
use driftline_agent::slot::{Action, StageFrom};
use driftline_collector::collector::{
    Collector, Command, LabelsRequest, Output, Query, RolloutRequest, Settings, Topic,
};
use driftline_collector::explain::Lang;
use driftline_collector::io::store::Store;
use driftline_collector::view;
use driftline_shared::units::{MonoMs, Name, Now, WallMs};
use driftline_shared::wire::FRAME_BYTES_MAX;
use driftline_shared::wire::messages::Block;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;
use std::sync::Arc;

/// One step of time.
const STEP_MS: u64 = 100;
/// Wall time of the first step.
const EPOCH_MS: u64 = 1_795_000_000_000;

/// How bad the world is, as chances per step and device unless said otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// A link breaks; what is on its way is gone.
    pub cut: f64,
    /// A broken link comes back.
    pub heal: f64,
    /// A message arrives twice; per message.
    pub repeat: f64,
    /// Longest delay of a message; messages overtake each other.
    pub delay_ms: u64,
    /// The collector dies before a commit; per step.
    pub crash: f64,
    /// The power of a device with a disk goes and comes.
    pub power: f64,
    /// A disk fills, or is emptied.
    pub full: f64,
    /// A device that boots does not know the time; per boot.
    pub no_clock: f64,
    /// Somebody, or NTP, sets a device's clock; per step.
    pub clock_set: f64,
    /// Bytes of windows that a device keeps.
    pub room: u64,
}

impl Trouble {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        cut: 0.0,
        heal: 1.0,
        repeat: 0.0,
        delay_ms: 0,
        crash: 0.0,
        power: 0.0,
        full: 0.0,
        no_clock: 0.0,
        clock_set: 0.0,
        room: 16 << 20,
    };
    /// A bad mobile network and a collector that is killed now and then.
    pub const BAD: Self = Self { cut: 0.004, heal: 0.04, repeat: 0.05, delay_ms: 900, crash: 0.002, ..Self::NONE };
    /// The same where power goes too.
    pub const DARK: Self = Self { power: 0.004, full: 0.004, no_clock: 0.3, clock_set: 0.01, ..Self::BAD };
    /// Links that are down for long, on devices that keep little.
    pub const REMOTE: Self = Self { cut: 0.01, heal: 0.002, room: 6 << 10, ..Self::BAD };
}

/// A message on its way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    at: u64,
    number: u64,
    /// The device whose link carries it, and the connection it left on.
    device: usize,
    connection: u64,
    up: bool,
    topic: String,
    payload: Vec<u8>,
}

/// A simulated fleet.
pub struct Sim {
    /// What may go wrong from now on.
    pub trouble: Trouble,
    /// Samples come without labels; [`Sim::tell_truth`] tells them.
    pub late_truth: bool,
    random: Random,
    now_ms: u64,
    nodes: Vec<Node>,
    collector: Collector,
    store: Store,
    settings: Settings,
    host: Option<Publish>,
    letters: BinaryHeap<Reverse<Letter>>,
    numbers: u64,
    /// How often the collector died.
    pub crashes: u32,
    /// How often a device lost its power.
    pub power_cuts: u32,
    /// How often a clock was set.
    pub clock_steps: u32,
}

/// Releases of this name give no answers, as a model does that fails at run time.
pub const FAILS: &str = "fails";

fn fails(profile: &Profile) -> bool {
    profile.name.as_str() == FAILS
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

impl Sim {
    /// A fleet of `devices` pumps in two sites on the first bundle. `dir` takes the store, `seed` decides the world's trouble; the
    /// pumps are always the same.
    pub fn new(seed: u64, devices: usize, first: &Bundle, trouble: Trouble, dir: &Path) -> Self {
        let mut settings = Settings::new(name("sim"));
        settings.rollout.soak_ms = 5_000;
        let mut store = Store::open(dir).expect("a store");
        let epoch = store.next_epoch().expect("an epoch");
        let collector = Collector::new(settings.clone(), store.load(epoch).expect("an empty store"));
        let profile = Arc::new(Profile::of(first));
        let mut sim = Self {
            trouble,
            late_truth: false,
            random: Random::new(seed),
            now_ms: 0,
            nodes: Vec::new(),
            collector,
            store,
            settings,
            host: None,
            letters: BinaryHeap::new(),
            numbers: 0,
            crashes: 0,
            power_cuts: 0,
            clock_steps: 0,
        };
        for i in 0..devices {
            sim.nodes.push(node(i, devices, trouble.room, &profile, sim.now()));
        }
        sim.command(Command::AddRelease(first.pack()));
        sim
    }

    fn now(&self) -> Now {
        Now { mono: MonoMs(self.now_ms), wall: WallMs(EPOCH_MS + self.now_ms) }
    }

    fn chance(&mut self, p: f64) -> bool {
        self.random.unit() < p
    }

    /// Runs for some time; `fault` says whether the sensors of the first half of the devices read high.
    pub fn run(&mut self, seconds: u64, fault: bool) {
        for _ in 0..seconds * 1000 / STEP_MS {
            self.now_ms += STEP_MS;
            self.power();
            self.links();
            let half = self.nodes.len() / 2;
            for i in 0..self.nodes.len() {
                self.sample(i, fault && i < half);
                self.drive(i);
            }
            self.deliver();
            self.collect();
            self.check();
        }
    }

    /// Heals the network, closes every window and runs until everything is delivered.
    pub fn finish(&mut self) {
        self.trouble = Trouble::NONE;
        self.empty_disks();
        for i in 0..self.nodes.len() {
            let now = self.device_now(i);
            self.nodes[i].agent.handle(now, Input::Flush);
        }
        for _ in 0..600 {
            self.now_ms += STEP_MS;
            self.links();
            for i in 0..self.nodes.len() {
                let now = self.device_now(i);
                self.nodes[i].agent.handle(now, Input::Tick);
                self.drive(i);
            }
            self.deliver();
            self.collect();
            self.check();
        }
        let waiting: u64 = self.nodes.iter().map(|n| n.agent.ledger().windows_waiting).sum();
        assert_eq!(waiting, 0, "windows are still waiting a minute after the network healed");
    }

    /// Adds a release.
    pub fn add(&mut self, bundle: &Bundle) {
        self.command(Command::AddRelease(bundle.pack()));
    }

    /// Plans and starts a rollout of the pump model to some devices.
    pub fn roll_out(&mut self, release: &str, query: Query) {
        let request = RolloutRequest {
            model: name("pump"),
            release: name(release),
            query,
            stages: None,
            failure_limit_percent: None,
            soak_ms: None,
            timeout_ms: None,
            plan_hash: None,
        };
        let plan = self.command(Command::Plan(Box::new(request.clone())));
        let plan_hash = plan["plan_hash"].as_str().map(str::to_owned);
        self.command(Command::Create(Box::new(RolloutRequest { plan_hash, ..request })));
    }

    /// Takes a rollout back.
    pub fn abort(&mut self, id: u64) {
        self.command(Command::Abort(id));
    }

    /// A view as people get it.
    pub fn view(&self, topic: &Topic) -> Value {
        view::render(&self.collector, self.now(), topic, Lang::En)
    }

    /// Samples that the agents put in windows, and samples that the collector has merged.
    pub fn samples(&self) -> (u64, u64) {
        let past = |n: &Node| n.disk.as_ref().map_or(0, |disk| disk.past);
        let agents = self.nodes.iter().map(|n| n.agent.ledger().samples_in_windows + past(n)).sum();
        let models = self.view(&Topic::Models);
        // Every sample of the simulator has a label, sooner or later.
        let merged = models["items"].as_array().into_iter().flatten().filter_map(|m| m["labelled"].as_u64()).sum();
        (agents, merged)
    }

    /// Windows that became part of wider ones, and that were given up, since each device last started.
    pub fn pressed(&self) -> (u64, u64) {
        let ledgers = || self.nodes.iter().map(|n| n.agent.ledger());
        (ledgers().map(|l| l.windows_merged).sum(), ledgers().map(|l| l.windows_evicted).sum())
    }

    /// Tells the collector what every sample so far truly was, also those that it was told of before.
    pub fn tell_truth(&mut self) {
        for i in 0..self.nodes.len() {
            let label = |(n, (truth, _)): (usize, &(usize, usize))| ((n + 1).to_string(), CLASSES[*truth].to_owned());
            let labels: Vec<_> = self.nodes[i].truths.iter().enumerate().map(label).collect();
            let device = self.nodes[i].name.clone();
            self.command(Command::AddLabels(Box::new(LabelsRequest { device, labels })));
        }
    }

    /// Samples that the model got right.
    pub fn right(&self) -> usize {
        self.nodes.iter().flat_map(|n| &n.truths).filter(|(truth, seen)| truth == seen).count()
    }

    /// What the collector refused since it last started, by reason.
    pub fn refused(&self) -> Value {
        view::health(&self.collector)["refused"].clone()
    }

    /// Release names by device.
    pub fn releases(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.agent.active().map_or("-".into(), |p| p.name.to_string())).collect()
    }

    fn command(&mut self, command: Command) -> Value {
        let now = self.now();
        let answer = self.collector.command(now, command).unwrap_or_else(|why| panic!("{}", why.message));
        let writes = self.collector.take_writes();
        self.store.commit(&writes).expect("a disk");
        self.collector.committed(now);
        self.send();
        answer
    }

    fn links(&mut self) {
        for i in 0..self.nodes.len() {
            let now = self.device_now(i);
            if self.nodes[i].link.is_some() {
                if self.chance(self.trouble.cut) {
                    let connection = self.nodes[i].link.take().expect("a link");
                    self.nodes[i].agent.handle(now, Input::LinkDown);
                    // The broker notices, and publishes the will.
                    let death = agent::death(&self.settings.fleet, &self.nodes[i].name, connection);
                    self.post(i, u64::MAX, true, death.topic, death.payload.to_vec());
                }
            } else if self.chance(self.trouble.heal) {
                let node = &mut self.nodes[i];
                node.connections += 1;
                node.link = Some(node.connections);
                node.agent.handle(now, Input::LinkUp { connection: node.connections });
                if let Some(host) = self.host.clone() {
                    self.post(i, self.nodes[i].connections, false, host.topic, host.payload.to_vec());
                }
            }
        }
    }

    fn sample(&mut self, i: usize, fault: bool) {
        let now = self.device_now(i);
        let node = &mut self.nodes[i];
        let reading = node.pump.next(fault);
        let outputs = answer(&reading.values);
        let by = |profile: &Arc<Profile>| if fails(profile) { Outputs::Failed } else { Outputs::Values(&outputs) };
        let trial = node.staged.as_ref().filter(|_| node.trying).map(by);
        let answered = node.agent.active().map_or(Outputs::Failed, by);
        let label = (!self.late_truth).then_some(reading.class as u16);
        node.truths.push((reading.class, top(&outputs).map_or(0, |(class, _)| class)));
        let sample = Sample {
            event_time: now.wall,
            inputs: &reading.values,
            whole: &[],
            outputs: answered,
            trial,
            label,
            id: None,
        };
        node.agent.handle(now, Input::Sample(sample));
    }

    /// Does what an agent asks for, and takes its messages while its link is up.
    fn drive(&mut self, i: usize) {
        let now = self.device_now(i);
        while let Some(action) = self.nodes[i].agent.poll_output() {
            let node = &mut self.nodes[i];
            match action {
                Action::Persist { number, file } => {
                    node.file = file;
                    node.agent.handle(now, Input::Persisted { number, result: Ok(()) });
                }
                Action::Stage { digest, from } => {
                    let result = match from {
                        StageFrom::Fetched(manifest, files) => Bundle::from_files(manifest, files)
                            .map(|b| Arc::new(Profile::of(&b)))
                            .map_err(|e| e.to_string()),
                        StageFrom::Stored => node.stored.get(&digest).cloned().ok_or_else(|| "not stored".to_owned()),
                    };
                    if let Ok(profile) = &result {
                        node.stored.insert(digest, profile.clone());
                        node.staged = Some(profile.clone());
                    }
                    node.agent.handle(now, Input::Staged { digest, result });
                }
                Action::Try => node.trying = true,
                Action::Switch | Action::Discard => (node.staged, node.trying) = (None, false),
                Action::Back | Action::Settle { .. } => {}
            }
        }
        let (node, now_ms) = (&mut self.nodes[i], self.now_ms);
        if let Some(disk) = &mut node.disk {
            disk.drive(&mut node.agent, now_ms);
        }
        while let Some(connection) = self.nodes[i].link {
            let Some(publish) = self.nodes[i].agent.poll_publish() else { break };
            self.post(i, connection, true, publish.topic, publish.payload.to_vec());
        }
    }

    fn post(&mut self, device: usize, connection: u64, up: bool, topic: String, payload: Vec<u8>) {
        let copies = 1 + u32::from(self.chance(self.trouble.repeat));
        for _ in 0..copies {
            let delay = (self.random.unit() * self.trouble.delay_ms as f64) as u64;
            self.numbers += 1;
            let (topic, payload) = (topic.clone(), payload.clone());
            let at = self.now_ms + delay;
            self.letters.push(Reverse(Letter { at, number: self.numbers, device, connection, up, topic, payload }));
        }
    }

    fn deliver(&mut self) {
        let now = self.now();
        while self.letters.peek().is_some_and(|Reverse(l)| l.at <= self.now_ms) {
            let Some(Reverse(letter)) = self.letters.pop() else { break };
            let device_now = self.device_now(letter.device);
            let node = &mut self.nodes[letter.device];
            // A will has no link; everything else is gone with the link it left on.
            if letter.connection != u64::MAX && node.link != Some(letter.connection) {
                continue;
            }
            if letter.up {
                self.collector.handle(now, &letter.topic, Some(node.name.as_str()), &letter.payload);
            } else {
                node.agent.handle(device_now, Input::Message { topic: &letter.topic, payload: &letter.payload });
            }
        }
    }

    /// The collector's turn: time, then the commit, or death before it.
    fn collect(&mut self) {
        let now = self.now();
        self.collector.tick(now);
        let writes = self.collector.take_writes();
        if self.chance(self.trouble.crash) {
            self.crashes += 1;
            let epoch = self.store.next_epoch().expect("an epoch");
            self.collector = Collector::new(self.settings.clone(), self.store.load(epoch).expect("what was stored"));
            // Its broker dies with it: every link breaks.
            for i in 0..self.nodes.len() {
                let now = self.device_now(i);
                if self.nodes[i].link.take().is_some() {
                    self.nodes[i].agent.handle(now, Input::LinkDown);
                }
            }
            return;
        }
        self.store.commit(&writes).expect("a disk");
        self.collector.committed(now);
        self.send();
    }

    fn send(&mut self) {
        while let Some(output) = self.collector.poll_output() {
            let (topic, payload) = match output {
                Output::Publish { topic, payload, .. } => (topic, payload),
                Output::Block { topic, file, offset, bytes } => {
                    let Some(block) = self.store.block(file, offset, bytes as usize) else { continue };
                    let mut frame = vec![0; FRAME_BYTES_MAX];
                    let len = Block { file, offset, bytes: &block }.write(&mut frame).expect("a block fits");
                    frame.truncate(len);
                    (topic, frame)
                }
                Output::Event(_) => continue,
            };
            let to = self
                .nodes
                .iter()
                .position(|n| topic.contains(&format!("/{}/", n.name)) || topic.ends_with(n.name.as_str()));
            let everybody: Vec<usize> = to.map_or_else(|| (0..self.nodes.len()).collect(), |i| vec![i]);
            if to.is_none() {
                let payload = payload.clone().into();
                self.host = Some(Publish { topic: topic.clone(), payload, at_least_once: true, retain: true });
            }
            for i in everybody {
                if let Some(connection) = self.nodes[i].link {
                    self.post(i, connection, false, topic.clone(), payload.clone());
                }
            }
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        for node in &self.nodes {
            let l = node.agent.ledger();
            assert_eq!(
                l.samples_taken,
                l.samples_in_windows + l.samples_refused,
                "{} at {} ms",
                node.name,
                self.now_ms
            );
            let settled = l.windows_acknowledged + l.windows_merged + l.windows_evicted + l.windows_waiting;
            assert_eq!(l.windows_closed, settled, "{} at {} ms", node.name, self.now_ms);
        }
        let c = self.collector.counters();
        let settled = c.frames_accepted + c.frames_duplicate + c.frames_refused;
        assert_eq!(c.frames_received, settled, "at {} ms", self.now_ms);
        let (taken, merged) = self.samples();
        assert!(merged <= taken, "{merged} samples merged of {taken} taken at {} ms", self.now_ms);
    }
}
