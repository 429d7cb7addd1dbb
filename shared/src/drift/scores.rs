//! Scores of the cells: what makes a shift, a spread, a heavy tail, a gap or a new category visible in counts.
//!
//! Each score has mean 0 and variance 1 under the baseline (docs/detection.md). Numbers have location, scale, the two outer
//! cells and missing; categories have one score per category and missing.

use super::normal;
use crate::baseline::FeatureBaseline;
use crate::sketch::{CELLS_MAX, Cells};
use libm::sqrt;
use serde::{Deserialize, Serialize};

/// What kind of change a score sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Values moved up or down.
    Location,
    /// Values became more (or less) scattered.
    Scale,
    /// More (or fewer) values in the top cell.
    Top,
    /// The same for the bottom cell.
    Bottom,
    /// Readings are missing.
    Missing,
    /// The share of this category changed; the last one is "never seen in training".
    Category(u8),
}

/// The score table of one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    cells: usize,
    categorical: bool,
    p: [f64; CELLS_MAX],
    location: [f64; CELLS_MAX],
    scale: [f64; CELLS_MAX],
    p_missing: f64,
}

/// The score sums of one window, together with how many readings they were summed over.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sum {
    /// Readings.
    pub n: f64,
    /// Sum of their standardised scores.
    pub sum: f64,
}

impl Scores {
    /// The table for a feature.
    ///
    /// Cell shares are (b+1/2)/(N0+K/2); a cell's rank is the middle of its span; location is the normal quantile of the
    /// rank and scale its square, both standardised.
    pub fn new(feature: &FeatureBaseline) -> Self {
        let counts = &feature.counts;
        let cells = counts.len();
        let total = feature.rows() as f64 + cells as f64 / 2.0;
        let mut table = Self {
            cells,
            categorical: matches!(feature.cells, Cells::Categories(_)),
            p: [0.0; CELLS_MAX],
            location: [0.0; CELLS_MAX],
            scale: [0.0; CELLS_MAX],
            p_missing: (f64::from(feature.missing) + 0.5) / (feature.rows() as f64 + f64::from(feature.missing) + 1.0),
        };
        let mut below = 0.0;
        for (k, &count) in counts.iter().enumerate() {
            let p = (f64::from(count) + 0.5) / total;
            table.p[k] = p;
            table.location[k] = normal::quantile(below + p / 2.0);
            below += p;
        }
        table.scale = table.location.map(|z| z * z);
        standardise(&table.p[..cells], &mut table.location[..cells]);
        standardise(&table.p[..cells], &mut table.scale[..cells]);
        table
    }

    /// Cell shares under the baseline.
    pub fn shares(&self) -> &[f64] {
        &self.p[..self.cells]
    }

    /// The families this feature has.
    pub fn families(&self) -> impl Iterator<Item = Family> + '_ {
        let categories = if self.categorical { self.cells } else { 0 };
        let numeric: &[Family] = match (self.categorical, self.cells) {
            (true, _) | (_, 0 | 1) => &[],
            _ => &[Family::Location, Family::Scale, Family::Top, Family::Bottom],
        };
        numeric
            .iter()
            .copied()
            .chain((0..categories as u8).map(Family::Category))
            .chain(core::iter::once(Family::Missing))
    }

    /// Shares and scores of the points a family's score lives on: the cells, or two points for an indicator.
    pub fn points(&self, family: Family) -> Points {
        match family {
            Family::Location => Points::cells(self.cells, &self.p, &self.location),
            Family::Scale => Points::cells(self.cells, &self.p, &self.scale),
            Family::Top => Points::indicator(self.p[self.cells - 1]),
            Family::Bottom => Points::indicator(self.p[0]),
            Family::Missing => Points::indicator(self.p_missing),
            Family::Category(k) => Points::indicator(self.p[usize::from(k)]),
        }
    }

    /// The sum of a family's scores over a window's counts.
    pub fn sum(&self, family: Family, counts: &[u32], missing: u32) -> Sum {
        let n: f64 = counts.iter().map(|&c| f64::from(c)).sum();
        let dot = |scores: &[f64; CELLS_MAX]| counts.iter().zip(scores).map(|(&c, g)| f64::from(c) * g).sum();
        let share = |hits: u32, of: f64, p: f64| Sum { n: of, sum: (f64::from(hits) - of * p) / sqrt(p * (1.0 - p)) };
        let hits = |k: usize| counts.get(k).copied().unwrap_or(0);
        match family {
            Family::Location => Sum { n, sum: dot(&self.location) },
            Family::Scale => Sum { n, sum: dot(&self.scale) },
            Family::Top => share(hits(self.cells - 1), n, self.p[self.cells - 1]),
            Family::Bottom => share(hits(0), n, self.p[0]),
            Family::Category(k) => share(hits(usize::from(k)), n, self.p[usize::from(k)]),
            Family::Missing => share(missing, n + f64::from(missing), self.p_missing),
        }
    }
}

/// Points (share, score) of a discrete score distribution with mean 0 and variance 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Points {
    len: usize,
    p: [f64; CELLS_MAX],
    g: [f64; CELLS_MAX],
}

impl Points {
    fn cells(len: usize, p: &[f64; CELLS_MAX], g: &[f64; CELLS_MAX]) -> Self {
        Self { len, p: *p, g: *g }
    }

    /// Points from slices of equal length, at most [`CELLS_MAX`].
    pub fn from_slices(p: &[f64], g: &[f64]) -> Self {
        let mut points = Self { len: p.len().min(CELLS_MAX), p: [0.0; CELLS_MAX], g: [0.0; CELLS_MAX] };
        points.p[..points.len].copy_from_slice(&p[..points.len]);
        points.g[..points.len].copy_from_slice(&g[..points.len]);
        points
    }

    fn indicator(share: f64) -> Self {
        let sd = sqrt(share * (1.0 - share));
        Self::from_slices(&[share, 1.0 - share], &[(1.0 - share) / sd, -share / sd])
    }

    /// The same points seen from below: scores times `sign`.
    pub fn signed(mut self, sign: f64) -> Self {
        self.g.iter_mut().for_each(|g| *g *= sign);
        self
    }

    /// The points.
    pub fn iter(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.p[..self.len].iter().copied().zip(self.g[..self.len].iter().copied())
    }

    /// The largest score.
    pub fn top(&self) -> f64 {
        self.g[..self.len].iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Shifts and scales `g` to mean 0 and variance 1 under `p`; a constant score becomes 0.
fn standardise(p: &[f64], g: &mut [f64]) {
    let mean: f64 = p.iter().zip(g.iter()).map(|(p, g)| p * g).sum();
    let variance: f64 = p.iter().zip(g.iter()).map(|(p, g)| p * (g - mean) * (g - mean)).sum();
    let sd = sqrt(variance);
    for g in g {
        *g = if sd > 0.0 { (*g - mean) / sd } else { 0.0 };
    }
}
