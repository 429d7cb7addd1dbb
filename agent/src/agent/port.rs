//! What goes into the state machine and what comes out of it.

use crate::evidence::Policy;
use crate::inference::Outputs;
use crate::observe::Profile;
use crate::slot::Proof;
use crate::spool::{Drain, Room};
use bytes::Bytes;
use driftline_shared::list::List;
use driftline_shared::manifest::Digest;
use driftline_shared::units::{Name, Stream, WallMs};
use driftline_shared::wire::messages::{LABELS_MAX, Label};
use std::sync::Arc;

/// What an agent is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The fleet.
    pub fleet: Name,
    /// This device.
    pub device: Name,
    /// Its labels.
    pub labels: List<Label, LABELS_MAX>,
    /// The life of its spool: random.
    pub stream: Stream,
    /// Samples after which a window closes early.
    pub window_samples_max: u32,
    /// How much the spool keeps.
    pub room: Room,
    /// Windows wait so long to be put on the disk with others.
    pub spool_commit_ms: u32,
    /// What is sent first when a backlog waits.
    pub drain: Drain,
    /// Samples remembered for truth that comes late.
    pub labels_samples_max: u32,
    /// What raw samples may be kept and given out.
    pub evidence: Policy,
    /// How a release proves itself.
    pub proof: Proof,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A sample was taken and answered.
    Sample(Sample<'a>),
    /// So many rows could not be read.
    Malformed(u32),
    /// The link is up; the number is in its will.
    LinkUp {
        /// How often this device has connected.
        connection: u64,
    },
    /// The link is down.
    LinkDown,
    /// A message arrived.
    Message {
        /// Its topic.
        topic: &'a str,
        /// Its bytes.
        payload: &'a [u8],
    },
    /// A release was stored, loaded and checked, or could not be.
    Staged {
        /// Which.
        digest: Digest,
        /// What it watches, or why not.
        result: Result<Arc<Profile>, String>,
    },
    /// A write of the slot file has ended.
    Persisted {
        /// Which.
        number: u64,
        /// How.
        result: Result<(), String>,
    },
    /// The samples have ended, or the agent stops: what is open is closed.
    Flush,
    /// Time has passed.
    Tick,
}

/// A sample with what the models made of it.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// When it was sensed.
    pub event_time: WallMs,
    /// What is watched of the model's inputs.
    pub inputs: &'a [f32],
    /// The inputs themselves, where they are more; else empty.
    pub whole: &'a [f32],
    /// What the active model made of them.
    pub outputs: Outputs<'a>,
    /// What the model on trial made of them, when there is one.
    pub trial: Option<Outputs<'a>>,
    /// The true class, when it is known.
    pub label: Option<u16>,
    /// Hash of its id; the running number of the sample where the source has none.
    pub id: Option<u64>,
}

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Bytes,
    /// At least once, or at most once.
    pub at_least_once: bool,
    /// Whether the broker keeps it.
    pub retain: bool,
}

/// Messages from outside that were no use, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct MessagesRefused {
    /// On a topic that was never subscribed.
    pub topic: u64,
    /// No frame, damaged, or of another version or kind.
    pub malformed: u64,
    /// Acknowledges another stream or numbers that were never sent.
    pub acknowledgement: u64,
}
