//! Support vector machines: `SVMClassifier` and `SVMRegressor`.
//!
//! Classes are told apart in pairs. Where the model carries Platt's parameters, the pairs' probabilities are coupled to one per
//! class by the second method of Wu, Lin and Weng (JMLR 5, 2004), as libsvm does it.

use super::ml::{Attributes, Rows, Transform, largest, logistic};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// Most classes: there is a score for every pair.
const CLASSES_MAX: usize = 90;
/// Most rounds of coupling, and the change at which it ends, of libsvm.
const ROUNDS_MAX: usize = 100;
const EPSILON: f64 = 0.005;

#[derive(Debug, Clone, Copy)]
enum Kernel {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

#[derive(Debug)]
struct Vectors {
    kernel: Kernel,
    gamma: f32,
    coef0: f32,
    degree: f32,
    /// One support vector after the other.
    vectors: Vec<f32>,
    columns: usize,
}

impl Vectors {
    fn of(node: &NodeProto, vectors: Vec<f32>, n: usize) -> TractResult<Self> {
        let kernel = match node.text("kernel_type", "LINEAR") {
            "LINEAR" => Kernel::Linear,
            "POLY" => Kernel::Poly,
            "RBF" => Kernel::Rbf,
            "SIGMOID" => Kernel::Sigmoid,
            other => bail!("kernel_type {other} is unknown"),
        };
        let (gamma, coef0, degree) = match *node.floats("kernel_params") {
            [] => (0.0, 0.0, 0.0),
            [gamma, coef0, degree] => (gamma, coef0, degree),
            _ => bail!("kernel_params are not three numbers"),
        };
        ensure!(n > 0 && !vectors.is_empty() && vectors.len().is_multiple_of(n), "the support vectors are no matrix");
        Ok(Self { kernel, gamma, coef0, degree, columns: vectors.len() / n, vectors })
    }

    /// The kernel of a row with every vector.
    fn kernels(&self, row: &[f32]) -> impl Iterator<Item = f32> {
        self.vectors.chunks_exact(self.columns).map(|vector| {
            let pairs = row.iter().zip(vector);
            match self.kernel {
                Kernel::Rbf => (-self.gamma * pairs.map(|(x, v)| (x - v) * (x - v)).sum::<f32>()).exp(),
                Kernel::Linear => pairs.map(|(x, v)| x * v).sum::<f32>(),
                Kernel::Poly => (self.gamma * pairs.map(|(x, v)| x * v).sum::<f32>() + self.coef0).powf(self.degree),
                Kernel::Sigmoid => (self.gamma * pairs.map(|(x, v)| x * v).sum::<f32>() + self.coef0).tanh(),
            }
        })
    }

    fn fits(&self, columns: usize) -> TractResult<()> {
        ensure!(columns == self.columns, "support vectors of {} columns get {columns}", self.columns);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Regressor {
    vectors: Vectors,
    coefficients: Vec<f32>,
    rho: f32,
    one_class: bool,
}

pub(super) fn regressor(node: &NodeProto) -> TractResult<Regressor> {
    let coefficients = node.floats("coefficients").to_vec();
    ensure!(!coefficients.is_empty(), "a support vector machine without coefficients");
    let n = usize::try_from(node.int("n_supports", 0)).unwrap_or(0);
    let vectors = match n {
        // Without support vectors the coefficients are the weights of a linear model.
        0 => Vectors { kernel: Kernel::Linear, ..Vectors::of(node, coefficients.clone(), 1)? },
        n => Vectors::of(node, node.floats("support_vectors").to_vec(), n)?,
    };
    let coefficients = if n == 0 { vec![1.0] } else { coefficients };
    ensure!(coefficients.len() == n.max(1), "{} coefficients for {n} support vectors", coefficients.len());
    ensure!(Transform::of(node)? == Transform::None, "post_transform of a support vector regressor");
    let rho = node.floats("rho").first().copied().unwrap_or(0.0);
    Ok(Regressor { vectors, coefficients, rho, one_class: node.int("one_class", 0) != 0 })
}

impl Rows for Regressor {
    fn width(&self, columns: usize) -> TractResult<usize> {
        self.vectors.fits(columns).map(|()| 1)
    }

    fn is_classifier(&self) -> bool {
        false
    }

    fn row(&self, row: &[f32], out: &mut [f32]) -> i64 {
        let terms = self.vectors.kernels(row).zip(&self.coefficients);
        let value = terms.map(|(kernel, c)| kernel * c).sum::<f32>() + self.rho;
        let value = if !self.one_class {
            value
        } else if value > 0.0 {
            1.0
        } else {
            -1.0
        };
        out.iter_mut().for_each(|out| *out = value);
        0
    }
}

#[derive(Debug)]
pub(super) struct Classifier {
    vectors: Vectors,
    /// One more than classes; where the vectors of each class begin. Empty for a linear model.
    starts: Vec<usize>,
    /// Rows of one weight per vector; a linear model has its weights in the vectors.
    coefficients: Vec<f32>,
    rho: Vec<f32>,
    platt: Vec<(f32, f32)>,
    labels: Vec<i64>,
    transform: Transform,
}

pub(super) fn classifier(node: &NodeProto) -> TractResult<Classifier> {
    let labels = node.class_labels()?;
    ensure!((2..=CLASSES_MAX).contains(&labels.len()), "{} classes, and 2 to {CLASSES_MAX} are accepted", labels.len());
    let transform = Transform::of(node)?;
    let coefficients = node.floats("coefficients").to_vec();
    let rho = node.floats("rho").to_vec();
    let platt: Vec<_> = node.floats("prob_a").iter().copied().zip(node.floats("prob_b").iter().copied()).collect();
    let mut starts = vec![0usize];
    for &count in node.ints("vectors_per_class") {
        let count = usize::try_from(count).ok().filter(|&n| n < super::ml::WIDTH_MAX);
        starts.push(starts[starts.len() - 1] + count.context("vectors_per_class")?);
    }
    let n = starts[starts.len() - 1];
    if n == 0 {
        ensure!(!rho.is_empty(), "a support vector machine without rho");
        let vectors = Vectors { kernel: Kernel::Linear, ..Vectors::of(node, coefficients, labels.len())? };
        return Ok(Classifier { vectors, starts: vec![], coefficients: vec![], rho, platt, labels, transform });
    }
    let pairs = labels.len() * (labels.len() - 1) / 2;
    ensure!(starts.len() == labels.len() + 1, "vectors_per_class and classes differ");
    ensure!(coefficients.len() == (labels.len() - 1) * n, "the coefficients are no matrix");
    ensure!(
        rho.len() == pairs && (platt.is_empty() || platt.len() == pairs),
        "rho, prob_a and prob_b do not fit the classes"
    );
    let vectors = Vectors::of(node, node.floats("support_vectors").to_vec(), n)?;
    Ok(Classifier { vectors, starts, coefficients, rho, platt, labels, transform })
}

impl Classifier {
    fn pairs(&self) -> usize {
        self.labels.len() * (self.labels.len() - 1) / 2
    }

    /// The score of every pair of classes: above 0 is the first.
    fn scores(&self, kernels: &[f32]) -> Vec<f32> {
        let (classes, n) = (self.labels.len(), kernels.len());
        let mut scores = Vec::with_capacity(self.pairs());
        for i in 0..classes {
            for j in i + 1..classes {
                let part = |row: usize, of: usize| -> f64 {
                    let span = self.starts[of]..self.starts[of + 1];
                    let weights = &self.coefficients[row * n..][span.clone()];
                    weights.iter().zip(&kernels[span]).map(|(w, k)| f64::from(w * k)).sum()
                };
                scores.push((part(j - 1, i) + part(i, j) + f64::from(self.rho[scores.len()])) as f32);
            }
        }
        scores
    }
}

impl Rows for Classifier {
    fn width(&self, columns: usize) -> TractResult<usize> {
        self.vectors.fits(columns)?;
        let by_class = self.starts.is_empty() || !self.platt.is_empty() || self.labels.len() == 2;
        Ok(if by_class { self.labels.len() } else { self.pairs() })
    }

    fn is_classifier(&self) -> bool {
        true
    }

    fn row(&self, row: &[f32], out: &mut [f32]) -> i64 {
        if self.starts.is_empty() {
            let rho = self.rho[0];
            out.iter_mut().zip(self.vectors.kernels(row)).for_each(|(out, score)| *out = score + rho);
            let class = largest(out);
            self.transform.apply(out);
            return self.labels[class];
        }
        let kernels: Vec<f32> = self.vectors.kernels(row).collect();
        let scores = self.scores(&kernels);
        let mut votes = vec![0.0f32; self.labels.len()];
        let mut score = scores.iter();
        for i in 0..votes.len() {
            for j in i + 1..votes.len() {
                votes[if score.next().is_some_and(|&s| s > 0.0) { i } else { j }] += 1.0;
            }
        }
        let class = largest(&votes);
        if !self.platt.is_empty() {
            // libsvm: the probability of the first of a pair is 1 / (1 + exp(A · score + B)).
            let first = scores.iter().zip(&self.platt).map(|(s, (a, b))| 1.0 - logistic(s * a + b));
            couple(&first.map(|p| f64::from(p.clamp(1e-7, 1.0 - 1e-7))).collect::<Vec<_>>(), out);
            self.transform.apply(out);
        } else if let [first, second] = out {
            // onnxruntime writes the one score of two classes twice.
            let score = scores[0];
            let plain = self.transform == Transform::None;
            (*first, *second) = if plain { (-score, score) } else { (1.0 - score, score) };
        } else {
            out.copy_from_slice(&scores);
            self.transform.apply(out);
        }
        self.labels[class]
    }
}

/// One probability per class from those of the pairs (i, j > i).
fn couple(pairs: &[f64], out: &mut [f32]) {
    let k = out.len();
    let mut r = vec![0.0; k * k];
    let mut pair = pairs.iter();
    for i in 0..k {
        for j in i + 1..k {
            let p = pair.next().copied().unwrap_or(0.5);
            r[i * k + j] = p;
            r[j * k + i] = 1.0 - p;
        }
    }
    // Q of the paper's equation (19): what is minimised is pᵀQp.
    let mut q = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..k {
            q[i * k + j] = if i == j {
                (0..k).filter(|&other| other != i).map(|other| r[other * k + i] * r[other * k + i]).sum()
            } else {
                -r[j * k + i] * r[i * k + j]
            };
        }
    }
    let mut p = vec![1.0 / k as f64; k];
    for _ in 0..ROUNDS_MAX.max(k) {
        let mut qp: Vec<f64> = (0..k).map(|i| (0..k).map(|j| q[i * k + j] * p[j]).sum()).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < EPSILON / k as f64) {
            break;
        }
        for i in 0..k {
            let step = (pqp - qp[i]) / q[i * k + i];
            p[i] += step;
            pqp = (pqp + step * (step * q[i * k + i] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..k {
                qp[j] = (qp[j] + step * q[i * k + j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    out.iter_mut().zip(p).for_each(|(out, p)| *out = p as f32);
}
