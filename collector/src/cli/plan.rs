//! `driftline plan`: before deployment, the smallest shift of each reading that will be seen within an hour and within a day.

use super::client::{Client, Failure};
use super::output::{Output, text};
use anyhow::Context;
use driftline_agent::bundle::Bundle;
use driftline_collector::detect::budget::Budget;
use driftline_collector::detect::plan::{Tolerated, devices, plan};
use driftline_collector::explain::number;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A bundle that `driftline baselines create` made, or the name of a model that the collector has
    #[arg(long)]
    model: String,
    /// Devices that it will run on [default: 1 for a bundle, and those that run the model for a collector's]
    #[arg(long, value_parser = devices)]
    devices: Option<u32>,
    /// False alarms tolerated per month, over the whole fleet [default: 1 for a bundle, and the collector's own budget]
    #[arg(long)]
    false_alarms_per_month: Option<Tolerated>,
}

pub fn run(args: &Args, client: impl FnOnce() -> anyhow::Result<Client>, output: &Output) -> anyhow::Result<ExitCode> {
    let answer = if Path::new(&args.model).is_dir() {
        let bundle = Bundle::read(Path::new(&args.model)).with_context(|| args.model.clone())?;
        let tolerated = args.false_alarms_per_month.map(|t| Budget { false_alarms_per_month: t.per_month() });
        let devices = args.devices.map_or(1, |n| n as usize);
        json!({ "items": plan(bundle.baseline(), bundle.schema().window_ms, devices, tolerated.unwrap_or_default()) })
    } else {
        driftline_shared::units::Name::new(&args.model)
            .with_context(|| format!("{:?} is neither a bundle's directory nor a model's name", args.model))?;
        let mut query = format!("plan?model={}", args.model);
        query.extend(args.devices.map(|n| format!("&devices={n}")));
        query.extend(args.false_alarms_per_month.map(|t| format!("&false_alarms_per_month={}", t.per_month())));
        client()?.get(&query).map_err(|error| no_bundle_either(&args.model, error))?
    };
    output.list(
        "plan",
        &answer,
        &[
            ("READING", |p| text(p, "feature")),
            ("SEEN WITHIN AN HOUR", |p| shift(p, "hour")),
            ("IN ITS FIRST HOUR", |p| shift(p, "first_hour")),
            ("WITHIN A DAY", |p| shift(p, "day")),
            ("", |p| p["note"].as_str().unwrap_or_default().to_owned()),
        ],
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A name that no collector knows may have been meant as a folder.
fn no_bundle_either(model: &str, error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Failure>() {
        Ok(mut failure) if matches!(failure.code.as_str(), "unreachable" | "not_found") => {
            let what = if Path::new(model).exists() { "is no bundle's folder" } else { "is no bundle: no such folder" };
            failure.message = format!("{model} {what}; as the name of a model: {}", failure.message);
            failure.into()
        }
        Ok(failure) => failure.into(),
        Err(error) => error,
    }
}

fn shift(planned: &Value, key: &str) -> String {
    let unit = planned["unit"].as_str().unwrap_or_default();
    planned[key]
        .as_f64()
        .map_or("–".into(), |by| format!("± {}", number::with_unit(&number::significant(by, 2), unit)))
}
