//! Devices with disks: what they have written survives a power cut, and with luck a little more. Full disks, and clocks that nobody set.

use super::node::settings;
use super::{EPOCH_MS, Sim};
use driftline_agent::agent::{self, Agent, Input};
use driftline_agent::io::clock::followed;
use driftline_agent::slot::SlotFile;
use driftline_agent::spool::fault::FaultFs;
use driftline_agent::spool::journal::{Entry, Journal};
use driftline_collector::ingest::{self, Content};
use driftline_shared::units::{MonoMs, Now, Stream, WallMs};
use std::collections::BTreeMap;

/// Frames wait so long for others on their way to the disk.
const COMMIT_MS: u64 = 500;

/// A device's disk with what it promises.
pub(super) struct Disk {
    fs: FaultFs,
    journal: Journal<FaultFs>,
    commit_at: Option<u64>,
    full: bool,
    /// Samples of frames on their way to the disk, and of those that a power cut must not lose, by stream and numbers.
    written: Vec<((u64, u64, u64), u64)>,
    durable: BTreeMap<(u64, u64, u64), u64>,
    /// Samples in windows of earlier lives.
    pub(super) past: u64,
}

impl Disk {
    pub(super) fn new(stream: Stream) -> Self {
        let fs = FaultFs::default();
        let (journal, _) = Journal::open(fs.clone(), stream);
        Self { fs, journal, commit_at: None, full: false, written: vec![], durable: BTreeMap::new(), past: 0 }
    }

    /// Takes what the agent wants written, and writes when it is time.
    pub(super) fn drive(&mut self, agent: &mut Agent, now_ms: u64) {
        let mut asked = Vec::new();
        while let Some(entry) = agent.poll_entry() {
            if let Entry::Sends { stream, waits: true } = entry {
                asked.push(stream);
            }
            if let Entry::Keep(stream, record) = &entry {
                if record.windows == 0 {
                    // What gave way is counted as lost by the agent itself.
                    let (lo, hi) = (record.lo, record.hi);
                    self.durable.retain(|&(of, first, last), _| of != stream.0 || first < lo || last > hi);
                    self.written.retain(|&((of, first, last), _)| of != stream.0 || first < lo || last > hi);
                } else {
                    // A wider frame takes the place of those that it was made of.
                    self.written.push(((stream.0, record.lo, record.hi), labelled(&record.bytes)));
                }
            }
            self.journal.take(entry);
            self.commit_at.get_or_insert(now_ms + COMMIT_MS);
        }
        if !asked.is_empty() || self.commit_at.is_some_and(|at| now_ms >= at) {
            match self.journal.commit() {
                Ok(()) => {
                    for ((stream, lo, hi), samples) in self.written.drain(..) {
                        self.durable.retain(|&(of, first, last), _| of != stream || first < lo || last > hi);
                        self.durable.insert((stream, lo, hi), samples);
                    }
                    self.commit_at = None;
                }
                Err(_) => self.commit_at = Some(now_ms + 1_000),
            }
        }
        asked.into_iter().for_each(|stream| agent.may_leave(stream));
    }

    pub(super) fn fill(&mut self, full: bool) {
        self.full = full;
        self.fs.fill(full);
    }
}

/// Samples with a label in a frame of windows.
fn labelled(frame: &[u8]) -> u64 {
    match ingest::decode(frame).expect("an own frame").content {
        Content::Windows(windows) => windows.iter().map(|w| u64::from(w.labelled)).sum(),
        Content::Gap(_) => 0,
    }
}

impl Sim {
    /// Gives every device a disk.
    pub fn with_disks(mut self) -> Self {
        for node in &mut self.nodes {
            node.agent.durable(Vec::new());
            node.disk = Some(Disk::new(node.agent.stream()));
        }
        self
    }

    /// What a device's clocks say.
    pub(super) fn device_now(&self, i: usize) -> Now {
        let node = &self.nodes[i];
        Now {
            mono: MonoMs(self.now_ms - node.booted_ms),
            wall: WallMs(node.wall_at_boot + self.now_ms - node.booted_ms),
        }
    }

    /// Power goes and comes, disks fill and are emptied.
    pub(super) fn power(&mut self) {
        for i in 0..self.nodes.len() {
            if self.nodes[i].disk.is_none() {
                continue;
            }
            if self.chance(self.trouble.clock_set) {
                self.set_clock(i);
            }
            if self.chance(self.trouble.full)
                && let Some(disk) = &mut self.nodes[i].disk
            {
                let full = !disk.full;
                disk.fill(full);
            }
            if self.chance(self.trouble.power) {
                self.power_cut(i);
            }
        }
    }

    /// Back or forward, by seconds or by days; the agent follows as it does on a device.
    fn set_clock(&mut self, i: usize) {
        self.clock_steps += 1;
        // Followed, followed, and too far for that. More of the second would date windows over more slots than the history keeps,
        // which is what samples are counted in here.
        let far = [2_000.0, 20_000.0, 600_000.0, 30.0 * 86_400_000.0][(self.random.bits() % 4) as usize];
        let sign = if self.chance(0.5) { 1.0 } else { -1.0 };
        let by = (sign * far * (1.0 - 0.5 * self.random.unit())) as i64;
        let system = (EPOCH_MS + self.now_ms).saturating_add_signed(by);
        let mono = self.device_now(i).mono;
        let node = &mut self.nodes[i];
        node.wall_at_boot = followed(node.wall_at_boot, mono, system);
    }

    fn power_cut(&mut self, i: usize) {
        self.power_cuts += 1;
        if let Some(connection) = self.nodes[i].link.take() {
            let death = agent::death(&self.settings.fleet, &self.nodes[i].name, connection);
            self.post(i, u64::MAX, true, death.topic, death.payload.to_vec());
        }
        let unset = self.chance(self.trouble.no_clock);
        let stream = Stream(self.random.bits());
        let devices = self.nodes.len();
        let node = &mut self.nodes[i];
        let disk = node.disk.as_mut().expect("only devices with disks lose power");
        disk.past += node.agent.ledger().samples_in_windows;
        disk.fs = disk.fs.power_cut(&mut self.random);
        disk.written.clear();
        disk.commit_at = None;
        disk.full = false;
        let (journal, found) = Journal::open(disk.fs.clone(), stream);
        disk.journal = journal;
        // What was durable is there, or was delivered before.
        node.booted_ms = self.now_ms;
        node.wall_at_boot = if unset { 1_000 } else { EPOCH_MS + self.now_ms };
        let now = Now { mono: MonoMs(0), wall: WallMs(node.wall_at_boot) };
        let file = SlotFile::at_start(Some(node.file.clone()), node.file.configured);
        let active = file.active.and_then(|digest| node.stored.get(&digest).cloned());
        (node.staged, node.trying) = (None, false);
        node.agent = Agent::new(now, settings(i, devices, self.trouble.room, stream), file, active);
        node.agent.durable(found.streams);
        node.agent.handle(now, Input::Tick);
    }

    /// Samples that no power cut may lose.
    pub fn durable_samples(&self) -> u64 {
        self.nodes.iter().filter_map(|n| n.disk.as_ref()).flat_map(|d| d.durable.values()).sum()
    }

    /// Ends all trouble with disks.
    pub(super) fn empty_disks(&mut self) {
        self.nodes.iter_mut().filter_map(|n| n.disk.as_mut()).for_each(|disk| disk.fill(false));
    }
}
