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
        while let Some((class, crowded)) = self.pressed() {
            let merged = if crowded { self.coarsen_any() } else { self.coarsen(class, false) };
            if !merged && !self.evict(class) {
                break;
            }
        }
    }

    /// The same at a start, where what may have been sent gives way too.
    pub(super) fn make_room(&mut self) {
        while self.frames > self.room.frames as usize && self.coarsen_any() {}
        self.forget_surplus();
        self.relieve();
    }

    /// The class that has to give way, if there is no room for all, and whether frames are too many rather than too large.
    fn pressed(&self) -> Option<(Class, bool)> {
        let bytes = |class| {
            self.unsent().filter(|(_, _, r)| r.class == class).map(|(_, _, r)| r.bytes.len() as u64).sum::<u64>()
        };
        let over = |class: &&Class| bytes(**class) > self.room.bytes(**class);
        if let Some(class) = Class::BUDGETED.iter().find(over) {
            return Some((*class, false));
        }
        let live = self.lines.len() - 1;
        let (mut backlog, mut new) = (0, 0);
        self.unsent().for_each(|(line, _, _)| *(if line == live { &mut new } else { &mut backlog }) += 1);
        let crowded = self.frames > self.room.frames as usize && (backlog > 0 || new > LIVE_FRAMES_MIN);
        let unsent = |class: &&Class| self.unsent().any(|(_, _, record)| record.class == **class);
        Class::BUDGETED.iter().find(unsent).filter(|_| crowded).map(|class| (*class, true))
    }

    /// Frames that were never sent, with their line and their place in it, oldest first.
    pub(super) fn unsent(&self) -> impl Iterator<Item = (usize, usize, &Record)> {
        self.lines.iter().enumerate().filter(|(_, line)| line.sent < u64::MAX).flat_map(|(number, line)| {
            let first = line.records.partition_point(|r| r.lo <= line.sent);
            let unsent = line.records.iter().enumerate().skip(first).filter(|(_, record)| record.windows > 0);
            unsent.map(move |(at, record)| (number, at, record))
        })
    }

    /// Any two neighbours will do.
    fn coarsen_any(&mut self) -> bool {
        Class::BUDGETED.iter().any(|class| self.coarsen(*class, true))
    }

    /// Makes one frame of two neighbours, those of which the fewest frames were made, oldest first; false when there are none.
    fn coarsen(&mut self, class: Class, crowded: bool) -> bool {
        if self.slot_ms == u32::MAX {
            // Nobody knows yet how long windows are, and so how long they may become.
            return false;
        }
        for _ in 0..PAIRS_TRIED_MAX {
            let pairs = self.unsent().zip(self.unsent().skip(1)).filter(|((line, at, first), (of, next, second))| {
                // An embedding may share the frame of samples; truth keeps its own, which is given up last.
                let mixes = first.class.max(second.class) == Class::Samples;
                line == of
                    && at + 1 == *next
                    && [first.class, second.class].contains(&class)
                    && (first.class == second.class || mixes)
                    && second.hi - first.lo < COARSE_FRAMES_MAX
                    && !self.apart.contains(&(self.lines[*line].stream, first.lo))
            });
            let fewest = pairs.min_by_key(|((_, _, first), (_, _, second))| second.hi - first.lo);
            let Some(((line, at, first), (_, _, second))) = fewest else { return false };
            let (lo, hi, class) = (first.lo, second.hi, first.class.max(second.class));
            let mixed = crowded && first.class != second.class;
            let (dated, closed) = (first.dated && second.dated, second.closed);
            let (first, second) = (first.bytes.clone(), second.bytes.clone());
            let stream = self.lines[line].stream;
            let coarser = coarsen::merge(&first, &second, mixed, self.slot_ms, &mut self.scratch);
            let made = coarser.and_then(|coarser| Some((self.frame(stream, lo, hi, &coarser.windows)?, coarser)));
            let Some((bytes, coarser)) = made else {
                self.apart.insert((stream, lo));
                continue;
            };
            let windows = coarser.windows.len() as u16;
            let record = Record { lo, hi, class, windows, dated, closed, bytes };
            self.counts.merged += coarser.merged;
            self.kept -= coarser.merged;
            self.replace(line, at, 2, record);
            return true;
        }
        false
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
    fn evict(&mut self, class: Class) -> bool {
        let Some((number, at, victim)) = self.unsent().find(|(_, _, record)| record.class == class) else {
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
