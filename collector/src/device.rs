//! What the collector knows of each device: its birth, its labels, what it runs and what it should run.
//!
//! A device enters by its first birth. Devices are never forgotten by themselves; their number is bounded.

use driftline_shared::units::{Generation, Name, ReleaseId, WallMs};
use driftline_shared::wire::messages::{Birth, Ledger};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Devices of one collector; a birth beyond is refused and counted.
pub const DEVICES_MAX: usize = 100_000;

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Labels from its birth.
    pub labels: BTreeMap<String, String>,
    /// The agent's version.
    pub agent_version: String,
    /// Number of its newest connection.
    pub connection: u64,
    /// Whether that connection lives.
    pub connected: bool,
    /// The release it last said it runs.
    pub release: Option<ReleaseId>,
    /// What it should run, and since which generation; `None` leaves it alone.
    pub desired: Option<ReleaseId>,
    /// The newest generation given out or reported.
    pub generation: Generation,
    /// When it was last heard, by the collector's clock.
    pub seen: WallMs,
    /// When it was first heard.
    pub first_seen: WallMs,
    /// Its own account.
    #[serde(skip)]
    pub ledger: Ledger,
}

impl Device {
    /// A device that has just been heard for the first time.
    pub fn new(now: WallMs) -> Self {
        Self {
            labels: BTreeMap::new(),
            agent_version: String::new(),
            connection: 0,
            connected: false,
            release: None,
            desired: None,
            generation: Generation(0),
            seen: now,
            first_seen: now,
            ledger: Ledger::default(),
        }
    }

    /// Takes in what the device says of itself.
    pub fn born(&mut self, birth: &Birth, now: WallMs) {
        self.labels = birth.labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        self.agent_version = birth.agent_version.to_string();
        self.connection = birth.connection;
        self.connected = true;
        self.release = birth.release;
        self.generation = self.generation.max(birth.generation);
        self.seen = now;
        self.ledger = birth.ledger;
    }

    /// The device's value of a label; devices without it form the cohort "-".
    pub fn cohort(&self, label: &str) -> &str {
        self.labels.get(label).map_or("-", String::as_str)
    }
}

/// All devices by name.
pub type Devices = BTreeMap<Name, Device>;
