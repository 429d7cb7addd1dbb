//! What applications are told when an answer is not to be trusted: inputs that the model does not know, and changes that the device itself
//! sees.

use crate::fleet::{Collector, Process, agent, agent_config, baseline, binary, free_port, must, run, wait_for};
use crate::sources::{COLUMNS, post};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "kind = \"http\"\nlisten = \"127.0.0.1:0\"";
const WINDOW: [&str; 4] = ["--window", "1s", "--window-samples", "50"];

/// A table of a pump that is well, and one of its rows.
fn healthy(dir: &Path) -> (PathBuf, Vec<f64>) {
    let recorder = agent_config(dir, "recorder", 1, None, "kind = \"pumps\"\nseed = 3");
    let table =
        must(Command::new(binary("driftline-agent")).args(["record", "--rows", "2000", "--config"]).arg(&recorder));
    let path = dir.join("healthy.csv");
    fs::write(&path, &table).expect("a table");
    let cells = table.lines().nth(5).expect("a row").split(',').take(5);
    (path, cells.map(|cell| cell.parse().expect("a number")).collect())
}

/// Starts an agent that applications ask; where.
fn asked(dir: &Path, config: &Path) -> (Process, String) {
    let mut process = agent(dir, "pump-1", config);
    let infer = format!("{}/models/pump/infer", process.after("applications can ask the model at "));
    (process, infer)
}

/// The answer to a row so many times; `temperature` in the place of its own.
fn answer(infer: &str, row: &[f64], temperature: Option<f64>, many: usize) -> Value {
    let value = |at: usize| temperature.filter(|_| at == 0).unwrap_or(row[at]);
    let column = |(at, name): (usize, &&str)| json!({ "name": name, "shape": [many], "datatype": "FP32", "data": vec![value(at); many] });
    let columns: Vec<Value> = COLUMNS.iter().enumerate().map(column).collect();
    post(infer, &json!({ "inputs": columns })).1
}

fn word(answer: &Value) -> Option<&str> {
    answer["parameters"]["driftline_guard"][0].as_str()
}

#[test]
fn answers_outside_the_known_range_are_held_and_flagged() {
    let dir = tempfile::tempdir().expect("a folder");
    let (table, row) = healthy(dir.path());
    let bundle = baseline(dir.path(), "pump-v1.onnx", &table, &[&WINDOW[..], &["--guard", "hold"]].concat());
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bundle), SOURCE);
    let (mut process, infer) = asked(dir.path(), &config);
    let good = answer(&infer, &row, None, 1);
    assert!(good.get("parameters").is_none(), "{good}");
    let odd = answer(&infer, &row, Some(500.0), 1);
    assert_eq!(odd["outputs"], good["outputs"], "the last answer is held");
    let word = word(&odd).expect("a word");
    assert!(
        word.starts_with("temp_c is 500, and the model knows ") && word.ends_with("; the last answer is held"),
        "{word}"
    );
    let (_, status, _) = run(Command::new(binary("driftline-agent")).args(["status", "--config"]).arg(&config));
    assert!(status.contains("1 answers outside the known range"), "{status}");
    process.terminate();
    assert!(process.wait().success());
}

#[test]
fn an_answer_says_that_the_device_itself_sees_a_change() {
    let dir = tempfile::tempdir().expect("a folder");
    let (table, row) = healthy(dir.path());
    let bundle = baseline(dir.path(), "pump-v1.onnx", &table, &[&WINDOW[..], &["--guard", "flag"]].concat());
    // Nobody listens: it works without a collector.
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bundle), SOURCE);
    let (mut process, infer) = asked(dir.path(), &config);
    // Well inside the known range, and always the same: the sensors are stuck.
    let stuck = || answer(&infer, &row, None, 50);
    assert!(stuck().get("parameters").is_none(), "nothing is known yet");
    let word = wait_for("a word", || word(&stuck()).map(str::to_owned));
    assert!(word.ends_with(", as this device sees it"), "{word}");
    process.terminate();
    assert!(process.wait().success());
}

#[test]
fn a_guard_falls_back_to_the_release_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (table, row) = healthy(dir);
    let first = baseline(dir, "pump-v1.onnx", &table, &WINDOW);
    let second = baseline(dir, "pump-v2.onnx", &table, &[&WINDOW[..], &["--guard", "fallback"]].concat());
    let collector = Collector::start(dir, None, "[rollout]\nstages = [100]\nsoak = \"1s\"\n");
    let config = agent_config(dir, "pump-1", collector.mqtt_port, Some(&first), SOURCE);
    let (mut process, infer) = asked(dir, &config);
    let odd_before = answer(&infer, &row, Some(500.0), 1);
    assert!(odd_before.get("parameters").is_none(), "the first release has no guard: {odd_before}");
    for bundle in [&first, &second] {
        must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    }
    must(&mut collector.cli(&["rollouts", "create", "--model", "pump@v2", "--all", "--yes"]));
    // Its samples prove the release: on trial, and then active.
    wait_for("the second release", || {
        answer(&infer, &row, None, 1);
        process.said().contains("release v2").then_some(())?;
        process.said().contains("stays").then_some(())
    });
    let falls_back = |infer: &str| {
        let good = answer(infer, &row, None, 1);
        assert!(good.get("parameters").is_none(), "{good}");
        let odd = answer(infer, &row, Some(500.0), 1);
        assert_eq!(odd["outputs"], odd_before["outputs"], "what the release before says");
        let word = word(&odd).expect("a word");
        assert!(word.starts_with("temp_c is 500") && word.ends_with("; release v1 answers"), "{word}");
    };
    falls_back(&infer);
    process.terminate();
    assert!(process.wait().success());
    // A restart finds the release before on the disk.
    let (_process, infer) = asked(dir, &config);
    falls_back(&infer);
}
