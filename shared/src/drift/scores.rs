//! Scores of the cells: what makes a shift, a spread, a heavy tail, a gap or a new category visible in counts.
//!
//! Each score has mean 0 and variance 1 under the baseline (docs/detection.md). Numbers have location, scale, the two outer
//! cells and missing; categories have one score per category and missing.

use super::normal;
use crate::baseline::FeatureBaseline;
use crate::list::List;
use crate::sketch::{CELLS_MAX, Cells, Sketch};
use libm::sqrt;
use serde::{Deserialize, Serialize};

/// Most families of one feature: one per category, missing and repeats.
pub const FAMILIES_MAX: usize = CELLS_MAX + 2;
/// Rows that the whole day's shares weigh in the shares of one season slot.
const SEASON_PRIOR_ROWS: f64 = 50.0;

/// What kind of change a score sees.
#[derive(
    bincode::Encode, bincode::Decode, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
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
    /// Readings repeat the one before: the sensor is stuck.
    Repeats,
    /// The share of this cell of categories changed.
    Category(u8),
    /// Inputs lie together in another way: this coordinate of their [embedding](crate::embedding) moved.
    Embedding(u8),
}

/// Categories whose share a stream may have a level of its own in.
pub const CATEGORIES_LEARNED: usize = 16;

impl Family {
    /// Whether healthy streams have a level of their own in this score, which is learned: also the mix of categories, as far as a detector
    /// has room. Other shares are of rare things.
    pub fn is_learned(self) -> bool {
        self.has_level() || matches!(self, Self::Category(k) if usize::from(k) < CATEGORIES_LEARNED)
    }

    /// Whether it is a level, which neighbours share.
    pub fn has_level(self) -> bool {
        matches!(self, Self::Location | Self::Scale | Self::Embedding(_))
    }
}

/// The score table of one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    cells: usize,
    categorical: bool,
    p: [f64; CELLS_MAX],
    location: [f64; CELLS_MAX],
    scale: [f64; CELLS_MAX],
    missing: Share,
    repeats: Share,
    /// Of each cell.
    shares: [Share; CELLS_MAX],
    rows: f64,
}

/// A share of readings, and one over the standard deviation of its indicator.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Share {
    p: f64,
    per_sd: f64,
}

impl Share {
    fn new(p: f64) -> Self {
        Self { p, per_sd: 1.0 / sqrt(p * (1.0 - p)) }
    }

    fn sum(self, hits: u32, of: f64) -> Sum {
        Sum { n: of, sum: (f64::from(hits) - of * self.p) * self.per_sd }
    }
}

/// What a window or a sum of windows counted of one feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally<'a> {
    /// Finite values per cell.
    pub counts: &'a [u32],
    /// Readings that were missing or broken: to a detector the same.
    pub missing: u32,
    /// Readings equal to the one before.
    pub repeats: u32,
}

impl<'a, const K: usize> From<&'a Sketch<K>> for Tally<'a> {
    fn from(sketch: &'a Sketch<K>) -> Self {
        let missing = sketch.missing().saturating_add(sketch.non_finite());
        Self { counts: sketch.counts(), missing, repeats: sketch.repeats() }
    }
}

/// Score sums by family, in the order of [`Scores::families`].
pub type Sums = List<Sum, FAMILIES_MAX>;

/// The score sums of one window, together with how many readings they were summed over.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sum {
    /// Readings.
    pub n: f64,
    /// Sum of their standardised scores.
    pub sum: f64,
}

impl Sum {
    /// Mean score; 0 without readings.
    pub fn mean(&self) -> f64 {
        if self.n > 0.0 { self.sum / self.n } else { 0.0 }
    }

    /// Adds another sum of the same family.
    pub fn add(&mut self, other: Self) {
        self.n += other.n;
        self.sum += other.sum;
    }
}

impl Scores {
    /// The table for a feature.
    ///
    /// Cell shares are (b+1/2)/(N0+K/2); a cell's rank is the middle of its span; location is the normal quantile of the
    /// rank and scale its square, both standardised.
    pub fn new(feature: &FeatureBaseline) -> Self {
        let total = feature.rows() as f64 + feature.counts.len() as f64 / 2.0;
        let p = feature.counts.iter().map(|&count| (f64::from(count) + 0.5) / total);
        let missing = f64::from(feature.missing);
        let p_missing = (missing + 0.5) / (feature.rows() as f64 + missing + 1.0);
        Self::of(feature, p, p_missing, feature.rows() as f64 + missing)
    }

    /// The table for one slot of the feature's season: p = (b + 50·p_all)/(N + 50) for the slot's own counts b of N rows. The
    /// table of all rows when there is no such slot.
    pub fn of_season(feature: &FeatureBaseline, slot: usize) -> Self {
        let all = Self::new(feature);
        let Some(season) = feature.season.as_ref().and_then(|s| s.slots.get(slot)) else { return all };
        let missing = f64::from(season.missing);
        let rows: f64 = season.counts.iter().map(|&c| f64::from(c)).sum();
        let shrunk = |count: f64, of: f64, p: f64| (count + SEASON_PRIOR_ROWS * p) / (of + SEASON_PRIOR_ROWS);
        let p_missing = shrunk(missing, rows + missing, all.missing.p);
        let p = season.counts.iter().zip(all.p).map(|(&count, p)| shrunk(f64::from(count), rows, p));
        Self::of(feature, p, p_missing, rows + missing + SEASON_PRIOR_ROWS)
    }

    fn of(feature: &FeatureBaseline, shares: impl Iterator<Item = f64>, p_missing: f64, rows: f64) -> Self {
        let cells = feature.counts.len();
        let mut table = Self {
            cells,
            categorical: !matches!(feature.cells, Cells::Edges(_)),
            p: [0.0; CELLS_MAX],
            location: [0.0; CELLS_MAX],
            scale: [0.0; CELLS_MAX],
            missing: Share::new(p_missing),
            repeats: Share::new((f64::from(feature.repeats) + 0.5) / (feature.rows() as f64 + 1.0)),
            shares: [Share::default(); CELLS_MAX],
            rows,
        };
        let mut below = 0.0;
        for (k, p) in shares.take(cells).enumerate() {
            table.p[k] = p;
            table.shares[k] = Share::new(p);
            table.location[k] = normal::quantile(below + p / 2.0);
            below += p;
        }
        table.scale = table.location.map(|z| z * z);
        standardise(&table.p[..cells], &mut table.location[..cells]);
        standardise(&table.p[..cells], &mut table.scale[..cells]);
        table
    }

    /// Training rows behind the table, missing ones included.
    pub fn rows(&self) -> f64 {
        self.rows
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
            _ => &[Family::Location, Family::Scale, Family::Top, Family::Bottom, Family::Repeats],
        };
        numeric
            .iter()
            .copied()
            .chain((0..categories as u8).map(Family::Category))
            .chain(core::iter::once(Family::Missing))
    }

    /// The share of what a family counts, for those that count one thing.
    pub fn share(&self, family: Family) -> Option<f64> {
        match family {
            Family::Location | Family::Scale | Family::Embedding(_) => None,
            Family::Top => Some(self.p[self.cells - 1]),
            Family::Bottom => Some(self.p[0]),
            Family::Missing => Some(self.missing.p),
            Family::Repeats => Some(self.repeats.p),
            Family::Category(k) => Some(self.p[usize::from(k)]),
        }
    }

    /// Shares and scores of the points a family's score lives on: the cells, or two points for an indicator.
    pub fn points(&self, family: Family) -> Points {
        match family {
            Family::Scale => Points::cells(self.cells, &self.p, &self.scale),
            other => match self.share(other) {
                Some(share) => Points::indicator(share),
                None => Points::cells(self.cells, &self.p, &self.location),
            },
        }
    }

    /// The sum of a family's scores over a window's counts.
    pub fn sum<'a>(&self, family: Family, tally: impl Into<Tally<'a>>) -> Sum {
        let tally = tally.into();
        self.sum_of(family, tally, &Counted::of(tally.counts))
    }

    /// The sums of every family.
    #[inline]
    pub fn sums<'a>(&self, tally: impl Into<Tally<'a>>) -> Sums {
        let tally = tally.into();
        let counted = Counted::of(tally.counts);
        self.families().map(|family| self.sum_of(family, tally, &counted)).collect()
    }

    #[inline]
    fn sum_of(&self, family: Family, tally: Tally<'_>, counted: &Counted) -> Sum {
        let n = counted.n;
        let hits = |k: usize| tally.counts.get(k).copied().unwrap_or(0);
        let share = |k: usize| self.shares.get(k).copied().unwrap_or_default().sum(hits(k), n);
        match family {
            Family::Location => Sum { n, sum: counted.dot(&self.location) },
            Family::Scale => Sum { n, sum: counted.dot(&self.scale) },
            Family::Top => share(self.cells - 1),
            Family::Bottom => share(0),
            Family::Category(k) => share(usize::from(k)),
            Family::Missing => self.missing.sum(tally.missing, n + f64::from(tally.missing)),
            Family::Repeats => self.repeats.sum(tally.repeats, n),
            // Not counted on cells.
            Family::Embedding(_) => Sum::default(),
        }
    }
}

/// Counts as the arithmetic needs them.
struct Counted {
    counts: [f64; CELLS_MAX],
    n: f64,
}

impl Counted {
    #[inline]
    fn of(cells: &[u32]) -> Self {
        let mut counts = [0.0; CELLS_MAX];
        counts.iter_mut().zip(cells).for_each(|(to, &count)| *to = f64::from(count));
        Self { counts, n: cells.iter().map(|&count| u64::from(count)).sum::<u64>() as f64 }
    }

    /// Σ count·score, in four sums side by side.
    #[inline]
    fn dot(&self, scores: &[f64; CELLS_MAX]) -> f64 {
        let mut sums = [0.0; 4];
        for (counts, scores) in self.counts.chunks_exact(4).zip(scores.chunks_exact(4)) {
            sums.iter_mut().zip(counts.iter().zip(scores)).for_each(|(sum, (count, score))| *sum += count * score);
        }
        sums[0] + sums[1] + (sums[2] + sums[3])
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
