//! The ways through the whole system, with real processes: own broker, Mosquitto, the demo.

use crate::fleet::{Collector, Process, agent, agent_config, baseline, binary, mosquitto, must, run, wait_for};
use driftline_agent::bundle::Bundle;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bundles of both pump models: v1 for sound sensors, v2 for those that read high, from what agents record.
fn pump_bundles(dir: &Path) -> [PathBuf; 2] {
    let config = agent_config(dir, "recorder-1", 1, None, "kind = \"pumps\"\nseed = 4711");
    let record = |fault: bool| {
        let mut command = Command::new(binary("driftline-agent"));
        command.args(["record", "--rows", "8000", "--config"]).arg(&config).args(fault.then_some("--fault"));
        must(&mut command)
    };
    let sound = record(false);
    let faulty = record(true);
    let (header, _) = faulty.split_once('\n').expect("a header");
    // The fault is in the second half.
    let high: Vec<&str> = faulty.lines().skip(4001).collect();
    let (v1, v2) = (dir.join("sound.csv"), dir.join("high.csv"));
    fs::write(&v1, sound).expect("a file");
    fs::write(&v2, format!("{header}\n{}\n", high.join("\n"))).expect("a file");
    let more = ["--window", "1s", "--window-samples", "50"];
    [baseline(dir, "pump-v1.onnx", &v1, &more), baseline(dir, "pump-v2.onnx", &v2, &more)]
}

const QUICK_ROLLOUT: &str = "[rollout]\nsoak = \"4s\"\ntimeout = \"60s\"\n";

/// Separate processes play the whole story; only what the command line prints is read.
fn story(dir: &Path, external: Option<u16>) {
    let bundles = pump_bundles(dir);
    let collector = Collector::start(dir, external, QUICK_ROLLOUT);
    let say = |args: &[&str]| must(&mut collector.cli(args));
    let bundle = |i: usize| bundles[i].to_str().expect("a path").to_owned();
    assert!(say(&["models", "add", &bundle(0)]).starts_with("pump v1 was added"));
    let agents: Vec<Process> = (1..=6)
        .map(|n| {
            let device = format!("pump-{n}");
            let fault = if n <= 3 { "\nfault_after = \"20s\"" } else { "" };
            let source = format!("kind = \"pumps\"\nseed = {n}\nrate_hz = 50.0{fault}");
            let config = agent_config(dir, &device, collector.mqtt_port, Some(&bundles[0]), &source);
            agent(dir, &device, &config)
        })
        .collect();
    wait_for("a healthy fleet", || {
        let status = say(&["status"]);
        (status.starts_with("Everything looks normal.\n6 of 6 devices")).then_some(())
    });
    assert_eq!(say(&["incidents", "list"]), "");

    let incident = wait_for("an incident", || say(&["incidents", "list"]).lines().next().map(str::to_owned));
    assert!(incident.starts_with("INC-1\topen\ttemp_c moved up by about "), "{incident}");
    assert!(incident.contains(" at busan"), "{incident}");
    let (code, _, _) = run(&mut collector.cli(&["incidents", "list", "--fail-on-open"]));
    assert_eq!(code, 3);
    let shown = say(&["incidents", "show", "1"]);
    assert!(shown.contains("Where: 3 of 3 devices at busan. No other site is affected."), "{shown}");
    assert!(shown.contains("How sure are we: Very sure."), "{shown}");

    assert!(say(&["models", "add", &bundle(1)]).starts_with("pump v2 was added"));
    let create = ["rollouts", "create", "--model", "pump@v2", "--incident", "INC-1"];
    let (code, _, error) = run(&mut collector.cli(&create));
    assert_eq!(code, 2, "nobody confirmed it: {error}");
    assert!(error.contains("3 devices get pump v2 for INC-1") && error.contains("--yes"), "{error}");
    let (code, _, _) = run(collector.cli(&create).args(["--yes", "--expect-devices", "4"]));
    assert_eq!(code, 6);
    assert_eq!(must(collector.cli(&create).args(["--yes", "--expect-devices", "3"])), "rollout 1 has started\n");
    let (code, watched, error) = run(&mut collector.cli(&["rollouts", "watch", "1", "--timeout", "2min"]));
    assert_eq!(code, 0, "{watched}{error}");
    assert!(error.contains("Stage 1 of 3 is installed on 1 of 1 devices"), "{error}");
    assert!(watched.contains("Done. 3 of 3 devices have the new model."), "{watched}");
    let resolved =
        wait_for("the end", || Some(say(&["incidents", "list"])).filter(|l| l.starts_with("INC-1\tresolved")));
    assert_eq!(resolved.lines().count(), 1, "one incident, and no other: {resolved}");

    let devices: Value = serde_json::from_str(&say(&["devices", "list", "--json"])).expect("JSON");
    let releases = devices["items"].as_array().expect("items").iter().map(|d| d["release"].as_str().unwrap_or("?"));
    assert_eq!(releases.collect::<Vec<_>>(), ["v2", "v2", "v2", "v1", "v1", "v1"]);
    for mut process in agents {
        process.terminate();
        assert!(process.wait().success());
        let account = process.said();
        let last = account.lines().last().unwrap_or_default();
        assert!(last.contains(" refused; ") && last.ends_with("0 evicted, 0 not delivered"), "{last}");
    }
    let health = collector.get("health");
    assert_eq!(health["frames_lost"], 0);
    assert_eq!(health["refused"], serde_json::json!({}), "nothing was refused");
}

#[test]
fn separate_processes_with_the_own_broker() {
    let dir = tempfile::tempdir().expect("a folder");
    story(dir.path(), None);
}

#[test]
fn separate_processes_with_mosquitto() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_mosquitto, port) = mosquitto(dir.path());
    story(dir.path(), Some(port));
}

#[test]
fn the_demo_plays_by_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut demo = Process::start(
        dir.path(),
        "demo",
        Command::new(binary("driftline")).args(["demo", "--auto", "--once", "--listen", "127.0.0.1:0"]),
    );
    demo.after("Dashboard: http://127.0.0.1:");
    demo.after("INC-1 Resolved: temp_c moved up by about ");
    assert!(demo.wait().success());
    let told = demo.said();
    for sentence in
        ["Everything looks normal.", "10 of 10 devices at busan", "Stage 3 of 3 is installed", "Done. 10 of 10 devices"]
    {
        assert!(told.contains(sentence), "{sentence} is missing in {told}");
    }
    assert!(!told.contains("INC-2"), "{told}");
}

#[test]
fn a_model_that_is_not_what_its_bundle_says_never_answers() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let bundles = pump_bundles(dir);
    let good = Bundle::read(&bundles[1]).expect("a bundle");
    // The golden rows of v2 with the model of v1 in its place, under a manifest that is sound.
    let (v1, manifest) = (Bundle::read(&bundles[0]).expect("a bundle"), good.manifest());
    let wrong = Bundle::create(
        &manifest.model,
        &manifest.release,
        v1.model().to_vec(),
        good.baseline(),
        good.schema(),
        good.golden(),
        None,
    );
    let path = dir.join("wrong.bundle");
    wrong.expect("a bundle").write(&path).expect("a folder");
    let collector = Collector::start(dir, None, QUICK_ROLLOUT);
    for bundle in [&bundles[0], &path] {
        must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    }
    let source = "kind = \"pumps\"\nrate_hz = 50.0";
    let config = agent_config(dir, "pump-1", collector.mqtt_port, Some(&bundles[0]), source);
    let device = agent(dir, "pump-1", &config);
    wait_for("the device", || must(&mut collector.cli(&["devices", "list"])).contains("pump v1").then_some(()));
    must(&mut collector.cli(&["rollouts", "create", "--model", "pump@v2", "--all", "--yes"]));
    let (code, watched, _) = run(&mut collector.cli(&["rollouts", "watch", "1", "--timeout", "1min"]));
    assert_eq!(code, 3, "{watched}");
    assert!(watched.contains("Stopped by itself in stage 1 of 1: 1 of 1 devices failed"), "{watched}");
    assert!(watched.contains("golden"), "the reason is shown: {watched}");
    assert!(must(&mut collector.cli(&["devices", "list"])).contains("pump v1"));
    let (code, _, error) = run(&mut collector.cli(&["rollouts", "abort", "1"]));
    assert_eq!(code, 2, "nobody confirmed it: {error}");
    must(&mut collector.cli(&["rollouts", "abort", "1", "--yes"]));
    wait_for("the end", || must(&mut collector.cli(&["rollouts", "list"])).contains("\taborted\t").then_some(()));
    assert!(device.said().contains("is refused: "), "{}", device.said());
}

#[test]
fn a_token_is_asked_for_everywhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let token = dir.path().join("token");
    fs::write(&token, "s3cret\n").expect("a file");
    // A key of the top level, so before any section.
    let collector = Collector::start_with(dir.path(), None, &format!("token_file = {token:?}\n"), "");
    let (code, _, error) = run(&mut collector.cli(&["status"]));
    assert_eq!(code, 4, "{error}");
    assert!(error.contains("needs the server's token") && error.contains("--token-file"), "{error}");
    let with = ["--token-file", token.to_str().expect("a path")];
    assert!(must(collector.cli(&with).arg("status")).starts_with("Nothing to watch yet."));
    // The live channel, too: there is no such rollout, and that answer comes only after the token.
    let (code, _, error) = run(collector.cli(&with).args(["rollouts", "watch", "1"]));
    assert_eq!(code, 5, "{error}");
    let (code, _, error) = run(&mut collector.cli(&["rollouts", "watch", "1"]));
    assert_eq!(code, 7, "the socket is closed: {error}");
    assert!(!error.contains("s3cret"));
}
