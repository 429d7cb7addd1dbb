//! Score tables and bets of one baseline, made when they are first needed and kept.
//!
//! Bets follow a window's size, the number of devices summed and how well a stream's own level is known, each rounded to a power
//! of two so that few have to be made; the arithmetic uses the true numbers.

use crate::release::Baseline;
use driftline_shared::drift::design::{Circumstances, Design};
use driftline_shared::drift::scores::Scores;
use driftline_shared::units::WallMs;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Designs kept; beyond that they are made again. Seasons have one per hour.
const DESIGNS_MAX: usize = 20_000;

/// What a design was made for: feature, season slot, and powers of two of readings, devices, and windows of own level.
type Made = (usize, usize, [u32; 3]);

/// A stream of windows as far as its bets depend on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Which feature.
    pub feature: usize,
    /// When the window began.
    pub start: WallMs,
    /// Its readings.
    pub n: f64,
    /// Devices that it sums.
    pub devices: f64,
    /// Readings that the stream's own level was learned from.
    pub own: f64,
}

/// What has been made so far.
#[derive(Debug, Default)]
pub struct Designs {
    designs: BTreeMap<Made, Arc<Design>>,
    scores: BTreeMap<(usize, usize), Arc<Scores>>,
}

impl Designs {
    /// The score table of a feature at a time.
    pub fn scores(&mut self, baseline: &Baseline, feature: usize, start: WallMs) -> Arc<Scores> {
        let of = &baseline.features[feature];
        let season = of.season_slot(start);
        let made = self.scores.entry((feature, season)).or_insert_with(|| Arc::new(Scores::of_season(of, season)));
        Arc::clone(made)
    }

    /// The bets on a stream.
    pub fn design(&mut self, baseline: &Baseline, place: Place) -> Arc<Design> {
        let power = |x: f64| (x as u64).max(1).ilog2();
        let of = |power: u32| (1u64 << power) as f64;
        let (size, several) = (power(place.n), power(place.devices));
        // Learned readings in windows' worth, rounded down: never more certain than it is.
        let learned = if place.own < of(size) { 0 } else { 1 + power(place.own / of(size)) };
        let feature = &baseline.features[place.feature];
        let key = (place.feature, feature.season_slot(place.start), [size, several, learned]);
        if let Some(made) = self.designs.get(&key) {
            return Arc::clone(made);
        }
        let own = if learned == 0 { 0.0 } else { of(size) * of(learned - 1) };
        let at = Circumstances { features: watched(baseline), n: of(size), devices: of(several), own };
        let scores = self.scores(baseline, place.feature, place.start);
        let design = Arc::new(Design::new(feature, &scores, at));
        if self.designs.len() >= DESIGNS_MAX {
            self.designs.clear();
        }
        self.designs.insert(key, Arc::clone(&design));
        design
    }
}

/// How many features of a baseline are watched; they share the risk of a bad reference.
pub fn watched(baseline: &Baseline) -> usize {
    baseline.features.iter().filter(|f| f.unwatched.is_none()).count()
}
