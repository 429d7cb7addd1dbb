//! The command line. Data goes to standard output, everything else to standard error; exit codes are those of [`EXIT_CODES`].
//!
//! Every command but `serve`, `demo`, `baselines create` and `compare` asks a running collector over its HTTP API ([`client`]).

#![allow(clippy::disallowed_methods, reason = "clocks are read here and nowhere else")]

mod baselines;
mod client;
mod columns;
mod compare;
mod demo;
mod devices;
mod evaluate;
mod evidence;
mod header;
mod incidents;
mod labels;
mod live;
mod models;
mod output;
mod performance;
mod plan;
mod rollouts;
mod sampled;
mod serve;
mod status;
mod table;
mod truth;
mod value;

use clap::{Args, Parser, Subcommand};
use client::{Client, Failure};
use output::Output;
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 error, 2 usage, 3 condition not met, 4 forbidden, 5 not found, \
6 plan changed or refused by a safety gate, 7 server unreachable, 124 timeout, 130 Ctrl-C";

/// Watches a fleet's machine-learning models for drift and rolls out better ones.
#[derive(Parser)]
#[command(name = "driftline", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command that asks a collector.
#[derive(Args)]
struct Global {
    /// The collector's address
    #[arg(long, global = true, default_value = "http://127.0.0.1:8600")]
    url: String,
    /// File whose first line is the collector's token
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
    /// Language of sentences
    #[arg(long, global = true, default_value = "en", value_parser = ["en", "ko"])]
    lang: String,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Print tab-separated columns even on a terminal
    #[arg(long, global = true)]
    plain: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the collector: broker, detection, dashboard
    Serve(serve::Args),
    /// Play the whole story with 20 simulated pumps in one process
    Demo(demo::Args),
    /// One screen: problems, devices, rollouts
    Status,
    /// What was normal
    #[command(subcommand)]
    Baselines(Baselines),
    /// The numbers of other tools, from two CSV files or cases in JSON
    Compare(compare::Args),
    /// Measure false alarms, delays and attribution, beside other tools' rules
    Evaluate(evaluate::Args),
    /// Before deployment: the smallest shifts that will be seen within an hour and a day
    Plan(plan::Args),
    /// Model releases
    #[command(subcommand)]
    Models(models::Command),
    /// Devices
    #[command(subcommand)]
    Devices(devices::Command),
    /// Problems
    #[command(subcommand)]
    Incidents(incidents::Command),
    /// How often a model is right: measured where true answers are known, else estimated
    Performance(performance::Args),
    /// Raw samples: they stay on the devices unless somebody asks, with a reason
    #[command(subcommand)]
    Evidence(evidence::Command),
    /// What samples really were
    #[command(subcommand)]
    Labels(labels::Command),
    /// Staged rollouts
    #[command(subcommand)]
    Rollouts(rollouts::Command),
}

#[derive(Subcommand)]
enum Baselines {
    /// Make a bundle of a model and the data it was trained on
    Create(Box<baselines::Args>),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    match run(cli) {
        Ok(code) => code,
        Err(error) => report(&error, json),
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Global { url, token_file, lang, json, plain } = cli.global;
    let client = || Client::new(&url, token_file.as_deref(), &lang);
    let output = Output::new(json, plain);
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Status => status::run(&client()?, &output),
        Command::Baselines(Baselines::Create(args)) => baselines::create(&args),
        Command::Compare(args) => compare::run(&args, &output),
        Command::Evaluate(args) => evaluate::run(&args, &output),
        Command::Models(command) => models::run(&command, &client()?, &output),
        Command::Devices(devices::Command::List) => devices::list(&client()?, &output),
        Command::Incidents(command) => incidents::run(&command, &client()?, &output),
        Command::Plan(args) => plan::run(&args, client, &output),
        Command::Performance(args) => performance::run(&args, &client()?, &output),
        Command::Evidence(command) => evidence::run(&command, &client()?, &output),
        Command::Labels(command) => labels::run(&command, &client()?, &output),
        Command::Rollouts(command) => rollouts::run(&command, &client()?, &output),
    }
}

/// One error: what happened and what to try.
fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let failure = error.downcast_ref::<Failure>();
    let message = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let (code, hint) = failure.map_or(("error", ""), |f| (f.code.as_str(), f.hint.as_str()));
    if json {
        let body = serde_json::json!({ "error": { "code": code, "message": message, "hint": hint } });
        eprintln!("{body}");
    } else {
        eprintln!("error: {message}");
        if !hint.is_empty() {
            eprintln!("  try: {hint}");
        }
    }
    ExitCode::from(failure.map_or(1, |f| f.exit))
}
