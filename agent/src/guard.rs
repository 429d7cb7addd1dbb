//! What an application gets when an input has left the range that the model was trained on, or inputs have changed as [`crate::watch`] sees
//! it. Works without a collector.
//!
//! The range of an input is that of its training data and a margin. The policy is the release's ([`Guard`]); windows and verdicts are
//! made of what the model really saw and said, whatever the application gets.

use crate::bundle::HeapBaseline;
use driftline_shared::baseline::FeatureBaseline;
use driftline_shared::manifest::{GUARD_MARGIN, Guard};
use driftline_shared::sketch::Cells;

/// The known range of every input, in the model's order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranges(Vec<(String, Range)>);

#[derive(Debug, Clone, PartialEq)]
enum Range {
    Numbers(f32, f32),
    Categories(Box<Cells>),
}

impl Ranges {
    /// The ranges of a baseline's inputs.
    pub fn of(baseline: &HeapBaseline) -> Self {
        let inputs = baseline.features.iter().filter(|f| f.role.is_input());
        let range = |f: &FeatureBaseline| match &f.cells {
            Cells::Edges(_) => {
                let margin = (f.max - f.min) * GUARD_MARGIN;
                Range::Numbers(f.min - margin, f.max + margin)
            }
            cells => Range::Categories(Box::new(cells.clone())),
        };
        Self(inputs.map(|f| (f.name.to_string(), range(f))).collect())
    }

    /// A word about the first input outside its range; a missing reading is inside.
    pub fn outside(&self, inputs: &[f32]) -> Option<String> {
        inputs.iter().zip(&self.0).find_map(|(&value, (name, range))| match range {
            Range::Numbers(low, high) if value < *low || value > *high => {
                Some(format!("{name} is {value}, and the model knows {low} to {high}"))
            }
            Range::Categories(cells) if !value.is_nan() && !cells.knows(value) => {
                Some(format!("{name} is {value}, a category that the model does not know"))
            }
            _ => None,
        })
    }
}

/// Answers as applications get them.
#[derive(Debug, Default)]
pub struct Answers {
    /// The last answer to inputs that the model knows.
    held: Vec<f32>,
}

impl Answers {
    /// Adds the answer to one sample, whose model gave `values`; a word where it is not to be trusted. `strange` says why the inputs
    /// are not what the model knows; `earlier` asks the release before, and gives its name too.
    pub fn give(
        &mut self,
        guard: Option<Guard>,
        strange: Option<String>,
        values: &[f32],
        earlier: impl FnOnce() -> Option<(Vec<f32>, String)>,
        scores: &mut Vec<f32>,
    ) -> Option<String> {
        let Some((guard, word)) = guard.zip(strange) else {
            if guard.is_some() {
                self.held.clear();
                self.held.extend_from_slice(values);
            }
            scores.extend_from_slice(values);
            return None;
        };
        match guard {
            // Before the first answer that can be trusted there is nothing to hold, nor from another release.
            Guard::Hold if self.held.len() == values.len() => {
                scores.extend_from_slice(&self.held);
                return Some(format!("{word}; the last answer is held"));
            }
            Guard::Fallback => {
                if let Some((other, release)) = earlier().filter(|(other, _)| other.len() == values.len()) {
                    scores.extend_from_slice(&other);
                    return Some(format!("{word}; release {release} answers"));
                }
            }
            Guard::Hold | Guard::Flag => {}
        }
        scores.extend_from_slice(values);
        Some(word)
    }

    /// Another release answers.
    pub fn forget(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use driftline_shared::baseline::Role;
    use driftline_shared::sketch::Categories;

    #[test]
    fn answers_outside_the_known_range_are_flagged_or_held() {
        let bundle = testing::bundle("v1", 2, 2, 1.0);
        let ranges = Ranges::of(bundle.baseline());
        let (name, Range::Numbers(low, high)) = ranges.0[0].clone() else { panic!("a number") };
        assert!(low < high);
        let (inside, outside) = ([low, low], [high + 1.0, low]);
        let give = |answers: &mut Answers, guard, inputs: &[f32], values: &[f32]| {
            let mut scores = Vec::new();
            let earlier = || Some((vec![0.4, 0.6], "v0".to_owned()));
            let word = answers.give(guard, ranges.outside(inputs), values, earlier, &mut scores);
            (scores, word)
        };
        let mut answers = Answers::default();
        assert_eq!(give(&mut answers, None, &outside, &[0.1, 0.9]), (vec![0.1, 0.9], None));
        let (scores, word) = give(&mut answers, Some(Guard::Hold), &outside, &[0.1, 0.9]);
        assert_eq!(scores, [0.1, 0.9], "nothing to hold yet");
        assert!(word.unwrap().starts_with(&format!("{name} is ")));
        assert_eq!(give(&mut answers, Some(Guard::Hold), &inside, &[0.8, 0.2]), (vec![0.8, 0.2], None));
        let (scores, word) = give(&mut answers, Some(Guard::Hold), &outside, &[0.1, 0.9]);
        assert_eq!(scores, [0.8, 0.2]);
        assert!(word.unwrap().ends_with("; the last answer is held"));
        let (scores, word) = give(&mut answers, Some(Guard::Flag), &outside, &[0.1, 0.9]);
        assert_eq!(scores, [0.1, 0.9]);
        assert!(word.is_some());
        assert_eq!(give(&mut answers, Some(Guard::Flag), &[f32::NAN, low], &[0.5, 0.5]).1, None);
        let (scores, word) = give(&mut answers, Some(Guard::Fallback), &outside, &[0.1, 0.9]);
        assert_eq!(scores, [0.4, 0.6]);
        assert!(word.unwrap().ends_with("; release v0 answers"));
        let (scores, word) = give(&mut answers, Some(Guard::Fallback), &outside, &[0.1, 0.2, 0.7]);
        assert_eq!(scores, [0.1, 0.2, 0.7], "the release before has other classes");
        assert!(word.unwrap().starts_with(&format!("{name} is ")));
        answers.forget();
        assert_eq!(give(&mut answers, Some(Guard::Hold), &outside, &[0.1, 0.9]).0, [0.1, 0.9]);
    }

    #[test]
    fn a_category_that_was_never_seen_is_outside_and_a_rare_one_is_not() {
        let categories = Categories { own: [1.0, 9.0].into_iter().collect(), others: [5.0].into_iter().collect() };
        let mut baseline = testing::bundle("v1", 2, 2, 1.0).baseline().clone();
        baseline.features[0] = testing::feature("mode", Role::Input(0), Cells::Values(categories));
        let ranges = Ranges::of(&baseline);
        for known in [1.0, 5.0, 9.0, f32::NAN] {
            assert_eq!(ranges.outside(&[known]), None, "{known}");
        }
        let word = ranges.outside(&[4.0]).expect("between the others");
        assert_eq!(word, "mode is 4, a category that the model does not know");
        assert!(ranges.outside(&[f32::INFINITY]).is_some());
    }
}
