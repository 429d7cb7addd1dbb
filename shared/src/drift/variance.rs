//! How much window means vary when nothing is wrong: the long-run variance factor phi of docs/detection.md.

/// The truncation lag of the Bartlett estimate: floor(4 (W/100)^(2/9)), below W.
pub fn lag(windows: usize) -> usize {
    let lag = libm::floor(4.0 * libm::pow(windows as f64 / 100.0, 2.0 / 9.0)) as usize;
    lag.min(windows.saturating_sub(1))
}

/// phi = n · LRV(means): the Bartlett-weighted long-run variance of `means`, each of `n` samples of a score with variance 1.
/// 1 for independent samples. With fewer than two means there is nothing to estimate: 1.
pub fn phi(means: &[f64], n: f64) -> f64 {
    let windows = means.len();
    if windows < 2 {
        return 1.0;
    }
    let mean = means.iter().sum::<f64>() / windows as f64;
    let covariance = |lag: usize| {
        means.iter().zip(&means[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / windows as f64
    };
    let lags = lag(windows);
    let weighted: f64 = (1..=lags).map(|l| (1.0 - l as f64 / (lags + 1) as f64) * covariance(l)).sum();
    (n * (covariance(0) + 2.0 * weighted)).max(0.0)
}

/// phi+ = max(1, phi (W-1) / q), q the lower 5 % point of chi-square with W-1 degrees of freedom, supplied by the caller.
pub fn upper(phi: f64, windows: usize, chi_square_low: f64) -> f64 {
    if windows < 2 || chi_square_low <= 0.0 {
        return 1.0;
    }
    (phi * (windows - 1) as f64 / chi_square_low).max(1.0)
}

/// Correlation between neighbouring means; 0 below three.
pub fn lag1_autocorrelation(means: &[f64]) -> f64 {
    if means.len() < 3 {
        return 0.0;
    }
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    let variance: f64 = means.iter().map(|a| (a - mean) * (a - mean)).sum();
    let neighbours: f64 = means.iter().zip(&means[1..]).map(|(a, b)| (a - mean) * (b - mean)).sum();
    if variance > 0.0 { neighbours / variance } else { 0.0 }
}
