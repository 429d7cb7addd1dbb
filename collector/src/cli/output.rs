//! Tables for people, tab-separated columns for programs, JSON for both.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// How to print.
pub struct Output {
    pub json: bool,
    table: bool,
}

/// One column: its heading and how to read it from an item.
pub type Column = (&'static str, fn(&Value) -> String);

impl Output {
    pub fn new(json: bool, plain: bool) -> Self {
        Self { json, table: !plain && std::io::stdout().is_terminal() }
    }

    /// A list: `{"schema","items"}`, a table, or tab-separated lines; `empty` says in words that there is nothing.
    pub fn list(&self, schema: &str, answer: &Value, columns: &[Column]) -> anyhow::Result<()> {
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        if self.json {
            return self.line(
                &json!({ "schema": format!("driftline.{schema}.v1"), "items": items, "next": null }).to_string(),
            );
        }
        if let Some(empty) = answer["empty"].as_str() {
            eprintln!("{empty}");
            return Ok(());
        }
        let cells = |item: &Value| columns.iter().map(|(_, read)| clean(&read(item))).collect::<Vec<_>>();
        if !self.table {
            return items.iter().try_for_each(|item| self.line(&cells(item).join("\t")));
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(columns.iter().map(|(name, _)| *name));
        items.iter().for_each(|item| {
            table.add_row(cells(item));
        });
        self.line(&table.to_string())
    }

    /// One thing: JSON, or the lines that `words` makes of it.
    pub fn one(&self, answer: &Value, words: impl FnOnce(&Value) -> Vec<String>) -> anyhow::Result<()> {
        if self.json {
            return self.line(&answer.to_string());
        }
        words(answer).iter().try_for_each(|line| self.line(line))
    }

    fn line(&self, text: &str) -> anyhow::Result<()> {
        match writeln!(std::io::stdout().lock(), "{text}") {
            // Whoever reads has enough.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            other => Ok(other?),
        }
    }
}

/// Text from outside must not steer the terminal or break columns.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A field as text.
pub fn text(item: &Value, key: &str) -> String {
    match &item[key] {
        Value::Null => "–".into(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// A bar on standard error that shows itself only when the work takes longer than half a second.
pub fn progress(len: u64, what: &'static str) -> ProgressBar {
    let bar = if len == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(len) };
    let template = if len == 0 { "{spinner} {pos} {msg}" } else { "{bar:30} {pos}/{len} {msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
