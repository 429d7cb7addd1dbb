//! Tests on counts as scipy has them: chi-square on one row and on tables, the likelihood ratio, two proportions; and the tails
//! of the distributions they are judged by.
//!
//! A chi-square tail with whole degrees of freedom is a finite sum of positive terms, exact to rounding at 1e-200 and below,
//! which is why no crate is asked for it; only fractional degrees of freedom go to `statrs`.

use super::Refusal;
use super::float::{mean, sum};
use statrs::function::gamma::checked_gamma_ur;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Below this e^−x and its partners are ordinary numbers.
const PLAIN_MAX: f64 = 600.0;
/// Most degrees of freedom summed term by term.
const TERMS_MAX: f64 = 1e7;
/// ln of the largest double.
const LN_MAX: f64 = 709.782_712_893_384;
/// Largest `ddof` either way: with more degrees of freedom a tail is no longer summed in reasonable time.
const DDOF_MAX: f64 = 1e7;
/// Sums of observed and expected counts may differ by this much, relatively: √ of the rounding unit, as in scipy.
const SUM_TOLERANCE: f64 = 1.490_116_119_384_765_6e-8;

/// A statistic, its p-value and degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tested {
    /// The statistic.
    pub stat: f64,
    /// The p-value.
    pub p: f64,
    /// Degrees of freedom.
    pub dof: f64,
}

/// P(χ² ≥ x).
pub fn chi2_sf(x: f64, dof: f64) -> f64 {
    if x.is_nan() || dof.is_nan() || dof < 0.0 {
        return f64::NAN;
    }
    if dof == 0.0 {
        return if x > 0.0 { 0.0 } else { f64::NAN };
    }
    if x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return 1.0;
    }
    if x.is_infinite() {
        return 0.0;
    }
    if underflows(dof / 2.0, x / 2.0) {
        return if x > dof { 0.0 } else { 1.0 };
    }
    if dof != dof.floor() || dof > TERMS_MAX {
        return checked_gamma_ur(dof / 2.0, x / 2.0).unwrap_or(f64::NAN);
    }
    let half = x / 2.0;
    let odd = dof % 2.0 == 1.0;
    let terms = (dof / 2.0).floor() as u32;
    // Even: e^−y Σ_{j<k} y^j/j!. Odd: erfc √y + e^−y Σ_{j<k} y^(j+1/2)/Γ(j+3/2).
    let (start, first, shift) =
        if odd { (libm::erfc(half.sqrt()), half.sqrt() / (PI.sqrt() / 2.0), 1.5) } else { (0.0, 1.0, 1.0) };
    if half < PLAIN_MAX && f64::from(terms) < PLAIN_MAX {
        let mut term = first * (-half).exp();
        let mut tail = start;
        for j in 0..terms {
            tail += term;
            term *= half / (f64::from(j) + shift);
        }
        return tail.min(1.0);
    }
    // The same with the logarithm of the largest term taken out.
    let at = (half.floor().min(f64::from(terms) - 1.0)).max(0.0);
    let power = if odd { at + 0.5 } else { at };
    let largest = power * half.ln() - half - libm::lgamma(power + 1.0);
    let (mut sum, mut term) = (0.0, 1.0);
    let mut j = at;
    while j >= 0.0 && term > 1e-18 * sum && terms > 0 {
        sum += term;
        term *= (j - 1.0 + shift) / half;
        j -= 1.0;
    }
    (term, j) = (half / (at + shift), at + 1.0);
    while j < f64::from(terms) && term > 1e-18 * sum {
        sum += term;
        term *= half / (j + shift);
        j += 1.0;
    }
    (start + largest.exp() * sum).min(1.0)
}

/// Where scipy's incomplete gamma function gives up: x^a e^−x/Γ(a) is below the doubles, though the tail may just not be. What is
/// below the doubles is the tail above x where x > a, and the one below it where x < a.
fn underflows(a: f64, x: f64) -> bool {
    (a - x).abs() > 0.4 * a.abs() && a * x.ln() - x - libm::lgamma(a) < -LN_MAX
}

/// The normal distribution function, split at 1 as in Cephes.
pub fn normal_cdf(x: f64) -> f64 {
    let t = x * FRAC_1_SQRT_2;
    if t.abs() < 1.0 {
        return 0.5 + 0.5 * libm::erf(t);
    }
    let tail = 0.5 * libm::erfc(t.abs());
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// Whose statistic: the power λ of Cressie and Read's family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lambda(pub f64);

impl Lambda {
    /// Pearson's chi-square.
    pub const PEARSON: Self = Self(1.0);
    /// The likelihood ratio, G.
    pub const G: Self = Self(0.0);

    /// By scipy's name.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(Self(match name {
            "pearson" => 1.0,
            "log-likelihood" => 0.0,
            "freeman-tukey" => -0.5,
            "mod-log-likelihood" => -1.0,
            "neyman" => -2.0,
            "cressie-read" => 2.0 / 3.0,
            _ => return None,
        }))
    }

    fn term(self, observed: f64, expected: f64) -> f64 {
        let Self(lambda) = self;
        if lambda == 1.0 {
            (observed - expected).powi(2) / expected
        } else if lambda == 0.0 {
            2.0 * x_ln_y(observed, observed / expected)
        } else if lambda == -1.0 {
            2.0 * x_ln_y(expected, expected / observed)
        } else {
            observed * ((observed / expected).powf(lambda) - 1.0) / (0.5 * lambda * (lambda + 1.0))
        }
    }
}

/// x ln y, 0 where x is and y is a number.
fn x_ln_y(x: f64, y: f64) -> f64 {
    if x == 0.0 && !y.is_nan() { 0.0 } else { x * y.ln() }
}

/// One row of observed counts against expected ones, or against their mean; k − 1 − ddof degrees of freedom, and no p (NaN) where
/// they are fewer than none, as in scipy.
pub fn one_sample(observed: &[f64], expected: Option<&[f64]>, lambda: Lambda, ddof: f64) -> Result<Tested, Refusal> {
    if !(-DDOF_MAX..=DDOF_MAX).contains(&ddof) {
        return Err(Refusal::input(format!("ddof must be a number from -{DDOF_MAX} to {DDOF_MAX}, not {ddof:?}")));
    }
    if observed.iter().chain(expected.unwrap_or(&[])).any(|v| v.is_nan()) {
        return Ok(Tested { stat: f64::NAN, p: f64::NAN, dof: observed.len() as f64 - 1.0 - ddof });
    }
    let expected = match expected {
        Some(expected) if expected.len() != observed.len() => {
            return Err(Refusal::input("observed and expected counts must be equally many"));
        }
        Some(expected) => {
            let (of_observed, of_expected) = (sum(observed), sum(expected));
            let difference = (of_observed - of_expected).abs() / of_observed.min(of_expected);
            if difference > SUM_TOLERANCE {
                return Err(Refusal::peer(format!(
                    "the observed counts sum to {of_observed} and the expected ones to {of_expected}; the test wants equal sums"
                )));
            }
            expected.to_vec()
        }
        None => vec![mean(observed); observed.len()],
    };
    let terms: Vec<f64> = observed.iter().zip(&expected).map(|(&o, &e)| lambda.term(o, e)).collect();
    let (stat, dof) = (sum(&terms), observed.len() as f64 - 1.0 - ddof);
    Ok(Tested { stat, p: chi2_sf(stat, dof), dof })
}

/// A table of rows of counts; with Yates' correction where there is one degree of freedom and it is wanted.
pub fn contingency(rows: &[Vec<f64>], correction: bool, lambda: Lambda) -> Result<Tested, Refusal> {
    let columns = rows.first().map_or(0, Vec::len);
    if rows.iter().any(|row| row.len() != columns) {
        return Err(Refusal::input("all rows of a table must have equally many counts"));
    }
    if rows.iter().flatten().any(|&v| v < 0.0) {
        return Err(Refusal::peer("counts in a table must not be negative"));
    }
    if columns == 0 {
        return Err(Refusal::peer("the table has no counts"));
    }
    let of_rows: Vec<f64> = rows.iter().map(|row| sum(row)).collect();
    let of_columns: Vec<f64> = (0..columns).map(|k| rows.iter().map(|row| row[k]).sum()).collect();
    let all: Vec<f64> = rows.iter().flatten().copied().collect();
    let total = sum(&all);
    let expected: Vec<f64> = of_rows.iter().flat_map(|r| of_columns.iter().map(move |c| r * c / total)).collect();
    if expected.contains(&0.0) {
        return Err(Refusal::peer("a row or column of the table is all zeros, so an expected count is 0"));
    }
    let dof = (rows.len() - 1) as f64 * (columns - 1) as f64;
    if dof == 0.0 {
        return Ok(Tested { stat: 0.0, p: 1.0, dof });
    }
    let yates = dof == 1.0 && correction;
    let adjust = |observed: f64, expected: f64| {
        let difference = expected - observed;
        if !yates || difference == 0.0 { observed } else { observed + difference.abs().min(0.5) * difference.signum() }
    };
    let observed: Vec<f64> = all.iter().zip(&expected).map(|(&o, &e)| adjust(o, e)).collect();
    one_sample(&observed, Some(&expected), lambda, observed.len() as f64 - 1.0 - dof)
        .map(|tested| Tested { dof, ..tested })
}

/// Two proportions with a pooled variance, two-sided, p from the distribution function as Evidently has it: `(z, p)`.
pub fn two_proportions(hits: (f64, f64), of: (f64, f64)) -> (f64, f64) {
    let (p, q) = (hits.0 / of.0, hits.1 / of.1);
    let pooled = (p * of.0 + q * of.1) / (of.0 + of.1);
    let z = (p - q) / (pooled * (1.0 - pooled) * (1.0 / of.0 + 1.0 / of.1)).sqrt();
    (z, 2.0 * (1.0 - normal_cdf(z.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_by_closed_forms() {
        // Two degrees of freedom: e^(−x/2). Four: e^(−x/2) (1 + x/2). One: erfc √(x/2).
        for x in [1e-3, 0.5, 3.0, 40.0, 900.0, 1400.0] {
            let close =
                |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 1e-12, "{x}: {found} {wanted}");
            close(chi2_sf(x, 2.0), (-x / 2.0).exp());
            close(chi2_sf(x, 4.0), (-x / 2.0).exp() * (1.0 + x / 2.0));
            close(chi2_sf(x, 1.0), libm::erfc((x / 2.0).sqrt()));
        }
        // A hundred degrees in both ways of summing meet.
        let logs = (0..650).map(|j| f64::from(j) * 640_f64.ln() - 640.0 - libm::lgamma(f64::from(j) + 1.0));
        assert!((chi2_sf(1280.0, 1300.0) - logs.map(f64::exp).sum::<f64>()).abs() < 1e-11);
    }

    #[test]
    fn a_statistic_far_below_its_degrees_of_freedom_has_the_whole_tail() {
        // scipy.stats.chi2.sf, each: the tail below x is under 1e-300, or under half a rounding unit.
        for (x, dof) in [(1e-3, 150.0), (4999.75, 1e4), (1.0, 1e4), (1e-3, 150.5), (2e6, 2e7), (1e-300, 3.0)] {
            assert!((chi2_sf(x, dof) - 1.0).abs() < 1e-12, "{x} {dof}: {}", chi2_sf(x, dof));
        }
        for (x, dof) in [(4e3, 2.0), (4e3, 2.5), (1e5, 1e4), (1e9, 2e7)] {
            assert_eq!(chi2_sf(x, dof), 0.0, "{x} {dof}");
        }
        // 400 categories whose counts differ by one: no sign of a difference at all.
        let row = |sign: f64| (0..400).map(|i| 1e3 + if i % 2 == 0 { sign } else { -sign }).collect::<Vec<f64>>();
        let found = contingency(&[row(1.0), row(-1.0)], true, Lambda::PEARSON).unwrap();
        assert_eq!((found.dof, found.p), (399.0, 1.0));
        assert!((found.stat - 0.8).abs() < 1e-12);
        // 151 categories with a statistic of 0.001: 150 equal ones and a tiny difference in two.
        let row = |by: f64| (0..151).map(|i| 1e3 + [by, -by].get(i).copied().unwrap_or(0.0)).collect::<Vec<f64>>();
        // Four cells each by²/1000.
        let found = contingency(&[row(0.5), row(-0.5)], true, Lambda::PEARSON).unwrap();
        assert!((found.stat - 1e-3).abs() < 1e-12 && found.dof == 150.0);
        assert_eq!(found.p, 1.0);
    }

    #[test]
    fn a_ddof_out_of_range_is_refused() {
        let test = |ddof| one_sample(&[2.0, 1.0], Some(&[1.0, 2.0]), Lambda::PEARSON, ddof);
        for ddof in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -1e300, 1e300] {
            let why = test(ddof).unwrap_err().to_string();
            assert!(why.starts_with("ddof must be a number from") && why.ends_with(&format!("not {ddof:?}")), "{why}");
        }
        assert_eq!(test(-2.0).unwrap().dof, 3.0);
        // As in scipy.
        assert!(test(2.0).unwrap().dof == -1.0 && test(2.0).unwrap().p.is_nan());
        assert_eq!(test(1.0).unwrap().p, 0.0);
    }

    #[test]
    fn yates_by_hand() {
        // (10, 20; 20, 10): every expected 15, every difference 5: 4·4.5²/15, without the correction 4·25/15.
        let rows = [vec![10.0, 20.0], vec![20.0, 10.0]];
        assert!((contingency(&rows, true, Lambda::PEARSON).unwrap().stat - 5.4).abs() < 1e-14);
        assert!((contingency(&rows, false, Lambda::PEARSON).unwrap().stat - 20.0 / 3.0).abs() < 1e-14);
    }
}
