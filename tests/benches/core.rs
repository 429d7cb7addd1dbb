//! The budgets of ARCHITECTURE.md that are about time: one sample into a window, two windows into one, a window through the
//! wire, one detector step, each for 20 features; and models. Run with `cargo bench -p driftline-tests`.

use criterion::{Criterion, criterion_group, criterion_main};
use driftline_agent::inference::{Model, input_width};
use driftline_agent::io::answered::Answered;
use driftline_agent::io::report::Counters;
use driftline_agent::pumps::Random;
use driftline_agent::source::{Chunk, Known};
use driftline_shared::embedding::{Embedding, Frequencies};
use driftline_shared::joint::Joint;
use driftline_shared::list::List;
use driftline_shared::sketch::{Cells, Grid};
use driftline_shared::units::{Seq, Stream};
use driftline_shared::window::{Block, Window};
use driftline_shared::wire::{FRAME_BYTES_MAX, Frame, pack};
use driftline_tests::normal::{Stream as Watched, features, window};
use std::hint::black_box;

const FEATURES: usize = 20;
/// Files in tests/models.
const MODELS: [(&str, &str); 3] =
    [("mlp", "gas-v1.onnx"), ("forest", "corpus/sk-forest-names-plain.onnx"), ("cnn", "corpus/nn-cnn1d-1x128.onnx")];

fn benches(c: &mut Criterion) {
    let features = features(FEATURES, 6_000);
    let grids: Vec<Grid> = features.iter().map(|f| Grid::new(&f.cells)).collect();
    let mut rng = Random::new(1);

    let samples: Vec<[f32; FEATURES]> = (0..1024).map(|_| std::array::from_fn(|_| rng.normal() as f32)).collect();
    let mut open = window(&features, &mut rng, 0, |_, z| z);
    let mut sketch = |name: &str, grids: &[Grid], samples: &[[f32; FEATURES]]| {
        let mut block = Block::new(FEATURES);
        let mut at = 0;
        c.bench_function(name, |b| {
            b.iter(|| {
                at = (at + 1) % samples.len();
                block.add(black_box(&samples[at]).iter().copied());
                if block.is_full() {
                    open.count(grids.iter(), &mut block);
                }
            });
        });
    };
    sketch("window/add one sample of 20 features", &grids, &samples);
    // Their edges lie so unevenly that a value's cell has to be searched for.
    let skewed = |z: f32| (3.0 * z).exp();
    let cells = features.iter().map(|f| match &f.cells {
        Cells::Edges(edges) => Cells::Edges(edges.iter().copied().map(skewed).collect()),
        other => other.clone(),
    });
    let skewed_grids: Vec<Grid> = cells.map(|cells| Grid::new(&cells)).collect();
    let skewed_samples: Vec<[f32; FEATURES]> = samples.iter().map(|sample| sample.map(skewed)).collect();
    sketch("window/add one sample of 20 skewed features", &skewed_grids, &skewed_samples);

    let joint = Joint {
        means: (0..FEATURES).map(|_| 0.0).collect(),
        scales: (0..FEATURES).map(|_| 1.0).collect(),
        components: List::default(),
    };
    let frequencies = Frequencies::new(FEATURES, 4.0).expect("few enough inputs");
    let mut embedding = Embedding::default();
    let mut at = 0;
    c.bench_function("embedding/add one sample of 20 inputs", |b| {
        b.iter(|| {
            at = (at + 1) % samples.len();
            embedding.add(&frequencies, &joint, black_box(&samples[at]));
        });
    });

    let one = window(&features, &mut rng, 60, |_, z| z);
    let mut sum = one.clone();
    c.bench_function("window/merge two of 20 features", |b| {
        b.iter(|| sum.merge(black_box(&one)).expect("the same cells"));
    });

    let mut buffer = vec![0u8; FRAME_BYTES_MAX];
    c.bench_function("wire/encode a window of 20 features", |b| {
        b.iter(|| pack::write(Stream(1), Seq(1), [black_box(&*one)].into_iter(), &mut buffer).expect("fits"));
    });
    let len = pack::write(Stream(1), Seq(1), [&*one].into_iter(), &mut buffer).expect("fits");
    println!("wire: one window of 20 features, 60 samples: {len} bytes");
    c.bench_function("wire/decode a window of 20 features", |b| {
        b.iter(|| {
            let frame = Frame::parse(black_box(&buffer[..len])).expect("sound");
            let mut windows = pack::Windows::open(frame.payload).expect("sound");
            windows.next::<FEATURES>().expect("sound") as Option<Window<FEATURES>>
        });
    });

    let mut streams: Vec<_> = features.iter().map(|f| Watched::new(f, FEATURES)).collect();
    let mut slot = 0;
    c.bench_function("detector/one step of 20 features", |b| {
        b.iter(|| {
            slot += 1;
            for (stream, sketch) in streams.iter_mut().zip(&one.sketches) {
                black_box(stream.step(sketch, slot, 1e9));
            }
        });
    });
}

/// What the agent adds to a model: until an application has its answer, and until the sample is counted too: in the window, in the
/// embedding, and in the memory for late truth.
fn through_the_agent(c: &mut Criterion) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for (name, file) in MODELS {
        let onnx = std::fs::read(root.join(file)).expect("a model");
        let width = input_width(&onnx).expect("a model").expect("a fixed width");
        let mut model = Model::load(&onnx, width).expect("a model that runs");
        let mut rng = Random::new(1);
        let samples: Vec<Vec<f32>> = (0..256).map(|_| (0..width).map(|_| rng.normal() as f32).collect()).collect();
        let mut out = Vec::new();
        let mut answer = |sample: &Vec<f32>| {
            model.run(sample, &mut out).expect("an answer");
            out.clone()
        };
        let outputs: Vec<Vec<f32>> = samples.iter().map(&mut answer).collect();
        let mut agent = driftline_tests::watched::agent(&samples, &outputs);
        let profile = agent.active().cloned().expect("a release");
        let chunks: Vec<Chunk> = samples
            .iter()
            .map(|sample| Chunk { values: sample.clone(), rows: vec![Known::default()], ..Chunk::default() })
            .collect();
        let (mut answered, counters, mut at) = (Answered::default(), Counters::default(), 0);
        c.bench_function(&format!("agent/{name}, answered"), |b| {
            b.iter(|| {
                at = (at + 1) % chunks.len();
                answered.infer(Some(&mut model), Some(&profile), black_box(&chunks[at]), 0, &counters, None);
                answered.each().filter_map(|(_, outputs)| outputs.values().map(|values| values[0])).sum::<f32>()
            });
        });
        c.bench_function(&format!("agent/{name}, counted"), |b| {
            b.iter(|| {
                at += 1;
                let inputs = &samples[at % samples.len()];
                let outputs = model.answer(black_box(inputs), &mut out);
                driftline_tests::watched::sample(&mut agent, at as u64, inputs, outputs);
            });
        });
    }
}

/// Models beside onnxruntime, which `tests/run speed` runs on the same files.
fn models(c: &mut Criterion) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for (name, file) in MODELS {
        let onnx = std::fs::read(root.join(file)).expect("a model");
        let width = input_width(&onnx).expect("a model").expect("a fixed width");
        let mut model = Model::load(&onnx, width).expect("a model that runs");
        let mut rng = Random::new(1);
        let samples: Vec<Vec<f32>> = (0..256).map(|_| (0..width).map(|_| rng.normal() as f32).collect()).collect();
        let (mut at, mut out) = (0, Vec::new());
        c.bench_function(&format!("model/{name}"), |b| {
            b.iter(|| {
                at = (at + 1) % samples.len();
                model.run(black_box(&samples[at]), &mut out).expect("an answer");
                out[0]
            });
        });
    }
}

criterion_group!(core, benches, models, through_the_agent);
criterion_main!(core);
