//! What the state machine wants stored, and what it is rebuilt from. One batch of these is one transaction.
//!
//! The state machine's memory runs ahead of the disk only until the batch is committed, and nothing leaves (no acknowledgement, no
//! command, no live update) before that. When a commit fails the driver drops the state machine and rebuilds it from the store.

use crate::collector::evidence::Request;
use crate::device::Device;
use crate::history::{Group, Place, Truths};
use crate::incident::Incident;
use crate::ledger::Entry;
use crate::release::Release;
use crate::rollout::machine::Rollout;
use driftline_shared::manifest::FileEntry;
use driftline_shared::units::{Name, ReleaseId, Seq, Stream, WallMs};
use driftline_shared::window::Window;

/// One change.
#[derive(Debug, Clone)]
pub enum Write {
    /// A ledger row.
    Ledger {
        /// Device and stream.
        device: Name,
        /// Its stream.
        stream: Stream,
        /// The row.
        entry: Entry,
    },
    /// A stream that gave way to newer ones.
    Forget {
        /// Whose.
        device: Name,
        /// The stream.
        stream: Stream,
    },
    /// A device's window, as it came.
    Window {
        /// Whose.
        device: Name,
        /// Its slot.
        slot: u64,
        /// The window.
        window: Box<Window>,
    },
    /// The sum of a group's windows in a slot; replaces what was there.
    FleetWindow {
        /// Which group.
        group: Group,
        /// Which slot.
        slot: u64,
        /// The sum.
        window: Box<Window>,
    },
    /// The state of a release's detectors; replaces what was there.
    Detectors {
        /// Whose.
        release: ReleaseId,
        /// The slot that they stand at.
        settled: u64,
        /// As the panel has it.
        body: Vec<u8>,
    },
    /// Late truth of a group's slot; replaces what was there.
    Truths {
        /// Where.
        place: Place,
        /// When its slot began.
        at: WallMs,
        /// The sum.
        truths: Truths,
    },
    /// Truths on their way to a device.
    LabelsQueued {
        /// To whom.
        device: Name,
        /// Number.
        batch: u64,
        /// The frame.
        frame: Vec<u8>,
    },
    /// The device has answered.
    LabelsDone {
        /// Number.
        batch: u64,
    },
    /// A frame that does not decode.
    DeadLetter {
        /// Whose.
        device: Name,
        /// Its stream and number, when the frame's head was readable.
        number: Option<(Stream, Seq)>,
        /// Why.
        reason: String,
        /// The bytes.
        body: Vec<u8>,
    },
    /// A device.
    Device {
        /// Its name.
        name: Name,
        /// Its state.
        device: Box<Device>,
    },
    /// A release and its files.
    Release {
        /// The release.
        release: Box<Release>,
        /// Its files.
        files: Vec<(FileEntry, Vec<u8>)>,
    },
    /// An incident.
    Incident(Box<Incident>),
    /// A rollout.
    Rollout(Box<Rollout>),
    /// A request for raw samples, with what came of it.
    Evidence(Box<Request>),
    /// A request that gave way to newer ones.
    EvidenceGone(u64),
    /// Something that was said on the live channel; the audit trail.
    Event {
        /// When.
        at: WallMs,
        /// Kind, such as `incident.opened`.
        kind: &'static str,
        /// Of what.
        id: String,
    },
}

/// What a collector is rebuilt from.
#[derive(Debug, Default)]
pub struct Stored {
    /// Starts so far; this one included.
    pub epoch: u64,
    /// Ledger rows.
    pub ledger: Vec<(Name, Stream, Entry)>,
    /// Devices.
    pub devices: Vec<(Name, Device)>,
    /// Releases, oldest first.
    pub releases: Vec<Release>,
    /// Devices' windows of the newest slots of each release, oldest slot first.
    pub windows: Vec<(Name, u64, Box<Window>)>,
    /// The detectors' states before them.
    pub detectors: Vec<(ReleaseId, Vec<u8>)>,
    /// Sums of the newest slots.
    pub fleet_windows: Vec<(Group, u64, Box<Window>)>,
    /// Late truth.
    pub truths: Vec<(Place, Truths)>,
    /// Truths on their way to devices, oldest first.
    pub labels: Vec<(Name, u64, Vec<u8>)>,
    /// Requests for raw samples, oldest first.
    pub evidence: Vec<Request>,
    /// Incidents, oldest first.
    pub incidents: Vec<Incident>,
    /// Rollouts, oldest first.
    pub rollouts: Vec<Rollout>,
}

/// How many of each release's newest slots are worth reading back for the detectors.
pub const REPLAY_SLOTS: u64 = 256;

/// Something that happened, for the live channel and the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number since the start.
    pub seq: u64,
    /// When.
    pub at: WallMs,
    /// Kind, such as `incident.opened`.
    pub kind: &'static str,
    /// Of what.
    pub id: String,
}
