//! Cases as lines of JSON: `{"id":…,"as":…,"metric":…,"params":{…},"input":{…}}` in, `{"id":…,…}` out.
//!
//! JSON has no NaN and no infinity: both directions say them as the strings "NaN", "Infinity" and "-Infinity". Whatever is wrong
//! with a line is an `error` in its answer; the next line is not affected.

use super::{Answer, Figure, Input, Metric, Refusal, Request, Tool, answer};
use serde_json::{Map, Value, json};

/// Longest line that is read.
pub const LINE_BYTES_MAX: usize = 64 << 20;

const FIELDS: [&str; 6] = ["id", "as", "tool", "metric", "params", "input"];
/// What people keep beside a case and nobody here reads. Anything else may be a field's name with a slip, which would be another case.
const BESIDE: [&str; 18] = [
    "want",
    "note",
    "expected",
    "expect",
    "name",
    "description",
    "comment",
    "source",
    "seed",
    "tol",
    "tolerance",
    "rtol",
    "atol",
    "kind",
    "group",
    "tags",
    "case",
    "version",
];

/// Answers one line.
pub fn line(text: &str) -> Value {
    match ask(text) {
        (id, Ok((chosen, answer))) => answered(&id, chosen, &answer),
        (id, Err(why)) => refused(&id, &why),
    }
}

/// A line's id and what comes of it, with the metric where the line left the choice to the tool.
pub fn ask(text: &str) -> (Value, Result<(Option<Metric>, Answer), Refusal>) {
    // A byte order mark, as some editors put one before the first line.
    let case: Value = match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(case) => case,
        Err(e) => match serde_json::from_str(&named(text)) {
            Ok(case) => case,
            Err(_) => return (id_of(text), Err(Refusal::Line(e.to_string()))),
        },
    };
    let id = case.get("id").cloned().unwrap_or(Value::Null);
    let ask = |mut request: Request| {
        let named = request.metric.is_some();
        answer(&mut request).map(|(metric, answer)| (Some(metric).filter(|_| !named), answer))
    };
    (id, request(&case).and_then(ask))
}

/// The line with bare NaN and infinities, as Python writes them, as strings.
fn named(text: &str) -> String {
    let (mut out, mut rest, mut quoted) = (String::with_capacity(text.len() + 64), text, false);
    while let Some(c) = rest.chars().next() {
        let number = ["NaN", "Infinity", "-Infinity"].iter().find(|name| !quoted && rest.starts_with(**name));
        let taken = match number {
            Some(name) => {
                out.extend(["\"", name, "\""]);
                name.len()
            }
            // What is escaped ends no string.
            None if quoted && c == '\\' => {
                let pair: String = rest.chars().take(2).collect();
                out += &pair;
                pair.len()
            }
            None => {
                quoted ^= c == '"';
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// The id of a line that is no JSON, where that much can be read.
fn id_of(text: &str) -> Value {
    let after = text.split_once("\"id\"").and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
    let first = after.and_then(|rest| serde_json::Deserializer::from_str(rest).into_iter().next());
    first.and_then(Result::ok).filter(|id: &Value| id.is_string() || id.is_number()).unwrap_or(Value::Null)
}

/// An answer that only says why there is none.
pub fn refused(id: &Value, why: &Refusal) -> Value {
    json!({ "id": id, "error": why.to_string() })
}

fn answered(id: &Value, chosen: Option<Metric>, answer: &Answer) -> Value {
    let mut fields = Map::new();
    fields.insert("id".into(), id.clone());
    if let Some(metric) = chosen {
        fields.insert("metric".into(), json!(metric.name()));
    }
    for (name, figure) in &answer.figures {
        fields.insert((*name).into(), figure_json(figure));
    }
    Value::Object(fields)
}

/// A figure in JSON.
pub fn figure_json(figure: &Figure) -> Value {
    match figure {
        Figure::Number(v) => number_json(*v),
        Figure::Numbers(list) => list.iter().map(|&v| number_json(v)).collect(),
        Figure::Indices(list) => json!(list),
    }
}

/// A number in JSON, by name where JSON has none.
pub fn number_json(v: f64) -> Value {
    let name = if v.is_nan() {
        "NaN"
    } else if v == f64::INFINITY {
        "Infinity"
    } else if v == f64::NEG_INFINITY {
        "-Infinity"
    } else {
        return json!(v);
    };
    json!(name)
}

/// A case as a request.
fn request(case: &Value) -> Result<Request, Refusal> {
    let Some(fields) = case.as_object() else {
        return Err(Refusal::Line("it must be an object with metric and input".into()));
    };
    if let Some(unknown) = fields.keys().find(|k| !FIELDS.contains(&k.as_str()) && !BESIDE.contains(&k.as_str())) {
        return Err(Refusal::Line(format!("there is no field {unknown}; use id, as, metric, params and input")));
    }
    let word = |names: [&str; 2]| match names.iter().find_map(|n| fields.get(*n)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.as_str())),
        Some(_) => Err(Refusal::Line(format!("{} must be a string", names[0]))),
    };
    let tool = match word(["as", "tool"])? {
        Some(name) => Tool::by_name(name).ok_or_else(|| Refusal::Tool(name.into()))?,
        None => Tool::Driftline,
    };
    let metric = word(["metric", "metric"])?;
    let metric = metric.map(|name| Metric::by_name(name).ok_or_else(|| Refusal::Metric(name.into()))).transpose()?;
    let params = match fields.get("params") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params.clone(),
        Some(_) => return Err(Refusal::Line("params must be an object".into())),
    };
    let input = match fields.get("input") {
        // kstwo_sf can do with its parameters.
        None | Some(Value::Null) => Input::default(),
        Some(input) => Input::parse(input)?,
    };
    Ok(Request { tool, metric, params, input })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: &Value) {
        assert_eq!(&line(text), wanted, "{text}");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_case() {
        let text = "\u{feff}{\"id\":1,\"metric\":\"ks_d\",\"input\":{\"ref\":[1],\"cur\":[2]}}";
        check(text, &json!({"id":1,"value":1.0,"d":1.0}));
    }

    #[test]
    fn the_metric_that_was_chosen_is_named() {
        let of = |line: &Value| self::line(&line.to_string());
        let input = json!({"ref": [1, 2, 2, 3, 1, 2], "cur": [3, 1, 3, 3, 3, 2]});
        let chosen = of(&json!({"as": "evidently", "input": input}));
        let metric = chosen["metric"].as_str().expect("the chosen metric");
        let named = of(&json!({"as": "evidently", "metric": metric, "input": input}));
        assert!(named.get("metric").is_none(), "{named}");
        assert_eq!(chosen["p"], named["p"]);
        assert_eq!(chosen["value"], named["value"]);
    }

    #[test]
    fn what_python_writes_is_read_and_what_cannot_be_keeps_its_id() {
        let text = r#"{"id":"NaN\"x","metric":"ks_d","input":{"ref":[1,NaN,-Infinity],"cur":[2,Infinity]},"tol":1e-9}"#;
        let quoted = text
            .replace(",NaN", ",\"NaN\"")
            .replace("-Infinity", "\"-Infinity\"")
            .replace(",Infinity", ",\"Infinity\"");
        assert_eq!(line(text), line(&quoted));
        assert_eq!(line(text)["id"], "NaN\"x");
        let answer = line(r#"{"id": 7, "metric": "ks_d", "input": {"ref": [1e999], "cur": [1]"#);
        assert_eq!(answer["id"], 7);
        assert!(answer["error"].is_string());
    }

    #[test]
    fn conventions_that_share_a_name_differ_as_their_tools_do() {
        let of = |tool: &str, metric: &str, input: &Value| {
            line(&json!({"as": tool, "metric": metric, "input": input}).to_string())["value"].as_f64()
        };
        let counts = json!({"ref_counts": [10, 10, 20], "cur_counts": [20, 10, 10]});
        assert_eq!(of("deequ", "ks_d", &counts), Some(0.25));
        assert_eq!(of("deequ", "l_infinity", &counts), Some(0.25));
        let crossed = json!({"p": [0.5, 0.0, 0.5], "q": [0.0, 0.5, 0.5]});
        let apart = json!({"p": [0.25, 0.25, 0.5], "q": [0.0, 0.0, 1.0]});
        assert_eq!((of("deequ", "ks_d", &apart), of("driftline", "ks_d", &apart)), (Some(0.5), Some(0.5)));
        assert_eq!(of("driftline", "l_infinity", &crossed), Some(0.5));
        assert_eq!(of("evidently", "total_variation", &crossed), Some(0.5));
        // Twice as many of each is no difference.
        let twice = json!({"ref_counts": [10, 20, 30], "cur_counts": [20, 40, 60]});
        assert_eq!(of("driftline", "g_test_p", &twice), of("driftline", "chisquare_p", &twice));
        let raw = json!({"ref": [1, 2, 3, 4], "cur": [3, 4, 5, 6]});
        assert_eq!(of("deequ", "l_infinity", &raw), Some(0.5), "of distribution functions");
        let cells = of("driftline", "l_infinity", &raw);
        assert!(cells.is_some_and(|v| v >= 0.5), "of cells: {cells:?}");
    }

    #[test]
    fn what_a_figure_needs_is_said() {
        for tool in ["driftline", "evidently", "deequ", "deepchecks", "scouter"] {
            let why = line(&json!({"as": tool, "metric": "psi"}).to_string())["error"].to_string();
            for form in ["ref and cur", "ref_counts and cur_counts", "p and q"] {
                assert!(why.contains(form), "{tool}: {why}");
            }
        }
    }

    #[test]
    fn an_empty_side_is_no_number_for_ours() {
        for metric in ["psi", "js_distance", "kl", "hellinger", "total_variation", "ks_d"] {
            for input in [
                json!({"ref": [1, 2], "cur": [null]}),
                json!({"ref": ["a", "b"], "cur": []}),
                json!({"ref_counts": [0, 0], "cur_counts": [1, 2]}),
                json!({"p": [0, 0], "q": [0.5, 0.5]}),
            ] {
                let answer = line(&json!({"metric": metric, "input": input}).to_string());
                let raw_ks = metric == "ks_d" && !input["ref"].is_null();
                assert!(answer["value"] == "NaN" || raw_ks, "{metric} {input}: {answer}");
            }
        }
    }

    #[test]
    fn numbers_beyond_those_of_a_device_are_refused() {
        let of = |input: &Value| line(&json!({"metric": "js_distance", "input": input}).to_string());
        for input in [
            json!({"ref": [1e60, 2e60, 3e60], "cur": [8e60, 9e60]}),
            json!({"ref": [1, 2, 3], "cur": [1, -1e39]}),
            json!({"ref": [1e-60, 2e-60, 3e-60], "cur": [8e-60, 9e-60]}),
        ] {
            let answer = of(&input);
            let why = answer["error"].as_str().unwrap_or_default();
            assert!(why.contains("32-bit"), "{input}: {answer}");
        }
        let scaled = |by: f64| of(&json!({"ref": [by, 2.0 * by, 3.0 * by], "cur": [8.0 * by, 9.0 * by]}));
        let large = 2_f64.powi(100);
        assert!(scaled(large)["value"].as_f64().is_some_and(|js| js > 0.5), "{}", scaled(large));
        assert_eq!(scaled(large), scaled(1.0));
        assert_eq!(of(&json!({"ref": [0.1, 0.1], "cur": [0.1]}))["value"], 0.0);
    }

    #[test]
    fn answers_and_errors() {
        check(r#"{"id":7,"metric":"ks_d","input":{"ref":[1,2],"cur":[3,4]}}"#, &json!({"id":7,"value":1.0,"d":1.0}));
        check(
            r#"{"id":"a","as":"scipy","metric":"wasserstein1","input":{"ref":[1,null],"cur":[3]}}"#,
            &json!({"id":"a","value":"NaN"}),
        );
        let error = |text: &str| line(text)["error"].as_str().unwrap_or_default().to_owned();
        assert!(error("{").starts_with("the line is not a case"));
        assert!(
            error(r#"{"id":1,"as":"excel","metric":"psi"}"#)
                .starts_with("there is no tool excel; choose one of driftline")
        );
        assert_eq!(
            error(r#"{"as":"scipy","metric":"psi"}"#),
            "scipy has no psi; it is known to driftline, evidently, deequ, deepchecks, scouter"
        );
        let unknown =
            r#"{"as":"nannyml","metric":"js_distance","params":{"bins":3},"input":{"ref":[1,2],"cur":[3,4]}}"#;
        assert!(error(unknown).starts_with("there is no parameter bins; js_distance takes "), "{}", error(unknown));
    }
}
