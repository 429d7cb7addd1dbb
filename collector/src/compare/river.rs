//! Detectors on a series as river has them: ADWIN (Bifet and Gavaldà 2007) and Page-Hinkley (1954), one value at a time.
//!
//! Both start over on the value after a detection, as river's wrappers do. The order of operations is river's, since a comparison at
//! the margin must go the same way thousands of values on.

use super::Refusal;
use std::collections::VecDeque;

/// Most summaries kept per size.
const BUCKETS_MAX: usize = 1 << 16;

/// Settings of [`Adwin`], with river's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdwinSettings {
    /// Confidence.
    pub delta: f64,
    /// Cuts are looked for at every so many values.
    pub clock: u64,
    /// Most summaries of one size before two are merged.
    pub max_buckets: usize,
    /// Shortest part of the window that is compared.
    pub min_window_length: f64,
    /// Values before the first comparison.
    pub grace_period: f64,
}

impl Default for AdwinSettings {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, max_buckets: 5, min_window_length: 5.0, grace_period: 10.0 }
    }
}

/// 2^k values: their sum and their sum of squared deviations.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    total: f64,
    squares: f64,
}

/// A window of adaptive length that drops its old part when the mean has changed.
#[derive(Debug, Clone)]
pub struct Adwin {
    settings: AdwinSettings,
    /// Summaries of 2^k values each in row k, oldest first.
    rows: Vec<VecDeque<Summary>>,
    width: f64,
    total: f64,
    squares: f64,
    ticks: u64,
    detected: bool,
    undefined: bool,
}

impl Adwin {
    /// An empty window; an error where a setting makes no sense.
    pub fn new(settings: AdwinSettings) -> Result<Self, Refusal> {
        if settings.clock == 0 {
            return Err(Refusal::input("clock must be at least 1"));
        }
        if !(1..=BUCKETS_MAX).contains(&settings.max_buckets) {
            return Err(Refusal::input(format!("max_buckets must be between 1 and {BUCKETS_MAX}")));
        }
        Ok(Self::empty(settings))
    }

    fn empty(settings: AdwinSettings) -> Self {
        let rows = vec![VecDeque::new()];
        Self { settings, rows, width: 0.0, total: 0.0, squares: 0.0, ticks: 0, detected: false, undefined: false }
    }

    /// Takes one value and says whether the mean has changed.
    pub fn update(&mut self, x: f64) -> bool {
        if self.detected {
            *self = Self::empty(self.settings);
        }
        self.insert(x);
        self.ticks += 1;
        let compares = self.ticks.is_multiple_of(self.settings.clock) && self.width > self.settings.grace_period;
        self.undefined |= compares && self.rows[0].is_empty();
        self.detected = compares && !self.undefined && self.shrink();
        self.detected
    }

    /// Whether it came to a comparison in which river divides by the width of nothing: the last cut is the one before the newest single
    /// value, and with one summary of a size there is none after every second value. From there on nothing is detected.
    pub fn undefined(&self) -> bool {
        self.undefined
    }

    fn insert(&mut self, x: f64) {
        self.rows[0].push_back(Summary { total: x, squares: 0.0 });
        self.width += 1.0;
        if self.width > 1.0 {
            let off = x - self.total / (self.width - 1.0);
            self.squares += (self.width - 1.0) * off * off / self.width;
        }
        self.total += x;
        self.compress();
    }

    /// Merges the two oldest of every row that is over its limit into the next one.
    fn compress(&mut self) {
        let mut k = 0;
        while self.rows[k].len() > self.settings.max_buckets {
            let (Some(a), Some(b)) = (self.rows[k].pop_front(), self.rows[k].pop_front()) else { return };
            let n = size(k);
            let (mean, other) = (a.total / n, b.total / n);
            let merged = Summary {
                total: a.total + b.total,
                squares: a.squares + b.squares + n * n * (mean - other) * (mean - other) / (n + n),
            };
            if k + 1 == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            self.rows[k + 1].push_back(merged);
            k += 1;
        }
    }

    /// Drops the oldest summary as long as some cut shows a difference; says whether any did.
    fn shrink(&mut self) -> bool {
        let mut changed = false;
        while self.has_cut() {
            changed = true;
            self.drop_oldest();
        }
        changed
    }

    fn has_cut(&self) -> bool {
        let least = self.settings.min_window_length;
        let (mut old, mut new) = ((0.0, 0.0), (self.width, self.total));
        for (k, row) in self.rows.iter().enumerate().rev() {
            for (at, summary) in row.iter().enumerate() {
                old = (old.0 + size(k), old.1 + summary.total);
                new = (new.0 - size(k), new.1 - summary.total);
                if k == 0 && at + 1 == row.len() {
                    return false;
                }
                let difference = old.1 / old.0 - new.1 / new.0;
                if new.0 >= least && old.0 >= least && difference.abs() > self.threshold(old.0, new.0) {
                    return true;
                }
            }
        }
        false
    }

    fn threshold(&self, old: f64, new: f64) -> f64 {
        let least = self.settings.min_window_length;
        let delta = (2.0 * self.width.ln() / self.settings.delta).ln();
        let reciprocal = 1.0 / (old - least + 1.0) + 1.0 / (new - least + 1.0);
        (2.0 * reciprocal * (self.squares / self.width) * delta).sqrt() + 2.0 / 3.0 * delta * reciprocal
    }

    fn drop_oldest(&mut self) {
        let k = self.rows.len() - 1;
        let Some(oldest) = self.rows[k].pop_front() else { return };
        let n = size(k);
        self.width -= n;
        self.total -= oldest.total;
        let off = oldest.total / n - self.total / self.width;
        self.squares -= oldest.squares + n * self.width * off * off / (n + self.width);
        // One summary of a size leaves gaps.
        while self.rows.len() > 1 && self.rows.last().is_some_and(VecDeque::is_empty) {
            self.rows.pop();
        }
    }
}

fn size(k: usize) -> f64 {
    libm::ldexp(1.0, i32::try_from(k).unwrap_or(i32::MAX))
}

/// Which direction of change counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A rising mean.
    Up,
    /// A falling mean.
    Down,
    /// Both.
    Both,
}

/// Settings of [`PageHinkley`], with river's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageHinkleySettings {
    /// Values before the first comparison.
    pub min_instances: f64,
    /// Change that is tolerated.
    pub delta: f64,
    /// Threshold of the cumulated deviation.
    pub threshold: f64,
    /// Forgetting factor.
    pub alpha: f64,
    /// Direction.
    pub mode: Mode,
}

impl Default for PageHinkleySettings {
    fn default() -> Self {
        Self { min_instances: 30.0, delta: 0.005, threshold: 50.0, alpha: 1.0 - 0.0001, mode: Mode::Both }
    }
}

/// Cumulated deviations from the running mean against their extremes.
#[derive(Debug, Clone)]
pub struct PageHinkley {
    settings: PageHinkleySettings,
    n: f64,
    mean: f64,
    rise: f64,
    fall: f64,
    least: f64,
    most: f64,
    detected: bool,
}

impl PageHinkley {
    /// Nothing seen yet. The highest fall starts at −1, not at −∞: so does river's.
    pub fn new(settings: PageHinkleySettings) -> Self {
        let (least, most) = (f64::INFINITY, -1.0);
        Self { settings, n: 0.0, mean: 0.0, rise: 0.0, fall: 0.0, least, most, detected: false }
    }

    /// Takes one value and says whether the mean has changed.
    pub fn update(&mut self, x: f64) -> bool {
        if self.detected {
            *self = Self::new(self.settings);
        }
        let PageHinkleySettings { min_instances, delta, threshold, alpha, mode } = self.settings;
        self.n += 1.0;
        self.mean += 1.0 / self.n * (x - self.mean);
        let off = x - self.mean;
        self.rise = alpha * self.rise + off - delta;
        self.fall = alpha * self.fall + off + delta;
        if self.rise < self.least {
            self.least = self.rise;
        }
        if self.fall > self.most {
            self.most = self.fall;
        }
        let (up, down) = (self.rise - self.least > threshold, self.most - self.fall > threshold);
        self.detected = self.n >= min_instances
            && match mode {
                Mode::Up => up,
                Mode::Down => down,
                Mode::Both => up || down,
            };
        self.detected
    }
}

impl PageHinkley {
    /// The larger of the two sides: above the threshold is a detection. 0 before enough values.
    pub fn statistic(&self) -> f64 {
        let enough = self.n >= self.settings.min_instances;
        if enough { f64::max(self.rise - self.least, self.most - self.fall) } else { 0.0 }
    }
}

/// Indices at which `update` said yes.
pub fn detections(series: &[f64], mut update: impl FnMut(f64) -> bool) -> Vec<usize> {
    series.iter().enumerate().filter_map(|(at, &x)| update(x).then_some(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_one_summary_of_a_size_every_second_comparison_is_with_nothing() {
        let mut adwin = Adwin::new(AdwinSettings { clock: 1, max_buckets: 1, ..AdwinSettings::default() }).unwrap();
        // The first comparison is at eleven values.
        let undefined = |x: f64| {
            adwin.update(x);
            adwin.undefined()
        };
        assert_eq!(detections(&[0.5; 14], undefined), [11, 12, 13]);
    }

    #[test]
    fn a_jump_is_found_and_a_constant_is_not() {
        let jump: Vec<f64> = (0..400).map(|i| if i < 200 { 0.0 } else { 10.0 }).collect();
        let mut adwin = Adwin::new(AdwinSettings::default()).unwrap();
        // 24 values of the new level are enough at the next multiple of 32.
        assert_eq!(detections(&jump, |x| adwin.update(x)), [223]);
        let mut adwin = Adwin::new(AdwinSettings::default()).unwrap();
        assert!(detections(&[3.0; 5000], |x| adwin.update(x)).is_empty());
        let mut page_hinkley = PageHinkley::new(PageHinkleySettings::default());
        assert_eq!(detections(&jump, |x| page_hinkley.update(x))[0], 205);
    }
}
