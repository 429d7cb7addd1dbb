//! Principal components of the training inputs, for the residual that sees readings no longer going together.

use driftline_shared::joint::{Joint, WEIGHTS_MAX};
use nalgebra::{DMatrix, SymmetricEigen};

/// Share of the variance that the components explain, as in NannyML's reconstruction error.
const EXPLAINED: f64 = 0.65;
/// Fewest rows that components are taken from, per input.
pub const ROWS_PER_INPUT: usize = 10;
/// Rows that they are taken from at most, evenly spread over the table.
const ROWS_MAX: usize = 20_000;

/// The components of a table, or `None` where it has fewer than two inputs that vary, or too few rows. Only inputs that are a `number`
/// are looked at.
pub fn fit(inputs: &[Vec<f32>], width: usize, number: impl Fn(usize) -> bool) -> Option<Joint> {
    let step = inputs.len().div_ceil(ROWS_MAX).max(1);
    let rows: Vec<&Vec<f32>> = inputs.iter().step_by(step).collect();
    let (means, sds): (Vec<f64>, Vec<f64>) = (0..width).map(|i| moments(&rows, i)).unzip();
    let varying: Vec<usize> = (0..width).filter(|&i| number(i) && sds[i] > 0.0 && sds[i].is_finite()).collect();
    if varying.len() < 2 || rows.len() < ROWS_PER_INPUT * varying.len() || varying.len() > WEIGHTS_MAX {
        return None;
    }
    let scaled = DMatrix::from_fn(rows.len(), varying.len(), |row, column| {
        let i = varying[column];
        let x = f64::from(rows[row].get(i).copied().unwrap_or(f32::NAN));
        if x.is_finite() { (x - means[i]) / sds[i] } else { 0.0 }
    });
    let covariance = scaled.tr_mul(&scaled) / rows.len() as f64;
    let total = covariance.trace();
    let eigen = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..varying.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let (mut explained, mut components) = (0.0, Vec::new());
    for &k in order.iter().take((varying.len() - 1).min(WEIGHTS_MAX / width)) {
        if explained >= EXPLAINED * total {
            break;
        }
        explained += eigen.eigenvalues[k];
        let mut component = vec![0.0f32; width];
        varying.iter().enumerate().for_each(|(at, &i)| component[i] = eigen.eigenvectors[(at, k)] as f32);
        components.extend(component);
    }
    let scale = |i: usize| if varying.contains(&i) { (1.0 / sds[i]) as f32 } else { 0.0 };
    let joint = Joint {
        means: means.iter().map(|&m| m as f32).collect(),
        scales: (0..width).map(scale).collect(),
        components: components.into_iter().collect(),
    };
    joint.fits(width).then_some(joint)
}

/// Mean and standard deviation of the finite values of a column; 0 where there are none.
fn moments(rows: &[&Vec<f32>], column: usize) -> (f64, f64) {
    let values = || rows.iter().filter_map(|row| row.get(column)).filter(|v| v.is_finite()).map(|&v| f64::from(v));
    let n = values().count().max(1) as f64;
    let mean = values().sum::<f64>() / n;
    (mean, (values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::random::Random;

    #[test]
    fn a_flipped_correlation_grows_the_residual_and_nothing_else() {
        let mut random = Random::new(1);
        let mut table = |rho: f64| -> Vec<Vec<f32>> {
            let other = (1.0 - rho * rho).sqrt();
            (0..2_000)
                .map(|_| {
                    let (a, b) = (random.normal(), random.normal());
                    vec![a as f32, (rho * a + other * b) as f32, random.normal() as f32, 7.0]
                })
                .collect()
        };
        let joint = fit(&table(0.9), 4, |_| true).expect("three inputs that vary");
        let mean =
            |rows: &[Vec<f32>]| rows.iter().map(|r| f64::from(joint.residual(r))).sum::<f64>() / rows.len() as f64;
        let (before, after) = (mean(&table(0.9)), mean(&table(-0.9)));
        assert!(after > before + 0.5, "{before} and {after}");
        assert_eq!(joint.scales[3], 0.0, "a constant is not looked at");
        assert_eq!(fit(&table(0.5)[..10], 4, |_| true), None, "too few rows");
    }
}
