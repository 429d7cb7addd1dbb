//! Puts numbered frames on the disk, and gets them back after a restart.
//!
//! Every start has a stream of its own, so no number is ever given twice, whatever of the last start was lost. A stream is a row of
//! append-only segments `<stream>-<index>.seg` ([`super::record`]) and a cursor `<stream>.ack`, the number up to which the collector has
//! stored everything. A stream of which frames are written before any was sent has a `<stream>.home`, which becomes the cursor before the first one leaves:
//! by a rename, for which a full disk has room. A batch of frames is one write and one sync. Nothing is ever cut or written over; a segment is removed once every
//! record in it is acknowledged and the cursor that says so is on the disk, or once later records that cover its numbers are: what the
//! spool has merged or evicted takes no room.
//!
//! When a write fails the segment is left as it is, and what was to be written waits and goes to a new segment at the next try.

use super::names::{Part, cursor_bytes, cursor_name, home_name, new_name, own, parse_cursor, segment_name};
use super::record::{self, NoSegment, Record};
use driftline_shared::units::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::io;

/// Segments grow to about this size.
const SEGMENT_BYTES: usize = 1 << 20;
/// The cursor is written when so many numbers were acknowledged since, or when it lets a segment go. What was acknowledged and is not
/// in it is sent once more after a restart, and known by its number.
const CURSOR_EVERY: u64 = 256;
/// Frames that wait for a disk that refuses; the oldest give way, and are then in memory alone.
pub const PENDING_MAX: usize = 50_000;

/// The disk, as far as the spool needs it: one directory.
pub trait Files {
    /// Names in the directory.
    fn list(&mut self) -> io::Result<Vec<String>>;
    /// A whole file.
    fn read(&mut self, name: &str) -> io::Result<Vec<u8>>;
    /// Adds to a file's end; makes it when it is not there.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was added last.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in the place of what had it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes names, renames and removals last.
    fn sync_names(&mut self) -> io::Result<()>;
}

/// Something to be put on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A frame or gap.
    Keep(Stream, Record),
    /// The collector has stored every number up to this one.
    Stored(Stream, u64),
    /// Frames of a stream are about to leave the device.
    Sends {
        /// The stream.
        stream: Stream,
        /// Whether they wait until the disk says so: some of them may stand on it already.
        waits: bool,
    },
}

/// A stream of an earlier start, and what of it the collector has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The stream.
    pub stream: Stream,
    /// Every number up to this one is acknowledged.
    pub after: u64,
    /// Whether some of it may have been sent.
    pub sent: bool,
    /// Frames and gaps, ascending; a number that is missing between them was damaged.
    pub records: Vec<Record>,
}

/// What was found at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Streams with something left to deliver.
    pub streams: Vec<Recovered>,
    /// Damaged places between sound records.
    pub corrupt: u32,
    /// Files that are not the spool's, or that it cannot read.
    pub foreign: usize,
    /// Files with a torn end: the power went while they were written.
    pub torn: u32,
    /// Files that are not this program's, or of a later version, with a sentence each. They stay where they are.
    pub strange: Vec<String>,
}

#[derive(Debug, Default)]
struct Line {
    /// Segments on the disk by index, with how many of their records still count.
    segments: BTreeMap<u32, usize>,
    /// The records that count, by their first number: their last number and their segment.
    records: BTreeMap<u64, (u64, u32)>,
    /// What the cursor on the disk says.
    cursor: u64,
    acknowledged: u64,
    /// Whether the disk says that nothing of it has left the device.
    home: bool,
    /// Whether frames of it leave the device.
    sends: bool,
}

/// The journal of one directory.
#[derive(Debug)]
pub struct Journal<F> {
    files: F,
    live: Stream,
    lines: BTreeMap<Stream, Line>,
    /// Index of the live stream's open segment, and its bytes; `None` before the first, and after a failure.
    open: Option<(u32, usize)>,
    /// The same of the earlier stream that was written to last.
    earlier: Option<(Stream, u32, usize)>,
    next_index: u32,
    pending: VecDeque<Entry>,
    /// Frames that gave way in a full queue.
    unsaved: u64,
    segment_bytes: usize,
    scratch: Vec<u8>,
}

impl Line {
    /// A record stands in a segment, and counts instead of those whose numbers it covers.
    fn place(&mut self, lo: u64, hi: u64, index: u32) {
        *self.segments.entry(index).or_default() += 1;
        let covered: Vec<u64> =
            self.records.range(lo..=hi).filter(|(_, (last, _))| *last <= hi).map(|(lo, _)| *lo).collect();
        covered.into_iter().for_each(|lo| self.no_longer_counts(lo));
        if let Some((_, before)) = self.records.insert(lo, (hi, index)) {
            self.uncount(before);
        }
    }

    /// What is acknowledged counts no more.
    fn settle(&mut self) {
        while let Some((lo, _)) = self.records.first_key_value().filter(|(_, (hi, _))| *hi <= self.acknowledged) {
            let lo = *lo;
            self.no_longer_counts(lo);
        }
    }

    fn no_longer_counts(&mut self, lo: u64) {
        if let Some((_, index)) = self.records.remove(&lo) {
            self.uncount(index);
        }
    }

    fn uncount(&mut self, index: u32) {
        self.segments.entry(index).and_modify(|records| *records = records.saturating_sub(1));
    }
}

impl<F: Files> Journal<F> {
    /// Reads what earlier starts left. Damage never stops a start; a directory that cannot be listed is an empty one, and writing to
    /// it will say why.
    pub fn open(mut files: F, live: Stream) -> (Self, Found) {
        let mut found = Found::default();
        let mut lines: BTreeMap<Stream, Line> = BTreeMap::new();
        let mut records: BTreeMap<Stream, BTreeMap<u64, Record>> = BTreeMap::new();
        let (names, foreign, strange) = own(files.list().unwrap_or_default());
        let told = strange.len();
        found.strange = strange;
        // Of two records of one number the later segment's counts.
        for (stream, part, name) in &names {
            let stream = *stream;
            match *part {
                Part::Home => lines.entry(stream).or_default().home = true,
                Part::Cursor => {
                    let through = files.read(name).ok().and_then(|bytes| parse_cursor(stream, &bytes));
                    let line = lines.entry(stream).or_default();
                    // Without a cursor everything is sent again, and known by its number.
                    (line.cursor, line.acknowledged) = (through.unwrap_or(0), through.unwrap_or(0));
                    line.sends = true;
                }
                Part::Segment(index) => {
                    let bytes = match files.read(name) {
                        Ok(bytes) => bytes,
                        Err(e) => {
                            found.strange.push(format!("{name} cannot be read ({e}): its windows stay on the disk"));
                            continue;
                        }
                    };
                    let line = lines.entry(stream).or_default();
                    match record::read(&bytes) {
                        Ok((of, segment)) if of == stream => {
                            found.corrupt += segment.corrupt;
                            found.torn += u32::from(segment.torn);
                            line.segments.insert(index, 0);
                            let kept = records.entry(stream).or_default();
                            for record in segment.records {
                                line.place(record.lo, record.hi, index);
                                let covered: Vec<u64> =
                                    kept.range(record.lo..=record.hi).filter(|(_, known)| known.hi <= record.hi).map(|(lo, _)| *lo).collect();
                                covered.iter().for_each(|lo| drop(kept.remove(lo)));
                                kept.insert(record.lo, record);
                            }
                        }
                        Err(NoSegment::Torn) => {
                            found.torn += 1;
                            line.segments.insert(index, 0);
                        }
                        Err(NoSegment::Newer) => found.strange.push(format!(
                            "{name} was written by a later version of the agent: it is left alone, update the agent to deliver it"
                        )),
                        Ok(_) | Err(NoSegment::Foreign) => {
                            found.strange.push(format!("{name} is no part of this spool: it is left alone, remove it if nobody needs it"));
                        }
                    }
                }
                Part::New => drop(files.remove(name)),
            }
        }
        // One sentence for each that only a look inside has shown.
        found.foreign = foreign + found.strange.len() - told;
        for (stream, line) in &lines {
            let left = records.remove(stream).unwrap_or_default();
            let records: Vec<Record> = left.into_values().filter(|r| r.hi > line.cursor).collect();
            if !records.is_empty() {
                let sent = line.sends || !line.home;
                found.streams.push(Recovered { stream: *stream, after: line.cursor, sent, records });
            }
        }
        lines.entry(live).or_default();
        let mut journal = Self {
            files,
            live,
            lines,
            open: None,
            earlier: None,
            next_index: 0,
            pending: VecDeque::new(),
            unsaved: 0,
            segment_bytes: SEGMENT_BYTES,
            scratch: Vec::new(),
        };
        let delivered: Vec<Stream> = journal.lines.keys().copied().collect();
        for stream in delivered {
            if stream != live && !found.streams.iter().any(|r| r.stream == stream) {
                // Nothing is lost when this fails: the next start finds it again.
                let _ = journal.forget(stream);
            }
        }
        (journal, found)
    }

    /// Takes entries, to be written by the next [`Journal::commit`]. A frame that is acknowledged before that is not written at all.
    pub fn take(&mut self, entry: Entry) {
        if let Entry::Sends { stream, .. } = entry {
            self.lines.entry(stream).or_default().sends = true;
            return;
        }
        if let Entry::Stored(stored, through) = entry {
            self.pending.retain(|entry| match entry {
                Entry::Keep(stream, record) => *stream != stored || record.hi > through,
                Entry::Stored(stream, earlier) => *stream != stored || *earlier > through,
                Entry::Sends { .. } => true,
            });
        }
        if let Entry::Keep(stream, wide) = &entry
            && (wide.lo < wide.hi || wide.windows == 0)
        {
            // What it covers need not be written first.
            let covers = |record: &Record| wide.lo <= record.lo && record.hi <= wide.hi;
            self.pending.retain(|entry| !matches!(entry, Entry::Keep(of, record) if of == stream && covers(record)));
        }
        if self.pending.len() >= PENDING_MAX {
            self.unsaved += u64::from(matches!(self.pending.pop_front(), Some(Entry::Keep(..))));
        }
        self.pending.push_back(entry);
    }

    /// Frames that were never written because the disk refused for too long.
    pub fn unsaved(&self) -> u64 {
        self.unsaved
    }

    /// Writes what was taken: when this returns, frames survive a power cut. After an error everything still waits.
    pub fn commit(&mut self) -> io::Result<()> {
        self.say_what_leaves()?;
        self.write_earlier()?;
        while self.pending.iter().any(|entry| matches!(entry, Entry::Keep(..))) {
            self.write_segment()?;
        }
        let mut last = Ok(());
        for entry in std::mem::take(&mut self.pending) {
            if let Entry::Stored(stream, through) = entry
                && let Some(line) = self.lines.get_mut(&stream)
            {
                line.acknowledged = line.acknowledged.max(through);
            }
        }
        let streams: Vec<Stream> = self.lines.keys().copied().collect();
        for stream in streams {
            if let Err(error) = self.let_go(stream) {
                last = Err(error);
            }
        }
        last
    }

    /// Writes everything that is known, for an end in good order.
    pub fn close(&mut self) -> io::Result<()> {
        self.commit()?;
        let behind = |line: &Line| line.acknowledged > line.cursor;
        let streams: Vec<Stream> =
            self.lines.iter().filter(|(_, line)| behind(line)).map(|(stream, _)| *stream).collect();
        streams.into_iter().try_for_each(|stream| self.write_cursor(stream))
    }

    /// Says of streams of which frames leave the device that they do.
    fn say_what_leaves(&mut self) -> io::Result<()> {
        let leaving = self.lines.iter().filter(|(_, line)| line.sends && line.home);
        let leaving: Vec<Stream> = leaving.map(|(stream, _)| *stream).collect();
        let mut last = Ok(());
        for stream in leaving {
            match self.files.rename(&home_name(stream), &cursor_name(stream)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => last = Err(e),
                // Without either of them it counts as sent.
                _ => self.lines.entry(stream).or_default().home = false,
            }
            last = last.and(self.files.sync_names());
        }
        last
    }

    /// Writes what takes the place of frames of earlier starts, those of a stream in one segment, before what they stand for is let go of.
    fn write_earlier(&mut self) -> io::Result<()> {
        let earlier = |entry: &Entry| match entry {
            Entry::Keep(stream, _) if *stream != self.live => Some(*stream),
            _ => None,
        };
        while let Some(stream) = self.pending.iter().find_map(earlier) {
            // After all that the stream has: of two records of one number the later one counts.
            let next = self.lines.get(&stream).and_then(|line| line.segments.keys().last()).map_or(0, |last| last + 1);
            let open = self.earlier.filter(|(of, _, size)| *of == stream && *size < self.segment_bytes);
            let (index, size) = open.map_or((next, 0), |(_, index, size)| (index, size));
            self.earlier = None;
            let name = segment_name(stream, index);
            let mut bytes = if size == 0 { record::head(stream).to_vec() } else { Vec::new() };
            let mut placed = Vec::new();
            for entry in &self.pending {
                if let Entry::Keep(of, record) = entry
                    && *of == stream
                    && bytes.len() < self.segment_bytes
                {
                    record.write(&mut bytes);
                    placed.push((record.lo, record.hi));
                }
            }
            // Whatever happens now, the file may be there with some of it.
            self.lines.entry(stream).or_default().segments.entry(index).or_default();
            self.files.append(&name, &bytes)?;
            self.files.sync(&name)?;
            self.files.sync_names()?;
            self.earlier = Some((stream, index, size + bytes.len()));
            let mut left = placed.len();
            self.pending.retain(|entry| {
                let written = left > 0 && matches!(entry, Entry::Keep(of, _) if *of == stream);
                left -= usize::from(written);
                !written
            });
            let line = self.lines.entry(stream).or_default();
            placed.into_iter().for_each(|(lo, hi)| line.place(lo, hi, index));
        }
        Ok(())
    }

    /// Writes frames up to a segment's size. They leave the queue once they are on the disk.
    fn write_segment(&mut self) -> io::Result<()> {
        let fresh = self.open.is_none_or(|(_, bytes)| bytes >= self.segment_bytes);
        let (index, mut size) = match self.open.take() {
            Some(open) if !fresh => open,
            _ => (self.next_index, 0),
        };
        self.next_index = self.next_index.max(index + 1);
        self.scratch.clear();
        if size == 0 {
            self.scratch.extend(record::head(self.live));
        }
        let (mut taken, mut placed) = (0, Vec::new());
        for entry in &self.pending {
            if size + self.scratch.len() >= self.segment_bytes {
                break;
            }
            taken += 1;
            if let Entry::Keep(stream, record) = entry
                && *stream == self.live
            {
                record.write(&mut self.scratch);
                placed.push((record.lo, record.hi));
            }
        }
        if self.lines.get(&self.live).is_none_or(|line| !line.sends && !line.home && line.segments.is_empty()) {
            self.write_whole(self.live, home_name(self.live), 0)?;
            self.lines.entry(self.live).or_default().home = true;
        }
        let name = segment_name(self.live, index);
        // Whatever happens now, the file may be there with some of it.
        self.lines.entry(self.live).or_default().segments.entry(index).or_default();
        self.files.append(&name, &self.scratch)?;
        self.files.sync(&name)?;
        if size == 0 {
            self.files.sync_names()?;
        }
        size += self.scratch.len();
        self.open = Some((index, size));
        // Acknowledgements among them are kept for the end of the commit.
        let written: Vec<Entry> = self.pending.drain(..taken).collect();
        let stored = written.into_iter().filter(|entry| matches!(entry, Entry::Stored(..)));
        stored.for_each(|entry| self.pending.push_back(entry));
        let line = self.lines.entry(self.live).or_default();
        placed.into_iter().for_each(|(lo, hi)| line.place(lo, hi, index));
        Ok(())
    }

    /// Writes the cursor and removes segments when it is time.
    fn let_go(&mut self, stream: Stream) -> io::Result<()> {
        let Some(line) = self.lines.get_mut(&stream) else { return Ok(()) };
        line.settle();
        if line.records.is_empty() && self.earlier.is_some_and(|(of, _, _)| of == stream) {
            // All of it is delivered: nothing more is written.
            self.earlier = None;
        }
        let of_earlier = self.earlier.filter(|(of, _, _)| *of == stream).map(|(_, index, _)| index);
        let of_live = self.open.filter(|_| stream == self.live).map(|(index, _)| index);
        let open = of_earlier.or(of_live);
        let acknowledged = line.acknowledged;
        let done = line.segments.iter().filter(|(index, records)| **records == 0 && Some(**index) != open);
        let done: Vec<u32> = done.map(|(index, _)| *index).collect();
        if acknowledged > line.cursor && (!done.is_empty() || acknowledged - line.cursor >= CURSOR_EVERY) {
            self.write_cursor(stream)?;
        }
        for index in done {
            self.remove(&segment_name(stream, index))?;
            self.lines.entry(stream).or_default().segments.remove(&index);
        }
        let empty = self.lines.get(&stream).is_some_and(|line| line.segments.is_empty());
        if empty && stream != self.live { self.forget(stream) } else { Ok(()) }
    }

    /// Puts the cursor on the disk.
    fn write_cursor(&mut self, stream: Stream) -> io::Result<()> {
        let Some(acknowledged) = self.lines.get(&stream).map(|line| line.acknowledged) else { return Ok(()) };
        self.write_whole(stream, cursor_name(stream), acknowledged)?;
        self.lines.entry(stream).or_default().cursor = acknowledged;
        Ok(())
    }

    /// Written beside, synced, renamed.
    fn write_whole(&mut self, stream: Stream, name: String, through: u64) -> io::Result<()> {
        let new = new_name(stream);
        // A leftover of a failed try would be added to.
        let _ = self.files.remove(&new);
        self.files.append(&new, &cursor_bytes(stream, through))?;
        self.files.sync(&new)?;
        self.files.rename(&new, &name)?;
        self.files.sync_names()
    }

    /// Removes what is left of a stream that is delivered: the cursor last, since without it segments would be sent again.
    fn forget(&mut self, stream: Stream) -> io::Result<()> {
        let Some(line) = self.lines.get(&stream) else { return Ok(()) };
        let segments: Vec<u32> = line.segments.keys().copied().collect();
        segments.into_iter().try_for_each(|index| self.remove(&segment_name(stream, index)))?;
        self.files.sync_names()?;
        self.remove(&home_name(stream))?;
        self.remove(&cursor_name(stream))?;
        self.lines.remove(&stream);
        Ok(())
    }

    /// A file that a disk refused to make need not be removed.
    fn remove(&mut self, name: &str) -> io::Result<()> {
        match self.files.remove(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::{FaultFs, Op};
    use super::super::record::Class;
    use super::*;
    use driftline_shared::random::Random;
    use driftline_shared::units::WallMs;
    use std::collections::BTreeSet;

    fn record(n: u64) -> Record {
        let bytes = (0..200 + n % 300).map(|i| (i * 31 + n) as u8).collect::<Vec<_>>();
        Record { lo: n, hi: n, class: Class::Samples, windows: 1, dated: true, closed: WallMs(n), bytes: bytes.into() }
    }

    /// What the spool makes of frame `n` and the one after it.
    fn merged(n: u64) -> Record {
        let bytes = [&record(n).bytes[..], &record(n + 1).bytes[..]].concat();
        Record { lo: n, hi: n + 1, windows: 2, bytes: bytes.into(), ..record(n + 1) }
    }

    /// With segments of about ten records.
    fn open(files: FaultFs, live: u64) -> (Journal<FaultFs>, Found) {
        let (mut journal, found) = Journal::open(files, Stream(live));
        journal.segment_bytes = 4_096;
        (journal, found)
    }

    fn left(found: &Found) -> BTreeSet<(u64, u64)> {
        let numbers = |s: &Recovered| -> Vec<(u64, u64)> {
            s.records.iter().flat_map(|r| (r.lo..=r.hi).map(|n| (s.stream.0, n))).collect()
        };
        let all: Vec<_> = found.streams.iter().flat_map(numbers).collect();
        let left: BTreeSet<_> = all.iter().copied().collect();
        assert_eq!(left.len(), all.len(), "nothing comes back twice");
        left
    }

    /// What was promised, by length of the log of operations.
    #[derive(Default)]
    struct Promise {
        durable: Vec<(usize, (u64, u64))>,
        acknowledged: Vec<(usize, (u64, u64))>,
        /// Streams of which something has left the device.
        left: Vec<(usize, u64)>,
    }

    /// Three starts of an agent that keeps frames and has some acknowledged: the log and the promises.
    fn script(seed: u64, sink: &FaultFs) -> Promise {
        let mut random = Random::new(seed);
        let mut promise = Promise::default();
        let mut next: u64;
        for start in 1..=3u64 {
            let (mut journal, found) = open(sink.clone(), start);
            let mut old: Vec<(u64, u64)> = left(&found).into_iter().collect();
            next = 1;
            let (mut acknowledged, mut wide) = (0, BTreeSet::new());
            // At once, or after some of it has come to the disk.
            let (mut leaves, from) = (false, random.bits() % 5);
            for round in 0..12 {
                if round == from {
                    leaves = true;
                    journal.take(Entry::Sends { stream: Stream(start), waits: from > 0 });
                    if from > 0 {
                        journal.commit().expect("a sound disk");
                    }
                    promise.left.push((sink.log().len(), start));
                }
                let many = 1 + random.bits() % 40;
                let kept: Vec<u64> = (next..next + many).collect();
                next += many;
                kept.iter().for_each(|&n| journal.take(Entry::Keep(Stream(start), record(n))));
                // Of the same commit, or of an earlier one.
                let pairs = (acknowledged + 1..next - 1).step_by(2).filter(|n| !wide.contains(n) && n % 3 == 0);
                for n in pairs.take(5).collect::<Vec<_>>() {
                    wide.insert(n);
                    wide.insert(n + 1);
                    journal.take(Entry::Keep(Stream(start), merged(n)));
                }
                if leaves && random.unit() < 0.5 && acknowledged < next - 1 {
                    let through = acknowledged + 1 + random.bits() % (next - 1 - acknowledged);
                    // A frame is acknowledged whole.
                    let through =
                        if wide.contains(&through) && wide.contains(&(through + 1)) { next - 1 } else { through };
                    journal.take(Entry::Stored(Stream(start), through));
                    // The collector knows from now on, whatever becomes of our disk.
                    let at = sink.log().len();
                    promise.acknowledged.extend((acknowledged + 1..=through).map(|n| (at, (start, n))));
                    acknowledged = through;
                }
                if random.unit() < 0.3 && !old.is_empty() {
                    let (stream, n) = old.remove(0);
                    journal.take(Entry::Sends { stream: Stream(stream), waits: true });
                    journal.commit().expect("a sound disk");
                    promise.left.push((sink.log().len(), stream));
                    journal.take(Entry::Stored(Stream(stream), n));
                    promise.acknowledged.push((sink.log().len(), (stream, n)));
                }
                if journal.commit().is_ok() {
                    let at = sink.log().len();
                    promise.durable.extend(kept.iter().map(|&n| (at, (start, n))));
                }
            }
            if start == 2 {
                journal.close().expect("a sound disk");
            }
        }
        promise
    }

    fn check(seed: u64, crash: &FaultFs, promise: &Promise, at: usize) {
        let (_, found) = open(crash.clone(), 99);
        let left = left(&found);
        let acknowledged: BTreeSet<_> =
            promise.acknowledged.iter().filter(|(n, _)| *n <= at).map(|(_, r)| *r).collect();
        for (_, kept) in promise.durable.iter().filter(|(n, _)| *n <= at) {
            assert!(
                left.contains(kept) || acknowledged.contains(kept),
                "seed {seed}, {at} operations: {kept:?} is lost"
            );
        }
        for (_, stream) in promise.left.iter().filter(|(n, _)| *n <= at) {
            let known = found.streams.iter().find(|s| s.stream.0 == *stream).is_none_or(|s| s.sent);
            assert!(known, "seed {seed}, {at} operations: some of stream {stream} has left");
        }
        for recovered in found.streams.iter().flat_map(|s| &s.records) {
            let written = if recovered.lo < recovered.hi { merged(recovered.lo) } else { record(recovered.lo) };
            assert_eq!(*recovered, written, "seed {seed}, {at} operations: never written");
        }
    }

    #[test]
    fn no_power_cut_loses_what_was_durable_or_delivers_what_was_not_written() {
        for seed in 0..3 {
            let sink = FaultFs::default();
            let promise = script(seed, &sink);
            let log = sink.log();
            assert!(log.len() > 100 && log.iter().any(|op| matches!(op, Op::Remove(_))), "{}", log.len());
            let mut random = Random::new(seed);
            for at in 0..=log.len() {
                for _ in 0..4 {
                    check(seed, &FaultFs::crash(&log[..at], &mut random), &promise, at);
                }
            }
        }
    }

    #[test]
    fn a_disk_that_refuses_loses_nothing_once_it_works_again() {
        for seed in 0..40 {
            let sink = FaultFs::default();
            let mut random = Random::new(seed);
            let (mut journal, _) = open(sink.clone(), 1);
            for n in 1..=60 {
                journal.take(Entry::Keep(Stream(1), record(n)));
                if n == 30 {
                    journal.take(Entry::Sends { stream: Stream(1), waits: true });
                }
                sink.fill(random.unit() < 0.3);
                sink.fail(random.unit() < 0.3);
                sink.unsync(random.unit() < 0.3);
                let _ = journal.commit();
            }
            sink.fill(false);
            sink.fail(false);
            sink.unsync(false);
            journal.commit().expect("works again");
            // What was made to last does, whatever of the tries before it is left.
            let (_, found) = open(sink.power_cut(&mut random), 2);
            assert_eq!(left(&found), (1..=60).map(|n| (1, n)).collect(), "seed {seed}");
            let (_, found) = open(sink.clone(), 2);
            assert_eq!(left(&found), (1..=60).map(|n| (1, n)).collect(), "seed {seed}");
            assert_eq!(found.streams[0].records, (1..=60).map(record).collect::<Vec<_>>());
            assert!(found.streams[0].sent, "seed {seed}");
        }
    }

    #[test]
    fn what_is_delivered_leaves_the_disk_and_little_else_is_written() {
        // With a link that works hardly anything is written, and without one what is written is what there is to send.
        for (acknowledged, most) in [(true, 0.1), (false, 1.2)] {
            let sink = FaultFs::default();
            let (mut journal, _) = open(sink.clone(), 1);
            journal.segment_bytes = SEGMENT_BYTES;
            let mut payload = 0;
            for n in 1..=2_000u64 {
                payload += record(n).bytes.len();
                journal.take(Entry::Keep(Stream(1), record(n)));
                if acknowledged {
                    journal.take(Entry::Stored(Stream(1), n));
                }
                if n % 5 == 0 {
                    journal.commit().expect("a sound disk");
                }
            }
            journal.close().expect("a sound disk");
            let appended = |op: &Op| if let Op::Append(_, bytes) = op { bytes.len() } else { 0 };
            let written: usize = sink.log().iter().map(appended).sum();
            assert!((written as f64) < most * payload as f64, "{written} for {payload}");
            assert!(acknowledged || written >= payload, "{written} for {payload}");
        }
        let sink = FaultFs::default();
        let (mut journal, _) = open(sink.clone(), 1);
        for n in 1..=10_000u64 {
            journal.take(Entry::Keep(Stream(1), record(n)));
            journal.take(Entry::Stored(Stream(1), n));
            if n % 5 == 0 {
                journal.commit().expect("a sound disk");
            }
        }
        journal.close().expect("a sound disk");
        assert!(sink.clone().list().expect("a listing").len() <= 3);
        let (_, found) = open(sink.clone(), 2);
        assert_eq!(found, Found::default());
        assert_eq!(sink.clone().list().expect("a listing"), Vec::<String>::new());
    }

    #[test]
    fn a_gap_over_frames_of_an_earlier_start_takes_their_place() {
        let sink = FaultFs::default();
        let (mut journal, _) = open(sink.clone(), 1);
        (1..=100).for_each(|n| journal.take(Entry::Keep(Stream(1), record(n))));
        journal.commit().expect("a sound disk");
        let segments = || sink.clone().list().expect("a listing").iter().filter(|n| n.ends_with(".seg")).count();
        let before = segments();
        let (mut journal, _) = open(sink.clone(), 2);
        journal.take(Entry::Keep(Stream(1), Record { lo: 1, hi: 60, windows: 0, ..record(60) }));
        journal.take(Entry::Keep(Stream(2), record(1)));
        journal.commit().expect("a sound disk");
        assert!(segments() < before, "{} segments, {before} before", segments());
        // Also when the power goes now, and again.
        for start in 3..5 {
            let (_, found) = open(sink.clone(), start);
            let of_first = found.streams.iter().find(|s| s.stream == Stream(1)).expect("the first stream");
            let numbers: Vec<(u64, u64)> = of_first.records.iter().map(|r| (r.lo, r.hi)).collect();
            assert_eq!(numbers[0], (1, 60));
            assert_eq!(numbers[1..], (61..=100).map(|n| (n, n)).collect::<Vec<_>>());
            assert_eq!(left(&found).iter().filter(|(stream, _)| *stream == 2).count(), 1);
        }
        // Written to and delivered in one life: nothing of it stays.
        let (mut journal, _) = open(sink.clone(), 5);
        journal.take(Entry::Keep(Stream(1), Record { lo: 61, hi: 70, windows: 0, ..record(70) }));
        journal.commit().expect("a sound disk");
        journal.take(Entry::Stored(Stream(1), 100));
        journal.commit().expect("a sound disk");
        let of_first = format!("{:016x}", 1);
        assert!(!sink.clone().list().expect("a listing").iter().any(|name| name.starts_with(&of_first)));
    }

    #[test]
    fn what_is_evicted_takes_no_room() {
        let sink = FaultFs::default();
        let (mut journal, _) = open(sink.clone(), 1);
        for n in 1..=2_000u64 {
            journal.take(Entry::Keep(Stream(1), record(n)));
            if n > 100 {
                // A spool of a hundred frames.
                let gap = Record { lo: 1, hi: n - 100, windows: 0, ..record(n) };
                journal.take(Entry::Keep(Stream(1), gap));
            }
            journal.commit().expect("a sound disk");
        }
        let files = sink.clone().list().expect("a listing").len();
        assert!(files < 40, "{files} segments of ten records for a hundred frames and their gaps");
        let (_, found) = open(sink, 2);
        let numbers: Vec<(u64, u64)> = found.streams[0].records.iter().map(|r| (r.lo, r.hi)).collect();
        assert_eq!(numbers[0], (1, 1_900));
        assert_eq!(numbers[1..], (1_901..=2_000).map(|n| (n, n)).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_merged_takes_no_room() {
        let sink = FaultFs::default();
        let (mut journal, _) = open(sink.clone(), 1);
        for n in 1..=400u64 {
            journal.take(Entry::Keep(Stream(1), record(n)));
            journal.commit().expect("a sound disk");
        }
        let before = sink.clone().list().expect("a listing").len();
        for n in (1..400).step_by(2) {
            let wide = Record { lo: n, hi: n + 1, windows: 2, ..record(n + 1) };
            journal.take(Entry::Keep(Stream(1), wide));
            journal.commit().expect("a sound disk");
        }
        let after = sink.clone().list().expect("a listing").len();
        assert!(after <= before / 2 + 2, "{after} segments for half of what took {before}");
        let (_, found) = open(sink, 2);
        let numbers: Vec<(u64, u64)> = found.streams[0].records.iter().map(|r| (r.lo, r.hi)).collect();
        assert_eq!(numbers, (1..400).step_by(2).map(|n| (n, n + 1)).collect::<Vec<_>>());
    }

    #[test]
    fn of_more_files_than_a_start_takes_whole_streams_wait_for_the_next() {
        let mut sink = FaultFs::default();
        for stream in (1..=6_000).map(Stream) {
            let mut segment = record::head(stream).to_vec();
            record(1).write(&mut segment);
            sink.append(&segment_name(stream, 0), &segment).expect("kept");
            sink.append(&home_name(stream), &cursor_bytes(stream, 0)).expect("kept");
        }
        let (mut journal, found) = open(sink.clone(), 10_000);
        // Each has a segment and says that it never left.
        assert_eq!((found.streams.len(), found.corrupt, found.torn), (5_000, 0, 0));
        assert!(found.strange[0].contains("it has 12000 files"), "{:?}", found.strange);
        found.streams.iter().for_each(|of| journal.take(Entry::Stored(of.stream, 1)));
        journal.commit().expect("a sound disk");
        assert_eq!(open(sink, 10_001).1.streams.len(), 1_000);
    }

    #[test]
    fn strange_files_are_named_and_left_alone() {
        let mut sink = FaultFs::default();
        let mut newer = record::head(Stream(5)).to_vec();
        newer[7] = b'9';
        sink.append(&segment_name(Stream(5), 0), &newer).expect("kept");
        sink.append("notes.txt", b"mine").expect("kept");
        sink.append(&segment_name(Stream(6), 0), b"not a segment, though it is called so").expect("kept");
        sink.append(&cursor_name(Stream(7)), b"nonsense").expect("kept");
        let before = sink.list().expect("a listing").len();
        sink.append("mine.new", b"mine too").expect("kept");
        let before = before + 1;
        let (mut journal, found) = open(sink.clone(), 1);
        assert_eq!((found.strange.len(), found.foreign), (3, 4), "{:?}", found.strange);
        assert!(
            found.strange[0].starts_with("2 files are no part of this spool, mine.new is the first"),
            "{:?}",
            found.strange
        );
        assert!(found.strange.iter().any(|s| s.contains("later version")));
        journal.take(Entry::Keep(Stream(1), record(1)));
        journal.commit().expect("goes on");
        // The cursor of nothing is gone; the new segment is there, and that nothing of it has left.
        assert_eq!(sink.list().expect("a listing").len(), before + 1);
    }
}
