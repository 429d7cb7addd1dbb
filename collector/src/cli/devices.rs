//! `driftline devices`.

use super::client::Client;
use super::output::{Output, text};
use serde_json::Value;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List all devices
    List,
}

pub fn list(client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    output.list(
        "devices",
        &client.get("devices")?,
        &[
            ("DEVICE", |d| text(d, "id")),
            ("STATE", |d| text(d, "state")),
            ("MODEL", |d| format!("{} {}", text(d, "model"), text(d, "release"))),
            ("CHANGED MOST", |d| text(d, if d["note"].is_string() { "note" } else { "worst_feature" })),
            ("LABELS", labels),
        ],
    )?;
    Ok(ExitCode::SUCCESS)
}

fn labels(device: &Value) -> String {
    let labels = device["labels"].as_object().into_iter().flatten();
    labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(" ")
}
