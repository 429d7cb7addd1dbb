//! Fits what a model's scores mean, from rows whose true class is known.
//!
//! Isotonic regression by pool-adjacent-violators (Barlow, Bartholomew, Bremner, Brunk 1972; as scikit-learn's `IsotonicRegression` and
//! NannyML's CBPE use it), one class against the rest, then cut down to few pieces by joining the neighbours that differ least. A
//! joined piece keeps its rows' mean, so over the fitted rows expected and true counts agree exactly, piece by piece.

use driftline_shared::calibration::{Calibration, Curve, KNOTS_MAX, Knot, Of};

/// Fewest rows with a known class that a calibration is made from.
pub const ROWS_MIN: usize = 50;

/// What a calibration is fitted to.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// What the model answered to each row; empty where it could not.
    pub outputs: &'a [Vec<f32>],
    /// The true class of each row, where it is known.
    pub truths: &'a [Option<u16>],
    /// Whether the model has never seen these rows.
    pub held_out: bool,
}

/// Fits a calibration for so many classes. Adds sentences to `notes`; `None` comes with one that says why.
pub fn fit(rows: &Rows<'_>, classes: usize, notes: &mut Vec<String>) -> Option<Calibration> {
    const CANNOT: &str = "How often the model is right cannot be estimated without labels";
    let (of, curves) = Calibration::of(classes)?;
    let sound = |scores: &[f32]| scores.len() == classes && scores.iter().all(|s| s.is_finite());
    let known: Vec<(&[f32], usize)> = rows
        .outputs
        .iter()
        .zip(rows.truths)
        .filter_map(|(scores, truth)| Some((scores.as_slice(), usize::from((*truth)?))))
        .filter(|(scores, truth)| sound(scores) && *truth < classes)
        .collect();
    if rows.truths.iter().all(Option::is_none) {
        notes.push(format!("{CANNOT}: no row names a class that the model knows (give --label)."));
        return None;
    }
    if known.len() < ROWS_MIN {
        notes.push(format!("{CANNOT}: {} rows have a known class, and {ROWS_MIN} are the least.", known.len()));
        return None;
    }
    let left_out = rows.outputs.len() - known.len();
    if left_out > 0 {
        notes.push(format!(
            "{left_out} rows have no class that the model knows, and say nothing about how often it is right."
        ));
    }
    if !rows.held_out {
        notes.push(
            "How often the model is right is estimated from the rows it was trained on: it is surer of those than of new ones, so \
             estimates come out high. Give rows it has never seen with --calibration."
                .into(),
        );
    }
    let curve = |k: usize| {
        let pair = |(scores, truth): &(&[f32], usize)| match of {
            Of::Positive => (scores[1], *truth == 1),
            Of::EachClass => (scores[k], *truth == k),
            Of::TopLabel => {
                let top = top_of(scores);
                (scores[top], *truth == top)
            }
        };
        Curve(pieces(known.iter().map(pair).collect()).into_iter().collect())
    };
    let rows_used = u32::try_from(known.len()).unwrap_or(u32::MAX);
    Some(Calibration { of, rows: rows_used, held_out: rows.held_out, curves: (0..curves).map(curve).collect() })
}

/// The first of the largest scores, as the agent chooses.
fn top_of(scores: &[f32]) -> usize {
    (1..scores.len()).fold(0, |best, k| if scores[k] > scores[best] { k } else { best })
}

/// Rows with scores from here up to the next block.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Block {
    from: f32,
    rows: f64,
    hits: f64,
}

impl Block {
    fn mean(&self) -> f64 {
        self.hits / self.rows
    }

    fn join(&mut self, next: &Self) {
        self.rows += next.rows;
        self.hits += next.hits;
    }
}

/// The isotonic curve through (score, whether the class was true), in at most [`KNOTS_MAX`] pieces.
fn pieces(mut pairs: Vec<(f32, bool)>) -> Vec<Knot> {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut blocks: Vec<Block> = Vec::new();
    let mut last = f32::NEG_INFINITY;
    for (score, hit) in pairs {
        let new = Block { from: score, rows: 1.0, hits: f64::from(u8::from(hit)) };
        match blocks.last_mut() {
            // Equal scores are one point, whatever came of them.
            Some(block) if score == last => block.join(&new),
            _ => {
                settle(&mut blocks);
                blocks.push(new);
            }
        }
        last = score;
    }
    settle(&mut blocks);
    while blocks.len() > KNOTS_MAX {
        let cost = |pair: &[Block]| {
            let (a, b) = (&pair[0], &pair[1]);
            a.rows * b.rows / (a.rows + b.rows) * (a.mean() - b.mean()).powi(2)
        };
        let costs = blocks.windows(2).map(cost).enumerate();
        let (at, _) = costs.min_by(|a, b| a.1.total_cmp(&b.1)).expect("more than one block");
        let next = blocks.remove(at + 1);
        blocks[at].join(&next);
    }
    blocks.iter().map(|b| Knot { from: b.from, p: b.mean() as f32, rows: b.rows as u32 }).collect()
}

/// Joins the last blocks while they do not ascend.
fn settle(blocks: &mut Vec<Block>) {
    while let [.., before, last] = blocks.as_slice()
        && before.mean() >= last.mean()
    {
        let last = *last;
        blocks.pop();
        if let Some(before) = blocks.last_mut() {
            before.join(&last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn knots(pairs: &[(f32, bool)]) -> Vec<(f32, f32, u32)> {
        pieces(pairs.to_vec()).iter().map(|k| (k.from, k.p, k.rows)).collect()
    }

    #[test]
    fn violators_are_pooled_and_equal_scores_are_one_point() {
        let pairs = [(0.1, false), (0.2, true), (0.3, false), (0.3, true), (0.8, true), (0.9, true)];
        // 0.2 has mean 1, then 0.3 has 1/2: pooled to 2/3; 0.8 and 0.9 both have 1.
        assert_eq!(knots(&pairs), [(0.1, 0.0, 1), (0.2, 2.0 / 3.0, 3), (0.8, 1.0, 2)]);
    }

    #[test]
    fn too_few_rows_and_no_truth_are_said() {
        let outputs = vec![vec![0.4, 0.6]; 60];
        let mut notes = Vec::new();
        let rows = |truths| Rows { outputs: &outputs, truths, held_out: true };
        let none = vec![None; 60];
        assert_eq!(fit(&rows(&none), 2, &mut notes), None);
        let few: Vec<Option<u16>> = (0..60).map(|i| (i < 49).then_some(1)).collect();
        assert_eq!(fit(&rows(&few), 2, &mut notes), None);
        assert_eq!(
            notes,
            [
                "How often the model is right cannot be estimated without labels: no row names a class that the model knows (give --label).",
                "How often the model is right cannot be estimated without labels: 49 rows have a known class, and 50 are the least.",
            ]
        );
    }

    proptest! {
        #[test]
        fn curves_are_sound_and_keep_the_count_of_true_ones(pairs in prop::collection::vec((0u16..2000, any::<bool>()), 1..1500)) {
            let pairs: Vec<(f32, bool)> = pairs.into_iter().map(|(s, hit)| (f32::from(s) / 2000.0, hit)).collect();
            let hits = pairs.iter().filter(|p| p.1).count() as f64;
            let curve = Curve(pieces(pairs.clone()).into_iter().collect());
            let calibration = Calibration { of: Of::Positive, rows: 1, held_out: true, curves: [curve.clone()].into_iter().collect() };
            prop_assert_eq!(calibration.check(2), Ok(()));
            let expected: f64 = pairs.iter().map(|p| f64::from(curve.p(p.0))).sum();
            prop_assert!((expected - hits).abs() < 1e-3, "{} true ones, {} expected", hits, expected);
        }
    }
}
