//! Two frames made into one whose windows are wider: what a full spool does before it gives anything up.
//!
//! Windows of one release that follow each other in time become one window that spans both, so that every sample stays counted and
//! only the answer to "when" gets coarser. Windows with a pause between them stay apart, and so do sketches, truths and embeddings.

use super::record::Class;
use driftline_shared::units::ReleaseId;
use driftline_shared::window::{COARSE_SLOTS_MAX, Window};
use driftline_shared::wire::pack::{self, Windows};
use driftline_shared::wire::{FRAME_BYTES_MAX, Frame, Kind, WINDOWS_PER_FRAME_MAX};

/// What [`merge`] made of two frames.
#[derive(Debug)]
pub struct Coarser {
    /// Encoded windows, in the order of their starts.
    pub windows: Vec<Box<[u8]>>,
    /// How many windows went into a neighbour.
    pub merged: u64,
}

/// Merges what the windows of two frames allow; `None` when nothing does, or a frame cannot be read. With `mixed` frames of different
/// classes share one all the same: what lies beyond them can be merged then. `slot_ms` is the length of the shortest window that was ever
/// closed: nothing becomes longer than [`COARSE_SLOTS_MAX`] of it. With `of` only that release's windows are merged.
pub fn merge(
    earlier: &[u8],
    later: &[u8],
    mixed: bool,
    slot_ms: u32,
    of: Option<ReleaseId>,
    scratch: &mut [u8],
) -> Option<Coarser> {
    let mut kept: Vec<Box<Window>> = Vec::new();
    let mut merged = 0;
    let span_max = u64::from(slot_ms) * u64::from(COARSE_SLOTS_MAX);
    for frame in [earlier, later] {
        let frame = Frame::parse(frame).ok().filter(|frame| frame.kind == Kind::Windows)?;
        let mut windows = Windows::open(frame.payload)?;
        while let Some(window) = windows.next::<{ driftline_shared::window::FEATURES_MAX }>().ok()? {
            let fits = |known: &&mut Box<Window>| {
                Class::of(known) == Class::of(&window)
                    && known.release == window.release
                    && of.is_none_or(|release| release == window.release)
                    && meets(known, &window, span_max)
            };
            match kept.iter_mut().rev().find(fits) {
                // Windows of one release merge, or the frame was not of this program.
                Some(known) => {
                    known.merge(&window).ok()?;
                    merged += 1;
                }
                None => kept.push(Box::new(window)),
            }
        }
    }
    let mut encode = |window: &Window| {
        let len = pack::encode(window, scratch).ok()?;
        scratch.get(..len).map(Box::<[u8]>::from)
    };
    let windows: Vec<_> = kept.iter().map(|window| encode(window)).collect::<Option<_>>()?;
    let bytes: usize = windows.iter().map(|w| w.len()).sum();
    ((merged > 0 || mixed)
        && windows.len() <= WINDOWS_PER_FRAME_MAX as usize
        && bytes <= FRAME_BYTES_MAX - super::FRAME_OVERHEAD)
        .then_some(Coarser { windows, merged })
}

/// Whether nothing lies between two windows, and both together are not too long.
fn meets(known: &Window, next: &Window, span_max: u64) -> bool {
    let end = |window: &Window| window.start.0.saturating_add(u64::from(window.span_ms));
    // An embedding sums many windows and is dated by the last of them.
    let sums = Class::of(known) == Class::Embedding;
    let touch = sums || (known.start.0 <= end(next) && next.start.0 <= end(known));
    touch && end(known).max(end(next)) - known.start.0.min(next.start.0) <= span_max
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::sketch::Grid;
    use driftline_shared::units::{Seq, Stream, WallMs};

    const SLOT: u32 = 60_000;

    fn window(release: u64, slot: u64, samples: u32) -> Window {
        let start = WallMs(slot * u64::from(SLOT));
        let mut window = Window::new(ReleaseId(release), start, SLOT, std::iter::empty::<&Grid>());
        window.samples = samples;
        window
    }

    fn frame(windows: &[Window]) -> Vec<u8> {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let len = pack::write(Stream(1), Seq(1), windows.iter(), &mut buffer).unwrap();
        buffer.truncate(len);
        buffer
    }

    /// (release, first slot, slots, samples) of what two frames become.
    fn merged(earlier: &[Window], later: &[Window]) -> Option<Vec<(u64, u64, u32, u32)>> {
        let mut scratch = vec![0; FRAME_BYTES_MAX];
        let coarser = merge(&frame(earlier), &frame(later), false, SLOT, None, &mut scratch)?;
        let before = earlier.len() + later.len();
        assert_eq!(coarser.windows.len() as u64 + coarser.merged, before as u64);
        let pieces = coarser.windows.iter().map(|w| &**w);
        let len = pack::write_encoded(Stream(1), Seq(2), 1, pieces, &mut scratch).unwrap();
        let frame = Frame::parse(&scratch[..len]).unwrap();
        let mut windows = Windows::open(frame.payload).unwrap();
        let mut found = Vec::new();
        while let Some(w) = windows.next::<256>().unwrap() {
            found.push((w.release.0, w.start.0 / u64::from(SLOT), w.span_ms / SLOT, w.samples));
        }
        Some(found)
    }

    #[test]
    fn neighbours_become_one_and_nothing_is_lost() {
        assert_eq!(merged(&[window(1, 7, 3)], &[window(1, 8, 4)]), Some(vec![(1, 7, 2, 7)]));
        assert_eq!(merged(&[window(1, 7, 3), window(1, 7, 5)], &[window(1, 8, 4)]), Some(vec![(1, 7, 2, 12)]));
        assert_eq!(merged(&[window(1, 7, 3)], &[window(1, 9, 4)]), None, "a pause lies between them");
        assert_eq!(merged(&[window(1, 7, 3)], &[window(2, 8, 4)]), None, "another release");
        let mixed = merged(&[window(1, 7, 3), window(2, 8, 1)], &[window(2, 9, 4)]);
        assert_eq!(mixed, Some(vec![(1, 7, 1, 3), (2, 8, 2, 5)]));
    }

    #[test]
    fn truths_stay_apart_from_samples_and_windows_do_not_grow_for_ever() {
        let truth = Window { labelled: 2, correct: 1, ..window(1, 8, 0) };
        assert_eq!(merged(&[window(1, 7, 3)], std::slice::from_ref(&truth)), None);
        let both = merged(&[window(1, 7, 3), truth.clone()], &[window(1, 8, 1), truth]);
        assert_eq!(both, Some(vec![(1, 7, 2, 4), (1, 8, 1, 0)]));
        let wide = Window { span_ms: SLOT * COARSE_SLOTS_MAX, ..window(1, 0, 9) };
        assert_eq!(merged(&[wide], &[window(1, u64::from(COARSE_SLOTS_MAX), 1)]), None);
        let mut scratch = vec![0; FRAME_BYTES_MAX];
        assert!(merge(b"no frame", &frame(&[window(1, 7, 3)]), true, SLOT, None, &mut scratch).is_none());
        let of = |release| {
            let (first, second) = (frame(&[window(1, 7, 3)]), frame(&[window(1, 8, 3)]));
            merge(&first, &second, false, SLOT, Some(ReleaseId(release)), &mut vec![0; FRAME_BYTES_MAX]).is_some()
        };
        assert!(of(1) && !of(2), "how long windows of another release are is not known");
    }
}
