//! What gives way when a spool has no room: neighbours become one frame of wider windows, and only then is the oldest given up.

use super::journal::Entry;
use super::record::{Class, Record};
use super::{Spool, coarsen};
use driftline_shared::wire::messages::GapReason;

/// Frames that one frame may be made of.
const COARSE_FRAMES_MAX: u64 = 64;
/// Pairs of neighbours that are tried before a frame is evicted.
const PAIRS_TRIED_MAX: usize = 8;

/// How much a spool keeps: frames in all, and bytes of frames that were not sent yet. At most [`IN_FLIGHT_MAX`] more are on their way.
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
    /// So many frames, however large.
    pub fn of_frames(frames: u32) -> Self {
        Self { frames, samples: u64::MAX, truth: u64::MAX, embeddings: u64::MAX }
    }

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
    /// The class that has to give way, if there is no room for all.
    pub(super) fn pressed(&self) -> Option<Class> {
        let bytes =
            |class| self.unsent().filter(|(_, r)| r.class == class).map(|(_, r)| r.bytes.len() as u64).sum::<u64>();
        let over = |class: &&Class| bytes(**class) > self.room.bytes(**class);
        let crowded = self.frames > self.room.frames as usize;
        // Of frames without a budget of their own to blame, those that give way first and are not out yet.
        let unsent = |class: &&Class| crowded && self.unsent().any(|(_, record)| record.class == **class);
        Class::BUDGETED.iter().find(over).or_else(|| Class::BUDGETED.iter().find(unsent)).copied()
    }

    /// Frames of this start that were never sent, with their places. What an earlier start left may have been sent.
    fn unsent(&self) -> impl Iterator<Item = (usize, &Record)> {
        let line = self.live();
        let first = line.records.partition_point(|r| r.lo <= line.sent);
        line.records.iter().enumerate().skip(first).filter(|(_, record)| record.windows > 0)
    }

    /// Makes one frame of two neighbours, those of which the fewest frames were made, oldest first; false when there are none.
    pub(super) fn coarsen(&mut self, class: Class) -> bool {
        let mut tried: Vec<u64> = Vec::new();
        while tried.len() < PAIRS_TRIED_MAX {
            let pairs = self.unsent().zip(self.unsent().skip(1)).filter(|((at, first), (next, second))| {
                at + 1 == *next
                    && [first.class, second.class].contains(&class)
                    && second.hi - first.lo < COARSE_FRAMES_MAX
                    && !tried.contains(&first.lo)
            });
            let Some(((at, first), (_, second))) = pairs.min_by_key(|((_, first), (_, second))| second.hi - first.lo)
            else {
                return false;
            };
            tried.push(first.lo);
            let (lo, hi, class) = (first.lo, second.hi, first.class.max(second.class));
            let (dated, closed) = (first.dated && second.dated, second.closed);
            let (first, second) = (first.bytes.clone(), second.bytes.clone());
            let Some(coarser) = coarsen::merge(&first, &second, self.slot_ms, &mut self.scratch) else { continue };
            let stream = self.live().stream;
            let Some(bytes) = self.frame(stream, hi, &coarser.windows) else { continue };
            let windows = coarser.windows.len() as u16;
            let record = Record { lo, hi, class, windows, dated, closed, bytes };
            self.counts.merged += coarser.merged;
            self.kept -= coarser.merged;
            self.replace(at, 2, record);
            return true;
        }
        false
    }

    /// Turns the oldest frame of the class into a gap, joined with the gap before it if that was never sent either; false when there
    /// is none.
    pub(super) fn evict(&mut self, class: Class) -> bool {
        let Some((at, victim)) = self.unsent().find(|(_, record)| record.class == class) else { return false };
        let (lo, hi, windows) = (victim.lo, victim.hi, u64::from(victim.windows));
        let line = self.live();
        let before = at.checked_sub(1).and_then(|at| line.records.get(at));
        let gap_lo = before.filter(|before| before.windows == 0 && before.lo > line.sent).map(|before| before.lo);
        let stream = line.stream;
        self.give_up(windows);
        let gap = self.gap(stream, gap_lo.unwrap_or(lo), hi, GapReason::Evicted);
        match gap_lo {
            Some(_) => self.replace(at - 1, 2, gap),
            None => self.replace(at, 1, gap),
        }
        true
    }

    /// Puts a record in the place of some of this start, here and on the disk.
    fn replace(&mut self, at: usize, records: usize, record: Record) {
        let old: Vec<Record> = self.live_mut().records.drain(at..at + records).collect();
        old.iter().for_each(|record| self.lets_go(record));
        self.keeps(&record);
        let stream = self.live().stream;
        self.entry(Entry::Keep(stream, record.clone()));
        self.live_mut().records.insert(at, record);
    }
}
