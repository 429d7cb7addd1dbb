//! Raw samples stay on the device unless its configuration keeps some and somebody asks for them with a reason.

use crate::fleet::{Collector, agent, agent_config, must, pump_bundle, run, status, wait_for};

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
