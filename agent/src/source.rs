//! Rows become samples: columns are found by name, and each row is read or refused with a reason.
//!
//! An empty cell, NaN or null is a missing reading and part of a sample; text where a number belongs, or a wrong number of
//! columns, makes the row malformed. Opening, pacing and looping are `io::source`; [`crate::pumps`] makes rows instead.

mod error;

use crate::config::Format;
use crate::observe::Profile;
use driftline_shared::list::Text;
use driftline_shared::manifest::{Sampled, class_index};
use driftline_shared::units::hash;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read};

pub use error::{RowError, SourceError};

/// Longest line of a source.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// What a model wants of a source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Columns in the model's order.
    pub inputs: Vec<String>,
    /// Column with the true class.
    pub label: Option<String>,
    /// Class names.
    pub classes: Vec<String>,
    /// Column with the sample's id.
    pub id: Option<String>,
    /// Column with the time at which the sample was taken.
    pub time: Option<String>,
    /// What a sample is, where it is not a row.
    pub sampled: Option<Sampled>,
}

impl Wanted {
    /// What the release wants; `label` overrides its label column, `id` names the column with the samples' ids.
    pub fn of(profile: &Profile, label: Option<&str>, id: Option<&str>) -> Self {
        Self {
            inputs: match profile.sampled.as_deref() {
                Some(Sampled::Signal { channels, .. }) => channels.iter().map(ToString::to_string).collect(),
                _ => profile.inputs.clone(),
            },
            label: label.map(Into::into).or(profile.label.clone()),
            classes: profile.classes.clone(),
            id: id.map(Into::into),
            time: None,
            sampled: profile.sampled.as_deref().cloned(),
        }
    }

    /// The index of a class by its text; `1` and `1.0` are the same class.
    pub fn class(&self, text: &str) -> Option<u16> {
        class_index(self.classes.iter().map(String::as_str), text)
    }
}

/// What a row says beside its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Known {
    /// The true class, where it is known.
    pub label: Option<u16>,
    /// [`hash`] of the sample's id, where the source has one.
    pub id: Option<u64>,
    /// When it was taken, in milliseconds since any fixed moment, where the source is played by it.
    pub at_ms: Option<f64>,
}

impl Known {
    /// An empty id is none.
    fn with_id(label: Option<u16>, id: Option<&[u8]>) -> Self {
        Self { label, id: id.map(<[u8]>::trim_ascii).filter(|id| !id.is_empty()).map(hash), at_ms: None }
    }
}

/// Samples on their way to the model: flat, and used again when empty.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Inputs of all samples, one after the other.
    pub values: Vec<f32>,
    /// One per sample.
    pub rows: Vec<Known>,
    /// Rows that could not be read, or came when the model was too far behind.
    pub malformed: u32,
    /// Those among them that came too late.
    pub late: u32,
    /// Before which rows something is missing, in ascending order: a signal begins anew there.
    pub cuts: Vec<usize>,
}

impl Chunk {
    /// Inputs of a sample.
    pub fn width(&self) -> usize {
        (self.values.len() / self.rows.len().max(1)).max(1)
    }

    /// Forgets its samples, keeping the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.rows.clear();
        self.malformed = 0;
        self.late = 0;
        self.cuts.clear();
    }
}

/// Where the inputs stand in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    cells: usize,
    inputs: Vec<usize>,
    label: Option<usize>,
    id: Option<usize>,
    time: Option<usize>,
    /// Columns that nothing reads.
    pub ignored: Vec<String>,
}

impl Columns {
    /// Finds the wanted columns in a header.
    pub fn find(header: &[String], wanted: &Wanted, path: &str) -> Result<Self, SourceError> {
        let mut inputs = Vec::with_capacity(wanted.inputs.len());
        for column in &wanted.inputs {
            let mut found = header.iter().enumerate().filter(|(_, name)| *name == column);
            let (path, column) = (path.to_owned(), column.clone());
            match (found.next(), found.next()) {
                (Some((at, _)), None) => inputs.push(at),
                (Some(_), Some(_)) => return Err(SourceError::RepeatedColumn { path, column }),
                (None, _) => return Err(SourceError::MissingColumn { path, column }),
            }
        }
        let label = wanted.label.as_ref().and_then(|l| header.iter().position(|name| name == l));
        let find =
            |column: &Option<String>| column.as_ref().map(|column| header.iter().position(|name| name == column));
        let missing = |column: &Option<String>| column.clone().unwrap_or_default();
        let id = find(&wanted.id).map_or(Ok(None), |at| {
            at.map(Some).ok_or(SourceError::MissingId { path: path.to_owned(), column: missing(&wanted.id) })
        })?;
        let time = find(&wanted.time).map_or(Ok(None), |at| {
            at.map(Some).ok_or(SourceError::MissingTime { path: path.to_owned(), column: missing(&wanted.time) })
        })?;
        let used = |at: &usize| inputs.contains(at) || [label, id, time].contains(&Some(*at));
        let ignored = (0..header.len()).filter(|at| !used(at)).map(|at| header[at].clone()).collect();
        Ok(Self { cells: header.len(), inputs, label, id, time, ignored })
    }

    /// Reads one row of cells: the inputs go to `values`, all or none of them.
    pub fn row<'a>(
        &self,
        cells: usize,
        cell: impl Fn(usize) -> &'a [u8],
        wanted: &Wanted,
        values: &mut Vec<f32>,
    ) -> Result<Known, RowError> {
        if cells != self.cells {
            return Err(RowError::Columns { found: cells, wanted: self.cells });
        }
        let before = values.len();
        for (name, &at) in wanted.inputs.iter().zip(&self.inputs) {
            let text = String::from_utf8_lossy(cell(at));
            let Some(value) = number(&text) else {
                values.truncate(before);
                return Err(RowError::NotANumber { column: name.clone(), text: Text::<32>::cut(&text).to_string() });
            };
            values.push(value);
        }
        let label = self.label.and_then(|at| wanted.class(&String::from_utf8_lossy(cell(at))));
        let at_ms = self.time.and_then(|at| time_ms(&String::from_utf8_lossy(cell(at))));
        Ok(Known { at_ms, ..Known::with_id(label, self.id.map(&cell)) })
    }

    /// Appends the inputs of a row of numbers.
    pub fn pick(&self, row: &[f32], values: &mut Vec<f32>) {
        values.extend(self.inputs.iter().map(|&at| row.get(at).copied().unwrap_or(f32::NAN)));
    }
}

/// A number as tables hold it: NaN for an empty cell, `NA`, `null` or `NaN`; `None` for other text.
pub fn number(text: &str) -> Option<f32> {
    match text.trim() {
        "" | "NA" | "N/A" | "null" => Some(f32::NAN),
        text => text.parse().ok(),
    }
}

/// Milliseconds of a time as tables hold it: RFC 3339, or seconds or milliseconds since 1970, told apart by their size.
pub fn time_ms(text: &str) -> Option<f64> {
    /// Seconds before the year 5138 are below, milliseconds after 1973 above.
    const SECONDS_MAX: f64 = 1e11;
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() => Some(if n.abs() < SECONDS_MAX { n * 1e3 } else { n }),
        Ok(_) => None,
        Err(_) => text.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond() as f64),
    }
}

/// What the next row is.
#[derive(Debug, PartialEq)]
pub enum Row {
    /// A sample, its inputs appended.
    Sample(Known),
    /// A row that cannot be read.
    Malformed {
        /// Line, from 1.
        line: u64,
        /// Why.
        error: RowError,
    },
    /// There are no more.
    End,
}

/// Reads rows of one source.
pub struct Rows {
    path: String,
    wanted: Wanted,
    kind: Kind,
    any: bool,
}

enum Kind {
    Csv { reader: csv::Reader<LineGuard>, columns: Columns, record: csv::ByteRecord, rows: u64 },
    Ndjson { reader: BufReader<LineGuard>, line: Vec<u8>, number: u64 },
}

impl Rows {
    /// Reads the header and finds the columns.
    pub fn open(read: Box<dyn Read + Send>, format: Format, wanted: Wanted, path: &str) -> Result<Self, SourceError> {
        let guard = LineGuard { read, run: 0 };
        let kind = match format {
            Format::Csv => {
                let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(guard);
                let header = reader.byte_headers().map_err(|e| read_error(path, e))?;
                let header: Vec<String> = header.iter().map(name_of).collect();
                if header.is_empty() {
                    let wanted = "a header line and rows of numbers";
                    return Err(SourceError::Empty { path: path.into(), wanted });
                }
                let columns = Columns::find(&header, &wanted, path)?;
                Kind::Csv { reader, columns, record: csv::ByteRecord::new(), rows: 0 }
            }
            Format::Ndjson => Kind::Ndjson { reader: BufReader::new(guard), line: Vec::new(), number: 0 },
        };
        Ok(Self { path: path.into(), wanted, kind, any: false })
    }

    /// Columns that nothing reads.
    pub fn ignored(&self) -> &[String] {
        match &self.kind {
            Kind::Csv { columns, .. } => &columns.ignored,
            Kind::Ndjson { .. } => &[],
        }
    }

    /// The next row; the inputs of a sample are appended to `values`.
    pub fn next(&mut self, values: &mut Vec<f32>) -> Result<Row, SourceError> {
        let row = match &mut self.kind {
            Kind::Csv { reader, columns, record, rows } => {
                if reader.read_byte_record(record).map_err(|e| read_error(&self.path, e))? {
                    let line = line_of(record, *rows);
                    *rows += 1;
                    let cells = &*record;
                    let found = columns.row(cells.len(), |at| cells.get(at).unwrap_or_default(), &self.wanted, values);
                    found.map_or_else(|error| Row::Malformed { line, error }, Row::Sample)
                } else {
                    Row::End
                }
            }
            Kind::Ndjson { reader, line, number } => loop {
                line.clear();
                let source = |source| SourceError::Read { path: self.path.clone(), source };
                if reader.read_until(b'\n', line).map_err(source)? == 0 {
                    break Row::End;
                }
                *number += 1;
                if !line.trim_ascii().is_empty() {
                    let found = object(line, &self.wanted, values);
                    break found.map_or_else(|error| Row::Malformed { line: *number, error }, Row::Sample);
                }
            },
        };
        match (&row, self.any, &self.kind) {
            (Row::End, false, Kind::Csv { .. }) => Err(SourceError::NoRows { path: self.path.clone() }),
            (Row::End, false, Kind::Ndjson { .. }) => {
                Err(SourceError::Empty { path: self.path.clone(), wanted: "one JSON object per line" })
            }
            _ => {
                self.any = true;
                Ok(row)
            }
        }
    }
}

/// The line of a CSV record, the `row`-th below the header counted from 0: where lines end with a carriage return the reader has not come to
/// its number yet.
pub fn line_of(record: &csv::ByteRecord, row: u64) -> u64 {
    record.position().map_or(0, csv::Position::line).max(row + 2)
}

/// A column name as it stands in a header, without the byte order mark that spreadsheets write.
fn name_of(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).trim_start_matches('\u{feff}').trim().to_owned()
}

/// Reads one JSON object.
fn object(line: &[u8], wanted: &Wanted, values: &mut Vec<f32>) -> Result<Known, RowError> {
    members(&serde_json::from_slice(line).map_err(|_| RowError::NotAnObject)?, wanted, values)
}

/// Reads the members of an object. A key that is absent or null is a missing reading.
pub fn members(object: &Map<String, Value>, wanted: &Wanted, values: &mut Vec<f32>) -> Result<Known, RowError> {
    if !wanted.inputs.iter().any(|name| object.contains_key(name)) {
        return Err(RowError::NoInputs);
    }
    let before = values.len();
    for name in &wanted.inputs {
        let value = match object.get(name) {
            None | Some(Value::Null) => Some(f32::NAN),
            Some(Value::Number(n)) => n.as_f64().map(|n| n as f32),
            Some(Value::String(text)) => number(text),
            Some(_) => None,
        };
        let Some(value) = value else {
            values.truncate(before);
            let text = match object.get(name) {
                Some(Value::String(text)) => text.clone(),
                other => other.map(ToString::to_string).unwrap_or_default(),
            };
            return Err(RowError::NotANumber { column: name.clone(), text: Text::<32>::cut(&text).to_string() });
        };
        values.push(value);
    }
    let label = wanted.label.as_ref().and_then(|label| object.get(label));
    let label = label.and_then(|label| match label {
        Value::String(text) => wanted.class(text),
        other => wanted.class(&other.to_string()),
    });
    let id = wanted.id.as_ref().and_then(|id| object.get(id)).and_then(|id| match id {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    let at_ms = wanted.time.as_ref().and_then(|time| object.get(time)).and_then(|time| match time {
        Value::String(text) => time_ms(text),
        other => time_ms(&other.to_string()),
    });
    Ok(Known { at_ms, ..Known::with_id(label, id.as_deref().map(str::as_bytes)) })
}

fn read_error(path: &str, error: csv::Error) -> SourceError {
    let source = match error.into_kind() {
        csv::ErrorKind::Io(source) => source,
        other => std::io::Error::other(format!("{other:?}")),
    };
    SourceError::Read { path: path.into(), source }
}

/// Ends a source whose line never ends, before it fills the memory.
struct LineGuard {
    read: Box<dyn Read + Send>,
    run: usize,
}

impl Read for LineGuard {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.read.read(buffer)?;
        let new = buffer.get(..n).unwrap_or_default();
        self.run = match new.iter().rposition(|&b| b == b'\n') {
            Some(at) => n - at,
            None => self.run + n,
        };
        if self.run > LINE_BYTES_MAX {
            return Err(std::io::Error::other(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        Ok(n)
    }
}
