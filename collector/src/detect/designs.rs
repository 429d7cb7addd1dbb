//! Score tables and bets of one baseline, made when they are first needed and kept.
//!
//! Bets follow a window's size and the number of devices summed, each rounded to a power of two, and how well a stream's own level is
//! known, in quarters of one, so that few have to be made; the arithmetic uses the true numbers.

use crate::release::Baseline;
use driftline_shared::drift::design::{Circumstances, Design};
use driftline_shared::drift::scores::Scores;
use driftline_shared::units::WallMs;
use std::sync::Arc;

/// Designs kept; beyond that they are made again. Seasons have one per hour.
const DESIGNS_MAX: usize = 20_000;

/// What a design was made for: powers of two of readings and devices, and fourth roots of them for windows of own level.
type Made = [u32; 3];

/// Steps of own level from one power of two to the next: what is tolerated follows it, and with it the delay.
const OWN_STEPS: f64 = 4.0;

/// A stream of windows as far as its bets depend on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Which feature; those after the baseline's are the groups of its embedding.
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

/// What has been made for one feature in one season slot.
#[derive(Debug)]
struct Slot {
    scores: Arc<Scores>,
    /// Some dozens: sizes differ little, and learned windows have thirty steps.
    designs: Vec<(Made, Box<Design>)>,
}

/// What has been made so far.
#[derive(Debug, Default)]
pub struct Designs {
    /// By feature, then by season slot.
    slots: Vec<Vec<Option<Slot>>>,
    /// By group of the embedding.
    embedding: Vec<Vec<(Made, Box<Design>)>>,
    made: usize,
}

impl Designs {
    /// The score table of a feature at a time.
    pub fn scores(&mut self, baseline: &Baseline, feature: usize, start: WallMs) -> Arc<Scores> {
        Arc::clone(&slot(&mut self.slots, baseline, feature, start).scores)
    }

    /// The bets on a stream.
    pub fn design(&mut self, baseline: &Baseline, place: Place) -> &Design {
        let power = |x: f64| (x as u64).max(1).ilog2();
        let of = |power: u32| (1u64 << power) as f64;
        let (size, several) = (power(place.n), power(place.devices));
        // Learned readings in windows' worth, rounded down: never more certain than it is.
        let learned = if place.own < of(size) { 0 } else { 1 + (OWN_STEPS * (place.own / of(size)).log2()) as u32 };
        if self.made >= DESIGNS_MAX {
            self.slots.clear();
            self.embedding.clear();
            self.made = 0;
        }
        let made = [size, several, learned];
        // Asked for every window and made seldom: what only making needs is worked out there.
        let at = || {
            let own = if learned == 0 { 0.0 } else { of(size) * (f64::from(learned - 1) / OWN_STEPS).exp2() };
            Circumstances { features: watched(baseline), n: of(size), devices: of(several), own }
        };
        let new = &mut self.made;
        let group = place.feature.checked_sub(baseline.features.len());
        if let (Some(group), Some(embedded)) = (group, &baseline.embedding) {
            if self.embedding.len() <= group {
                self.embedding.resize_with(group + 1, Vec::new);
            }
            return found_or(&mut self.embedding[group], made, new, || Design::of_embedding(embedded, group, at()));
        }
        let slot = slot(&mut self.slots, baseline, place.feature, place.start);
        let feature = &baseline.features[place.feature];
        found_or(&mut slot.designs, made, new, || Design::new(feature, &slot.scores, at()))
    }
}

fn found_or<'a>(
    designs: &'a mut Vec<(Made, Box<Design>)>,
    made: Made,
    count: &mut usize,
    design: impl FnOnce() -> Design,
) -> &'a Design {
    // The newest first: streams move on to it together.
    let at = designs.iter().rposition(|(known, _)| *known == made).unwrap_or_else(|| {
        designs.push((made, Box::new(design())));
        *count += 1;
        designs.len() - 1
    });
    &designs[at].1
}

fn slot<'a>(slots: &'a mut Vec<Vec<Option<Slot>>>, baseline: &Baseline, feature: usize, start: WallMs) -> &'a mut Slot {
    let of = &baseline.features[feature];
    let season = of.season_slot(start);
    if slots.len() <= feature {
        slots.resize_with(feature + 1, Vec::new);
    }
    let of_feature = &mut slots[feature];
    if of_feature.len() <= season {
        of_feature.resize_with(season + 1, || None);
    }
    of_feature[season]
        .get_or_insert_with(|| Slot { scores: Arc::new(Scores::of_season(of, season)), designs: Vec::new() })
}

/// How many features of a baseline are watched; they share the risk of a bad reference.
pub fn watched(baseline: &Baseline) -> usize {
    baseline.features.iter().filter(|f| f.unwatched.is_none()).count()
}
