//! Bundles of the demo's pump model with a baseline of simulated rows, for tests that need a whole release.

use driftline_agent::bundle::{Bundle, HeapGolden};
use driftline_agent::pumps::{CLASSES, COLUMNS, LABEL, Pump};
use driftline_collector::baseline::{Options, Table, build};
use driftline_collector::calibration::{self, Rows};
use driftline_shared::baseline::TOLERANCE_DEFAULT;
use driftline_shared::list::Text;
use driftline_shared::manifest::{FORMAT, Schema, Task};
use driftline_shared::units::Name;

/// What a stand-in for the model says of a reading: a probability per class that moves with temperature and vibration.
pub fn answer(values: &[f32]) -> [f32; 3] {
    let score = ((values[0] - 61.0) / 3.0 + (values[1] - 1.8) / 0.5).clamp(-20.0, 20.0);
    let hot = 1.0 / (1.0 + (2.0 - score).exp());
    [1.0 - hot, hot * 0.6, hot * 0.4]
}

/// A release of the pump model whose baseline knows sound sensors, or those that read high.
pub fn bundle(release: &str, fault: bool, window_ms: u32, onnx: &[u8]) -> Bundle {
    let rows = |seed| {
        let mut pump = Pump::new(seed);
        (0..400).map(move |_| pump.next(fault)).map(|r| (r.values.to_vec(), Some(r.class as u16)))
    };
    let (inputs, truths): (Vec<Vec<f32>>, Vec<Option<u16>>) = (5_000..5_020).flat_map(rows).unzip();
    let devices: Vec<u32> = (0..20).flat_map(|pump| [pump; 400]).collect();
    let outputs: Vec<Vec<f32>> = inputs.iter().map(|row| answer(row).to_vec()).collect();
    let names = COLUMNS.map(str::to_owned);
    let task = Task::Classification(CLASSES.map(Text::cut).into_iter().collect());
    let table = Table {
        names: &names,
        units: &[],
        inputs: &inputs,
        outputs: &outputs,
        task: &task,
        times: &[],
        devices: &devices,
        categorical: &[],
    };
    let window_samples = window_ms / 100;
    let options = Options { window_samples, independent_rows: false, tolerance: TOLERANCE_DEFAULT };
    let mut built = build(&table, options).expect("a sound table");
    let rows = Rows { outputs: &outputs, truths: &truths, held_out: true };
    built.baseline.calibration = calibration::fit(&rows, CLASSES.len(), &mut built.notes);
    let schema = Schema { format: FORMAT, task, label: Text::whole(LABEL), window_ms, guard: None, sampled: None };
    let golden = HeapGolden { inputs: Vec::new(), outputs: Vec::new(), tolerance: 1e-3 };
    let name = |n| Name::new(n).expect("a name");
    Bundle::create(&name("pump"), &name(release), onnx.to_vec(), &built.baseline, &schema, &golden, None)
        .expect("a bundle")
}
