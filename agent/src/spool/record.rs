//! A frame as it stands in a segment of the spool, and how a segment is read back.
//!
//! A segment is [`MAGIC`], the stream and their checksum, then records one after the other:
//!
//! | bytes | field |
//! |---|---|
//! | 2 | [`MARK`] |
//! | 4 | length of the payload |
//! | 4 | CRC-32C of everything after it |
//! | 1 | [`Class`] |
//! | 1 | bit 0: the clock had been compared with the collector's when it was closed |
//! | 2 | windows in it |
//! | 8, 8 | first and last number; of windows more than one when the frames of the others were merged into it |
//! | 8 | when it was closed, in milliseconds since 1970 |
//! | | the frame, as it is sent |
//!
//! Everything is little-endian. From a record that does not check reading goes on at the next mark with a sound record.

use bytes::Bytes;
use crc::{CRC_32_ISCSI, Crc};
use driftline_shared::units::{Stream, WallMs};
use driftline_shared::window::Window;
use driftline_shared::wire::FRAME_BYTES_MAX;

/// Begins every segment; the last byte is the version.
pub const MAGIC: [u8; 8] = *b"DLSPOOL1";
/// Begins every record.
pub const MARK: [u8; 2] = [0xd1, 0x5f];
/// Bytes of a segment before its first record.
pub const HEAD_BYTES: usize = 20;
/// Bytes of a record before its payload.
pub const RECORD_BYTES: usize = 38;
/// Where the checksum's span begins.
const CHECKED: usize = 10;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What a frame carries; frames of one class share a budget. In the order in which they give way when a spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// How inputs lie together: large, and the next one says the same of later samples.
    Embedding,
    /// Windows of samples.
    Samples,
    /// Truth that came late: small, and nobody tells it again.
    Truth,
    /// Numbers that never come.
    Gap,
}

impl Class {
    /// Classes with a budget.
    pub const BUDGETED: [Self; 3] = [Self::Embedding, Self::Samples, Self::Truth];

    /// What a window carries.
    pub fn of(window: &Window) -> Self {
        if window.is_labels_only() {
            Self::Truth
        } else if window.is_embedding_only() {
            Self::Embedding
        } else {
            Self::Samples
        }
    }

    /// A class of a later version is treated like windows.
    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Embedding,
            2 => Self::Truth,
            3 => Self::Gap,
            _ => Self::Samples,
        }
    }
}

/// A frame and what is to be known of it without decoding it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// First number.
    pub lo: u64,
    /// Last number, which is the frame's; larger than the first for gaps and where the frames before were merged into it.
    pub hi: u64,
    /// What it carries.
    pub class: Class,
    /// Windows in it; none for a gap.
    pub windows: u16,
    /// Whether the clock had been compared with the collector's.
    pub dated: bool,
    /// When it was closed.
    pub closed: WallMs,
    /// The frame.
    pub bytes: Bytes,
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    /// Sound records in the order in which they were written.
    pub records: Vec<Record>,
    /// Places where something does not check although sound records follow.
    pub corrupt: u32,
    /// Whether the end is torn.
    pub torn: bool,
}

/// Why a file is no segment of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSegment {
    /// Shorter than its head: the power went while it was made.
    Torn,
    /// Of a later version.
    Newer,
    /// Something else.
    Foreign,
}

/// The head of a stream's segment.
pub fn head(stream: Stream) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&stream.0.to_le_bytes());
    let check = CRC.checksum(&head[..16]);
    head[16..].copy_from_slice(&check.to_le_bytes());
    head
}

impl Record {
    /// Appends the record to what will be written.
    pub fn write(&self, to: &mut Vec<u8>) {
        let from = to.len();
        to.extend(MARK);
        to.extend((self.bytes.len() as u32).to_le_bytes());
        to.extend([0; 4]);
        to.extend([self.class as u8, u8::from(self.dated)]);
        to.extend(self.windows.to_le_bytes());
        to.extend(self.lo.to_le_bytes());
        to.extend(self.hi.to_le_bytes());
        to.extend(self.closed.0.to_le_bytes());
        to.extend(&self.bytes);
        let check = CRC.checksum(&to[from + CHECKED..]);
        to[from + 6..from + CHECKED].copy_from_slice(&check.to_le_bytes());
    }

    /// The record that begins here and how long it is.
    fn read(from: &[u8]) -> Option<(Self, usize)> {
        let head: &[u8; RECORD_BYTES] = from.first_chunk()?;
        let number = |at: usize| head[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let word = |at: usize| head[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let len = word(2)? as usize;
        if head[..2] != MARK || len > FRAME_BYTES_MAX {
            return None;
        }
        let end = RECORD_BYTES + len;
        if CRC.checksum(from.get(CHECKED..end)?) != word(6)? {
            return None;
        }
        let (lo, hi) = (number(14)?, number(22)?);
        let windows = u16::from_le_bytes([head[12], head[13]]);
        let bytes = Bytes::copy_from_slice(&from[RECORD_BYTES..end]);
        let (class, dated, closed) = (Class::from_byte(head[10]), head[11] & 1 != 0, WallMs(number(30)?));
        (lo > 0 && lo <= hi).then_some((Self { lo, hi, class, windows, dated, closed, bytes }, end))
    }
}

/// Reads a whole segment.
pub fn read(bytes: &[u8]) -> Result<(Stream, Segment), NoSegment> {
    let Some(head_bytes) = bytes.first_chunk::<HEAD_BYTES>() else {
        let ours = bytes.iter().zip(MAGIC).all(|(a, b)| *a == b || *a == 0);
        return Err(if ours { NoSegment::Torn } else { NoSegment::Foreign });
    };
    let stream = Stream(u64::from_le_bytes(*head_bytes[8..].first_chunk().ok_or(NoSegment::Foreign)?));
    if head_bytes[..7] == MAGIC[..7] && head_bytes[7] > MAGIC[7] {
        return Err(NoSegment::Newer);
    }
    if *head_bytes != head(stream) {
        let empty = head_bytes.iter().all(|b| *b == 0);
        return Err(if empty { NoSegment::Torn } else { NoSegment::Foreign });
    }
    let mut segment = Segment::default();
    let (mut at, mut damaged) = (HEAD_BYTES, false);
    while at < bytes.len() {
        if let Some((record, len)) = Record::read(&bytes[at..]) {
            segment.corrupt += u32::from(damaged);
            damaged = false;
            segment.records.push(record);
            at += len;
        } else {
            damaged = true;
            let next = bytes[at + 1..].windows(2).position(|pair| pair == MARK);
            at = next.map_or(bytes.len(), |next| at + 1 + next);
        }
    }
    segment.torn = damaged;
    Ok((stream, segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(n: u64, len: usize) -> Record {
        let bytes = (0..len).map(|i| (i as u64 * 31 + n) as u8).collect::<Vec<_>>();
        let (class, closed) = (Class::from_byte(n as u8 % 5), WallMs(1_795_000_000_000 + n));
        Record { lo: n, hi: n, class, windows: 3, dated: n.is_multiple_of(3), closed, bytes: bytes.into() }
    }

    fn segment(records: &[Record]) -> Vec<u8> {
        let mut bytes = head(Stream(7)).to_vec();
        records.iter().for_each(|record| record.write(&mut bytes));
        bytes
    }

    #[test]
    fn a_segment_reads_back_and_costs_little() {
        let records: Vec<Record> = (1..50).map(|n| record(n, 550)).collect();
        let bytes = segment(&records);
        let (stream, read) = read(&bytes).expect("a segment");
        assert_eq!((stream, read.corrupt, read.torn), (Stream(7), 0, false));
        assert_eq!(read.records, records);
        let payload: usize = records.iter().map(|r| r.bytes.len()).sum();
        assert!((bytes.len() as f64) < 1.1 * payload as f64);
    }

    #[test]
    fn what_is_no_segment_is_known() {
        assert_eq!(read(b""), Err(NoSegment::Torn));
        assert_eq!(read(&head(Stream(1))[..9]), Err(NoSegment::Torn));
        assert_eq!(read(&[0; 100]), Err(NoSegment::Torn));
        assert_eq!(read(b"#!/bin/sh\necho hello, I am not yours\n"), Err(NoSegment::Foreign));
        let mut newer = segment(&[record(1, 10)]);
        newer[7] = b'2';
        assert_eq!(read(&newer), Err(NoSegment::Newer));
    }

    proptest! {
        #[test]
        fn damage_costs_the_record_it_hits(lens in prop::collection::vec(1usize..400, 3..12), at in 0.0f64..1.0, bit in 0u8..8) {
            let records: Vec<Record> = lens.iter().enumerate().map(|(i, &len)| record(i as u64 + 1, len)).collect();
            let mut bytes = segment(&records);
            let at = HEAD_BYTES + (at * (bytes.len() - HEAD_BYTES) as f64) as usize;
            bytes[at] ^= 1 << bit;
            let (_, read) = read(&bytes).expect("the head is sound");
            prop_assert_eq!(read.records.len(), records.len() - 1);
            prop_assert!(read.records.iter().all(|r| records.contains(r)));
            prop_assert_eq!(read.corrupt + u32::from(read.torn), 1);
        }

        #[test]
        fn a_cut_keeps_what_is_whole(lens in prop::collection::vec(1usize..400, 1..12), at in 0.0f64..1.0) {
            let records: Vec<Record> = lens.iter().enumerate().map(|(i, &len)| record(i as u64 + 1, len)).collect();
            let bytes = segment(&records);
            let cut = HEAD_BYTES + (at * (bytes.len() - HEAD_BYTES) as f64) as usize;
            let (_, read) = read(&bytes[..cut]).expect("the head is sound");
            prop_assert_eq!(&records[..read.records.len()], &read.records[..]);
            prop_assert_eq!(read.corrupt, 0);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), ours: bool) {
            let mut file = if ours { head(Stream(1)).to_vec() } else { Vec::new() };
            file.extend(bytes);
            let _ = read(&file);
        }
    }
}
