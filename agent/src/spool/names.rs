//! Files of the spool's directory: what they are called, and what a cursor holds.

use crc::{CRC_32_ISCSI, Crc};
use driftline_shared::units::Stream;

const CURSOR_BYTES: usize = 20;
/// How the name of a cursor ends until it is whole.
pub const NEW: &str = ".new";
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A row of records of a stream.
pub(super) fn segment_name(stream: Stream, index: u32) -> String {
    format!("{:016x}-{index:06}.seg", stream.0)
}

/// Up to where the collector has stored a stream.
pub(super) fn cursor_name(stream: Stream) -> String {
    format!("{:016x}.ack", stream.0)
}

/// The same, as long as nothing of the stream has left the device.
pub(super) fn home_name(stream: Stream) -> String {
    format!("{:016x}.home", stream.0)
}

/// A cursor that is not whole yet.
pub(super) fn new_name(stream: Stream) -> String {
    format!("{:016x}{NEW}", stream.0)
}

/// What a file is of its stream.
pub(super) enum Part {
    Cursor,
    /// A cursor that was not renamed in time.
    New,
    Home,
    Segment(u32),
}

/// What a start takes at most; the rest waits on the disk for a later one.
const FILES_MAX: usize = 10_000;

/// The spool's own files among these, later segments of a stream after earlier ones, how many others there are, and sentences about them. Of more than
/// `FILES_MAX` whole streams are left out, whose records would look damaged in part.
pub(super) fn own(names: Vec<String>) -> (Vec<(Stream, Part, String)>, usize, Vec<String>) {
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    for name in names {
        match parse_name(&name) {
            Some((stream, part)) => own.push((stream, part, name)),
            None => foreign.push(name),
        }
    }
    own.sort_by(|(a, _, left), (b, _, right)| (a.0, left).cmp(&(b.0, right)));
    foreign.sort();
    let mut strange = Vec::new();
    if let Some(first) = foreign.first() {
        strange.push(match foreign.len() {
            1 => format!("{first} is no part of this spool: it is left alone"),
            many => {
                format!("{many} files are no part of this spool, {first} is the first of them: they are left alone")
            }
        });
    }
    if own.len() > FILES_MAX {
        let cut = own[FILES_MAX].0;
        let whole = own.iter().position(|(stream, ..)| *stream == cut).filter(|whole| *whole > 0).unwrap_or(FILES_MAX);
        let waits = own.len() - whole;
        strange.push(format!(
            "it has {} files, more than the {FILES_MAX} a start takes: {waits} wait for the next start",
            own.len()
        ));
        own.truncate(whole);
    }
    (own, foreign.len(), strange)
}

fn parse_name(name: &str) -> Option<(Stream, Part)> {
    let hex = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Stream);
    match name.rsplit_once('.')? {
        (stem, "ack") => Some((hex(stem)?, Part::Cursor)),
        (stem, "new") => Some((hex(stem)?, Part::New)),
        (stem, "home") => Some((hex(stem)?, Part::Home)),
        (stem, "seg") => {
            let (stream, index) = stem.split_once('-')?;
            Some((hex(stream)?, Part::Segment(index.parse().ok()?)))
        }
        _ => None,
    }
}

/// What a cursor holds.
pub(super) fn cursor_bytes(stream: Stream, through: u64) -> [u8; CURSOR_BYTES] {
    let mut bytes = [0; CURSOR_BYTES];
    bytes[..8].copy_from_slice(&stream.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&through.to_le_bytes());
    let check = CRC.checksum(&bytes[..16]);
    bytes[16..].copy_from_slice(&check.to_le_bytes());
    bytes
}

pub(super) fn parse_cursor(stream: Stream, bytes: &[u8]) -> Option<u64> {
    let through = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    (bytes == cursor_bytes(stream, through)).then_some(through)
}
