//! The `driftline-agent` binary: runs an agent, checks its configuration, or records samples of its source.
//!
//! Exit codes: 0 when all went well, 1 when the agent could not go on, 2 when it could not start because of its
//! configuration, bundle or directory. Messages go to standard error, one sentence each.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::{Parser, Subcommand};
use driftline_agent::config::{CONFIG_BYTES_MAX, Config, ConfigError};
use driftline_agent::io::driver::{self, RunError};
use driftline_agent::io::report::{Counters, Hooks};
use driftline_agent::io::{log, record};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::signal::unix::{SignalKind, signal};

/// Runs ONNX models on a device, sketches what goes in and out, and publishes the sketches over MQTT.
#[derive(Parser)]
#[command(name = "driftline-agent", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until its source ends or it is stopped.
    Run {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Check a configuration file and print it with every default filled in.
    CheckConfig {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Print samples of the configured source as CSV, to make a baseline from.
    Record {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
        /// How many samples.
        #[arg(long)]
        rows: u64,
        /// Switch the pump simulator's sensor fault on for the second half.
        #[arg(long)]
        fault: bool,
    },
}

/// Ends with 2 instead of 1.
#[derive(Debug)]
struct CannotStart;

impl std::fmt::Display for CannotStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the agent did not start")
    }
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Run { config } => run(&config),
        Command::CheckConfig { config } => read_config(&config).map(|config| print!("{}", config.resolved())),
        Command::Record { config, rows, fault } => read_config(&config).and_then(|config| {
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            record::record(&config.source, rows, fault, &mut out).context("samples could not be recorded")
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cannot_start = error.downcast_ref::<CannotStart>().is_some();
            let causes: Vec<String> = error.chain().skip(usize::from(cannot_start)).map(ToString::to_string).collect();
            eprintln!("driftline-agent: {}", causes.join(": "));
            if cannot_start { ExitCode::from(2) } else { ExitCode::from(1) }
        }
    }
}

fn read_config(path: &Path) -> anyhow::Result<Config> {
    let name = path.display().to_string();
    let read = || -> Result<Config, ConfigError> {
        let error = |source| ConfigError::Read { path: name.clone(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(error)?;
        file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(error)?;
        if text.len() as u64 > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: name.clone() });
        }
        Config::parse(&text, &name)
    };
    read().context(CannotStart)
}

fn run(path: &Path) -> anyhow::Result<()> {
    let config = read_config(path)?;
    log::start();
    // Inference has a thread of its own; one more is enough for what moves bytes.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("the system refuses a thread")?;
    let result = runtime.block_on(run_agent(config));
    // A reader may still wait for standard input; nothing is lost by leaving it.
    runtime.shutdown_background();
    result
}

async fn run_agent(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("the system refuses signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("the system refuses signals")?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopping");
    };
    let hooks = Hooks::default();
    let running = match driver::start(config, hooks.clone(), shutdown).await {
        Ok(running) => running,
        Err(error @ RunError::Start(_)) => return Err(anyhow::Error::new(error).context(CannotStart)),
        Err(error) => return Err(error.into()),
    };
    notify(&[sd_notify::NotifyState::Ready]);
    tokio::spawn(feed_watchdog(hooks.counters));
    let report = running.wait().await?;
    println!("{report}");
    Ok(())
}

/// Feeds systemd's watchdog for as long as the inference thread shows that it lives.
async fn feed_watchdog(counters: Arc<Counters>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut last = counters.heartbeat.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(limit / 2).await;
        let beat = counters.heartbeat.load(Ordering::Relaxed);
        if beat != last {
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
        last = beat;
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}
