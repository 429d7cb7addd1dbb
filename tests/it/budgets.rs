//! What an agent may cost. `tests/run budgets` measures the build for devices, which `DRIFTLINE_AGENT` names. Every other run holds what the
//! build for tests keeps too: processor time, and memory that is no code.

use crate::fleet::{Collector, Process, agent_config, baseline, binary, free_port, must, root, status, wait_for};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const BINARY_BYTES_MAX: u64 = 16 << 20;
/// Of one core, at 100 samples of 20 features a second.
const CPU_PERCENT_MAX: f64 = 2.0;
const START_MS_MAX: u128 = 300;
/// Above the model's own size: all of it, and what is no code that the system can drop and read again.
const MEMORY_BYTES_MAX: u64 = 12 << 20;
const OWN_MEMORY_BYTES_MAX: u64 = 6 << 20;

/// A bundle of a model with inputs `c0`, `c1` … from a table of normal readings, and the table.
fn made(dir: &Path, model: &str, columns: usize) -> (PathBuf, PathBuf) {
    let mut random = driftline_shared::random::Random::new(1);
    let names: Vec<String> = (0..columns).map(|i| format!("c{i}")).collect();
    let mut table = names.join(",") + "\n";
    for _ in 0..2_000 {
        let cells: Vec<String> = (0..columns).map(|_| format!("{:.4}", random.normal())).collect();
        let _ = writeln!(table, "{}", cells.join(","));
    }
    let path = dir.join(format!("{columns}.csv"));
    fs::write(&path, table).expect("a table");
    let more = ["--features", &names.join(","), "--window", "10s", "--window-samples", "1000", "--name", "m"];
    let bundle = dir.join(format!("{columns}.bundle"));
    fs::rename(baseline(dir, model, &path, &more), &bundle).expect("a bundle");
    (bundle, path)
}

fn start(agent: &Path, dir: &Path, config: &Path) -> Process {
    // As in the unit.
    Process::start(dir, "agent", Command::new(agent).env("MALLOC_ARENA_MAX", "1").args(["run", "--config"]).arg(config))
}

/// Waits until the agent has taken so many samples; how many it then has.
fn taken(config: &Path, samples: u64) -> u64 {
    wait_for("samples", || status(config)?["samples"]["taken"].as_u64().filter(|n| *n >= samples))
}

/// Processor time of a process in seconds, of both kinds.
fn cpu_s(process: &Process) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("its account");
    let after = stat.rsplit(')').next().expect("fields").split_whitespace().collect::<Vec<_>>();
    let ticks: f64 = [11, 12].iter().map(|&i| after[i].parse::<f64>().expect("a number")).sum();
    let per_second: f64 = must(Command::new("getconf").arg("CLK_TCK")).trim().parse().expect("a number");
    ticks / per_second
}

fn resident(process: &Process, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("its account");
    let line = status.lines().find_map(|l| l.strip_prefix(which)).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn an_agent_keeps_its_budgets() {
    let device_build = std::env::var_os("DRIFTLINE_AGENT").map(PathBuf::from);
    let program = device_build.clone().unwrap_or_else(|| binary("driftline-agent"));
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let size = fs::metadata(&program).expect("the program").len();
    println!("binary: {:.1} MiB of {}", size as f64 / 1048576.0, BINARY_BYTES_MAX >> 20);

    let (bundle, table) = made(dir, "corpus/nn-mlp-batch-N.onnx", 20);
    let source = format!("kind = \"csv\"\npath = {table:?}\nrate_hz = 100.0\nloop = true");
    let config = agent_config(dir, "d20", free_port(), Some(&bundle), &source);
    let process = start(&program, dir, &config);
    // Two windows to warm up, and then processor time per hundred samples: what a second brings.
    let from = taken(&config, 2_000);
    let before = cpu_s(&process);
    let hundreds = (taken(&config, from + 2_000) - from) as f64 / 100.0;
    let percent = (cpu_s(&process) - before) / hundreds * 100.0;
    println!("processor: {percent:.2} % of one core at 100 samples/s × 20 features, {CPU_PERCENT_MAX} allowed");
    drop(process);

    let (gas, table) = made(dir, "gas-v1.onnx", 128);
    let source = format!("kind = \"csv\"\npath = {table:?}\nrate_hz = 100.0\nloop = true");
    let collector = Collector::start(dir, None, "");
    must(&mut collector.cli(&["models", "add", gas.to_str().expect("a path")]));
    let config = agent_config(dir, "gas", collector.mqtt_port, Some(&gas), &source);
    let process = start(&program, dir, &config);
    taken(&config, 2_500);
    let acknowledged = || status(&config)?["windows"]["acknowledged"].as_u64().filter(|windows| *windows > 0);
    wait_for("windows on their way", acknowledged);
    let model = fs::metadata(root().join("tests/models/gas-v1.onnx")).expect("the model").len();
    let (above, own) = (resident(&process, "VmRSS:").saturating_sub(model), resident(&process, "RssAnon:"));
    let mib = |bytes: u64| bytes as f64 / 1048576.0;
    println!(
        "memory: {:.1} MiB above the gas model, {} allowed; {:.1} of it no code",
        mib(above),
        MEMORY_BYTES_MAX >> 20,
        mib(own)
    );
    drop(process);

    assert!(percent <= CPU_PERCENT_MAX, "{percent}");
    assert!(own <= OWN_MEMORY_BYTES_MAX, "{own} bytes that are no code");
    if device_build.is_none() {
        return;
    }

    let port = free_port();
    let config = agent_config(
        dir,
        "asked",
        free_port(),
        Some(&bundle),
        &format!("kind = \"http\"\nlisten = \"127.0.0.1:{port}\""),
    );
    let values: Vec<f32> = vec![0.1; 20];
    let body = json!({ "inputs": [{ "name": "x", "shape": [1, 20], "datatype": "FP32", "data": values }] });
    let mut starts = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let process = start(&program, dir, &config);
        wait_for_answer(port, &body);
        starts.push(began.elapsed().as_millis());
        drop(process);
    }
    // The first tries the new release in a child.
    println!("start to the first answer: {starts:?} ms, the first with a trial; {START_MS_MAX} allowed");
    starts.remove(0);
    starts.sort_unstable();
    assert!(size <= BINARY_BYTES_MAX, "{size}");
    assert!(starts[starts.len() / 2] <= START_MS_MAX, "{starts:?}");
    assert!(above <= MEMORY_BYTES_MAX, "{above} bytes above the model");
}

/// Asks again and again, without the patience of other waits.
fn wait_for_answer(port: u16, body: &serde_json::Value) {
    wait_for("an answer", || {
        for _ in 0..50 {
            if let Ok(answer) = ureq::post(format!("http://127.0.0.1:{port}/v2/models/m/infer")).send_json(body)
                && answer.status().as_u16() == 200
            {
                return Some(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    });
}
