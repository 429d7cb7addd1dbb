//! The mixture e-Shiryaev-Roberts detector of one stream of windows, and the latch that remembers its alarm.
//!
//! Under "nothing changed" every component M grows by at most one per window in expectation, so the first time the mixture
//! passes `threshold` comes after at least `threshold` windows on average, whatever the data's law within tolerance
//! (e-detectors: Shin, Ramdas, Rinaldo 2024). Kept on the linear scale, in arrays that a compiler can vectorise.
//!
//! The stream's own level (the baseline's error and what makes this device differ from others) is learned from calm windows,
//! never further than a healthy stream can be off; the better it is known, the less has to be tolerated.

use super::design::{COMPONENTS_MAX, Design, Frame, GROUP};
use super::scores::{CATEGORIES_LEARNED, FAMILIES_MAX, Family, Sum};
use crate::list::List;

/// M and C stay below this, far under f32's largest number, so that a long alarm neither overflows nor takes for ever to fade.
const EVIDENCE_MAX: f32 = 1e30;
/// Calm windows in a row before a latched alarm is let go.
pub const CALM_WINDOWS: u32 = 5;
/// Natural logarithm of the likelihood ratio of "within tolerance" to "as far off as since the onset" that lets an alarm go.
const GONE: f64 = 9.2;
/// A change is told from none by at least this share of what is tolerated.
const GONE_SHARE: f64 = 0.25;
/// A family earlier in the order names the change when its evidence reaches this power of the threshold: a large shift also
/// fills the outer cell and widens the spread, but people say "it moved".
const NAMING_POWER: f64 = 0.5;
/// Components worked on at a time.
const LANES: usize = 8;
/// Most levels that a stream learns: of location and scale, or of the coordinates of an embedding's group.
const LEVELS_MAX: usize = GROUP;
const _: () = assert!(LEVELS_MAX >= CATEGORIES_LEARNED, "categories come first among a feature's families");
/// Windows that the own level is learned from: a stream's first ones. A level that were learned for ever would follow a slow change.
pub const OWN_WINDOWS: u32 = 200;
/// The own level counts from so many windows on: learned from one, it would follow that window's noise, and healthy windows would then look
/// changed for ever. These are learned from whatever they show.
const OWN_WINDOWS_MIN: u32 = 5;
/// Later the own level is not learned from windows in which the CUSUM mixture stands above this: something may be going on. Lower, it would
/// leave out the windows that show best where a healthy stream's level lies (docs/decisions/0018-phi-from-readings.md).
const LEARN_BELOW: f64 = 10.0;

/// What a detector alarms about.
#[derive(bincode::Encode, bincode::Decode, Debug, Clone, Copy, PartialEq)]
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

/// Score sums of one family in one window, less what the stream is compared with. Bets on a rise see `rise`, bets on a fall
/// `fall`: where there are several references, each is the one that leaves the least of a change.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Compared {
    /// Readings.
    pub n: f64,
    /// Their score sum less the nearest reference; what the own level is learned from.
    pub sum: f64,
    /// For bets on a rise.
    pub rise: f64,
    /// For bets on a fall.
    pub fall: f64,
}

impl Compared {
    /// The same means of `by` times as many readings.
    pub fn scaled(self, by: f64) -> Self {
        Self { n: self.n * by, sum: self.sum * by, rise: self.rise * by, fall: self.fall * by }
    }
}

impl From<Sum> for Compared {
    fn from(Sum { n, sum }: Sum) -> Self {
        Self { n, sum, rise: sum, fall: sum }
    }
}

/// One window as a detector sees it: every family, in the order of the design's frames.
pub type View = List<Compared, FAMILIES_MAX>;

/// What a stream showed while it was calm.
#[derive(bincode::Encode, bincode::Decode, Debug, Clone, Copy, PartialEq, Default)]
struct Own {
    /// Windows without an alarm, calm or not, up to [`OWN_WINDOWS`].
    windows: u32,
    /// Readings of the calm ones.
    n: f64,
    /// Score sums by frame; only families with a level have one, and those are the first.
    sums: [f64; LEVELS_MAX],
}

/// Detector and latch of one stream of windows of one feature.
#[derive(bincode::Encode, bincode::Decode, Debug, Clone, PartialEq)]
pub struct Detector {
    grown: [f32; COMPONENTS_MAX],
    cusum: [f32; COMPONENTS_MAX],
    /// Slot in which each CUSUM last left its floor, counted from `first`.
    reset: [u32; COMPONENTS_MAX],
    /// The first slot.
    first: Option<u64>,
    own: Own,
    latch: Option<Latch>,
}

/// An alarm that has not yet been let go.
#[derive(bincode::Encode, bincode::Decode, Debug, Clone, Copy, PartialEq)]
pub struct Latch {
    /// The first alarm.
    pub alarm: Alarm,
    /// Mean of the family's score since the onset, in the alarm's direction, in sd of the score; calm windows count once a window
    /// has shown that they were no end.
    pub effect: f64,
    /// Readings behind `effect`.
    n: f64,
    /// The calm run: its windows, their readings and score sum, and what they say for "it is over".
    calm: Calm,
}

/// A run of windows that are nearer to tolerance than to the change.
#[derive(bincode::Encode, bincode::Decode, Debug, Clone, Copy, PartialEq, Default)]
struct Calm {
    windows: u32,
    n: f64,
    sum: f64,
    log_ratio: f64,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            grown: [0.0; COMPONENTS_MAX],
            cusum: [1.0; COMPONENTS_MAX],
            reset: [0; COMPONENTS_MAX],
            first: None,
            own: Own::default(),
            latch: None,
        }
    }
}

/// A window that was taken in and not yet judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    slot: u64,
    /// The mixture of Shiryaev-Roberts.
    pub evidence: f64,
    /// The mixture of CUSUM, which is not re-armed.
    held: f64,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The mixture before re-arming; 0 when nothing was bet.
    pub evidence: f64,
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

    /// Readings from which the stream's own level was learned: what the next design is made for.
    pub fn own_readings(&self) -> f64 {
        if self.own.windows < OWN_WINDOWS_MIN { 0.0 } else { self.own.n }
    }

    /// Takes in one window and judges it. `threshold` is the average run length in windows that is promised to this stream.
    pub fn step(&mut self, design: &Design, window: &[Compared], slot: u64, threshold: f64) -> Step {
        let taken = self.take(design, window, slot);
        self.judge(design, window, &taken, threshold)
    }

    /// Takes in one window; [`Detector::judge`] has to follow, once it is known what else was seen in the same slot.
    pub fn take(&mut self, design: &Design, window: &[Compared], slot: u64) -> Taken {
        let first = *self.first.get_or_insert(slot);
        let offset = u32::try_from(slot.saturating_sub(first)).unwrap_or(u32::MAX);
        let (evidence, held) = self.grow(design, window, offset);
        Taken { slot, evidence, held }
    }

    /// Raises or lets go an alarm by the window that was taken in.
    pub fn judge(&mut self, design: &Design, window: &[Compared], taken: &Taken, threshold: f64) -> Step {
        let Taken { slot, evidence, held } = taken;
        let mut step = Step { evidence: *evidence, raised: None, cleared: false };
        if let Some(latch) = &mut self.latch {
            // The CUSUM is not re-armed, so it goes on telling how sure we are.
            latch.alarm.log_evidence = latch.alarm.log_evidence.max(libm::log(*held));
        }
        if *evidence >= threshold {
            self.alarm(design, window, *slot, threshold, &mut step);
        } else {
            step.cleared = self.let_go(design, window);
        }
        if self.latch.is_none() && self.own.windows < OWN_WINDOWS {
            self.learn(design, window, *held);
        }
        step
    }

    /// A family's comparison less the stream's own level; `at` is its frame's place.
    fn less_own(&self, at: usize, frame: &Frame, compared: Compared) -> Compared {
        let known = self.own.sums.get(at).filter(|_| frame.family.is_learned());
        let level = known.map_or(0.0, |sum| frame.own_level(self.own_readings(), *sum));
        let Compared { n, sum, rise, fall } = compared;
        Compared { n, sum: sum - n * level, rise: rise - n * level, fall: fall - n * level }
    }

    /// A family's frame, and its comparison less the stream's own level.
    fn seen<'a>(&self, design: &'a Design, window: &[Compared], family: Family) -> Option<(&'a Frame, Compared)> {
        let (at, frame) = design.frames.iter().enumerate().find(|(_, frame)| frame.family == family)?;
        Some((frame, self.less_own(at, frame, *window.get(at)?)))
    }

    fn learn(&mut self, design: &Design, window: &[Compared], held: f64) {
        let mut level = design.frames.iter().zip(window).filter(|(frame, _)| frame.family.is_learned());
        if level.next().is_some_and(|(_, compared)| compared.n <= 0.0) {
            // A window without readings says nothing.
            return;
        }
        self.own.windows += 1;
        if held >= LEARN_BELOW && self.own.windows > OWN_WINDOWS_MIN {
            return;
        }
        let levels = design.frames.iter().zip(window).filter(|(frame, _)| frame.family.is_learned());
        for (at, ((_, compared), own)) in levels.zip(&mut self.own.sums).enumerate() {
            *own += compared.sum;
            if at == 0 {
                self.own.n += compared.n;
            }
        }
    }

    fn alarm(&mut self, design: &Design, window: &[Compared], slot: u64, threshold: f64, step: &mut Step) {
        let alarm = self.name(design, threshold, libm::log(step.evidence));
        self.grown = [0.0; COMPONENTS_MAX];
        if let Some(latch) = &mut self.latch {
            latch.calm = Calm::default();
        } else if let Some(alarm) = alarm {
            let (effect, n) = self.effect(design, window, &alarm, slot);
            self.latch = Some(Latch { alarm, effect, n, calm: Calm::default() });
            step.raised = Some(alarm);
        }
    }

    /// The mean score since the onset, and of about how many readings. The winning component's CUSUM knows the sum: ln C = (lambda·S - n·psi)/phi since its reset.
    /// Where it has reached its ceiling, the last window's mean must do.
    fn effect(&self, design: &Design, window: &[Compared], alarm: &Alarm, slot: u64) -> (f64, f64) {
        let Some((frame, compared)) = self.seen(design, window, alarm.family).filter(|(_, compared)| compared.n > 0.0)
        else {
            return (0.0, 0.0);
        };
        let now = towards(&compared, alarm.sign) / compared.n;
        let n = compared.n * (slot.saturating_sub(alarm.onset) + 1) as f64;
        let best = (frame.first..frame.end)
            .filter(|&i| design.components[i].sign == alarm.sign && self.onset(i) == alarm.onset)
            .max_by(|&a, &b| self.cusum[a].total_cmp(&self.cusum[b]));
        match best {
            Some(i) if self.cusum[i] < EVIDENCE_MAX => {
                ((libm::log(f64::from(self.cusum[i])) / n + design.price[i]) / design.slope[i], n)
            }
            _ => (now, compared.n),
        }
    }

    /// The slot in which a component's CUSUM last left its floor.
    fn onset(&self, component: usize) -> u64 {
        self.first.unwrap_or(0) + u64::from(self.reset[component])
    }

    /// Multiplies every component by its e-value and returns the mixtures of Shiryaev-Roberts and of CUSUM.
    fn grow(&mut self, design: &Design, window: &[Compared], offset: u32) -> (f64, f64) {
        // Where a family has no readings nothing is bet: times 1, and the floor stays where it is.
        let (mut log_e, mut floor) = ([0.0f32; COMPONENTS_MAX], [0.0f32; COMPONENTS_MAX]);
        let read = design.frames.iter().zip(window).enumerate().filter(|(_, (_, compared))| compared.n > 0.0);
        for (at, (frame, compared)) in read {
            let compared = self.less_own(at, frame, *compared);
            floor[frame.first..frame.end].fill(1.0);
            for (bets, sum) in [(frame.first..frame.falls, compared.rise), (frame.falls..frame.end, -compared.fall)] {
                let prices = design.slope[bets.clone()].iter().zip(&design.price[bets.clone()]);
                for (log_e, (slope, price)) in log_e[bets].iter_mut().zip(prices) {
                    *log_e = (slope * sum - price * compared.n) as f32;
                }
            }
        }
        // Short loops over what is bet on, in whole vectors, which the compiler makes of them.
        let used = design.components.len().next_multiple_of(LANES).min(COMPONENTS_MAX);
        let (log_e, floor) = (&mut log_e[..used], &floor[..used]);
        for group in log_e.as_chunks_mut::<LANES>().0 {
            *group = group.map(exp);
        }
        for ((reset, cusum), floor) in self.reset.iter_mut().zip(&self.cusum).zip(floor) {
            *reset = if cusum <= floor { offset } else { *reset };
        }
        for ((grown, floor), e) in self.grown.iter_mut().zip(floor).zip(&*log_e) {
            *grown = below(e * (*grown + floor), EVIDENCE_MAX);
        }
        for ((cusum, floor), e) in self.cusum.iter_mut().zip(floor).zip(&*log_e) {
            *cusum = below(e * if *cusum > *floor { *cusum } else { *floor }, EVIDENCE_MAX);
        }
        (dot(&design.weight[..used], &self.grown), dot(&design.weight[..used], &self.cusum))
    }

    /// Which family and direction to name: the first in the order of people's words that has reached the naming evidence,
    /// else the one with the most.
    fn name(&self, design: &Design, threshold: f64, log_evidence: f64) -> Option<Alarm> {
        let enough = libm::pow(threshold, NAMING_POWER);
        let worth = |i: usize| design.components[i].weight * f64::from(self.grown[i]);
        let best_of = |of: &dyn Fn(usize) -> bool| {
            (0..design.components.len()).filter(|&i| of(i)).max_by(|&a, &b| worth(a).total_cmp(&worth(b)))
        };
        let named = [Family::Missing, Family::Repeats, Family::Location]
            .iter()
            .filter_map(|&family| best_of(&|i| design.components[i].family == family))
            .find(|&i| worth(i) >= enough);
        let winner = named.or_else(|| best_of(&|_| true))?;
        let bet = &design.components[winner];
        Some(Alarm { family: bet.family, sign: bet.sign, onset: self.onset(winner), log_evidence })
    }

    /// Lets the latch go once the windows say clearly that the change is over: a CUSUM of the log likelihood ratio of two Gaussian
    /// means, tolerance and the mean since the onset, with the long-run variance of the score (Page 1954).
    fn let_go(&mut self, design: &Design, window: &[Compared]) -> bool {
        let Some(family) = self.latch.map(|latch| latch.alarm.family) else { return false };
        let seen = self.seen(design, window, family);
        let (Some(latch), Some((frame, compared))) = (&mut self.latch, seen) else {
            self.latch = None;
            return true;
        };
        if compared.n == 0.0 {
            return false;
        }
        let towards = towards(&compared, latch.alarm.sign);
        let change = (latch.effect - frame.tau).max(GONE_SHARE * frame.tau);
        let middle = frame.tau + 0.5 * change;
        let calm = &mut latch.calm;
        calm.windows += 1;
        calm.n += compared.n;
        calm.sum += towards;
        calm.log_ratio += change * (middle * compared.n - towards) / frame.phi;
        if calm.log_ratio <= 0.0 {
            // No end: what looked calm is part of the change.
            let n = latch.n + calm.n;
            latch.effect = (latch.effect * latch.n + calm.sum) / n;
            (latch.n, latch.calm) = (n, Calm::default());
            return false;
        }
        // An embedding sums the samples of many windows.
        let needed = if matches!(family, Family::Embedding(_)) { 1 } else { CALM_WINDOWS };
        let over = calm.windows >= needed && calm.log_ratio >= GONE;
        if over {
            *self = Self { own: self.own, ..Self::default() };
        }
        over
    }
}

/// The smaller of two numbers, without the look at NaN that `f32::min` takes.
fn below(x: f32, limit: f32) -> f32 {
    if x < limit { x } else { limit }
}

/// Σ weight·grown, in four sums side by side.
fn dot(weight: &[f32], grown: &[f32]) -> f64 {
    let mut sums = [0.0f32; 4];
    for (weight, grown) in weight.chunks_exact(4).zip(grown.chunks_exact(4)) {
        sums.iter_mut().zip(weight.iter().zip(grown)).for_each(|(sum, (w, g))| *sum += w * g);
    }
    f64::from(sums[0] + sums[1] + (sums[2] + sums[3]))
}

fn towards(compared: &Compared, sign: f64) -> f64 {
    if sign > 0.0 { compared.rise } else { -compared.fall }
}

/// e^x within 3e-7 of its value: 2^k by the exponent's bits, the rest by Taylor's series. Unlike `libm::expf` it vectorises.
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the nearest integer in the low bits.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4]; // Cody and Waite's split of ln 2.
    let x = below(if x > -87.0 { x } else { -87.0 }, 88.0);
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let rest = (x - k * LN_2[0]) - k * LN_2[1];
    let series = rest * (1.0 / 5040.0) + 1.0 / 720.0;
    let series = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0].iter().fold(series, |s, c| s * rest + c);
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    series * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn the_exponential_is_accurate_and_bounded() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let wanted = libm::exp(f64::from(x));
            assert!((f64::from(exp(x)) / wanted - 1.0).abs() < 3e-7, "{x}");
        }
        assert!(exp(-1e9) > 0.0 && exp(-1e9) < 1e-37);
        assert!(exp(1e9).is_finite());
    }
}
