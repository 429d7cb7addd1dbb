//! From bytes to checked windows: what arrives on a device's topic, decoded or refused with a reason that is counted.
//!
//! Nothing here keeps state. A refusal is an outcome, not an error: it is counted by its reason, and a frame that cannot be read is
//! kept as a dead letter and its number settled, or it would come again for ever.

use crate::release::Release;
use driftline_shared::performance::{ONE, Performance};
use driftline_shared::sketch::Cells;
use driftline_shared::units::{Name, Seq, Stream, WallMs};
use driftline_shared::window::{COARSE_SLOTS_MAX, Window};
use driftline_shared::wire::messages::Gap;
use driftline_shared::wire::topic::DeviceTopic;
use driftline_shared::wire::{Frame, Kind, Malformed, pack};

/// How far a window may lie ahead of the collector's clock.
const AHEAD_MS_MAX: u64 = 3_600_000;

/// Why something was refused. Each has its own counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The topic is none of ours, or another fleet's.
    Topic,
    /// The sender's identity is not the device in the topic.
    Spoofed,
    /// The frame's envelope or payload does not decode.
    Malformed,
    /// A frame of a newer or older protocol.
    Version,
    /// Its number is further ahead than a device may be.
    TooFarAhead,
    /// Another frame with this number was stored: two devices share one identity.
    Cloned,
    /// A window that does not fit its release's baseline.
    Schema,
    /// A window of a release that is not registered.
    UnknownRelease,
    /// A window dated in the future.
    Future,
    /// A window too late for a verdict.
    TooLate,
    /// More devices than [`crate::device::DEVICES_MAX`].
    TooManyDevices,
}

impl Refusal {
    /// The counter's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Spoofed => "spoofed",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::TooFarAhead => "too_far_ahead",
            Self::Cloned => "cloned",
            Self::Schema => "schema",
            Self::UnknownRelease => "unknown_release",
            Self::Future => "future",
            Self::TooLate => "too_late",
            Self::TooManyDevices => "too_many_devices",
        }
    }
}

/// A frame of windows whose every window decoded.
#[derive(Debug)]
pub struct Decoded {
    /// Sender's stream.
    pub stream: Stream,
    /// Number.
    pub seq: Seq,
    /// Numbers before it that it stands for too.
    pub back: u32,
    /// Checksum.
    pub crc: u32,
    /// What it holds.
    pub content: Content,
}

/// What a numbered frame holds.
#[derive(Debug)]
pub enum Content {
    /// Windows.
    Windows(Vec<Box<Window>>),
    /// Numbers that will never come.
    Gap(Gap),
}

/// A numbered frame that cannot be used; its number is known when the head was readable.
#[derive(Debug)]
pub struct Undecodable {
    /// Stream and number.
    pub number: Option<(Stream, Seq)>,
    /// Numbers before it that it stands for too.
    pub back: u32,
    /// Checksum of the envelope, when that was sound.
    pub crc: u32,
    /// Why.
    pub why: Malformed,
}

/// Whose topic this is, when the sender may publish there.
pub fn sender(fleet: &Name, topic: &str, client: Option<&str>) -> Result<DeviceTopic, Refusal> {
    let topic = DeviceTopic::parse(topic).ok_or(Refusal::Topic)?;
    if topic.fleet != *fleet || !topic.leaf.is_from_device() {
        return Err(Refusal::Topic);
    }
    if client.is_some_and(|client| client != topic.device.as_str()) {
        return Err(Refusal::Spoofed);
    }
    Ok(topic)
}

/// Decodes a numbered frame whole.
pub fn decode(payload: &[u8]) -> Result<Decoded, Undecodable> {
    let frame = Frame::parse(payload).map_err(|why| Undecodable { number: None, back: 0, crc: 0, why })?;
    let crc = frame.crc;
    match frame.kind {
        Kind::Gap => {
            let gap: Gap = frame.read(Kind::Gap).map_err(|why| Undecodable { number: None, back: 0, crc, why })?;
            Ok(Decoded { stream: gap.stream, seq: gap.hi, back: 0, crc, content: Content::Gap(gap) })
        }
        Kind::Windows => {
            let bad = |number, back| move |why| Undecodable { number, back, crc, why };
            let mut reader = pack::Windows::open(frame.payload).ok_or(Malformed::Payload).map_err(bad(None, 0))?;
            let number = Some((reader.stream, reader.seq));
            let mut windows = Vec::new();
            let back = reader.back;
            while let Some(window) = reader.next().map_err(bad(number, back))? {
                windows.push(Box::new(window));
            }
            let (stream, seq) = (reader.stream, reader.seq);
            Ok(Decoded { stream, seq, back, crc, content: Content::Windows(windows) })
        }
        other => Err(Undecodable { number: None, back: 0, crc, why: Malformed::Kind(other as u8) }),
    }
}

/// Checks a window against the release it names.
pub fn fits(window: &Window, release: &Release, now: WallMs) -> Result<(), Refusal> {
    if window.start.0 > now.0 + AHEAD_MS_MAX {
        return Err(Refusal::Future);
    }
    let features = &release.baseline.features;
    let cells = |cells: &Cells| cells.len();
    let fits = window.sketches.len() == features.len()
        && window.sketches.iter().zip(features).all(|(sketch, f)| sketch.counts().len() == cells(&f.cells))
        && spans_slots(window, release.schema.window_ms)
        && window.correct <= window.labelled
        && (window.embedding.is_none() || release.embedded().is_some())
        && window.performance.as_ref().is_none_or(|performance| counts_fit(performance, window, release));
    if fits { Ok(()) } else { Err(Refusal::Schema) }
}

/// Whether a window lies in one slot, or is made of some whole ones that a device without room has merged.
fn spans_slots(window: &Window, window_ms: u32) -> bool {
    let (from, length) = (window.start.0 % u64::from(window_ms), u64::from(window_ms));
    let inside = from + u64::from(window.span_ms) <= length;
    let whole = from == 0 && window.span_ms.is_multiple_of(window_ms) && window.span_ms / window_ms <= COARSE_SLOTS_MAX;
    inside || whole
}

/// Whether scores were counted on the release's calibration and classes, and no more of them than there were samples.
fn counts_fit(performance: &Performance, window: &Window, release: &Release) -> bool {
    let shape = Performance::new(release.baseline.calibration.as_ref(), release.schema.task.classes());
    let samples = u64::from(window.samples);
    let possible = performance.curves.iter().all(|counts| {
        counts.samples().iter().sum::<u64>() <= samples && counts.sums.iter().all(|&s| s <= samples * u64::from(ONE))
    });
    let judged: u64 = performance.confusion.iter().map(|&c| u64::from(c)).sum();
    shape.fits(performance) && possible && judged <= u64::from(window.labelled)
        // A part of its own shape is as impossible where the release has none.
        && (performance.curves.is_empty() || !shape.curves.is_empty())
        && (performance.confusion.is_empty() || !shape.confusion.is_empty())
}
