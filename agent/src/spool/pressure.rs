//! What gives way when a spool has no room: neighbours become one frame of wider windows, and only then is the oldest given up.

use super::journal::Entry;
use super::record::{Class, Record};
use super::{Spool, coarsen};
use driftline_shared::units::Stream;
use driftline_shared::wire::messages::GapReason;

/// Frames that one frame may be made of.
const COARSE_FRAMES_MAX: u64 = 64;
/// Frames of this start that are kept however full it is: a backlog that may have been sent, which does not give way, would take every new window.
const LIVE_FRAMES_MIN: usize = 64;
/// Pairs of neighbours that are tried before a frame is evicted.
const PAIRS_TRIED_MAX: usize = 8;

/// How much a spool keeps: frames in all (what earlier starts left, and at least [`LIVE_FRAMES_MIN`] of this one), and bytes of frames that were not sent yet. At most [`IN_FLIGHT_MAX`] more are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Frames, never fewer than may be in flight.
    pub frames: u32,
    /// Bytes of frames with windows of samples.
    pub samples: u64,
    /// Bytes of frames with truth that came late.
    pub truth: u64,
    /// Bytes of frames with embeddings.
    pub embeddings: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { frames: 2_000, samples: 16 << 20, truth: 1 << 20, embeddings: 4 << 20 }
    }
}

impl Room {
    fn bytes(&self, class: Class) -> u64 {
        match class {
            Class::Embedding => self.embeddings,
            Class::Samples => self.samples,
            Class::Truth => self.truth,
            Class::Gap => u64::MAX,
        }
    }
}

impl Spool {
    /// Makes neighbours wider until there is room, and where there are none gives up the oldest.
    pub(super) fn relieve(&mut self) {
        let all = self.lines.len();
        while let Some(class) = self.too_large() {
            if !self.coarsen(class, false) && !self.evict(class, all) {
                break;
            }
        }
        while self.frames > self.room.frames as usize {
            let enough = self.unsent(all).filter(|(line, _, _)| line + 1 == all).count() > LIVE_FRAMES_MIN;
            if !enough && self.unsent(all - 1).next().is_none() {
                break;
            }
            // Any two will do.
            let merged = Class::BUDGETED.iter().any(|class| self.coarsen(*class, true));
            let give_way = if enough { all } else { all - 1 };
            if !merged && !Class::BUDGETED.iter().any(|class| self.evict(*class, give_way)) {
                break;
            }
        }
    }

    /// The same at a start, where what may have been sent gives way too. Neighbours are merged in rounds, since there may be very many.
    pub(super) fn make_room(&mut self) {
        let mut merged = true;
        while merged && self.frames > self.room.frames as usize {
            merged = false;
            for line in 0..self.lines.len() - 1 {
                merged |= self.coarsen_all(line);
            }
        }
        self.forget_surplus();
        self.relieve();
    }

    /// Merges every two neighbours of a line that was never sent, as long as there is no room; whether there were any.
    fn coarsen_all(&mut self, line: usize) -> bool {
        if self.lines[line].sent == u64::MAX {
            return false;
        }
        let mut left = std::mem::take(&mut self.lines[line].records);
        let (stream, before) = (self.lines[line].stream, left.len());
        let mut kept = std::collections::VecDeque::with_capacity(before);
        while let Some(first) = left.pop_front() {
            let crowded = self.frames > self.room.frames as usize;
            let wider = left.front().filter(|_| crowded).and_then(|second| self.wider(line, &first, second, true));
            if let Some(wider) = wider {
                left.pop_front();
                self.frames -= 1;
                self.entry(Entry::Keep(stream, wider.clone()));
                kept.push_back(wider);
            } else {
                kept.push_back(first);
            }
        }
        let merged = kept.len() < before;
        self.lines[line].records = kept;
        merged
    }

    /// The class whose frames are too large together, if any.
    fn too_large(&self) -> Option<Class> {
        let unsent = || self.unsent(self.lines.len());
        let bytes =
            |class| unsent().filter(|(_, _, r)| r.class == class).map(|(_, _, r)| r.bytes.len() as u64).sum::<u64>();
        Class::BUDGETED.iter().copied().find(|class| bytes(*class) > self.room.bytes(*class))
    }

    /// Frames of the first so many lines that were never sent, with their line and their place in it, oldest first.
    pub(super) fn unsent(&self, lines: usize) -> impl Iterator<Item = (usize, usize, &Record)> {
        self.lines.iter().enumerate().take(lines).filter(|(_, line)| line.sent < u64::MAX).flat_map(|(number, line)| {
            let first = line.records.partition_point(|r| r.lo <= line.sent);
            let unsent = line.records.iter().enumerate().skip(first).filter(|(_, record)| record.windows > 0);
            unsent.map(move |(at, record)| (number, at, record))
        })
    }

    /// Makes one frame of two neighbours, those of which the fewest frames were made, oldest first; false when there are none.
    fn coarsen(&mut self, class: Class, crowded: bool) -> bool {
        for _ in 0..PAIRS_TRIED_MAX {
            let unsent = || self.unsent(self.lines.len());
            let pairs = unsent().zip(unsent().skip(1)).filter(|((line, at, first), (of, next, second))| {
                line == of
                    && at + 1 == *next
                    && [first.class, second.class].contains(&class)
                    && !self.apart.contains(&(self.lines[*line].stream, first.lo))
                    && goes_with(first, second)
            });
            let fewest = pairs.min_by_key(|((_, _, first), (_, _, second))| second.hi - first.lo);
            let Some(((line, at, first), (_, _, second))) = fewest else { return false };
            let (first, second) = (first.clone(), second.clone());
            if let Some(wider) = self.wider(line, &first, &second, crowded) {
                self.replace(line, at, 2, wider);
                return true;
            }
            self.apart.insert((self.lines[line].stream, first.lo));
        }
        false
    }

    /// One frame of two, if their windows allow it.
    fn wider(&mut self, line: usize, first: &Record, second: &Record, crowded: bool) -> Option<Record> {
        if first.windows == 0 || second.windows == 0 || !goes_with(first, second) {
            return None;
        }
        // Of an earlier start only windows whose length is known.
        let of = if line + 1 == self.lines.len() { None } else { Some(self.release?) };
        let class = first.class.max(second.class);
        let mixed = crowded && first.class != second.class;
        let coarser = coarsen::merge(&first.bytes, &second.bytes, mixed, self.slot_ms, of, &mut self.scratch)?;
        let (stream, lo, hi) = (self.lines[line].stream, first.lo, second.hi);
        let bytes = self.frame(stream, lo, hi, &coarser.windows)?;
        self.counts.merged += coarser.merged;
        self.kept -= coarser.merged;
        let (windows, dated) = (coarser.windows.len() as u16, first.dated && second.dated);
        Some(Record { lo, hi, class, windows, dated, closed: second.closed, bytes })
    }

    /// Gives up the oldest frames of earlier starts that are more than there is room for, so that starts without a collector do not pile up.
    /// Whether it has some of them nobody here knows: they count as given up, and the collector keeps what it has.
    fn forget_surplus(&mut self) {
        let earlier = self.lines.len() - 1;
        for at in 0..earlier {
            let stream = self.lines[at].stream;
            // Numbers in a row without their windows, and what else there was: gaps over what was damaged.
            let (mut given_up, mut gaps): (Option<(u64, u64)>, Vec<Record>) = (None, Vec::new());
            while self.frames > self.room.frames as usize {
                let Some(record) = self.lines[at].records.pop_front() else { break };
                self.lets_go(&record);
                self.give_up(u64::from(record.windows));
                if record.windows > 0 {
                    given_up = Some((given_up.map_or(record.lo, |(lo, _)| lo), record.hi));
                } else {
                    gaps.extend(given_up.take().map(|(lo, hi)| self.gave_up(stream, lo, hi)));
                    gaps.push(record);
                }
            }
            gaps.extend(given_up.map(|(lo, hi)| self.gave_up(stream, lo, hi)));
            gaps.into_iter().rev().for_each(|gap| self.lines[at].records.push_front(gap));
            self.lines[at].cursor = self.lines[at].lowest();
        }
    }

    /// A gap in the place of frames, here and on the disk.
    fn gave_up(&mut self, stream: Stream, lo: u64, hi: u64) -> Record {
        let gap = self.gap(stream, lo, hi, GapReason::Evicted);
        self.entry(Entry::Keep(stream, gap.clone()));
        gap
    }

    /// Turns the oldest frame of the class into a gap, joined with the gaps beside it that were never sent either; false when there is none.
    fn evict(&mut self, class: Class, lines: usize) -> bool {
        let Some((number, at, victim)) = self.unsent(lines).find(|(_, _, record)| record.class == class) else {
            return false;
        };
        let (lo, hi, windows) = (victim.lo, victim.hi, u64::from(victim.windows));
        let line = &self.lines[number];
        let stream = line.stream;
        let unsent_gap = |at: Option<usize>| {
            // Between frames of an earlier start a gap may also be what was damaged.
            let record = at.and_then(|at| line.records.get(at)).filter(|_| stream == self.stream());
            record.filter(|record| record.windows == 0 && record.lo > line.sent)
        };
        let (before, after) = (unsent_gap(at.checked_sub(1)), unsent_gap(Some(at + 1)));
        let first = at - usize::from(before.is_some());
        let many = 1 + usize::from(before.is_some()) + usize::from(after.is_some());
        let (lo, hi) = (before.map_or(lo, |r| r.lo), after.map_or(hi, |r| r.hi));
        self.give_up(windows);
        let gap = self.gap(stream, lo, hi, GapReason::Evicted);
        self.replace(number, first, many, gap);
        true
    }

    /// Puts a record in the place of some of a line, here and on the disk.
    fn replace(&mut self, line: usize, at: usize, records: usize, record: Record) {
        let stream = self.lines[line].stream;
        let old: Vec<Record> = self.lines[line].records.drain(at..at + records).collect();
        for record in &old {
            self.lets_go(record);
            self.apart.remove(&(stream, record.lo));
        }
        // What stands before it has another neighbour now.
        if let Some(before) = at.checked_sub(1).and_then(|at| self.lines[line].records.get(at)).map(|r| r.lo) {
            self.apart.remove(&(stream, before));
        }
        self.keeps(&record);
        self.entry(Entry::Keep(stream, record.clone()));
        self.lines[line].records.insert(at, record);
    }
}

/// Whether two frames may share one: an embedding that of samples, while truth keeps its own, which is given up last.
fn goes_with(first: &Record, second: &Record) -> bool {
    let mixes = first.class.max(second.class) == Class::Samples;
    (first.class == second.class || mixes) && second.hi - first.lo < COARSE_FRAMES_MAX
}
