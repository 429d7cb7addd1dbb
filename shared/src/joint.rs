//! Whether a sample's readings go together as they did in training, as one number that can be sketched like a reading.
//!
//! Principal components of the standardised training inputs say how readings move together; what a sample has outside of the leading
//! ones, the length of its residual, is small while they do. A change of correlation that no single reading shows makes it grow
//! (Jackson and Mudholkar, *Control procedures for residuals associated with principal component analysis*, 1979). The number of
//! components is chosen when the baseline is built, as NannyML chooses it: 65 % of the variance.

use crate::list::List;
use crate::window::FEATURES_MAX;
use libm::sqrt;
use serde::{Deserialize, Serialize};

/// Most weights of all components together.
pub const WEIGHTS_MAX: usize = 2_048;

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
    /// as its mean; NaN when every input is missing or one is not finite. Squares of readings far from training leave the range of f32,
    /// so sums are in f64, and a length beyond f32 is its largest number.
    pub fn residual(&self, inputs: &[f32]) -> f32 {
        let mut z = [0.0f64; FEATURES_MAX];
        let (mut square, mut known) = (0.0, false);
        for (i, ((&x, mean), scale)) in inputs.iter().zip(self.means.iter()).zip(self.scales.iter()).enumerate() {
            if x.is_infinite() {
                return f32::NAN;
            }
            if !x.is_nan() && *scale > 0.0 {
                z[i] = (f64::from(x) - f64::from(*mean)) * f64::from(*scale);
                square += z[i] * z[i];
                known = true;
            }
        }
        if !known {
            return f32::NAN;
        }
        let width = self.means.len().max(1);
        let explained: f64 = self
            .components
            .chunks_exact(width)
            .map(|component| {
                let along: f64 = component.iter().zip(&z).map(|(w, z)| f64::from(*w) * z).sum();
                along * along
            })
            .sum();
        sqrt((square - explained).max(0.0)).min(f64::from(f32::MAX)) as f32
    }
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
