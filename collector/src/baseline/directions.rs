//! The directions in which a model's own embedding of the training samples varies most.

use driftline_shared::random::Random;
use nalgebra::DMatrix;

/// Rows that directions are taken from at most, evenly spread.
const ROWS_MAX: usize = 2_000;
/// Turns of the iteration. Directions that vary alike need not be told apart: what they span together is what counts.
const TURNS: usize = 30;
/// Variance along a direction, as a share of all of it, below which it is noise of the arithmetic.
const VARIANCE_MIN: f64 = 1e-9;

/// Mean of the rows, and at most `most` orthonormal directions, one after the other: the leading eigenvectors of the covariance, by
/// orthogonal iteration (Golub and Van Loan, *Matrix Computations*, 8.2.4), which needs no matrix of width by width. Rows of another
/// width than the first, or with a number that is not finite, are left out.
pub fn fit(rows: &[Vec<f32>], most: usize) -> (Vec<f32>, Vec<f32>) {
    let width = rows.iter().map(Vec::len).find(|&width| width > 0).unwrap_or(0);
    let sound = |row: &&Vec<f32>| row.len() == width && row.iter().all(|v| v.is_finite());
    let sound: Vec<&Vec<f32>> = rows.iter().filter(sound).collect();
    let rows: Vec<&Vec<f32>> = sound.iter().step_by(sound.len().div_ceil(ROWS_MAX).max(1)).copied().collect();
    if rows.is_empty() || width == 0 {
        return (Vec::new(), Vec::new());
    }
    let n = rows.len() as f64;
    let mean: Vec<f64> = (0..width).map(|i| rows.iter().map(|row| f64::from(row[i])).sum::<f64>() / n).collect();
    let centred = DMatrix::from_fn(rows.len(), width, |row, i| f64::from(rows[row][i]) - mean[i]);
    let many = most.min(width).min(rows.len() - 1);
    let total = centred.norm_squared();
    let mut found = Vec::new();
    if many > 0 && total > 0.0 {
        let mut random = Random::new(1);
        let mut basis = DMatrix::from_fn(width, many, |_, _| random.normal()).qr().q();
        for _ in 0..TURNS {
            basis = centred.tr_mul(&(&centred * &basis)).qr().q();
        }
        let along = (&centred * &basis).column_iter().map(|column| column.norm_squared()).collect::<Vec<_>>();
        for (direction, _) in basis.column_iter().zip(along).filter(|(_, along)| *along > VARIANCE_MIN * total) {
            found.extend(direction.iter().map(|&v| v as f32));
        }
    }
    (mean.into_iter().map(|v| v as f32).collect(), found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that vary by 3, 2 and 1 along three known directions of six, and hardly at all along the others.
    fn rows(many: usize) -> Vec<Vec<f32>> {
        let mut random = Random::new(7);
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let known =
            [[half, half, 0.0, 0.0, 0.0, 0.0], [half, -half, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]];
        let row = |_| {
            let far = [3.0, 2.0, 1.0].map(|sd| sd * random.normal());
            let at = |i: usize| 5.0 + (0..3).map(|k| far[k] * known[k][i]).sum::<f64>() + 0.01 * random.normal();
            (0..6).map(at).map(|v| v as f32).collect()
        };
        (0..many).map(row).collect()
    }

    #[test]
    fn the_leading_directions_are_those_that_vary_most() {
        let (mean, found) = fit(&rows(5_000), 2);
        assert!(mean.iter().all(|m| (m - 5.0).abs() < 0.15), "{mean:?}");
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert_eq!(found.len(), 12);
        for (found, wanted) in found.chunks(6).zip([[half, half], [half, -half]]) {
            let along = found[0] * wanted[0] + found[1] * wanted[1];
            assert!(along.abs() > 0.999, "{found:?}");
        }
    }

    #[test]
    fn rows_that_say_little_give_few_directions() {
        assert_eq!(fit(&[], 4), (vec![], vec![]));
        assert_eq!(fit(&[vec![1.0, 2.0]], 4), (vec![1.0, 2.0], vec![]), "one row varies nowhere");
        let broken: Vec<Vec<f32>> = (0..50).map(|i| vec![i as f32, f32::NAN]).collect();
        assert_eq!(fit(&broken, 4), (vec![], vec![]), "no row is finite");
        let line: Vec<Vec<f32>> = (0..50).map(|i| vec![i as f32, 2.0 * i as f32, 0.0]).collect();
        assert_eq!(fit(&line, 4).1.len(), 3, "one direction explains a line");
    }
}
