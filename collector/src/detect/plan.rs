//! Before anything is deployed: which shift of each reading will be seen, and how soon.
//!
//! A shift of δ standard deviations of the score is seen after about φ·(ln c + ln 1/w) / (n·(δ - τ)²/2) windows, c the threshold
//! of the budget, w the winning bet's share of the stake, τ what is tolerated once a device's own level is learned. Turned around: the
//! smallest δ for a given time. Simulated delays are within a factor of about 1.6 of it, mostly shorter (docs/evaluation.md).

use super::budget::Budget;
use super::designs::watched;
use crate::baseline::QUANTILES;
use crate::device::DEVICES_MAX;
use crate::release::Baseline;
use driftline_shared::baseline::FeatureBaseline;
use driftline_shared::drift::design::{Circumstances, Design, Frame};
use driftline_shared::drift::detector::OWN_WINDOWS;
use driftline_shared::drift::scores::{Family, Scores};
use driftline_shared::sketch::Cells;
use serde::Serialize;

/// ln 1/w of the bet that wins.
const STAKE: f64 = 3.0;
/// Shifts larger than this lie outside of every table; they are seen at once or never.
const SHIFT_MAX: f64 = 3.0;
const HOUR_MS: f64 = 3_600_000.0;
/// Shares of a normal law below one standard deviation to either side.
const ONE_SD: (f64, f64) = (0.158_655, 0.841_345);

/// What will be seen of one reading on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    /// The reading.
    pub feature: String,
    /// Its unit.
    pub unit: String,
    /// The smallest shift that is seen within an hour, in the reading's unit; `None` when none is: the note says why.
    pub hour: Option<f64>,
    /// The same on a device that has just begun and does not know its own level yet.
    pub first_hour: Option<f64>,
    /// Within a day.
    pub day: Option<f64>,
    /// The same in standard deviations.
    pub day_sd: Option<f64>,
    /// Why it is not watched, why only categories are, or why no shift is seen in time.
    pub note: Option<String>,
}

/// The fleet a plan is made for, where it is not the collector's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assumed {
    /// Devices; see [`devices`].
    pub devices: Option<u32>,
    /// False alarms.
    pub tolerated: Option<Tolerated>,
}

/// False alarms tolerated per month, finite and above 0. Kept as bits, which sort as such numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tolerated(u64);

impl Tolerated {
    /// As a number.
    pub fn per_month(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl std::str::FromStr for Tolerated {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
        number.map(|n| Self(n.to_bits())).ok_or_else(|| "give a finite number above 0".to_owned())
    }
}

/// A number of devices from text.
pub fn devices(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|n| (1..=DEVICES_MAX as u32).contains(n));
    number.ok_or_else(|| format!("give a whole number from 1 to {DEVICES_MAX}"))
}

/// The plan of a baseline for windows of `window_ms` on so many devices.
pub fn plan(baseline: &Baseline, window_ms: u32, devices: usize, budget: Budget) -> Vec<Planned> {
    let streams = devices.max(1) * watched(baseline).max(1);
    let log_threshold = budget.threshold(streams, window_ms).ln();
    let n = f64::from(baseline.window_samples.max(1));
    let windows = |hours: f64| (hours * HOUR_MS / f64::from(window_ms.max(1))).floor();
    let one = |feature: &FeatureBaseline| {
        let mut planned = Planned {
            feature: feature.name.to_string(),
            unit: feature.unit.to_string(),
            hour: None,
            first_hour: None,
            day: None,
            day_sd: None,
            note: feature.unwatched.as_ref().map(|why| format!("not watched: it {why}")),
        };
        let scores = Scores::new(feature);
        let frame = |own: u32| {
            let at = Circumstances { own: n * f64::from(own), ..Circumstances::device(watched(baseline), n) };
            Design::new(feature, &scores, at).frame(Family::Location).copied()
        };
        let (Some(new), Some(learned)) = (frame(0), frame(OWN_WINDOWS)) else {
            planned.note.get_or_insert_with(|| "a category: changes of its shares are watched".to_owned());
            return planned;
        };
        let smallest = |frame: Frame, hours: f64| {
            let windows = windows(hours);
            let shift = frame.tau + (2.0 * frame.phi * (log_threshold + STAKE) / (n * windows.max(1e-9))).sqrt();
            (windows >= 1.0 && shift <= SHIFT_MAX).then_some(shift)
        };
        let sd = spread(feature);
        planned.hour = smallest(learned, 1.0).map(|shift| shift * sd);
        planned.first_hour = smallest(new, 1.0).map(|shift| shift * sd);
        planned.day_sd = smallest(learned, 24.0);
        planned.day = planned.day_sd.map(|shift| shift * sd);
        planned.note = if windows(24.0) < 1.0 {
            Some("a window is longer than a day".to_owned())
        } else if learned.tau > SHIFT_MAX {
            Some(format!("the tolerance alone is over {SHIFT_MAX} standard deviations: no shift will be seen"))
        } else if planned.day.is_some() && windows(1.0) < 1.0 {
            Some("a window is longer than an hour".to_owned())
        } else {
            let times = [
                (planned.day, "within a day"),
                (planned.hour, "within an hour"),
                (planned.first_hour, "in its first hour"),
            ];
            let never = times.into_iter().find(|(shift, _)| shift.is_none());
            never.map(|(_, when)| format!("{when} only what is over {SHIFT_MAX} standard deviations would be seen"))
        };
        planned
    };
    baseline.features.iter().map(one).collect()
}

/// Half the width of the middle 68 % of the training values, which is what a standard deviation of the location score spans: unlike
/// the standard deviation of the values, a few far outliers leave it where it is. The latter where a value is so frequent that quantiles
/// fell together on it, since between such edges there is nothing.
fn spread(feature: &FeatureBaseline) -> f64 {
    let Cells::Edges(edges) = &feature.cells else { return feature.sd };
    if edges.len() < QUANTILES.len() {
        return feature.sd;
    }
    let n = feature.rows().max(1) as f64;
    // Share of values up to each edge.
    let mut below = 0.0;
    let upto: Vec<(f64, f64)> = edges
        .iter()
        .zip(feature.counts.iter())
        .map(|(&edge, &count)| {
            below += f64::from(count) / n;
            (below, f64::from(edge))
        })
        .collect();
    let quantile = |q: f64| {
        upto.windows(2).find(|pair| pair[0].0 <= q && q <= pair[1].0 && pair[1].0 > pair[0].0).map(|pair| {
            let part = (q - pair[0].0) / (pair[1].0 - pair[0].0);
            pair[0].1 + part * (pair[1].1 - pair[0].1)
        })
    };
    match (quantile(ONE_SD.0), quantile(ONE_SD.1)) {
        (Some(low), Some(high)) if high > low => 0.5 * (high - low),
        _ => feature.sd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::rules::{Trained, Watch};
    use crate::evaluate::series::Scenario;
    use driftline_shared::random::Random;

    #[test]
    fn one_outlier_does_not_move_the_plan() {
        let values = |outlier: f32| -> Vec<f32> {
            let mut random = Random::new(2);
            (0..500).map(|i| if i == 100 { outlier } else { random.normal() as f32 }).collect()
        };
        let hour = |outlier: f32| {
            let (mut baseline, _) = Scenario::NULL[0].baseline(&mut Random::new(1), 0.1);
            baseline.features[0] = crate::evaluate::series::feature(&values(outlier), &[], &[], 0.1);
            plan(&baseline, 60_000, 1, Budget::default()).remove(0).hour.expect("an hour is enough")
        };
        let (without, with) = (hour(0.0), hour(1e6));
        assert!((with / without - 1.0).abs() < 0.1, "{with} and {without}");
    }

    /// The plan against the detector: what is planned for an hour takes about an hour.
    #[test]
    fn what_is_planned_is_what_is_seen() {
        const BEFORE: usize = 200;
        for (at, law) in ["iid", "AR .5", "AR .9"].into_iter().enumerate() {
            let scenario = Scenario::CHANGING.iter().find(|s| s.name.starts_with(law)).expect("a scenario");
            let mut delays: Vec<usize> = (0..12)
                .map(|run| {
                    let mut random = Random::of(at as u64, run);
                    let (baseline, values) = scenario.baseline(&mut random, 0.1);
                    let threshold = Budget::default().threshold(watched(&baseline), 60_000);
                    let shift = plan(&baseline, 60_000, 1, Budget::default())[0].hour.expect("an hour is enough");
                    let trained = Trained::new(baseline, &values);
                    let mut watch = Watch::new(&trained, threshold);
                    let mut series = scenario.device(&mut random);
                    let seen = (0..BEFORE + 600).find(|&at| {
                        let (mut window, start) = series.window();
                        if at >= BEFORE {
                            window.iter_mut().for_each(|value| *value += shift as f32);
                        }
                        watch.alarm(&window, start).raised
                    });
                    seen.map_or(600, |at| at.saturating_sub(BEFORE) + 1)
                })
                .collect();
            let median = crate::evaluate::median(&mut delays).expect("runs");
            assert!((15..=96).contains(&median), "{law}: planned for 60 windows, seen after {delays:?}");
        }
    }

    #[test]
    fn what_is_assumed_is_checked() {
        for bad in ["0", "-1", "1.5", "100001", "many", ""] {
            assert!(devices(bad).is_err(), "{bad}");
        }
        assert_eq!((devices("1"), devices("100000")), (Ok(1), Ok(DEVICES_MAX as u32)));
        for bad in ["0", "-1", "nan", "inf", "1e999", "few", ""] {
            assert!(bad.parse::<Tolerated>().is_err(), "{bad}");
        }
        let tolerated = |text: &str| text.parse::<Tolerated>().unwrap();
        assert_eq!(tolerated("0.5").per_month(), 0.5);
        assert!(tolerated("0.5") < tolerated("2"));
    }

    #[test]
    fn few_different_values_are_planned_in_their_standard_deviation() {
        let plans = |tolerance: f64, window_ms: u32, value: &dyn Fn(&mut Random) -> f64| {
            let mut random = Random::new(3);
            let values: Vec<f32> = (0..2_000).map(|_| value(&mut random) as f32).collect();
            let (mut baseline, _) = Scenario::NULL[0].baseline(&mut Random::new(1), 0.1);
            baseline.features[0] = crate::evaluate::series::feature(&values, &[], &[], tolerance);
            (baseline.features[0].sd, plan(&baseline, window_ms, 1, Budget::default()).remove(0))
        };
        let switch = |random: &mut Random| f64::from(u8::from(random.unit() < 0.3));
        let count = |random: &mut Random| f64::from(random.poisson(3.0));
        let (_, number) = plans(0.1, 60_000, &Random::normal);
        for value in [&switch as &dyn Fn(&mut Random) -> f64, &count] {
            let (sd, planned) = plans(0.1, 60_000, value);
            let ratio = planned.day.expect("a day is enough") / sd / number.day_sd.expect("a day is enough");
            assert!((ratio - 1.0).abs() < 0.15, "{planned:?} of sd {sd}");
            assert!(planned.first_hour > planned.hour && planned.note.is_none(), "{planned:?}");
        }
        // What is never seen says why.
        for (tolerance, window_ms, why) in [
            (2.85, 60_000, "in its first hour only"),
            (2.92, 60_000, "within an hour only"),
            (2.99, 60_000, "within a day only"),
            (5.0, 60_000, "tolerance"),
            (0.1, 2 * 3_600_000, "longer than an hour"),
            (0.1, 25 * 3_600_000, "longer than a day"),
        ] {
            let (_, planned) = plans(tolerance, window_ms, &Random::normal);
            assert!(
                planned.first_hour.is_none() && planned.note.as_ref().is_some_and(|note| note.contains(why)),
                "{planned:?}"
            );
        }
    }

    #[test]
    fn more_time_shows_less_and_more_devices_cost_a_little() {
        let (baseline, _) = Scenario::NULL[0].baseline(&mut Random::new(1), 0.1);
        let of = |devices| plan(&baseline, 60_000, devices, Budget::default()).remove(0);
        let (one, many) = (of(1), of(10_000));
        let (hour, day) = (one.hour.expect("an hour is enough"), one.day.expect("a day, too"));
        assert!(day < hour && day > 0.1, "{day} within a day, {hour} within an hour");
        let many_hour = many.hour.expect("an hour is enough");
        assert!(many_hour > hour && many_hour < 1.5 * hour, "{many_hour} of 10 000 devices");
    }
}
