//! Prints samples of a source as CSV, so that people can make a baseline of what their device really sees.
//!
//! CSV is passed through, JSON lines get the keys of the first object as columns, and the pump is simulated, label included.
//! Nothing is paced, and no model is needed.

use super::sensors::Sensors;
use crate::config::{Format, SourceConfig, SourceKind};
use crate::pumps::{CLASSES, COLUMNS, LABEL, Pump};
use crate::source::LINE_BYTES_MAX;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The source cannot be read.
    #[error("{path} cannot be read ({reason}): check that it exists and holds rows")]
    Read {
        /// The source.
        path: String,
        /// Why.
        reason: String,
    },
    /// Not this kind.
    #[error("requests and images cannot be recorded as CSV: record them in the application, or keep the files")]
    Kind,
    /// The output cannot be written.
    #[error("the output cannot be written")]
    Write(#[from] std::io::Error),
}

/// Writes a header and up to `rows` samples of the source; `fault` switches the pump's fault on for the second half.
pub fn record(config: &SourceConfig, rows: u64, fault: bool, out: &mut impl Write) -> Result<(), RecordError> {
    match &config.kind {
        SourceKind::Pumps { seed, .. } => pumps(*seed, rows, fault, out)?,
        SourceKind::File { path, format, .. } => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|e| RecordError::Read { path: name.clone(), reason: e.to_string() })?;
            copy(Box::new(file), *format, &name, rows, out)?;
        }
        SourceKind::System => sensors(config.rate_hz.unwrap_or(1.0), rows, out)?,
        SourceKind::Command { command, format } => {
            let error = |reason: String| RecordError::Read { path: command[0].clone(), reason };
            let mut child = std::process::Command::new(&command[0]);
            let child = child.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
            let mut child = child.map_err(|e| error(e.to_string()))?;
            let pipe = child.stdout.take().ok_or_else(|| error("it has no output".into()))?;
            let copied = copy(Box::new(pipe), *format, &command[0], rows, out);
            let _ = child.kill();
            let _ = child.wait();
            copied?;
        }
        SourceKind::Http { .. } | SourceKind::Mqtt { .. } | SourceKind::Images { .. } => return Err(RecordError::Kind),
        SourceKind::Stdin { format } => copy(Box::new(std::io::stdin()), *format, "standard input", rows, out)?,
    }
    Ok(out.flush()?)
}

/// Readings of this device at this pace.
fn sensors(rate_hz: f64, rows: u64, out: &mut impl Write) -> std::io::Result<()> {
    let mut sensors = Sensors::all(Path::new("/"));
    writeln!(out, "{}", sensors.names().join(","))?;
    let mut values = Vec::new();
    for row in 0..rows {
        if row > 0 {
            std::thread::sleep(Duration::from_secs_f64(1.0 / rate_hz));
        }
        values.clear();
        sensors.read(&mut values);
        let cells: Vec<String> =
            values.iter().map(|v| if v.is_nan() { String::new() } else { v.to_string() }).collect();
        writeln!(out, "{}", cells.join(","))?;
    }
    Ok(())
}

fn pumps(seed: u64, rows: u64, fault: bool, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{},{LABEL}", COLUMNS.join(","))?;
    let mut pump = Pump::new(seed);
    for row in 0..rows {
        let reading = pump.next(fault && row >= rows / 2);
        for value in reading.values {
            // A missing reading is an empty cell.
            if value.is_nan() { write!(out, ",")? } else { write!(out, "{value},")? }
        }
        writeln!(out, "{}", CLASSES[reading.class])?;
    }
    Ok(())
}

fn copy(read: Box<dyn Read>, format: Format, path: &str, rows: u64, out: &mut impl Write) -> Result<(), RecordError> {
    let error = |reason: String| RecordError::Read { path: path.into(), reason };
    let mut lines = BufReader::new(read);
    let mut line = Vec::new();
    let mut keys: Option<Vec<String>> = None;
    let mut left = rows;
    while left > 0 {
        line.clear();
        let taken = (&mut lines).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
        if taken.map_err(|e| error(e.to_string()))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if format == Format::Csv {
            out.write_all(&line)?;
            // The header is no sample.
            left -= u64::from(keys.is_some());
            keys.get_or_insert_default();
            continue;
        }
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&line).map_err(|e| error(e.to_string()))?;
        let mut writer = csv::Writer::from_writer(Vec::new());
        let new = keys.is_none();
        let keys = keys.get_or_insert_with(|| object.keys().cloned().collect());
        let cells = keys.iter().map(|key| match object.get(key) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
        let row = if new {
            writer.write_record(&*keys).and_then(|()| writer.write_record(cells))
        } else {
            writer.write_record(cells)
        };
        row.map_err(|e| error(e.to_string()))?;
        out.write_all(&writer.into_inner().map_err(|e| error(e.to_string()))?)?;
        left -= 1;
    }
    if keys.is_none() {
        return Err(error("it is empty".into()));
    }
    Ok(())
}
