//! The mixture e-Shiryaev-Roberts detector of one stream of windows, and the latch that remembers its alarm.
//!
//! Under "nothing changed" every component M grows by at most one per window in expectation, so the first time the mixture
//! passes `threshold` comes after at least `threshold` windows on average, whatever the data's law within tolerance
//! (e-detectors: Shin, Ramdas, Rinaldo 2024). Kept on the linear scale: one exponential per component.

use super::design::{COMPONENTS_MAX, Design};
use super::scores::{Family, Sum};

/// M and C stay below this, far under f32's largest number, so that a long alarm neither overflows nor takes for ever to fade.
const EVIDENCE_MAX: f64 = 1e30;
/// Calm windows in a row before a latched alarm is let go.
pub const CALM_WINDOWS: u32 = 5;
/// One-sided normal quantile for "back within tolerance".
const CALM_Z: f64 = 1.645;
/// A family earlier in the order names the change when its evidence reaches this power of the threshold: a large shift also
/// fills the outer cell and widens the spread, but people say "it moved".
const NAMING_POWER: f64 = 0.5;

/// What a detector alarms about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alarm {
    /// Kind of change.
    pub family: Family,
    /// +1 rise, -1 fall of the family's score.
    pub sign: f64,
    /// Slot in which the winning component's CUSUM last left its floor: the estimate of when the change began.
    pub onset: u64,
    /// Natural logarithm of the mixture's evidence; while the alarm holds, the most there has been.
    pub log_evidence: f64,
}

/// Detector and latch of one stream of windows of one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    grown: [f32; COMPONENTS_MAX],
    cusum: [f32; COMPONENTS_MAX],
    reset: [u64; COMPONENTS_MAX],
    latch: Option<Latch>,
}

/// An alarm that has not yet been let go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latch {
    /// The first alarm.
    pub alarm: Alarm,
    /// Mean of the family's score in the window that alarmed, in the alarm's direction, in sd of the score.
    pub effect: f64,
    /// Windows in a row that looked calm.
    pub calm: u32,
    calm_n: f64,
    calm_sum: f64,
}

impl Default for Detector {
    fn default() -> Self {
        Self { grown: [0.0; COMPONENTS_MAX], cusum: [1.0; COMPONENTS_MAX], reset: [0; COMPONENTS_MAX], latch: None }
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Natural logarithm of the mixture before re-arming; -inf when nothing was bet.
    pub log_evidence: f64,
    /// Set when this window raised an alarm on a stream that was not latched.
    pub raised: Option<Alarm>,
    /// Set when this window let the latch go.
    pub cleared: bool,
}

impl Detector {
    /// The alarm that holds, if any.
    pub fn latch(&self) -> Option<&Latch> {
        self.latch.as_ref()
    }

    /// Takes in one window's counts. `threshold` is the average run length in windows that is promised to this stream.
    pub fn step(&mut self, design: &Design, counts: &[u32], missing: u32, slot: u64, threshold: f64) -> Step {
        let (total, held) = self.grow(design, counts, missing, slot);
        let mut step = Step { log_evidence: libm::log(total), raised: None, cleared: false };
        if let Some(latch) = &mut self.latch {
            // The CUSUM is not re-armed, so it goes on telling how sure we are.
            latch.alarm.log_evidence = latch.alarm.log_evidence.max(libm::log(held));
        }
        if total >= threshold {
            let alarm = self.name(design, threshold, step.log_evidence);
            self.grown = [0.0; COMPONENTS_MAX];
            if let (Some(alarm), None) = (alarm, self.latch) {
                let Sum { n, sum } = design.scores.sum(alarm.family, counts, missing);
                let effect = if n > 0.0 { alarm.sign * sum / n } else { 0.0 };
                self.latch = Some(Latch { alarm, effect, calm: 0, calm_n: 0.0, calm_sum: 0.0 });
                step.raised = Some(alarm);
            } else if let Some(latch) = &mut self.latch {
                (latch.calm, latch.calm_n, latch.calm_sum) = (0, 0.0, 0.0);
            }
        } else {
            step.cleared = self.let_go(design, counts, missing);
        }
        step
    }

    /// Multiplies every component by its e-value and returns the mixtures of Shiryaev-Roberts and of CUSUM.
    fn grow(&mut self, design: &Design, counts: &[u32], missing: u32, slot: u64) -> (f64, f64) {
        let (mut total, mut held) = (0.0, 0.0);
        let mut family = None;
        let mut score = Sum::default();
        for (i, bet) in design.components.iter().enumerate() {
            // Components of one family stand together, so each family is summed once.
            if family != Some(bet.family) {
                family = Some(bet.family);
                score = design.scores.sum(bet.family, counts, missing);
            }
            if score.n > 0.0 {
                let e = libm::exp((bet.sign * bet.lambda * score.sum - score.n * bet.psi) / bet.phi);
                let before = f64::from(self.cusum[i]);
                if before <= 1.0 {
                    self.reset[i] = slot;
                }
                self.grown[i] = (e * (f64::from(self.grown[i]) + 1.0)).min(EVIDENCE_MAX) as f32;
                self.cusum[i] = (e * before.max(1.0)).min(EVIDENCE_MAX) as f32;
            }
            total += bet.weight * f64::from(self.grown[i]);
            held += bet.weight * f64::from(self.cusum[i]);
        }
        (total, held)
    }

    /// Which family and direction to name: the first in the order of the design's families that has reached the naming
    /// evidence, else the one with the most.
    fn name(&self, design: &Design, threshold: f64, log_evidence: f64) -> Option<Alarm> {
        let enough = libm::pow(threshold, NAMING_POWER);
        let worth = |i: usize| design.components[i].weight * f64::from(self.grown[i]);
        let best_of = |of: &dyn Fn(usize) -> bool| {
            (0..design.components.len()).filter(|&i| of(i)).max_by(|&a, &b| worth(a).total_cmp(&worth(b)))
        };
        let named = [Family::Missing, Family::Location]
            .iter()
            .filter_map(|&family| best_of(&|i| design.components[i].family == family))
            .find(|&i| worth(i) >= enough);
        let winner = named.or_else(|| best_of(&|_| true))?;
        let bet = &design.components[winner];
        Some(Alarm { family: bet.family, sign: bet.sign, onset: self.reset[winner], log_evidence })
    }

    /// Lets the latch go after [`CALM_WINDOWS`] windows in a row that are nearer to normal than to the alarm, if together
    /// they are within tolerance.
    fn let_go(&mut self, design: &Design, counts: &[u32], missing: u32) -> bool {
        let Some(latch) = &mut self.latch else { return false };
        let Some(bet) = design.components.iter().find(|c| c.family == latch.alarm.family) else {
            self.latch = None;
            return true;
        };
        let score = design.scores.sum(bet.family, counts, missing);
        if score.n == 0.0 {
            return false;
        }
        let towards = latch.alarm.sign * score.sum;
        if towards / score.n > bet.tau + 0.5 * (latch.effect - bet.tau).max(0.0) {
            (latch.calm, latch.calm_n, latch.calm_sum) = (0, 0.0, 0.0);
            return false;
        }
        latch.calm += 1;
        latch.calm_n += score.n;
        latch.calm_sum += towards;
        if latch.calm < CALM_WINDOWS {
            return false;
        }
        let within = latch.calm_sum / latch.calm_n <= bet.tau + CALM_Z * libm::sqrt(bet.phi / latch.calm_n);
        if within {
            *self = Self::default();
        } else {
            // Still outside: keep the newer half of the record, so that an old stretch does not decide for ever.
            latch.calm_n /= 2.0;
            latch.calm_sum /= 2.0;
        }
        within
    }
}
