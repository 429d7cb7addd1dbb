//! Which frames have been stored: a high-water mark and a 63-bit mask per device and stream.
//!
//! MQTT repeats and reorders; merging a sketch twice would be wrong for ever. A frame is merged only when this table admits its
//! number, in the transaction that stores both. The device keeps at most 60 frames in flight, so a number that is further
//! than 63 ahead comes from a device that breaks the protocol; it is refused and not acknowledged.

use driftline_shared::units::{Name, Seq, Stream};
use driftline_shared::wire::messages::{Gap, GapReason};
use std::collections::BTreeMap;

/// One device's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// Every number up to this one is settled: stored, or declared lost.
    pub through: Seq,
    /// Bit `i`: number `through + 1 + i` is settled.
    pub mask: u64,
    /// Numbers declared lost.
    pub lost: u64,
    /// The number admitted last.
    pub last_seq: Seq,
    /// Its frame's checksum.
    pub last_crc: u32,
}

/// What the ledger says of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// New: store it.
    Accepted,
    /// Stored before: acknowledge again, do not merge.
    Duplicate,
    /// A wide frame of which a part is settled: acknowledged and not merged, and so many other numbers of it are lost.
    Overlap(u64),
    /// The same number as the frame before, another content: two devices share one identity. Never merged.
    Cloned,
    /// Further ahead than any device may be.
    TooFarAhead,
}

impl Admission {
    /// Whether numbers were settled that were open before.
    pub fn settles(self) -> bool {
        matches!(self, Self::Accepted | Self::Overlap(_))
    }
}

/// Streams kept per device. Every start of an agent has one; the one that was used least lately gives way.
pub const STREAMS_PER_DEVICE_MAX: usize = 64;

/// Width of the mask in use.
const AHEAD_MAX: u64 = 63;

impl Entry {
    /// Admits frame `seq` with this checksum, which stands for the `back` numbers before it too. Where some of them are settled and others not
    /// it is not merged, and the others count as lost: the device's disk had refused to note that the first ones had left, and lost the power.
    pub fn admit_back(&mut self, seq: Seq, back: u32, crc: u32) -> Admission {
        let lo = seq.0.saturating_sub(back.into());
        if back == 0 || lo == 0 {
            return self.admit(seq, crc);
        }
        if seq.0 <= self.through.0 {
            // Or made of frames that are settled: no sign of a clone.
            return Admission::Duplicate;
        }
        if lo > self.through.0.saturating_add(1) && seq.0 - self.through.0 > AHEAD_MAX {
            return Admission::TooFarAhead;
        }
        let beyond = lo.max(self.through.0.saturating_add(1))..=seq.0.min(self.through.0.saturating_add(AHEAD_MAX));
        let known = beyond.filter(|n| self.mask & (1 << (n - self.through.0 - 1)) != 0).count() as u64;
        let known = known + self.through.0.saturating_add(1).saturating_sub(lo);
        let all = u64::from(back) + 1;
        if known == all {
            return Admission::Duplicate;
        }
        if lo <= self.through.0.saturating_add(1) {
            // From the mark on, however far.
            self.mask = self.mask.checked_shr(u32::try_from(seq.0 - self.through.0).unwrap_or(u64::BITS)).unwrap_or(0);
            self.through = seq;
        } else {
            (lo..=seq.0).for_each(|n| self.mask |= 1 << (n - self.through.0 - 1));
        }
        self.slide();
        if known > 0 {
            self.lost += all - known;
            return Admission::Overlap(all - known);
        }
        // What it was made of may come after it, from a disk that lost the wider one with the power: that is no clone.
        (self.last_seq, self.last_crc) = (Seq(0), 0);
        Admission::Accepted
    }

    /// Admits frame `seq` with this checksum.
    pub fn admit(&mut self, seq: Seq, crc: u32) -> Admission {
        if seq == self.last_seq && seq.0 > 0 && crc != self.last_crc {
            return Admission::Cloned;
        }
        if seq.0 <= self.through.0 {
            return Admission::Duplicate;
        }
        let ahead = seq.0 - self.through.0 - 1;
        if ahead >= AHEAD_MAX {
            return Admission::TooFarAhead;
        }
        if self.mask & (1 << ahead) != 0 {
            return Admission::Duplicate;
        }
        self.mask |= 1 << ahead;
        self.slide();
        (self.last_seq, self.last_crc) = (seq, crc);
        Admission::Accepted
    }

    /// Settles numbers that will never come. Returns how many were new; a gap beyond the mask is refused with `None`.
    pub fn declare_lost(&mut self, gap: &Gap) -> Option<u64> {
        if gap.lo.0 > gap.hi.0 || gap.lo.0 > self.through.0.saturating_add(AHEAD_MAX) {
            return None;
        }
        let mut settled = 0;
        // A long gap that begins at the high-water mark is one step, however long it is.
        if gap.lo.0 <= self.through.0.saturating_add(1) && gap.hi.0 > self.through.0.saturating_add(AHEAD_MAX) {
            settled += gap.hi.0 - self.through.0 - u64::from(self.mask.count_ones());
            self.through = gap.hi;
            self.mask = 0;
        } else {
            if gap.hi.0 > self.through.0.saturating_add(AHEAD_MAX) {
                return None;
            }
            for seq in gap.lo.0.max(self.through.0.saturating_add(1))..=gap.hi.0 {
                let bit = 1 << (seq - self.through.0 - 1);
                settled += u64::from(self.mask & bit == 0);
                self.mask |= bit;
            }
            self.slide();
        }
        self.lost += if gap.reason == GapReason::Settled { 0 } else { settled };
        Some(settled)
    }

    fn slide(&mut self) {
        let run = self.mask.trailing_ones();
        self.through.0 += u64::from(run);
        self.mask = self.mask.checked_shr(run).unwrap_or(0);
    }
}

/// The key of an entry is the device and its stream.
pub type Key = (Name, Stream);

/// The entries of all devices.
#[derive(Debug, Default)]
pub struct Ledger {
    /// With each, when it was used last, counted in uses.
    entries: BTreeMap<Key, (Entry, u64)>,
    uses: u64,
}

impl Ledger {
    /// The ledger as the store kept it, in the order in which streams began.
    pub fn restore(entries: impl IntoIterator<Item = (Name, Stream, Entry)>) -> Self {
        let mut ledger = Self::default();
        for (device, stream, entry) in entries {
            ledger.uses += 1;
            ledger.entries.insert((device, stream), (entry, ledger.uses));
        }
        ledger
    }

    /// What is known of a stream.
    pub fn get(&self, key: &Key) -> Entry {
        self.entries.get(key).map(|(entry, _)| *entry).unwrap_or_default()
    }

    /// A stream's entry, and the device's stream that gave way to it.
    pub fn entry(&mut self, device: &Name, stream: Stream) -> (&mut Entry, Option<Stream>) {
        let key = (device.clone(), stream);
        let mut gone = None;
        if !self.entries.contains_key(&key) {
            let lo = (device.clone(), Stream(0));
            let streams = || self.entries.range(lo.clone()..).take_while(|(k, _)| k.0 == *device);
            if streams().count() >= STREAMS_PER_DEVICE_MAX {
                gone = streams().min_by_key(|(_, (_, used))| *used).map(|(k, _)| k.1);
            }
        }
        if let Some(gone) = gone {
            self.entries.remove(&(device.clone(), gone));
        }
        self.uses += 1;
        let (entry, used) = self.entries.entry(key).or_default();
        *used = self.uses;
        (entry, gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::wire::messages::GapReason;
    use std::collections::BTreeSet;

    fn gap(lo: u64, hi: u64) -> Gap {
        Gap { stream: Stream(1), lo: Seq(lo), hi: Seq(hi), reason: GapReason::Evicted }
    }

    #[test]
    fn order_does_not_matter_and_repeats_are_seen() {
        let mut e = Entry::default();
        let found: Vec<_> = [2, 1, 2, 3, 65, 66, 67].map(|s| e.admit(Seq(s), s as u32)).into();
        use Admission::*;
        assert_eq!(found, [Accepted, Accepted, Duplicate, Accepted, Accepted, Accepted, TooFarAhead]);
        assert_eq!(e.through, Seq(3));
    }

    #[test]
    fn a_clone_is_told_from_a_repeat() {
        let mut e = Entry::default();
        assert_eq!(e.admit(Seq(1), 7), Admission::Accepted);
        assert_eq!(e.admit(Seq(1), 7), Admission::Duplicate);
        assert_eq!(e.admit(Seq(1), 8), Admission::Cloned);
    }

    #[test]
    fn gaps_move_the_mark_and_count_once() {
        let mut e = Entry::default();
        e.admit(Seq(3), 1);
        assert_eq!(e.declare_lost(&gap(1, 4)), Some(3));
        assert_eq!((e.through, e.lost), (Seq(4), 3));
        assert_eq!(e.declare_lost(&gap(1, 4)), Some(0));
        assert_eq!(e.declare_lost(&gap(5, 5000)), Some(4996));
        assert_eq!(e.through, Seq(5000));
        assert_eq!(e.declare_lost(&gap(9000, 9001)), None);
        assert_eq!(e.declare_lost(&gap(7, 6)), None);
    }

    #[test]
    fn a_frame_settles_those_that_were_merged_into_it() {
        let mut e = Entry::default();
        assert_eq!(e.admit_back(Seq(64), 63, 1), Admission::Accepted);
        assert_eq!((e.through, e.mask, e.lost), (Seq(64), 0, 0));
        assert_eq!(e.admit_back(Seq(64), 63, 1), Admission::Duplicate);
        assert_eq!(e.admit_back(Seq(64), 63, 2), Admission::Duplicate);
        assert_eq!(e.admit(Seq(64), 9), Admission::Duplicate, "what it was made of is no clone");
        // Out of order: what lies before comes later, and then everything is settled.
        assert_eq!(e.admit_back(Seq(70), 3, 3), Admission::Accepted);
        assert_eq!((e.through, e.mask), (Seq(64), 0b11_1100));
        assert_eq!(e.admit(Seq(68), 4), Admission::Duplicate);
        assert_eq!(e.admit_back(Seq(66), 1, 5), Admission::Accepted);
        assert_eq!((e.through, e.mask), (Seq(70), 0));
        assert_eq!(e.admit_back(Seq(200), 3, 6), Admission::TooFarAhead);
        assert_eq!(e.admit(Seq(71), 7), Admission::Accepted);
        // What is stored already cannot be taken out of a frame: the rest of it is lost, and nothing is counted twice.
        assert_eq!(e.admit_back(Seq(74), 4, 8), Admission::Overlap(3));
        assert_eq!((e.through, e.mask, e.lost), (Seq(74), 0, 3));
        assert_eq!(e.admit(Seq(77), 9), Admission::Accepted);
        assert_eq!(e.admit_back(Seq(78), 2, 10), Admission::Overlap(2));
        assert_eq!((e.through, e.mask, e.lost), (Seq(74), 0b1110, 5));
        // The end of all numbers, which only a liar reaches.
        let far = u64::MAX - 10;
        assert_eq!(e.declare_lost(&gap(75, far)), Some(far - 74 - 3));
        assert_eq!(e.admit_back(Seq(u64::MAX), 5, 11), Admission::Accepted);
        assert_eq!(e.declare_lost(&gap(far + 1, u64::MAX)), Some(4));
        assert_eq!((e.through, e.mask), (Seq(u64::MAX), 0));
        assert_eq!(e.admit_back(Seq(u64::MAX), 1, 12), Admission::Duplicate);
    }

    #[test]
    fn the_stream_used_least_lately_gives_way() {
        let device = Name::new("d").expect("a name");
        let mut ledger = Ledger::default();
        for stream in 0..STREAMS_PER_DEVICE_MAX as u64 {
            assert_eq!(ledger.entry(&device, Stream(stream)).1, None);
        }
        assert_eq!(ledger.entry(&device, Stream(0)).1, None, "known");
        assert_eq!(ledger.entry(&device, Stream(900)).1, Some(Stream(1)));
        assert_eq!(ledger.entry(&Name::new("e").expect("a name"), Stream(7)).1, None, "of another device");
    }

    #[test]
    fn what_another_collector_has_stored_is_not_lost() {
        let mut e = Entry::default();
        let settled = Gap { reason: GapReason::Settled, ..gap(1, 1_000) };
        assert_eq!(e.declare_lost(&settled), Some(1_000));
        assert_eq!((e.through, e.lost), (Seq(1_000), 0));
        assert_eq!(e.admit(Seq(1_001), 1), Admission::Accepted);
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_set(seqs in proptest::collection::vec(1u64..120, 0..300)) {
            let (mut e, mut set) = (Entry::default(), BTreeSet::new());
            for s in seqs {
                let through = (1..).take_while(|n| set.contains(n)).count() as u64;
                let expected = if set.contains(&s) { Admission::Duplicate }
                    else if s > through + 63 { Admission::TooFarAhead }
                    else { set.insert(s); Admission::Accepted };
                proptest::prop_assert_eq!(e.admit(Seq(s), 1), expected);
            }
        }
    }
}
