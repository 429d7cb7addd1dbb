//! What was normal: per feature the cells, their counts in the training data, and how such counts vary when nothing is wrong.
//!
//! A baseline is built once by `driftline baselines create`, travels in the model's bundle as JSON and is read at both ends:
//! the agent needs the cells, the detector the rest. Immutable; another baseline is another release.

use crate::calibration::Calibration;
use crate::embedding::Embedded;
use crate::joint::Joint;
use crate::list::{List, Text};
use crate::sketch::{CELLS_MAX, Cells};
use crate::units::WallMs;
use serde::{Deserialize, Serialize};

/// Version of the JSON format.
pub const FORMAT: u32 = 1;
/// Longest feature name in bytes. Free text: it is a column name of the user's table.
pub const FEATURE_NAME_BYTES_MAX: usize = 64;

/// Where a watched number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A model input, by its place in the sample.
    Input(u16),
    /// The index of the largest class score.
    PredictedClass,
    /// The largest class score.
    Confidence,
    /// How undecided the model is: [`crate::performance::entropy`] of its scores.
    Entropy,
    /// How badly the inputs go together ([`crate::joint`]).
    Joint,
    /// A number that the model puts out, by its place.
    Output(u16),
}

impl Role {
    /// Whether this is one of the model's inputs.
    pub fn is_input(self) -> bool {
        matches!(self, Self::Input(_))
    }
}

/// Long-run variance factors (phi, upper bounds; docs/detection.md) of the five scores, in units of an independent sample's variance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Phi {
    /// Of the location score.
    pub location: f64,
    /// Of the scale score.
    pub scale: f64,
    /// Of the share in the top cell.
    pub top: f64,
    /// Of the share in the bottom cell.
    pub bottom: f64,
    /// Of the share of missing readings; for categories, of every share.
    pub share: f64,
}

impl Phi {
    /// The factors of independent samples.
    pub const INDEPENDENT: Self = Self { location: 1.0, scale: 1.0, top: 1.0, bottom: 1.0, share: 1.0 };
}

/// One watched feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureBaseline {
    /// Column name.
    pub name: Text<FEATURE_NAME_BYTES_MAX>,
    /// Unit for sentences, such as `°C`; may be empty.
    pub unit: Text<16>,
    /// Where it comes from.
    pub role: Role,
    /// The cells.
    pub cells: Cells,
    /// Training rows per cell.
    pub counts: List<u32, CELLS_MAX>,
    /// Training rows in which it was missing or not finite.
    pub missing: u32,
    /// Training rows whose value equals that of the row before.
    #[serde(default)]
    pub repeats: u32,
    /// Sum of the training values per cell; empty for categories and in bundles that were made before sums were kept.
    #[serde(default)]
    pub sums: List<f64, CELLS_MAX>,
    /// Median of the training values.
    pub median: f32,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub sd: f64,
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
    /// How window means vary.
    pub phi: Phi,
    /// Between-device standard deviation of the mean location score, an upper bound; `None` when the table did not say which
    /// device a row came from.
    pub omega: Option<f64>,
    /// The same of the scale score; `None` also in bundles that were made before it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omega_scale: Option<f64>,
    /// Counts by hour where the hour of the day matters; `None` where it does not, or the table has no times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub season: Option<Season>,
    /// Smallest change worth an alarm, in standard deviations of the score.
    pub tolerance: f64,
    /// Why this feature is not watched; `None` when it is.
    pub unwatched: Option<Text<160>>,
}

/// Slots of a [`Season`]: the hours of a day, or those of a working day and then those of a weekend day.
pub const SEASON_SLOTS_MAX: usize = 48;
const HOURS: u64 = 24;
const HOUR_MS: u64 = 3_600_000;

/// How a feature's distribution differs by hour of the day, and by working day and weekend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Season {
    /// 24 or 48 slots, by [`Season::slot`].
    pub slots: List<SeasonSlot, SEASON_SLOTS_MAX>,
}

/// One slot's rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SeasonSlot {
    /// Training rows per cell.
    pub counts: List<u32, CELLS_MAX>,
    /// Training rows in which the feature was missing or not finite.
    pub missing: u32,
}

impl Season {
    /// The slot of `slots` (24 or 48) that holds a time: the hour in UTC, 24 later at the weekend.
    pub fn slot(slots: usize, at: WallMs) -> usize {
        let hour = (at.0 / HOUR_MS) % HOURS;
        // 1970 began on a Thursday.
        let weekday = (at.0 / (HOUR_MS * HOURS) + 3) % 7;
        let weekend = slots > HOURS as usize && weekday >= 5;
        (hour + if weekend { HOURS } else { 0 }) as usize
    }
}

impl FeatureBaseline {
    /// How much healthy devices differ, as a standard deviation of their mean location score: what the table showed, or
    /// [`OMEGA_ASSUMED`].
    pub fn spread(&self) -> f64 {
        self.omega.unwrap_or(OMEGA_ASSUMED)
    }

    /// The same of their mean scale score.
    pub fn spread_of_scale(&self) -> f64 {
        self.omega_scale.unwrap_or_else(|| self.spread())
    }

    /// The season slot of a time; 0 where the hour does not matter.
    pub fn season_slot(&self, at: WallMs) -> usize {
        self.season.as_ref().map_or(0, |season| Season::slot(season.slots.len(), at))
    }

    /// Training rows with a finite value.
    pub fn rows(&self) -> u64 {
        self.counts.iter().map(|&c| u64::from(c)).sum()
    }
}

/// The baseline of a release. `L` is the owner's list type: each end brings its own storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline<L> {
    /// [`FORMAT`].
    pub format: u32,
    /// Rows of the training table.
    pub rows: u32,
    /// Samples that a device's window is expected to hold; phi was estimated at this length.
    pub window_samples: u32,
    /// How inputs move together; `None` for fewer than two, and in bundles that were made before it was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joint: Option<Joint>,
    /// What their embedding was; `None` where there is no `joint`, and for models with too many inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Embedded>,
    /// Inputs first, then outputs; the order of a window's sketches.
    pub features: L,
    /// What the model's scores mean; `None` where no truth was known when the bundle was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// Practical tolerance when the user gives none (docs/detection.md).
pub const TOLERANCE_DEFAULT: f64 = 0.1;
/// Spread between healthy devices that is reckoned with when the training table does not show it, in sd of the score. A prior:
/// each stream's own level is learned within it, so that it costs sensitivity only in a stream's first windows.
pub const OMEGA_ASSUMED: f64 = 0.1;
