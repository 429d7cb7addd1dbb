//! Where a model's inputs lie together: the mean of random Fourier features, a sketch of the joint distribution.
//!
//! The means of cos(w·z) and sin(w·z) over standardised samples z, for random directions w, determine a distribution as far as a
//! Gaussian kernel sees it: the squared distance of two such embeddings estimates the kernel's MMD² (Rahimi and Recht, *Random features
//! for large-scale kernel machines*, 2007; Gretton et al., *A kernel two-sample test*, 2012). So a change of how readings depend on each
//! other is seen that neither a reading by itself nor their linear correlations show. Half of the directions belong to a kernel of the
//! training data's own width and half to one of half that width, which sees finer structure.
//!
//! Both ends draw the same directions from a seed. Cosines are counted in whole 1/[`ONE`], so merging is integer addition.

use crate::drift::scores::Sum;
use crate::joint::Joint;
use crate::list::List;
use crate::random::Random;
use serde::{Deserialize, Serialize};

/// Random directions.
pub const FREQUENCIES: usize = 128;
/// A cosine and a sine of each.
pub const COORDINATES: usize = 2 * FREQUENCIES;
/// Most inputs of a model whose samples are embedded.
pub const INPUTS_MAX: usize = 64;
/// A device sends an embedding of so many windows' samples at a time.
pub const WINDOWS: u64 = 16;
/// What a cosine of 1 is counted as.
pub const ONE: i32 = 127;

/// Samples of the largest sum; a device's sixteen windows have fewer by far.
pub const SAMPLES_MAX: u32 = 1 << 24;

/// Directions worked on at a time, in vector registers.
const LANES: usize = 16;
/// 1.5 · 2^23: adding it leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// sin(2πu) = 2πu - (2πu)³/3! + (2πu)⁵/5! - (2πu)⁷/7!
const SINE: [f32; 4] = [6.283_185_5, -41.341_7, 81.605_25, -76.705_86];
/// A standardised reading counts as no more than this: where it lies beyond says nothing about how readings depend on each other.
const Z_MAX: f32 = 64.0;
const SEED: u64 = 0x0d71_f711;

/// What the embedding of normal samples is, and how it varies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedded {
    /// Width of the wider kernel, in standard deviations of an input.
    pub bandwidth: f32,
    /// Training rows.
    pub rows: u32,
    /// Smallest change worth an alarm, in the same.
    pub tolerance: f64,
    /// Mean of each coordinate: cosines by direction, then sines.
    pub means: List<f32, COORDINATES>,
    /// Its standard deviation.
    pub sds: List<f32, COORDINATES>,
    /// Its long-run variance factor.
    pub phi: List<f32, COORDINATES>,
    /// How much it differs between healthy devices, in standard deviations.
    pub omega: List<f32, COORDINATES>,
}

impl Embedded {
    /// Whether the parts fit each other and are numbers that arithmetic can use.
    pub fn is_possible(&self) -> bool {
        let lists = [&self.means, &self.sds, &self.phi, &self.omega];
        lists.iter().all(|list| list.len() == COORDINATES && list.iter().all(|x| x.is_finite()))
            && self.bandwidth.is_finite()
            && self.bandwidth > 0.0
            && self.phi.iter().all(|&phi| phi >= 1.0)
            && self.omega.iter().all(|&omega| omega >= 0.0)
            && self.tolerance.is_finite()
            && self.tolerance >= 0.0
    }

    /// The score sum of one coordinate: mean 0 and variance 1 per sample in training. Nothing for one that does not vary.
    pub fn score(&self, embedding: &Embedding, coordinate: usize) -> Sum {
        let (Some(sum), Some(&mean), Some(&sd)) =
            (embedding.sums.get(coordinate), self.means.get(coordinate), self.sds.get(coordinate))
        else {
            return Sum::default();
        };
        if sd <= 0.0 {
            return Sum::default();
        }
        let n = f64::from(embedding.n);
        Sum { n, sum: (f64::from(*sum) / f64::from(ONE) - n * f64::from(mean)) / f64::from(sd) }
    }
}

/// The directions, ready for samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Turns per standard deviation: for every input, one per direction.
    turns: heapless::Vec<[[f32; LANES]; FREQUENCIES / LANES], INPUTS_MAX>,
}

impl Frequencies {
    /// The directions for so many inputs; `None` for none, and for more than [`INPUTS_MAX`].
    pub fn new(inputs: usize, bandwidth: f32) -> Option<Self> {
        let mut random = Random::new(SEED);
        let mut turns = heapless::Vec::new();
        for _ in 0..inputs {
            let mut direction = |at: usize| {
                let width = f64::from(bandwidth) * if at.is_multiple_of(2) { 1.0 } else { 0.5 };
                (random.normal() / (2.0 * core::f64::consts::PI * width)) as f32
            };
            let parts = core::array::from_fn(|part| core::array::from_fn(|lane| direction(LANES * part + lane)));
            turns.push(parts).ok()?;
        }
        (inputs > 0).then_some(Self { turns })
    }

    /// Standard deviation of a direction's phase, in radians, between devices whose inputs lie apart by these standard deviations.
    pub fn swing(&self, direction: usize, spreads: impl Iterator<Item = f64>) -> f64 {
        let turns = |of: &[[f32; LANES]; FREQUENCIES / LANES]| f64::from(of[direction / LANES][direction % LANES]);
        let phase = self.turns.iter().zip(spreads).map(|(of, spread)| 2.0 * core::f64::consts::PI * turns(of) * spread);
        libm::sqrt(phase.map(|phase| phase * phase).sum())
    }
}

/// Sums of cosines and sines over samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    n: u32,
    sums: [i32; COORDINATES],
}

impl Default for Embedding {
    fn default() -> Self {
        Self { n: 0, sums: [0; COORDINATES] }
    }
}

impl Embedding {
    /// From parts that came over the wire; `None` when no samples could have made them.
    pub fn from_parts(n: u32, sums: [i32; COORDINATES]) -> Option<Self> {
        let possible = n <= SAMPLES_MAX && sums.iter().all(|sum| sum.unsigned_abs() <= ONE as u32 * n);
        possible.then_some(Self { n, sums })
    }

    /// Samples.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// Sums of the coordinates, in 1/[`ONE`].
    pub fn sums(&self) -> &[i32; COORDINATES] {
        &self.sums
    }

    /// Counts one sample, standardised as for the residual of `joint`. A missing input counts as its mean; a sample without inputs, or
    /// with one that is infinite, is not counted. Allocates nothing.
    pub fn add(&mut self, frequencies: &Frequencies, joint: &Joint, inputs: &[f32]) {
        let mut z = [0.0f32; INPUTS_MAX];
        let mut known = false;
        let scaled = joint.means.iter().zip(joint.scales.iter());
        for ((&x, (mean, scale)), z) in inputs.iter().zip(scaled).zip(&mut z) {
            if x.is_infinite() {
                return;
            }
            if !x.is_nan() && *scale > 0.0 {
                known = true;
                let far = (f64::from(x) - f64::from(*mean)) * f64::from(*scale);
                *z = (far as f32).clamp(-Z_MAX, Z_MAX);
            }
        }
        if !known || self.n >= SAMPLES_MAX {
            return;
        }
        self.n += 1;
        let (cosines, sines) = self.sums.split_at_mut(FREQUENCIES);
        for (part, (cosines, sines)) in cosines.chunks_exact_mut(LANES).zip(sines.chunks_exact_mut(LANES)).enumerate() {
            let mut turns = [0.0f32; LANES];
            for (z, of_input) in z.iter().zip(&frequencies.turns) {
                turns.iter_mut().zip(&of_input[part]).for_each(|(turns, of)| *turns += z * of);
            }
            cosines.iter_mut().zip(&turns).for_each(|(sum, &turns)| *sum += cosine(turns));
            sines.iter_mut().zip(&turns).for_each(|(sum, &turns)| *sum += cosine(turns - 0.25));
        }
    }

    /// Adds what another one summed. Exact up to [`SAMPLES_MAX`] samples together, and in any order the same.
    pub fn merge(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a = a.saturating_add(*b));
    }

    /// Back to no samples.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// cos(2πt) in 1/[`ONE`], within one of them: t is folded to a quarter turn and there is the sine's power series.
#[inline]
fn cosine(turns: f32) -> i32 {
    let whole = (turns + ROUND) - ROUND;
    let from_quarter = 0.25 - f32::from_bits((turns - whole).to_bits() & !(1 << 31));
    let square = from_quarter * from_quarter;
    let series = ((SINE[3] * square + SINE[2]) * square + SINE[1]) * square + SINE[0];
    // The nearest integer stands in the low bits.
    (series * from_quarter * ONE as f32 + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Inputs as they are: mean 0, standard deviation 1.
    fn plain(inputs: usize) -> Joint {
        Joint {
            means: (0..inputs).map(|_| 0.0).collect(),
            scales: (0..inputs).map(|_| 1.0).collect(),
            components: List::default(),
        }
    }

    fn embedded(inputs: usize, bandwidth: f32, rows: &[Vec<f32>]) -> Embedding {
        let (frequencies, joint) = (Frequencies::new(inputs, bandwidth).unwrap(), plain(inputs));
        let mut embedding = Embedding::default();
        rows.iter().for_each(|row| embedding.add(&frequencies, &joint, row));
        embedding
    }

    /// The squared distance of two means, as the mean over directions.
    fn distance(a: &Embedding, b: &Embedding) -> f64 {
        let mean = |e: &Embedding, at: usize| f64::from(e.sums[at]) / f64::from(ONE) / f64::from(e.n);
        (0..COORDINATES).map(|at| (mean(a, at) - mean(b, at)).powi(2)).sum::<f64>() / FREQUENCIES as f64
    }

    /// The same by the kernel itself, over all pairs of samples.
    fn mmd2(bandwidth: f32, a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
        let kernel = |x: &Vec<f32>, y: &Vec<f32>| {
            let square: f64 = x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum();
            let of = |width: f64| (-square / (2.0 * width * width)).exp();
            0.5 * (of(f64::from(bandwidth)) + of(f64::from(bandwidth) / 2.0))
        };
        let mean = |a: &[Vec<f32>], b: &[Vec<f32>]| {
            a.iter().flat_map(|x| b.iter().map(move |y| kernel(x, y))).sum::<f64>() / (a.len() * b.len()) as f64
        };
        mean(a, a) + mean(b, b) - 2.0 * mean(a, b)
    }

    fn normal(rows: usize, inputs: usize, shift: f64, seed: u64) -> Vec<Vec<f32>> {
        let mut random = Random::new(seed);
        (0..rows).map(|_| (0..inputs).map(|_| (random.normal() + shift) as f32).collect()).collect()
    }

    #[test]
    fn distance_of_embeddings_is_that_of_the_kernel() {
        for (shift, seed) in [(0.0, 1), (0.3, 2), (0.6, 3), (1.0, 4)] {
            let (a, b) = (normal(400, 5, 0.0, 10 + seed), normal(300, 5, shift, 20 + seed));
            let exact = mmd2(2.2, &a, &b);
            let sketched = distance(&embedded(5, 2.2, &a), &embedded(5, 2.2, &b));
            // The error of m random directions is of order 1/sqrt(m) of the value.
            assert!((sketched - exact).abs() < 0.25 * exact + 0.001, "{shift}: {sketched} {exact}");
        }
    }

    #[test]
    fn cosines_are_within_one_part() {
        for step in -3_000..3_000 {
            let turns = step as f32 / 997.0;
            let wanted = f64::from(ONE) * libm::cos(f64::from(turns) * core::f64::consts::TAU);
            assert!((f64::from(cosine(turns)) - wanted).abs() <= 0.6, "{turns}");
        }
    }

    #[test]
    fn what_cannot_be_embedded_is_not_counted() {
        let rows = |values: &[f32]| embedded(2, 1.0, &[values.to_vec()]);
        assert_eq!(rows(&[f32::NAN, f32::NAN]), Embedding::default());
        assert_eq!(rows(&[0.0, f32::INFINITY]), Embedding::default());
        assert_eq!(rows(&[f32::NAN, 0.5]), rows(&[0.0, 0.5]));
        assert_eq!(rows(&[f32::MAX, f32::MIN]), rows(&[Z_MAX, -Z_MAX]));
        assert!(Frequencies::new(0, 1.0).is_none() && Frequencies::new(INPUTS_MAX + 1, 1.0).is_none());
        // Far directions of an impossible bandwidth do no harm.
        assert_eq!(embedded(2, 1e-30, &normal(10, 2, 0.0, 1)).n, 10);
    }

    proptest! {
        #[test]
        fn merged_is_whole_in_any_order(a in 0usize..30, b in 0usize..30, c in 0usize..30, seed: u64) {
            let rows = normal(a + b + c, 3, 0.0, seed);
            let part = |from: usize, to: usize| embedded(3, 1.7, &rows[from..to]);
            let (x, y, z) = (part(0, a), part(a, a + b), part(a + b, a + b + c));
            let merged = |parts: &[&Embedding]| {
                let mut sum = Embedding::default();
                parts.iter().for_each(|part| sum.merge(part));
                sum
            };
            let whole = part(0, a + b + c);
            prop_assert_eq!(&merged(&[&x, &y, &z]), &whole);
            prop_assert_eq!(&merged(&[&z, &x, &y]), &whole);
            prop_assert_eq!(&merged(&[&x, &merged(&[&y, &z])]), &whole);
            prop_assert_eq!(Embedding::from_parts(whole.n, whole.sums), Some(whole));
        }
    }

    #[test]
    fn sums_that_no_samples_make_are_refused() {
        let mut sums = [0; COORDINATES];
        sums[3] = 2 * ONE + 1;
        assert_eq!(Embedding::from_parts(2, sums), None);
        assert!(Embedding::from_parts(3, sums).is_some());
    }
}
