//! The alternatives a detector bets on, worked out once per feature and window size.
//!
//! A component is one bet: this score's mean lies `d` above what is tolerated. Its log e-value of a window is linear in the
//! score sum, `(s·lambda·S - n·psi)/phi`, from the exponential family through the baseline's score distribution
//! (docs/detection.md): A(θ) = ln Σ p exp(θg), A'(θ0) = tau, A'(θ1) = tau + d, lambda = θ1-θ0, psi = A(θ1)-A(θ0).

use super::normal;
use super::scores::{Family, Points, Scores};
use crate::baseline::FeatureBaseline;
use crate::list::List;
use libm::{exp, log, pow, sqrt};

/// Most components of one feature: 14 location, 8 scale, 2 for each of top, bottom and missing.
pub const COMPONENTS_MAX: usize = 28;
/// Chance that the baseline's own error exceeds what tau allows, over all features of a model.
const BASELINE_RISK: f64 = 0.01;
/// How often omega a healthy device's offset may be (docs/detection.md).
const OFFSET_SDS: f64 = 3.0;
/// Largest shift that is bet on, in sd of the score.
const SHIFT_MAX: f64 = 1.6;
/// The smallest shift is the one that a test of 1 in 10^5 (ln = 11.5) would see in 200 windows.
const SMALLEST: (f64, f64) = (11.5, 200.0);
/// A shift whose tilted mean would lie this close to the largest score cannot be bet on.
const REACH: f64 = 0.95;

/// One bet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component {
    /// Which score.
    pub family: Family,
    /// +1 for a rise of the score, -1 for a fall.
    pub sign: f64,
    /// Share of the stake.
    pub weight: f64,
    /// Shift above the tolerated mean, in sd of the score.
    pub shift: f64,
    /// What is tolerated: baseline error, device offset and practical tolerance, in sd of the score.
    pub tau: f64,
    /// Long-run variance factor.
    pub phi: f64,
    /// Tilt between tolerated and bet-on mean.
    pub lambda: f64,
    /// Price of that tilt per reading.
    pub psi: f64,
}

/// The bets on one feature at one window size.
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    /// The score table the bets are on.
    pub scores: Scores,
    /// The bets; weights sum to at most 1.
    pub components: List<Component, COMPONENTS_MAX>,
}

impl Design {
    /// Lays out the bets for windows of about `n` readings of one of `features` watched features.
    pub fn new(feature: &FeatureBaseline, features: usize, n: f64) -> Self {
        let scores = Scores::new(feature);
        let mut components = List::default();
        if feature.unwatched.is_none() {
            let families = scores.families().count();
            for family in scores.families() {
                let phi = phi_of(feature, family);
                let tau = tolerated(feature, features, family, phi);
                let plan = Plan::of(family, families);
                for (shift, sign, weight) in plan.bets(phi, n) {
                    if let Some(component) = bet(&scores.points(family), family, sign, weight, shift, tau, phi) {
                        // The plans above never exceed the capacity; a test holds it.
                        let _ = components.push(component);
                    }
                }
            }
        }
        Self { scores, components }
    }
}

fn phi_of(feature: &FeatureBaseline, family: Family) -> f64 {
    let phi = &feature.phi;
    match family {
        Family::Location => phi.location,
        Family::Scale => phi.scale,
        Family::Top => phi.top,
        Family::Bottom => phi.bottom,
        Family::Missing | Family::Category(_) => phi.share,
    }
    .max(1.0)
}

/// tau (docs/detection.md): z·sqrt(phi/N0) + 3·omega + practical tolerance.
fn tolerated(feature: &FeatureBaseline, features: usize, family: Family, phi: f64) -> f64 {
    let z = normal::quantile(1.0 - BASELINE_RISK / (2.0 * 4.0 * features.max(1) as f64));
    let rows = (feature.rows() + u64::from(feature.missing)).max(1) as f64;
    let offset = if family == Family::Location { OFFSET_SDS * feature.omega } else { 0.0 };
    z * sqrt(phi / rows) + offset + feature.tolerance
}

/// How a family's share of the stake is spread.
struct Plan {
    shifts: usize,
    both_signs: bool,
    stake: f64,
}

impl Plan {
    /// Numbers: location .55, scale .2, top and bottom .08 each, missing .09; categories share alike.
    fn of(family: Family, families: usize) -> Self {
        match family {
            Family::Location => Self { shifts: 7, both_signs: true, stake: 0.55 },
            Family::Scale => Self { shifts: 4, both_signs: true, stake: 0.2 },
            Family::Top | Family::Bottom => Self { shifts: 2, both_signs: false, stake: 0.08 },
            Family::Missing if families == 5 => Self { shifts: 2, both_signs: false, stake: 0.09 },
            Family::Missing | Family::Category(_) => Self {
                shifts: if 2 * families <= COMPONENTS_MAX { 2 } else { 1 },
                both_signs: false,
                stake: 1.0 / families as f64,
            },
        }
    }

    /// (shift, sign, weight) of each bet: shifts geometric from the smallest that can be seen at this `n` to 1.6 sd.
    fn bets(&self, phi: f64, n: f64) -> impl Iterator<Item = (f64, f64, f64)> {
        let smallest = sqrt(2.0 * SMALLEST.0 * phi / (n.max(1.0) * SMALLEST.1)).min(SHIFT_MAX / 2.0);
        let signs: &[f64] = if self.both_signs { &[1.0, -1.0] } else { &[1.0] };
        let weight = self.stake / (self.shifts * signs.len()) as f64;
        let shifts = self.shifts;
        (0..shifts).flat_map(move |i| {
            let place = if shifts == 1 { 0.5 } else { i as f64 / (shifts - 1) as f64 };
            let shift = smallest * pow(SHIFT_MAX / smallest, place);
            signs.iter().map(move |&sign| (shift, sign, weight))
        })
    }
}

/// Solves one bet; `None` when the score cannot reach that mean.
pub fn bet(
    points: &Points,
    family: Family,
    sign: f64,
    weight: f64,
    shift: f64,
    tau: f64,
    phi: f64,
) -> Option<Component> {
    let points = points.signed(sign);
    if tau + shift >= REACH * points.top() {
        return None;
    }
    let low = tilt(&points, tau)?;
    let high = tilt(&points, tau + shift)?;
    let psi = log_mgf(&points, high) - log_mgf(&points, low);
    Some(Component { family, sign, weight, shift, tau, phi, lambda: high - low, psi })
}

/// A(θ) = ln Σ p exp(θ g), with the largest exponent taken out.
fn log_mgf(points: &Points, theta: f64) -> f64 {
    let peak = points.iter().map(|(_, g)| theta * g).fold(f64::NEG_INFINITY, f64::max);
    peak + log(points.iter().map(|(p, g)| p * exp(theta * g - peak)).sum())
}

/// A'(θ): the mean score under the tilted baseline.
fn tilted_mean(points: &Points, theta: f64) -> f64 {
    let peak = points.iter().map(|(_, g)| theta * g).fold(f64::NEG_INFINITY, f64::max);
    let (mut total, mut mean) = (0.0, 0.0);
    for (p, g) in points.iter() {
        let w = p * exp(theta * g - peak);
        total += w;
        mean += w * g;
    }
    mean / total
}

/// The θ >= 0 with A'(θ) = mean, by bisection (A' grows). `None` when no θ below 1e6 reaches it.
fn tilt(points: &Points, mean: f64) -> Option<f64> {
    let mut high = 1.0;
    while tilted_mean(points, high) < mean {
        high *= 2.0;
        if high > 1e6 {
            return None;
        }
    }
    let mut low = 0.0;
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if tilted_mean(points, middle) < mean { low = middle } else { high = middle }
    }
    Some(0.5 * (low + high))
}
