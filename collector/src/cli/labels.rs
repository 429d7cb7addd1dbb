//! `driftline labels`: what samples really were, from a table of ids and classes to the device that judged them.

use super::client::Client;
use super::header;
use super::output::{Output, clean};
use anyhow::{Context, bail};
use driftline_collector::collector::LABELS_PER_REQUEST_MAX;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Labels of one table.
const LABELS_MAX: usize = 1_000_000;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Add the true classes of samples that a device has judged
    Add {
        /// The device
        #[arg(long)]
        device: String,
        /// CSV table with the columns id and label; an id is the source's (source.id), else the running number of the sample
        #[arg(long)]
        file: PathBuf,
    },
}

pub fn run(command: &Command, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
    let Command::Add { device, file } = command;
    let table = read(file)?;
    for note in &table.notes {
        eprintln!("note: {note}");
    }
    let (mut forwarded, mut refused) = (0, table.left_out);
    let mut problems: Vec<String> = Vec::new();
    for chunk in table.labels.chunks(LABELS_PER_REQUEST_MAX) {
        let labels: Map<String, Value> = chunk.iter().map(|(id, class)| (id.clone(), json!(class))).collect();
        let answer = match client.post("labels", &json!({ "device": device, "labels": labels })) {
            Ok(answer) => answer,
            Err(error) if forwarded > 0 => {
                return Err(error.context(format!("{forwarded} labels were forwarded before this")));
            }
            Err(error) => return Err(error),
        };
        let number = |key: &str| answer[key].as_u64().unwrap_or(0);
        forwarded += number("forwarded");
        refused += number("unknown_class") + number("bad_id") + number("repeated");
        problems.extend(answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str).map(clean));
    }
    problems.dedup();
    problems.iter().for_each(|problem| eprintln!("note: {problem}"));
    output.one(&json!({ "device": device, "forwarded": forwarded, "not_used": refused }), |_| {
        let rest = if refused > 0 { format!(", {refused} not used") } else { String::new() };
        vec![format!("{forwarded} labels are on their way to {}{rest}", clean(device))]
    })?;
    Ok(ExitCode::SUCCESS)
}

struct Table {
    labels: Vec<(String, String)>,
    left_out: u64,
    notes: Vec<String>,
}

/// Reads a table; a row that cannot be used is counted and costs no other.
fn read(path: &Path) -> anyhow::Result<Table> {
    let shown = path.display();
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(header::open(path)?);
    let names = header::names(&mut reader, &shown.to_string())?;
    let names: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    header::once(&names, &shown.to_string())?;
    let column = |wanted: &str| names.iter().position(|name| name == wanted);
    let (Some(id), Some(label)) = (column("id"), column("label")) else {
        bail!("{shown} needs a header line with the columns id and label");
    };
    let (mut table, mut seen) = (Table { labels: Vec::new(), left_out: 0, notes: Vec::new() }, HashSet::new());
    let (mut unreadable, mut repeated) = (0u64, 0u64);
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).with_context(|| format!("{shown} cannot be read"))? {
        let text = |at: usize| record.get(at).and_then(|cell| std::str::from_utf8(cell).ok()).map(str::trim);
        match (text(id), text(label)) {
            (Some(id), Some(label)) if !id.is_empty() && !label.is_empty() => {
                if !seen.insert(id.to_owned()) {
                    repeated += 1;
                    continue;
                }
                table.labels.push((id.to_owned(), label.to_owned()));
            }
            _ => unreadable += 1,
        }
        if table.labels.len() > LABELS_MAX {
            bail!("{shown} has more than {LABELS_MAX} labels; split it");
        }
    }
    if unreadable > 0 {
        table
            .notes
            .push(format!("{unreadable} rows of {shown} lack an id or a label, or are not UTF-8; they are not used"));
    }
    if repeated > 0 {
        table.notes.push(format!("{repeated} rows of {shown} repeat an id; its first label counts"));
    }
    table.left_out = unreadable + repeated;
    if table.labels.is_empty() {
        table.notes.iter().for_each(|note| eprintln!("note: {note}"));
        bail!("{shown} has no label that can be used: give rows of id,label");
    }
    Ok(table)
}
