//! From the one number a user sets, false alarms tolerated per month for the whole fleet, to each detector's threshold.
//!
//! A detector with threshold c alarms by mistake once in c windows on average or less often (ARL >= c). With S streams at a level
//! and W windows a month, S·W/c false alarms come from it; the three levels share the budget alike (docs/detection.md).

/// Levels that share the budget: device, cohort, fleet.
const LEVELS: f64 = 3.0;
/// Thirty days.
const MONTH_MS: f64 = 30.0 * 24.0 * 3600.0 * 1000.0;

/// False alarms tolerated per month, over all devices, features and levels of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// More than 0.
    pub false_alarms_per_month: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { false_alarms_per_month: 1.0 }
    }
}

impl Budget {
    /// The threshold for each of `streams` streams of one level with windows of `window_ms`.
    pub fn threshold(&self, streams: usize, window_ms: u32) -> f64 {
        let windows = MONTH_MS / f64::from(window_ms.max(1));
        (LEVELS * streams.max(1) as f64 * windows / self.false_alarms_per_month).max(100.0)
    }

    /// How often per month chance alone would bring as much evidence, given the threshold that stands for the budget's share.
    pub fn by_chance_per_month(&self, log_evidence: f64, threshold: f64) -> f64 {
        (self.false_alarms_per_month * (threshold.ln() - log_evidence).exp()).min(self.false_alarms_per_month)
    }
}
