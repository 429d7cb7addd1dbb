//! The device's own detectors: whether its inputs still are what the model was trained on, without a collector.
//!
//! The same e-detectors as the collector's, on this device's closed windows alone, for the answers that applications get in the meantime
//! ([`crate::guard`]). One false alarm a month is allowed, shared by the inputs, as long as windows close by time. Inputs that change with
//! the hour are left to the collector, which knows the time.

use crate::bundle::HeapBaseline;
use driftline_shared::drift::design::{Circumstances, Design};
use driftline_shared::drift::detector::{Compared, Detector, View};
use driftline_shared::drift::scores::{Family, Scores};
use driftline_shared::window::Window;
use std::sync::Arc;

/// Thirty days.
const MONTH_MS: f64 = 30.0 * 24.0 * 3600.0 * 1000.0;

/// What is watched of a release, and how it looks on this device.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    inputs: Arc<[Watched]>,
    detectors: Vec<Detector>,
    /// Average run length, in windows, that each input is promised.
    threshold: f64,
    windows: u64,
    word: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Watched {
    /// Its place among a window's sketches.
    place: usize,
    name: String,
    scores: Scores,
    /// Made for a stream whose own level nobody knows yet, once and for all: what is then tolerated stays the most.
    design: Design,
}

impl Watch {
    /// Lays out the bets on a baseline's inputs. Takes a moment: not for the inference thread.
    pub fn of(baseline: &HeapBaseline, window_ms: u32) -> Self {
        let watched = baseline.features.iter().filter(|f| f.unwatched.is_none()).count();
        let circumstances = Circumstances::device(watched, f64::from(baseline.window_samples.max(1)));
        let inputs = baseline.features.iter().enumerate();
        let inputs = inputs.filter(|(_, f)| f.role.is_input() && f.unwatched.is_none() && f.season.is_none());
        let inputs: Arc<[Watched]> = inputs
            .map(|(place, feature)| {
                let scores = Scores::new(feature);
                let design = Design::new(feature, &scores, circumstances);
                Watched { place, name: feature.name.to_string(), scores, design }
            })
            .collect();
        let a_month = MONTH_MS / f64::from(window_ms.max(1));
        let threshold = (a_month * inputs.len().max(1) as f64).max(100.0);
        Self { detectors: vec![Detector::default(); inputs.len()], inputs, threshold, windows: 0, word: None }
    }

    /// Takes in a closed window. Windows without samples say nothing.
    pub fn window(&mut self, window: &Window) {
        if window.samples == 0 {
            return;
        }
        self.windows += 1;
        for (input, detector) in self.inputs.iter().zip(&mut self.detectors) {
            let Some(sketch) = window.sketches.get(input.place) else { continue };
            let view: View = input.scores.sums(sketch).iter().map(|sum| Compared::from(*sum)).collect();
            detector.step(&input.design, &view, self.windows, self.threshold);
        }
        let alarm = self.detectors.iter().zip(&*self.inputs).find_map(|(d, input)| d.latch().map(|l| (l, &input.name)));
        self.word = alarm.map(|(latch, name)| {
            let what = match (latch.alarm.family, latch.alarm.sign > 0.0) {
                (Family::Location, true) => "has moved up",
                (Family::Location, false) => "has moved down",
                (Family::Scale, true) => "varies more",
                (Family::Scale, false) => "varies less",
                (Family::Missing, _) => "is missing more often",
                (Family::Repeats, _) => "repeats itself",
                _ => "is distributed otherwise",
            };
            format!("{name} {what} than in training")
        });
    }

    /// A word about what has changed, for as long as an alarm holds.
    pub fn word(&self) -> Option<&str> {
        self.word.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use driftline_shared::random::Random;
    use driftline_shared::units::WallMs;

    #[test]
    fn a_change_is_seen_without_a_collector_and_health_is_left_alone() {
        let bundle = testing::bundle("v1", 2, 2, 1.0);
        let baseline = bundle.baseline();
        let profile = testing::profile("v1", 2, 2);
        let grids: Vec<_> = profile.grids().cloned().collect();
        let mut watch = Watch::of(baseline, 60_000);
        let mut random = Random::new(5);
        // One value for each cell of the baseline, all as frequent as in training.
        let mut windows = |watch: &mut Watch, shift: f32, many: u64| {
            for at in 0..many {
                let mut window = Window::new(profile.release, WallMs(at * 60_000), 60_000, grids.iter());
                for _ in 0..60 {
                    let mut input = || [-1.5, -0.5, 0.5, 1.5][(random.bits() % 4) as usize];
                    let values = [input() + shift, input(), f32::NAN, f32::NAN];
                    window.add(grids.iter(), values.into_iter());
                }
                watch.window(&window);
            }
        };
        windows(&mut watch, 0.0, 2_000);
        assert_eq!(watch.word(), None);
        windows(&mut watch, 1.0, 30);
        let word = watch.word().expect("an alarm").to_owned();
        assert!(word.starts_with(baseline.features[0].name.as_str()) && word.ends_with("than in training"), "{word}");
        windows(&mut watch, 0.0, 200);
        assert_eq!(watch.word(), None, "it is over");
    }
}
