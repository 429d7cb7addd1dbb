//! `driftline performance`: how often a model is right, measured or estimated, per release.

use super::client::{Client, Failure};
use super::output::{Output, text};
use serde_json::Value;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(long)]
    model: String,
}

pub fn run(args: &Args, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    let name = &args.model;
    if driftline_shared::units::Name::new(name).is_err() {
        return Err(Failure::new(2, "usage", format!("{name:?} cannot name a model"), "driftline models list").into());
    }
    let answer = client.get(&format!("performance?model={name}"))?;
    output.one(&answer, |answer| {
        let releases = answer["releases"].as_array().cloned().unwrap_or_default();
        releases.iter().flat_map(lines).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn lines(release: &Value) -> Vec<String> {
    let mut lines = vec![text(release, "sentence")];
    let percent = |value: &Value| value.as_f64().map(|v| format!("{:.1}%", 100.0 * v));
    let mut figures = Vec::new();
    for key in ["accuracy", "precision", "recall", "f1", "auroc"] {
        if let Some(measured) = percent(&release["realised"][key]) {
            figures.push(format!("{key} {measured} measured"));
        }
        let estimated = &release["estimated"][key];
        if let (Some(value), Some(low), Some(high)) =
            (percent(&estimated["value"]), percent(&estimated["low"]), percent(&estimated["high"]))
        {
            figures.push(format!("{key} {value} estimated ({low} to {high})"));
        }
    }
    lines.extend(figures.into_iter().map(|figure| format!("  {figure}")));
    lines
}
