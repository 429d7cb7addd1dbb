//! Raw samples stay on the device unless its configuration keeps some and somebody asks for them with a reason.

use crate::fleet::{Collector, agent, agent_config, baseline, must, pump_bundle, run, status, wait_for};
use crate::samples::{picture, vibration};
use driftline_shared::random::Random;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const SOURCE: &str = "kind = \"pumps\"\nseed = 1\nrate_hz = 100.0";

#[test]
fn samples_are_given_out_when_asked_for_and_every_request_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let release = pump_bundle(dir, 1_000);
    let collector = Collector::start(dir, None, "");
    let open = format!("{SOURCE}\n[evidence]\nsamples = 500\nper_day = 80");
    let config_kept = agent_config(dir, "pump-1", collector.mqtt_port, Some(&release), &open);
    let mut keeps = agent(dir, "pump-1", &config_kept);
    keeps.after("connected to 127.0.0.1:");
    let config = agent_config(dir, "pump-2", collector.mqtt_port, Some(&release), SOURCE);
    let mut closed = agent(dir, "pump-2", &config);
    closed.after("connected to 127.0.0.1:");
    must(&mut collector.cli(&["models", "add", release.to_str().expect("a path")]));
    wait_for("windows", || (collector.get("health")["windows"].as_u64() > Some(3)).then_some(()));
    wait_for("kept samples", || (status(&config_kept)?["evidence"]["kept"].as_u64() >= Some(100)).then_some(()));

    let ask = |device: &str, samples: &str, more: &[&str]| {
        let args = ["evidence", "ask", device, "--samples", samples, "--reason", "wear looks odd", "--wait", "60"];
        run(&mut collector.cli(&[&args[..], more].concat()))
    };
    let (code, table, error) = ask("pump-1", "70", &[]);
    assert_eq!(code, 0, "{error}");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 71, "{table}");
    assert_eq!(lines[0], "time_ms,id,temp_c,vibration_rms,current_a,rpm,humidity,healthy,worn,faulty");
    let row: Vec<f64> =
        lines[1].split(',').enumerate().filter(|(i, _)| *i != 1).map(|(_, c)| c.parse().expect(c)).collect();
    assert!((row[6..].iter().sum::<f64>() - 1.0).abs() < 1e-3, "the scores of a sample: {row:?}");
    assert!((20.0..120.0).contains(&row[1]), "a temperature: {row:?}");
    keeps.after("70 raw samples leave the device");

    // The day allows ten more, and then none.
    let (code, table, _) = ask("pump-1", "70", &[]);
    assert_eq!((code, table.lines().count()), (0, 11));
    let (code, _, error) = ask("pump-1", "5", &[]);
    assert!(code == 1 && error.contains("evidence.per_day"), "{error}");
    // Nor does a restart begin a day in which nothing was given yet.
    keeps.terminate();
    assert!(keeps.wait().success());
    let mut keeps = agent(dir, "pump-1", &config_kept);
    keeps.after("connected to 127.0.0.1:");
    let (code, _, error) = ask("pump-1", "5", &[]);
    assert!(code == 1 && error.contains("evidence.per_day"), "{error}");
    let (code, _, error) = ask("pump-2", "5", &[]);
    assert!(code == 1 && error.contains("keeps no samples"), "{error}");
    let (code, _, error) = ask("nobody", "5", &[]);
    assert!(code == 5 && error.contains("There is no device nobody"), "{error}");
    let (code, _, error) = run(&mut collector.cli(&["evidence", "ask", "pump-1", "--reason", " "]));
    assert!(code == 1 && error.contains("needs a reason"), "{error}");

    // What was asked, why, and what came is there for whoever looks later, also after a restart.
    drop(collector);
    let collector = Collector::start(dir, None, "");
    let list = collector.get("evidence");
    let states: Vec<&str> =
        list["items"].as_array().into_iter().flatten().filter_map(|r| r["state"].as_str()).collect();
    assert_eq!(states, ["refused", "refused", "refused", "complete", "complete"], "{list}");
    assert!(list.to_string().contains("wear looks odd"));
}

/// The files of an answer to a request for so many samples of a device that keeps 20 of them.
fn files(dir: &Path, collector: &Collector, device: &str, samples: &str, config: &Path) -> Vec<PathBuf> {
    wait_for("kept samples", || (status(config)?["evidence"]["kept"].as_u64() == Some(20)).then_some(()));
    wait_for("the device", || collector.get("devices").to_string().contains(device).then_some(()));
    let args = ["evidence", "ask", device, "--samples", samples, "--reason", "what does it see?", "--wait", "60"];
    must(&mut collector.cli(&args));
    let id = collector.get("evidence")["items"][0]["id"].to_string();
    let folder = dir.join(device).join("files");
    must(&mut collector.cli(&["evidence", "show", &id, "--files", folder.to_str().expect("a path")]));
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path()).collect()
}

#[test]
fn images_and_stretches_of_signals_leave_as_the_model_took_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let collector = Collector::start(dir, None, "");
    let open = "[evidence]\nsamples = 20";

    let camera = dir.join("camera");
    fs::create_dir(&camera).expect("a folder");
    let mut random = Random::new(1);
    (0..100).for_each(|at| picture(&camera.join(format!("{at:04}.png")), &mut random, 120.0));
    fs::create_dir(dir.join("corpus")).expect("a folder");
    let more = ["--window", "1s", "--window-samples", "20", "--name"];
    let bundle = baseline(dir, "corpus/nn-camera.onnx", &camera, &[&more[..], &["camera"]].concat());
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let source = format!("kind = \"images\"\npath = {camera:?}\n{open}");
    let config = agent_config(dir, "camera-1", collector.mqtt_port, Some(&bundle), &source);
    let _camera = agent(dir, "camera-1", &config);
    let pixels = |path: &PathBuf| image::open(path).expect("an image").to_luma8().into_raw();
    let given = files(dir, &collector, "camera-1", "7", &config);
    let given: BTreeSet<Vec<u8>> = given.iter().map(pixels).collect();
    let seen: BTreeSet<Vec<u8>> = (0..100).map(|at| pixels(&camera.join(format!("{at:04}.png")))).collect();
    assert_eq!(given.len(), 7);
    assert!(given.is_subset(&seen), "pixel by pixel what was in the folder");

    let table = dir.join("live.csv");
    vibration(&table, 20_000, 1.0);
    let hop = ["--signal-hop", "64", "--name", "bearing"];
    let bundle = baseline(dir, "corpus/nn-cnn1d-1x128.onnx", &table, &hop);
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let source = format!("kind = \"csv\"\npath = {table:?}\nrate_hz = 2000.0\nloop = true\n{open}");
    let config = agent_config(dir, "press-1", collector.mqtt_port, Some(&bundle), &source);
    let _press = agent(dir, "press-1", &config);
    let readings = |path: &Path| -> Vec<f32> {
        let text = fs::read_to_string(path).expect("a table");
        assert_eq!(text.lines().next(), Some("accel"));
        text.lines().skip(1).map(|line| line.parse().expect("a number")).collect()
    };
    let played = readings(&table);
    let given = files(dir, &collector, "press-1", "3", &config);
    assert_eq!(given.len(), 3);
    for path in given {
        let stretch = readings(&path);
        assert_eq!(stretch.len(), 128);
        assert!(played.windows(128).any(|window| window == stretch), "{} was not played", path.display());
    }
    let (code, _, error) = run(&mut collector.cli(&["evidence", "show", "1", "--files", "out"]));
    assert!(code != 0 && !error.is_empty(), "{error}");
}
