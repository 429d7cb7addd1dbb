//! From counts to accuracy, precision, recall, F1 and AUROC, each with the interval that truth will fall into.
//!
//! Formulas as in NannyML's CBPE: an expected confusion table per class, one against the rest. Two classes give the figures of the
//! second; more give the mean over classes for which a figure exists. AUROC is the trapezoid over pieces.
//!
//! The interval is for what truth would show on these very samples, were it known: value ± 1.96 standard deviations, clipped to 0..1.
//! A figure is linear in the unknown truths to first order (the delta method for ratios), with weight w_c for a sample of the
//! predicted class in piece j and w_r for another. With n_c and n_r such samples and p from m calibration rows,
//!
//! ```text
//! variance = Σ_j (w_c² n_c + w_r² n_r) p(1-p)        truths fall as independent coins
//!          + Σ_j (w_c n_c + w_r n_r)² p(1-p) / m     and p itself was learned from m of them
//! ```
//!
//! with p → (p·m + ½)/(m + 1) in both, or pieces in which all rows agreed would be certain. Means over classes take the mean of the
//! deviations, which is an upper bound whatever their correlation. Left out: dependence between samples, and a calibration that no
//! longer holds; no figure here can see that.

use crate::calibration::{Calibration, Curve, Knot, Of};
use crate::performance::{CHOSEN, Counts, ONE, Performance, REST};
use libm::sqrt;

/// Standard deviations either side of a figure: 95 %.
const DEVIATIONS: f64 = 1.96;

/// A figure between 0 and 1 and its standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The figure.
    pub value: f64,
    /// Its standard deviation; 0 for one that was measured.
    pub sd: f64,
}

impl Figure {
    /// The lower end of its interval.
    pub fn low(self) -> f64 {
        (self.value - DEVIATIONS * self.sd).clamp(0.0, 1.0)
    }

    /// The upper end.
    pub fn high(self) -> f64 {
        (self.value + DEVIATIONS * self.sd).clamp(0.0, 1.0)
    }
}

/// What can be said of a model's performance. `None` where nothing defines a figure, such as the precision of a class nobody predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Samples it is about.
    pub samples: u64,
    /// Share of right answers.
    pub accuracy: Figure,
    /// Share of right ones among predictions of a class.
    pub precision: Option<Figure>,
    /// Share of a class that was found.
    pub recall: Option<Figure>,
    /// Harmonic mean of the two.
    pub f1: Option<Figure>,
    /// Probability that a sample of the class scores higher than another.
    pub auroc: Option<Figure>,
}

/// The estimate without truth; `None` when nothing was counted, or not with this calibration.
pub fn estimate(counts: &Performance, calibration: &Calibration) -> Option<Estimate> {
    let same = counts.curves.len() == calibration.curves.len()
        && counts.curves.iter().zip(calibration.curves.iter()).all(|(c, k)| c.pieces.len() == k.0.len());
    let samples: u64 = counts.curves.first().filter(|_| same)?.samples().iter().sum();
    if samples == 0 {
        return None;
    }
    let n = samples as f64;
    let classes = || {
        let pairs = counts.curves.iter().zip(calibration.curves.iter());
        pairs.map(|(counts, curve)| Class::of(counts, curve, calibration.of))
    };
    let accuracy = match calibration.of {
        Of::Positive => {
            let class = classes().next()?;
            let right = class.right + (class.others - class.missed);
            Figure { value: right / n, sd: sqrt(class.variance(|_| [1.0 / n, -1.0 / n])) }
        }
        Of::EachClass | Of::TopLabel => {
            let right: f64 = classes().map(|class| class.right).sum();
            let sd: f64 = classes().map(|class| sqrt(class.variance(|_| [1.0 / n, 0.0]))).sum();
            Figure { value: right / n, sd }
        }
    };
    let mut estimate = Estimate { samples, accuracy, precision: None, recall: None, f1: None, auroc: None };
    if calibration.of != Of::TopLabel {
        estimate.precision = mean(classes().map(|class| class.precision()));
        estimate.recall = mean(classes().map(|class| class.recall()));
        estimate.f1 = mean(classes().map(|class| class.f1()));
        estimate.auroc = mean(classes().map(|class| class.auroc()));
    }
    Some(estimate)
}

/// The figures that known truth gives; `None` without a confusion table or without truth.
pub fn realised(counts: &Performance) -> Option<Estimate> {
    let classes = counts.classes();
    let cell = |predicted: usize, truth: usize| f64::from(counts.confusion[predicted * classes + truth]);
    let samples: u64 = counts.confusion.iter().map(|&c| u64::from(c)).sum();
    if samples == 0 {
        return None;
    }
    let right: f64 = (0..classes).map(|k| cell(k, k)).sum();
    let measured = |value: f64| Figure { value, sd: 0.0 };
    let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| measured(part / whole));
    let predicted = |k: usize| (0..classes).map(|t| cell(k, t)).sum::<f64>();
    let true_ones = |k: usize| (0..classes).map(|p| cell(p, k)).sum::<f64>();
    let of = if classes == 2 { 1..2 } else { 0..classes };
    Some(Estimate {
        samples,
        accuracy: measured(right / samples as f64),
        precision: mean(of.clone().map(|k| ratio(cell(k, k), predicted(k)))),
        recall: mean(of.clone().map(|k| ratio(cell(k, k), true_ones(k)))),
        f1: mean(of.map(|k| ratio(2.0 * cell(k, k), predicted(k) + true_ones(k)))),
        auroc: None,
    })
}

/// One class against the rest: an expected confusion table, and where it comes from.
struct Class<'a> {
    pieces: &'a [[u32; 2]],
    knots: &'a [Knot],
    /// Samples for which the class was predicted.
    chosen: f64,
    /// All others.
    others: f64,
    /// Expected true ones among the chosen.
    right: f64,
    /// Expected true ones among the others.
    missed: f64,
}

impl<'a> Class<'a> {
    fn of(counts: &'a Counts, curve: &'a Curve, of: Of) -> Self {
        let [chosen, others] = counts.samples().map(|n| n as f64);
        let by_piece = |place: usize| {
            let pieces = counts.pieces.iter().zip(curve.0.iter());
            pieces.map(|(piece, knot)| f64::from(piece[place]) * f64::from(knot.p)).sum::<f64>()
        };
        let (right, missed) = if of == Of::EachClass {
            let shares = counts.sums.map(|sum| sum as f64 / f64::from(ONE));
            (shares[CHOSEN], shares[REST])
        } else {
            (by_piece(CHOSEN), by_piece(REST))
        };
        Self { pieces: &counts.pieces, knots: &curve.0, chosen, others, right, missed }
    }

    fn precision(&self) -> Option<Figure> {
        let n = self.chosen;
        (n > 0.0).then(|| Figure { value: self.right / n, sd: sqrt(self.variance(|_| [1.0 / n, 0.0])) })
    }

    fn recall(&self) -> Option<Figure> {
        let all = self.right + self.missed;
        let value = self.right / all;
        (all > 0.0).then(|| Figure { value, sd: sqrt(self.variance(|_| [(1.0 - value) / all, -value / all])) })
    }

    fn f1(&self) -> Option<Figure> {
        let whole = self.chosen + self.right + self.missed;
        let value = 2.0 * self.right / whole;
        (whole > 0.0).then(|| Figure { value, sd: sqrt(self.variance(|_| [(2.0 - value) / whole, -value / whole])) })
    }

    /// Pieces as points of the curve: true ones and others per piece. A sample of piece j that turns out true adds what it beats
    /// (others below) and takes away what beat it as one of the others (true ones above).
    fn auroc(&self) -> Option<Figure> {
        let mass = |j: usize| {
            let n = f64::from(self.pieces[j][CHOSEN]) + f64::from(self.pieces[j][REST]);
            let p = f64::from(self.knots[j].p);
            (n * p, n * (1.0 - p))
        };
        let (positives, negatives) =
            (0..self.pieces.len()).map(mass).fold((0.0, 0.0), |(p, n), (dp, dn)| (p + dp, n + dn));
        let pairs = positives * negatives;
        if pairs <= 0.0 {
            return None;
        }
        let mut weights = [0.0; crate::calibration::KNOTS_MAX];
        let (mut beaten, mut negatives_below, mut positives_above) = (0.0, 0.0, positives);
        for (j, weight) in weights.iter_mut().enumerate().take(self.pieces.len()) {
            let (positive, negative) = mass(j);
            positives_above -= positive;
            beaten += positive * (negatives_below + 0.5 * negative);
            *weight = negatives_below - positives_above + 0.5 * (negative - positive);
            negatives_below += negative;
        }
        let value = beaten / pairs;
        let weight = |j: usize| (weights[j] - value * (negatives - positives)) / pairs;
        Some(Figure { value, sd: sqrt(self.variance(|j| [weight(j), weight(j)])) })
    }

    /// The variance of a sum of truths with these weights per piece: see the head of this file.
    fn variance(&self, weights: impl Fn(usize) -> [f64; 2]) -> f64 {
        let piece = |(j, (counts, knot)): (usize, (&[u32; 2], &Knot))| {
            let rows = f64::from(knot.rows);
            let p = (f64::from(knot.p) * rows + 0.5) / (rows + 1.0);
            let ([wc, wr], [nc, nr]) = (weights(j), counts.map(f64::from));
            let along = wc * nc + wr * nr;
            (wc * wc * nc + wr * wr * nr + along * along / rows) * p * (1.0 - p)
        };
        self.pieces.iter().zip(self.knots).enumerate().map(piece).sum()
    }
}

/// The mean of the figures that exist.
fn mean(figures: impl Iterator<Item = Option<Figure>>) -> Option<Figure> {
    let (n, value, sd) = figures.flatten().fold((0.0, 0.0, 0.0), |(n, v, s), f| (n + 1.0, v + f.value, s + f.sd));
    (n > 0.0).then(|| Figure { value: value / n, sd: sd / n })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn calibration(p: &[f32], rows: u32) -> Calibration {
        let knots = p.iter().enumerate().map(|(i, &p)| Knot { from: i as f32, p, rows });
        let curves = core::iter::once(Curve(knots.collect())).collect();
        Calibration { of: Of::Positive, rows: 100, held_out: true, curves }
    }

    fn counted(calibration: &Calibration, samples: &[(usize, usize)]) -> Performance {
        let mut counts = Performance::new(Some(calibration), 2);
        for &(piece, predicted) in samples {
            counts.add(calibration, &[0.0, piece as f32], predicted);
        }
        counts
    }

    fn value(figure: Option<Figure>) -> f64 {
        figure.unwrap().value
    }

    #[test]
    fn four_samples_by_hand() {
        // Chosen at 0.8 and 0.6, others at 0.3 and 0.1: right 1.4, wrong 0.6, missed 0.4, rightly left 1.6.
        let calibration = calibration(&[0.1, 0.3, 0.6, 0.8], 1000);
        let found = estimate(&counted(&calibration, &[(0, 0), (1, 0), (2, 1), (3, 1)]), &calibration).unwrap();
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
        close(found.accuracy.value, 3.0 / 4.0);
        close(value(found.precision), 0.7);
        close(value(found.recall), 1.4 / 1.8);
        close(value(found.f1), 2.8 / 3.8);
        // Pairs won: 0.3·0.9 + 0.6·(0.9 + 0.7) + 0.8·(0.9 + 0.7 + 0.4), ties by half: (0.09 + 0.21 + 0.24 + 0.16)/2; of 1.8·2.2.
        close(value(found.auroc), (0.27 + 0.96 + 1.6 + 0.35) / 3.96);
        // Variance of the accuracy: Σ p(1-p)/16, and a thousandth of that for the curve; p is moved a little towards ½.
        let coins: f64 =
            [0.1, 0.3, 0.6, 0.8f64].map(|p| (p * 1000.0 + 0.5) / 1001.0).map(|p| p * (1.0 - p)).iter().sum();
        close(found.accuracy.sd, (coins / 16.0 * 1.001).sqrt());
    }

    #[test]
    fn weights_of_the_auroc_are_its_derivatives() {
        let p = [0.1f32, 0.3, 0.6, 0.8];
        let samples: Vec<(usize, usize)> = (0..40).map(|i| (i * i % 4, usize::from(i * i % 4 > 1))).collect();
        let at = |p: &[f32]| {
            let calibration = calibration(p, 10);
            estimate(&counted(&calibration, &samples), &calibration).unwrap().auroc.unwrap()
        };
        // With p learned from 10 rows a piece and n samples in it, the second term alone is (∂/∂p)² p(1-p)/10.
        let n = |j: usize| samples.iter().filter(|s| s.0 == j).count() as f64;
        let mut variance = 0.0;
        for j in 0..4 {
            let mut moved = p;
            moved[j] += 1e-3;
            let slope = (at(&moved).value - at(&p).value) / f64::from(moved[j] - p[j]);
            let p = (f64::from(p[j]) * 10.0 + 0.5) / 11.0;
            if n(j) > 0.0 {
                variance += slope * slope * p * (1.0 - p) * (1.0 / n(j) + 0.1);
            }
        }
        let sd = at(&p).sd;
        assert!((sd - variance.sqrt()).abs() < 2e-3 * sd, "{sd} and {}", variance.sqrt());
    }

    #[test]
    fn nothing_counted_is_nothing_estimated() {
        let known = calibration(&[0.1, 0.9], 10);
        assert_eq!(estimate(&Performance::new(Some(&known), 2), &known), None);
        let other = calibration(&[0.1, 0.5, 0.9], 10);
        assert_eq!(estimate(&counted(&known, &[(0, 0)]), &other), None);
        // Nobody was predicted to be positive: no precision, but the rest exists.
        let found = estimate(&counted(&known, &[(0, 0), (1, 0)]), &known).unwrap();
        assert_eq!(found.precision, None);
        assert_eq!(value(found.recall), 0.0);
    }

    #[test]
    fn known_truth_gives_measured_figures() {
        let mut counts = Performance::new(None, 2);
        // Two right positives, one false alarm, one miss, four right negatives.
        for (predicted, truth, times) in [(1, 1, 2), (1, 0, 1), (0, 1, 1), (0, 0, 4)] {
            (0..times).for_each(|_| counts.judge(predicted, truth));
        }
        let found = realised(&counts).unwrap();
        assert_eq!((found.samples, found.accuracy.value), (8, 0.75));
        assert_eq!((value(found.precision), value(found.recall)), (2.0 / 3.0, 2.0 / 3.0));
        assert_eq!(found.accuracy.low(), found.accuracy.high());
        assert_eq!(realised(&Performance::new(None, 2)), None);
    }
}
