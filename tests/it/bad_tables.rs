//! Tables that people bring: what is wrong with one, what of it will not be watched, and why, in one sentence each.

use crate::bad_input::{complains, create, table};
use crate::fleet::{binary, root, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path
}

#[test]
fn what_will_not_be_watched_is_said_and_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("rows.csv");
    let row = |i: usize| format!("{},{},12,,{}\n", 60 + i % 7, 1.5 + (i % 5) as f64 / 10.0, 40 + i % 3);
    let header = driftline_agent::pumps::COLUMNS.join(",");
    fs::write(&data, std::iter::once(format!("{header}\n")).chain((0..25).map(row)).collect::<String>())
        .expect("a file");
    let (_, _, said) = run(&mut create(&root().join("tests/models/pump-v1.onnx"), &data));
    let [_, _, constant, empty, _] = driftline_agent::pumps::COLUMNS;
    for sentence in [
        "only 25 rows",
        &format!("{constant} never changes in your table: it will not be watched"),
        &format!("{empty} has no values in your table: it will not be watched"),
        "How readings go together will not be watched",
    ] {
        assert!(said.contains(sentence), "{sentence:?} is missing in {said}");
    }
}

#[test]
fn bad_tables_are_refused_when_a_baseline_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = root().join("tests/models/pump-v1.onnx");
    let file = |name: &str, text: &str| file(dir.path(), name, text);
    let good = file("good.csv", &table(300));
    complains(create(&model, &good).args(["--pixels", "unit"]), 1, &["--pixels", "good.csv is a table"]);
    complains(create(&model, &dir.path().join("imges")).args(["--pixels", "byte"]), 1, &["imges", "cannot be read"]);
    complains(&mut create(&model, &file("empty.csv", "")), 1, &["empty.csv", "empty"]);
    complains(&mut create(&model, &file("header.csv", &table(0))), 1, &["header.csv", "rows"]);
    complains(&mut create(&model, &file("few.csv", &table(10))), 1, &["few.csv", "10 rows"]);
    complains(&mut create(&model, &file("other.csv", "a,b\n1,2\n")), 1, &["other.csv", "no column temp_c"]);
    let letters = table(100).replace(",1480,", ",fast,").replace(",1481,", ",fast,");
    complains(
        &mut create(&model, &file("letters.csv", &letters)),
        1,
        &["letters.csv", "rpm", "\"fast\"", "no number", "line 2"],
    );
    complains(&mut create(&model, &dir.path().join("nowhere.csv")), 1, &["nowhere.csv", "cannot be read"]);
    complains(
        &mut create(&dir.path().join("no.onnx"), &file("good.csv", &table(300))),
        1,
        &["no.onnx", "cannot be read"],
    );
}

#[test]
fn what_a_table_lacks_is_said_when_a_baseline_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = root().join("tests/models/pump-v1.onnx");
    let file = |name: &str, text: &str| file(dir.path(), name, text);
    let timed = |bad: usize| -> String {
        let time = |i: usize| if i < bad { "yesterday".to_owned() } else { format!("{}", 1_700_000_000 + 60 * i) };
        let row =
            |(i, row): (usize, &str)| if i == 0 { format!("at,{row}\n") } else { format!("{},{row}\n", time(i - 1)) };
        table(300).lines().enumerate().map(row).collect()
    };
    // One bad time costs its row; a column of them is the wrong column.
    let (code, out, said) = run(create(&model, &file("one.csv", &timed(1))).args(["--time-column", "at"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1 row of") && said.contains("line 2: at holds \"yesterday\", which is no time"), "{said}");
    assert!(out.contains("baseline of 299 rows"), "{out}");
    complains(
        create(&model, &file("all.csv", &timed(300))).args(["--time-column", "at"]),
        1,
        &["300 of 300 rows cannot be read", "which is no time"],
    );
    // As spreadsheets write it, with the line that an editor shows.
    let rows = timed(0).replace(",1480,", ",fast,");
    // One bad row in thirty-three, which is what a table may have.
    let few = |(i, row): (usize, &str)| {
        if i % 3 == 2 { format!("{row}\r\n") } else { format!("{}\r\n", row.replace(",fast,", ",1480,")) }
    };
    let text: String = rows.lines().enumerate().map(few).collect();
    let line = 1 + text.lines().position(|row| row.contains("fast")).expect("a bad row");
    let (code, _, said) = run(create(&model, &file("spreadsheet.csv", &text)).args(["--time-column", "at"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("the first is line {line}: column rpm holds")), "line {line}: {said}");
    // What models cannot take is counted, and a class that no row has is named.
    let huge = table(300).replace(",1480,", ",1e39,").replace(",1481,", ",1000000001,");
    let (code, _, said) = run(create(&model, &file("huge.csv", &huge)).args(["--label", "wear"]));
    assert_eq!(code, 0, "{said}");
    for sentence in ["Values of rpm that are infinite or beyond 3.4e38 count as missing: ", "No row has the class"] {
        assert!(said.contains(sentence), "{sentence:?} is missing in {said}");
    }
    let large = table(300).lines().map(|row| row.replacen(",14", ",10000000", 1) + "\n").collect::<String>();
    let (_, _, said) = run(&mut create(&model, &file("large.csv", &large)));
    assert!(said.contains("rpm never changes in your table to the seven digits that models take"), "{said}");
    complains(
        create(&model, &file("bare.csv", "61,1.8,12,1480,45\n62,1.8,12,1481,45\n")).args(["--label", "wear"]),
        1,
        &["bare.csv has no header line", "61, 1.8, 12, 1480, 45"],
    );
    let blind = file("blind.csv", &table(300).replace(",wear", ",worn"));
    complains(
        create(&model, &file("labelled.csv", &table(300))).args(["--label", "wear", "--calibration"]).arg(&blind),
        1,
        &["blind.csv has no column wear, which --calibration needs"],
    );
    fs::create_dir(dir.path().join("images")).expect("a folder");
    complains(
        create(&model, &dir.path().join("images")).args(["--exclude", "wear"]),
        1,
        &["--exclude is for the columns of a table", "leave it out"],
    );
}

#[test]
fn sensor_tables_that_say_nothing_are_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.csv"), "t;t;anomaly\n1;2;0\n").expect("a file");
    let mut command = Command::new(binary("driftline"));
    let (code, _, error) = run(command.args(["evaluate", "--folder"]).arg(dir.path()));
    assert_eq!(code, 1);
    assert!(error.contains("a.csv: it has the column t twice: rename or remove one of them; left out"), "{error}");
    let file = |rows: &mut dyn Iterator<Item = String>| {
        let text = std::iter::once("at,t,version,anomaly\n".to_owned()).chain(rows).collect::<String>();
        fs::write(dir.path().join("a.csv"), text).expect("a file");
        let mut command = Command::new(binary("driftline"));
        run(command.args(["evaluate", "--json", "--training-rows", "40", "--folder"]).arg(dir.path()))
    };
    let row = |i: usize, trouble: bool| format!("day {i},{},7,{}\n", i * 7_919 % 31, u8::from(trouble));
    let (code, _, error) = file(&mut (0..100).map(|i| row(i, i >= 30)));
    assert_eq!(code, 1);
    assert!(
        error.contains("row 31 of the 40 that would be its training data is labelled \"1\", which is trouble"),
        "{error}"
    );
    let torn = ["day 200,1\n".to_owned(), "at,t,version,anomaly\n".to_owned()];
    let (code, page, error) = file(&mut (0..200).map(|i| row(i, i >= 180)).chain(torn));
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("and headers among them, are left out: 2"), "{error}");
    assert!(error.contains("columns without a name or a number are no readings: at"), "{error}");
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let about = page[0]["about"].as_str().expect("words");
    assert!(
        about.contains("Not watched in at least one table: version (never changes in its training rows"),
        "{about}"
    );
    assert_eq!(page[0]["rows"][0][0], "Driftline");
    let (code, _, error) = file(&mut (0..200).map(|_| "day 1,7,7,0\n".to_owned()));
    assert_eq!(code, 1);
    assert!(error.contains("no table has a column that can be watched"), "{error}");
    let mut command = Command::new(binary("driftline"));
    let (code, _, error) = run(command.args(["evaluate", "--quick", "--folder"]).arg(dir.path()));
    assert_eq!(code, 2);
    assert!(error.contains("cannot be used with"), "{error}");
    let mut command = Command::new(binary("driftline"));
    let (code, _, error) = run(command.args(["evaluate", "--tolerance", "nan"]));
    assert_eq!(code, 2);
    assert!(error.contains("give a finite number of at least 0"), "{error}");
}

#[test]
fn a_signals_samples_run_over_no_skipped_row_however_lines_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = root().join("tests/models/corpus/nn-cnn1d-1x128.onnx");
    for end in ["\n", "\r\n", "\r", "\n\n"] {
        // Each reading is its row's number, and one in 130 is none.
        let reading = |i: usize| if i % 130 == 129 { format!("bad{end}") } else { format!("{i}{end}") };
        let text: String = std::iter::once(format!("x{end}")).chain((0..30 * 130).map(reading)).collect();
        let mut command = create(&model, &file(dir.path(), "signal.csv", &text));
        let (code, out, said) = run(command.args(["--signal-hop", "128"]));
        assert_eq!(code, 0, "{end:?}: {said}");
        assert!(said.contains("30 rows of") && out.contains("baseline of 30 rows"), "{end:?}: {out}{said}");
        let golden = fs::read_to_string(dir.path().join("signal.bundle/golden.json")).expect("golden rows");
        let golden: serde_json::Value = serde_json::from_str(&golden).expect("JSON");
        for sample in golden["inputs"].as_array().expect("samples") {
            let sample: Vec<f64> = sample.as_array().expect("readings").iter().filter_map(|x| x.as_f64()).collect();
            assert!(sample.windows(2).all(|pair| pair[1] - pair[0] == 1.0), "{end:?}: {sample:?}");
        }
        fs::remove_dir_all(dir.path().join("signal.bundle")).expect("removed");
    }
}
