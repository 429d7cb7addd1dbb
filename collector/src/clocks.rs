//! What time it was on devices without a clock: how far each stream's clock is from ours.
//!
//! A stream's clock runs evenly from its first window to its last, whatever the system's clock does, so that one shift dates all of it
//! (decision 15). Devices say what time they have after every connection. A stream that ended before its device was ever heard
//! has no such word; where its dates cannot be, its first window is dated by its arrival and the others keep their distance to it.

use driftline_shared::units::{Name, Stream, WallMs};
use driftline_shared::window::Window;
use std::collections::{BTreeMap, VecDeque};

/// Clocks that differ by less are left alone: messages take their time too.
pub const TOLERANCE_MS: u64 = 120_000;
/// Nobody measured before 2020: such a date comes from a clock that was never set.
const IMPOSSIBLE_BEFORE: WallMs = WallMs(1_577_836_800_000);
/// Streams remembered per device: the live one, and those of starts whose windows are still on their way.
const STREAMS_MAX: usize = 8;

/// Shifts by device and stream.
#[derive(Debug, Default)]
pub struct Clocks {
    shifts: BTreeMap<Name, VecDeque<(Stream, i64)>>,
}

impl Clocks {
    /// A device says that it is `wall` on the clock of `stream`.
    pub fn told(&mut self, now: WallMs, device: &Name, stream: Stream, wall: WallMs) {
        let shift = difference(now, wall);
        let known = self.shift(device, stream);
        // A known shift stays while it is right, so that windows do not jump.
        if known.unwrap_or(0).abs_diff(shift) > TOLERANCE_MS {
            self.set(device, stream, if shift.unsigned_abs() > TOLERANCE_MS { shift } else { 0 });
        }
    }

    /// Corrects a window's date; a whole number of window lengths, so that it stays where windows begin.
    pub fn date(&mut self, now: WallMs, device: &Name, stream: Stream, window: &mut Window, window_ms: u32) {
        let shift = match self.shift(device, stream) {
            Some(shift) => shift,
            None if window.start < IMPOSSIBLE_BEFORE => {
                let shift = difference(now, WallMs(window.start.0.saturating_add(u64::from(window.span_ms))));
                self.set(device, stream, shift);
                shift
            }
            None => return,
        };
        let length = i64::from(window_ms.max(1));
        window.start = WallMs(window.start.0.saturating_add_signed(shift.div_euclid(length) * length));
    }

    /// By how many milliseconds a device's clock is behind, as of the start that was heard last; 0 where it is right.
    pub fn behind_ms(&self, device: &Name) -> i64 {
        self.shifts.get(device).and_then(VecDeque::back).map_or(0, |(_, shift)| *shift)
    }

    fn shift(&self, device: &Name, stream: Stream) -> Option<i64> {
        self.shifts.get(device)?.iter().find(|(known, _)| *known == stream).map(|(_, shift)| *shift)
    }

    fn set(&mut self, device: &Name, stream: Stream, shift: i64) {
        let streams = self.shifts.entry(device.clone()).or_default();
        streams.retain(|(known, _)| *known != stream);
        if streams.len() >= STREAMS_MAX {
            streams.pop_front();
        }
        streams.push_back((stream, shift));
    }
}

fn difference(now: WallMs, then: WallMs) -> i64 {
    let whole = i128::from(now.0) - i128::from(then.0);
    i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::sketch::Grid;
    use driftline_shared::units::ReleaseId;

    const NOW: WallMs = WallMs(1_795_000_000_000);
    const LENGTH: u32 = 60_000;

    fn dated(clocks: &mut Clocks, stream: u64, start: u64) -> u64 {
        let mut window = Window::<256>::new(ReleaseId(1), WallMs(start), LENGTH, std::iter::empty::<&Grid>());
        clocks.date(NOW, &Name::new("d").unwrap(), Stream(stream), &mut window, LENGTH);
        assert_eq!(window.start.0 % u64::from(LENGTH), 0, "it stays where windows begin");
        window.start.0
    }

    fn told(clocks: &mut Clocks, stream: u64, wall: u64) {
        clocks.told(NOW, &Name::new("d").unwrap(), Stream(stream), WallMs(wall));
    }

    #[test]
    fn a_clock_that_was_never_set_is_corrected_for_its_whole_stream() {
        let mut clocks = Clocks::default();
        // Ten minutes after its start the device connects; its first window was nine minutes ago.
        told(&mut clocks, 1, 600_000);
        let first = dated(&mut clocks, 1, 60_000);
        assert!(NOW.0 - first >= 540_000 && NOW.0 - first < 600_000 + u64::from(LENGTH), "{first}");
        assert_eq!(dated(&mut clocks, 1, 120_000) - first, 60_000);
        // The word is repeated a little later than meant: nothing jumps.
        told(&mut clocks, 1, 590_000);
        assert_eq!(dated(&mut clocks, 1, 60_000), first);
    }

    #[test]
    fn clocks_that_are_right_are_left_alone_and_wrong_ones_of_this_century_too_are_corrected() {
        let mut clocks = Clocks::default();
        let minute = NOW.0 - NOW.0 % u64::from(LENGTH);
        told(&mut clocks, 1, NOW.0 - 90_000);
        assert_eq!(dated(&mut clocks, 1, minute), minute);
        let day = 24 * 3_600_000;
        told(&mut clocks, 2, NOW.0 + day);
        assert_eq!(clocks.behind_ms(&Name::new("d").unwrap()), -(day as i64));
        assert_eq!(dated(&mut clocks, 2, minute + day), minute);
        // Set right while it ran: the same stream, and no shift any more.
        told(&mut clocks, 2, NOW.0);
        assert_eq!(dated(&mut clocks, 2, minute), minute);
    }

    #[test]
    fn a_stream_that_nobody_heard_of_is_dated_by_its_arrival() {
        let mut clocks = Clocks::default();
        let first = dated(&mut clocks, 7, 60_000);
        assert!(first <= NOW.0 && NOW.0 - first <= 3 * u64::from(LENGTH), "{first}");
        assert_eq!(dated(&mut clocks, 7, 180_000) - first, 120_000);
        for stream in 100..200 {
            dated(&mut clocks, stream, 60_000);
        }
        assert_eq!(clocks.shifts.values().map(VecDeque::len).sum::<usize>(), STREAMS_MAX);
    }
}
