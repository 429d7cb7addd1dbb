//! `driftline rollouts`: a plan, a confirmation of exactly that plan, and then a look at how it goes.

use super::client::{Client, Failure};
use super::live::Live;
use super::output::{Output, clean, text};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Plan a rollout, confirm it and start it
    Create(Create),
    /// List all rollouts
    List,
    /// Show one
    Show {
        /// Its number
        id: u64,
    },
    /// Follow one until it is over: exit 0 when done, 3 when stopped, failed or taken back, 124 on timeout
    Watch {
        /// Its number
        id: u64,
        /// Give up after this time, such as 2h
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Install nothing more until it is resumed
    Pause {
        /// Its number
        id: u64,
    },
    /// Go on, trying failed devices of the stage again
    Resume {
        /// Its number
        id: u64,
    },
    /// Return every device to what it ran before
    Abort {
        /// Its number
        id: u64,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("who").required(true).args(["incident", "label", "all"])))]
pub struct Create {
    /// Model and release, such as pump@v2
    #[arg(long)]
    model: String,
    /// Devices affected by this incident
    #[arg(long)]
    incident: Option<String>,
    /// Devices with this label, such as site=busan; several labels must all fit
    #[arg(long)]
    label: Vec<String>,
    /// All devices of the model
    #[arg(long)]
    all: bool,
    /// Cumulative percentages of the stages
    #[arg(long, value_delimiter = ',')]
    stages: Option<Vec<u32>>,
    /// Stop when more than this share of a stage fails, in percent
    #[arg(long)]
    stop_if_failed: Option<u32>,
    /// How long each stage is watched, such as 10min
    #[arg(long, value_parser = duration)]
    soak: Option<Duration>,
    /// Refuse, with exit code 6, when the plan has another number of devices
    #[arg(long)]
    expect_devices: Option<u64>,
    /// Print the plan and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub fn run(command: &Command, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(args) => create(args, client, output),
        Command::List => {
            output.list(
                "rollouts",
                &client.get("rollouts")?,
                &[
                    ("ID", |r| text(r, "id")),
                    ("WHAT", |r| text(r, "title")),
                    ("STATE", |r| text(r, "state")),
                    ("INSTALLED", |r| format!("{}/{}", text(r, "installed"), text(r, "total"))),
                    ("FAILED", |r| text(r, "failed")),
                ],
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { id } => {
            output.one(&client.get(&format!("rollouts/{id}"))?, words)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Watch { id, timeout } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(watch(*id, *timeout, client, output))
        }
        Command::Pause { id } => act(*id, "pause", client, output),
        Command::Resume { id } => act(*id, "resume", client, output),
        Command::Abort { id, yes } => {
            let rollout = client.get(&format!("rollouts/{id}"))?;
            let buttons = rollout["buttons"].as_array().into_iter().flatten();
            let consequences = buttons.filter(|b| b["code"] == "abort").map(|b| text(&b["confirm"], "text")).next();
            confirm(&clean(&consequences.unwrap_or_default()), *yes)?;
            act(*id, "abort", client, output)
        }
    }
}

fn act(id: u64, what: &str, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    let answer = client.post(&format!("rollouts/{id}/{what}"), &json!({}))?;
    output.one(&answer, |a| vec![format!("rollout {id}: {}", text(&a["state"], "is"))])?;
    Ok(ExitCode::SUCCESS)
}

fn create(args: &Create, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    let usage = |message: String, hint: &str| Failure::new(2, "usage", message, hint);
    let Some((model, release)) = args.model.split_once('@') else {
        return Err(usage(format!("{} is no model and release", args.model), "--model pump@v2").into());
    };
    let query = if args.all {
        json!({ "all": true })
    } else if let Some(incident) = &args.incident {
        json!({ "incident": incident })
    } else {
        let pairs = args.label.iter().map(|l| {
            l.split_once('=')
                .map(|(k, v)| (k.to_owned(), Value::from(v)))
                .ok_or_else(|| usage(format!("{l} is no label"), "--label site=busan"))
        });
        json!({ "labels": pairs.collect::<Result<serde_json::Map<_, _>, _>>()? })
    };
    let mut request = json!({ "model": model, "release": release, "query": query });
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            request[key] = value;
        }
    };
    set("stages", args.stages.as_ref().map(|s| json!(s)));
    set("failure_limit_percent", args.stop_if_failed.map(|p| json!(p)));
    set("soak_ms", args.soak.map(|d| json!(d.as_millis() as u64)));
    let plan = client.post("rollouts/plan", &request)?;
    if let Some(expected) = args.expect_devices
        && plan["devices"] != expected
    {
        let message = format!("the plan has {} devices, not {expected}; nothing was started", plan["devices"]);
        return Err(Failure::new(6, "conflict", message, "look at it with --dry-run").into());
    }
    if args.dry_run {
        output.one(&plan, |p| vec![clean(&text(p, "sentence"))])?;
        return Ok(ExitCode::SUCCESS);
    }
    confirm(&clean(&text(&plan, "sentence")), args.yes)?;
    request["plan_hash"] = plan["plan_hash"].clone();
    let created = client.post("rollouts", &request)?;
    output.one(&created, |c| vec![format!("rollout {} has started", text(c, "id"))])?;
    eprintln!("next: driftline rollouts watch {}", text(&created, "id"));
    Ok(ExitCode::SUCCESS)
}

/// Says what will happen and wants a yes.
fn confirm(consequences: &str, yes: bool) -> anyhow::Result<()> {
    eprintln!("{consequences}");
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(2, "usage", "nobody is there to confirm this", "--yes").into());
    }
    eprint!("Go on? Type yes: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new(1, "error", "not confirmed; nothing was changed", "").into()),
    }
}

fn words(rollout: &Value) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Rollout {}  {} ({})",
            text(rollout, "id"),
            clean(&text(rollout, "title")),
            text(rollout, "state_label")
        ),
        clean(&text(rollout, "sentence")),
    ];
    for stage in rollout["stages"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  stage {} ({}%): {}",
            text(stage, "n"),
            text(stage, "percent"),
            clean(&text(stage, "label"))
        ));
    }
    for failure in rollout["failures"].as_array().into_iter().flatten() {
        let devices: Vec<String> = failure["devices"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|d| d.as_str().unwrap_or_default().to_owned())
            .collect();
        lines.push(format!("  {}: {}", clean(&text(failure, "reason")), clean(&devices.join(", "))));
    }
    lines
}

/// A bar of a rollout's devices, drawn on standard error when that is a terminal.
pub fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}") {
        bar.set_style(style);
    }
    bar
}

async fn watch(id: u64, timeout: Option<Duration>, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    let topic = format!("rollout:{id}");
    let mut live = Live::open(client, &[&topic]).await?;
    let bar = bar(0);
    let deadline = tokio::time::Instant::now() + timeout.unwrap_or(Duration::from_secs(365 * 86_400));
    let mut last = String::new();
    let over = loop {
        let frame = tokio::select! {
            frame = live.next() => frame,
            () = tokio::time::sleep_until(deadline) => {
                return Err(Failure::new(124, "timeout", format!("rollout {id} is not over yet"), format!("driftline rollouts watch {id}")).into());
            }
            _ = tokio::signal::ctrl_c() => {
                eprintln!("the rollout continues; `driftline rollouts abort {id}` takes it back");
                return Ok(ExitCode::from(130));
            }
        };
        let Some(frame) = frame else {
            return Err(Failure::new(
                7,
                "unreachable",
                "the collector closed the connection",
                format!("driftline rollouts watch {id}"),
            )
            .into());
        };
        if frame["t"] != "d" {
            continue;
        }
        let rollout = &frame["v"];
        if rollout.is_null() {
            return Err(
                Failure::new(5, "not_found", format!("There is no rollout {id}."), "driftline rollouts list").into()
            );
        }
        bar.set_length(rollout["total"].as_u64().unwrap_or(0));
        bar.set_position(rollout["installed"].as_u64().unwrap_or(0));
        let stage = rollout["stages"].as_array().into_iter().flatten().filter(|s| s["state"] != "waiting").count();
        let state = text(rollout, "state");
        let line = format!("stage {stage}: {state}");
        bar.set_message(line.clone());
        if line != last {
            // The sentence of each new state stays on the screen; in a log it is the only trace.
            bar.suspend(|| eprintln!("{}", clean(&text(rollout, "sentence"))));
            last = line;
        }
        if matches!(state.as_str(), "done" | "done_with_failures" | "aborted" | "paused") {
            break rollout.clone();
        }
    };
    bar.finish_and_clear();
    output.one(&over, words)?;
    Ok(ExitCode::from(if over["state"] == "done" { 0 } else { 3 }))
}

fn duration(text: &str) -> Result<Duration, String> {
    let ms = driftline_collector::config::duration_ms(text);
    ms.map(Duration::from_millis).ok_or_else(|| "write a duration such as 90s, 10min, 6h or 2d".into())
}
