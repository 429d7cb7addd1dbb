//! Real sensor drift: agents replay the gas sensors of the data folder, months 1–2 and then months 3–10.
//!
//! The model was trained on three quarters of batch 1; the rest of it must raise nothing. Batch 2 must raise an incident that names
//! sensors which did move, by a comparison with the raw values that the system itself never sees. Then the model trained on both
//! batches is rolled out. Rows are played in random order within a batch: the files come in long runs of one gas, and another gas is
//! no drift of a sensor (docs/decisions/0003-shuffled-replay.md).

use crate::fleet::{Collector, Process, agent, agent_config, baseline, data, must, wait_for};
use driftline_agent::pumps::Random;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DEVICES: usize = 4;
const WINDOW_MS: u64 = 1_000;
const ROWS_PER_WINDOW: usize = 20;
/// How often each device plays its part of the held-out rows of batch 1, and of batch 2.
const PASSES: (usize, usize) = (12, 12);

/// A batch: header and lines.
struct Batch {
    header: String,
    rows: Vec<String>,
}

fn read(name: &str) -> Batch {
    let text = fs::read_to_string(data().join(name)).expect("a batch");
    let mut lines = text.lines().map(str::to_owned);
    Batch { header: lines.next().expect("a header"), rows: lines.collect() }
}

/// Rows whose place in the file leaves this remainder.
fn every(rows: &[String], n: usize, remainder: impl Fn(usize) -> bool) -> Vec<String> {
    rows.iter().enumerate().filter(|(i, _)| remainder(i % n)).map(|(_, r)| r.clone()).collect()
}

fn write(path: PathBuf, header: &str, rows: &[String]) -> PathBuf {
    fs::write(&path, format!("{header}\n{}\n", rows.join("\n"))).expect("a file");
    path
}

/// Mean and standard deviation of every column.
fn moments(header: &str, rows: &[String]) -> BTreeMap<String, (f64, f64)> {
    let columns = header.split(',').enumerate().filter(|(_, name)| !matches!(*name, "gas" | "ppm"));
    let of = |(i, name): (usize, &str)| {
        let values: Vec<f64> =
            rows.iter().map(|r| r.split(',').nth(i).expect("a cell").parse().expect("a number")).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (name.to_owned(), (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()))
    };
    columns.map(of).collect()
}

/// Each device's own part of some rows, so many times over, in a new order each time.
fn part(rows: &[String], device: usize, passes: usize, random: &mut Random) -> Vec<String> {
    let mut mine = every(rows, DEVICES, |r| r == device);
    let mut played = Vec::new();
    for _ in 0..passes {
        random.shuffle(&mut mine);
        played.extend(mine.iter().cloned());
    }
    played
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn bundle(dir: &Path, model: &str, data: &Path) -> PathBuf {
    let window = format!("{WINDOW_MS}ms");
    // Devices see the rows in random order, so that is how chance has to be reckoned with.
    let samples = ROWS_PER_WINDOW.to_string();
    baseline(dir, model, data, &["--window", &window, "--window-samples", &samples, "--rows", "independent"])
}

#[test]
fn real_gas_sensors_drift_and_are_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (one, two) = (read("batch01.csv"), read("batch02.csv"));
    let train = every(&one.rows, 4, |r| r != 3);
    let held_out = every(&one.rows, 4, |r| r == 3);
    let (train_two, test_two) = (every(&two.rows, 2, |r| r == 0), every(&two.rows, 2, |r| r == 1));
    let v1 = bundle(dir, "gas-v1.onnx", &write(dir.join("one.csv"), &one.header, &train));
    let v2 = bundle(dir, "gas-v2.onnx", &write(dir.join("two.csv"), &one.header, &train_two));

    let collector = Collector::start(dir, None, "[rollout]\nsoak = \"4s\"\ntimeout = \"60s\"\n");
    must(&mut collector.cli(&["models", "add", v1.to_str().expect("a path")]));
    let mut random = Random::new(20_261_125);
    let mut agents: Vec<Process> = Vec::new();
    let (mut shortest, mut longest) = (usize::MAX, 0);
    // The earliest moment at which batch 2 can begin; a device that starts late only makes the delay look longer.
    let began = now_ms();
    for k in 0..DEVICES {
        let mut rows = part(&held_out, k, PASSES.0, &mut random);
        (shortest, longest) = (shortest.min(rows.len()), longest.max(rows.len()));
        rows.extend(part(&test_two, k, PASSES.1, &mut random));
        let file = write(dir.join(format!("device-{k}.csv")), &one.header, &rows);
        let rate = ROWS_PER_WINDOW as f64 * 1000.0 / WINDOW_MS as f64;
        let source = format!("kind = \"csv\"\npath = {file:?}\nrate_hz = {rate:?}");
        let name = format!("gas-{}", k + 1);
        agents.push(agent(dir, &name, &agent_config(dir, &name, collector.mqtt_port, Some(&v1), &source)));
    }
    agents.iter_mut().for_each(|a| drop(a.after("connected to")));
    let drift_begins = began + shortest as u64 * WINDOW_MS / ROWS_PER_WINDOW as u64;

    let incidents = || collector.get("incidents")["items"].as_array().expect("items").clone();
    while now_ms() < drift_begins {
        assert!(incidents().is_empty(), "an incident on data like the training data: {:?}", incidents());
        std::thread::sleep(Duration::from_millis(200));
    }
    let memory: Vec<u64> = agents.iter().map(|a| resident_kib(a.id())).collect();
    let id = wait_for("an incident", || incidents().first().map(|i| i["id"].as_str().expect("an id").to_owned()));
    let opened = collector.get(&format!("incidents/{id}"));
    let at = opened["activity"][0]["t_ms"].as_u64().expect("a time");
    let delay = at.saturating_sub(drift_begins).div_ceil(WINDOW_MS);

    must(&mut collector.cli(&["models", "add", v2.to_str().expect("a path")]));
    must(&mut collector.cli(&["rollouts", "create", "--model", "gas@v2", "--incident", &id, "--yes"]));
    must(&mut collector.cli(&["rollouts", "watch", "1", "--timeout", "2min"]));
    let after = wait_for("readings on v2", || {
        let incident = collector.get(&format!("incidents/{id}"));
        let items = incident["accuracy"]["items"].as_array()?;
        let labelled = items.iter().find(|i| i["label"] == "gas v2")?["labelled"].as_u64()?;
        (labelled >= 500 && incident["state"] == "resolved").then_some(incident)
    });

    let items = after["ranked"]["items"].as_array().expect("ranked");
    let named: BTreeSet<String> = items
        .iter()
        .filter(|i| i["alert"] == true)
        .map(|i| i["feature"].as_str().expect("a name").to_owned())
        .collect();
    let (was, is) = (moments(&one.header, &train), moments(&one.header, &test_two));
    let inputs: Vec<&String> = named.iter().filter(|n| was.contains_key(*n)).collect();
    // By a quarter of a standard deviation, or with a spread that is another by a quarter.
    let changed = |name: &str| {
        let ((mean, sd), (mean_now, sd_now)) = (was[name], is[name]);
        (mean_now - mean).abs() / sd > 0.25 || !(0.8..1.25).contains(&(sd_now / sd))
    };
    let truly = inputs.iter().filter(|n| changed(n)).count();
    let sensors: BTreeSet<&str> = inputs.iter().filter_map(|n| n.split('_').next()).collect();
    let estimated = estimates(&collector.get("performance?model=gas"), drift_begins);
    let accuracy = |label: &str| share(&after, label);
    let (before, since, then) = (accuracy("before the change"), accuracy("since the change"), accuracy("gas v2"));
    let _ = writeln!(
        std::io::stderr(),
        "gas sensors: no incident in {} windows of held-out batch 1; incident {delay} windows after batch 2 began: {}; \
         {} readings of sensors {} named, {truly} of {} with a level or spread that is another by a quarter; \
         accuracy {:.1}% on batch 1, {:.1}% on batch 2 with v1, {:.1}% with v2, resolved; estimated without labels {:.1}%, {:.1}% and {:.1}%; \
         agent {} KiB resident",
        longest / ROWS_PER_WINDOW,
        opened["title"],
        inputs.len(),
        sensors.into_iter().collect::<Vec<_>>().join(" "),
        inputs.len(),
        100.0 * before,
        100.0 * since,
        100.0 * then,
        100.0 * estimated[0],
        100.0 * estimated[1],
        100.0 * estimated[2],
        memory.iter().max().expect("agents"),
    );
    assert!(!inputs.is_empty() && truly * 10 >= inputs.len() * 9, "named {named:?}, of which {truly} changed");
    assert!(then > since + 0.1, "the new model is no better: {since} and {then}");
    assert!(before > 0.95, "on data like the training data: {before}");
}

/// What calibrated scores say of v1 before and since a time, and of v2.
fn estimates(performance: &Value, at: u64) -> [f64; 3] {
    let mean = |release: usize, from: u64, to: u64| {
        let series = performance["releases"][release]["series"].as_array().expect("windows");
        let within = series.iter().filter(|p| p["t_ms"].as_u64().is_some_and(|t| (from..to).contains(&t)));
        let points = within.filter_map(|p| Some((p["samples"].as_f64()?, p["estimated"]["accuracy"].as_f64()?)));
        let (n, sum) = points.fold((0.0, 0.0), |(n, sum), (samples, share)| (n + samples, sum + samples * share));
        sum / n
    };
    [mean(0, 0, at), mean(0, at, u64::MAX), mean(1, 0, u64::MAX)]
}

/// The share of right answers in the row of the accuracy table whose label ends so.
fn share(incident: &Value, label: &str) -> f64 {
    let items = incident["accuracy"]["items"].as_array().expect("accuracy");
    let item = items.iter().find(|i| i["label"].as_str().is_some_and(|l| l.ends_with(label)));
    item.and_then(|i| i["share"].as_f64()).unwrap_or_else(|| panic!("no accuracy {label} in {items:?}"))
}

/// Resident memory of a process, from the kernel.
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
