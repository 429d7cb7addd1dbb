//! `driftline models`: releases the collector can roll out.

use super::client::Client;
use super::output::{Output, text};
use anyhow::Context;
use driftline_agent::bundle::Bundle;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Add a bundle that `driftline baselines create` made
    Add {
        /// The bundle's directory
        bundle: PathBuf,
    },
    /// List all releases
    List,
}

pub fn run(command: &Command, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Add { bundle } => {
            let packed = Bundle::read(bundle).with_context(|| bundle.display().to_string())?.pack();
            let added = client.post_bytes("models", &packed)?;
            output.one(&added, |a| {
                vec![format!("{} {} was added, digest {}", text(a, "model"), text(a, "release"), text(a, "digest"))]
            })?;
        }
        Command::List => output.list(
            "models",
            &client.get("models")?,
            &[
                ("MODEL", |m| text(m, "model")),
                ("RELEASE", |m| text(m, "release")),
                ("DEVICES", |m| text(m, "devices")),
                ("RIGHT", |m| accuracy(&m["accuracy"])),
                ("BASELINE ROWS", |m| text(m, "baseline_rows")),
                ("DIGEST", |m| text(m, "digest").chars().take(16).collect()),
            ],
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The share of right answers, and which of the two it is.
fn accuracy(item: &serde_json::Value) -> String {
    item["share"].as_f64().map_or("–".into(), |share| format!("{:.1}% ({})", 100.0 * share, text(item, "text")))
}
