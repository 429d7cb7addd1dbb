//! Standard normal data from a seed, and baselines and windows made of it.

use driftline_agent::pumps::Random;
use driftline_shared::baseline::{FeatureBaseline, TOLERANCE_DEFAULT};
use driftline_shared::list::Text;
use driftline_shared::manifest::Task;
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
    let table = Table { names: &names, units: &[], inputs: table, outputs: &outputs, task: &Task::Regression(0) };
    let options = Options { window_samples: 60, independent_rows: false, tolerance: TOLERANCE_DEFAULT };
    build(&table, options).expect("a sound table").baseline.features
}

/// A window of `samples` samples; `map` turns (feature, standard normal value) into a reading.
pub fn window(
    features: &[FeatureBaseline],
    rng: &mut Random,
    samples: usize,
    map: impl Fn(usize, f64) -> f64,
) -> Box<Window<32>> {
    let mut window = Box::new(Window::new(ReleaseId(1), WallMs(0), 60_000, features.iter().map(|f| &f.cells)));
    for _ in 0..samples {
        let values = (0..features.len()).map(|i| map(i, rng.normal()) as f32);
        window.add(features.iter().map(|f| &f.cells), values);
    }
    window
}

/// A short text.
pub fn text<const N: usize>(text: &str) -> Text<N> {
    Text::whole(text).expect("short enough")
}
