//! `driftline evaluate`: what the detector promises, measured, beside the rules of other tools; a Markdown page.

use super::header;
use super::output::{Output, progress};
use super::value;
use anyhow::{Context, Result, bail};
use driftline_collector::evaluate::sensors::{Cut, Experiment};
use driftline_collector::evaluate::series::TOLERANCE;
use driftline_collector::evaluate::{Size, Table, attribution, delay, fleet, null, sensors, together};
use driftline_collector::explain::some;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tables read of a folder.
const TABLES_MAX: usize = 1_000;
/// Expected windows to a false alarm of one column of labelled sensors, as in docs/detection.md.
const SENSOR_RUN: f64 = 1e4;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// False alarms when nothing changes
    Null,
    /// Windows until a change is seen
    Delay,
    /// Whether the right device, site or fleet is named
    Attribution,
    /// Readings that go together in another way
    Together,
    /// A month of a whole fleet
    Fleet,
}

/// Options of `driftline evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure only this; may be given several times [default: everything]
    #[arg(long = "only", value_enum)]
    parts: Vec<Part>,
    /// A small run that shows that everything works
    #[arg(long)]
    quick: bool,
    /// Exit with 1 where a figure is not what Driftline promises
    #[arg(long)]
    check: bool,
    /// Where all random numbers come from
    #[arg(long, default_value_t = Size::FULL.seed)]
    seed: u64,
    /// Instead of simulations: a folder of CSV tables of real sensors with a label column
    #[arg(long, conflicts_with_all = ["parts", "quick", "check", "seed"])]
    folder: Option<PathBuf>,
    /// The label column: 0, empty or `normal` is normal, anything else is trouble
    #[arg(long, default_value = "anomaly", requires = "folder")]
    label: String,
    /// Columns that are no readings
    #[arg(long, value_delimiter = ',', requires = "folder")]
    exclude: Vec<String>,
    /// Rows of each table that are its training data
    #[arg(long, default_value_t = 400, requires = "folder")]
    training_rows: usize,
    /// Rows of a window
    #[arg(long, default_value_t = 20, requires = "folder")]
    window_rows: usize,
    /// Practical tolerance, in standard deviations [default: 0.1 as shipped; for delays 0, since the other rules have none]
    #[arg(long, value_parser = value::tolerance)]
    tolerance: Option<f64>,
}

/// Prints the page.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode> {
    if let Some(folder) = &args.folder {
        print(&[of_folder(args, folder)?], output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let size = Size { seed: args.seed, ..if args.quick { Size::QUICK } else { Size::FULL } };
    let wanted = |part: Part| args.parts.is_empty() || args.parts.contains(&part);
    let bar = progress(0, "parts done");
    let done = || bar.inc(1);
    let mut tables: Vec<Table> = Vec::new();
    if wanted(Part::Null) {
        tables.push(null::table(size, args.tolerance.unwrap_or(TOLERANCE), &done));
    }
    if wanted(Part::Delay) {
        tables.extend(delay::tables(size, args.tolerance.unwrap_or(0.0), &done));
    }
    if wanted(Part::Together) {
        tables.push(together::null(size, &done));
        tables.push(together::delays(size, &done));
    }
    if wanted(Part::Attribution) {
        tables.push(attribution::table(size, &done));
    }
    if wanted(Part::Fleet) {
        tables.push(fleet::table(size, &done));
    }
    bar.finish_and_clear();
    print(&tables, output)?;
    let missed: Vec<&String> = tables.iter().flat_map(|table| &table.missed).collect();
    missed.iter().for_each(|sentence| eprintln!("not kept: {sentence}"));
    Ok(if args.check && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn of_folder(args: &Args, folder: &Path) -> Result<Table> {
    if args.window_rows == 0 || args.training_rows < 30 {
        bail!("a window has at least 1 row and the training data at least 30");
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries.take(TABLES_MAX) {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() && folders.len() < TABLES_MAX {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let (mut experiments, mut wordy) = (Vec::new(), BTreeSet::new());
    for path in paths.iter().take(TABLES_MAX) {
        match experiment(args, path, &mut wordy) {
            Ok(experiment) => experiments.push(experiment),
            Err(error) => eprintln!("note: {}: {error:#}; left out", path.display()),
        }
    }
    if experiments.is_empty() {
        bail!("{} holds no usable CSV table with a column {}", folder.display(), args.label);
    }
    if !wordy.is_empty() {
        eprintln!("note: columns without a number are no readings: {}", some(&Vec::from_iter(wordy)));
    }
    if !experiments.iter().any(|experiment| experiment.trouble.contains(&true)) {
        eprintln!("note: nothing is labelled as trouble in column {}: only false alarms can be counted", args.label);
    }
    let cut = Cut {
        training: args.training_rows,
        window: args.window_rows,
        tolerance: args.tolerance.unwrap_or(TOLERANCE),
        expected_run: SENSOR_RUN,
    };
    let table = sensors::table(&experiments, &cut);
    if table.rows.is_empty() {
        bail!("no table has a column that can be watched.{}", table.about);
    }
    Ok(table)
}

/// Markdown; with `--json` a list of tables.
fn print(tables: &[Table], output: &Output) -> Result<()> {
    let markdown =
        |_: &_| vec![tables.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").trim_end().to_owned()];
    output.one(&serde_json::to_value(tables)?, markdown)
}

/// Reads one table; columns without numbers go to `wordy`.
fn experiment(args: &Args, path: &Path, wordy: &mut BTreeSet<String>) -> Result<Experiment> {
    let text = std::fs::read(path)?;
    let first = text.split(|&b| b == b'\n').next().unwrap_or_default();
    let count = |d: u8| first.iter().filter(|&&b| b == d).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|&d| count(d)).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(&text[..]);
    let header = header::names(&mut reader, "it")?;
    let label =
        header.iter().position(|h| *h == args.label).with_context(|| format!("it has no column {}", args.label))?;
    let mut columns = vec![Vec::new(); header.len()];
    let mut trouble = Vec::new();
    for record in reader.byte_records() {
        let record = record?;
        let text = |at: usize| String::from_utf8_lossy(record.get(at).unwrap_or_default()).trim().to_owned();
        trouble.push(!matches!(text(label).as_str(), "" | "0" | "0.0" | "normal" | "false" | "False"));
        for (at, column) in columns.iter_mut().enumerate() {
            column.push(text(at).parse::<f32>().unwrap_or(f32::NAN));
        }
    }
    if trouble.len() < args.training_rows.saturating_add(args.window_rows) {
        bail!("its {} rows are fewer than training data and a window need", trouble.len());
    }
    if let Some(row) = trouble[..args.training_rows].iter().position(|&trouble| trouble) {
        bail!(
            "row {} of the {} that would be its training data is labelled as trouble: fewer --training-rows may do",
            row + 1,
            args.training_rows
        );
    }
    let (mut names, mut readings) = (Vec::new(), Vec::new());
    for (at, (name, column)) in header.into_iter().zip(columns).enumerate() {
        if at == label || args.exclude.contains(&name) {
            continue;
        }
        if column.iter().any(|v| v.is_finite()) {
            names.push(name);
            readings.push(column);
        } else {
            wordy.insert(name);
        }
    }
    if names.is_empty() {
        bail!("it has no column of numbers beside {}", args.label);
    }
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    Ok(Experiment { name, names, columns: readings, trouble })
}
