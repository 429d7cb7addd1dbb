//! Real sensors with labelled trouble: tables whose rows say when something was wrong.
//!
//! Each table is one experiment: its first normal rows are the training data, the rest comes in windows. Alarms before the label
//! first says trouble are false; the first one raised after that is the detection. One that holds since before is none.

use super::rules::Trained;
use super::series::feature;
use super::{FEATURES, Table};
use crate::detect::designs::{Designs, Place};
use crate::release::Baseline;
use driftline_shared::baseline::FORMAT;
use driftline_shared::drift::detector::{Compared, Detector};
use driftline_shared::sketch::{CELLS_MAX, Grid, Sketch};
use driftline_shared::units::WallMs;

/// One table.
#[derive(Debug, Clone, Default)]
pub struct Experiment {
    /// Its file.
    pub name: String,
    /// Columns of readings.
    pub columns: Vec<Vec<f32>>,
    /// Whether something was wrong, per row.
    pub trouble: Vec<bool>,
}

/// How tables are cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// Rows of training data.
    pub training: usize,
    /// Rows of a window.
    pub window: usize,
    /// Practical tolerance in sd.
    pub tolerance: f64,
    /// Expected windows to a false alarm of one column, divided by the columns.
    pub expected_run: f64,
}

/// What became of one experiment under one rule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Outcome {
    normal_windows: usize,
    false_windows: usize,
    has_trouble: bool,
    /// Rows from the first trouble to the first alarm after it.
    delay: Option<usize>,
}

/// What a rule did in one window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Alarm {
    /// It holds.
    on: bool,
    /// It was raised in this window.
    raised: bool,
}

/// From what a rule did in every window of a table.
fn outcome(experiment: &Experiment, cut: &Cut, alarms: &[Alarm]) -> Outcome {
    let mut found = Outcome::default();
    let first = experiment.trouble.iter().skip(cut.training).position(|&t| t).map(|at| at + cut.training);
    found.has_trouble = first.is_some();
    for (i, &alarm) in alarms.iter().enumerate() {
        let end = cut.training + (i + 1) * cut.window;
        match first {
            Some(first) if end > first => {
                if alarm.raised && found.delay.is_none() {
                    found.delay = Some(end - first);
                }
            }
            _ => {
                found.normal_windows += 1;
                found.false_windows += usize::from(alarm.on);
            }
        }
    }
    found
}

/// Per window: whether Driftline alarms on any column, and whether PSI exceeds 0.2 on any.
fn alarms(experiment: &Experiment, cut: &Cut) -> [Vec<Alarm>; 2] {
    let rows = experiment.trouble.len();
    let windows = rows.saturating_sub(cut.training) / cut.window;
    let mut found = [vec![Alarm::default(); windows], vec![Alarm::default(); windows]];
    let threshold = cut.expected_run * experiment.columns.len().max(1) as f64;
    for column in &experiment.columns {
        let of = feature(&column[..cut.training], &[], &[], cut.tolerance);
        if of.unwatched.is_some() {
            continue;
        }
        let features = vec![of; FEATURES];
        let baseline = Baseline {
            format: FORMAT,
            rows: cut.training as u32,
            window_samples: cut.window as u32,
            features,
            calibration: None,
            joint: None,
            embedding: None,
        };
        let normal: Vec<f32> = column[..cut.training].iter().copied().filter(|v| v.is_finite()).collect();
        let trained = Trained::new(baseline, &normal);
        let baseline = &trained.baseline;
        let mut designs = Designs::default();
        let grid = Grid::new(&baseline.features[0].cells);
        let scores = designs.scores(baseline, 0, WallMs(0));
        let mut detector = Detector::default();
        for (i, window) in column[cut.training..].chunks_exact(cut.window).enumerate() {
            let mut sketch = Sketch::<CELLS_MAX>::new(grid.len());
            sketch.add_all(&grid, window);
            let n = window.len() as f64;
            let place = Place { feature: 0, start: WallMs(0), n, devices: 1.0, own: detector.own_readings() };
            let design = designs.design(baseline, place);
            let view: Vec<Compared> = scores.sums(&sketch).iter().map(|&s| s.into()).collect();
            let step = detector.step(design, &view, i as u64, threshold);
            let psi = trained.psi(window) > 0.2;
            let now = [
                Alarm { on: step.raised.is_some() || detector.latch().is_some(), raised: step.raised.is_some() },
                Alarm { on: psi, raised: psi },
            ];
            for (found, now) in found.iter_mut().zip(now) {
                found[i] = Alarm { on: found[i].on | now.on, raised: found[i].raised | now.raised };
            }
        }
    }
    found
}

/// The table of all experiments.
pub fn table(experiments: &[Experiment], cut: &Cut) -> Table {
    let mut rows = Vec::new();
    let outcomes: Vec<[Outcome; 2]> = super::in_parallel(experiments.len(), |i| {
        alarms(&experiments[i], cut).map(|alarms| outcome(&experiments[i], cut, &alarms))
    });
    for (rule, name) in ["Driftline", "PSI > 0.2, any column"].iter().enumerate() {
        let of_rule = || outcomes.iter().map(|o| o[rule]);
        let (normal, wrong) = of_rule().fold((0, 0), |sum, o| (sum.0 + o.normal_windows, sum.1 + o.false_windows));
        let troubled = of_rule().filter(|o| o.has_trouble).count();
        let mut delays: Vec<usize> = of_rule().filter_map(|o| o.delay).collect();
        let seen = delays.len();
        rows.push(vec![
            (*name).to_owned(),
            format!("{wrong} of {normal}"),
            format!("{seen} of {troubled}"),
            super::median(&mut delays).map_or_else(|| "–".into(), |d| d.to_string()),
        ]);
    }
    Table {
        title: "Labelled sensors".into(),
        about: format!(
            "{} tables; the first {} rows of each are its training data, windows of {} rows, tolerance {} sd.",
            experiments.len(),
            cut.training,
            cut.window,
            cut.tolerance
        ),
        columns: ["rule", "normal windows with an alarm", "trouble seen", "median delay in rows"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::random::Random;

    const CUT: Cut = Cut { training: 400, window: 20, tolerance: 0.1, expected_run: 1e4 };

    /// Normal readings that move by 3 sd at a row; the label says trouble from another.
    fn seen(moves: usize, labelled: usize) -> Outcome {
        let mut random = Random::new(1);
        let column = (0..1_000).map(|i| (random.normal() + if i >= moves { 3.0 } else { 0.0 }) as f32).collect();
        let trouble = (0..1_000).map(|i| i >= labelled).collect();
        let experiment = Experiment { name: "x".into(), columns: vec![column], trouble };
        outcome(&experiment, &CUT, &alarms(&experiment, &CUT)[0])
    }

    #[test]
    fn an_alarm_that_holds_since_before_is_no_detection() {
        let fair = seen(600, 600);
        assert_eq!((fair.false_windows, fair.delay), (0, Some(20)));
        let early = seen(500, 700);
        assert!(early.false_windows >= 9 && early.delay.is_none(), "{early:?}");
    }
}
