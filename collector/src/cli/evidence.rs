//! `driftline evidence`: asks a device for raw samples, and prints what came as CSV.

use super::client::{Client, Failure};
use super::live::Live;
use super::output::{Output, clean, text};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Ask a device for its newest samples; the request and its reason are kept
    Ask {
        /// The device
        device: String,
        /// How many at most
        #[arg(long, default_value_t = 20)]
        samples: u16,
        /// Why
        #[arg(long)]
        reason: String,
        /// Sensed then or later, such as 2026-11-26T08:00:00Z
        #[arg(long)]
        from: Option<jiff::Timestamp>,
        /// And then or earlier
        #[arg(long)]
        to: Option<jiff::Timestamp>,
        /// Wait so many seconds for them, and print them
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Every request, newest first
    List,
    /// The samples of a request as CSV
    Show {
        /// Its number
        id: u64,
    },
}

pub fn run(command: &Command, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ask { device, samples, reason, from, to, wait } => {
            let ms = |at: &Option<jiff::Timestamp>| at.map(|at| at.as_millisecond());
            let mut body = json!({ "device": device, "samples": samples, "reason": reason });
            for (key, at) in [("from_ms", ms(from)), ("to_ms", ms(to))] {
                if let Some(at) = at {
                    body[key] = json!(at);
                }
            }
            let answer = client.post("evidence", &body)?;
            let id = answer["id"].as_u64().context("the collector gave the request no number")?;
            let Some(seconds) = wait else {
                output.one(&answer, |_| {
                    vec![format!("request {id} is on its way to {}; driftline evidence show {id}", clean(device))]
                })?;
                return Ok(ExitCode::SUCCESS);
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let request = runtime.block_on(answered(id, Duration::from_secs(*seconds), client))?;
            show(&request, output)
        }
        Command::List => {
            output.list(
                "evidence",
                &client.get("evidence")?,
                &[
                    ("REQUEST", |r| text(r, "id")),
                    ("DEVICE", |r| text(r, "device")),
                    ("STATE", |r| text(r, "state")),
                    ("SAMPLES", |r| text(r, "rows")),
                    ("REASON", |r| text(r, "reason")),
                ],
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { id } => show(&client.get(&format!("evidence/{id}"))?, output),
    }
}

/// The request once it is no longer waited for.
async fn answered(id: u64, patience: Duration, client: &Client) -> anyhow::Result<Value> {
    let late =
        || Failure::new(124, "timeout", "the device has not answered yet", format!("driftline evidence show {id}"));
    let follow = async {
        let mut live = Live::open(client, &[&format!("evidence:{id}")]).await?;
        while let Some(frame) = live.next().await {
            if frame["t"] == "d" && frame["v"]["state"] != "waiting" {
                return Ok(frame["v"].clone());
            }
        }
        let hint = format!("driftline evidence show {id}");
        Err(Failure::new(7, "unreachable", "the collector closed the connection", hint).into())
    };
    tokio::time::timeout(patience, follow).await.unwrap_or_else(|_| Err(late().into()))
}

fn show(request: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    if output.json {
        output.one(request, |_| Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    }
    let device = clean(request["wanted"]["device"].as_str().unwrap_or_default());
    match request["state"].as_str() {
        Some("complete") => {}
        Some("refused") => bail!("{device} gives out none: {}", clean(request["said"].as_str().unwrap_or_default())),
        Some("expired") => bail!("{device} did not answer within a day"),
        _ => bail!("{device} has not answered yet"),
    }
    let list = |key: &str| request[key].as_array().cloned().unwrap_or_default();
    // A release that the collector does not know has no names here.
    let names = |key: &str| -> Vec<String> {
        let known: Vec<String> = list(key).iter().map(|n| clean(n.as_str().unwrap_or_default())).collect();
        let width = list("rows").first().and_then(|row| row[key].as_array().map(Vec::len)).unwrap_or(0);
        let name = |at: usize| known.get(at).cloned().unwrap_or_else(|| format!("{}{at}", key.trim_end_matches('s')));
        (0..width).map(name).collect()
    };
    let cell = |value: &Value| value.as_f64().map_or(String::new(), |v| (v as f32).to_string());
    let mut table = csv::Writer::from_writer(std::io::stdout().lock());
    table.write_record(["time_ms".into(), "id".into()].into_iter().chain(names("inputs")).chain(names("outputs")))?;
    for row in list("rows") {
        let cells = |key: &str| row[key].as_array().into_iter().flatten().map(cell).collect::<Vec<_>>();
        let head = [row["at_ms"].to_string(), row["id"].as_str().unwrap_or_default().to_owned()];
        table.write_record(head.into_iter().chain(cells("inputs")).chain(cells("outputs")))?;
    }
    table.flush()?;
    Ok(ExitCode::SUCCESS)
}
