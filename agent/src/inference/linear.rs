//! `LinearClassifier`: tract has it too, but not for labels that are text.

use super::ml::{Attributes, Rows, Transform, largest};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

#[derive(Debug)]
pub(super) struct Linear {
    /// One row of weights per score.
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    labels: Vec<i64>,
    transform: Transform,
}

pub(super) fn classifier(node: &NodeProto) -> TractResult<Linear> {
    let coefficients = node.floats("coefficients").to_vec();
    let labels = node.class_labels()?;
    let mut intercepts = node.floats("intercepts").to_vec();
    if intercepts.is_empty() {
        intercepts = vec![0.0; if labels.len() == 2 { 1 } else { labels.len() }];
    }
    ensure!(intercepts.len() <= super::OUTPUTS_MAX, "{} scores", intercepts.len());
    ensure!(
        intercepts.len() == labels.len() || (intercepts.len(), labels.len()) == (1, 2),
        "scores and classes differ"
    );
    ensure!(coefficients.len().is_multiple_of(intercepts.len()), "the coefficients are no matrix");
    Ok(Linear { coefficients, intercepts, labels, transform: Transform::of(node)? })
}

impl Rows for Linear {
    fn width(&self, columns: usize) -> TractResult<usize> {
        let wanted = self.coefficients.len() / self.intercepts.len();
        ensure!(columns == wanted, "a linear classifier of {wanted} columns gets {columns}");
        Ok(self.labels.len())
    }

    fn is_classifier(&self) -> bool {
        true
    }

    fn row(&self, row: &[f32], out: &mut [f32]) -> i64 {
        for ((out, weights), intercept) in
            out.iter_mut().zip(self.coefficients.chunks_exact(row.len())).zip(&self.intercepts)
        {
            *out = row.iter().zip(weights).map(|(x, w)| x * w).sum::<f32>() + intercept;
        }
        if let ([_], [first, second]) = (self.intercepts.as_slice(), &mut *out) {
            // One score for two classes: onnxruntime gives 1 − score and score, whatever the transform.
            let score = *first;
            (*first, *second) = (1.0 - score, score);
            return self.labels[usize::from(score > 0.0)];
        }
        let class = largest(out);
        self.transform.apply(out);
        self.labels[class]
    }
}
