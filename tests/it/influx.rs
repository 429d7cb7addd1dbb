//! The InfluxDB export against a real server of the v2 write API: Debian's VictoriaMetrics.

use crate::fleet::{Collector, Process, agent, agent_config, free_port, must, pump_bundle, wait_for};
use serde_json::Value;
use std::process::Command;

fn victoria_metrics(dir: &std::path::Path) -> (Process, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let data = dir.join("metrics");
    let flags = [
        format!("-httpListenAddr={address}"),
        format!("-storageDataPath={}", data.display()),
        "-search.latencyOffset=0s".into(),
    ];
    let process = Process::start(dir, "victoria-metrics", Command::new("victoria-metrics").args(flags));
    wait_for("VictoriaMetrics", || std::net::TcpStream::connect(&address).ok());
    (process, format!("http://{address}"))
}

/// The value of a PromQL query, if there is one.
fn query(url: &str, query: &str) -> Option<f64> {
    let _ = ureq::get(format!("{url}/internal/force_flush")).call();
    let mut answer = ureq::get(format!("{url}/api/v1/query")).query("query", query).call().ok()?;
    let value: Value = answer.body_mut().read_json().ok()?;
    value["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[test]
fn merged_windows_are_exported_and_a_dead_server_is_not_in_the_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (metrics, url) = victoria_metrics(dir);
    let more = format!("[influxdb]\nurl = \"{url}\"\norg = \"o\"\nbucket = \"b\"\n");
    let collector = Collector::start(dir, None, &more);
    let bundle = pump_bundle(dir, 1_000);
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let config = agent_config(dir, "pump-1", collector.mqtt_port, Some(&bundle), "kind = \"pumps\"\nrate_hz = 50.0");
    let _device = agent(dir, "pump-1", &config);
    let labels = "{feature=\"temp_c\",cohort=\"busan\",model=\"pump\",release=\"v1\",fleet=\"test\"}";
    let n = wait_for("points", || {
        query(&url, &format!("sum(sum_over_time(driftline_window_n{labels}[10m]))")).filter(|n| *n >= 100.0)
    });
    let mean = query(&url, &format!("avg(avg_over_time(driftline_window_mean{labels}[10m]))")).expect("a mean");
    assert!((57.0..67.0).contains(&mean), "{n} readings of mean {mean}");

    drop(metrics);
    let windows = || collector.get("health")["windows"].as_u64().expect("a number");
    let before = windows();
    wait_for("windows without the server", || (windows() >= before + 5).then_some(()));
    let mut answer = ureq::get(format!("{}/metrics", collector.url)).call().expect("an answer");
    let text = answer.body_mut().read_to_string().expect("text");
    assert!(text.contains("\ndriftline_influxdb_points_dropped_total "), "{text}");
}
