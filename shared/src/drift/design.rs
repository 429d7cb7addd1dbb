//! The alternatives a detector bets on, worked out once per feature and circumstances.
//!
//! A component is one bet: this score's mean lies `shift` above what is tolerated. Its log e-value of a window is linear in the
//! score sum, `(s·lambda·S - n·psi)/phi`, from the exponential family through the baseline's score distribution
//! (docs/detection.md): A(θ) = ln Σ p exp(θg), A'(θ0) = tau, A'(θ1) = tau + d, lambda = θ1-θ0, psi = A(θ1)-A(θ0).

use super::normal;
use super::scores::{FAMILIES_MAX, Family, Points, Scores};
use crate::baseline::FeatureBaseline;
use crate::embedding::{COORDINATES, Embedded};
use crate::list::List;
use libm::{ceil, exp, log, pow, sqrt};

/// Most components of one design; a feature's are at most 21: 8 location, 6 scale, 2 for each of top, bottom and missing, 1 for repeats.
/// A multiple of eight, for vector registers.
pub const COMPONENTS_MAX: usize = 32;
/// Chance that a healthy stream's level lies further from the baseline than it may learn, over all features of a model.
const REFERENCE_RISK: f64 = 0.01;
/// How many posterior sd of the stream's own level are tolerated: four streams of five lie within. For the others the smallest bet
/// leaves room: it grows only beyond tau and half its shift (docs/detection.md, measured in docs/evaluation.md).
const REFERENCE_Z: f64 = 0.9;
/// The same of shares of rare things, which are not learned: an unlucky baseline would alarm for ever, and few rows are unlucky often.
const SHARE_Z: f64 = 3.0;
/// Largest shift of level and spread that is bet on, in sd of the score: what is larger is seen in the first window by this bet too.
const LEVEL_SHIFT_MAX: f64 = 1.0;
/// Largest shift of a share, whose sd is small.
const SHARE_SHIFT_MAX: f64 = 1.6;
/// The stake of a shift grows with its fourth root: what can be seen at once is worth a little more than what takes days anyway.
const STAKE_POWER: f64 = 0.25;
/// The smallest shift is the one that a test of 1 in 10^5 (ln = 11.5) would see in 40 windows. It is no larger than what people call small,
/// of which the tolerance takes its part.
const SMALLEST: (f64, f64) = (11.5, 40.0);
const SMALL: (f64, f64) = (0.2, 0.3);
/// A shift is at most so many times the next smaller one, if there are bets enough: a bet sees what lies between about as soon as its own.
const SPACING: f64 = 2.2;
/// Share of readings equal to the one before that is tolerated whatever training had, and the share that is bet on.
const REPEATS: (f64, f64) = (0.5, 0.9);
/// Categories of at least this share are more or less of what healthy devices see; rarer ones are watched as they are.
pub const COMMON_SHARE: f64 = 0.05;
/// Shares up to this are counted as rare events, which come in clumps where neighbouring readings repeat each other.
const RARE_MAX: f64 = 0.25;
/// Coordinates of an embedding that one design bets on, in both directions.
pub const GROUP: usize = COMPONENTS_MAX / 2;
/// Designs of an embedding.
pub const GROUPS: usize = COORDINATES / GROUP;
/// A coordinate is bet on in one size: the shift that a test of 1 in 10^5 would see in so many embeddings, within limits.
const EMBEDDINGS: f64 = 4.0;
const EMBEDDED_SHIFT: (f64, f64) = (0.1, 0.8);
/// Coordinates that vary less in training are not bet on: rare cosines are far from Gaussian.
const EMBEDDED_SD_MIN: f32 = 0.2;
/// A shift whose tilted mean would lie this close to the largest score cannot be bet on.
const REACH: f64 = 0.95;

/// Under which circumstances a stream of windows is watched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Circumstances {
    /// Watched features of the model; they share the risk of a bad reference.
    pub features: usize,
    /// Readings of a window, about.
    pub n: f64,
    /// Devices whose windows are summed.
    pub devices: f64,
    /// Readings from which the stream's own level was learned.
    pub own: f64,
}

impl Circumstances {
    /// One device that has just begun.
    pub fn device(features: usize, n: f64) -> Self {
        Self { features, n, devices: 1.0, own: 0.0 }
    }
}

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
    /// Tilt between tolerated and bet-on mean.
    pub lambda: f64,
    /// Price of that tilt per reading.
    pub psi: f64,
}

/// What is known of a family's level before anything is bet on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Which score.
    pub family: Family,
    /// Long-run variance factor.
    pub phi: f64,
    /// What is tolerated around the reference, in sd of the score.
    pub tau: f64,
    /// Variance of the stream's own level around the baseline: the baseline's error and the spread between healthy devices.
    pub prior: f64,
    /// The stream's own level is never taken for more than this.
    pub reach: f64,
    /// Its bets: components `first..falls` on a rise, `falls..end` on a fall.
    pub first: usize,
    /// Its first bet on a fall.
    pub falls: usize,
    /// One after its last component.
    pub end: usize,
}

impl Frame {
    /// The stream's own level, from `n` of its readings with score sum `sum`: the posterior mean under `prior`, within reach.
    pub fn own_level(&self, n: f64, sum: f64) -> f64 {
        if n <= 0.0 {
            return 0.0;
        }
        (self.prior * sum / (self.prior * n + self.phi)).clamp(-self.reach, self.reach)
    }
}

/// The bets on one feature under given circumstances.
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    /// The bets; weights sum to at most 1, bets of one family stand together, those on a rise first.
    pub components: List<Component, COMPONENTS_MAX>,
    /// The families, in the order of [`Scores::families`]; also those that no bet is possible on.
    pub frames: List<Frame, FAMILIES_MAX>,
    /// Per component: lambda/phi.
    pub(super) slope: [f64; COMPONENTS_MAX],
    /// Per component: psi/phi.
    pub(super) price: [f64; COMPONENTS_MAX],
    /// Per component: its share of the stake.
    pub(super) weight: [f32; COMPONENTS_MAX],
}

impl Design {
    /// Lays out the bets. Nothing is bet on a feature that is not watched.
    pub fn new(feature: &FeatureBaseline, scores: &Scores, at: Circumstances) -> Self {
        let mut design = Self::empty();
        if feature.unwatched.is_some() {
            return design;
        }
        let families = scores.families().count();
        for family in scores.families() {
            let mut frame = frame(feature, scores, family, at);
            frame.first = design.components.len();
            frame.falls = frame.first;
            for (shift, sign, weight) in Plan::of(family, families).bets(frame.phi, at.n, feature.tolerance) {
                let found = match scores.share(family) {
                    Some(p) if family == Family::Repeats => repeats_bet(p, weight, &frame),
                    Some(p) if p <= RARE_MAX => rare_bet(p, family, weight, shift, &frame),
                    _ => bet(&scores.points(family), family, sign, weight, shift, frame.tau),
                };
                if let Some(component) = found {
                    design.push(component, frame.phi);
                    if sign > 0.0 {
                        frame.falls = design.components.len();
                    }
                }
            }
            frame.end = design.components.len();
            // At most one frame per family, and FAMILIES_MAX is their largest number.
            let _ = design.frames.push(frame);
        }
        design
    }

    /// Bets on the coordinates of one group of an embedding (0 to [`GROUPS`] - 1): of Gaussian means, for which A(θ) = θ²/2, since an
    /// embedding sums many samples and the tilt is small.
    pub fn of_embedding(embedded: &Embedded, group: usize, at: Circumstances) -> Self {
        let mut design = Self::empty();
        for coordinate in GROUP * group..GROUP * (group + 1) {
            let family = Family::Embedding(coordinate as u8);
            let phi = embedded.phi.get(coordinate).map_or(1.0, |&phi| f64::from(phi).max(1.0));
            let omega = embedded.omega.get(coordinate).map_or(0.0, |&omega| f64::from(omega));
            let prior = phi / f64::from(embedded.rows.max(1)) + omega * omega / at.devices.max(1.0);
            // Of so many coordinates the furthest counts, and it is learned in a few embeddings.
            let z = reach(1.0, at.features + 1);
            let tau = z * sqrt(1.0 / (1.0 / prior + at.own / phi)) + embedded.tolerance;
            let first = design.components.len();
            let reach = z * sqrt(prior);
            let mut frame = Frame { family, phi, tau, prior, reach, first, falls: first, end: first };
            if embedded.sds.get(coordinate).is_some_and(|&sd| sd >= EMBEDDED_SD_MIN) {
                let shift = sqrt(2.0 * SMALLEST.0 * phi / (at.n.max(1.0) * EMBEDDINGS));
                let shift = shift.clamp(EMBEDDED_SHIFT.0, EMBEDDED_SHIFT.1);
                let psi = shift * tau + 0.5 * shift * shift;
                for sign in [1.0, -1.0] {
                    let weight = 1.0 / COMPONENTS_MAX as f64;
                    design.push(Component { family, sign, weight, shift, lambda: shift, psi }, phi);
                }
                (frame.falls, frame.end) = (first + 1, first + 2);
            }
            // Fewer in a group than families of a feature.
            let _ = design.frames.push(frame);
        }
        design
    }

    fn empty() -> Self {
        Self {
            components: List::default(),
            frames: List::default(),
            slope: [0.0; COMPONENTS_MAX],
            price: [0.0; COMPONENTS_MAX],
            weight: [0.0; COMPONENTS_MAX],
        }
    }

    fn push(&mut self, component: Component, phi: f64) {
        let at = self.components.len();
        // The plans never exceed the capacity; a test holds it.
        if self.components.push(component).is_ok() {
            self.slope[at] = component.lambda / phi;
            self.price[at] = component.psi / phi;
            self.weight[at] = component.weight as f32;
        }
    }

    /// What is known of a family, if the feature has it.
    pub fn frame(&self, family: Family) -> Option<&Frame> {
        self.frames.iter().find(|frame| frame.family == family)
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
        // What repeats by nature is allowed for by REPEATS, far above its share; an embedding has factors of its own.
        Family::Repeats | Family::Embedding(_) => 1.0,
    }
    .max(1.0)
}

/// tau (docs/detection.md): z times the posterior sd of the stream's own level, and the practical tolerance.
fn frame(feature: &FeatureBaseline, scores: &Scores, family: Family, at: Circumstances) -> Frame {
    let phi = phi_of(feature, family);
    let spread = match family {
        Family::Location => feature.spread(),
        Family::Scale => feature.spread_of_scale(),
        Family::Category(_) if scores.share(family).is_some_and(|p| p >= COMMON_SHARE) => feature.spread(),
        _ => 0.0,
    };
    let offset = spread / sqrt(at.devices.max(1.0));
    let prior = phi / scores.rows().max(1.0) + offset * offset;
    let own = if family.is_learned() { at.own } else { 0.0 };
    let sd = sqrt(1.0 / (1.0 / prior + own / phi));
    let z = if family.is_learned() { REFERENCE_Z } else { SHARE_Z };
    let tau = z * sd + feature.tolerance;
    Frame { family, phi, tau, prior, reach: reach(prior, at.features), first: 0, falls: 0, end: 0 }
}

/// How far from the baseline a healthy stream's level can be.
fn reach(prior: f64, features: usize) -> f64 {
    normal::quantile(1.0 - REFERENCE_RISK / (2.0 * 4.0 * features.max(1) as f64)) * sqrt(prior)
}

/// Families of a numeric feature.
const NUMERIC_FAMILIES: usize = 6;

/// How a family's share of the stake is spread.
struct Plan {
    /// Bets in one direction, at most: fewer do where the smallest is not far from the largest.
    shifts: usize,
    largest: f64,
    both_signs: bool,
    stake: f64,
}

impl Plan {
    /// Numbers: location .85, scale .04, top and bottom .035 each, missing .03, repeats .01; categories share alike.
    fn of(family: Family, families: usize) -> Self {
        match family {
            Family::Location => Self { shifts: 4, largest: LEVEL_SHIFT_MAX, both_signs: true, stake: 0.85 },
            Family::Scale => Self { shifts: 3, largest: LEVEL_SHIFT_MAX, both_signs: true, stake: 0.04 },
            Family::Top | Family::Bottom => {
                Self { shifts: 2, largest: SHARE_SHIFT_MAX, both_signs: false, stake: 0.035 }
            }
            Family::Missing if families == NUMERIC_FAMILIES => {
                Self { shifts: 2, largest: SHARE_SHIFT_MAX, both_signs: false, stake: 0.03 }
            }
            Family::Repeats => Self { shifts: 1, largest: SHARE_SHIFT_MAX, both_signs: false, stake: 0.01 },
            Family::Embedding(_) => Self { shifts: 0, largest: SHARE_SHIFT_MAX, both_signs: false, stake: 0.0 },
            Family::Missing | Family::Category(_) => Self {
                shifts: if 2 * families <= COMPONENTS_MAX { 2 } else { 1 },
                largest: SHARE_SHIFT_MAX,
                both_signs: false,
                stake: 1.0 / families as f64,
            },
        }
    }

    /// (shift, sign, weight) of each bet: shifts geometric from the smallest that can be seen at this `n` to the largest.
    fn bets(&self, phi: f64, n: f64, tolerance: f64) -> impl Iterator<Item = (f64, f64, f64)> {
        let small = (SMALL.1 - tolerance).max(SMALL.0);
        let smallest = sqrt(2.0 * SMALLEST.0 * phi / (n.max(1.0) * SMALLEST.1)).min(small);
        let signs: &[f64] = if self.both_signs { &[1.0, -1.0] } else { &[1.0] };
        let largest = self.largest;
        let shifts = self.shifts.min(1 + ceil(log(largest / smallest) / log(SPACING)) as usize);
        let shift = move |i: usize| {
            let place = if shifts == 1 { 0.5 } else { i as f64 / (shifts - 1) as f64 };
            smallest * pow(largest / smallest, place)
        };
        let stakes: f64 = (0..shifts).map(|i| pow(shift(i), STAKE_POWER)).sum();
        let stake = self.stake / (stakes * signs.len() as f64);
        signs
            .iter()
            .flat_map(move |&sign| (0..shifts).map(move |i| (shift(i), sign, stake * pow(shift(i), STAKE_POWER))))
    }
}

/// Solves one bet; `None` when the score cannot reach that mean.
pub fn bet(points: &Points, family: Family, sign: f64, weight: f64, shift: f64, tau: f64) -> Option<Component> {
    let points = points.signed(sign);
    if tau + shift >= REACH * points.top() {
        return None;
    }
    let low = tilt(&points, tau, tau)?;
    let high = tilt(&points, tau + shift, low + shift)?;
    let psi = log_mgf(&points, high) - log_mgf(&points, low);
    Some(Component { family, sign, weight, shift, lambda: high - low, psi })
}

/// A bet that most readings repeat the one before: a binomial likelihood ratio between the tolerated share, at least
/// [`REPEATS`]`.0`, and [`REPEATS`]`.1`. `None` for readings that repeat so often by nature.
fn repeats_bet(p: f64, weight: f64, frame: &Frame) -> Option<Component> {
    let sd = sqrt(p * (1.0 - p));
    let (p0, p1) = ((p + frame.tau * sd).max(REPEATS.0), REPEATS.1);
    if p0 > REPEATS.1 - 0.1 {
        return None;
    }
    let (hit, other) = (log(p1 / p0), log((1.0 - p1) / (1.0 - p0)));
    // hits·hit + (n - hits)·other, with hits = sd·S + n·p.
    let s = hit - other;
    let shift = (p1 - p0) / sd;
    Some(Component { family: Family::Repeats, sign: 1.0, weight, shift, lambda: s * sd, psi: -(s * p + other) })
}

/// A bet that something of share `p` became more frequent. Where readings repeat each other its hits come in clumps, and dividing
/// the stake by phi is not enough: a clump's size has an exponential tail. So the price is that of a Pólya-Aeppli law (Poisson
/// clumps of geometric size; Johnson, Kemp, Kotz, *Univariate Discrete Distributions*, 9.7) with the tolerated share and the same
/// phi = 2m - 1, m the mean clump: ln e = s·hits - n·p0·(eˢ - 1)/(m - (m - 1)eˢ), with the s that wins most at p1. For m = 1 it
/// is Poisson's, which a binomial count never exceeds.
fn rare_bet(p: f64, family: Family, weight: f64, shift: f64, frame: &Frame) -> Option<Component> {
    let sd = sqrt(p * (1.0 - p));
    let (p0, p1) = (p + frame.tau * sd, p + (frame.tau + shift) * sd);
    if p1 >= REACH {
        return None;
    }
    let m = 0.5 * (frame.phi + 1.0);
    let rise = sqrt(p1 / p0);
    // The slope of the price at s is p1: a quadratic in exp(s/2).
    let root = if m - 1.0 < 1e-9 {
        rise
    } else {
        (sqrt(1.0 + 4.0 * rise * rise * m * (m - 1.0)) - 1.0) / (2.0 * rise * (m - 1.0))
    };
    let growth = root * root;
    let (s, price) = (log(growth), p0 * (growth - 1.0) / (m - (m - 1.0) * growth));
    // hits = sd·S + n·p, and a component's stake is divided by phi.
    Some(Component { family, sign: 1.0, weight, shift, lambda: s * sd * frame.phi, psi: (price - s * p) * frame.phi })
}

/// A(θ) = ln Σ p exp(θ g), with the largest exponent taken out.
fn log_mgf(points: &Points, theta: f64) -> f64 {
    let peak = points.iter().map(|(_, g)| theta * g).fold(f64::NEG_INFINITY, f64::max);
    peak + log(points.iter().map(|(p, g)| p * exp(theta * g - peak)).sum())
}

/// A'(θ) and A''(θ): mean and variance of the score under the tilted baseline.
fn tilted(points: &Points, theta: f64) -> (f64, f64) {
    let peak = points.iter().map(|(_, g)| theta * g).fold(f64::NEG_INFINITY, f64::max);
    let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
    for (p, g) in points.iter() {
        let w = p * exp(theta * g - peak);
        total += w;
        first += w * g;
        second += w * g * g;
    }
    let mean = first / total;
    (mean, second / total - mean * mean)
}

/// The θ >= 0 with A'(θ) = mean: Newton's steps within a shrinking bracket. `None` when no θ below 1e6 reaches it.
fn tilt(points: &Points, mean: f64, start: f64) -> Option<f64> {
    let (mut low, mut high) = (0.0, start.max(1.0));
    while tilted(points, high).0 < mean {
        low = high;
        high *= 2.0;
        if high > 1e6 {
            return None;
        }
    }
    let mut theta = start.clamp(low, high);
    for _ in 0..100 {
        let (at, slope) = tilted(points, theta);
        if at < mean {
            low = theta
        } else {
            high = theta
        }
        let newton = theta + (mean - at) / slope;
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - theta).abs() <= 1e-14 * next.abs() {
            return Some(next);
        }
        theta = next;
    }
    Some(theta)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::{COMPONENTS_MAX, FAMILIES_MAX, Family, NUMERIC_FAMILIES, Plan, SPACING};
    use std::vec::Vec;

    /// Shifts of the level on a rise, smallest first.
    fn rises(phi: f64, n: f64, tolerance: f64) -> Vec<f64> {
        let plan = Plan::of(Family::Location, NUMERIC_FAMILIES);
        plan.bets(phi, n, tolerance).filter(|(_, sign, _)| *sign > 0.0).map(|(shift, ..)| shift).collect()
    }

    #[test]
    fn bets_of_the_level_are_as_many_as_keep_them_near_each_other() {
        // Windows of 60, whose size counts as 32: independent readings, AR .5 and AR .9 at the upper bounds of their phi.
        for (phi, bets) in [(1.1, 4), (3.4, 3), (24.0, 3)] {
            let shifts = rises(phi, 32.0, 0.0);
            assert_eq!(shifts.len(), bets, "{shifts:?}");
            assert!(shifts.windows(2).all(|pair| pair[1] <= pair[0] * SPACING * 1.000_001), "{shifts:?}");
            assert!((shifts[bets - 1] - 1.0).abs() < 1e-9, "{shifts:?}");
        }
        // Windows so large that four lie further apart.
        assert_eq!(rises(1.0, 100_000.0, 0.1).len(), 4);
    }

    #[test]
    fn no_plan_has_more_bets_than_a_design_holds_nor_stakes_more_than_all() {
        let numeric = [Family::Location, Family::Scale, Family::Top, Family::Bottom, Family::Missing, Family::Repeats];
        let categories = |n| (0..n - 1).map(Family::Category).chain([Family::Missing]).collect();
        let all: Vec<Vec<Family>> = (2..FAMILIES_MAX as u8 + 1).map(categories).chain([numeric.to_vec()]).collect();
        for (families, n) in all.iter().flat_map(|families| [1.0, 32.0, 1e6].map(|n| (families, n))) {
            let bets = families
                .iter()
                .flat_map(|family| Plan::of(*family, families.len()).bets(1.0, n, 0.0).collect::<Vec<_>>());
            let stakes: Vec<f64> = bets.map(|(_, _, stake)| stake).collect();
            assert!(stakes.len() <= COMPONENTS_MAX, "{} of {families:?}", stakes.len());
            assert!(stakes.iter().sum::<f64>() < 1.0 + 1e-9, "{families:?}");
        }
    }
}
