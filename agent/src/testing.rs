//! Models and bundles for unit tests, made from nothing: a linear classifier written as ONNX protobuf by hand.
//!
//! Independent of any exporter, so that every kind of broken model can be made too.

use crate::bundle::{Bundle, HeapBaseline, HeapGolden};
use crate::observe::Profile;
use driftline_shared::baseline::{self, Baseline, FeatureBaseline, Phi, Role};
use driftline_shared::embedding::{COORDINATES, Embedded};
use driftline_shared::joint::Joint;
use driftline_shared::list::{List, Text};
use driftline_shared::manifest::{self, Golden, Schema, Task};
use driftline_shared::sketch::Cells;
use driftline_shared::units::Name;
use std::sync::Arc;

/// A protobuf message being written (protobuf.dev/programming-guides/encoding).
#[derive(Default, Clone)]
pub struct Proto(pub Vec<u8>);

impl Proto {
    pub fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u64, message: &Proto) -> Self {
        self.bytes(field, &message.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// onnx.proto: ValueInfoProto with a tensor type; a `None` dimension is left open.
pub fn tensor_info(name: &str, elem_type: u64, dims: &[Option<u64>]) -> Proto {
    let shape = dims.iter().fold(Proto::default(), |shape, dim| {
        let dim = dim.map_or(Proto::default().text(2, "N"), |d| Proto::default().int(1, d));
        shape.message(1, &dim)
    });
    let tensor = Proto::default().int(1, elem_type).message(2, &shape);
    Proto::default().text(1, name).message(2, &Proto::default().message(1, &tensor))
}

pub fn floats(name: &str, dims: &[u64], values: &[f32]) -> Proto {
    let proto = dims.iter().fold(Proto::default(), |p, &d| p.int(1, d)).int(2, 1).text(8, name);
    proto.bytes(9, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
}

pub fn node(op: &str, inputs: &[&str], output: &str) -> Proto {
    let proto = inputs.iter().fold(Proto::default(), |p, i| p.text(1, i));
    proto.text(2, output).text(3, output).text(4, op)
}

pub fn model(graph: &Proto) -> Vec<u8> {
    let opset = Proto::default().text(1, "").int(2, 13);
    let meta = Proto::default().text(1, "driftline.name").text(2, "test");
    Proto::default().int(1, 8).message(7, graph).message(8, &opset).message(14, &meta).0
}

/// softmax(x·W) with W[i][k] = scale when i mod classes = k, else 0: class k wins when its inputs are largest.
pub fn classifier(inputs: usize, classes: usize, scale: f32) -> Vec<u8> {
    let weights: Vec<f32> =
        (0..inputs * classes).map(|at| if at / classes % classes == at % classes { scale } else { 0.0 }).collect();
    let graph = Proto::default()
        .message(1, &node("MatMul", &["x", "w"], "scores"))
        .message(1, &node("Softmax", &["scores"], "probabilities"))
        .text(2, "test")
        .message(5, &floats("w", &[inputs as u64, classes as u64], &weights))
        .message(11, &tensor_info("x", 1, &[None, Some(inputs as u64)]))
        .message(12, &tensor_info("probabilities", 1, &[None, Some(classes as u64)]));
    model(&graph)
}

/// softmax(2·relu(x)), with relu(x) as an output of its own.
pub fn embedding_classifier(inputs: usize) -> Vec<u8> {
    let width = Some(inputs as u64);
    let graph = Proto::default()
        .message(1, &node("Relu", &["x"], "the_embedding"))
        .message(1, &node("Mul", &["the_embedding", "two"], "twice"))
        .message(1, &node("Softmax", &["twice"], "probabilities"))
        .text(2, "test")
        .message(5, &floats("two", &[1], &[2.0]))
        .message(11, &tensor_info("x", 1, &[None, width]))
        .message(12, &tensor_info("probabilities", 1, &[None, width]))
        .message(12, &tensor_info("the_embedding", 1, &[None, width]));
    model(&graph)
}

pub fn feature(name: &str, role: Role, cells: Cells) -> FeatureBaseline {
    let mut counts = driftline_shared::list::List::default();
    counts.resize(cells.len(), 10).expect("cells fit");
    FeatureBaseline {
        name: Text::cut(name),
        unit: Text::default(),
        role,
        cells,
        counts,
        missing: 0,
        repeats: 0,
        sums: List::default(),
        median: 0.0,
        mean: 0.0,
        sd: 1.0,
        min: -1.0,
        max: 1.0,
        phi: Phi::INDEPENDENT,
        omega: None,
        omega_scale: None,
        season: None,
        tolerance: 0.1,
        unwatched: None,
    }
}

/// Inputs `in0..`, the predicted class and the confidence.
pub fn baseline(inputs: usize, classes: usize) -> HeapBaseline {
    let edges = || Cells::Edges([-1.0, 0.0, 1.0].into_iter().collect());
    let mut features: Vec<FeatureBaseline> =
        (0..inputs).map(|i| feature(&format!("in{i}"), Role::Input(i as u16), edges())).collect();
    features.push(feature("class", Role::PredictedClass, Cells::Categories(classes as u8)));
    features.push(feature("confidence", Role::Confidence, edges()));
    Baseline {
        format: baseline::FORMAT,
        rows: 40,
        window_samples: 60,
        features,
        calibration: None,
        joint: None,
        embedding: None,
    }
}

pub fn schema(classes: usize) -> Schema {
    let names = (0..classes).map(|k| Text::cut(&format!("c{k}"))).collect();
    Schema {
        format: manifest::FORMAT,
        task: Task::Classification(names),
        label: Some(Text::cut("label")),
        window_ms: 60_000,
        guard: None,
        sampled: None,
    }
}

/// A bundle of the classifier with golden rows computed here, not by tract.
pub fn bundle(release: &str, inputs: usize, classes: usize, scale: f32) -> Bundle {
    let rows: Vec<Vec<f32>> =
        (0..3).map(|r| (0..inputs).map(|i| ((r * 7 + i * 3) % 5) as f32 / 4.0).collect()).collect();
    let outputs = rows.iter().map(|row| softmax_of(row, classes, scale)).collect();
    let golden: HeapGolden = Golden { inputs: rows, outputs, tolerance: 1e-4 };
    let name = |n: &str| Name::new(n).expect("a name");
    let onnx = classifier(inputs, classes, scale);
    Bundle::create(&name("test"), &name(release), onnx, &baseline(inputs, classes), &schema(classes), &golden, None)
        .expect("a bundle")
}

pub fn profile(release: &str, inputs: usize, classes: usize) -> Arc<Profile> {
    Arc::new(Profile::of(&bundle(release, inputs, classes, 1.0)))
}

pub fn softmax_of(row: &[f32], classes: usize, scale: f32) -> Vec<f32> {
    let sums: Vec<f64> = (0..classes)
        .map(|k| f64::from(scale) * row.iter().skip(k).step_by(classes).map(|&v| f64::from(v)).sum::<f64>())
        .collect();
    let total: f64 = sums.iter().map(|s| s.exp()).sum();
    sums.iter().map(|s| (s.exp() / total) as f32).collect()
}

/// A profile of two inputs whose samples are embedded.
pub fn embedding_profile() -> Arc<Profile> {
    let name = |n: &str| Name::new(n).expect("a name");
    let mut baseline = baseline(2, 2);
    baseline.joint = Some(Joint {
        means: [0.0; 2].into_iter().collect(),
        scales: [1.0; 2].into_iter().collect(),
        components: List::default(),
    });
    let all = |x: f32| (0..COORDINATES).map(|_| x).collect();
    let (means, sds, phi, omega) = (all(0.0), all(0.7), all(1.0), all(0.1));
    baseline.embedding = Some(Embedded { bandwidth: 1.0, rows: 40, tolerance: 0.1, means, sds, phi, omega });
    let golden = Golden { inputs: vec![], outputs: vec![], tolerance: 1e-4 };
    let onnx = classifier(2, 2, 1.0);
    let bundle = Bundle::create(&name("test"), &name("v1"), onnx, &baseline, &schema(2), &golden, None);
    Arc::new(Profile::of(&bundle.expect("a bundle")))
}
