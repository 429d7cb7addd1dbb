//! What an agent has put on its disk reaches the collector, however often the agent is killed before.

use crate::fleet::{Collector, Process, agent, agent_config, free_port, must, root, wait_for};
use driftline_agent::spool::record;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Windows by stream and number that stand in the spool's segments.
fn on_disk(spool: &Path) -> BTreeMap<(u64, u64), u16> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(spool).into_iter().flatten().flatten() {
        if let Ok((stream, segment)) = record::read(&fs::read(entry.path()).unwrap_or_default()) {
            found.extend(segment.records.into_iter().map(|r| ((stream.0, r.lo), r.windows)));
        }
    }
    found
}

/// How often the agent is killed; the long campaign has a thousand and more.
fn kills() -> u32 {
    std::env::var("DRIFTLINE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

#[test]
fn a_killed_agent_loses_nothing_that_was_on_its_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let onnx = fs::read(root().join("tests/models/pump-v1.onnx")).expect("the model");
    let bundle = dir.join("v1.bundle");
    let made = driftline_tests::pump_bundle::bundle("v1", false, 200, &onnx);
    made.write(&bundle).expect("a folder");
    let port = free_port();
    let source = "kind = \"pumps\"\nseed = 1\nrate_hz = 200.0\n[spool]\ncommit_ms = 100";
    let config = agent_config(dir, "pump-1", port, Some(&bundle), source);
    let spool = dir.join("pump-1").join("spool");

    // Nobody listens; every life adds windows and is ended in the middle of something.
    let mut durable = BTreeMap::new();
    for life in 0..kills() {
        let before = durable.len();
        let process = agent(dir, "pump-1", &config);
        wait_for("another frame on the disk", || (on_disk(&spool).len() > before).then_some(()));
        std::thread::sleep(Duration::from_millis(u64::from(life * 37 % 150)));
        must(std::process::Command::new("kill").args(["-9", &process.id().to_string()]));
        drop(process);
        let now = on_disk(&spool);
        for record in &durable {
            assert_eq!(now.get(record.0), Some(record.1), "it was there before");
        }
        durable = now;
    }
    let windows: u64 = durable.values().map(|&n| u64::from(n)).sum();

    // A torn end, a file of somebody else, and one of a later version stop nothing.
    let segment = fs::read_dir(&spool)
        .expect("the spool")
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "seg"));
    let segment = segment.expect("a segment");
    let mut torn = fs::read(&segment).expect("its bytes");
    let whole = torn.clone();
    torn.extend(&whole[record::HEAD_BYTES..record::HEAD_BYTES + 50]);
    fs::write(&segment, torn).expect("a torn end");
    fs::write(spool.join("readme"), "not yours").expect("a file");
    let mut newer = whole;
    newer[7] = b'7';
    fs::write(spool.join("00000000000000aa-000000.seg"), newer).expect("a file");

    let collector = Collector::start_with(dir, None, "", "");
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let config = fs::read_to_string(&config)
        .expect("the config")
        .replace(&format!("port = {port}"), &format!("port = {}", collector.mqtt_port));
    let path = dir.join("pump-1.toml");
    fs::write(&path, config).expect("the config");
    let process: Process = agent(dir, "pump-1", &path);
    wait_for("everything of the earlier lives", || {
        let left = on_disk(&spool).into_keys().filter(|key| durable.contains_key(key)).count();
        let said = process.said();
        assert!(!said.contains("panicked"), "{said}");
        (left == 0).then_some(())
    });
    process.terminate();
    let health = collector.get("health");
    assert!(health["windows"].as_u64() >= Some(windows), "{health} for {windows}");
    assert_eq!(health["refused"].as_object().map(serde_json::Map::len), Some(0), "{health}");
    let said = process.said();
    assert!(said.contains("windows of earlier starts wait in the spool"), "{said}");
    assert!(said.contains("later version") && said.contains("readme is no part of this spool"), "{said}");
}
