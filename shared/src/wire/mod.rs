//! The bytes between device and collector: frames, topics and messages. The only place that knows bincode.
//!
//! Frame, little-endian:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 2 | magic | `DL` |
//! | 1 | version | [`VERSION`]; a reader knows this and the one before |
//! | 1 | kind | [`Kind`] |
//! | 4 | length | of the payload |
//! | n | payload | bincode 2, little-endian varint, limited to [`FRAME_BYTES_MAX`] |
//! | 4 | crc32c | of everything before it |
//!
//! A decoder never panics and never takes more memory than the frame is long. Windows have a packed form of their own,
//! described in [`pack`].

mod embedding;
pub mod messages;
pub mod pack;
pub mod scores;
pub mod topic;

use bincode::{Decode, Encode, config};

/// Version that is written.
pub const VERSION: u8 = 1;
/// Largest frame, either way. Below every common broker's limit; a block of a model file fits.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Frames a device may have sent without an acknowledgement: the collector's mask has 63 bits.
pub const IN_FLIGHT_MAX: u64 = 60;
/// Windows in one frame.
pub const WINDOWS_PER_FRAME_MAX: u32 = 32;

const HEAD: usize = 8;
const TAIL: usize = 4;
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`messages::Birth`].
    Birth = 1,
    /// [`messages::Death`].
    Death = 2,
    /// Windows: see [`pack`].
    Windows = 3,
    /// [`messages::Event`].
    Event = 4,
    /// [`messages::Request`].
    Request = 5,
    /// [`messages::ToDevice`].
    ToDevice = 6,
    /// [`messages::Host`].
    Host = 7,
    /// [`messages::Gap`].
    Gap = 8,
    /// A block of a file: see [`messages::Block`].
    Block = 9,
    /// [`messages::Labels`].
    Labels = 10,
    /// [`messages::Evidence`].
    Evidence = 11,
    /// Part of a sample: see [`messages::Whole`].
    Whole = 12,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::*;
        [Birth, Death, Windows, Event, Request, ToDevice, Host, Gap, Block, Labels, Evidence, Whole]
            .into_iter()
            .find(|&k| k as u8 == byte)
    }
}

/// Why bytes are no frame, or a payload not what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// Shorter than a frame or than its own length says, or longer.
    Length,
    /// More than [`FRAME_BYTES_MAX`].
    TooLarge,
    /// Does not begin with the magic.
    Magic,
    /// Written by a version this reader does not know.
    Version(u8),
    /// A kind this reader does not know, or not the one expected here.
    Kind(u8),
    /// The checksum differs.
    Checksum,
    /// The payload does not decode, or something follows it.
    Payload,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length => f.write_str("the frame's length is wrong"),
            Self::TooLarge => write!(f, "the frame is larger than {FRAME_BYTES_MAX} bytes"),
            Self::Magic => f.write_str("the bytes are no Driftline frame"),
            Self::Version(v) => write!(f, "the frame has version {v}; this program reads version {VERSION}"),
            Self::Kind(k) => write!(f, "the frame has kind {k}, which does not belong here"),
            Self::Checksum => f.write_str("the frame's checksum is wrong"),
            Self::Payload => f.write_str("the frame's content does not decode"),
        }
    }
}

impl core::error::Error for Malformed {}

/// A frame whose envelope is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: Kind,
    /// The undecoded payload.
    pub payload: &'a [u8],
    /// Its checksum: tells a repeated frame from another one under the same number.
    pub crc: u32,
}

impl<'a> Frame<'a> {
    /// Checks the envelope.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(Malformed::TooLarge);
        }
        let (head, rest) = bytes.split_at_checked(HEAD).ok_or(Malformed::Length)?;
        if head[..2] != *b"DL" {
            return Err(Malformed::Magic);
        }
        if head[2] != VERSION {
            return Err(Malformed::Version(head[2]));
        }
        let kind = Kind::of(head[3]).ok_or(Malformed::Kind(head[3]))?;
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if rest.len() != len + TAIL {
            return Err(Malformed::Length);
        }
        let (payload, tail) = rest.split_at(len);
        let crc = CRC.checksum(&bytes[..HEAD + len]);
        if tail != crc.to_le_bytes() {
            return Err(Malformed::Checksum);
        }
        Ok(Self { kind, payload, crc })
    }

    /// Decodes the payload, which must be of `kind` and used up whole.
    pub fn read<T: Decode<()>>(&self, kind: Kind) -> Result<T, Malformed> {
        if self.kind != kind {
            return Err(Malformed::Kind(self.kind as u8));
        }
        let (value, used) =
            bincode::decode_from_slice(self.payload, bincode_config()).map_err(|_| Malformed::Payload)?;
        if used == self.payload.len() { Ok(value) } else { Err(Malformed::Payload) }
    }
}

/// The one bincode configuration; the limit keeps a nine-byte length field from asking for gigabytes.
pub(crate) fn bincode_config() -> impl config::Config {
    config::standard().with_limit::<FRAME_BYTES_MAX>()
}

/// Something that can be written into a frame.
pub trait Payload: Encode {}

impl<T: Encode> Payload for T {}

/// A message does not fit the buffer or [`FRAME_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl core::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the message does not fit in one frame")
    }
}

impl core::error::Error for TooLarge {}

/// Writes a frame into `buffer` and returns its length.
pub fn write<T: Payload>(kind: Kind, message: &T, buffer: &mut [u8]) -> Result<usize, TooLarge> {
    write_with(kind, buffer, |payload| bincode::encode_into_slice(message, payload, bincode_config()).ok())
}

/// Writes a frame whose payload `fill` puts into the slice it is given, returning its length.
pub(crate) fn write_with(
    kind: Kind,
    buffer: &mut [u8],
    fill: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Result<usize, TooLarge> {
    let room = buffer.len().min(FRAME_BYTES_MAX).checked_sub(HEAD + TAIL).ok_or(TooLarge)?;
    let len = fill(&mut buffer[HEAD..HEAD + room]).filter(|&len| len <= room).ok_or(TooLarge)?;
    buffer[..HEAD].copy_from_slice(&[b'D', b'L', VERSION, kind as u8, 0, 0, 0, 0]);
    buffer[4..HEAD].copy_from_slice(&(len as u32).to_le_bytes());
    let crc = CRC.checksum(&buffer[..HEAD + len]);
    buffer[HEAD + len..HEAD + len + TAIL].copy_from_slice(&crc.to_le_bytes());
    Ok(HEAD + len + TAIL)
}
