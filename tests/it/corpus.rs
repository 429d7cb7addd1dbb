//! Models as people export them, against what onnxruntime makes of them: `tests/models/corpus.py` makes models and answers.
//!
//! A few of them are committed and compared in every run. `DRIFTLINE_CORPUS` names a folder with all of them; then docs/models.md has to be
//! what that run gives (`DRIFTLINE_BLESS=1` writes it).

use crate::fleet::root;
use driftline_agent::inference::{Model, class_names, input_names, input_width};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// Models that the whole corpus has at least.
const MODELS_MIN: usize = 80;
/// |difference| ≤ tolerance · max(1, |onnxruntime's|): sums in another order.
const TOLERANCE: f64 = 5e-4;
/// The same for models of eight-bit numbers: two steps of the output's.
const TOLERANCE_QUANTISED: f64 = 1.0 / 100.0;

fn folder() -> (PathBuf, bool) {
    match std::env::var_os("DRIFTLINE_CORPUS") {
        Some(path) => (path.into(), true),
        None => (root().join("tests/models/corpus"), false),
    }
}

fn rows(value: &Value) -> Option<Vec<Vec<f32>>> {
    let row = |row: &Value| -> Vec<f32> {
        let row = row.as_array().expect("a row").iter();
        // A missing reading is null.
        row.map(|v| v.as_f64().map_or(f32::NAN, |v| v as f32)).collect()
    };
    Some(value.as_array()?.iter().map(row).collect())
}

/// What became of a model: `Ok` is the largest difference in units of what is allowed, `Err` the sentence that refuses it.
fn judge(onnx: &[u8], case: &Value) -> Result<f64, String> {
    let inputs = rows(&case["inputs"]);
    let width = match &inputs {
        Some(rows) => rows[0].len(),
        None => input_width(onnx).map_err(|e| e.to_string())?.unwrap_or(1),
    };
    let mut model = Model::load(onnx, width).map_err(|e| e.to_string())?;
    let quantised = case["group"].as_str().is_some_and(|group| group.starts_with("quantised"));
    let tolerance = if quantised { TOLERANCE_QUANTISED } else { TOLERANCE };
    let (mut worst, mut out) = (0.0f64, Vec::new());
    for (row, wanted) in inputs.unwrap_or_default().iter().zip(rows(&case["outputs"]).unwrap_or_default()) {
        model.run(row, &mut out).unwrap_or_else(|e| panic!("{}: {e}", case["what"]));
        assert_eq!(out.len(), wanted.len(), "{}: numbers of outputs", case["what"]);
        for (&found, wanted) in out.iter().zip(wanted) {
            let allowed = tolerance * f64::from(wanted.abs()).max(1.0);
            worst = worst.max((f64::from(found) - f64::from(wanted)).abs() / allowed);
        }
    }
    Ok(worst)
}

#[test]
fn exported_models_give_onnxruntimes_numbers_or_a_sentence() {
    let (folder, whole) = folder();
    let mut groups: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let (mut same, mut refused, mut wrong) = (0, 0, Vec::new());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).expect("a corpus").flatten().map(|e| e.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    files.sort();
    for path in &files {
        let onnx = fs::read(path).expect("a model");
        let case = fs::read(path.with_extension("json")).expect("its answers");
        let case: Value = serde_json::from_slice(&case).expect("JSON");
        let what = case["what"].as_str().expect("what it is").to_owned();
        let result = match judge(&onnx, &case) {
            Ok(worst) if worst <= 1.0 => {
                same += 1;
                "same".to_owned()
            }
            Ok(worst) => {
                wrong.push(format!("{} differs by {worst:.1} times the tolerance", path.display()));
                "differs".to_owned()
            }
            Err(sentence) => {
                refused += 1;
                assert!(sentence.contains(": "), "a sentence that says what to do: {sentence}");
                format!("refused: {sentence}")
            }
        };
        groups.entry(case["group"].as_str().expect("a group").to_owned()).or_default().push((what, result));
    }
    println!("{same} models give onnxruntime's numbers, {refused} are refused, {} differ", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(same > 0);
    if whole {
        assert!(files.len() >= MODELS_MIN, "{} models", files.len());
        let (path, page) = (root().join("docs/models.md"), page(&groups, same, refused));
        if std::env::var_os("DRIFTLINE_BLESS").is_some() {
            fs::write(&path, &page).expect("docs/models.md");
        }
        assert_eq!(
            fs::read_to_string(&path).expect("docs/models.md"),
            page,
            "docs/models.md is not what this run gives"
        );
    }
}

fn page(groups: &BTreeMap<String, Vec<(String, String)>>, same: usize, refused: usize) -> String {
    let mut page = format!(
        "# Which models run\n\nMade by `tests/run corpus` from tests/models/corpus.py: {} models as people export them, each run on 24 rows here and by onnxruntime. {same} give the same numbers, {refused} are refused with a sentence, none gives other numbers.\n\n\
         *same*: within 5·10⁻⁴ of onnxruntime's output, relative for large ones; for quantised models within two steps of eight bits. The output that is read is `probabilities`, else the first of numbers with fractions, else of whole numbers; \
         a ZipMap is dropped and its keys name the classes. Text has to be encoded as numbers before the model.\n",
        same + refused
    );
    for (group, models) in groups {
        let _ = write!(page, "\n## {group}\n\n| model | |\n| --- | --- |\n");
        for (what, result) in models {
            let _ = writeln!(page, "| {what} | {result} |");
        }
    }
    page
}

#[test]
fn what_a_converter_knows_is_kept() {
    let read = |name: &str| fs::read(root().join("tests/models/corpus").join(name)).expect("a model");
    assert_eq!(class_names(&read("sk-svc-names-zipmap.onnx")), Ok(vec!["idle".into(), "normal".into(), "worn".into()]));
    assert_eq!(class_names(&read("lgbm-3-zipmap.onnx")), Ok(vec!["0".into(), "1".into(), "2".into()]));
    let columns = read("sk-columns.onnx");
    assert_eq!(input_names(&columns), Ok(Some(vec!["temp".into(), "load".into(), "mode".into()])));
    assert_eq!(input_width(&columns), Ok(Some(3)));
}
