//! phi from the readings themselves: the long-run variance of an autoregressive model of their scores.
//!
//! Blocks of a window are few, and their long-run variance is known to a quarter of itself where a hundred of them are; readings are
//! many. An AR(p) model fitted by Yule and Walker's equations (Levinson's recursion), p chosen by Schwarz's criterion, says what the
//! variance of long means is if the readings are such a series: σ²/(1 - Σa)² (Berk, *Consistent autoregressive spectral estimates*, 1974).
//! Where something slow lies under fast noise it takes more orders than are tried; means of a few neighbours, in which there is less of the
//! noise, show it to the same model. Whether that is enough is for [`super::variation`] to judge, which has the blocks beside it.

/// Largest order that is tried, and as a share of the readings.
const ORDER_MAX: usize = 24;
const ORDER_SHARE: usize = 20;
/// Normal quantile of an upper bound that holds for twenty features at once in 95 % of tables.
const UPPER: f64 = 2.81;

/// Neighbours whose mean is taken.
const NEIGHBOURS: usize = 8;

/// A long-run variance, in units of the readings' variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LongRun {
    /// Its estimate.
    pub phi: f64,
    /// Standard error of ln φ, as of an AR(1) series of N values: √((2 + 4φ')/N), φ' in units of the variance of these values.
    pub error: f64,
}

impl LongRun {
    /// Its upper bound ([`UPPER`]).
    pub fn upper(&self) -> f64 {
        self.phi * (UPPER * self.error).exp()
    }

    /// How many standard errors it lies above another one, which is of the same series and better known if both are right: then their
    /// difference has the difference of their variances (Hausman, *Specification tests in econometrics*, 1978). It is taken for no less than
    /// the other's own error, since neither is of quite such a series.
    pub fn above(&self, other: &Self) -> f64 {
        (self.phi / other.phi).ln() / (self.error.powi(2) - other.error.powi(2)).max(other.error.powi(2)).sqrt()
    }
}

/// Of series of scores with mean 0 and variance 1, one per device, in time order and each around its own mean; gaps are `None`.
/// `None` when there is too little to estimate from.
pub fn long_run(series: &[Vec<Option<f64>>]) -> Option<LongRun> {
    let known: usize = series.iter().map(|s| s.iter().flatten().count()).sum();
    let orders = ORDER_MAX.min(known / ORDER_SHARE);
    let centred: Vec<Vec<Option<f64>>> = series.iter().map(|s| centred(s)).collect();
    let covariances: Vec<f64> = (0..=orders).map(|lag| covariance(&centred, lag)).collect::<Option<_>>()?;
    let phi = of_covariances(&covariances, known as f64)?;
    let error = ((2.0 + 4.0 * phi / covariances[0]) / known as f64).sqrt();
    Some(LongRun { phi, error })
}

/// The same from means of [`NEIGHBOURS`] readings.
pub fn long_run_of_means(series: &[Vec<Option<f64>>]) -> Option<LongRun> {
    let mean = |readings: &[Option<f64>]| {
        let known = readings.iter().flatten().count();
        (known > 0).then(|| readings.iter().flatten().sum::<f64>() / known as f64)
    };
    let means: Vec<Vec<_>> = series.iter().map(|s| s.chunks_exact(NEIGHBOURS).map(mean).collect()).collect();
    let of_means = long_run(&means)?;
    Some(LongRun { phi: of_means.phi * NEIGHBOURS as f64, ..of_means })
}

fn centred(series: &[Option<f64>]) -> Vec<Option<f64>> {
    let n = series.iter().flatten().count().max(1) as f64;
    let mean = series.iter().flatten().sum::<f64>() / n;
    series.iter().map(|x| x.map(|x| x - mean)).collect()
}

/// The mean product of scores so many steps apart.
fn covariance(series: &[Vec<Option<f64>>], lag: usize) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0usize);
    for of_device in series {
        let pairs = of_device.iter().zip(of_device.iter().skip(lag));
        for (a, b) in pairs.filter_map(|(a, b)| a.zip(*b)) {
            sum += a * b;
            n += 1;
        }
    }
    (n > 0).then(|| sum / n as f64)
}

/// Levinson's recursion over the orders; the long-run variance of the one that Schwarz's criterion likes best.
fn of_covariances(covariances: &[f64], n: f64) -> Option<f64> {
    let (&variance, lags) = covariances.split_first()?;
    if variance <= 0.0 {
        return None;
    }
    let (mut error, mut coefficients) = (variance, Vec::<f64>::new());
    let mut best = (n * error.ln(), error);
    for (order, covariance) in (1..).zip(lags) {
        let explained: f64 = coefficients.iter().zip(covariances[1..order].iter().rev()).map(|(a, c)| a * c).sum();
        let reflection = (covariance - explained) / error;
        // Gaps in the series can give covariances that no series has.
        if reflection.abs() >= 1.0 {
            break;
        }
        let mirrored: Vec<f64> = coefficients.iter().rev().map(|a| reflection * a).collect();
        coefficients.iter_mut().zip(mirrored).for_each(|(a, m)| *a -= m);
        coefficients.push(reflection);
        error *= 1.0 - reflection * reflection;
        let criterion = n * error.ln() + order as f64 * n.ln();
        if criterion < best.0 {
            let gain = 1.0 - coefficients.iter().sum::<f64>();
            best = (criterion, error / (gain * gain));
        }
    }
    Some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::random::Random;

    fn series(n: usize, coefficients: &[f64], seed: u64) -> Vec<Option<f64>> {
        let mut random = Random::new(seed);
        let mut known = vec![0.0; coefficients.len()];
        let mut step = || {
            let next = random.normal() + coefficients.iter().zip(&known).map(|(a, x)| a * x).sum::<f64>();
            known.insert(0, next);
            known.pop();
            next
        };
        (0..500).for_each(|_| {
            step();
        });
        (0..n).map(|_| Some(step())).collect()
    }

    #[test]
    fn the_long_run_variance_of_known_series() {
        for (coefficients, wanted) in
            [(&[][..], 1.0), (&[0.5], 4.0), (&[0.9], 100.0), (&[1.2, -0.5], 1.0 / 0.09), (&[-0.6], 1.0 / 2.56)]
        {
            let found = long_run(&[series(20_000, coefficients, 3), series(20_000, coefficients, 4)]).expect("enough");
            assert!((found.phi / wanted - 1.0).abs() < 0.15, "{coefficients:?}: {found:?} for {wanted}");
            assert!(found.upper() > found.phi);
        }
    }

    #[test]
    fn the_upper_bound_holds_for_twenty_features_at_once() {
        // AR(.9) of 6,000 rows, as scores of variance 1: φ is 19. One table in 400 may be below.
        let scale = (1.0f64 - 0.81).sqrt();
        let bounds: Vec<f64> = (0..800u64)
            .map(|seed| {
                let scores: Vec<_> = series(6_000, &[0.9], seed).into_iter().map(|x| x.map(|x| x * scale)).collect();
                long_run(&[scores]).expect("enough").upper()
            })
            .collect();
        let below = bounds.iter().filter(|&&bound| bound <= 19.0).count();
        assert!((1..=8).contains(&below), "{below} of 800 bounds are below");
        let mean = bounds.iter().sum::<f64>() / bounds.len() as f64;
        assert!((1.2..1.5).contains(&(mean / 19.0)), "a bound of {mean} on average");
    }

    #[test]
    fn means_of_neighbours_show_what_lies_under_noise() {
        // A tenth of the variance wanders with a coefficient of .98: φ = .9 + .1·1.98/.02 = 10.8.
        let wander = series(60_000, &[0.98], 5);
        let mut random = Random::new(6);
        let noise =
            |x: Option<f64>| x.map(|x| x * (0.1f64 * (1.0 - 0.98 * 0.98)).sqrt() + 0.9f64.sqrt() * random.normal());
        let under_noise = [wander.into_iter().map(noise).collect()];
        let (readings, means) =
            (long_run(&under_noise).expect("enough"), long_run_of_means(&under_noise).expect("enough"));
        assert!((means.phi / 10.8).ln().abs() < 3.0 * means.error, "{means:?}");
        assert!(means.above(&readings) > 3.0, "{means:?} and {readings:?}");
        // Where nothing is hidden they agree.
        let plain = [series(60_000, &[0.5], 7)];
        let (readings, means) = (long_run(&plain).expect("enough"), long_run_of_means(&plain).expect("enough"));
        assert!(means.above(&readings).abs() < 3.0, "{means:?} and {readings:?}");
    }

    #[test]
    fn gaps_constants_and_nothing_are_no_trouble() {
        assert_eq!(long_run(&[]), None);
        assert_eq!(long_run(&[vec![None; 50], vec![Some(1.0); 50]]), None);
        let mut gaps = series(5_000, &[0.8], 7);
        gaps.iter_mut().step_by(3).for_each(|x| *x = None);
        let found = long_run(&[gaps]).expect("enough").phi;
        assert!((found / 25.0 - 1.0).abs() < 0.4, "{found}");
    }
}
