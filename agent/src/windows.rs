//! Tumbling windows in event time: which window a sample belongs to, and when a window is over.
//!
//! A window closes when time has passed its end by a little, when a sample of a later one arrives, when it is full, or when the
//! release changes. What comes too late for that is counted, not sketched. Windows in which nothing happened are not made.
//! The one window in memory is reused: adding a sample allocates nothing. How inputs lie together is summed over
//! [`embedding::WINDOWS`] windows and leaves as a window of its own, so that no window is much larger than the others.

use crate::inference::Outputs;
use crate::observe::{Profile, top};
use driftline_shared::embedding::{self, Embedding};
use driftline_shared::performance::Performance;
use driftline_shared::random::Random;
use driftline_shared::units::WallMs;
use driftline_shared::window::{Block, Window, slot_start};
use std::sync::Arc;

/// How long after its end a window stays open for samples that are on their way.
pub const LATENESS_MS_MAX: u32 = 1_000;
/// Samples of a window that are embedded, about, by how many the window before had: an embedding costs as much as a small model, and so
/// many samples a window say how they lie together.
const EMBEDDED_SAMPLES: u32 = 256;

/// The open window of one release.
#[derive(Debug)]
pub struct Windows {
    profile: Arc<Profile>,
    samples_max: u32,
    window: Box<Window>,
    /// Samples of the open window that are not counted yet.
    block: Box<Block>,
    open: bool,
    /// The embedding of samples since the last one left, dated by the newest window it has samples of; `None` where there is none.
    embedded: Option<Box<Window>>,
    /// One of so many samples is embedded.
    stride: u32,
    /// Event times before this belong to windows that are closed.
    floor: WallMs,
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in the window.
    InWindow,
    /// It is counted as refused.
    Refused,
}

/// A sample on its way into a window.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// When it was sensed.
    pub event_time: WallMs,
    /// The model's inputs.
    pub inputs: &'a [f32],
    /// What the model made of them.
    pub outputs: Outputs<'a>,
    /// The true class, when it is known.
    pub label: Option<u16>,
}

impl Windows {
    /// No open window yet; event times before `floor` are late.
    pub fn new(profile: Arc<Profile>, samples_max: u32, floor: WallMs) -> Self {
        let mut window = Box::new(Window::new(profile.release, floor, profile.window_ms, profile.grids()));
        let classes = profile.classes.len();
        window.performance = (classes > 0).then(|| Performance::new(profile.calibration.as_ref(), classes));
        let embedded = profile.has_embedding().then(|| {
            let mut window = Box::new(Window::new(profile.release, floor, profile.window_ms, profile.grids()));
            window.embedding = Some(Embedding::default());
            window
        });
        let block = Box::new(Block::new(profile.grids().count()));
        Self { profile, samples_max: samples_max.max(1), window, block, open: false, embedded, stride: 1, floor }
    }

    /// The release whose windows these are.
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Event times before this are late.
    pub fn floor(&self) -> WallMs {
        self.floor
    }

    /// Takes one sample; windows that end by it go to `closed`.
    pub fn add(&mut self, sample: &Observation<'_>, closed: &mut impl FnMut(&Window)) -> Taken {
        let start = slot_start(sample.event_time, self.profile.window_ms);
        let late = sample.event_time < self.floor || (self.open && start < self.window.start);
        if late {
            self.open_at(sample.event_time.max(self.floor), closed);
            self.window.refused.late = self.window.refused.late.saturating_add(1);
            return Taken::Refused;
        }
        if self.open && start > self.window.start {
            self.close(closed);
        }
        self.open_at(sample.event_time, closed);
        if matches!(sample.outputs, Outputs::Failed) {
            self.window.refused.inference = self.window.refused.inference.saturating_add(1);
            return Taken::Refused;
        }
        if let Some(embedding) = self.embedded.as_mut().and_then(|window| window.embedding.as_mut())
            && (self.stride == 1 || chosen(sample.event_time, self.window.samples + self.block.rows(), self.stride))
        {
            self.profile.embed(sample.inputs, embedding);
        }
        self.block.add(self.profile.values(sample.inputs, sample.outputs));
        if self.block.is_full() {
            self.count();
        }
        self.judge(sample);
        if self.window.samples.saturating_add(self.block.rows()) >= self.samples_max {
            self.leave(closed);
        }
        Taken::InWindow
    }

    /// Counts rows that could not be read, at `at`.
    pub fn malformed(&mut self, rows: u32, at: WallMs, closed: &mut impl FnMut(&Window)) {
        self.open_at(at.max(self.floor), closed);
        self.window.refused.malformed = self.window.refused.malformed.saturating_add(rows);
    }

    /// Closes the window when its time has passed.
    pub fn tick(&mut self, wall: WallMs, closed: &mut impl FnMut(&Window)) {
        if self.close_at().is_some_and(|at| wall >= at) {
            self.close(closed);
        }
    }

    /// When the open window is over.
    pub fn close_at(&self) -> Option<WallMs> {
        let lateness = LATENESS_MS_MAX.min(self.profile.window_ms / 10);
        self.open.then(|| WallMs(self.end().0.saturating_add(u64::from(lateness))))
    }

    /// Closes the open window before its time: the release changes, or the samples end. Its span may go on in another window,
    /// so its floor stays.
    pub fn finish(&mut self, closed: &mut impl FnMut(&Window)) {
        self.leave(closed);
        self.leave_embedding(closed);
    }

    fn leave(&mut self, closed: &mut impl FnMut(&Window)) {
        if self.open {
            self.open = false;
            self.count();
            self.stride = self.window.samples.div_ceil(EMBEDDED_SAMPLES).max(1);
            closed(&self.window);
        }
    }

    fn count(&mut self) {
        self.window.count(self.profile.grids(), &mut self.block);
    }

    fn close(&mut self, closed: &mut impl FnMut(&Window)) {
        self.floor = self.floor.max(self.end());
        self.leave(closed);
        if (self.number(self.window.start) + 1).is_multiple_of(embedding::WINDOWS) {
            self.leave_embedding(closed);
        }
    }

    fn leave_embedding(&mut self, closed: &mut impl FnMut(&Window)) {
        let Some(window) = &mut self.embedded else { return };
        if window.embedding.as_ref().is_some_and(|e| e.n() > 0) {
            closed(window);
            window.embedding.iter_mut().for_each(Embedding::clear);
        }
    }

    /// Windows of this length since 1970.
    fn number(&self, start: WallMs) -> u64 {
        start.0 / u64::from(self.profile.window_ms.max(1))
    }

    fn end(&self) -> WallMs {
        WallMs(self.window.start.0.saturating_add(u64::from(self.window.span_ms)))
    }

    fn open_at(&mut self, at: WallMs, closed: &mut impl FnMut(&Window)) {
        if self.open {
            return;
        }
        let start = slot_start(at, self.profile.window_ms);
        let block = |start: WallMs| self.number(start) / embedding::WINDOWS;
        if self.embedded.as_ref().is_some_and(|window| block(window.start) != block(start)) {
            self.leave_embedding(closed);
        }
        self.embedded.iter_mut().for_each(|window| window.start = start);
        self.window.restart(start);
        self.open = true;
    }

    fn judge(&mut self, sample: &Observation<'_>) {
        let Some(scores) = sample.outputs.values() else { return };
        let Some((class, _)) = top(scores) else { return };
        let window = &mut *self.window;
        if let (Some(performance), Some(calibration)) = (&mut window.performance, &self.profile.calibration) {
            performance.add(calibration, scores, class);
        }
        if let Some(label) = sample.label {
            window.labelled = window.labelled.saturating_add(1);
            window.correct = window.correct.saturating_add(u32::from(class == usize::from(label)));
            if let Some(performance) = &mut window.performance {
                performance.judge(class, label.into());
            }
        }
    }
}

/// One of `stride` samples, as if by chance: readings that come in turns are all seen.
fn chosen(at: WallMs, number: u32, stride: u32) -> bool {
    Random::new((at.0 << 24) ^ u64::from(number)).bits().is_multiple_of(stride.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const SPAN: u64 = 60_000;

    fn sample(at: u64, outputs: Outputs<'static>) -> Observation<'static> {
        Observation { event_time: WallMs(at), inputs: &[0.5, -0.5], outputs, label: Some(1) }
    }

    const GOOD: Outputs<'static> = Outputs::Values(&[0.1, 0.9]);

    #[derive(Default)]
    struct Closed(Vec<(u64, u32, u64)>);

    impl Closed {
        fn sink(&mut self) -> impl FnMut(&Window) {
            |w| self.0.push((w.start.0, w.samples, w.refused.total()))
        }
    }

    fn windows(samples_max: u32) -> Windows {
        Windows::new(testing::profile("v1", 2, 2), samples_max, WallMs(0))
    }

    #[test]
    fn windows_are_aligned_and_closed_by_a_later_sample() {
        let (mut w, mut closed) = (windows(1000), Closed::default());
        for at in [SPAN + 5, SPAN + 59_999, 2 * SPAN, 5 * SPAN + 1] {
            w.add(&sample(at, GOOD), &mut closed.sink());
        }
        assert_eq!(closed.0, [(SPAN, 2, 0), (2 * SPAN, 1, 0)]);
        assert_eq!(w.close_at(), Some(WallMs(6 * SPAN + u64::from(LATENESS_MS_MAX))));
        w.tick(WallMs(6 * SPAN + 999), &mut closed.sink());
        assert_eq!(closed.0.len(), 2);
        w.tick(WallMs(6 * SPAN + 1000), &mut closed.sink());
        assert_eq!(closed.0.last(), Some(&(5 * SPAN, 1, 0)));
        assert_eq!(w.close_at(), None);
    }

    #[test]
    fn a_full_window_closes_and_its_span_goes_on() {
        let (mut w, mut closed) = (windows(2), Closed::default());
        for at in 0..5 {
            w.add(&sample(SPAN + at, GOOD), &mut closed.sink());
        }
        w.finish(&mut closed.sink());
        w.finish(&mut closed.sink());
        assert_eq!(closed.0, [(SPAN, 2, 0), (SPAN, 2, 0), (SPAN, 1, 0)]);
    }

    #[test]
    fn late_failed_and_malformed_samples_are_counted_not_sketched() {
        let (mut w, mut closed) = (windows(1000), Closed::default());
        assert_eq!(w.add(&sample(2 * SPAN, GOOD), &mut closed.sink()), Taken::InWindow);
        assert_eq!(w.add(&sample(2 * SPAN - 1, GOOD), &mut closed.sink()), Taken::Refused);
        assert_eq!(w.add(&sample(2 * SPAN, Outputs::Failed), &mut closed.sink()), Taken::Refused);
        assert_eq!(w.add(&sample(2 * SPAN, Outputs::Missing), &mut closed.sink()), Taken::InWindow);
        w.malformed(3, WallMs(2 * SPAN), &mut closed.sink());
        let mut got = None;
        w.finish(&mut |window| got = Some(window.clone()));
        let window = got.unwrap();
        let refused = window.refused;
        assert_eq!((refused.late, refused.inference, refused.malformed, window.samples), (1, 1, 3, 2));
        // Both samples have inputs; only the one with outputs has a class, and its label could be judged.
        assert_eq!(window.sketches.iter().map(|s| s.n()).collect::<Vec<_>>(), [2, 2, 1, 1]);
        assert_eq!((window.labelled, window.correct), (1, 1));
    }

    #[test]
    fn a_window_of_nothing_but_refused_rows_is_made_and_an_empty_one_is_not() {
        let (mut w, mut closed) = (windows(1000), Closed::default());
        w.tick(WallMs(10 * SPAN), &mut closed.sink());
        w.finish(&mut closed.sink());
        assert_eq!(closed.0, []);
        w.malformed(1, WallMs(10 * SPAN + 7), &mut closed.sink());
        w.tick(WallMs(12 * SPAN), &mut closed.sink());
        assert_eq!(closed.0, [(10 * SPAN, 0, 1)]);
        // What belongs to that span comes too late now.
        assert_eq!(w.add(&sample(10 * SPAN + 8, GOOD), &mut closed.sink()), Taken::Refused);
    }

    #[test]
    fn a_window_cut_by_a_new_release_does_not_make_its_span_late() {
        let (mut w, mut closed) = (windows(1000), Closed::default());
        w.add(&sample(3 * SPAN + 10, GOOD), &mut closed.sink());
        w.finish(&mut closed.sink());
        let mut next = Windows::new(testing::profile("v2", 2, 2), 1000, w.floor());
        assert_eq!(next.add(&sample(3 * SPAN + 11, GOOD), &mut closed.sink()), Taken::InWindow);
    }

    fn embedded_windows(samples_max: u32) -> Windows {
        Windows::new(testing::embedding_profile(), samples_max, WallMs(0))
    }

    /// Adds samples at these windows' starts; (window, samples embedded) of every embedding that left.
    fn embedded(w: &mut Windows, at: &[u64]) -> Vec<(u64, u32)> {
        let mut left = Vec::new();
        for at in at {
            w.add(&sample(at * SPAN, GOOD), &mut |w: &Window| {
                assert_eq!(w.is_embedding_only(), w.embedding.is_some(), "an embedding leaves by itself");
                left.extend(w.embedding.as_ref().map(|e| (w.start.0 / SPAN, e.n())));
            });
        }
        left
    }

    #[test]
    fn an_embedding_leaves_after_sixteen_windows() {
        let mut w = embedded_windows(1000);
        let at: Vec<u64> = (16..50).collect();
        assert_eq!(embedded(&mut w, &at), [(31, 16), (47, 16)]);
        let mut last = Vec::new();
        w.finish(&mut |w| last.push((w.start.0 / SPAN, w.samples, w.embedding.as_ref().map(|e| e.n()))));
        assert_eq!(last, [(49, 1, None), (49, 0, Some(2))], "what is left leaves at the end");
    }

    #[test]
    fn of_many_samples_some_are_embedded() {
        let mut w = embedded_windows(100_000);
        let at = [vec![17; 8_000], vec![18; 8_000], vec![20; 800], vec![32]].concat();
        // All, then about one of 32 by the window before.
        let found = embedded(&mut w, &at);
        assert!(found.len() == 1 && (8_000 + 200..8_000 + 360).contains(&found[0].1), "{found:?}");
        // Also where two kinds take turns.
        let of_turn = |turn: u32| (0..8_000).filter(|n| n % 2 == turn && chosen(WallMs(7), *n, 32)).count();
        assert!([0, 1].map(of_turn).iter().all(|n| (80..170).contains(n)), "{:?}", [0, 1].map(of_turn));
    }

    #[test]
    fn an_embedding_ends_with_its_sixteen_windows_though_samples_are_missing() {
        let mut w = embedded_windows(2);
        // A full window is no end of it, and a gap is.
        assert_eq!(embedded(&mut w, &[17, 17, 17, 20, 35, 36, 47, 48]), [(20, 4), (47, 3)]);
        assert_eq!(embedded(&mut windows(2), &[17, 48]), [], "none without a baseline of it");
    }
}
