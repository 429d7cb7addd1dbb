//! `driftline serve`: the collector.

use anyhow::Context;
use driftline_collector::config::Config;
use driftline_collector::io;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[derive(clap::Args)]
pub struct Args {
    /// Configuration file [default: none, everything at its default]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address of dashboard and API, instead of the configured one
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Directory of the database, instead of the configured one
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Serve the dashboard from this directory, for working on it
    #[arg(long)]
    ui_dir: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (name, text) = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
            (path.display().to_string(), text)
        }
        None => ("defaults".into(), String::new()),
    };
    let mut config = Config::parse(&name, &text)?;
    if let Some(listen) = args.listen {
        config.listen = listen;
        config.check(&name)?;
    }
    config.data_dir = args.data_dir.unwrap_or(config.data_dir);
    config.ui_dir = args.ui_dir;
    log("driftline_collector=info,error");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        let (ready, is_ready) = oneshot::channel::<io::Ready>();
        let told = tokio::spawn(async move {
            let Ok(ready) = is_ready.await else { return };
            eprintln!("dashboard: http://{}/", ready.http);
            if let Some(mqtt) = ready.mqtt {
                eprintln!("agents connect to {mqtt}");
            }
        });
        let outcome = io::serve(config, shutdown, ready).await;
        told.abort();
        outcome?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts logging to standard error; `DRIFTLINE_LOG` overrides the filter.
pub fn log(default: &str) {
    let asked = std::env::var("DRIFTLINE_LOG").ok().and_then(|text| text.parse().ok());
    let filter =
        asked.or_else(|| default.parse().ok()).unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
}
