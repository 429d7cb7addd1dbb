//! Bad files, rows, models and configurations: one clear sentence each, counted, and nothing else is lost.

use crate::fleet::{Collector, agent, agent_config, binary, pump_bundle, root, run, status, wait_for};
use driftline_agent::bundle::Bundle;
use std::fs;
use std::path::Path;
use std::process::Command;

/// An error that a person can act on: the right exit code, one line that holds every one of `words`, no panic.
pub fn complains(command: &mut Command, code: i32, words: &[&str]) {
    let (found, _, error) = run(command);
    assert_eq!(found, code, "{command:?}: {error}");
    let lines: Vec<&str> = error.lines().filter(|l| !l.is_empty() && !l.starts_with("  try:")).collect();
    assert_eq!(lines.len(), 1, "one sentence: {error}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is missing in {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

pub fn create(model: &Path, data: &Path) -> Command {
    let mut command = Command::new(binary("driftline"));
    command.args(["baselines", "create", "--model"]).arg(model).arg("--data").arg(data);
    command.arg("--out").arg(data.with_extension("bundle"));
    command
}

pub fn table(rows: usize) -> String {
    let row =
        |i: usize| format!("{},{},{},{},{},healthy\n", 60 + i % 7, 1.5 + (i % 5) as f64 / 10.0, 12, 1480 + i % 11, 45);
    std::iter::once("temp_c,vibration_rms,current_a,rpm,humidity,wear\n".to_owned()).chain((0..rows).map(row)).collect()
}

#[test]
fn broken_models_are_refused_when_a_baseline_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("rows.csv");
    fs::write(&data, table(300)).expect("a file");
    for (model, words) in [
        ("empty.onnx", "empty"),
        ("not-onnx.onnx", "ONNX"),
        ("truncated.onnx", "ONNX"),
        ("unsupported-op.onnx", "operator"),
        ("wrong-shape.onnx", "takes 7 inputs"),
        ("nan-weights.onnx", "no finite number"),
    ] {
        let path = root().join("tests/models/bad").join(model);
        complains(create(&path, &data).args(["--exclude", "wear"]), 1, &[model, words]);
    }
}

#[test]
fn a_bundle_with_a_broken_model_does_not_start_an_agent() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = driftline_tests::pump_bundle::bundle("v1", false, 1_000, b"");
    for model in ["empty.onnx", "not-onnx.onnx", "truncated.onnx", "unsupported-op.onnx"] {
        let onnx = fs::read(root().join("tests/models/bad").join(model)).expect("a file");
        let manifest = good.manifest();
        let bundle = Bundle::create(
            &manifest.model,
            &manifest.release,
            onnx,
            good.baseline(),
            good.schema(),
            good.golden(),
            None,
        );
        let path = dir.path().join(model);
        bundle.expect("a bundle").write(&path).expect("a folder");
        let config = agent_config(dir.path(), "pump-1", 1, Some(&path), "kind = \"pumps\"");
        let mut command = Command::new(binary("driftline-agent"));
        complains(command.args(["run", "--config"]).arg(config), 2, &["the configured bundle cannot be used"]);
    }
}

#[test]
fn bad_rows_are_counted_by_the_agent_and_the_others_arrive() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let bundle = pump_bundle(dir, 1_000);
    let collector = Collector::start(dir, None, "");
    crate::fleet::must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let good = "61,1.8,12,1480,45,healthy";
    let mut rows = vec![good; 50];
    rows.extend([
        "61,1.8,12,1480",                // too few columns
        "61,1.8,12,1480,45,healthy,1,2", // too many
        "61,loud,12,1480,45,healthy",    // text where a number belongs
        "NaN,1.8,12,1480,45,healthy",    // missing, part of a sample
        ",1.8,12,1480,45,healthy",       // the same, as an empty cell
        "inf,1.8,12,1480,45,healthy",    // broken, part of a sample
        "61,-inf,12,1480,45,healthy",
    ]);
    let file = dir.join("rows.csv");
    fs::write(&file, format!("temp_c,vibration_rms,current_a,rpm,humidity,wear\n{}\n", rows.join("\n")))
        .expect("a file");
    let config =
        agent_config(dir, "pump-1", collector.mqtt_port, Some(&bundle), &format!("kind = \"csv\"\npath = {file:?}"));
    let mut process = agent(dir, "pump-1", &config);
    assert!(process.wait().success());
    let said = process.said();
    let report = said.lines().last().expect("a report");
    assert!(report.starts_with("57 samples taken: 54 in windows, 3 refused;"), "{said}");
    assert!(report.ends_with("0 evicted, 0 not delivered"), "{said}");
    assert!(said.contains("line 52") && said.contains("columns"), "the first bad row is named: {said}");
    // One of sketches, and the embedding of the same samples.
    assert_eq!(collector.get("health")["windows"], 2);
    // A sample that the model cannot answer has no verdict to count; the other 50 have.
    assert!(collector.get("models")["items"][0]["labelled"].as_u64() >= Some(50));

    let empty = dir.join("empty.csv");
    fs::write(&empty, "").expect("a file");
    let config =
        agent_config(dir, "pump-2", collector.mqtt_port, Some(&bundle), &format!("kind = \"csv\"\npath = {empty:?}"));
    let mut process = agent(dir, "pump-2", &config);
    assert_eq!(process.wait().code(), Some(1));
    let said = process.said();
    assert!(said.lines().last().is_some_and(|l| l.contains("empty.csv is empty")), "{said}");
}

/// A broker that tells each connection another lie, over and over.
fn liar() -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        // MQTT 5: CONNACK without properties, then something that cannot be.
        let welcome = [0x20u8, 3, 0, 0, 0];
        let claims_a_quarter_gigabyte = [&welcome[..], &[0x30, 0xff, 0xff, 0xff, 0x7f]].concat();
        let never_ends = [&welcome[..], &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff]].concat();
        let no_such_packet = [&welcome[..], &[0x00, 0x00, 0xf0, 0x02, 1, 2]].concat();
        let acknowledges_what_was_never_sent =
            [&welcome[..], &[0x40, 2, 0xff, 0xfe, 0x90, 4, 0xff, 0xfd, 0, 0]].concat();
        let lies = [
            claims_a_quarter_gigabyte,
            never_ends,
            no_such_packet,
            acknowledges_what_was_never_sent,
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            vec![0xff; 100_000],
            Vec::new(),
        ];
        for (at, connection) in listener.incoming().enumerate() {
            let Ok(mut connection) = connection else { continue };
            let mut hello = [0; 1024];
            let _ = connection.read(&mut hello);
            let _ = connection.write_all(&lies[at % lies.len()]);
            // Until the other side has had enough of it, or says nothing more.
            let _ = connection.set_read_timeout(Some(std::time::Duration::from_millis(200)));
            while connection.read(&mut hello).is_ok_and(|n| n > 0) {}
        }
    });
    port
}

#[test]
fn a_broker_that_lies_costs_no_sample_and_no_memory() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let bundle = pump_bundle(dir, 1_000);
    let config = agent_config(dir, "pump-1", liar(), Some(&bundle), "kind = \"pumps\"\nrate_hz = 200.0");
    let mut process = agent(dir, "pump-1", &config);
    // Its backoff grows, so that not every lie is heard; the first ones are.
    process.after("not connected; trying again");
    let enough = |s: &serde_json::Value| s["samples"]["in_windows"].as_u64() > Some(3_000);
    let status = wait_for("samples", || status(&config).filter(enough));
    assert_eq!(status["samples"]["refused"], 0, "{status}");
    assert_eq!(status["windows"]["evicted"], 0, "{status}");
    let resident = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("its account");
    let peak = resident.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a line");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 120_000, "{peak} kB at most: what a broker claims is not set aside");
    process.terminate();
    assert!(process.wait().success(), "{}", process.said());
    assert!(!process.said().contains("panicked"), "{}", process.said());
}

#[test]
fn state_of_a_later_version_is_kept_and_the_configured_bundle_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let bundle = pump_bundle(dir, 1_000);
    let rows = dir.join("rows.csv");
    fs::write(&rows, table(30)).expect("a file");
    let config = agent_config(dir, "pump-1", 1, Some(&bundle), &format!("kind = \"csv\"\npath = {rows:?}"));
    for (text, words) in [
        ("{\"format\": 9, \"releases\": []}", "has format 9, this agent reads 1: it is kept as "),
        ("{\"format\": 1, \"starts\":", "is damaged ("),
    ] {
        fs::create_dir_all(dir.join("pump-1")).expect("a folder");
        fs::write(dir.join("pump-1/slots.json"), text).expect("a file");
        let mut process = agent(dir, "pump-1", &config);
        process.after(words);
        wait_for("it to be counted", || {
            (status(&config)?["troubles"]["state_files_not_understood"] == 1).then_some(())
        });
        process.terminate();
        assert!(process.wait().success());
        assert!(process.said().contains("30 samples taken: 30 in windows"), "{}", process.said());
    }
    assert!(fs::read_to_string(dir.join("pump-1/slots.later.json")).expect("the file").contains("\"format\": 9"));
}

#[test]
fn json_lines_on_standard_input_are_samples_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let bundle = pump_bundle(dir, 1_000);
    let collector = Collector::start(dir, None, "");
    crate::fleet::must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let lines = [
        r#"{"temp_c": 61, "vibration_rms": 1.8, "current_a": 12, "rpm": 1480, "humidity": 45, "wear": "healthy"}"#,
        r#"{"humidity": 45, "rpm": 1480, "current_a": 12, "vibration_rms": 1.8, "temp_c": 61.5, "extra": [1, 2]}"#,
        r#"{"temp_c": null, "vibration_rms": 1.8, "current_a": 12, "rpm": 1480, "humidity": 45}"#,
        r#"{"temp_c": "hot", "vibration_rms": 1.8, "current_a": 12, "rpm": 1480, "humidity": 45}"#,
        r#"{"temp_c": 61, "vibration"#,
        "[1, 2, 3]",
    ];
    let input = dir.join("lines");
    fs::write(&input, lines.join("\n")).expect("a file");
    let config = agent_config(dir, "pump-1", collector.mqtt_port, Some(&bundle), "kind = \"stdin\"");
    let mut command = Command::new(binary("driftline-agent"));
    command.args(["run", "--config"]).arg(config).stdin(fs::File::open(&input).expect("a file"));
    let out = command.output().expect("an agent");
    let (said, complaints) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{complaints}");
    assert!(said.starts_with("6 samples taken: 3 in windows, 3 refused;"), "{said}{complaints}");
    assert!(complaints.contains("line 4") && complaints.contains("\"hot\""), "{complaints}");
}

#[test]
fn agent_configurations_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = fs::read_to_string(agent_config(dir.path(), "pump-1", 1883, None, "kind = \"pumps\"")).expect("a file");
    let check = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        let mut command = Command::new(binary("driftline-agent"));
        command.args(["check-config", "--config"]).arg(path);
        command
    };
    let (code, resolved, _) = run(&mut check("good.toml", &good));
    assert_eq!(code, 0);
    let (code, again, error) = run(&mut check("resolved.toml", &resolved));
    assert_eq!((code, again), (0, resolved), "what it prints is a configuration of the same meaning: {error}");
    for (from, to, words) in [
        ("[trial]", "[trail]", &["c.toml line 10", "unknown field `trail`", "correct its spelling"][..]),
        ("kind = \"pumps\"", "kind = \"pump\"", &["source.kind is \"pump\"", "\"csv\""]),
        ("kind = \"pumps\"", "kind = \"pumps\"\nrate_hz = -1.0", &["source.rate_hz is -1", "above 0"]),
        ("kind = \"pumps\"", "kind = \"pumps\"\nrate_hz = nan", &["source.rate_hz is NaN"]),
        ("samples = 30", "samples = 0", &["trial.samples is 0", "from 1"]),
        ("device = \"pump-1\"", "device = \"pump 1\"", &["agent.device", "pump 1"]),
        ("port = 1883", "port = 0", &["mqtt.port is 0", "1 to 65535"]),
        ("port = 1883", "port = 99999", &["line 8"]),
        ("keep_alive = \"5s\"", "keep_alive = \"soon\"", &["mqtt.keep_alive", "soon"]),
        ("device = ", "", &["missing field `device`", "add the key"]),
    ] {
        let text = good.replacen(from, to, 1);
        let text = if to.is_empty() {
            good.lines().filter(|l| !l.starts_with(from)).collect::<Vec<_>>().join("\n")
        } else {
            text
        };
        complains(&mut check("c.toml", &text), 2, words);
    }
    complains(
        Command::new(binary("driftline-agent")).args(["run", "--config", "/nowhere.toml"]),
        2,
        &["/nowhere.toml", "cannot be read"],
    );
}

#[test]
fn the_examples_in_firmware_configs_are_sound() {
    let folder = root().join("firmware-configs");
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let Some("toml") = path.extension().and_then(|e| e.to_str()) else { continue };
        let text = fs::read_to_string(&path).expect("a file");
        let name = path.display().to_string();
        if name.ends_with("collector.toml") {
            let config = driftline_collector::config::Config::parse(&name, &text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(
                config.settings.rollout,
                driftline_collector::rollout::plan::Policy::default(),
                "it shows the defaults"
            );
        } else {
            let config = driftline_agent::config::Config::parse(&text, &name).unwrap_or_else(|e| panic!("{e}"));
            let golden = root().join("tests/golden/config").join(path.file_name().expect("a name"));
            if std::env::var_os("DRIFTLINE_BLESS").is_some() {
                fs::create_dir_all(golden.parent().expect("a folder")).expect("a folder");
                fs::write(&golden, config.resolved()).expect("a file");
            }
            let known = fs::read_to_string(&golden).expect("what it means with every default filled in");
            assert_eq!(config.resolved(), known, "{name}");
            let again = driftline_agent::config::Config::parse(&known, "resolved").unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(again, config, "the resolved form says the same");
        }
    }
}

#[test]
fn collector_configurations_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.toml");
    for (text, words) in [
        ("fleet = \"f\"\nlisen = \"x\"", &["line 2", "unknown field `lisen`"][..]),
        ("fleet = \"my fleet\"", &["fleet is my fleet", "A-Z"]),
        ("false_alarms_per_month = -1.0", &["false_alarms_per_month is -1", "above 0"]),
        ("listen = \"0.0.0.0:8600\"", &["listen", "token_file"]),
        ("[rollout]\nstages = [50, 10, 100]", &["ascending"]),
    ] {
        fs::write(&path, text).expect("a file");
        complains(Command::new(binary("driftline")).args(["serve", "--config"]).arg(&path), 1, words);
    }
    complains(
        Command::new(binary("driftline")).args(["--url", "http://127.0.0.1:9", "status"]),
        7,
        &["no collector answers"],
    );
}

#[test]
fn bytes_that_are_no_bundle_are_refused_and_a_release_never_changes() {
    let dir = tempfile::tempdir().expect("a folder");
    let collector = Collector::start(dir.path(), None, "");
    complains(&mut collector.cli(&["models", "add", dir.path().to_str().expect("a path")]), 1, &["manifest.json"]);
    let url = format!("{}/api/v1/models", collector.url);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent
        .post(&url)
        .header("Content-Type", "application/octet-stream")
        .send(&b"DLB1 rubbish"[..])
        .expect("an answer");
    assert_eq!(answer.status(), 400);
    let body: serde_json::Value = answer.body_mut().read_json().expect("JSON");
    assert!(body["error"]["message"].as_str().is_some_and(|m| m.starts_with("The bundle was not added: ")), "{body}");
    for (n, onnx) in [b"one", b"two"].iter().enumerate() {
        let bundle = driftline_tests::pump_bundle::bundle("v1", false, 1_000, *onnx);
        let answer =
            agent.post(&url).header("Content-Type", "application/octet-stream").send(bundle.pack()).expect("an answer");
        assert_eq!(answer.status(), [201, 409][n]);
    }
    // A page of another site, and a plain form.
    let foreign =
        agent.post(&url).header("Origin", "http://evil.example").header("Content-Type", "application/octet-stream");
    assert_eq!(foreign.send(&b"x"[..]).expect("an answer").status(), 403);
    assert_eq!(agent.get(&url).header("Host", "evil.example").call().expect("an answer").status(), 403);
}

#[test]
fn comparing_what_is_no_table_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let (good, empty) = (file("good.csv", "t\n1\n"), file("empty.csv", ""));
    let compare = |reference: &Path, current: &Path| {
        let mut command = Command::new(binary("driftline"));
        command.arg("compare").arg("--reference").arg(reference).arg("--current").arg(current);
        command
    };
    complains(&mut compare(&empty, &good), 1, &["empty.csv is empty"]);
    complains(&mut compare(&good, &empty), 1, &["empty.csv is empty"]);
    complains(&mut compare(&good, dir.path()), 1, &["is a folder; give a file"]);
    complains(&mut compare(&dir.path().join("no.csv"), &good), 1, &["no.csv cannot be read"]);
    complains(Command::new(binary("driftline")).arg("compare").arg(dir.path()), 1, &["is a folder; give a file"]);
}

#[test]
fn plans_without_a_model_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let plan = |args: &[&str]| {
        let mut command = Command::new(binary("driftline"));
        command.current_dir(dir.path()).args(["plan", "--url", "http://127.0.0.1:1"]).args(args);
        command
    };
    complains(&mut plan(&["--model", "clean.bundl"]), 7, &["clean.bundl is no bundle: no such folder", "no collector"]);
    let (code, _, error) = run(&mut plan(&["--model", "."]));
    assert_eq!(code, 1);
    assert_eq!(error.matches("No such file or directory").count(), 1, "{error}");
    for (option, value, wanted) in [
        ("--devices", "0", "give a whole number from 1 to 100000"),
        ("--devices", "100001", "give a whole number from 1 to 100000"),
        ("--false-alarms-per-month", "nan", "give a finite number above 0"),
        ("--false-alarms-per-month", "0", "give a finite number above 0"),
    ] {
        let (code, _, error) = run(&mut plan(&["--model", "pump", &format!("{option}={value}")]));
        assert_eq!(code, 2);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_plan_of_the_collectors_model_is_for_the_fleet_that_was_asked_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let onnx = fs::read(root().join("tests/models/pump-v1.onnx")).expect("the model");
    let bundle = dir.path().join("v1.bundle");
    driftline_tests::pump_bundle::bundle("v1", false, 1_000, &onnx).write(&bundle).expect("a folder");
    let collector = Collector::start(dir.path(), None, "");
    let path = bundle.to_str().expect("a path");
    crate::fleet::must(&mut collector.cli(&["models", "add", path]));
    let model = driftline_tests::pump_bundle::bundle("v1", false, 1_000, &onnx).manifest().model.to_string();
    let items = |args: &[&str]| {
        let text = crate::fleet::must(&mut collector.cli(&[&["plan", "--json", "--model"], args].concat()));
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["items"].clone()
    };
    let asked = ["--devices", "5000", "--false-alarms-per-month", "0.01"];
    let (own, other) = (items(&[&model]), items(&[&[model.as_str()], &asked[..]].concat()));
    assert_ne!(own, other, "more devices and fewer false alarms show less");
    assert_eq!(other, items(&[&[path], &asked[..]].concat()), "the same from the bundle itself");
    let answer = collector.get(&format!("plan?model={model}&devices=5000&false_alarms_per_month=0.01"));
    assert_eq!((&answer["devices"], &answer["false_alarms_per_month"]), (&5000.into(), &0.01.into()));
    for bad in ["devices=0", "devices=many", "devices=100001", "false_alarms_per_month=nan", "false_alarms_per_month=0"]
    {
        let url = format!("{}/api/v1/plan?model={model}&{bad}", collector.url);
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(url).call().expect("an answer");
        assert_eq!(answer.status().as_u16(), 400, "{bad}");
        let error: serde_json::Value = answer.body_mut().read_json().expect("JSON");
        let name = bad.split('=').next().expect("a name");
        assert!(error["error"]["message"].as_str().is_some_and(|m| m.starts_with(name)), "{error}");
    }
}
