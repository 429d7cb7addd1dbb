//! `driftline evidence`: asks a device for raw samples, and prints what came as CSV.

use super::client::{Client, Failure};
use super::live::Live;
use super::output::{Output, clean, text};
use anyhow::{Context, bail};
use driftline_agent::derived;
use driftline_agent::io::images;
use driftline_shared::manifest::Sampled;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
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
        /// Write each image as PNG, or each stretch of a signal as CSV, into this folder
        #[arg(long, value_name = "FOLDER")]
        files: Option<PathBuf>,
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
        Command::Show { id, files } => {
            let request = client.get(&format!("evidence/{id}"))?;
            files.as_deref().map_or_else(|| show(&request, output), |folder| write(&request, folder))
        }
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

/// Fails where a request has brought no samples.
fn complete(request: &Value) -> anyhow::Result<()> {
    let device = clean(request["wanted"]["device"].as_str().unwrap_or_default());
    match request["state"].as_str() {
        Some("complete") => {}
        Some("refused") => bail!("{device} gives out none: {}", clean(request["said"].as_str().unwrap_or_default())),
        Some("expired") => bail!("{device} did not answer within a day"),
        _ => bail!("{device} has not answered yet"),
    }
    Ok(())
}

/// Writes the samples as the model took them, a file each.
fn write(request: &Value, folder: &Path) -> anyhow::Result<ExitCode> {
    complete(request)?;
    let Some(sampled) = request.get("sampled").and_then(|s| serde_json::from_value::<Sampled>(s.clone()).ok()) else {
        bail!("its samples are rows, without files of their own: leave --files out")
    };
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut gone = 0;
    for row in request["rows"].as_array().into_iter().flatten() {
        let whole = row["whole"].as_array().into_iter().flatten();
        let values: Vec<f32> = whole.map(|v| v.as_f64().map_or(f32::NAN, |v| v as f32)).collect();
        if values.len() != derived::raw_len(&sampled) {
            gone += 1;
            continue;
        }
        let id: String = row["id"].as_str().unwrap_or_default().chars().filter(char::is_ascii_hexdigit).collect();
        let name = format!("{}-{id}", row["at_ms"].as_u64().unwrap_or_default());
        let path = match &sampled {
            Sampled::Image { .. } => folder.join(name + ".png"),
            Sampled::Signal { .. } => folder.join(name + ".csv"),
        };
        let cannot = || format!("{} cannot be written", path.display());
        match &sampled {
            Sampled::Image { .. } => images::write(&path, &sampled, &values).with_context(cannot)?,
            Sampled::Signal { channels, planar, .. } => {
                let mut table = csv::Writer::from_path(&path).with_context(cannot)?;
                table.write_record(channels.iter().map(|name| name.as_str()))?;
                let (many, length) = (channels.len().max(1), values.len() / channels.len().max(1));
                for at in 0..length {
                    let place = |channel| if *planar { channel * length + at } else { at * many + channel };
                    table.write_record((0..many).map(|channel| values[place(channel)].to_string()))?;
                }
                table.flush().with_context(cannot)?;
            }
        }
        println!("{}", path.display());
    }
    if gone > 0 {
        eprintln!("note: {gone} samples are no longer kept whole; `driftline evidence show` has their figures");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(request: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    if output.json {
        output.one(request, |_| Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    }
    complete(request)?;
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
