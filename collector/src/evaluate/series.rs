//! Readings of a sensor that is well, and what can happen to them.

use super::{FEATURES, WINDOW};
use crate::baseline::{Options, build};
use crate::release::{Baseline, Release};
use driftline_shared::baseline::{FORMAT, FeatureBaseline, Role, TOLERANCE_DEFAULT};
use driftline_shared::list::Text;
use driftline_shared::manifest::{self, Digest, Schema, Task};
use driftline_shared::random::Random;
use driftline_shared::units::{Name, ReleaseId, WallMs};

/// Minutes of a day, at one reading a minute.
const DAY: f64 = 1_440.0;
/// Spread between healthy devices in the scenarios that have one, in sd of a reading.
pub const OFFSET_SD: f64 = 0.1;
/// Coefficient and sd of a wandering level.
const WANDER: (f64, f64) = (0.98, 0.3);
/// Devices in a training table that says which device a row came from.
const TRAINING_DEVICES: usize = 20;

/// The law of a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// Independent standard normal.
    Normal,
    /// First-order autoregressive with this coefficient, variance 1.
    Ar(f64),
    /// Student's t with three degrees of freedom.
    HeavyTailed,
    /// Exponential.
    Skewed,
    /// Poisson with mean 3: a dozen values.
    Discrete,
    /// Normal, with a daily wave of amplitude 1.
    Seasonal,
    /// Independent noise around a level that wanders: autoregressive with [`WANDER`], of which a model of neighbouring readings sees little.
    Wandering,
}

/// Where the classes of a model's answer begin on the reading that it follows: half of the answers, three and two tenths.
const CLASSES: [f64; 2] = [0.0, 0.841_621_233_572_914_3];

/// Readings of one device, one a minute.
#[derive(Debug, Clone)]
pub struct Series {
    law: Law,
    random: Random,
    state: f64,
    offset: f64,
    minute: u64,
    /// What is watched is the class of a model's answer.
    classes: bool,
}

impl Series {
    /// A device's readings; `offset` is what makes it differ from others.
    pub fn new(law: Law, seed: u64, offset: f64) -> Self {
        let mut random = Random::new(seed);
        let state = random.normal();
        Self { law, random, state, offset, minute: 0, classes: false }
    }

    fn classes(self, classes: bool) -> Self {
        Self { classes, ..self }
    }

    /// The next reading.
    pub fn reading(&mut self) -> f64 {
        let random = &mut self.random;
        let value = match self.law {
            Law::Normal => random.normal(),
            Law::Ar(rho) => {
                self.state = rho * self.state + (1.0 - rho * rho).sqrt() * random.normal();
                self.state
            }
            Law::HeavyTailed => {
                let chi: f64 = (0..3).map(|_| random.normal().powi(2)).sum();
                random.normal() / (chi / 3.0).sqrt()
            }
            Law::Skewed => random.exponential(),
            Law::Discrete => f64::from(random.poisson(3.0)),
            Law::Wandering => {
                let (rho, sd) = WANDER;
                self.state = rho * self.state + (1.0 - rho * rho).sqrt() * random.normal();
                sd * self.state + (1.0 - sd * sd).sqrt() * random.normal()
            }
            Law::Seasonal => (std::f64::consts::TAU * self.minute as f64 / DAY).sin() + random.normal(),
        };
        self.minute += 1;
        let value = value + self.offset;
        if self.classes { CLASSES.iter().filter(|&&from| value > from).count() as f64 } else { value }
    }

    /// The next window, and when it begins.
    pub fn window(&mut self) -> (Vec<f32>, WallMs) {
        let start = WallMs(self.minute * 60_000);
        ((0..WINDOW).map(|_| self.reading() as f32).collect(), start)
    }
}

/// Where the readings come from and what training knew of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scenario {
    /// What people call it.
    pub name: &'static str,
    /// The law of a device's readings.
    pub law: Law,
    /// Rows of the training table.
    pub rows: usize,
    /// Healthy devices differ by offsets of [`OFFSET_SD`].
    pub offsets: bool,
    /// The training table says which device a row came from.
    pub devices_known: bool,
    /// What is watched is the class that a model gives such readings.
    pub classes: bool,
}

impl Scenario {
    const fn of(name: &'static str, law: Law, rows: usize) -> Self {
        Self { name, law, rows, offsets: false, devices_known: false, classes: false }
    }

    /// Everything in which nothing changes.
    pub const NULL: [Self; 18] = [
        Self::of("iid, 6 000 rows", Law::Normal, 6_000),
        Self::of("iid, 1 000 rows", Law::Normal, 1_000),
        Self::of("AR .5, 6 000 rows", Law::Ar(0.5), 6_000),
        Self::of("AR .5, 1 000 rows", Law::Ar(0.5), 1_000),
        Self::of("AR .9, 6 000 rows", Law::Ar(0.9), 6_000),
        Self::of("AR .9, 1 000 rows", Law::Ar(0.9), 1_000),
        Self::of("AR .9, 60 000 rows", Law::Ar(0.9), 60_000),
        Self::of("heavy-tailed (t₃)", Law::HeavyTailed, 6_000),
        Self::of("skewed (exponential)", Law::Skewed, 6_000),
        Self::of("discrete (Poisson 3)", Law::Discrete, 6_000),
        Self { offsets: true, ..Self::of("device offsets, not known in training", Law::Normal, 6_000) },
        Self { offsets: true, devices_known: true, ..Self::of("device offsets, known", Law::Normal, 6_000) },
        Self::of("season of 1 sd", Law::Seasonal, 6_000),
        Self::of("noise around a level that wanders", Law::Wandering, 6_000),
        Self { classes: true, ..Self::of("classes of a model", Law::Normal, 6_000) },
        Self { classes: true, ..Self::of("classes that repeat (AR .9)", Law::Ar(0.9), 6_000) },
        Self { classes: true, offsets: true, ..Self::of("class mix by device, not known", Law::Normal, 6_000) },
        Self { classes: true, ..Self::of("class mix by hour", Law::Seasonal, 6_000) },
    ];

    /// The scenarios of the delay tables.
    pub const CHANGING: [Self; 3] = [Self::NULL[0], Self::NULL[2], Self::NULL[4]];

    /// A training table.
    pub fn table(&self, random: &mut Random) -> (Vec<f32>, Vec<u64>, Vec<u32>) {
        let devices = if self.offsets { TRAINING_DEVICES } else { 1 };
        let per_device = self.rows / devices;
        let (mut values, mut times, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for device in 0..devices {
            let mut series = self.device(random);
            for minute in 0..per_device {
                values.push(series.reading() as f32);
                if self.law == Law::Seasonal {
                    times.push(minute as u64 * 60_000);
                }
                if self.devices_known {
                    ids.push(device as u32);
                }
            }
        }
        (values, times, ids)
    }

    /// A device that is well.
    pub fn device(&self, random: &mut Random) -> Series {
        let offset = if self.offsets { OFFSET_SD * random.normal() } else { 0.0 };
        Series::new(self.law, random.bits(), offset).classes(self.classes)
    }

    /// A baseline of one table, standing for one of [`FEATURES`] features.
    pub fn baseline(&self, random: &mut Random, tolerance: f64) -> (Baseline, Vec<f32>) {
        let (values, times, devices) = self.table(random);
        let of = if self.classes { class_feature } else { feature };
        let feature = of(&values, &times, &devices, tolerance);
        let rows = values.len() as u32;
        let features = vec![feature; FEATURES];
        (
            Baseline {
                format: FORMAT,
                rows,
                window_samples: WINDOW as u32,
                features,
                calibration: None,
                joint: None,
                embedding: None,
            },
            values,
        )
    }
}

/// The baseline of a table of several readings, their combination included.
pub fn baseline_of(rows: &[Vec<f32>]) -> Baseline {
    let names: Vec<String> = (0..rows[0].len()).map(|i| format!("r{i}")).collect();
    let task = Task::Regression(0);
    let table = crate::baseline::Table {
        names: &names,
        units: &[],
        inputs: rows,
        outputs: &[],
        task: &task,
        times: &[],
        devices: &[],
        categorical: &[],
    };
    let options = Options { window_samples: WINDOW as u32, independent_rows: false, tolerance: TOLERANCE };
    build(&table, options).expect("a table of numbers").baseline
}

/// The baseline of one column for windows of [`WINDOW`] readings.
pub fn feature(values: &[f32], times: &[u64], devices: &[u32], tolerance: f64) -> FeatureBaseline {
    feature_of(values, times, devices, Options { window_samples: WINDOW as u32, independent_rows: false, tolerance })
}

/// The same as the options say.
pub fn feature_of(values: &[f32], times: &[u64], devices: &[u32], options: Options) -> FeatureBaseline {
    let inputs: Vec<Vec<f32>> = values.iter().map(|&v| vec![v]).collect();
    let table = crate::baseline::Table {
        names: &["x".to_owned()],
        units: &[],
        inputs: &inputs,
        outputs: &[],
        task: &Task::Regression(0),
        times,
        devices,
        categorical: &[],
    };
    build(&table, options).expect("a table of numbers").baseline.features.remove(0)
}

/// The baseline of the classes that a model gave.
fn class_feature(values: &[f32], times: &[u64], devices: &[u32], tolerance: f64) -> FeatureBaseline {
    let inputs: Vec<Vec<f32>> = values.iter().map(|&v| vec![v]).collect();
    let certain = |&class: &f32| (0..=CLASSES.len()).map(|at| f32::from(u8::from(class as usize == at))).collect();
    let outputs: Vec<Vec<f32>> = values.iter().map(certain).collect();
    let classes = (0..=CLASSES.len()).map(|at| Text::cut(&at.to_string())).collect();
    let table = crate::baseline::Table {
        names: &["x".to_owned()],
        units: &[],
        inputs: &inputs,
        outputs: &outputs,
        task: &Task::Classification(classes),
        times,
        devices,
        categorical: &[],
    };
    let options = Options { window_samples: WINDOW as u32, independent_rows: false, tolerance };
    let features = build(&table, options).expect("a table of classes").baseline.features;
    features.into_iter().find(|feature| feature.role == Role::PredictedClass).expect("a class")
}

/// A release with this baseline and no model.
pub fn release_of(baseline: Baseline, window_ms: u32) -> Release {
    let name = |name| Name::new(name).expect("a name");
    Release {
        id: ReleaseId(1),
        digest: Digest([0; 32]),
        manifest: Vec::new(),
        model: name("model"),
        name: name("v1"),
        files: Vec::new(),
        baseline,
        schema: Schema {
            format: manifest::FORMAT,
            task: Task::Regression(0),
            label: None,
            window_ms,
            guard: None,
            sampled: None,
        },
        added: WallMs(0),
    }
}

/// Tolerance of the tables, unless a table says otherwise.
pub const TOLERANCE: f64 = TOLERANCE_DEFAULT;

/// What happens to a sensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Readings move by so many sd.
    Shift(f64),
    /// Their spread is multiplied.
    Scale(f64),
    /// They repeat the last one.
    Stuck,
    /// So large a share is missing.
    Missing(f64),
}

impl Change {
    /// The changes of the delay tables.
    pub const ALL: [Self; 8] = [
        Self::Shift(0.1),
        Self::Shift(0.25),
        Self::Shift(0.5),
        Self::Shift(1.0),
        Self::Scale(1.5),
        Self::Scale(1.0 / 1.5),
        Self::Stuck,
        Self::Missing(0.1),
    ];

    /// What people call it.
    pub fn name(&self) -> String {
        match self {
            Self::Shift(by) => format!("shift {by} sd"),
            Self::Scale(by) if *by > 1.0 => format!("scale ×{by}"),
            Self::Scale(by) => format!("scale ÷{}", (1.0 / by * 100.0).round() / 100.0),
            Self::Stuck => "stuck".into(),
            Self::Missing(share) => format!("{:.0} % missing", share * 100.0),
        }
    }

    /// Does it to a window; `last` is the last reading before it began.
    pub fn apply(&self, window: &mut [f32], last: f32, random: &mut Random) {
        for value in window {
            *value = match self {
                Self::Shift(by) => *value + *by as f32,
                Self::Scale(by) => *value * *by as f32,
                Self::Stuck => last,
                Self::Missing(share) if random.unit() < *share => f32::NAN,
                Self::Missing(_) => *value,
            };
        }
    }
}
