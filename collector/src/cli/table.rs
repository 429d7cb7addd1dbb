//! Training tables: a CSV file's rows with their truth, and when and on which device each was taken.

use super::header::{self, open};
use super::output::progress;
use anyhow::{Context, Result, bail};
use driftline_agent::config::Format;
use driftline_agent::source::{Row, Rows, Wanted, line_of};
use driftline_collector::explain::some;
use driftline_shared::list::Text;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most rows that are read; more tell nothing new and would not fit in memory beside everything else.
const ROWS_MAX: usize = 2_000_000;
/// Above this share of unreadable rows the table is more likely the wrong one.
const BAD_ROWS_SHARE_MAX: f64 = 0.1;

/// Rows of the training table.
#[derive(Debug, Default)]
pub struct Table {
    /// Input values.
    pub inputs: Vec<Vec<f32>>,
    /// When each row was taken, in milliseconds since 1970; empty when unknown.
    pub times: Vec<u64>,
    /// Which device each row came from; empty when unknown.
    pub devices: Vec<u32>,
}

/// Column names.
pub fn header(path: &Path) -> Result<Vec<String>> {
    let mut reader = csv::Reader::from_reader(open(path)?);
    header::names(&mut reader, &path.display().to_string())
}

/// Rows of a table.
#[derive(Debug)]
pub struct Read {
    /// Input values.
    pub inputs: Vec<Vec<f32>>,
    /// Their classes, where they name one.
    pub truths: Vec<Option<u16>>,
    /// Which rows below the header could not be read, counted from 0.
    pub skipped: BTreeSet<usize>,
}

/// Every readable row of the wanted columns.
pub fn rows(path: &Path, wanted: &Wanted) -> Result<Read> {
    let shown = path.display().to_string();
    let mut reader = Rows::open(Box::new(open(path)?), Format::Csv, wanted.clone(), &shown)?;
    let (mut table, mut truths, mut skipped, mut first_bad) = (Vec::new(), Vec::new(), BTreeSet::new(), None);
    let progress = progress(0, "rows read");
    while table.len() < ROWS_MAX {
        let at = table.len() + skipped.len();
        let mut values = Vec::with_capacity(wanted.inputs.len());
        match reader.next(&mut values)? {
            Row::Sample(read) => {
                table.push(values);
                truths.push(read.label);
            }
            Row::Malformed { line, error } => {
                skipped.insert(at);
                first_bad.get_or_insert(format!("line {line}: {error}"));
            }
            Row::End => break,
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if table.len() == ROWS_MAX && !matches!(reader.next(&mut Vec::new())?, Row::End) {
        eprintln!("note: of {shown} the first {ROWS_MAX} rows are read");
    }
    tolerated(&shown, [skipped.len(), 0, table.len()], first_bad)?;
    Ok(Read { inputs: table, truths, skipped })
}

/// Says that `bad` rows were skipped, beside the `others` of which that was said before; refuses the table where they are too many.
fn tolerated(shown: &str, [bad, others, good]: [usize; 3], first: Option<String>) -> Result<()> {
    let Some(first) = first else { return Ok(()) };
    let all = bad + others + good;
    if (bad + others) as f64 > BAD_ROWS_SHARE_MAX * all as f64 {
        bail!("{shown}: {} of {all} rows cannot be read; the first is {first}", bad + others);
    }
    let (rows, were) = if bad == 1 { ("row", "was") } else { ("rows", "were") };
    eprintln!("note: {bad} {rows} of {shown} {were} skipped; the first is {first}");
    Ok(())
}

/// Times and devices of the rows that were read, their classes, and the rows that were skipped: also those whose time is none. `columns` name
/// times and devices.
pub fn context(
    path: &Path,
    columns: [&Option<String>; 2],
    header: &[String],
    read: Read,
) -> Result<(Table, Vec<Option<u16>>, BTreeSet<usize>)> {
    let shown = path.display().to_string();
    let column = |name: &Option<String>| -> Result<Option<usize>> {
        let Some(name) = name else { return Ok(None) };
        let at = header.iter().position(|n| n == name);
        at.map(Some).with_context(|| format!("{shown} has no column {name}: its columns are {}", some(header)))
    };
    let (time, device) = (column(columns[0])?, column(columns[1])?);
    let Read { inputs, truths, mut skipped } = read;
    if time.is_none() && device.is_none() {
        return Ok((Table { inputs, ..Table::default() }, truths, skipped));
    }
    let (mut table, mut known_truths) = (Table::default(), Vec::new());
    let mut known: BTreeMap<String, u32> = BTreeMap::new();
    let (mut bad, mut first_bad) = (BTreeSet::new(), None);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(open(path)?);
    let mut rows = inputs.into_iter().zip(truths);
    for (row, record) in reader.byte_records().enumerate() {
        let record = record.with_context(|| format!("{shown} cannot be read"))?;
        if skipped.contains(&row) {
            continue;
        }
        let Some((values, truth)) = rows.next() else { break };
        let text = |at: usize| String::from_utf8_lossy(record.get(at).unwrap_or_default()).trim().to_owned();
        if let Some(at) = time {
            let text = text(at);
            let Some(ms) = time_ms(&text) else {
                let line = line_of(&record, row as u64);
                let why = "which is no time (RFC 3339, or seconds or milliseconds since 1970)";
                let text = Text::<32>::cut(&text);
                first_bad
                    .get_or_insert_with(|| format!("line {line}: {} holds {:?}, {why}", header[at], text.as_str()));
                bad.insert(row);
                continue;
            };
            table.times.push(ms);
        }
        if let Some(at) = device {
            let next = known.len() as u32;
            table.devices.push(*known.entry(text(at)).or_insert(next));
        }
        table.inputs.push(values);
        known_truths.push(truth);
    }
    tolerated(&shown, [bad.len(), skipped.len(), table.inputs.len()], first_bad)?;
    skipped.extend(bad);
    Ok((table, known_truths, skipped))
}

/// RFC 3339, or seconds or milliseconds since 1970.
fn time_ms(text: &str) -> Option<u64> {
    /// Numbers above this are milliseconds: as seconds they would lie after the year 5000.
    const SECONDS_MAX: f64 = 1e11;
    if let Ok(number) = text.parse::<f64>() {
        let ms = if number < SECONDS_MAX { number * 1e3 } else { number };
        return (0.0..1e15).contains(&ms).then_some(ms as u64);
    }
    let at = text.parse::<jiff::Timestamp>().or_else(|_| {
        // A time without a zone is taken as UTC.
        text.parse::<jiff::civil::DateTime>().and_then(|t| t.to_zoned(jiff::tz::TimeZone::UTC)).map(|z| z.timestamp())
    });
    u64::try_from(at.ok()?.as_millisecond()).ok()
}
