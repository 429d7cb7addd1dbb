//! From the one number a user sets, false alarms tolerated per month for the whole fleet, to each detector's threshold.
//!
//! A detector with threshold c alarms by mistake once in c windows on average or less often (ARL >= c). With S streams at a level
//! and W windows a month, S·W/c false alarms come from it; the three levels share the budget alike (docs/detection.md).

/// Levels that share the budget: device, cohort, fleet.
const LEVELS: f64 = 3.0;
/// Thirty days.
const MONTH_MS: f64 = 30.0 * 24.0 * 3600.0 * 1000.0;

/// False alarms tolerated per month, over all devices, models, features and levels; releases that run beside each other share it.
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

/// The threshold of streams that are judged together: c, or where k of them stand at c/k or more, c/k for the largest such k. That is
/// e-BH (Wang and Ramdas, *False discovery rate control with e-values*, 2022) on detectors (Dandapanthula and Ramdas, arXiv 2501.04130). It
/// needs Σ e ≥ c, so the time to a first false alarm is that of one detector that bets alike on all of them: not shorter.
pub fn simultaneous(mut evidence: Vec<f64>, c: f64) -> f64 {
    evidence.sort_by(|a, b| b.total_cmp(a));
    let most = evidence.iter().enumerate().rev().find(|(at, e)| **e * (at + 1) as f64 >= c);
    c / most.map_or(1.0, |(at, _)| (at + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_that_alarm_together_need_less_each() {
        let of = |evidence: &[f64]| simultaneous(evidence.to_vec(), 100.0);
        assert_eq!(of(&[]), 100.0);
        assert_eq!(of(&[99.0, 1.0]), 100.0);
        assert_eq!(of(&[150.0, 1.0]), 100.0);
        assert_eq!(of(&[1.0, 50.0, 60.0]), 50.0);
        assert_eq!(of(&[34.0, 34.0, 34.0, 1.0]), 100.0 / 3.0);
        // One far beyond does not carry another.
        assert_eq!(of(&[1e9, 49.0]), 100.0);
    }
}
