//! Standard normal data from a seed, and baselines and windows made of it.

use driftline_shared::baseline::{FeatureBaseline, TOLERANCE_DEFAULT};
use driftline_shared::list::Text;
use driftline_shared::manifest::Task;
use driftline_shared::units::{ReleaseId, WallMs};
use driftline_shared::window::Window;

/// SplitMix64 (Steele, Lea, Flood 2014), good enough for data and the same everywhere.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator for this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n.max(1)
    }

    /// Standard normal (Box and Muller 1958, one of the pair).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Baselines of `count` features, each of `rows` standard normal values.
pub fn features(count: usize, rows: usize) -> Vec<FeatureBaseline> {
    let mut rng = Rng::new(0xba5e);
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
    rng: &mut Rng,
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
