//! Readings that go together in another way, while none of them changes by itself: windows until it is seen, and false alarms.

use super::rules::{Trained, Watch};
use super::series::{TOLERANCE, baseline_of};
use super::{Size, Table, WINDOW, in_parallel, median, too_many};
use crate::detect::designs::{Designs, Place};
use crate::release::Baseline;
use driftline_shared::drift::design::{GROUP, GROUPS};
use driftline_shared::drift::detector::{Compared, Detector};
use driftline_shared::embedding::{self, Embedded, Embedding, Frequencies};
use driftline_shared::random::Random;
use driftline_shared::units::WallMs;

/// Normal windows before a change.
const BEFORE: usize = 200;
/// Windows in which it is looked for.
const LOOKED_FOR: usize = 500;
/// Runs made of one baseline, in the delay tables.
const RUNS_PER_BASELINE: usize = 4;

/// Driftline's detectors of one device's embeddings.
struct EmbeddingWatch<'a> {
    baseline: &'a Baseline,
    embedded: &'a Embedded,
    frequencies: Frequencies,
    designs: Designs,
    detectors: Vec<Detector>,
    sum: Embedding,
    windows: u64,
    threshold: f64,
}

impl<'a> EmbeddingWatch<'a> {
    /// Has seen nothing.
    fn new(baseline: &'a Baseline, threshold: f64) -> Self {
        let embedded = baseline.embedding.as_ref().expect("readings that vary");
        let frequencies =
            Frequencies::new(baseline.features.iter().filter(|f| f.role.is_input()).count(), embedded.bandwidth);
        Self {
            baseline,
            embedded,
            frequencies: frequencies.expect("a few readings"),
            designs: Designs::default(),
            detectors: vec![Detector::default(); GROUPS],
            sum: Embedding::default(),
            windows: 0,
            threshold,
        }
    }

    /// Starts another device.
    fn restart(&mut self) {
        self.detectors.fill(Detector::default());
        (self.sum, self.windows) = (Embedding::default(), 0);
    }

    /// Whether the window raised an alarm.
    fn window(&mut self, rows: &[Vec<f32>]) -> bool {
        let joint = self.baseline.joint.as_ref().expect("readings that vary");
        rows.iter().for_each(|row| self.sum.add(&self.frequencies, joint, row));
        self.windows += 1;
        if !self.windows.is_multiple_of(embedding::WINDOWS) {
            return false;
        }
        let n = f64::from(self.sum.n());
        let mut raised = false;
        for (group, detector) in self.detectors.iter_mut().enumerate() {
            let feature = self.baseline.features.len() + group;
            let place = Place { feature, start: WallMs(0), n, devices: 1.0, own: detector.own_readings() };
            let design = self.designs.design(self.baseline, place);
            let score = |at| self.embedded.score(&self.sum, at).into();
            let view: Vec<Compared> = (GROUP * group..GROUP * (group + 1)).map(score).collect();
            raised |= detector.step(design, &view, self.windows / embedding::WINDOWS, self.threshold).raised.is_some();
        }
        self.sum.clear();
        raised
    }
}

/// Of five readings two depend on each other, then in another way; no reading by itself changes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Together {
    /// Correlation 0.8, then -0.8.
    Line,
    /// One the square of the other, as power is of current, then of another normal reading: uncorrelated before and after.
    Parabola,
    /// A ring, then the square that a ring's shadows make: uncorrelated before and after.
    Ring,
}

const READINGS: usize = 5;
const CORRELATION: f64 = 0.8;
/// What watches: the readings one by one, the residual of their principal components, their embedding.
const WATCHES: usize = 3;

/// What is known of one reading of a table, or of the combination of all, which comes after them.
fn reading(baseline: &Baseline, table: &[Vec<f32>], i: usize) -> Trained {
    let mut one = baseline.clone();
    one.features.rotate_left(i);
    Trained::new(one, &table.iter().map(|row| row.get(i).copied().unwrap_or(0.0)).collect::<Vec<f32>>())
}

impl Together {
    const ALL: [Self; 3] = [Self::Line, Self::Parabola, Self::Ring];

    fn name(self) -> &'static str {
        match self {
            Self::Line => "correlation 0.8, then -0.8",
            Self::Parabola => "one the square of the other, then of something else",
            Self::Ring => "a ring, then a square",
        }
    }

    fn row(self, changed: bool, random: &mut Random) -> Vec<f32> {
        let mut row: Vec<f64> = (0..READINGS).map(|_| random.normal()).collect();
        match self {
            Self::Line => {
                let rho = if changed { -CORRELATION } else { CORRELATION };
                row[1] = rho * row[0] + (1.0 - rho * rho).sqrt() * row[1];
            }
            Self::Parabola => {
                let of = if changed { random.normal() } else { row[0] };
                row[1] = (of * of - 1.0) / std::f64::consts::SQRT_2;
            }
            Self::Ring => {
                let mut turn = || std::f64::consts::TAU * random.unit();
                let (a, b) = (turn(), turn());
                row[0] = std::f64::consts::SQRT_2 * a.cos();
                row[1] = std::f64::consts::SQRT_2 * if changed { b } else { a }.sin();
            }
        }
        row.into_iter().map(|x| x as f32).collect()
    }

    /// Windows until the change is seen by each of [`WATCHES`].
    fn run(self, size: Size, part: u64) -> [Option<usize>; WATCHES] {
        let mut random = Random::of(size.seed ^ 0xf119, part);
        let table: Vec<Vec<f32>> = (0..6_000).map(|_| self.row(false, &mut random)).collect();
        let baseline = baseline_of(&table);
        let joint = baseline.joint.clone().expect("readings that vary");
        let trained: Vec<Trained> = (0..=READINGS).map(|i| reading(&baseline, &table, i)).collect();
        // An expected run of 100,000 windows over all of them together.
        let threshold = 1e5 * (trained.len() + 1) as f64;
        let mut watches: Vec<_> = trained.iter().map(|t| Watch::new(t, threshold)).collect();
        let mut embedding = EmbeddingWatch::new(&baseline, threshold);
        let mut seen = [None; WATCHES];
        for at in 0..BEFORE + LOOKED_FOR {
            let rows: Vec<Vec<f32>> = (0..WINDOW).map(|_| self.row(at >= BEFORE, &mut random)).collect();
            let mut alarms = [false; WATCHES];
            for (i, watch) in watches.iter_mut().enumerate() {
                let values: Vec<f32> =
                    rows.iter().map(|row| row.get(i).copied().unwrap_or_else(|| joint.residual(row))).collect();
                let start = WallMs(at as u64 * 60_000);
                alarms[usize::from(i == READINGS)] |= watch.window(&values, start) >= threshold.ln();
            }
            alarms[2] = embedding.window(&rows);
            for (seen, alarm) in seen.iter_mut().zip(alarms) {
                if alarm && at >= BEFORE && seen.is_none() {
                    *seen = Some(at - BEFORE + 1);
                }
            }
        }
        seen
    }
}

/// The table of changes that no reading shows by itself.
pub fn delays(size: Size, done: &(dyn Fn() + Sync)) -> Table {
    let runs = size.runs.div_ceil(RUNS_PER_BASELINE);
    let rows = Together::ALL.map(|change| {
        let found = in_parallel(runs, |part| {
            let seen = change.run(size, part as u64);
            done();
            seen
        });
        let cell = |which: usize| {
            let mut delays: Vec<usize> = found.iter().filter_map(|seen| seen[which]).collect();
            let share = format!("{:.0} %", 100.0 * delays.len() as f64 / runs as f64);
            median(&mut delays).map_or(share.clone(), |delay| format!("{delay} ({share})"))
        };
        std::iter::once(change.name().to_owned()).chain((0..WATCHES).map(cell)).collect()
    });
    Table {
        title: "Readings that go together in another way".into(),
        about: format!(
            "{runs} runs of {READINGS} readings, two of which depend on each other; no reading by itself changes. Median windows until it \
             is seen, and the share of runs in which it was within {LOOKED_FOR} windows. Driftline at an expected run of 100 000 windows over \
             everything together; an embedding comes every sixteenth window."
        ),
        columns: ["change", "every reading by itself", "combination", "embedding"].map(str::to_owned).to_vec(),
        rows: rows.to_vec(),
        missed: Vec::new(),
    }
}

/// Readings of a device that is well: three move together, and each repeats itself.
struct Normal {
    random: Random,
    rho: f64,
    state: [f64; READINGS],
    offset: [f64; READINGS],
}

impl Normal {
    fn new(random: &mut Random, rho: f64, spread: f64) -> Self {
        let mut random = Random::new(random.bits());
        let state = std::array::from_fn(|_| random.normal());
        let offset = std::array::from_fn(|_| spread * random.normal());
        Self { random, rho, state, offset }
    }

    fn row(&mut self) -> Vec<f32> {
        for state in &mut self.state {
            *state = self.rho * *state + (1.0 - self.rho * self.rho).sqrt() * self.random.normal();
        }
        let [load, ..] = self.state;
        let mixed = |i: usize| if i < 3 { 0.8 * load + 0.6 * self.state[i] } else { self.state[i] };
        (0..READINGS).map(|i| (mixed(i) + self.offset[i]) as f32).collect()
    }
}

/// Laws of [`Normal`]: name, autoregression, spread between devices.
const LAWS: [(&str, f64, f64); 4] =
    [("iid", 0.0, 0.0), ("AR .5", 0.5, 0.0), ("AR .9", 0.9, 0.0), ("device offsets of 0.1 sd, not known", 0.0, 0.1)];

/// The table of false alarms.
pub fn null(size: Size, done: &(dyn Fn() + Sync)) -> Table {
    let mut missed = Vec::new();
    let rows: [Vec<String>; LAWS.len()] = LAWS.map(|(name, rho, spread)| {
        let parts = in_parallel(size.baselines, |part| {
            let mut random = Random::of(size.seed ^ 0x70_9e, part as u64);
            let devices = if spread > 0.0 { 20 } else { 1 };
            let mut table = Vec::with_capacity(6_000);
            for _ in 0..devices {
                let mut device = Normal::new(&mut random, rho, spread);
                table.extend((0..6_000 / devices).map(|_| device.row()));
            }
            let baseline = baseline_of(&table);
            let joint = baseline.joint.clone().expect("readings that vary");
            let combined = reading(&baseline, &table, READINGS);
            let mut combination = Watch::new(&combined, super::null::ARL);
            let mut embedding = EmbeddingWatch::new(&baseline, super::null::ARL);
            let mut alarms = [0u64; 2];
            for _ in 0..size.streams {
                let mut device = Normal::new(&mut random, rho, spread);
                combination.restart();
                embedding.restart();
                for _ in 0..size.windows {
                    let rows: Vec<Vec<f32>> = (0..WINDOW).map(|_| device.row()).collect();
                    let residuals: Vec<f32> = rows.iter().map(|row| joint.residual(row)).collect();
                    alarms[0] += u64::from(combination.alarm(&residuals, WallMs(0)).raised);
                    alarms[1] += u64::from(embedding.window(&rows));
                }
            }
            done();
            alarms
        });
        let windows = (size.baselines * size.streams * size.windows) as u64;
        let mut rate = |which: usize| {
            let alarms = parts.iter().map(|alarms| alarms[which]).sum::<u64>();
            missed.extend(too_many(name, alarms, windows));
            format!("{:.1}", alarms as f64 * 1e5 / windows as f64)
        };
        let rates = [rate(0), rate(1)];
        [name.to_owned(), windows.to_string()].into_iter().chain(rates).collect()
    });
    Table {
        title: "False alarms of readings together when nothing changes".into(),
        about: format!(
            "Alarms per 100 000 windows of {WINDOW} samples of {READINGS} readings, where at most 1 is asked for; {} baselines of 6 000 rows, \
             tolerance {TOLERANCE} sd.",
            size.baselines
        ),
        columns: ["nothing changes", "windows", "combination", "embedding"].map(str::to_owned).to_vec(),
        rows: rows.to_vec(),
        missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::budget::Budget;
    use crate::detect::panel::{Level, Panel};
    use crate::device::{Device, Devices};
    use crate::evaluate::series::release_of;
    use driftline_shared::drift::scores::Family;
    use driftline_shared::sketch::Grid;
    use driftline_shared::units::{Name, ReleaseId};
    use driftline_shared::window::Window;
    use std::sync::Arc;

    const WINDOW_MS: u32 = 60_000;

    /// Windows of so many samples without sketches, and one device's embedding among twelve.
    #[test]
    fn a_parabola_that_dissolves_on_one_device_is_seen_there_and_let_go_when_it_returns() {
        let mut random = Random::new(3);
        let table: Vec<Vec<f32>> = (0..6_000).map(|_| Together::Parabola.row(false, &mut random)).collect();
        let release = Arc::new(release_of(baseline_of(&table), WINDOW_MS));
        let (embedded, joint) = release.embedded().expect("readings that vary");
        let frequencies = Frequencies::new(READINGS, embedded.bandwidth).expect("a few readings");
        let principal = release.baseline.joint.as_ref().expect("readings that vary");
        let mut devices = Devices::new();
        for i in 0..12 {
            let mut device = Device::new(WallMs(0));
            device.labels.insert("site".into(), format!("s{}", i / 4));
            devices.insert(Name::new(&format!("d{i:02}")).expect("a name"), device);
        }
        let names: Vec<Name> = devices.keys().cloned().collect();
        let grids: Vec<Grid> = release.baseline.features.iter().map(|f| Grid::new(&f.cells)).collect();
        let mut panel = Panel::new(Arc::clone(&release), Budget::default());
        let mut signals = Vec::new();
        for block in 0..40 {
            let slot = (block + 1) * embedding::WINDOWS - 1;
            for (i, name) in names.iter().enumerate() {
                let changed = i == 5 && (10..25).contains(&block);
                let mut window: Box<Window> =
                    Box::new(Window::new(ReleaseId(1), WallMs(slot * 60_000), WINDOW_MS, grids.iter()));
                window.samples = WINDOW as u32;
                let mut sum = Embedding::default();
                let mut row = || Together::Parabola.row(changed, &mut random);
                (0..WINDOW as u64 * embedding::WINDOWS).for_each(|_| sum.add(&frequencies, principal, &row()));
                window.embedding = Some(sum);
                assert!(panel.add(slot, name, &window));
            }
            panel.close_through(slot, &devices, "site");
            signals.push(panel.signals());
        }
        assert!(signals[..10].iter().all(Vec::is_empty), "nothing before: {:?}", &signals[..10]);
        let [signal] = &signals[20][..] else { panic!("one signal after ten embeddings: {:?}", signals[20]) };
        assert_eq!((&signal.level, signal.feature), (&Level::Device(names[5].clone()), joint));
        assert!(matches!(signal.latch.alarm.family, Family::Embedding(_)));
        let onset = signal.latch.alarm.onset / embedding::WINDOWS;
        assert!((9..14).contains(&onset), "counted in windows: {onset}");
        let showing =
            panel.showing(joint, &Level::Fleet, &signal.latch, &names.iter().cloned().collect(), &[], &devices, "site");
        assert!(showing.len() <= 1, "{showing:?}");
        assert!(signals[30..].iter().all(Vec::is_empty), "let go: {:?}", signals.last());
    }
}
