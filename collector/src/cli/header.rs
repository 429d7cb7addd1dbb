//! The header line of a CSV table: one way to read its names, for every command that takes a table.
//!
//! Spreadsheets write a byte order mark and spaces, which belong to no name. A name that stands there twice is refused: whichever of
//! the two columns were taken, half of the readers would mean the other.

use anyhow::{Context, Result, bail};
use driftline_collector::explain::some;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Opens a file for reading; a folder is said to be one.
pub fn open(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if file.metadata().is_ok_and(|about| about.is_dir()) {
        bail!("{} is a folder; give a file", path.display());
    }
    Ok(file)
}

/// Column names of the table that messages call `shown`; at least one is not empty, and none stands there twice.
pub fn names<R: Read>(reader: &mut csv::Reader<R>, shown: &str) -> Result<Vec<String>> {
    let header = reader.byte_headers().with_context(|| format!("{shown} cannot be read as a CSV table"))?;
    if header.as_slice().starts_with(&[0xff, 0xfe]) || header.as_slice().starts_with(&[0xfe, 0xff]) {
        bail!("{shown} is UTF-16: save it as UTF-8");
    }
    let name = |cell: &[u8]| String::from_utf8_lossy(cell).trim_start_matches('\u{feff}').trim().to_owned();
    let names: Vec<String> = header.iter().map(name).collect();
    if names.iter().all(String::is_empty) {
        bail!("{shown} is empty: give a table with a header line and rows");
    }
    if let [only] = &names[..] {
        match only.matches([';', '\t']).next() {
            Some(";") => bail!("{shown} is separated by semicolons: save it with commas"),
            Some(_) => bail!("{shown} is separated by tabs: save it with commas"),
            None => {}
        }
    }
    if is_a_row(&names) {
        bail!("{shown} has no header line: its first line is {}. Put the columns' names above it", some(&names));
    }
    once(&names, shown)?;
    Ok(names)
}

/// Whether names are readings rather: numbers, and neither 0, 1, 2 nor a scale such as wavelengths in order.
fn is_a_row(names: &[String]) -> bool {
    let number = |name: &String| name.parse::<f64>().ok().filter(|x| x.is_finite());
    let Some(numbers) = names.iter().map(number).collect::<Option<Vec<f64>>>() else { return false };
    let scale = numbers.len() >= 3 && (numbers.is_sorted_by(|a, b| a < b) || numbers.is_sorted_by(|a, b| a > b));
    !scale && numbers.iter().any(|x| x.fract() != 0.0)
}

/// Refuses a name that stands in a header twice. Columns without a name cannot be asked for and may be many.
pub fn once(names: &[String], shown: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !name.is_empty() && !seen.insert(name.as_str())) {
        Some(twice) => bail!("{shown} has the column {twice} twice: rename or remove one of them"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: Result<&[&str], &str>) {
        let found = names(&mut csv::Reader::from_reader(text.as_bytes()), "a.csv").map_err(|e| e.to_string());
        let wanted = wanted.map(|names| names.iter().map(|&n| n.to_owned()).collect()).map_err(str::to_owned);
        assert_eq!(found, wanted, "{text:?}");
    }

    #[test]
    fn names_are_trimmed_and_stand_there_once() {
        check("\u{feff}t , kind\n1,2\n", Ok(&["t", "kind"]));
        check("\u{feff}\"t\",kind\n", Ok(&["t", "kind"]));
        check("t,,\n1,2,3\n", Ok(&["t", "", ""]));
        check("t,kind, t\n", Err("a.csv has the column t twice: rename or remove one of them"));
        check("t;kind\n1;2\n", Err("a.csv is separated by semicolons: save it with commas"));
        check("t\tkind\n", Err("a.csv is separated by tabs: save it with commas"));
        check("0,1,2\n5.1,3.5,1\n", Ok(&["0", "1", "2"]));
        check("400.5,401,401.5\n1,2,3\n", Ok(&["400.5", "401", "401.5"]));
        check("nan,5.1\n1,2\n", Ok(&["nan", "5.1"]));
        let first = "a.csv has no header line: its first line is 5.1, 7, 1e-3. Put the columns' names above it";
        check("5.1,7,1e-3\n4.9,3,2\n", Err(first));
        for nothing in ["", "\u{feff}", ",,\n1,2,3\n"] {
            check(nothing, Err("a.csv is empty: give a table with a header line and rows"));
        }
    }
}
