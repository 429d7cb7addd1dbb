//! An agent alone, and one that watches a model of any width.

use driftline_agent::agent::{Agent, Input, Sample, Settings};
use driftline_agent::bundle::{Bundle, HeapGolden};
use driftline_agent::evidence::Policy;
use driftline_agent::inference::Outputs;
use driftline_agent::observe::Profile;
use driftline_agent::slot::{Proof, SlotFile};
use driftline_agent::spool::{Drain, Room};
use driftline_collector::baseline::{Options, Table, build};
use driftline_shared::list::{List, Text};
use driftline_shared::manifest::{FORMAT, Schema, Task};
use driftline_shared::units::{MonoMs, Name, Now, Stream, WallMs};
use std::sync::Arc;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// What an agent is told that is alone.
pub fn settings() -> Settings {
    Settings {
        fleet: name("f"),
        device: name("d"),
        labels: List::default(),
        stream: Stream(1),
        window_samples_max: 1_000_000,
        room: Room::default(),
        spool_commit_ms: 2_500,
        drain: Drain::default(),
        labels_samples_max: driftline_agent::labels::SAMPLES_DEFAULT,
        evidence: Policy::default(),
        proof: Proof { trial: 1, commit: 1 },
    }
}

/// An agent whose baseline is made of these rows.
pub fn agent(inputs: &[Vec<f32>], outputs: &[Vec<f32>]) -> Agent {
    let names: Vec<String> = (0..inputs[0].len()).map(|i| format!("c{i}")).collect();
    let classes = (0..outputs[0].len()).map(|i| Text::cut(&i.to_string())).collect();
    let (task, units) = (Task::Classification(classes), vec![String::new(); names.len()]);
    let table = Table {
        names: &names,
        units: &units,
        inputs,
        outputs,
        task: &task,
        times: &[],
        devices: &[],
        categorical: &[],
    };
    let options = Options { window_samples: 60, independent_rows: true, tolerance: 0.1 };
    let built = build(&table, options).expect("a baseline");
    let schema = Schema { format: FORMAT, task, label: None, window_ms: 60_000, guard: None, sampled: None };
    let golden = HeapGolden { inputs: inputs[..1].to_vec(), outputs: outputs[..1].to_vec(), tolerance: 1.0 };
    let bundle = Bundle::create(&name("m"), &name("v1"), b"any".to_vec(), &built.baseline, &schema, &golden, None);
    let profile = Arc::new(Profile::of(&bundle.expect("a bundle")));
    let file = SlotFile { active: Some(profile.digest), committed: true, ..SlotFile::default() };
    Agent::new(now(0), settings(), file, Some(profile))
}

fn now(ms: u64) -> Now {
    Now { mono: MonoMs(ms), wall: WallMs(1_795_000_000_000 + ms) }
}

/// The sample of this millisecond.
pub fn sample(agent: &mut Agent, ms: u64, inputs: &[f32], outputs: Outputs<'_>) {
    let at = now(ms);
    agent.handle(
        at,
        Input::Sample(Sample { event_time: at.wall, inputs, whole: &[], outputs, trial: None, label: None, id: None }),
    );
}
