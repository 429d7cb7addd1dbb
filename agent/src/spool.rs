//! Closed windows on their way to the collector: numbered, kept until acknowledged, given up only for want of room.
//!
//! Rules: a frame never changes once it has a number and was sent; at most [`IN_FLIGHT_MAX`] numbers from the
//! lowest unacknowledged one are out; numbers that will never come are declared by a gap. Windows wait unnumbered, and share a
//! frame, until one may be sent. Only frames that were never sent are evicted, oldest first: of a frame that was sent nobody
//! here knows whether the collector has stored it. This spool is in memory; the durable one takes its place behind these verbs.

use bytes::Bytes;
use driftline_shared::units::{Seq, Stream};
use driftline_shared::window::Window;
use driftline_shared::wire::messages::{Gap, GapReason};
use driftline_shared::wire::{self, FRAME_BYTES_MAX, IN_FLIGHT_MAX, Kind, WINDOWS_PER_FRAME_MAX, pack};
use std::collections::VecDeque;

/// Bytes of a frame that are no windows: envelope, stream, number and count, rounded up.
const FRAME_OVERHEAD: usize = 64;

/// Windows between the sketches and the collector.
#[derive(Debug)]
pub struct Spool {
    stream: Stream,
    frames_max: usize,
    /// Encoded windows without a number, at most one frame of them.
    waiting: VecDeque<Box<[u8]>>,
    waiting_bytes: usize,
    /// Numbered and not acknowledged, ascending and without holes.
    records: VecDeque<Record>,
    frames: usize,
    /// Windows in `waiting` and `records`.
    kept: u64,
    /// The number that comes next.
    next: u64,
    /// The highest number ever sent.
    sent: u64,
    /// Where this pass of sending stands.
    cursor: u64,
    scratch: Box<[u8]>,
    counts: Counts,
}

/// Windows by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Handed over.
    pub closed: u64,
    /// Stored by the collector.
    pub acknowledged: u64,
    /// Given up.
    pub evicted: u64,
}

#[derive(Debug)]
struct Record {
    lo: u64,
    hi: u64,
    /// Zero for a gap.
    windows: u32,
    bytes: Bytes,
}

/// What an acknowledgement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// So many windows left the spool, at least one frame or gap.
    Progress(u64),
    /// Nothing new.
    Nothing,
    /// It names another stream.
    Foreign,
    /// It names numbers that were never sent.
    NeverSent,
}

impl Spool {
    /// An empty spool that keeps at most `frames_max` frames, never fewer than may be in flight.
    pub fn new(stream: Stream, frames_max: u32) -> Self {
        Self {
            stream,
            frames_max: (frames_max as usize).max(IN_FLIGHT_MAX as usize + 1),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            records: VecDeque::new(),
            frames: 0,
            kept: 0,
            next: 1,
            sent: 0,
            cursor: 1,
            scratch: vec![0; FRAME_BYTES_MAX].into(),
            counts: Counts::default(),
        }
    }

    /// The life of this spool.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Keeps a closed window.
    pub fn append(&mut self, window: &Window) {
        self.counts.closed += 1;
        let Some(bytes) = pack::encode(window, &mut self.scratch)
            .ok()
            .filter(|&len| len <= FRAME_BYTES_MAX - FRAME_OVERHEAD)
            .and_then(|len| self.scratch.get(..len))
            .map(Box::<[u8]>::from)
        else {
            // FEATURES_MAX features of CELLS_MAX full cells take half a frame; should that ever change, loss stays counted.
            self.counts.evicted += 1;
            return;
        };
        if self.waiting_bytes + bytes.len() > FRAME_BYTES_MAX - FRAME_OVERHEAD {
            self.number();
        }
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        self.kept += 1;
        if self.waiting.len() >= WINDOWS_PER_FRAME_MAX as usize {
            self.number();
        }
    }

    /// The next frame or gap to send, in order; `None` when all is sent or enough is in flight.
    pub fn next_to_send(&mut self) -> Option<Bytes> {
        if self.cursor == self.next && !self.waiting.is_empty() && self.room_for(self.next, self.next) {
            self.number();
        }
        let at = self.records.partition_point(|r| r.hi < self.cursor);
        let record = self.records.get(at)?;
        if !self.room_for(record.lo, record.hi) {
            return None;
        }
        self.cursor = record.hi + 1;
        self.sent = self.sent.max(record.hi);
        Some(record.bytes.clone())
    }

    /// Whether [`Spool::next_to_send`] would give something.
    pub fn has_next(&self) -> bool {
        match self.records.get(self.records.partition_point(|r| r.hi < self.cursor)) {
            Some(record) => self.room_for(record.lo, record.hi),
            None => !self.waiting.is_empty() && self.room_for(self.next, self.next),
        }
    }

    /// Everything unacknowledged is to be sent again.
    pub fn rewind(&mut self) {
        self.cursor = self.lowest();
    }

    /// Whether something was sent and is not acknowledged.
    pub fn in_flight(&self) -> bool {
        self.sent >= self.lowest()
    }

    /// The collector has stored every frame up to `through`.
    pub fn acknowledge(&mut self, stream: Stream, through: Seq) -> Acknowledged {
        if stream != self.stream {
            return Acknowledged::Foreign;
        }
        if through.0 > self.sent {
            return Acknowledged::NeverSent;
        }
        if self.records.front().is_none_or(|r| r.hi > through.0) {
            return Acknowledged::Nothing;
        }
        let mut windows = 0;
        let stored = self.records.partition_point(|r| r.hi <= through.0);
        for record in self.records.drain(..stored) {
            windows += u64::from(record.windows);
            self.frames -= usize::from(record.windows > 0);
        }
        self.counts.acknowledged += windows;
        self.kept -= windows;
        self.cursor = self.cursor.max(self.lowest());
        Acknowledged::Progress(windows)
    }

    /// Windows by what became of them.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Windows kept here.
    pub fn windows_waiting(&self) -> u64 {
        self.kept
    }

    fn lowest(&self) -> u64 {
        self.records.front().map_or(self.next, |r| r.lo)
    }

    /// A gap may span more numbers than the collector's mask has bits; then it waits until nothing lies before it.
    fn room_for(&self, lo: u64, hi: u64) -> bool {
        let lowest = self.lowest();
        hi < lowest + IN_FLIGHT_MAX || lo == lowest
    }

    /// Gives what waits a number.
    fn number(&mut self) {
        let windows = self.waiting.len() as u32;
        let pieces = self.waiting.iter().map(|w| &**w);
        let written = pack::write_encoded(self.stream, Seq(self.next), pieces, &mut self.scratch);
        let bytes = written.ok().and_then(|len| self.scratch.get(..len)).map(Bytes::copy_from_slice);
        self.waiting.clear();
        self.waiting_bytes = 0;
        let Some(bytes) = bytes else {
            // `append` keeps the sum below a frame's size.
            self.give_up(windows);
            return;
        };
        self.records.push_back(Record { lo: self.next, hi: self.next, windows, bytes });
        self.frames += 1;
        self.next += 1;
        if self.frames > self.frames_max {
            self.evict();
        }
    }

    /// Turns the oldest frame that was never sent into a gap, joined with the gap before it if that was never sent either.
    fn evict(&mut self) {
        let first = self.records.partition_point(|r| r.hi <= self.sent);
        let Some(at) = (first..self.records.len()).find(|&at| self.records[at].windows > 0) else { return };
        let (victim_lo, hi, windows) = (self.records[at].lo, self.records[at].hi, self.records[at].windows);
        self.give_up(windows);
        self.frames -= 1;
        let joins = at > first && self.records[at - 1].windows == 0;
        let lo = if joins { self.records[at - 1].lo } else { victim_lo };
        let gap = Gap { stream: self.stream, lo: Seq(lo), hi: Seq(hi), reason: GapReason::Evicted };
        let len = wire::write(Kind::Gap, &gap, &mut self.scratch).expect("a gap is a few bytes and fits any frame");
        let record = Record { lo, hi, windows: 0, bytes: Bytes::copy_from_slice(&self.scratch[..len]) };
        if joins {
            self.records.remove(at);
            self.records[at - 1] = record;
        } else {
            self.records[at] = record;
        }
    }

    fn give_up(&mut self, windows: u32) {
        self.counts.evicted += u64::from(windows);
        self.kept -= u64::from(windows);
    }
}
