//! What a score means: isotonic curves from a class's score to the probability that the class is the true one.
//!
//! Fitted once by `driftline baselines create` from rows with known truth, kept in the bundle's baseline, read at both ends. A
//! curve is piecewise constant with few pieces, so that a device need only count samples per piece: the counts say everything
//! that sums over calibrated scores can say, and integers merge exactly. Fitting lives in the collector's crate.

use crate::list::List;
use serde::{Deserialize, Serialize};

/// Curves of one calibration: classes that are calibrated one by one. Beyond, only the predicted class is.
pub const CURVES_MAX: usize = 16;
/// Pieces of one curve.
pub const KNOTS_MAX: usize = 32;

/// One piece of a curve: scores from `from` up to the next piece. The first piece also holds every score below it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knot {
    /// The smallest score.
    pub from: f32,
    /// Share of the rows with such a score in which the class was the true one, 0 to 1.
    pub p: f32,
    /// Rows that say so, at least 1.
    pub rows: u32,
}

/// Scores ascend, probabilities never fall.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Curve(pub List<Knot, KNOTS_MAX>);

impl Curve {
    /// The piece that holds a score. Comparisons are summed rather than searched, for they are few.
    #[inline]
    pub fn piece(&self, score: f32) -> usize {
        self.0.iter().skip(1).map(|knot| usize::from(score >= knot.from)).sum()
    }

    /// The calibrated probability of a score.
    pub fn p(&self, score: f32) -> f32 {
        self.0.get(self.piece(score)).map_or(0.0, |knot| knot.p)
    }
}

/// What the curves are curves of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The second of two classes; the first has what is left.
    Positive,
    /// Every class, one against the rest.
    EachClass,
    /// The predicted class, whichever it is: the probability of being right. Accuracy is all that follows from it.
    TopLabel,
}

/// The calibration of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// What the curves are curves of.
    pub of: Of,
    /// Rows they were fitted on.
    pub rows: u32,
    /// Whether the model had never seen those rows. If it had, it is surer of them than of others, and estimates come out high.
    pub held_out: bool,
    /// One curve, or one per class.
    pub curves: List<Curve, CURVES_MAX>,
}

impl Calibration {
    /// How a model with so many classes is calibrated; `None` when there is nothing to tell apart.
    pub fn of(classes: usize) -> Option<(Of, usize)> {
        match classes {
            0 | 1 => None,
            2 => Some((Of::Positive, 1)),
            n if n <= CURVES_MAX => Some((Of::EachClass, n)),
            _ => Some((Of::TopLabel, 1)),
        }
    }

    /// Whether the arithmetic can rely on it, for a model with so many classes; else what is wrong.
    pub fn check(&self, classes: usize) -> Result<(), &'static str> {
        if Self::of(classes) != Some((self.of, self.curves.len())) {
            return Err("the calibration does not fit the number of classes");
        }
        for curve in self.curves.iter().map(|c| &c.0) {
            let sound = |k: &Knot| k.from.is_finite() && (0.0..=1.0).contains(&k.p) && k.rows > 0;
            if curve.is_empty() || !curve.iter().all(sound) {
                return Err("the calibration has a piece without rows or without a probability");
            }
            if curve.windows(2).any(|pair| pair[0].from >= pair[1].from || pair[0].p > pair[1].p) {
                return Err("the calibration's curves do not ascend");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(knots: &[(f32, f32)]) -> Curve {
        Curve(knots.iter().map(|&(from, p)| Knot { from, p, rows: 10 }).collect())
    }

    #[test]
    fn a_piece_begins_at_its_score_and_the_first_holds_all_below() {
        let curve = curve(&[(0.2, 0.1), (0.5, 0.4), (0.9, 1.0)]);
        let found = [-1.0, 0.2, 0.49, 0.5, 0.89, 0.9, 7.0].map(|score| curve.p(score));
        assert_eq!(found, [0.1, 0.1, 0.1, 0.4, 0.4, 1.0, 1.0]);
    }

    #[test]
    fn what_cannot_be_relied_on_is_refused() {
        let with = |curves: &[Curve]| Calibration {
            of: Of::Positive,
            rows: 20,
            held_out: false,
            curves: curves.iter().cloned().collect(),
        };
        assert_eq!(with(&[curve(&[(0.0, 0.1), (0.5, 0.9)])]).check(2), Ok(()));
        assert!(with(&[curve(&[(0.0, 0.1)])]).check(3).is_err());
        assert!(with(&[]).check(2).is_err());
        assert!(with(&[curve(&[])]).check(2).is_err());
        assert!(with(&[curve(&[(0.0, 0.9), (0.5, 0.1)])]).check(2).is_err());
        assert!(with(&[curve(&[(0.5, 0.1), (0.5, 0.9)])]).check(2).is_err());
        assert!(with(&[curve(&[(0.0, 1.5)])]).check(2).is_err());
        assert!(with(&[curve(&[(f32::NAN, 0.5)])]).check(2).is_err());
    }
}
