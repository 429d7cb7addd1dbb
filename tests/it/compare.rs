//! `driftline compare --json -` against the tools whose numbers it gives: tests/peers/cases.py made tests/golden/compare.ndjson.
//!
//! `DRIFTLINE_PEERS` names another file, such as the full set that `tests/run peers` makes from the tools themselves.

use crate::fleet::{binary, root};
use driftline_collector::compare::{Refusal, case};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Allowed relative error.
const TOLERANCE: f64 = 1e-10;

/// `driftline compare` with cases on standard input.
fn streaming() -> std::process::Child {
    Command::new(binary("driftline"))
        .args(["compare", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("driftline starts")
}

/// Answers to lines, all written first.
fn answers(lines: &str) -> Vec<Value> {
    let mut child = streaming();
    let mut stdin = child.stdin.take().expect("a pipe");
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let answers = answers.map(|line| serde_json::from_str(&line.expect("UTF-8")).expect("JSON")).collect();
    writer.join().expect("a writer").expect("written");
    assert!(child.wait().expect("an end").success());
    answers
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// Relative error of what was found; infinite where one is no number and the other is.
fn error(found: &Value, wanted: &Value) -> f64 {
    if let Some(list) = wanted.as_array() {
        return match found.as_array() {
            Some(found) if found.len() == list.len() => {
                found.iter().zip(list).map(|(f, w)| error(f, w)).fold(0.0, f64::max)
            }
            _ => f64::INFINITY,
        };
    }
    match (number(found), number(wanted)) {
        (Some(f), Some(w)) if f == w || (f.is_nan() && w.is_nan()) => 0.0,
        (Some(f), Some(w)) if f.is_finite() && w.is_finite() && w != 0.0 => ((f - w) / w).abs(),
        _ => f64::INFINITY,
    }
}

#[test]
fn numbers_are_those_of_the_tools() {
    let path = std::env::var("DRIFTLINE_PEERS").map_or_else(|_| root().join("tests/golden/compare.ndjson"), Into::into);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a case")).collect();
    let answers = answers(&text);
    assert_eq!(answers.len(), cases.len());
    let mut worst: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for ((case, answer), line) in cases.iter().zip(&answers).zip(text.lines()) {
        assert_eq!(case["id"], answer["id"]);
        let want = case["want"].as_object().expect("what the tool said");
        let found = if want.contains_key("error") {
            // Where the tool raises, ours must say that it does, and not that it did not understand the case.
            let raised = matches!(case::ask(line).1, Err(Refusal::Peer(_)));
            if raised && answer["error"].is_string() { 0.0 } else { f64::INFINITY }
        } else {
            want.iter().map(|(name, wanted)| error(&answer[name], wanted)).fold(0.0, f64::max)
        };
        let name = format!("{} {}", case["as"].as_str().expect("a tool"), case["metric"].as_str().expect("a metric"));
        if found > TOLERANCE {
            let short = |v: &Value| v.to_string().chars().take(300).collect::<String>();
            wrong.push(format!("{name}: {found:e}: {} for {} of {}", short(answer), short(&case["want"]), short(case)));
        }
        let entry = worst.entry(name).or_default();
        *entry = (entry.0 + 1, entry.1.max(found));
    }
    for (name, (cases, worst)) in &worst {
        println!("{name:32} {cases:5} cases, worst relative error {worst:.1e}");
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    assert!(cases.len() >= 300 && worst.len() >= 35, "every tool and metric has cases: {worst:?}");
}

#[test]
fn a_bad_line_is_answered_and_the_next_one_too() {
    let bad = [
        "{",
        "[]",
        "null",
        r#"{"id":1}"#,
        r#"{"id":2,"metric":"psi","input":{"ref":3,"cur":[1]}}"#,
        r#"{"id":3,"metric":"psi","input":{"p":[1],"q":[0.5,0.5]}}"#,
        r#"{"id":4,"as":"scipy","metric":"histogram_bin_edges","params":{"bins":1e300},"input":{"x":[1,2]}}"#,
        r#"{"id":5,"as":"river","metric":"adwin","params":{"clock":0},"input":{"x":[1,2]}}"#,
        r#"{"id":6,"as":"nannyml","metric":"ks_d","params":{"n_bins":0,"calculation_method":"estimated"},"input":{"ref":[1,2],"cur":[1]}}"#,
        r#"{"id":7,"as":"evidently","metric":"mmd2_unbiased_rbf","input":{"ref":[1],"cur":[1]}}"#,
        r#"{"id":8,"metric":"ks_2samp","params":{"alternative":"sideways"},"input":{"ref":[1],"cur":[1]}}"#,
        r#"{"id":9,"as":"scipy","metric":"chisquare_p","params":{"ddof":"-Infinity"},"input":{"ref_counts":[1,2],"cur_counts":[2,1]}}"#,
        r#"{"id":10,"as":"scipy","metric":"chisquare_p","params":{"ddof":-1e300},"input":{"ref_counts":[1,2],"cur_counts":[2,1]}}"#,
    ];
    let good = r#"{"id":"ok","metric":"wasserstein1","input":{"ref":[1,2],"cur":[3,4]}}"#;
    let lines: String = bad.iter().flat_map(|line| [line, "\n", good, "\n"]).collect();
    let answers = answers(&format!("\u{feff}{lines}"));
    assert_eq!(answers.len(), 2 * bad.len());
    for (line, pair) in bad.iter().zip(answers.chunks(2)) {
        assert!(pair[0]["error"].as_str().is_some_and(|e| e.len() > 10 && !e.contains('\n')), "{line}: {}", pair[0]);
        assert_eq!(pair[1], json!({"id": "ok", "value": 2.0}));
    }
}

#[test]
fn an_answer_leaves_before_the_next_question() {
    let mut child = streaming();
    let mut questions = child.stdin.take().expect("a pipe");
    let mut answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for id in 0..3 {
        writeln!(questions, r#"{{"id":{id},"metric":"ks_d","input":{{"ref":[1],"cur":[2]}}}}"#).expect("written");
        let answer: Value = serde_json::from_str(&answers.next().expect("an answer").expect("UTF-8")).expect("JSON");
        assert_eq!((&answer["id"], &answer["value"]), (&json!(id), &json!(1.0)));
    }
    drop(questions);
    assert!(child.wait().expect("an end").success());
}

/// `driftline compare` of two tables: exit code, standard output, standard error.
fn compare(reference: &str, current: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(binary("driftline"));
    command.arg("compare");
    for (option, name, rows) in [("--reference", "a.csv", reference), ("--current", "b.csv", current)] {
        std::fs::write(folder.path().join(name), rows).expect("written");
        command.arg(option).arg(folder.path().join(name));
    }
    let output = command.args(more).output().expect("driftline runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_figure_that_is_no_number_is_no_verdict() {
    let check = |more: &[&str], current: &str, why: &str| {
        let (code, stdout, _) = compare("t,u\n1,1\n2,2\n3,3\n", current, &[&["--json"], more].concat());
        let answer: Value = serde_json::from_str(&stdout).expect("JSON");
        let item = &answer["items"][0];
        let (error, sentence) = (item["error"].as_str().unwrap_or_default(), item["sentence"].to_string());
        assert!(error.contains(why), "{item}");
        assert!(sentence.contains("t cannot be compared: ") && !sentence.contains("drift."), "{item}");
        code
    };
    let (empty, gap) = ("t,u\n,1\n,2\n", "t,u\n1,1\n,2\n");
    let none = "current has no values in column t";
    for metric in ["psi", "js_distance", "kl", "hellinger"] {
        let one = ["--metric", metric, "--column", "t"];
        assert_eq!(check(&one, empty, none), Some(1));
        // Columns that nobody named may fail, as long as one does not.
        assert_eq!(check(&["--metric", metric], empty, none), Some(0));
    }
    check(&["--as", "nannyml", "--metric", "js_distance"], "t,u\n,1\n,2\n", "");
    let through = "current has missing or infinite values in column t, from which scipy gets no number";
    assert_eq!(check(&["--as", "scipy", "--column", "t"], gap, through), Some(1));
    assert_eq!(check(&["--metric", "psi", "--column", "t"], "t,u\n", none), Some(1));
}

#[test]
fn names_in_headers_are_trimmed_and_stand_there_once() {
    let (code, _, stderr) = compare("t,u,t\n1,2,3\n", "t,u\n1,2\n", &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("a.csv has the column t twice") && stderr.lines().count() == 1, "{stderr}");
    let (code, stdout, stderr) = compare("\u{feff}t , u\n1,2\n2,2\n", "t,u\n1,2\n2,2\n", &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout.lines().map(|line| &line[..1]).collect::<Vec<_>>(), ["t", "u"], "{stdout}");
    let (code, _, stderr) = compare("a,c,b\n1,2,3\n", "b,d\n1,2\n", &[]);
    assert_eq!(code, Some(0));
    let notes: Vec<&str> = stderr.lines().collect();
    assert!(notes.len() == 2 && notes[0].ends_with("a.csv has a, c; not compared"), "{stderr}");
    assert!(notes[1].ends_with("b.csv has d; not compared"), "{stderr}");
}

#[test]
fn two_files_column_by_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, rows: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, rows).expect("written");
        path
    };
    let reference = write("a.csv", "t,kind,only_here\n1,a,1\n2,a,1\n3,b,1\n,b,1\n");
    let current = write("b.csv", "kind,t\nb,7.5\nb,8\nc,9\nc,9.5\n");
    let run = |more: &[&str]| {
        let mut command = Command::new(binary("driftline"));
        command.args(["compare", "--reference"]).arg(&reference).arg("--current").arg(&current).args(more);
        let output = command.output().expect("driftline runs");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("UTF-8"),
            String::from_utf8(output.stderr).expect("UTF-8"),
        )
    };
    let (code, stdout, stderr) = run(&["--as", "evidently", "--json"]);
    assert_eq!(code, Some(0));
    assert!(stderr.starts_with("note: only ") && stderr.ends_with("a.csv has only_here; not compared\n"), "{stderr}");
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(answer["schema"], "driftline.compare.v1");
    let items = answer["items"].as_array().expect("items");
    let names: Vec<_> = items.iter().map(|i| (i["column"].as_str().unwrap(), i["metric"].as_str().unwrap())).collect();
    // Seven different numbers, not all whole: Kolmogorov-Smirnov; three categories: chi-square.
    assert_eq!(names, [("kind", "chisquare_p"), ("t", "ks_2samp")]);
    // All three below all four: 2 of the 35 orders.
    assert!((items[1]["p"].as_f64().expect("a number") - 2.0 / 35.0).abs() < 1e-12);
    assert_eq!(items[1]["convention"]["edges"], "none, values as they are");
    let (code, stdout, _) = run(&["--metric", "psi"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("Jeffreys") && stdout.lines().count() == 2, "{stdout}");
    let (code, _, stderr) = run(&["--column", "nowhere"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("b.csv has no column \"nowhere\"; it has kind, t"), "{stderr}");
    assert_eq!(run(&["--column", "kind", "--metric", "ks_d"]).0, Some(1));
}

#[test]
fn columns_are_what_pandas_and_evidently_take_them_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, rows: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, rows).expect("written");
        path
    };
    // Six different whole numbers, identifiers of which doubles keep some apart, truth values, codes with and without letters.
    let rows = |shift: u64| -> String {
        let row = |i: u64| {
            format!(
                "{},{},{},0{}\n",
                (i * i + shift) % 10,
                1_000_000_000_000_000_000 + 3 * i + shift,
                i % 3 == shift,
                i % 3
            )
        };
        (0..30).map(row).collect()
    };
    let header = "few,id,flag,code\n";
    let reference = write("a.csv", format!("{header}{}0,1,True,A1\n", rows(0)));
    let current = write("b.csv", format!("{header}{}", rows(1)));
    let item = |column: &str, tool: &str, metric: Option<&str>| -> Value {
        let mut command = Command::new(binary("driftline"));
        command.args(["compare", "--json", "--column", column, "--as", tool, "--reference"]).arg(&reference);
        command.arg("--current").arg(&current).args(metric.iter().flat_map(|metric| ["--metric", metric]));
        let stdout = command.output().expect("driftline runs").stdout;
        serde_json::from_slice::<Value>(&stdout).expect("JSON")["items"][0].clone()
    };
    assert_eq!(item("few", "evidently", None)["metric"], "chisquare_p");
    assert!(item("id", "evidently", None)["error"].as_str().expect("an error").contains("takes it for text"));
    assert!(
        item("id", "scipy", Some("ks_2samp"))["error"]
            .as_str()
            .expect("an error")
            .contains("too long to be kept exactly")
    );
    // 11 of 31 against 10 of 30 are true.
    let apart = item("flag", "scipy", Some("wasserstein1"))["value"].as_f64().expect("a number");
    assert!((apart - (11.0 / 31.0 - 1.0 / 3.0)).abs() < 1e-12, "{apart}");
    // One of 31 is A1, the others are the same thirds of the rest.
    let apart = item("code", "driftline", Some("total_variation"))["value"].as_f64().expect("a number");
    assert!((apart - 1.0 / 31.0).abs() < 1e-12, "{apart}");
    let semicolons = write("c.csv", "few;id\n1;2\n".into());
    let output = Command::new(binary("driftline"))
        .args(["compare", "--reference"])
        .arg(&semicolons)
        .arg("--current")
        .arg(&current)
        .output();
    let stderr = String::from_utf8(output.expect("driftline runs").stderr).expect("UTF-8");
    assert!(stderr.contains("c.csv is separated by semicolons: save it with commas"), "{stderr}");
}
