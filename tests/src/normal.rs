//! Standard normal data from a seed, and baselines and windows made of it.

use driftline_agent::pumps::Random;
use driftline_collector::detect::designs::{Designs, Place};
use driftline_collector::release::Baseline;
use driftline_shared::baseline::{FORMAT, FeatureBaseline, TOLERANCE_DEFAULT};
use driftline_shared::drift::detector::{Compared, Detector, Step, View};
use driftline_shared::drift::scores::Tally;
use driftline_shared::list::Text;
use driftline_shared::manifest::Task;
use driftline_shared::sketch::Grid;
use driftline_shared::units::{ReleaseId, WallMs};
use driftline_shared::window::Window;

/// Baselines of `count` features, each of `rows` standard normal values.
pub fn features(count: usize, rows: usize) -> Vec<FeatureBaseline> {
    features_of(0xba5e, count, rows)
}

/// The same of another draw of rows.
pub fn features_of(seed: u64, count: usize, rows: usize) -> Vec<FeatureBaseline> {
    let mut rng = Random::new(seed);
    let table: Vec<Vec<f32>> = (0..rows).map(|_| (0..count).map(|_| rng.normal() as f32).collect()).collect();
    baseline_of(&table)
}

/// Baselines of a table's columns, rows in time order.
pub fn baseline_of(table: &[Vec<f32>]) -> Vec<FeatureBaseline> {
    use driftline_collector::baseline::{Options, Table, build};
    let names: Vec<String> = (0..table[0].len()).map(|i| format!("f{i}")).collect();
    let outputs = vec![vec![0.0]; table.len()];
    let table = Table {
        names: &names,
        units: &[],
        inputs: table,
        outputs: &outputs,
        task: &Task::Regression(0),
        times: &[],
        devices: &[],
        categorical: &[],
    };
    let options = Options { window_samples: 60, independent_rows: false, tolerance: TOLERANCE_DEFAULT };
    let features = build(&table, options).expect("a sound table").baseline.features;
    // The columns themselves, without their combination.
    features.into_iter().filter(|f| f.role.is_input()).collect()
}

/// A window of `samples` samples; `map` turns (feature, standard normal value) into a reading.
pub fn window(
    features: &[FeatureBaseline],
    rng: &mut Random,
    samples: usize,
    map: impl Fn(usize, f64) -> f64,
) -> Box<Window<32>> {
    let grids: Vec<Grid> = features.iter().map(|f| Grid::new(&f.cells)).collect();
    let mut window = Box::new(Window::new(ReleaseId(1), WallMs(0), 60_000, grids.iter()));
    for _ in 0..samples {
        let values = (0..features.len()).map(|i| map(i, rng.normal()) as f32);
        window.add(grids.iter(), values);
    }
    window
}

/// One stream of windows of one feature: a detector, and the designs it needs as it learns its own level.
pub struct Stream {
    baseline: Baseline,
    designs: Designs,
    detector: Detector,
}

impl Stream {
    /// One of `features` features.
    pub fn new(feature: &FeatureBaseline, features: usize) -> Self {
        let baseline = baseline_with(vec![feature.clone(); features]);
        Self { baseline, designs: Designs::default(), detector: Detector::default() }
    }

    /// The detector takes in a window's tally.
    pub fn step<'a>(&mut self, tally: impl Into<Tally<'a>>, slot: u64, threshold: f64) -> Step {
        let tally = tally.into();
        let n = f64::from(tally.counts.iter().sum::<u32>() + tally.missing);
        let place = Place { feature: 0, start: WallMs(0), n, devices: 1.0, own: self.detector.own_readings() };
        let scores = self.designs.scores(&self.baseline, 0, WallMs(0));
        let window: View = scores.sums(tally).iter().map(|&sum| Compared::from(sum)).collect();
        let design = self.designs.design(&self.baseline, place);
        self.detector.step(design, &window, slot, threshold)
    }

    /// Windows' worth of readings that its level was learned from.
    pub fn learned(&self, n: usize) -> f64 {
        self.detector.own_readings() / n as f64
    }
}

/// A baseline of these features.
pub fn baseline_with(features: Vec<FeatureBaseline>) -> Baseline {
    Baseline {
        format: FORMAT,
        rows: 6_000,
        window_samples: 60,
        features,
        calibration: None,
        joint: None,
        embedding: None,
    }
}

/// A short text.
pub fn text<const N: usize>(text: &str) -> Text<N> {
    Text::whole(text).expect("short enough")
}
