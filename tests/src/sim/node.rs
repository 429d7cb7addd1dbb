//! One simulated device.

use super::{EPOCH_MS, name, power};
use driftline_agent::agent::{Agent, Settings};
use driftline_agent::evidence::Policy;
use driftline_agent::observe::Profile;
use driftline_agent::pumps::Pump;
use driftline_agent::slot::{Proof, SlotFile};
use driftline_agent::spool::{Drain, Room};
use driftline_shared::list::{List, Text};
use driftline_shared::manifest::Digest;
use driftline_shared::units::{Name, Now, Stream};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Node {
    pub(super) name: Name,
    pub(super) agent: Agent,
    pub(super) pump: Pump,
    /// The release on trial, as the driver holds its model.
    pub(super) staged: Option<Arc<Profile>>,
    pub(super) trying: bool,
    pub(super) stored: BTreeMap<Digest, Arc<Profile>>,
    pub(super) link: Option<u64>,
    pub(super) connections: u64,
    /// What it would find of its slots after a start.
    pub(super) file: SlotFile,
    pub(super) disk: Option<power::Disk>,
    pub(super) booted_ms: u64,
    pub(super) wall_at_boot: u64,
    /// What its samples truly are, by their running number, and what the model saw in them.
    pub(super) truths: Vec<(usize, usize)>,
}

/// What an agent is told.
pub(super) fn settings(i: usize, devices: usize, room: u64, stream: Stream) -> Settings {
    let site = if i < devices / 2 { "busan" } else { "ulsan" };
    let device = name(&format!("pump-{i:03}"));
    let mut labels = List::default();
    let _ = labels.push((name("site"), Text::cut(site)));
    Settings {
        fleet: name("sim"),
        device,
        labels,
        stream,
        window_samples_max: 1_000_000,
        room: Room { samples: room, ..Room::default() },
        spool_commit_ms: 5_000,
        drain: Drain::Backlog,
        labels_samples_max: 10_000,
        evidence: Policy { samples: 100, per_day: 100 },
        proof: Proof { trial: 20, commit: 20 },
    }
}

/// A device on a release.
pub(super) fn node(i: usize, devices: usize, room: u64, profile: &Arc<Profile>, now: Now) -> Node {
    let settings = settings(i, devices, room, Stream(i as u64 + 1));
    let device = settings.device.clone();
    let file = SlotFile {
        active: Some(profile.digest),
        configured: Some(profile.digest),
        committed: true,
        starts: 1,
        ..SlotFile::default()
    };
    let agent = Agent::new(now, settings, file.clone(), Some(profile.clone()));
    let stored = BTreeMap::from([(profile.digest, profile.clone())]);
    Node {
        name: device,
        agent,
        pump: Pump::new(i as u64 + 1),
        staged: None,
        trying: false,
        stored,
        link: None,
        connections: 0,
        file,
        disk: None,
        booted_ms: 0,
        wall_at_boot: EPOCH_MS,
        truths: Vec::new(),
    }
}
