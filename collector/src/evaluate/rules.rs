//! The rules that are compared: Driftline's detector, and those that other tools alarm by, each as its users run it on windows.
//!
//! A rule turns each window into a statistic: at or above its threshold is an alarm. With the threshold at infinity a rule runs
//! through, so that one pass shows which threshold would have given which rate of alarms.

use crate::compare::kolmogorov;
use crate::compare::river::{Adwin, AdwinSettings, PageHinkley, PageHinkleySettings};
use crate::detect::designs::{Designs, Place};
use crate::release::Baseline;
use driftline_shared::drift::detector::{Compared, Detector, Step};
use driftline_shared::drift::distance::{Convention, ZeroPolicy};
use driftline_shared::sketch::{CELLS_MAX, Grid, Sketch};
use driftline_shared::units::WallMs;

/// The PSI that people compute on deciles, shares no less than 1 in 10,000.
const PSI: Convention = Convention { zero: ZeroPolicy::Floor(1e-4), ..Convention::PSI };
/// Settings of ADWIN that are tried when alarm rates are made equal: powers of ten, its delta is one over them.
pub const ADWIN_POWERS: [f64; 24] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0, 40.0, 48.0, 56.0, 64.0,
    80.0, 96.0, 128.0, 192.0,
];

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Driftline.
    Driftline,
    /// PSI on the deciles of training.
    Psi,
    /// Two-sample Kolmogorov-Smirnov D.
    Ks,
    /// Jensen-Shannon distance as NannyML computes it.
    Js,
    /// ADWIN as in river, on raw readings.
    Adwin,
    /// Page-Hinkley as in river, on raw readings.
    PageHinkley,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Driftline, Self::Psi, Self::Ks, Self::Js, Self::Adwin, Self::PageHinkley];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Driftline => "Driftline",
            Self::Psi => "PSI",
            Self::Ks => "KS",
            Self::Js => "NannyML JS",
            Self::Adwin => "ADWIN",
            Self::PageHinkley => "Page-Hinkley",
        }
    }
}

/// What rules need to know of one training table.
pub struct Trained {
    /// Driftline's baseline.
    pub baseline: Baseline,
    sorted: Vec<f32>,
    deciles: Vec<f32>,
    decile_counts: Vec<u32>,
    doane: Vec<f32>,
    doane_shares: Vec<f64>,
    /// Mean and sd of NannyML's distance over chunks of the training rows.
    pub js_chunks: (f64, f64),
}

impl Trained {
    /// From a baseline and its rows.
    pub fn new(baseline: Baseline, values: &[f32]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let quantile = |q: f64| sorted[((q * sorted.len() as f64) as usize).min(sorted.len() - 1)];
        let mut deciles: Vec<f32> = (1..10).map(|i| quantile(f64::from(i) / 10.0)).collect();
        deciles.dedup();
        let decile_counts = counts_between(&deciles, &sorted);
        let wide: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let edges = crate::compare::edges::edges(&wide, false, crate::compare::edges::Bins::Doane);
        let doane: Vec<f32> = edges.unwrap_or_default().iter().map(|&e| e as f32).collect();
        let (doane_shares, js_chunks) = (Vec::new(), (0.0, 0.0));
        let mut trained = Self { baseline, sorted, deciles, decile_counts, doane, doane_shares, js_chunks };
        trained.doane_shares = trained.doane_of(values);
        let chunks: Vec<f64> = values.chunks_exact(trained.window()).map(|chunk| trained.js(chunk)).collect();
        let mean = chunks.iter().sum::<f64>() / chunks.len() as f64;
        let variance = chunks.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / chunks.len() as f64;
        trained.js_chunks = (mean, variance.sqrt());
        trained
    }

    /// Readings of a window.
    fn window(&self) -> usize {
        self.baseline.window_samples.max(1) as usize
    }

    /// Shares of the doane cells, and of what lies outside them.
    fn doane_of(&self, values: &[f32]) -> Vec<f64> {
        let cells = self.doane.len().saturating_sub(1);
        let mut counts = vec![0.0; cells + 1];
        let mut n = 0.0;
        for &value in values.iter().filter(|v| v.is_finite()) {
            let above = self.doane.partition_point(|&edge| edge <= value);
            let last = self.doane.last().is_some_and(|&last| value == last);
            let cell = if above == 0 || (above > cells && !last) { cells } else { (above - 1).min(cells - 1) };
            counts[cell] += 1.0;
            n += 1.0;
        }
        counts.iter().map(|c| c / f64::max(n, 1.0)).collect()
    }

    fn js(&self, values: &[f32]) -> f64 {
        Convention::JS.of_shares(&self.doane_shares, &self.doane_of(values))
    }

    /// PSI on the deciles of training.
    pub fn psi(&self, values: &[f32]) -> f64 {
        PSI.of(&self.decile_counts, &counts_between(&self.deciles, values))
    }

    fn ks(&self, values: &[f32]) -> f64 {
        let mut window: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        window.sort_by(f32::total_cmp);
        let (n, m) = (window.len() as f64, self.sorted.len() as f64);
        let mut d = 0.0f64;
        for (i, &value) in window.iter().enumerate() {
            let at = self.sorted.partition_point(|&v| v <= value) as f64 / m;
            let below = self.sorted.partition_point(|&v| v < value) as f64 / m;
            // Ties within the window: the step is complete after the last and begins before the first of them.
            if window.get(i + 1) != Some(&value) {
                d = d.max((at - (i + 1) as f64 / n).abs());
            }
            if i == 0 || window[i - 1] != value {
                d = d.max((below - i as f64 / n).abs());
            }
        }
        d
    }

    /// Two-sided p of a window's D: scipy's asymptotic form, kstwo.sf(D, round(en)).
    pub fn ks_p(&self, d: f64) -> f64 {
        let (m, n) = (self.sorted.len() as f64, self.window() as f64);
        kolmogorov::sf(d, (m * n / (m + n)).round())
    }

    /// The D whose p is `alpha`.
    pub fn ks_critical(&self, alpha: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.ks_p(middle) > alpha { low = middle } else { high = middle }
        }
        high
    }
}

/// Finite values per cell between edges; a value on an edge belongs below it.
fn counts_between(edges: &[f32], values: &[f32]) -> Vec<u32> {
    let mut counts = vec![0; edges.len() + 1];
    for value in values.iter().filter(|v| v.is_finite()) {
        counts[edges.partition_point(|edge| edge < value)] += 1;
    }
    counts
}

/// What a rule did in one window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Alarm {
    /// It holds.
    pub on: bool,
    /// It was raised in this window.
    pub raised: bool,
}

/// A rule that watches one stream.
pub enum Watcher<'a> {
    /// Driftline's detector of one stream.
    Driftline(Box<Watch<'a>>),
    /// A rule without memory.
    Window(&'a Trained, Rule),
    /// Settings, as powers of ten, the most nervous first: the statistic is the power of the calmest that alarms.
    Adwin(Vec<(f64, Adwin)>),
    /// The statistic itself.
    PageHinkley(PageHinkley),
}

/// Driftline's detector with its designs.
pub struct Watch<'a> {
    trained: &'a Trained,
    designs: Designs,
    detector: Detector,
    slot: u64,
    /// Alarms are raised, and evidence starts anew, at this threshold.
    pub threshold: f64,
}

impl<'a> Watch<'a> {
    /// Has seen nothing.
    pub fn new(trained: &'a Trained, threshold: f64) -> Self {
        Self { trained, designs: Designs::default(), detector: Detector::default(), slot: 0, threshold }
    }

    /// Starts another stream with the designs of this one.
    pub fn restart(&mut self) {
        (self.detector, self.slot) = (Detector::default(), 0);
    }

    /// The logarithm of the evidence after this window.
    pub fn window(&mut self, values: &[f32], start: WallMs) -> f64 {
        self.step(values, start).evidence.ln()
    }

    /// Whether an alarm is on, and was raised, after this window.
    pub fn alarm(&mut self, values: &[f32], start: WallMs) -> Alarm {
        let raised = self.step(values, start).raised.is_some();
        Alarm { on: raised || self.detector.latch().is_some(), raised }
    }

    fn step(&mut self, values: &[f32], start: WallMs) -> Step {
        let baseline = &self.trained.baseline;
        let grid = Grid::new(&baseline.features[0].cells);
        let mut sketch = Sketch::<CELLS_MAX>::new(grid.len());
        sketch.add_all(&grid, values);
        let scores = self.designs.scores(baseline, 0, start);
        let n = values.len() as f64;
        let place = Place { feature: 0, start, n, devices: 1.0, own: self.detector.own_readings() };
        let design = self.designs.design(baseline, place);
        let view: Vec<Compared> = scores.sums(&sketch).iter().map(|&sum| sum.into()).collect();
        self.slot += 1;
        self.detector.step(design, &view, self.slot, self.threshold)
    }
}

impl<'a> Watcher<'a> {
    /// A rule that never stops of itself.
    pub fn new(rule: Rule, trained: &'a Trained) -> Self {
        match rule {
            Rule::Driftline => Self::Driftline(Box::new(Watch::new(trained, f64::INFINITY))),
            Rule::Psi | Rule::Ks | Rule::Js => Self::Window(trained, rule),
            Rule::Adwin => Self::adwin(&ADWIN_POWERS),
            Rule::PageHinkley => Self::PageHinkley(PageHinkley::new(PageHinkleySettings {
                threshold: f64::INFINITY,
                ..Default::default()
            })),
        }
    }

    /// ADWIN with these powers of ten for settings; its statistic is the largest that alarms.
    pub fn adwin(powers: &[f64]) -> Self {
        let setting = |&power: &f64| AdwinSettings { delta: 10f64.powf(-power), ..AdwinSettings::default() };
        let one = |power: &f64| (*power, Adwin::new(setting(power)).expect("river's settings but for delta"));
        Self::Adwin(powers.iter().map(one).collect())
    }

    /// The statistic of the next window.
    pub fn window(&mut self, values: &[f32], start: WallMs) -> f64 {
        let readings = || values.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v));
        match self {
            Self::Driftline(watch) => watch.window(values, start),
            Self::Window(trained, Rule::Psi) => trained.psi(values),
            Self::Window(trained, Rule::Ks) => trained.ks(values),
            Self::Window(trained, _) => trained.js(values),
            Self::Adwin(ladder) => {
                let alarms = |adwin: &mut Adwin| readings().filter(|&x| adwin.update(x)).count() > 0;
                let alarmed = ladder.iter_mut().filter_map(|(power, adwin)| alarms(adwin).then_some(*power));
                alarmed.fold(0.0, f64::max)
            }
            Self::PageHinkley(test) => readings().fold(0.0, |most, x| {
                test.update(x);
                f64::max(most, test.statistic())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::WINDOW;
    use crate::evaluate::series::Scenario;
    use driftline_shared::random::Random;

    #[test]
    fn the_ladder_says_which_setting_would_have_alarmed() {
        let mut random = Random::new(1);
        let (baseline, values) = Scenario::NULL[0].baseline(&mut random, 0.0);
        let trained = Trained::new(baseline, &values);
        let mut ladder = Watcher::new(Rule::Adwin, &trained);
        let single = |power: f64| Adwin::new(AdwinSettings { delta: 10f64.powf(-power), ..AdwinSettings::default() });
        // Of what the calm settings said, the calmest counts, though the nervous ones have long begun anew.
        let mut alone: Vec<(f64, Adwin)> =
            [8.0, 16.0].map(|power| (power, single(power).expect("a setting"))).into_iter().collect();
        let mut seen = [false; 2];
        for at in 0..60 {
            let shift = if at < 40 { 0.0 } else { 0.5 };
            let window: Vec<f32> = (0..WINDOW).map(|_| (random.normal() + shift) as f32).collect();
            let statistic = ladder.window(&window, WallMs(0));
            for ((power, adwin), seen) in alone.iter_mut().zip(&mut seen) {
                let alarm = window.iter().filter(|&&x| adwin.update(f64::from(x))).count() > 0;
                assert!(!alarm || statistic >= *power, "window {at}: {statistic} < {power}");
                *seen |= alarm;
            }
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn psi_of_deciles_by_hand() {
        let (mut baseline, _) = Scenario::NULL[0].baseline(&mut Random::new(1), 0.0);
        baseline.features.truncate(1);
        let values: Vec<f32> = (0..1_000).map(|i| i as f32).collect();
        let trained = Trained::new(baseline, &values);
        // All in the lowest tenth: 9 tenths of 0.1 against the floor, and one of 1 against 0.1 (a value on an edge belongs below).
        let wanted = (0.101 - 1.0) * (0.101f64 / 1.0).ln()
            + 8.0 * (0.1 - 1e-4) * (0.1f64 / 1e-4).ln()
            + (0.099 - 1e-4) * (0.099f64 / 1e-4).ln();
        assert!((trained.psi(&[5.0; 60]) - wanted).abs() < 1e-9, "{} {wanted}", trained.psi(&[5.0; 60]));
    }
}
