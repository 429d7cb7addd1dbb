//! Whether a sample's readings go together as they did in training, as one number that can be sketched like a reading.
//!
//! Principal components of the standardised training inputs say how readings move together; what a sample has outside of the leading
//! ones, the length of its residual, is small while they do. A change of correlation that no single reading shows makes it grow
//! (Jackson and Mudholkar, *Control procedures for residuals associated with principal component analysis*, 1979). The number of
//! components is chosen when the baseline is built, as NannyML chooses it: 65 % of the variance.

use crate::list::List;
use crate::window::FEATURES_MAX;
use serde::{Deserialize, Serialize};

/// Most weights of all components together.
pub const WEIGHTS_MAX: usize = 2_048;

/// Products added up at a time.
const LANES: usize = 8;
/// No reading counts as further from training, in standard deviations: the largest number, as an f64.
const Z_MAX: f64 = f32::MAX as f64;
/// Up to here squares are safe in f32.
const FAR: f32 = 1e15;

/// How readings move together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Joint {
    /// Training means, by input.
    pub means: List<f32, FEATURES_MAX>,
    /// One over the training standard deviations; 0 for an input that is not looked at.
    pub scales: List<f32, FEATURES_MAX>,
    /// Orthonormal components, one after the other, each as long as there are inputs.
    pub components: List<f32, WEIGHTS_MAX>,
}

impl Joint {
    /// Whether the parts fit each other and so many inputs.
    pub fn fits(&self, inputs: usize) -> bool {
        let all = self.means.iter().chain(self.scales.iter()).chain(self.components.iter());
        self.means.len() == inputs
            && self.scales.len() == inputs
            && inputs > 0
            && self.components.len().is_multiple_of(inputs)
            && all.copied().all(f32::is_finite)
    }

    /// Length of the part of a standardised sample that the components do not explain, in standard deviations. A missing input counts
    /// as its mean; NaN when every input is missing or one is not finite. A length beyond f32 is its largest number.
    pub fn residual(&self, inputs: &[f32]) -> f32 {
        let mut z = [0.0f32; FEATURES_MAX];
        let (mut far, mut known) = (0.0f32, false);
        for (((&x, mean), scale), z) in inputs.iter().zip(self.means.iter()).zip(self.scales.iter()).zip(&mut z) {
            if x.is_infinite() {
                return f32::NAN;
            }
            if !x.is_nan() && *scale > 0.0 {
                // Differences of the largest numbers leave the range of f32.
                *z = ((f64::from(x) - f64::from(*mean)) * f64::from(*scale)).clamp(-Z_MAX, Z_MAX) as f32;
                far = far.max(z.abs());
                known = true;
            }
        }
        if !known {
            return f32::NAN;
        }
        // Squares of readings far from training would leave it too: such a sample is made shorter, and its residual longer again.
        let shorter = if far > FAR { FAR / far } else { 1.0 };
        z.iter_mut().for_each(|z| *z *= shorter);
        let width = self.means.len().clamp(1, FEATURES_MAX);
        let z = &z[..width];
        let explained: f32 =
            self.components.chunks_exact(width).map(|component| dot(component, z)).map(|along| along * along).sum();
        (f64::from(libm::sqrtf((dot(z, z) - explained).max(0.0))) / f64::from(shorter)).min(f64::from(f32::MAX)) as f32
    }
}

/// The sum of products, in lanes that a compiler makes vectors of.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((groups, rest), (others, left)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in groups.iter().zip(others) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    let ends: f32 = rest.iter().zip(left).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_components_do_not_explain_is_left() {
        // Two inputs that move together: the component is their diagonal.
        let half = core::f32::consts::FRAC_1_SQRT_2;
        let joint = Joint {
            means: [10.0, 20.0].into_iter().collect(),
            scales: [1.0, 0.5].into_iter().collect(),
            components: [half, half].into_iter().collect(),
        };
        assert!(joint.fits(2) && !joint.fits(3));
        assert!(joint.residual(&[13.0, 26.0]) < 0.01, "along the diagonal, but for rounding");
        assert!((joint.residual(&[11.0, 18.0]) - core::f32::consts::SQRT_2).abs() < 1e-6, "across it");
        assert!((joint.residual(&[11.0, f32::NAN]) - half).abs() < 1e-6, "a missing input is at its mean");
        assert!(joint.residual(&[f32::NAN, f32::NAN]).is_nan() && joint.residual(&[1.0, f32::INFINITY]).is_nan());
    }

    #[test]
    fn a_sample_far_from_training_is_far_and_not_a_perfect_fit() {
        let w = 1.0 / libm::sqrtf(5.0);
        let joint = Joint {
            means: [0.0; 5].into_iter().collect(),
            scales: [1.0; 5].into_iter().collect(),
            components: [w; 5].into_iter().collect(),
        };
        // At right angles to the component: all of its length √2 · 1e25 is left.
        let left = joint.residual(&[1e25, -1e25, 0.0, 0.0, 0.0]);
        assert!((left / (core::f32::consts::SQRT_2 * 1e25) - 1.0).abs() < 1e-6, "{left}");
        let most = [f32::MAX, f32::MIN, f32::MAX, f32::MIN, 0.0];
        assert_eq!(joint.residual(&most), f32::MAX, "longer than f32 can say");
    }
}
