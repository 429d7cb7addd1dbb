//! The way of a sample allocates nothing of ours once it is warm: what remains is tract's own.

use driftline_agent::agent::{Agent, Input, Sample, Settings};
use driftline_agent::evidence::Policy;
use driftline_agent::inference::{Model, Outputs};
use driftline_agent::observe::Profile;
use driftline_agent::pumps::{Pump, Reading};
use driftline_agent::slot::SlotFile;
use driftline_shared::units::{MonoMs, Now, WallMs};
use driftline_tests::allocations::during;
use driftline_tests::pump_bundle::bundle;
use std::sync::Arc;
use tract_onnx::prelude::*;

const SAMPLES: u64 = 500;

fn onnx() -> Vec<u8> {
    std::fs::read(crate::fleet::root().join("tests/models/pump-v1.onnx")).expect("the model")
}

/// What tract allocates for a run of the same model with a tensor that is already there.
fn tracts_own(readings: &[Reading]) -> u64 {
    let plan = tract_onnx::onnx()
        .model_for_read(&mut onnx().as_slice())
        .and_then(|m| m.with_input_fact(0, f32::fact([1, 5]).into()))
        .and_then(|m| {
            let output = m.output_outlets()?.iter().copied().next_back().expect("an output");
            m.with_output_outlets(&[output])
        })
        .and_then(|m| m.into_optimized())
        .and_then(|m| m.into_runnable())
        .expect("a model for tract");
    let mut state = plan.spawn().expect("a state");
    let tensors: Vec<Arc<Tensor>> =
        readings.iter().map(|r| tract_ndarray::arr2(&[r.values]).into_arc_tensor()).collect();
    let mut run =
        || tensors.iter().for_each(|t| drop(state.run(tvec!(TValue::from_const(t.clone()))).expect("an answer")));
    run();
    during(run)
}

#[test]
fn a_sample_allocates_nothing_of_ours() {
    let profile = Arc::new(Profile::of(&bundle("v1", false, 60_000, b"any")));
    // As many samples are remembered and kept as the first pass brings.
    let evidence = Policy { samples: 50, per_day: 1 };
    let settings = Settings { evidence, labels_samples_max: 700, ..driftline_tests::watched::settings() };
    let now = |ms| Now { mono: MonoMs(ms), wall: WallMs(1_795_000_000_000 + ms) };
    let file = SlotFile { active: Some(profile.digest), committed: true, ..SlotFile::default() };
    let mut agent = Agent::new(now(0), settings, file, Some(profile));
    let mut model = Model::load(&onnx(), 5).expect("the model");
    let mut pump = Pump::new(1);
    let readings: Vec<Reading> = (0..SAMPLES).map(|_| pump.next(false)).collect();

    let mut out = Vec::new();
    let mut way = |from: u64| {
        for (i, reading) in readings.iter().enumerate() {
            let outputs = model.answer(&reading.values, &mut out);
            assert!(matches!(outputs, Outputs::Values(_)));
            let at = now(from + i as u64);
            let sample = Sample {
                event_time: at.wall,
                inputs: &reading.values,
                whole: &[],
                outputs,
                trial: None,
                label: Some(0),
                id: None,
            };
            agent.handle(at, Input::Sample(sample));
        }
    };
    way(0);
    let whole = during(|| way(SAMPLES));
    let tract = tracts_own(&readings);
    assert!(whole <= tract, "{whole} allocations for {SAMPLES} samples, of which tract makes {tract}");

    // The same without the model: exactly none.
    let outputs = [0.7, 0.2, 0.1];
    let sketched = during(|| {
        for (i, reading) in readings.iter().enumerate() {
            let at = now(2 * SAMPLES + i as u64);
            let (inputs, outputs) = (&reading.values, Outputs::Values(&outputs));
            let sample =
                Sample { event_time: at.wall, inputs, whole: &[], outputs, trial: None, label: None, id: None };
            agent.handle(at, Input::Sample(sample));
        }
    });
    assert_eq!(sketched, 0);
    assert_eq!(agent.ledger().samples_in_windows, 3 * SAMPLES);
}
