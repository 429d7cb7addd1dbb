//! What applications are told when an answer is not to be trusted: inputs that the model does not know, and changes that the device itself
//! sees.

use crate::fleet::{agent, agent_config, baseline, binary, free_port, must, run, wait_for};
use crate::sources::{COLUMNS, post};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::Duration;

#[test]
fn answers_outside_the_known_range_are_held_and_flagged() {
    let dir = tempfile::tempdir().expect("a folder");
    let recorder = agent_config(dir.path(), "recorder", 1, None, "kind = \"pumps\"\nseed = 3");
    let table =
        must(Command::new(binary("driftline-agent")).args(["record", "--rows", "2000", "--config"]).arg(&recorder));
    let path = dir.path().join("healthy.csv");
    fs::write(&path, table).expect("a table");
    let bundle =
        baseline(dir.path(), "pump-v1.onnx", &path, &["--window", "1s", "--window-samples", "50", "--guard", "hold"]);
    let source = "kind = \"http\"\nlisten = \"127.0.0.1:0\"";
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bundle), source);
    let mut process = agent(dir.path(), "pump-1", &config);
    let infer = format!("{}/models/pump/infer", process.after("applications can ask the model at "));
    let row = |temperature: f64| -> Value {
        let csv = fs::read_to_string(&path).expect("the table");
        let cells = csv.lines().nth(5).expect("a row").split(',').take(5);
        let mut cells: Vec<f64> = cells.map(|c| c.parse().expect("a number")).collect();
        if temperature > 0.0 {
            cells[0] = temperature;
        }
        let columns: Vec<Value> = COLUMNS
            .iter()
            .zip(cells)
            .map(|(name, v)| json!({ "name": name, "shape": [1], "datatype": "FP32", "data": [v] }))
            .collect();
        post(&infer, &json!({ "inputs": columns })).1
    };
    let good = row(0.0);
    assert!(good.get("parameters").is_none(), "{good}");
    let odd = row(500.0);
    assert_eq!(odd["outputs"], good["outputs"], "the last answer is held");
    let word = odd["parameters"]["driftline_guard"][0].as_str().expect("a word");
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
    let recorder = agent_config(dir.path(), "recorder", 1, None, "kind = \"pumps\"\nseed = 3");
    let table =
        must(Command::new(binary("driftline-agent")).args(["record", "--rows", "2000", "--config"]).arg(&recorder));
    let path = dir.path().join("healthy.csv");
    fs::write(&path, &table).expect("a table");
    let bundle =
        baseline(dir.path(), "pump-v1.onnx", &path, &["--window", "1s", "--window-samples", "50", "--guard", "flag"]);
    // Nobody listens: it works without a collector.
    let source = "kind = \"http\"\nlisten = \"127.0.0.1:0\"";
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bundle), source);
    let mut process = agent(dir.path(), "pump-1", &config);
    let infer = format!("{}/models/pump/infer", process.after("applications can ask the model at "));
    // Well inside the known range, and always the same: the sensors are stuck.
    let row: Vec<f64> =
        table.lines().nth(5).expect("a row").split(',').take(5).map(|c| c.parse().expect("a number")).collect();
    let columns: Vec<Value> = COLUMNS
        .iter()
        .zip(row)
        .map(|(name, v)| json!({ "name": name, "shape": [50], "datatype": "FP32", "data": vec![v; 50] }))
        .collect();
    let body = json!({ "inputs": columns });
    assert!(post(&infer, &body).1.get("parameters").is_none(), "nothing is known yet");
    let word = wait_for("a word", || {
        std::thread::sleep(Duration::from_millis(200));
        Some(post(&infer, &body).1["parameters"]["driftline_guard"][0].as_str()?.to_owned())
    });
    assert!(word.ends_with(", as this device sees it"), "{word}");
    process.terminate();
    assert!(process.wait().success());
}
