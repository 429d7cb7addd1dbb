//! `driftline evaluate`: what the detector promises, measured, beside the rules of other tools; a Markdown page.

use super::header;
use super::output::{Output, clean, progress};
use super::value;
use anyhow::{Context, Result, bail};
use driftline_collector::evaluate::sensors::{Cut, Experiment};
use driftline_collector::evaluate::series::TOLERANCE;
use driftline_collector::evaluate::{Size, Table, attribution, delay, fleet, null, sensors, together};
use driftline_collector::explain::some;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tables read of a folder, files looked at for them, and the size of one.
const TABLES_MAX: usize = 1_000;
const ENTRIES_MAX: usize = 1_000_000;
const TABLE_BYTES_MAX: u64 = 1 << 30;
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
    /// The label column: 0, empty, `normal` or `false` is normal, anything else is trouble
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
    if args.training_rows < 2 * args.window_rows {
        bail!("the training data has to hold at least two windows: give more --training-rows or fewer --window-rows");
    }
    let mut paths = csv_files(folder)?;
    if paths.len() > TABLES_MAX {
        eprintln!("note: of {} tables the first {TABLES_MAX} are read", paths.len());
        paths.truncate(TABLES_MAX);
    }
    let (mut experiments, mut seen) = (Vec::new(), Seen::default());
    for path in &paths {
        let name = clean(&path.strip_prefix(folder).unwrap_or(path).display().to_string());
        match experiment(args, path, &name, &mut seen) {
            Ok(experiment) => experiments.push(experiment),
            Err(error) => eprintln!("note: {name}: {error:#}; left out"),
        }
    }
    if let Some(unknown) = args.exclude.iter().find(|name| !seen.columns.contains(*name)) {
        bail!(
            "no table has a column {unknown}, which --exclude names: there are {}",
            some(&Vec::from_iter(seen.columns))
        );
    }
    if experiments.is_empty() {
        bail!("{} holds no usable CSV table with a column {}", folder.display(), args.label);
    }
    if !seen.wordy.is_empty() {
        eprintln!("note: columns without a name or a number are no readings: {}", some(&Vec::from_iter(seen.wordy)));
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

/// Every regular CSV file below a folder, in the order of names.
fn csv_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let (mut folders, mut entries) = (vec![folder.to_path_buf()], 0);
    while let Some(folder) = folders.pop() {
        let found = std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in found {
            entries += 1;
            if entries > ENTRIES_MAX {
                bail!("{} has more than {ENTRIES_MAX} files: give the folder of the tables", folder.display());
            }
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    Ok(paths)
}

/// What the tables of a folder have in common.
#[derive(Default)]
struct Seen {
    /// Names of their columns.
    columns: BTreeSet<String>,
    /// Those without a number.
    wordy: BTreeSet<String>,
}

/// Whether a label says that nothing is wrong.
fn is_normal(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    matches!(label.as_str(), "" | "normal" | "false") || label.replace(',', ".").parse::<f64>().is_ok_and(|x| x == 0.0)
}

/// Reads one table.
fn experiment(args: &Args, path: &Path, name: &str, seen: &mut Seen) -> Result<Experiment> {
    if std::fs::metadata(path)?.len() > TABLE_BYTES_MAX {
        bail!("it has more than {} MiB", TABLE_BYTES_MAX >> 20);
    }
    let text = std::fs::read(path)?;
    let first = text.split(|&b| b == b'\n').next().unwrap_or_default();
    let count = |d: u8| first.iter().filter(|&&b| b == d).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|&d| count(d)).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(&text[..]);
    let header: Vec<String> = header::names(&mut reader, "it")?.iter().map(|name| clean(name)).collect();
    let label =
        header.iter().position(|h| *h == args.label).with_context(|| format!("it has no column {}", args.label))?;
    seen.columns.extend(header.iter().filter(|name| !name.is_empty()).cloned());
    let mut columns = vec![Vec::new(); header.len()];
    let (mut trouble, mut early, mut ragged) = (Vec::new(), None, 0);
    for record in reader.byte_records() {
        let record = record?;
        let text = |at: usize| String::from_utf8_lossy(record.get(at).unwrap_or_default()).trim().to_owned();
        let of_row = text(label);
        // Tables that were joined have their header again within.
        if record.len() != header.len() || of_row == args.label {
            ragged += 1;
            continue;
        }
        if early.is_none() && trouble.len() < args.training_rows && !is_normal(&of_row) {
            early = Some((trouble.len() + 1, of_row.clone()));
        }
        trouble.push(!is_normal(&of_row));
        for (at, column) in columns.iter_mut().enumerate() {
            // Where cells are not separated by commas, a comma may stand for the point.
            let number = if delimiter == b',' { text(at) } else { text(at).replace(',', ".") };
            column.push(number.parse::<f32>().unwrap_or(f32::NAN));
        }
    }
    if ragged > 0 {
        eprintln!("note: {name}: rows without a cell for every column, and headers among them, are left out: {ragged}");
    }
    if trouble.len() < args.training_rows.saturating_add(args.window_rows) {
        bail!("its {} rows are fewer than training data and a window need", trouble.len());
    }
    if let Some((row, label)) = early {
        bail!(
            "row {row} of the {} that would be its training data is labelled {:?}, which is trouble: fewer --training-rows may do",
            args.training_rows,
            label.chars().take(32).collect::<String>()
        );
    }
    let (mut names, mut readings) = (Vec::new(), Vec::new());
    for (at, (name, column)) in header.into_iter().zip(columns).enumerate() {
        if at == label || args.exclude.contains(&name) {
            continue;
        }
        if !name.is_empty() && column.iter().any(|v| v.is_finite()) {
            names.push(name);
            readings.push(column);
        } else {
            seen.wordy.insert(name);
        }
    }
    if names.is_empty() {
        bail!("it has no column of numbers beside {}", args.label);
    }
    Ok(Experiment { name: name.to_owned(), names, columns: readings, trouble })
}

#[cfg(test)]
mod tests {
    use super::is_normal;

    #[test]
    fn labels_are_read_as_people_write_them() {
        for normal in ["", "0", "0.0", "0,00", "-0", "normal", "Normal", "FALSE"] {
            assert!(is_normal(normal), "{normal:?}");
        }
        for trouble in ["1", "0.5", "valve", "TRUE", "nan"] {
            assert!(!is_normal(trouble), "{trouble:?}");
        }
    }
}
