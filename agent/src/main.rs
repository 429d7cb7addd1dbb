//! The `driftline-agent` binary: runs an agent, says how it is, checks its configuration and its surroundings, or records samples of its source.
//!
//! Exit codes: 0 when all went well, 1 when the agent could not go on, 2 when it could not start because of its
//! configuration, bundle or directory. Messages go to standard error, one sentence each.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::{Parser, Subcommand};
use driftline_agent::config::{CONFIG_BYTES_MAX, Config, ConfigError, SourceKind};
use driftline_agent::io::driver::{self, RunError};
use driftline_agent::io::report::{Counters, Hooks};
use driftline_agent::io::{doctor, log, record, status, trial};
use sd_notify::NotifyState;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

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
    /// Say how the agent that runs with a configuration is.
    Status {
        /// Its configuration file.
        #[arg(long)]
        config: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look for what keeps an agent from working on this device.
    Doctor {
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
    /// Load a release with limits of memory and time, as the agent does before it runs one.
    #[command(name = trial::SUBCOMMAND, hide = true)]
    TryRelease {
        /// Directory of its bundle.
        #[arg(long)]
        bundle: PathBuf,
    },
}

/// A start that takes longer hangs; `TimeoutStartSec` of the unit says the same.
const START_MAX: Duration = Duration::from_secs(90);
/// Pause before the directory of an agent that is about to end is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(250);

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
        Command::Status { config, json } => show_status(&config, json),
        Command::Doctor { config } => examine(&config),
        Command::TryRelease { bundle } => trial::try_release(&bundle),
        Command::Record { config, rows, fault } => read_config(&config).and_then(|config| {
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            record::record(&config.source, rows, fault, &mut out).context("samples could not be recorded")
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cannot_start = error.downcast_ref::<CannotStart>().is_some();
            let mut causes: Vec<String> = Vec::new();
            for cause in error.chain().skip(usize::from(cannot_start)).map(ToString::to_string) {
                // Many sentences hold their cause already.
                if !causes.last().is_some_and(|before| before.contains(&cause)) {
                    causes.push(cause);
                }
            }
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
    let result = runtime.block_on(run_agent(config, path));
    // A reader may still wait for standard input; nothing is lost by leaving it.
    runtime.shutdown_background();
    result
}

/// Runs agents one after the other: SIGHUP ends one and starts the next with what the file says now.
#[expect(clippy::disallowed_methods, reason = "how long the directory is waited for")]
async fn run_agent(mut config: Config, path: &Path) -> anyhow::Result<()> {
    let refused = "the system refuses signals";
    let mut terminate = signal(SignalKind::terminate()).context(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(refused)?;
    let mut hangup = signal(SignalKind::hangup()).context(refused)?;
    // Without its own path an agent cannot start itself; models are then loaded as they are.
    let trial = trial::Trial { program: std::env::current_exe().ok() };
    let mut before: Option<Config> = None;
    let mut released: Option<Instant> = None;
    let mut between: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let hooks = Hooks { trial: trial.clone(), ..Hooks::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let running = match driver::start(config.clone(), hooks.clone(), shutdown).await {
            Ok(running) => running,
            // A release on its trial, or a slow disk, still has the directory of the agent before.
            Err(RunError::Start(error)) if error.is_locked() && released.is_some_and(|at| at.elapsed() < START_MAX) => {
                tokio::select! {
                    () = tokio::time::sleep(LOCK_AGAIN) => continue,
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                }
            }
            Err(error) if before.is_some() => {
                tracing::error!(
                    "the agent cannot begin with the new configuration, the one of before goes on: {error}"
                );
                config = before.take().unwrap_or(config);
                continue;
            }
            Err(error @ RunError::Start(_)) => return Err(anyhow::Error::new(error).context(CannotStart)),
            Err(error) => return Err(error.into()),
        };
        notify(&[NotifyState::Ready]);
        between.take().inspect(tokio::task::JoinHandle::abort);
        let watchdog = tokio::spawn(feed_watchdog(hooks.counters));
        let mut ended = tokio::spawn(running.wait());
        let next = loop {
            tokio::select! {
                report = &mut ended => {
                    println!("{}", report.context("the agent broke off")??);
                    return Ok(());
                }
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                _ = hangup.recv() => match read_config(path) {
                    Ok(next) if next == config => tracing::info!("{} has not changed: the agent goes on", path.display()),
                    Ok(_) if matches!(config.source.kind, SourceKind::Stdin { .. }) => {
                        tracing::error!("a source on standard input cannot begin anew: restart the agent");
                    }
                    Ok(next) => break Some(next),
                    Err(error) => tracing::error!("the configuration of before stays: {error:#}"),
                },
            }
        };
        match &next {
            Some(_) => {
                // Both together, or systemd takes neither (sd_notify(3)).
                if let Ok(now) = NotifyState::monotonic_usec_now() {
                    notify(&[NotifyState::Reloading, now]);
                }
                tracing::info!("{} has changed: starting anew", path.display());
            }
            None => {
                notify(&[NotifyState::Stopping]);
                tracing::info!("stopping");
            }
        }
        between = next.is_some().then(|| tokio::spawn(feed_watchdog_between()));
        let _ = stop.send(());
        let report = ended.await.context("the agent broke off")??;
        watchdog.abort();
        released = Some(Instant::now());
        println!("{report}");
        match next {
            Some(next) => before = Some(std::mem::replace(&mut config, next)),
            None => return Ok(()),
        }
    }
}

/// Feeds systemd's watchdog while one agent ends and the next one loads its model, for as long as a start may take.
async fn feed_watchdog_between() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let every = limit / 8;
    let mut ticks = tokio::time::interval(every);
    for _ in 0..START_MAX.as_micros() / every.as_micros().max(1) {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

/// Feeds systemd's watchdog for as long as the inference thread and the task of the link show that they live.
async fn feed_watchdog(counters: Arc<Counters>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let beats = || [counters.heartbeat.load(Ordering::Relaxed), counters.link_beat.load(Ordering::Relaxed)];
    let mut last = beats();
    // Both have to move between two feedings; a connection attempt may take most of that time.
    let mut seen = [true; 2];
    let mut ticks = tokio::time::interval(limit / 8);
    loop {
        ticks.tick().await;
        let now = beats();
        for (seen, (now, last)) in seen.iter_mut().zip(now.iter().zip(last)) {
            *seen |= *now != last;
        }
        last = now;
        if seen == [true; 2] {
            notify(&[NotifyState::Watchdog]);
            seen = [false; 2];
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}

/// Asks the agent that runs with this configuration.
fn show_status(path: &Path, json: bool) -> anyhow::Result<()> {
    // The agent that runs may have been started with a better file than what stands there now.
    let socket = read_config(path).map(|config| config.data_dir).or_else(|error| data_dir(path).ok_or(error));
    let status = status::ask(&status::path(&socket?)).map_err(anyhow::Error::msg)?;
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        println!("{status}");
    }
    Ok(())
}

/// The directory alone, of a configuration that is wrong elsewhere.
fn data_dir(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let key = |line: &str| {
        line.split_once('=').filter(|(key, _)| key.trim() == "data_dir").map(|(_, value)| value.trim().to_owned())
    };
    let value = text.lines().find_map(key)?;
    value.strip_prefix('"')?.strip_suffix('"').map(PathBuf::from)
}

/// Prints what keeps an agent from working here.
fn examine(path: &Path) -> anyhow::Result<()> {
    let findings = doctor::examine(&read_config(path)?);
    findings.iter().for_each(|finding| println!("{finding}"));
    let problems = findings.iter().filter(|f| matches!(f, doctor::Finding::Problem(_))).count();
    anyhow::ensure!(problems == 0, "{problems} of {} checks found a problem", findings.len());
    Ok(())
}
