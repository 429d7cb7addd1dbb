//! `driftline compare`: the numbers of other tools from two CSV files, or from cases as lines of JSON. Asks no collector.
//!
//! Files: every column that both have, or those named, each with its figure, a sentence and the convention behind it; a figure that
//! is no number has no verdict and counts as failed. Cases: one
//! answer per line, in order, whatever is wrong with a line is said in its own answer; answers leave before the next read could
//! block, so that a program can hold a conversation.

use super::header::{self, open};
use super::output::{Output, clean, text};
use anyhow::{Context, Result, anyhow, bail};
use driftline_collector::compare::case::{LINE_BYTES_MAX, figure_json, line, refused};
use driftline_collector::compare::sample::{Pair, Sample};
use driftline_collector::compare::{Answer, Input, Metric, Refusal, Request, Tool, answer};
use driftline_collector::explain::some;
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Most rows of a file.
const ROWS_MAX: usize = 10_000_000;

/// Options of `driftline compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CSV file that was normal, with a header line
    #[arg(long, requires = "current")]
    reference: Option<PathBuf>,
    /// CSV file to compare with it
    #[arg(long, required_unless_present = "cases")]
    current: Option<PathBuf>,
    /// Column to compare, repeatable [default: all that both files have]
    #[arg(long = "column", value_delimiter = ',')]
    columns: Vec<String>,
    /// Figure, such as psi, js_distance, ks_2samp, wasserstein1 (docs/compare.md) [default: the tool's own choice per column]
    #[arg(long)]
    metric: Option<String>,
    /// Whose convention: driftline, scipy, evidently, nannyml, deequ, deepchecks, scouter or river
    #[arg(long = "as", default_value = "driftline")]
    tool: String,
    /// Parameter of the figure as NAME=VALUE, repeatable
    #[arg(long = "param")]
    params: Vec<String>,
    /// File of cases, one JSON object per line; - for standard input
    #[arg(conflicts_with_all = ["reference", "current", "columns", "metric", "tool", "params"])]
    cases: Option<PathBuf>,
}

/// Compares.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode> {
    if let Some(cases) = &args.cases {
        if cases.as_os_str() == "-" {
            answer_all(BufReader::new(std::io::stdin().lock()))?;
        } else {
            answer_all(BufReader::new(open(cases)?))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    files(args, output)
}

fn answer_all(mut cases: BufReader<impl Read>) -> Result<()> {
    let mut answers = BufWriter::new(std::io::stdout().lock());
    let mut bytes = Vec::new();
    loop {
        if cases.buffer().is_empty() {
            delivered(answers.flush())?;
        }
        bytes.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        if cases.by_ref().take(limit).read_until(b'\n', &mut bytes).context("the cases cannot be read")? == 0 {
            return delivered(answers.flush());
        }
        let answered = if bytes.len() as u64 == limit && bytes.last() != Some(&b'\n') {
            skip_line(&mut cases)?;
            refused(&Value::Null, &Refusal::Line(format!("it is longer than {LINE_BYTES_MAX} bytes")))
        } else {
            match std::str::from_utf8(&bytes) {
                Ok(text) if text.trim_start_matches('\u{feff}').trim().is_empty() => continue,
                Ok(text) => line(text),
                Err(_) => refused(&Value::Null, &Refusal::Line("it is not UTF-8".into())),
            }
        };
        delivered(writeln!(answers, "{answered}"))?;
    }
}

/// Reads on to the end of a line without keeping it.
fn skip_line(cases: &mut impl BufRead) -> Result<()> {
    loop {
        let buffer = cases.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (end, used) = match buffer.iter().position(|&b| b == b'\n') {
            Some(at) => (true, at + 1),
            None => (false, buffer.len()),
        };
        cases.consume(used);
        if end {
            return Ok(());
        }
    }
}

fn delivered(written: std::io::Result<()>) -> Result<()> {
    match written {
        // Whoever reads has enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// The columns of a CSV file: names, and values as they stand there.
struct Table {
    names: Vec<String>,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(open(path)?);
        let names = header::names(&mut reader, &shown.to_string())?;
        let mut rows = Vec::new();
        for record in reader.records() {
            if rows.len() == ROWS_MAX {
                bail!("{shown} has more than {ROWS_MAX} rows");
            }
            rows.push(record.map_err(|e| match (e.kind(), e.position()) {
                (csv::ErrorKind::Utf8 { .. }, Some(at)) => {
                    anyhow!("{shown} has bytes that are not UTF-8 at line {}: save it as UTF-8", at.line())
                }
                _ => anyhow!("{shown} is not a CSV file: {e}"),
            })?);
        }
        Ok(Self { names, rows })
    }

    /// The cells of a column.
    fn column(&self, name: &str, path: &Path) -> Result<impl Iterator<Item = &str> + Clone> {
        let at = self.names.iter().position(|n| n == name && !n.is_empty()).with_context(|| {
            let names: Vec<String> = self.names.iter().filter(|n| !n.is_empty()).map(|n| clean(n)).collect();
            format!("{} has no column {:?}; it has {}", path.display(), name, some(&names))
        })?;
        // A row that ends early has nothing there.
        Ok(self.rows.iter().map(move |row| row.get(at).unwrap_or("")))
    }
}

fn files(args: &Args, output: &Output) -> Result<ExitCode> {
    let tool = Tool::by_name(&args.tool).ok_or_else(|| Refusal::Tool(args.tool.clone()))?;
    let metric = args.metric.as_deref();
    let metric = metric.map(|name| Metric::by_name(name).ok_or_else(|| Refusal::Metric(name.into()))).transpose()?;
    let params = params(&args.params)?;
    let Some(current_path) = &args.current else { bail!("--current is needed") };
    let current = Table::read(current_path)?;
    let reference = args.reference.as_deref().map(Table::read).transpose()?;
    if reference.is_none() && tool != Tool::River {
        bail!("--reference is needed: {} compares two samples", tool.name());
    }
    let mut columns = args.columns.clone();
    if columns.is_empty() {
        let common = |name: &&String| reference.as_ref().is_none_or(|r| r.names.contains(name)) && !name.is_empty();
        columns = current.names.iter().filter(common).cloned().collect();
        if let (Some(table), Some(path)) = (&reference, &args.reference) {
            note_lonely(table, path, &current);
            note_lonely(&current, current_path, table);
        }
    }
    if columns.is_empty() {
        bail!("the two files have no column in common: rename those to compare, so that both files call them the same");
    }
    let mut items = Vec::new();
    for column in &columns {
        let now = current.column(column, current_path)?;
        let input = match (&reference, &args.reference) {
            (Some(table), Some(path)) => {
                Input { pair: Some(Pair::from_texts(table.column(column, path)?, now)), ..Input::default() }
            }
            _ => Input { series: Some(Sample::from_texts(now)), ..Input::default() },
        };
        let mut request = Request { tool, metric, params: params.clone(), input };
        let mut found = answer(&mut request);
        // Where labels will not do, truth values are 1 and 0, as pandas has them.
        if let (Err(_), Some(numbers)) = (&found, request.input.pair.as_ref().and_then(Pair::booleans)) {
            let labels = request.input.pair.replace(numbers);
            match answer(&mut request) {
                Ok(answered) => found = Ok(answered),
                Err(_) => request.input.pair = labels,
            }
        }
        items.push(item(column, &request, &found));
    }
    let failed = items.iter().filter(|item| !item["error"].is_null()).count();
    show(&items, output)?;
    // Columns that were not asked for by name may be of another kind.
    let bad = failed == items.len() || (failed > 0 && !args.columns.is_empty());
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says which columns of a table the other one lacks.
fn note_lonely(table: &Table, path: &Path, other: &Table) {
    let lonely: Vec<String> =
        table.names.iter().filter(|n| !n.is_empty() && !other.names.contains(n)).map(|n| clean(n)).collect();
    if lonely.is_empty() {
        return;
    }
    eprintln!("note: only {} has {}; not compared", path.display(), some(&lonely));
}

/// NAME=VALUE, the value as JSON where it is some.
fn params(given: &[String]) -> Result<Map<String, Value>> {
    let one = |pair: &String| {
        let (name, value) = pair.split_once('=').with_context(|| format!("{pair} is not NAME=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        Ok((name.to_owned(), value))
    };
    given.iter().map(one).collect()
}

fn item(column: &str, request: &Request, found: &Result<(Metric, Answer), Refusal>) -> Value {
    let Request { tool, metric, input, .. } = request;
    let mut item = json!({ "column": column, "as": tool.name(), "metric": metric.map(Metric::name) });
    match found {
        Ok((metric, answer)) => {
            for (name, figure) in &answer.figures {
                item[*name] = figure_json(figure);
            }
            if judged(*tool, answer).is_some_and(f64::is_nan) {
                let why = format!("{} does not exist: {}", metric.name(), no_number(column, *tool, input));
                item["sentence"] = json!(format!("{column} cannot be compared: {why}."));
                item["error"] = json!(why);
            } else {
                item["sentence"] = json!(sentence(column, *tool, *metric, answer));
            }
            item["convention"] = answer.stated.json();
            item["convention"]["line"] = json!(answer.stated.line());
        }
        Err(why) => {
            item["error"] = json!(why.to_string());
            item["sentence"] = json!(format!("{column} cannot be compared: {why}."));
        }
    }
    item
}

/// Why a figure is no number.
fn no_number(column: &str, tool: Tool, input: &Input) -> String {
    let sides: Vec<(&str, &Sample)> = match (&input.pair, &input.series) {
        (Some(pair), _) => vec![("the reference", &pair.reference), ("current", &pair.current)],
        (None, series) => series.iter().map(|series| ("current", series)).collect(),
    };
    if let Some((side, _)) = sides.iter().find(|(_, sample)| sample.cleaned(false).is_empty()) {
        return format!("{side} has no values in column {column}");
    }
    if let Some((side, _)) = sides.iter().find(|(_, sample)| sample.cleaned(true).is_empty()) {
        return format!("{side} has only infinities in column {column}");
    }
    if let Some((side, _)) = sides.iter().find(|(_, sample)| sample.cleaned(true).len() < sample.len()) {
        return format!(
            "{side} has missing or infinite values in column {column}, from which {} gets no number",
            tool.name()
        );
    }
    format!("{} gets no number from the values of column {column}", tool.name())
}

/// The number that a tool's limit is held against.
fn judged(tool: Tool, answer: &Answer) -> Option<f64> {
    let p = if tool == Tool::Evidently || tool == Tool::Nannyml { answer.number("p") } else { None };
    p.or(answer.number("value"))
}

/// When a tool with its default settings speaks of drift.
enum Alarm {
    Above(f64),
    AtLeast(f64),
    Below(f64),
    AtMost(f64),
}

fn alarm(tool: Tool, metric: Metric) -> Option<Alarm> {
    Some(match (tool, metric) {
        (Tool::Evidently, Metric::Ks) => Alarm::AtMost(0.05),
        (Tool::Evidently, Metric::Chisquare | Metric::Z) => Alarm::Below(0.05),
        (Tool::Evidently, Metric::G) => Alarm::Below(0.1),
        (Tool::Evidently, Metric::Energy) => Alarm::Above(0.1),
        (Tool::Evidently, Metric::Psi | Metric::Js | Metric::Kl | Metric::Hellinger | Metric::WassersteinNorm) => {
            Alarm::AtLeast(0.1)
        }
        (Tool::Nannyml, Metric::Contingency) => Alarm::Below(0.05),
        (Tool::Deequ, Metric::LInfinityRobust) => Alarm::Above(0.1),
        (Tool::Deepchecks, _) => Alarm::AtLeast(0.2),
        _ => return None,
    })
}

fn sentence(column: &str, tool: Tool, metric: Metric, answer: &Answer) -> String {
    let name = tool.name();
    if metric == Metric::Adwin || metric == Metric::PageHinkley {
        let count = match figure_json(&answer.figures[0].1) {
            Value::Array(at) => at.len(),
            _ => 0,
        };
        return match count {
            0 => format!("{column}: no change was detected."),
            1 => format!("{column}: 1 change was detected."),
            n => format!("{column}: {n} changes were detected."),
        };
    }
    let Some(value) = judged(tool, answer) else { return format!("{column}: see the figures.") };
    let (drifted, limit) = match alarm(tool, metric) {
        Some(Alarm::Above(limit)) => (value > limit, format!("above {limit}")),
        Some(Alarm::AtLeast(limit)) => (value >= limit, format!("{limit} or more")),
        Some(Alarm::Below(limit)) => (value < limit, format!("below {limit}")),
        Some(Alarm::AtMost(limit)) => (value <= limit, format!("{limit} or less")),
        None => return format!("{column}: {} is {value:.6}; {name} has no fixed limit for it.", metric.name()),
    };
    let verdict = if drifted { "speaks of drift" } else { "does not speak of drift" };
    format!("{column}: {name} {verdict}, the limit is {limit}.")
}

fn show(items: &[Value], output: &Output) -> Result<()> {
    let number = |item: &Value, key: &str| match &item[key] {
        Value::Number(n) => n.as_f64().map_or_else(String::new, |v| format!("{v}")),
        Value::Array(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Value::String(s) => s.clone(),
        _ => "–".into(),
    };
    if output.json {
        return output.list("compare", &json!({ "items": items }), &[]);
    }
    let shown: Vec<Value> = items
        .iter()
        .map(|item| {
            let key = ["d", "stat", "mmd2", "detections", "value"].into_iter().find(|key| !item[*key].is_null());
            json!({
                "column": item["column"],
                "metric": format!("{} {}", text(item, "as"), text(item, "metric")),
                "value": key.map_or_else(|| "–".into(), |key| number(item, key)),
                "p": number(item, "p"),
                "sentence": item["sentence"],
                "convention": item["convention"]["line"],
            })
        })
        .collect();
    output.list(
        "compare",
        &json!({ "items": shown }),
        &[
            ("COLUMN", |v| text(v, "column")),
            ("FIGURE", |v| text(v, "metric")),
            ("VALUE", |v| text(v, "value")),
            ("P", |v| text(v, "p")),
            ("WHAT IT SAYS", |v| text(v, "sentence")),
            ("CONVENTION", |v| text(v, "convention")),
        ],
    )
}
