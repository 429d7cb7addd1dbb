//! An input whose numbers stand for categories, from its table to the words of an incident.

use crate::fleet::{Collector, agent, agent_config, baseline, binary, must, root, run, wait_for};
use crate::sources::post;
use driftline_agent::bundle::Bundle;
use driftline_shared::random::Random;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Samples of one request, and of a window.
const ROWS: usize = 100;
/// Codes of the table and their shares.
const NORMAL: [(i64, f64); 3] = [(10, 0.5), (20, 0.4), (30, 0.1)];

/// A code of these shares.
fn code(random: &mut Random, shares: &[(i64, f64)]) -> i64 {
    let mut left = random.unit();
    let found = shares.iter().find(|(_, share)| {
        left -= share;
        left < 0.0
    });
    found.unwrap_or(&shares[0]).0
}

/// A bundle whose table has the codes 10, 20 and 30; what `baselines create` says to a column that there is not.
fn bundle(dir: &Path) -> (PathBuf, String) {
    let mut random = Random::new(5);
    let mut table = "temp,load,mode\n".to_owned();
    for _ in 0..3_000 {
        let (temp, load, mode) = (random.normal(), random.normal(), code(&mut random, &NORMAL));
        writeln!(table, "{temp},{load},{mode}").expect("room");
    }
    let data = dir.join("rows.csv");
    fs::write(&data, table).expect("a table");
    let model = root().join("tests/models/corpus/sk-columns.onnx");
    let (_, _, said) = run(Command::new(binary("driftline"))
        .args(["baselines", "create", "--categorical", "modus", "--model"])
        .args([&model, Path::new("--data"), &data]));
    fs::create_dir(dir.join("corpus")).expect("a folder");
    let more = ["--name", "press", "--window", "1s", "--window-samples", "100", "--rows", "independent"];
    let columns = ["--categorical", "mode", "--tolerance-of", "load=0.5"];
    (baseline(dir, "corpus/sk-columns.onnx", &data, &[&more[..], &columns].concat()), said)
}

/// The incident that begins with these words, of an agent whose samples have codes of these shares.
fn incident(dir: &Path, collector: &Collector, bundle: &Path, shares: &[(i64, f64)], words: &str) -> Value {
    let source = "kind = \"http\"\nlisten = \"127.0.0.1:0\"";
    let config = agent_config(dir, "press-1", collector.mqtt_port, Some(bundle), source);
    let mut process = agent(dir, "press-1", &config);
    let infer = format!("{}/models/press/infer", process.after("applications can ask the model at "));
    let mut random = Random::new(6);
    let mut column = |name: &str, of: &mut dyn FnMut(&mut Random) -> Value| {
        let data: Vec<Value> = (0..ROWS).map(|_| of(&mut random)).collect();
        let datatype = if name == "mode" { "INT64" } else { "FP32" };
        json!({ "name": name, "shape": [ROWS, 1], "datatype": datatype, "data": data })
    };
    wait_for(words, || {
        let inputs = [
            column("temp", &mut |random| json!(random.normal())),
            column("load", &mut |random| json!(random.normal())),
            column("mode", &mut |random| json!(code(random, shares))),
        ];
        let (status, answer) = post(&infer, &json!({ "inputs": inputs }));
        assert_eq!(status, 200, "{answer}");
        let list = collector.get("incidents")["items"].as_array().expect("items").clone();
        let about = |item: &&Value| item["title"].as_str().is_some_and(|title| title.starts_with(words));
        let id = list.iter().find(about)?["id"].as_str()?.to_owned();
        Some(collector.get(&format!("incidents/{id}")))
    })
}

#[test]
fn a_shift_among_categories_is_told_in_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (bundle, said) = bundle(dir);
    assert!(said.contains("modus cannot be categorical: the readings are temp, load, mode"), "{said}");
    let baseline = Bundle::read(&bundle).expect("a bundle").baseline().clone();
    assert_eq!(baseline.features[..2].iter().map(|f| f.tolerance).collect::<Vec<_>>(), [0.1, 0.5]);
    let collector = Collector::start(dir, None, "");
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let plan = must(&mut collector.cli(&["plan", "--model", "press"]));
    assert!(plan.lines().any(|l| l.starts_with("mode") && l.contains("a category: changes of its shares")), "{plan}");
    let shares = [(10, 0.3), (20, 0.1), (30, 0.6)];
    let found = incident(dir, &collector, &bundle, &shares, "mode is “30” more often on press-1");
    let what = found["facts"][0]["text"].as_str().expect("words");
    assert!(what.starts_with("mode is “30” in ") && what.contains("of readings (it was 1"), "{what}");
    assert!(found["expert"].to_string().contains("category share"), "{found}");
    let bars = found["ranges"]["bars"].as_array().expect("a picture");
    let labels: Vec<&str> = bars.iter().filter_map(|bar| bar["label"].as_str()).collect();
    assert_eq!(labels, ["10", "20", "30"]);
    assert_eq!((&bars[0]["hot"], &bars[2]["hot"]), (&json!(false), &json!(true)), "{bars:?}");
}

#[test]
fn a_category_that_was_never_seen_is_told_in_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (bundle, _) = bundle(dir);
    let collector = Collector::start(dir, None, "");
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let shares = [(10, 0.45), (20, 0.4), (30, 0.1), (25, 0.05)];
    let found = incident(dir, &collector, &bundle, &shares, "mode has values never seen in training on press-1");
    let what = found["facts"][0]["text"].as_str().expect("words");
    assert!(what.starts_with("mode: ") && what.ends_with("of readings are values that training never had."), "{what}");
    assert_eq!(found["ranges"]["bars"][3]["label"], "never seen in training");
}
