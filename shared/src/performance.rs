//! How well the model does, as a device can know it: counts per piece of the calibration, and a confusion table where truth is known.
//!
//! Without truth, performance follows from calibrated scores (confidence-based performance estimation, CBPE: NannyML, *Estimation of
//! model performance without targets*): a sample with calibrated probability p is right with probability p. Because a
//! [`Calibration`] is piecewise constant, counting samples per piece loses nothing, and merging is integer addition. What follows
//! from the counts is in [`estimate`](crate::estimate). An estimate cannot see that the meaning of a score has changed: only truth can.

use crate::calibration::{CURVES_MAX, Calibration, KNOTS_MAX, Of};
use crate::sketch::CellsDiffer;

/// Classes of a confusion table; models with more count only right and wrong.
pub const CONFUSION_CLASSES_MAX: usize = 16;
/// Cells of the largest confusion table.
pub const CONFUSION_MAX: usize = CONFUSION_CLASSES_MAX * CONFUSION_CLASSES_MAX;
/// One, in the fixed point of [`Counts::sums`].
pub const ONE: u32 = 1 << 16;
/// Place of samples whose predicted class is the curve's.
pub const CHOSEN: usize = 0;
/// Place of all others.
pub const REST: usize = 1;

/// Samples per piece of one curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Samples per piece: of the predicted class, and others.
    pub pieces: heapless::Vec<[u32; 2], KNOTS_MAX>,
    /// With a curve per class, the sums of the class's probability after those of a sample were made to add up to 1; in units of
    /// 1/[`ONE`]. Zero otherwise: then the pieces say it.
    pub sums: [u64; 2],
}

impl Counts {
    /// Samples counted: of the predicted class, and others.
    pub fn samples(&self) -> [u64; 2] {
        self.pieces.iter().fold([0, 0], |[a, b], piece| [a + u64::from(piece[CHOSEN]), b + u64::from(piece[REST])])
    }
}

/// The counts of one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Performance {
    /// One per curve of the calibration; none without one.
    pub curves: heapless::Vec<Counts, CURVES_MAX>,
    /// Samples by predicted class, then true class; row after row. Empty beyond [`CONFUSION_CLASSES_MAX`] classes.
    pub confusion: heapless::Vec<u32, CONFUSION_MAX>,
}

impl Performance {
    /// No counts yet, for a model with so many classes.
    pub fn new(calibration: Option<&Calibration>, classes: usize) -> Self {
        let counts = |knots: usize| {
            let mut pieces = heapless::Vec::new();
            pieces.resize(knots.min(KNOTS_MAX), [0, 0]).expect("never more than a curve holds");
            Counts { pieces, sums: [0, 0] }
        };
        let curves = calibration.into_iter().flat_map(|c| c.curves.iter()).map(|curve| counts(curve.0.len())).collect();
        let mut confusion = heapless::Vec::new();
        if classes <= CONFUSION_CLASSES_MAX {
            confusion.resize(classes * classes, 0).expect("the square of the limit fits");
        }
        Self { curves, confusion }
    }

    /// Counts one sample's scores; `predicted` is the class that the model chose. Scores that are no numbers are not counted.
    #[inline]
    pub fn add(&mut self, calibration: &Calibration, scores: &[f32], predicted: usize) {
        if !scores.iter().all(|s| s.is_finite()) {
            return;
        }
        match calibration.of {
            Of::Positive => {
                let place = if predicted == 1 { CHOSEN } else { REST };
                self.count(calibration, 0, scores.get(1), place);
            }
            Of::TopLabel => {
                self.count(calibration, 0, scores.get(predicted), CHOSEN);
            }
            Of::EachClass => self.add_each(calibration, scores, predicted),
        }
    }

    /// Every class's score in its own curve, and its probability as a share of all of them.
    fn add_each(&mut self, calibration: &Calibration, scores: &[f32], predicted: usize) {
        let mut p = [0.0f32; CURVES_MAX];
        let classes = calibration.curves.len();
        for (class, score) in scores.iter().take(classes).enumerate() {
            let place = if class == predicted { CHOSEN } else { REST };
            p[class] = self.count(calibration, class, Some(score), place);
        }
        let total: f32 = p[..classes].iter().sum();
        for (class, counts) in self.curves.iter_mut().enumerate() {
            let share = if total > 0.0 { p[class] / total } else { 1.0 / classes as f32 };
            let place = if class == predicted { CHOSEN } else { REST };
            counts.sums[place] = counts.sums[place].saturating_add((share * ONE as f32 + 0.5) as u64);
        }
    }

    fn count(&mut self, calibration: &Calibration, curve: usize, score: Option<&f32>, place: usize) -> f32 {
        let (Some(known), Some(counts), Some(&score)) =
            (calibration.curves.get(curve), self.curves.get_mut(curve), score)
        else {
            return 0.0;
        };
        let piece = known.piece(score);
        if let Some(count) = counts.pieces.get_mut(piece) {
            count[place] = count[place].saturating_add(1);
        }
        known.0.get(piece).map_or(0.0, |knot| knot.p)
    }

    /// Counts a sample whose truth is known.
    #[inline]
    pub fn judge(&mut self, predicted: usize, truth: usize) {
        let classes = self.classes();
        if predicted < classes && truth < classes {
            let cell = &mut self.confusion[predicted * classes + truth];
            *cell = cell.saturating_add(1);
        }
    }

    /// Classes of the confusion table; 0 without one.
    pub fn classes(&self) -> usize {
        (0..=CONFUSION_CLASSES_MAX).find(|n| n * n == self.confusion.len()).unwrap_or(0)
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.curves.iter().all(|c| c.samples() == [0, 0]) && self.confusion.iter().all(|&c| c == 0)
    }

    /// Whether the other one counts the same things; a part that is not there counted nothing.
    pub fn fits(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.curves, &other.curves);
        let same_curves =
            mine.len() == theirs.len() && mine.iter().zip(theirs).all(|(a, b)| a.pieces.len() == b.pieces.len());
        let same_table = self.confusion.len() == other.confusion.len();
        (same_curves || mine.is_empty() || theirs.is_empty())
            && (same_table || self.confusion.is_empty() || other.confusion.is_empty())
    }

    /// Adds what the other one counted. Exact, and in any order the same.
    pub fn merge(&mut self, other: &Self) -> Result<(), CellsDiffer> {
        if !self.fits(other) {
            return Err(CellsDiffer);
        }
        if self.curves.is_empty() {
            self.curves.clone_from(&other.curves);
        } else {
            self.merge_curves(other);
        }
        if self.confusion.is_empty() {
            self.confusion.clone_from(&other.confusion);
        } else {
            for (a, b) in self.confusion.iter_mut().zip(&other.confusion) {
                *a = a.saturating_add(*b);
            }
        }
        Ok(())
    }

    fn merge_curves(&mut self, other: &Self) {
        for (mine, theirs) in self.curves.iter_mut().zip(&other.curves) {
            for (a, b) in mine.pieces.iter_mut().zip(&theirs.pieces) {
                *a = [a[CHOSEN].saturating_add(b[CHOSEN]), a[REST].saturating_add(b[REST])];
            }
            for (a, b) in mine.sums.iter_mut().zip(&theirs.sums) {
                *a = a.saturating_add(*b);
            }
        }
    }

    /// Back to no counts.
    pub fn clear(&mut self) {
        for counts in &mut self.curves {
            counts.pieces.fill([0, 0]);
            counts.sums = [0, 0];
        }
        self.confusion.fill(0);
    }
}

/// How undecided the model is: the entropy of its scores in nats over that of a model which knows nothing, 0 to 1. `None` for scores
/// that are no shares of a whole (below zero, no numbers, none) and for a single class.
pub fn entropy(scores: &[f32]) -> Option<f32> {
    let total: f32 = scores.iter().sum();
    if scores.len() < 2 || !total.is_finite() || total <= 0.0 || scores.iter().any(|&s| s < 0.0) {
        return None;
    }
    let nats: f32 =
        scores.iter().map(|s| s / total).filter(|&share| share > 0.0).map(|share| -share * libm::logf(share)).sum();
    Some((nats / libm::logf(scores.len() as f32)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::calibration::{Curve, Knot};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn calibration(classes: usize) -> Calibration {
        let (of, curves) = Calibration::of(classes).unwrap();
        let curve = |k: usize| {
            let knot =
                |i: usize| Knot { from: 0.1 * i as f32, p: (0.1 * i as f32 + 0.02 * k as f32).min(1.0), rows: 50 };
            Curve((0..10).map(knot).collect())
        };
        Calibration { of, rows: 500, held_out: true, curves: (0..curves).map(curve).collect() }
    }

    fn counted(calibration: &Calibration, classes: usize, samples: &[(Vec<f32>, usize)]) -> Performance {
        let mut all = Performance::new(Some(calibration), classes);
        for (scores, truth) in samples {
            let top = (0..classes).fold(0, |best, k| if scores[k] > scores[best] { k } else { best });
            all.add(calibration, scores, top);
            all.judge(top, *truth);
        }
        all
    }

    fn samples(classes: usize) -> impl Strategy<Value = Vec<(Vec<f32>, usize)>> {
        prop::collection::vec((prop::collection::vec(0.0f32..1.0, classes), 0..classes), 0..40)
    }

    proptest! {
        #[test]
        fn merged_is_whole_in_any_order((classes, a, b, c) in prop_oneof![Just(2usize), Just(3), Just(6), Just(20)]
            .prop_flat_map(|n| (Just(n), samples(n), samples(n), samples(n))))
        {
            let calibration = calibration(classes);
            let count = |samples: &[(Vec<f32>, usize)]| counted(&calibration, classes, samples);
            let merged = |parts: &[&Performance]| {
                let mut sum = Performance::new(Some(&calibration), classes);
                parts.iter().for_each(|part| sum.merge(part).unwrap());
                sum
            };
            let (x, y, z) = (count(&a), count(&b), count(&c));
            let whole = count(&[a.clone(), b.clone(), c.clone()].concat());
            prop_assert_eq!(&merged(&[&x, &y, &z]), &whole);
            prop_assert_eq!(&merged(&[&z, &x, &y]), &whole);
            prop_assert_eq!(&merged(&[&x, &merged(&[&y, &z])]), &whole);
            let n = (a.len() + b.len() + c.len()) as u64;
            for counts in &whole.curves {
                prop_assert_eq!(counts.samples().iter().sum::<u64>(), n);
            }
            let sums: u64 = whole.curves.iter().flat_map(|c| c.sums).sum();
            // Shares of a sample add up to one, to half a unit of the fixed point each.
            let off = (sums as i64 - (n * u64::from(ONE)) as i64).unsigned_abs();
            prop_assert!(classes == 2 || classes == 20 || off <= n * classes as u64);
        }

        #[test]
        fn entropy_lies_between_knowing_and_not_knowing(scores in prop::collection::vec(0.0f32..1.0, 2..12)) {
            if let Some(h) = entropy(&scores) {
                prop_assert!((0.0..=1.0).contains(&h));
            }
        }
    }

    #[test]
    fn entropy_is_that_of_shares() {
        assert_eq!(entropy(&[0.5, 0.5]), Some(1.0));
        assert_eq!(entropy(&[1.0, 0.0, 0.0]), Some(0.0));
        // -(0.75 ln 0.75 + 0.25 ln 0.25) / ln 2 = 0.8112781…
        assert!((entropy(&[0.75, 0.25]).unwrap() - 0.811_278).abs() < 1e-6);
        assert_eq!(entropy(&[3.0, 1.0]), entropy(&[0.75, 0.25]));
        for none in [&[2.0, -1.0][..], &[f32::NAN, 0.5], &[0.0, 0.0], &[1.0], &[]] {
            assert_eq!(entropy(none), None, "{none:?}");
        }
    }

    #[test]
    fn other_shapes_do_not_merge() {
        let mut a = Performance::new(Some(&calibration(3)), 3);
        assert_eq!(a.merge(&Performance::new(Some(&calibration(2)), 2)), Err(CellsDiffer));
        assert_eq!(a.merge(&Performance::new(None, 2)), Err(CellsDiffer));
        // What is not there counted nothing.
        let mut none = Performance::default();
        assert_eq!((none.merge(&a), a.merge(&none)), (Ok(()), Ok(())));
        assert_eq!(none, a);
    }
}
