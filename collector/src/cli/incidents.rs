//! `driftline incidents`: what is wrong, in words.

use super::client::{Client, Failure};
use super::output::{Output, clean, text};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List all problems
    List {
        /// Exit with 3 when one is open
        #[arg(long)]
        fail_on_open: bool,
    },
    /// Show one: what, where, since when, how sure, why, what to do
    Show {
        /// Such as INC-7
        id: String,
    },
    /// Mark one as seen
    Acknowledge {
        /// Such as INC-7
        id: String,
    },
}

pub fn run(command: &Command, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { fail_on_open } => {
            let answer = client.get("incidents")?;
            output.list(
                "incidents",
                &answer,
                &[
                    ("ID", |i| text(i, "id")),
                    ("STATE", |i| text(i, "state")),
                    ("WHAT", |i| text(i, "title")),
                    ("SINCE", |i| text(i, "since")),
                ],
            )?;
            let open = answer["items"].as_array().into_iter().flatten().any(|i| i["state"] != "resolved");
            Ok(ExitCode::from(if *fail_on_open && open { 3 } else { 0 }))
        }
        Command::Show { id } => {
            let id = label(id)?;
            output.one(&client.get(&format!("incidents/{id}"))?, words)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Acknowledge { id } => {
            let id = label(id)?;
            let answer = client.post(&format!("incidents/{id}/acknowledge"), &json!({}))?;
            output.one(&answer, |a| vec![format!("{id} is {}", text(a, "state"))])?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `INC-7` of `INC-7`, `inc-7` or `7`.
fn label(id: &str) -> anyhow::Result<String> {
    let number = id.get(..4).filter(|p| p.eq_ignore_ascii_case("INC-")).map_or(id, |_| &id[4..]);
    match number.parse::<u64>() {
        Ok(n) => Ok(format!("INC-{n}")),
        Err(_) => Err(Failure::new(2, "usage", format!("{id} is no incident"), "driftline incidents list").into()),
    }
}

fn words(incident: &Value) -> Vec<String> {
    let mut lines =
        vec![format!("{} ({})  {}", text(incident, "id"), text(incident, "state"), clean(&text(incident, "title")))];
    lines.push(clean(&text(incident, "subtitle")));
    for fact in incident["facts"].as_array().into_iter().flatten() {
        lines.push(format!("  {}: {}", text(fact, "label"), clean(&text(fact, "text"))));
    }
    for item in incident["accuracy"]["items"].as_array().into_iter().flatten() {
        let share = item["share"].as_f64().unwrap_or_default() * 100.0;
        lines.push(format!("  {}: {share:.1}% right of {}", clean(&text(item, "label")), text(item, "labelled")));
    }
    for action in incident["actions"].as_array().into_iter().flatten() {
        if let (Some(true), Some(plan)) = (action["enabled"].as_bool(), action["plan"].as_object()) {
            let (model, release) = (&plan["model"], &plan["release"]);
            let (model, release) = (model.as_str().unwrap_or_default(), release.as_str().unwrap_or_default());
            lines.push(format!(
                "  try: driftline rollouts create --model {model}@{release} --incident {}",
                text(incident, "id")
            ));
        }
    }
    lines
}
