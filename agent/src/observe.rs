//! What is watched of one sample: the inputs, and of the outputs the predicted class, confidence and entropy, or the numbers themselves.
//!
//! A [`Profile`] is what the sample path needs of a bundle, without training counts and golden rows, so that it stays small
//! and stays in the cache. Nothing here allocates per sample.

use crate::bundle::Bundle;
use crate::guard::Ranges;
use crate::inference::Outputs;
use crate::projection::HeapProjection;
use crate::watch::Watch;
use driftline_shared::baseline::Role;
use driftline_shared::calibration::Calibration;
use driftline_shared::embedding::{Embedding, Frequencies};
use driftline_shared::joint::Joint;
use driftline_shared::manifest::{Digest, Guard, Sampled, Task};
use driftline_shared::performance::entropy;
use driftline_shared::sketch::Grid;
use driftline_shared::units::{Name, ReleaseId};
use std::sync::Arc;

/// A release as the sample path sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The bundle's digest.
    pub digest: Digest,
    /// The same, short, as windows carry it.
    pub release: ReleaseId,
    /// Model name.
    pub model: Name,
    /// Release name.
    pub name: Name,
    /// Length of a window.
    pub window_ms: u32,
    /// What is watched of the input: its columns in the model's order, or what is derived of a signal or an image.
    pub inputs: Vec<String>,
    /// Class names; empty for numbers.
    pub classes: Vec<String>,
    /// Column with the true class.
    pub label: Option<String>,
    /// What a sample is, where it is not one number per input.
    pub sampled: Option<Arc<Sampled>>,
    /// How the model's own embedding of a sample is watched, where it is.
    pub projection: Option<Box<HeapProjection>>,
    /// What applications get outside the ranges.
    pub guard: Option<Guard>,
    /// The known range of every input; empty without a guard.
    pub ranges: Ranges,
    /// Detectors that have seen nothing yet; none without a guard.
    pub watch: Option<Watch>,
    /// What the scores mean, where the bundle says it.
    pub calibration: Option<Calibration>,
    joint: Option<Joint>,
    frequencies: Option<Box<Frequencies>>,
    features: Vec<Feature>,
    /// Leading features that are the inputs themselves, in their order.
    plain: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Feature {
    role: Role,
    grid: Grid,
}

impl Profile {
    /// What the sample path needs of a bundle.
    pub fn of(bundle: &Bundle) -> Self {
        let features = &bundle.baseline().features;
        let schema = bundle.schema();
        let embedded = bundle.baseline().embedding.as_ref();
        let frequencies = embedded.and_then(|e| Frequencies::new(bundle.inputs(), e.bandwidth));
        let classes = match &schema.task {
            Task::Classification(classes) => classes.iter().map(ToString::to_string).collect(),
            Task::Regression(_) => Vec::new(),
        };
        Self {
            digest: bundle.digest(),
            release: bundle.release_id(),
            model: bundle.manifest().model.clone(),
            name: bundle.manifest().release.clone(),
            window_ms: schema.window_ms,
            inputs: features.iter().filter(|f| f.role.is_input()).map(|f| f.name.to_string()).collect(),
            classes,
            label: schema.label.as_ref().map(ToString::to_string),
            sampled: schema.sampled.clone().map(Arc::new),
            projection: bundle.projection().cloned().map(Box::new),
            guard: schema.guard,
            ranges: schema.guard.map(|_| Ranges::of(bundle.baseline())).unwrap_or_default(),
            watch: schema.guard.map(|_| Watch::of(bundle.baseline(), schema.window_ms)),
            calibration: bundle.baseline().calibration.clone(),
            joint: bundle.baseline().joint.clone(),
            frequencies: frequencies.map(Box::new),
            plain: features.iter().zip(0..).take_while(|(f, i)| f.role == Role::Input(*i)).count(),
            features: features.iter().map(|f| Feature { role: f.role, grid: Grid::new(&f.cells) }).collect(),
        }
    }

    /// Where values of every watched feature fall, in the order of a window's sketches.
    pub fn grids(&self) -> impl Iterator<Item = &Grid> {
        self.features.iter().map(|f| &f.grid)
    }

    /// Whether samples are embedded.
    pub fn has_embedding(&self) -> bool {
        self.frequencies.is_some() && self.joint.is_some()
    }

    /// Adds one sample's inputs to an embedding.
    pub fn embed(&self, inputs: &[f32], embedding: &mut Embedding) {
        if let (Some(frequencies), Some(joint)) = (&self.frequencies, &self.joint) {
            embedding.add(frequencies, joint, inputs);
        }
    }

    /// The watched values of one sample in the same order; what is not known is NaN, a missing reading.
    pub fn values(&self, inputs: &[f32], outputs: Outputs<'_>) -> impl Iterator<Item = f32> {
        let outputs = outputs.values();
        let top = outputs.and_then(top);
        let inputs_alone = (0..self.plain).map(|i| inputs.get(i).copied().unwrap_or(f32::NAN));
        let others = self.features[self.plain..].iter().map(move |feature| {
            let known = match feature.role {
                Role::Input(i) => inputs.get(usize::from(i)).copied(),
                Role::Output(i) => outputs.and_then(|o| o.get(usize::from(i)).copied()),
                Role::PredictedClass => top.map(|(class, _)| class as f32),
                Role::Confidence => top.map(|(_, score)| score),
                Role::Entropy => outputs.and_then(entropy),
                Role::Joint => self.joint.as_ref().map(|joint| joint.residual(inputs)),
            };
            known.unwrap_or(f32::NAN)
        });
        inputs_alone.chain(others)
    }
}

/// The class with the largest score, the first of equals, and its score.
pub fn top(scores: &[f32]) -> Option<(usize, f32)> {
    let first = *scores.first()?;
    let best = scores.iter().enumerate().fold((0, first), |best, (i, &s)| if s > best.1 { (i, s) } else { best });
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn values(outputs: Outputs<'_>) -> Vec<f32> {
        testing::profile("v1", 2, 3).values(&[0.5, f32::INFINITY], outputs).collect()
    }

    #[test]
    fn class_and_confidence_come_from_the_largest_score() {
        assert_eq!(values(Outputs::Values(&[0.2, 0.5, 0.3])), [0.5, f32::INFINITY, 1.0, 0.5]);
        // Of equal scores the first counts, as in numpy's argmax.
        assert_eq!(values(Outputs::Values(&[0.4, 0.2, 0.4]))[2], 0.0);
    }

    #[test]
    fn without_outputs_the_inputs_still_count() {
        let found = values(Outputs::Missing);
        assert_eq!(found[..2], [0.5, f32::INFINITY]);
        assert!(found[2].is_nan() && found[3].is_nan());
    }
}
