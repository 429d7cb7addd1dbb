//! The Open Inference Protocol (KServe v2) as bytes: what a client asks, and the answer. Sockets are `io::serving`.
//!
//! JSON and the binary tensor extension of Triton are understood: with the header `Inference-Header-Content-Length` the body is so many bytes
//! of JSON followed by tensors, little-endian, in the order in which they are named. A request holds one sample or several; inputs
//! are the model's own tensors, or the columns of its release by name; where samples are images, also PNG or JPEG files as binary BYTES.
//! A request is answered whole or not at all.

use crate::inference::TensorInfo;
use driftline_shared::manifest::Sampled;
use driftline_shared::units::Name;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tensor::{Data, binary, in_json};

mod tensor;

/// Largest request.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Most samples of a request.
pub const REQUEST_SAMPLES_MAX: usize = 1024;
/// Most image files of a request.
const IMAGES_MAX: usize = 16;
/// Where the protocol says how long the JSON is.
pub const JSON_LENGTH: &str = "inference-header-content-length";
/// The output with the class's name, beside the scores.
const LABEL: &str = "label";

/// What is served: the active release.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// Model name.
    pub model: Name,
    /// Release name: the protocol's version.
    pub release: Name,
    /// The model's tensors, in its order.
    pub tensors: Vec<TensorInfo>,
    /// Columns in the order in which they fill the tensors.
    pub columns: Vec<String>,
    /// Name of the output.
    pub output: String,
    /// Numbers that come out of a sample.
    pub outputs: usize,
    /// Class names; empty for numbers.
    pub classes: Vec<String>,
    /// What an image file becomes, where samples are images.
    pub image: Option<Arc<Sampled>>,
}

/// Makes a sample of an image file; a sentence where it is none.
pub type Decode = fn(&[u8], &Sampled) -> Result<Vec<f32>, String>;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not JSON of the protocol, or its lengths do not fit.
    #[error("the request is no inference request of the v2 protocol ({0})")]
    Form(String),
    /// An input that nobody has.
    #[error("the model has no input {name}: it takes {wanted}")]
    Input {
        /// What was given.
        name: String,
        /// What there is.
        wanted: String,
    },
    /// An input is not there.
    #[error("the input {0} is missing")]
    Missing(String),
    /// An output that nobody has.
    #[error("the model has no output {name}: it gives {wanted}")]
    Output {
        /// What was asked for.
        name: String,
        /// What there is.
        wanted: String,
    },
    /// A shape that does not fit.
    #[error("the input {name} has shape {found:?} where {wanted:?} is right; -1 is any number of samples")]
    Shape {
        /// The input.
        name: String,
        /// What was given.
        found: Vec<i64>,
        /// What is right.
        wanted: Vec<i64>,
    },
    /// A type that is no number.
    #[error(
        "the input {name} has datatype {found}, and numbers are taken: FP32, FP64, INT8 to INT64, UINT8 to UINT64 or BOOL"
    )]
    Datatype {
        /// The input.
        name: String,
        /// What was given.
        found: String,
    },
    /// Another number of values than the shape says.
    #[error("the input {name} holds {found} values where its shape says {wanted}")]
    Values {
        /// The input.
        name: String,
        /// What was given.
        found: usize,
        /// What is right.
        wanted: usize,
    },
    /// A file that is no image, or beyond the limits.
    #[error("image {0} of the request is not used ({1})")]
    Image(usize, String),
    /// Something that is no number.
    #[error("the input {name} holds {text}, which is no number")]
    NotANumber {
        /// The input.
        name: String,
        /// What it holds, cut.
        text: String,
    },
    /// A number that its type, or the model, cannot hold.
    #[error("the input {name} holds a number that is no {datatype}")]
    Range {
        /// The input.
        name: String,
        /// The type.
        datatype: &'static str,
    },
    /// Too much at once.
    #[error("the request has {0} samples, and 1 to {REQUEST_SAMPLES_MAX} are taken at once")]
    Samples(usize),
}

#[derive(Deserialize)]
struct Infer {
    id: Option<String>,
    inputs: Vec<InputTensor>,
    #[serde(default)]
    outputs: Vec<Wanted>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct InputTensor {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// A request that can be answered.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// What the client calls it; names its samples for truth that comes later.
    pub id: Option<String>,
    /// Samples, one after the other.
    pub values: Vec<f32>,
    /// How many.
    pub samples: usize,
    /// What is to be answered, and which of it as binary.
    outputs: Vec<(Asked, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Scores,
    Label,
}

/// Reads a request; `json_length` is what the header says.
pub fn parse(body: &[u8], json_length: Option<usize>, served: &Served, decode: Decode) -> Result<Request, Refused> {
    let form = |what: &str| Refused::Form(what.to_owned());
    let split = json_length.unwrap_or(body.len());
    let (head, mut tail) = body.split_at_checked(split).ok_or_else(|| form("its JSON is longer than the body"))?;
    let infer: Infer = serde_json::from_slice(head).map_err(|e| Refused::Form(e.to_string()))?;
    let most = served.tensors.len().max(served.columns.len());
    if infer.inputs.len() > most {
        return Err(Refused::Form(format!("it names {} inputs, and the model takes {most}", infer.inputs.len())));
    }
    let mut tensors: Vec<(String, Vec<i64>, Vec<f32>)> = Vec::new();
    for mut input in infer.inputs {
        if tensors.iter().any(|(name, ..)| *name == input.name) {
            return Err(Refused::Form(format!("the input {} is given twice", cut(&input.name))));
        }
        let size = input.parameters.get("binary_data_size").map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()));
        let values = match (size, input.data.take()) {
            (Some(size), None) => {
                let size = size.ok_or_else(|| form("binary_data_size is no size"))?;
                let (bytes, rest) = tail.split_at_checked(size).ok_or_else(|| form("binary data is missing"))?;
                tail = rest;
                match &served.image {
                    Some(image) if input.datatype == "BYTES" => {
                        // One tensor of files, so that its limit is the request's.
                        if served.tensors.first().is_none_or(|t| t.name != input.name) {
                            return Err(form("image files are one input, the model's own"));
                        }
                        let (values, images) = decoded(bytes, image, decode)?;
                        // In the place of what the files become.
                        let own = served.tensors.first().map_or(&[][..], |t| t.shape.get(1..).unwrap_or_default());
                        input.shape = std::iter::once(images as i64).chain(own.iter().copied()).collect();
                        values
                    }
                    _ => binary(&input, bytes)?,
                }
            }
            (None, Some(data)) => in_json(&input, data)?,
            _ => return Err(form("an input needs either data or binary_data_size")),
        };
        tensors.push((input.name, input.shape, values));
    }
    if !tail.is_empty() {
        return Err(form("bytes are left over"));
    }
    let (values, samples) = arrange(&tensors, served)?;
    let all_binary = flag(&infer.parameters, "binary_data_output");
    let mut outputs = Vec::new();
    for wanted in &infer.outputs {
        let asked = match wanted.name.as_str() {
            name if name == served.output => Asked::Scores,
            LABEL if !served.classes.is_empty() => Asked::Label,
            name => {
                let label = if served.classes.is_empty() { String::new() } else { format!(" and {LABEL}") };
                return Err(Refused::Output { name: cut(name), wanted: format!("{}{label}", served.output) });
            }
        };
        if outputs.iter().any(|(known, _)| *known == asked) {
            return Err(Refused::Form(format!("the output {} is asked for twice", wanted.name)));
        }
        if let Some(name) =
            ["classification", "shared_memory_region"].iter().find(|n| wanted.parameters.contains_key(**n))
        {
            return Err(Refused::Form(format!("the output parameter {name} is none of this server's")));
        }
        let binary = wanted.parameters.get("binary_data").map_or(all_binary, |v| v == &Value::Bool(true));
        outputs.push((asked, binary));
    }
    if outputs.is_empty() {
        outputs.push((Asked::Scores, all_binary));
        outputs.extend((!served.classes.is_empty()).then_some((Asked::Label, all_binary)));
    }
    Ok(Request { id: infer.id, values, samples, outputs })
}

fn flag(parameters: &Map<String, Value>, name: &str) -> bool {
    parameters.get(name) == Some(&Value::Bool(true))
}

fn cut(text: &str) -> String {
    driftline_shared::list::Text::<64>::cut(text).to_string()
}

/// The samples of image files, each behind its length in four bytes, and how many they are.
fn decoded(mut bytes: &[u8], image: &Sampled, decode: Decode) -> Result<(Vec<f32>, usize), Refused> {
    let (mut values, mut images) = (Vec::new(), 0);
    while !bytes.is_empty() {
        let file = bytes.split_first_chunk::<4>().and_then(|(length, rest)| {
            let (file, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            Some((file, rest))
        });
        let Some((file, rest)) = file else { return Err(Refused::Form("a file is cut off".into())) };
        if images >= IMAGES_MAX {
            return Err(Refused::Image(images + 1, format!("{IMAGES_MAX} are taken at once")));
        }
        images += 1;
        values.extend(decode(file, image).map_err(|why| Refused::Image(images, why))?);
        bytes = rest;
    }
    Ok((values, images))
}

type Tensors = [(String, Vec<i64>, Vec<f32>)];

/// Rows of the model's inputs: from its own tensors, or from columns by name.
fn arrange(given: &Tensors, served: &Served) -> Result<(Vec<f32>, usize), Refused> {
    let own: Vec<(String, Vec<i64>)> = served.tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
    let columns = || served.columns.iter().map(|name| (name.clone(), vec![-1, 1])).collect::<Vec<_>>();
    let by_column = given.iter().any(|(name, ..)| served.columns.contains(name))
        && !given.iter().any(|(name, ..)| own.iter().any(|(own, _)| own == name));
    let wanted = if by_column { columns() } else { own };
    if let Some((name, ..)) = given.iter().find(|(name, ..)| !wanted.iter().any(|(wanted, _)| wanted == name)) {
        let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).take(20).collect();
        return Err(Refused::Input { name: cut(name), wanted: names.join(", ") });
    }
    let mut parts = Vec::new();
    let mut samples = None;
    for (name, shape) in &wanted {
        let (_, found, values) =
            given.iter().find(|(given, ..)| given == name).ok_or_else(|| Refused::Missing(name.clone()))?;
        let wrong = || Refused::Shape { name: name.clone(), found: found.clone(), wanted: shape.clone() };
        let width: usize = shape.iter().skip(1).map(|&n| usize::try_from(n).unwrap_or(0)).product();
        // A column may leave its one column out.
        let same = found.get(1..) == shape.get(1..) || (found.len() == 1 && shape.get(1..) == Some(&[1]));
        let n = usize::try_from(found.first().copied().unwrap_or(0)).map_err(|_| wrong())?;
        if !same || *samples.get_or_insert(n) != n {
            return Err(wrong());
        }
        if !(1..=REQUEST_SAMPLES_MAX).contains(&n) {
            return Err(Refused::Samples(n));
        }
        if values.len() != n * width {
            return Err(Refused::Values { name: name.clone(), found: values.len(), wanted: n * width });
        }
        parts.push((width, values));
    }
    let samples = samples.unwrap_or(0);
    let mut rows = Vec::with_capacity(parts.iter().map(|(width, _)| width * samples).sum());
    for sample in 0..samples {
        parts.iter().for_each(|(width, values)| rows.extend_from_slice(&values[sample * width..(sample + 1) * width]));
    }
    Ok((rows, samples))
}

/// An answer on its way: the body and, where tensors follow the JSON, its length.
#[derive(Debug, PartialEq)]
pub struct Response {
    /// JSON, and binary tensors after it.
    pub body: Vec<u8>,
    /// Length of the JSON when something follows.
    pub json_length: Option<usize>,
}

#[derive(Serialize)]
struct OutputTensor<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// Writes the answer: `scores` of all samples, one after the other; `guards` says of each sample why it is not to be trusted, where that is so.
pub fn respond(request: &Request, served: &Served, scores: &[f32], guards: &[Option<String>]) -> Response {
    let width = scores.len() / request.samples.max(1);
    let labels: Vec<&str> = scores
        .chunks_exact(width.max(1))
        .map(|row| crate::observe::top(row).and_then(|(class, _)| served.classes.get(class)).map_or("", String::as_str))
        .collect();
    let mut tail = Vec::new();
    let mut outputs = Vec::new();
    for &(asked, binary) in &request.outputs {
        let before = tail.len();
        let (name, datatype, shape) = match asked {
            Asked::Scores => (served.output.as_str(), "FP32", vec![request.samples, width]),
            Asked::Label => (LABEL, "BYTES", vec![request.samples]),
        };
        let data = match (asked, binary) {
            (Asked::Scores, false) => Some(json!(scores)),
            (Asked::Label, false) => Some(json!(labels)),
            (Asked::Scores, true) => {
                scores.iter().for_each(|score| tail.extend_from_slice(&score.to_le_bytes()));
                None
            }
            (Asked::Label, true) => {
                for label in &labels {
                    tail.extend_from_slice(&(label.len() as u32).to_le_bytes());
                    tail.extend_from_slice(label.as_bytes());
                }
                None
            }
        };
        let parameters = binary.then(|| json!({ "binary_data_size": tail.len() - before }));
        outputs.push(OutputTensor { name, datatype, shape, parameters, data });
    }
    let mut answer = json!({ "model_name": served.model, "model_version": served.release, "outputs": outputs });
    if let Some(id) = &request.id {
        answer["id"] = json!(id);
    }
    if guards.iter().any(Option::is_some) {
        answer["parameters"] = json!({ "driftline_guard": guards });
    }
    let mut body = answer.to_string().into_bytes();
    let json_length = (!tail.is_empty()).then_some(body.len());
    body.extend_from_slice(&tail);
    Response { body, json_length }
}

/// What the server says of itself.
pub fn server() -> Value {
    json!({ "name": "driftline-agent", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data"] })
}

/// What the server says of the model.
pub fn model(served: &Served) -> Value {
    let inputs: Vec<Value> =
        served.tensors.iter().map(|t| json!({ "name": t.name, "datatype": t.datatype, "shape": t.shape })).collect();
    let mut outputs = vec![json!({ "name": served.output, "datatype": "FP32", "shape": [-1, served.outputs] })];
    if !served.classes.is_empty() {
        outputs.push(json!({ "name": LABEL, "datatype": "BYTES", "shape": [-1] }));
    }
    json!({
        "name": served.model,
        "versions": [served.release],
        "platform": "onnx_tract",
        "inputs": inputs,
        "outputs": outputs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn served() -> Served {
        Served {
            model: Name::new("pump").unwrap(),
            release: Name::new("v1").unwrap(),
            tensors: vec![TensorInfo { name: "x".into(), datatype: "FP32", shape: vec![-1, 2] }],
            columns: vec!["temp".into(), "load".into()],
            output: "probabilities".into(),
            outputs: 3,
            classes: vec!["idle".into(), "normal".into(), "worn".into()],
            image: None,
        }
    }

    fn no_image(_: &[u8], _: &Sampled) -> Result<Vec<f32>, String> {
        Err("no image".into())
    }

    fn ask(text: &str) -> Result<Request, String> {
        parse(text.as_bytes(), None, &served(), no_image).map_err(|e| e.to_string())
    }

    #[test]
    fn json_and_binary_say_the_same() {
        let text = r#"{"id":"a","inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2],[3,null]]}]}"#;
        let json = ask(text).unwrap();
        assert_eq!((json.samples, json.id.as_deref()), (2, Some("a")));
        assert_eq!(json.values[..3], [1.0, 2.0, 3.0]);
        assert!(json.values[3].is_nan());
        let head = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","parameters":{"binary_data_size":16}}],
            "outputs":[{"name":"label","parameters":{"binary_data":true}}]}"#;
        let mut body = head.as_bytes().to_vec();
        [1.5f64, -2.0].iter().for_each(|v| body.extend_from_slice(&v.to_le_bytes()));
        let binary = parse(&body, Some(head.len()), &served(), no_image).unwrap();
        assert_eq!(binary.values, [1.5, -2.0]);
        let response = respond(&binary, &served(), &[0.1, 0.2, 0.7], &[None]);
        let (json, tail) = response.body.split_at(response.json_length.unwrap());
        assert_eq!(tail, b"\x04\0\0\0worn");
        let json: Value = serde_json::from_slice(json).unwrap();
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 8);
    }

    #[test]
    fn columns_by_name_fill_the_model() {
        let text = r#"{"inputs":[{"name":"load","shape":[2],"datatype":"INT32","data":[7,8]},{"name":"temp","shape":[2,1],"datatype":"FP32","data":[1,2]}]}"#;
        assert_eq!(ask(text).unwrap().values, [1.0, 7.0, 2.0, 8.0]);
    }

    #[test]
    fn what_does_not_fit_gives_one_sentence() {
        let input = |name: &str, shape: &str, kind: &str, data: &str| {
            ask(&format!(r#"{{"inputs":[{{"name":"{name}","shape":{shape},"datatype":"{kind}","data":{data}}}]}}"#))
                .expect_err("must not fit")
        };
        assert_eq!(input("y", "[1,2]", "FP32", "[1,2]"), "the model has no input y: it takes x");
        assert!(input("x", "[1,3]", "FP32", "[1,2,3]").contains("shape [1, 3] where [-1, 2] is right"));
        assert!(input("x", "[1,2]", "FP32", "[1]").contains("holds 1 values where its shape says 2"));
        assert!(input("x", "[1,2]", "BYTES", "[1,2]").contains("datatype BYTES"));
        assert!(input("x", "[1,2]", "FP32", "[\"a\",2]").contains("\"a\", which is no number"));
        assert!(input("x", "[1,2]", "BYTES", r#"["a","b"]"#).contains("datatype BYTES"));
        assert!(input("x", "[1,2]", "FP32", "[true,2]").contains("true or false, which is no number"));
        assert!(input("x", "[1,2]", "UINT8", "[300,2]").contains("a number that is no UINT8"));
        assert!(input("x", "[1,2]", "INT32", "[1.5,2]").contains("no INT32"));
        assert!(input("x", "[1,2]", "FP64", "[1e300,2]").contains("no FP32"));
        assert!(input("x", "[0,2]", "FP32", "[]").contains("0 samples"));
        assert!(input("x", "[-1,2]", "FP32", "[1,2]").contains("shape"));
        assert!(input("temp", "[1]", "FP32", "[1]").contains("the input load is missing"));
        let x = r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}"#;
        assert!(ask(&format!(r#"{{"inputs":[{x},{x}]}}"#)).expect_err("twice").contains("the input x is given twice"));
        assert!(ask(&format!(r#"{{"inputs":[{x},{x},{x}]}}"#)).expect_err("thrice").contains("it names 3 inputs"));
        let outputs = |of: &str| ask(&format!(r#"{{"inputs":[{x}],"outputs":[{of}]}}"#));
        let twice = r#"{"name":"probabilities"},{"name":"probabilities"}"#;
        assert!(outputs(twice).expect_err("twice").contains("the output probabilities is asked for twice"));
        let classes = r#"{"name":"probabilities","parameters":{"classification":2}}"#;
        assert!(outputs(classes).expect_err("not offered").contains("parameter classification"));
        assert!(ask("{").expect_err("no JSON").starts_with("the request is no inference request"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(body: Vec<u8>, length in proptest::option::of(0usize..300)) {
            let _ = parse(&body, length, &served(), no_image);
        }
    }
}
