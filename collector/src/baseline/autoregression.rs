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
/// A covariance counts where this share of the readings has another one so far away: short series have few that do.
const PAIRS_SHARE: f64 = 0.875;
/// How often, and until a change of what share of the variance, it is worked out what each series' own mean took from it.
const CENTRED: (usize, f64) = (10, 0.01);
/// Normal quantile of an upper bound that holds for twenty features at once in 95 % of tables.
const UPPER: f64 = 2.81;
/// The bound is no more than e to this times the estimate.
const UPPER_MAX: f64 = 20.0;
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
        self.phi * (UPPER * self.error).min(UPPER_MAX).exp()
    }

    /// How many standard errors it lies above another one, which is of the same series and better known if both are right: then their
    /// difference has the difference of their variances (Hausman, *Specification tests in econometrics*, 1978). It is taken for no less than
    /// the other's own error, since neither is of quite such a series.
    pub fn above(&self, other: &Self) -> f64 {
        (self.phi / other.phi).ln() / (self.error.powi(2) - other.error.powi(2)).max(other.error.powi(2)).sqrt()
    }
}

/// What φ would be without gaps, of readings of which a `share` is known: 1 + share·(φ - 1) is left of it where they are missing at random,
/// since as many fewer have a neighbour.
pub fn without_gaps(phi: f64, share: f64) -> f64 {
    if share < 1.0 && phi > 1.0 { 1.0 + (phi - 1.0) / share } else { phi }
}

/// Of series of scores with mean 0 and variance 1, one per device, in time order and each around its own mean; gaps are `None`.
/// `None` when there is too little to estimate from.
pub fn long_run(series: &[Vec<Option<f64>>]) -> Option<LongRun> {
    of_means(series, 1)
}

/// The same from means of [`NEIGHBOURS`] readings.
pub fn long_run_of_means(series: &[Vec<Option<f64>>]) -> Option<LongRun> {
    of_means(series, NEIGHBOURS)
}

/// From means of so many readings that are known, gaps or not between them: means of fewer would vary more.
fn of_means(series: &[Vec<Option<f64>>], neighbours: usize) -> Option<LongRun> {
    let means = |series: &Vec<Option<f64>>| {
        let known: Vec<f64> = series.iter().copied().flatten().collect();
        let means: Vec<f64> =
            known.chunks_exact(neighbours).map(|m| m.iter().sum::<f64>() / neighbours as f64).collect();
        centred(means)
    };
    let means: Vec<Vec<f64>> = series.iter().map(means).filter(|means| !means.is_empty()).collect();
    let n: usize = means.iter().map(Vec::len).sum();
    let orders = ORDER_MAX.min(n / ORDER_SHARE);
    let covariances: Vec<f64> = (0..=orders).map_while(|lag| covariance(&means, lag, PAIRS_SHARE * n as f64)).collect();
    let variance = *covariances.first()?;
    // Around its own mean every series has lost that mean's variance, φ over its length, from all covariances.
    let (mut lost, mut phi) = (0.0, 0.0);
    for _ in 0..CENTRED.0 {
        let whole: Vec<f64> = covariances.iter().map(|covariance| covariance + lost).collect();
        phi = of_covariances(&whole, n as f64)?;
        let more = (phi * means.len() as f64 / n as f64).min(variance);
        if more - lost <= CENTRED.1 * variance {
            break;
        }
        lost = more;
    }
    let error = ((2.0 + 4.0 * phi / (variance + lost)) / n as f64).sqrt();
    let known: usize = series.iter().map(|s| s.iter().flatten().count()).sum();
    let share = known as f64 / series.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    Some(LongRun { phi: without_gaps(phi * neighbours as f64, share), error })
}

fn centred(mut series: Vec<f64>) -> Vec<f64> {
    let mean = series.iter().sum::<f64>() / series.len().max(1) as f64;
    series.iter_mut().for_each(|x| *x -= mean);
    series
}

/// The mean product of values so many steps apart; `None` of fewer than `least` pairs.
fn covariance(series: &[Vec<f64>], lag: usize, least: f64) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0usize);
    for of_device in series {
        for (a, b) in of_device.iter().zip(of_device.iter().skip(lag)) {
            sum += a * b;
            n += 1;
        }
    }
    (n > 0 && n as f64 >= least).then(|| sum / n as f64)
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
        // Short series, each around its own mean, can give covariances that no series has.
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
        // Scores of variance 1, whose φ is 9; every third and then every second reading is missing.
        gaps.iter_mut().flatten().for_each(|x| *x *= 0.6);
        for every in [3, 2] {
            gaps.iter_mut().step_by(every).for_each(|x| *x = None);
            for found in [long_run(&[gaps.clone()]), long_run_of_means(&[gaps.clone()])] {
                let found = found.expect("enough").phi;
                assert!((found / 9.0 - 1.0).abs() < 0.3, "{found} without one of {every}");
            }
        }
        // Independent readings, a fifth of them missing at random: neither estimate takes that for something slow.
        let mut random = Random::new(8);
        let lossy = [(0..30_000).map(|_| (random.unit() > 0.2).then(|| random.normal())).collect()];
        let (readings, means) = (long_run(&lossy).expect("enough"), long_run_of_means(&lossy).expect("enough"));
        assert!(means.above(&readings) < 2.0 && (means.phi - 1.0).abs() < 0.1, "{means:?} and {readings:?}");
        let steep = LongRun { phi: 1.0, error: f64::INFINITY };
        assert!(steep.upper().is_finite());
    }

    #[test]
    fn many_short_series_are_as_good_as_a_long_one() {
        for (devices, length) in [(20, 300), (100, 150), (200, 60), (500, 20)] {
            let mut all: Vec<_> = (0..devices).map(|seed| series(length, &[0.5], seed)).collect();
            let found = long_run(&all).expect("enough");
            assert!((found.phi / 4.0 - 1.0).abs() < 0.2, "{devices} of {length}: {found:?}");
            // A longer one changes nothing: what lies so far apart that it alone has it does not count.
            all.push(series(2 * length, &[0.5], devices));
            for found in [long_run(&all), long_run_of_means(&all)] {
                let found = found.expect("enough");
                assert!((found.phi / 4.0 - 1.0).abs() < 0.35, "{devices} of {length} and a longer one: {found:?}");
            }
        }
    }
}
