//! The small messages: who a device is, what it is asked to run, what became of it, and what has been stored.

use super::{Kind, TooLarge, write_with};
use crate::list::{List, Text};
use crate::manifest::{Digest, MANIFEST_BYTES_MAX};
use crate::units::{Generation, Name, ReleaseId, Seq, Stream, WallMs};
use crate::window::FEATURES_MAX;
use bincode::{Decode, Encode};

/// Labels of a device, such as `site=busan`.
pub const LABELS_MAX: usize = 16;
/// Bytes of a file in one [`Block`].
pub const BLOCK_BYTES_MAX: usize = 32 * 1024;

/// Truths in one [`Labels`] frame.
pub const TRUTHS_MAX: usize = 1024;
/// Different classes in one [`Labels`] frame.
pub const TRUTH_CLASSES_MAX: usize = 64;

/// A label of a device.
pub type Label = (Name, Text<64>);

/// What a device says of itself when it connects; retained.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Birth {
    /// The agent's version.
    pub agent_version: Text<32>,
    /// The life of its spool.
    pub stream: Stream,
    /// How often it has connected; a [`Death`] counts only with the same number.
    pub connection: u64,
    /// The release that answers now.
    pub release: Option<ReleaseId>,
    /// The last desired state it accepted.
    pub generation: Generation,
    /// Its labels.
    pub labels: List<Label, LABELS_MAX>,
    /// Its spool and sources, in numbers.
    pub ledger: Ledger,
}

/// A device's own account. Holds at every moment: `taken = in windows + refused`, `closed = acknowledged + merged + evicted + waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Ledger {
    /// Samples that sources handed over.
    pub samples_taken: u64,
    /// Samples sketched into a window.
    pub samples_in_windows: u64,
    /// Samples that were not.
    pub samples_refused: u64,
    /// Windows closed.
    pub windows_closed: u64,
    /// Windows whose frame the collector has acknowledged.
    pub windows_acknowledged: u64,
    /// Windows that became part of a wider one for want of room.
    pub windows_merged: u64,
    /// Windows given up for want of room.
    pub windows_evicted: u64,
    /// Windows that wait for their acknowledgement.
    pub windows_waiting: u64,
}

/// A connection that ended; the broker sends it as the last will, retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Death {
    /// The connection that ended.
    pub connection: u64,
}

/// Numbers `lo..=hi` of a stream that will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Gap {
    /// The stream.
    pub stream: Stream,
    /// First number.
    pub lo: Seq,
    /// Last number.
    pub hi: Seq,
    /// Why.
    pub reason: GapReason,
}

/// Why numbers never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum GapReason {
    /// The spool was full.
    Evicted,
    /// The record on disk was damaged.
    Corrupt,
    /// They were acknowledged, if not by this collector: one with an empty store may go on from here.
    Settled,
}

/// How far a release has come on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum SlotState {
    /// The device knows of it.
    Offered,
    /// Its files are being fetched.
    Fetching,
    /// Every file is there and matches its digest; the model loads and gives its golden outputs.
    Staged,
    /// It runs beside the active model on live samples.
    Trial,
    /// It answers; the model before it is kept.
    ActiveUncommitted,
    /// It stays.
    Committed,
    /// It was active or on trial and failed; the model before it answers.
    RolledBack,
    /// It could not be fetched, verified or loaded.
    Failed,
}

/// Something that happened on a device.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "no allocator here; events are few and short-lived")]
pub enum Event {
    /// A release changed state.
    Slot {
        /// The desired state this answers.
        generation: Generation,
        /// Which release.
        release: ReleaseId,
        /// Where it is now.
        state: SlotState,
        /// Why, for the last two states; else empty.
        reason: Text<200>,
    },
    /// What became of late truth.
    Truth(Truth),
}

/// What became of the truths that a device was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Truth {
    /// The batch that this answers; 0 for what came from elsewhere than the collector.
    pub batch: u64,
    /// Counted, each in the window of its sample.
    pub counted: u32,
    /// The truth of that sample was known already.
    pub repeated: u32,
    /// No sample of that id is remembered.
    pub unknown: u32,
    /// The release that judged the sample has no such class, or the message could not be read.
    pub refused: u32,
}

/// Something a device asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Part of a file.
    Block {
        /// The file.
        file: Digest,
        /// From which byte.
        offset: u64,
        /// How many bytes at most.
        bytes: u32,
    },
    /// The desired state, because it may have been missed.
    Desired,
    /// That windows of this stream are dated right: it says what time it is there.
    Clock {
        /// The live stream.
        stream: Stream,
        /// The device's time.
        wall: WallMs,
    },
}

/// What the collector tells one device.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "no allocator here; the large variant is rare and short-lived")]
pub enum ToDevice {
    /// Every frame up to `through` is stored.
    Ack {
        /// Whose numbers.
        stream: Stream,
        /// The last of the unbroken run.
        through: Seq,
        /// The collector's time.
        wall: WallMs,
    },
    /// Run this release.
    Desired {
        /// Refused when older than one already seen.
        generation: Generation,
        /// The manifest's exact bytes.
        manifest: List<u8, MANIFEST_BYTES_MAX>,
    },
    /// Give out raw samples.
    Evidence(EvidenceRequest),
}

/// Raw samples that somebody asks a device for: the newest of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct EvidenceRequest {
    /// Number to answer with.
    pub request: u64,
    /// How many at most.
    pub samples: u16,
    /// Sensed at this time of the device or later.
    pub from: WallMs,
    /// And at this time or earlier.
    pub to: WallMs,
}

/// Samples of one [`EvidenceRequest`].
pub const EVIDENCE_SAMPLES_MAX: usize = 1_000;
/// Samples in one [`Evidence`] frame: with [`FEATURES_MAX`] inputs and all outputs they fit.
pub const EVIDENCE_ROWS_MAX: usize = 32;
/// Outputs of a sample that are given out.
pub const EVIDENCE_OUTPUTS_MAX: usize = 64;

/// Raw samples, as they were asked for, or why not.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Evidence {
    /// What this answers.
    pub request: u64,
    /// The release whose answers they hold.
    pub release: Option<ReleaseId>,
    /// Which part this is, from 0.
    pub part: u16,
    /// Of how many.
    pub parts: u16,
    /// Why there are none; else empty.
    pub refused: Text<200>,
    /// The samples, oldest first.
    pub rows: List<EvidenceRow, EVIDENCE_ROWS_MAX>,
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct EvidenceRow {
    /// Hash of its id, or of its running number.
    pub id: u64,
    /// When it was sensed, by the device's clock.
    pub at: WallMs,
    /// The model's inputs.
    pub inputs: List<f32, FEATURES_MAX>,
    /// What the model made of them.
    pub outputs: List<f32, EVIDENCE_OUTPUTS_MAX>,
    /// Numbers that the model took, where these are more than the watched inputs: they come in frames of [`Whole`].
    pub whole: u32,
}

/// Numbers of all samples of one answer together that come as [`Whole`]; fewer samples are given out where they are large.
pub const WHOLE_VALUES_MAX: usize = 1 << 19;
/// And of one frame.
pub const WHOLE_PART_MAX: usize = 12 * 1024;

/// Part of a signal or an image as the model took it, borrowed from its frame: request as u64, sample as u16, offset as u32, then the
/// numbers as f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whole<'a> {
    /// What this answers.
    pub request: u64,
    /// Which sample of the answer, from 0.
    pub sample: u16,
    /// Where in the sample the numbers belong.
    pub offset: u32,
    values: &'a [u8],
}

impl<'a> Whole<'a> {
    const HEAD: usize = 14;

    /// Reads a frame's payload; `None` when it is too short, too long or ends within a number.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let (request, rest) = payload.split_first_chunk::<8>()?;
        let (sample, rest) = rest.split_first_chunk::<2>()?;
        let (offset, values) = rest.split_first_chunk::<4>()?;
        let fits = values.len().is_multiple_of(4) && values.len() <= 4 * WHOLE_PART_MAX;
        fits.then_some(Self {
            request: u64::from_le_bytes(*request),
            sample: u16::from_le_bytes(*sample),
            offset: u32::from_le_bytes(*offset),
            values,
        })
    }

    /// The numbers.
    pub fn values(&self) -> impl Iterator<Item = f32> + 'a {
        self.values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    /// Writes the frame of these numbers and returns its length.
    pub fn write(request: u64, sample: u16, offset: u32, values: &[f32], buffer: &mut [u8]) -> Result<usize, TooLarge> {
        write_with(Kind::Whole, buffer, |payload| {
            let len = Self::HEAD + 4 * values.len();
            let payload = payload.get_mut(..len)?;
            payload[..8].copy_from_slice(&request.to_le_bytes());
            payload[8..10].copy_from_slice(&sample.to_le_bytes());
            payload[10..14].copy_from_slice(&offset.to_le_bytes());
            payload[14..]
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .zip(values)
                .for_each(|(to, value)| *to = value.to_le_bytes());
            Some(len)
        })
    }
}

/// What samples really were, told to the device that judged them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Labels {
    /// Number to answer with; 0 wants no answer of its own.
    pub batch: u64,
    /// Class names that `truths` refer to.
    pub classes: List<Text<64>, TRUTH_CLASSES_MAX>,
    /// [`crate::units::hash`] of a sample's id, and the place of its true class in `classes`.
    pub truths: List<(u64, u16), TRUTHS_MAX>,
}

/// State of the collector; retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Host {
    /// Grows with every start.
    pub epoch: u64,
    /// Whether it takes frames.
    pub online: bool,
    /// Devices should wait this long between frames when not zero.
    pub slow_down_s: u32,
}

/// Part of a file, borrowed from its frame: digest, offset as u64, then the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// The file.
    pub file: Digest,
    /// Where the bytes belong.
    pub offset: u64,
    /// At most [`BLOCK_BYTES_MAX`].
    pub bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads a block frame's payload; `None` when it is too short or too long.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let (file, rest) = payload.split_first_chunk::<32>()?;
        let (offset, bytes) = rest.split_first_chunk::<8>()?;
        (bytes.len() <= BLOCK_BYTES_MAX).then_some(Self {
            file: Digest(*file),
            offset: u64::from_le_bytes(*offset),
            bytes,
        })
    }

    /// Writes the frame and returns its length.
    pub fn write(&self, buffer: &mut [u8]) -> Result<usize, TooLarge> {
        write_with(Kind::Block, buffer, |payload| {
            let len = 40 + self.bytes.len();
            let payload = payload.get_mut(..len)?;
            payload[..32].copy_from_slice(&self.file.0);
            payload[32..40].copy_from_slice(&self.offset.to_le_bytes());
            payload[40..].copy_from_slice(self.bytes);
            Some(len)
        })
    }
}
