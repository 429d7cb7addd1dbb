//! `driftline plan`: before deployment, the smallest shift of each reading that will be seen within an hour and within a day.

use super::client::Client;
use super::output::{Output, text};
use anyhow::Context;
use driftline_agent::bundle::Bundle;
use driftline_collector::detect::budget::Budget;
use driftline_collector::detect::plan::plan;
use driftline_collector::explain::number;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A bundle that `driftline baselines create` made, or the name of a model that the collector has
    #[arg(long)]
    model: String,
    /// Devices that it will run on
    #[arg(long, default_value_t = 1)]
    devices: usize,
    /// False alarms tolerated per month, over the whole fleet
    #[arg(long, default_value_t = 1.0)]
    false_alarms_per_month: f64,
}

pub fn run(args: &Args, client: impl FnOnce() -> anyhow::Result<Client>, output: &Output) -> anyhow::Result<ExitCode> {
    let answer = if Path::new(&args.model).is_dir() {
        anyhow::ensure!(
            args.false_alarms_per_month > 0.0 && args.false_alarms_per_month.is_finite(),
            "--false-alarms-per-month is {}; give a number above 0",
            args.false_alarms_per_month
        );
        let bundle = Bundle::read(Path::new(&args.model)).with_context(|| args.model.clone())?;
        let budget = Budget { false_alarms_per_month: args.false_alarms_per_month };
        json!({ "items": plan(bundle.baseline(), bundle.schema().window_ms, args.devices, budget) })
    } else {
        driftline_shared::units::Name::new(&args.model)
            .with_context(|| format!("{:?} is neither a bundle's directory nor a model's name", args.model))?;
        client()?.get(&format!("plan?model={}", args.model))?
    };
    output.list(
        "plan",
        &answer,
        &[
            ("READING", |p| text(p, "feature")),
            ("SEEN WITHIN AN HOUR", |p| shift(p, "hour")),
            ("WITHIN A DAY", |p| shift(p, "day")),
            ("", |p| p["note"].as_str().unwrap_or_default().to_owned()),
        ],
    )?;
    Ok(ExitCode::SUCCESS)
}

fn shift(planned: &Value, key: &str) -> String {
    let unit = planned["unit"].as_str().unwrap_or_default();
    planned[key]
        .as_f64()
        .map_or("–".into(), |by| format!("± {}", number::with_unit(&number::significant(by, 2), unit)))
}
