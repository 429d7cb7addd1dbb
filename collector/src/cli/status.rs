//! `driftline status`: one screen.

use super::client::Client;
use super::output::{Output, clean, text};
use std::process::ExitCode;

pub fn run(client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    let overview = client.get("overview")?;
    output.one(&overview, |o| {
        let mut lines = vec![clean(&text(o, "headline")), clean(&text(o, "summary"))];
        for incident in o["incidents"].as_array().into_iter().flatten() {
            lines.push(format!("◆ {}  {}", text(incident, "id"), clean(&text(incident, "title"))));
            lines.push(format!("  {}", clean(&text(incident, "where"))));
            lines.push(format!("  try: driftline incidents show {}", text(incident, "id")));
        }
        for rollout in o["rollouts"].as_array().into_iter().flatten() {
            lines.push(format!("↓ rollout {}  {}", text(rollout, "id"), clean(&text(rollout, "title"))));
            lines.push(format!("  {}", clean(&text(rollout, "sentence"))));
        }
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}
