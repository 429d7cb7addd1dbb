//! Runs an ONNX model on tract: one sample in, the float outputs out, buffers reused.
//!
//! A model is untrusted until it has run: what does not load gives one sentence that says why, and neither loading nor running
//! ever takes the agent down with a panic. Only what leads to the chosen output is kept, so a label branch that tract cannot
//! run does not matter. Left out until the agent gets its own evaluators: trees, scalers and the like, which tract lacks, and a
//! child process that also survives models made to exhaust memory.

use driftline_shared::list::Text;
use driftline_shared::manifest::Golden;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use tract_onnx::pb;
use tract_onnx::prelude::*;

/// The output that is taken when the model has one of this name, as scikit-learn's converter writes it.
pub const OUTPUT_PREFERRED: &str = "probabilities";
/// Most numbers a model may put out per sample.
pub const OUTPUTS_MAX: usize = 4096;
/// ONNX's number for float32.
const FLOAT32: i32 = pb::tensor_proto::DataType::Float as i32;
/// Every ONNX file written in the wild begins with its IR version, protobuf field 1 as a varint.
const FIRST_BYTE: u8 = 0x08;

/// Why a model does not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No bytes.
    #[error("the model file is empty: export the model again")]
    Empty,
    /// Begins like an ONNX file but does not read to its end.
    #[error("the ONNX file is cut off or damaged after at most {0} bytes: copy or export it again")]
    Truncated(usize),
    /// Something else.
    #[error("the file is not an ONNX model: give the .onnx file that the exporter wrote")]
    NotOnnx,
    /// An operator that nothing here can run.
    #[error("the model uses the operator {operator}, which this program cannot run: export the model without it")]
    Operator {
        /// Its ONNX name.
        operator: String,
    },
    /// Not one input.
    #[error(
        "the model has {0} inputs, and exactly one is supported: export it with one float32 input of shape [N, features]"
    )]
    Inputs(usize),
    /// The input is no float32 row.
    #[error("the model's input {name} is not float32 of shape [N, features]: export it with such an input")]
    InputType {
        /// Its name.
        name: String,
    },
    /// The input has another width.
    #[error(
        "the model takes {found} inputs where {wanted} are expected: use the baseline and schema made for this model"
    )]
    InputWidth {
        /// What the model takes.
        found: usize,
        /// What the caller has.
        wanted: usize,
    },
    /// No usable output.
    #[error("the model has no float32 output: export class probabilities or predicted numbers")]
    NoOutput,
    /// The output is larger than is sensible.
    #[error("the model puts out {0} numbers per sample, and at most {OUTPUTS_MAX} are accepted")]
    OutputWidth(usize),
    /// tract refused it, or panicked.
    #[error("the model cannot be prepared: {0}")]
    Prepare(String),
}

/// Why a sample has no outputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The sample has another width.
    #[error("the sample has {found} values where the model takes {wanted}")]
    Width {
        /// Values given.
        found: usize,
        /// Values taken.
        wanted: usize,
    },
    /// tract gave an error or panicked.
    #[error("the model failed: {0}")]
    Failed(String),
    /// An output is NaN or infinite.
    #[error("the model's output {0} is not a finite number")]
    NotFinite(usize),
}

/// Why a model is not what its bundle says.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GoldenError {
    /// A row failed.
    #[error("golden row {row}: {source}")]
    Run {
        /// Which row, from 1.
        row: usize,
        /// Why.
        source: RunError,
    },
    /// A row gave other numbers.
    #[error("golden row {row}, output {output}: the model gives {found} where {wanted} is right")]
    Differs {
        /// Which row, from 1.
        row: usize,
        /// Which output, from 0.
        output: usize,
        /// What the model gave.
        found: f32,
        /// What the bundle says.
        wanted: f32,
    },
    /// A row has another number of outputs.
    #[error("golden row {row}: the model gives {found} outputs where {wanted} are right")]
    Outputs {
        /// Which row, from 1.
        row: usize,
        /// What the model gave.
        found: usize,
        /// What the bundle says.
        wanted: usize,
    },
}

/// What became of one sample in a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outputs<'a> {
    /// Finite numbers.
    Values(&'a [f32]),
    /// The sample was incomplete, and so is the answer: nobody's fault.
    Missing,
    /// The model gave an error or something that is no number.
    Failed,
}

impl<'a> Outputs<'a> {
    /// The numbers, when there are some.
    pub fn values(self) -> Option<&'a [f32]> {
        match self {
            Self::Values(values) => Some(values),
            Self::Missing | Self::Failed => None,
        }
    }
}

/// A model ready to run.
pub struct Model {
    state: TypedSimpleState,
    input: Arc<Tensor>,
    shape: Vec<usize>,
    inputs: usize,
    outputs: usize,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("inputs", &self.inputs).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Model {
    /// Loads an ONNX model that takes `inputs` numbers. Runs it once on zeros, so that what only fails at run time fails here.
    pub fn load(bytes: &[u8], inputs: usize) -> Result<Self, ModelError> {
        quietly(|| {
            let mut proto = parse(bytes)?;
            let shape = input_shape(&proto, inputs)?;
            keep_one_output(&mut proto)?;
            let onnx = tract_onnx::onnx().with_ignore_value_info(true);
            known_operators(&onnx, &proto)?;
            let state = prepare(&onnx, &proto, &shape).map_err(|e| ModelError::Prepare(sentence(&e)))?;
            let input = Arc::new(zeros(&shape).map_err(|e| ModelError::Prepare(sentence(&e)))?);
            let mut model = Self { state, input, shape, inputs, outputs: 0 };
            let mut out = Vec::new();
            model.run_unchecked(&vec![0.0; inputs], &mut out).map_err(|e| ModelError::Prepare(sentence(&e)))?;
            model.outputs = out.len();
            match out.len() {
                0 => Err(ModelError::NoOutput),
                1..=OUTPUTS_MAX => Ok(model),
                n => Err(ModelError::OutputWidth(n)),
            }
        })
        .unwrap_or_else(|panic| Err(ModelError::Prepare(panic)))
    }

    /// How many numbers it takes.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many numbers it gives.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Runs one sample; `out` then holds the outputs. Allocates nothing of ours once `out` has grown.
    pub fn run(&mut self, sample: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        if sample.len() != self.inputs {
            return Err(RunError::Width { found: sample.len(), wanted: self.inputs });
        }
        match quietly(|| self.run_unchecked(sample, out)) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(RunError::Failed(sentence(&e))),
            Err(panic) => {
                // A panic may have left the plan's state half written.
                if let Ok(fresh) = self.state.plan().spawn() {
                    self.state = fresh;
                }
                return Err(RunError::Failed(panic));
            }
        }
        match out.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(RunError::NotFinite(at)),
            None => Ok(()),
        }
    }

    /// Runs one sample and says what became of it: an incomplete sample without an answer is nobody's fault.
    pub fn answer<'a>(&mut self, sample: &[f32], out: &'a mut Vec<f32>) -> Outputs<'a> {
        match self.run(sample, out) {
            Ok(()) => Outputs::Values(out),
            Err(_) if sample.iter().any(|v| !v.is_finite()) => Outputs::Missing,
            Err(_) => Outputs::Failed,
        }
    }

    /// Checks that the model gives its golden outputs: |difference| ≤ tolerance · max(1, |expected|).
    pub fn check(&mut self, golden: &Golden<Vec<Vec<f32>>>) -> Result<(), GoldenError> {
        let mut out = Vec::new();
        for (at, (inputs, wanted)) in golden.inputs.iter().zip(&golden.outputs).enumerate() {
            let row = at + 1;
            self.run(inputs, &mut out).map_err(|source| GoldenError::Run { row, source })?;
            if out.len() != wanted.len() {
                return Err(GoldenError::Outputs { row, found: out.len(), wanted: wanted.len() });
            }
            for (output, (&found, &wanted)) in out.iter().zip(wanted).enumerate() {
                let difference = (found - wanted).abs();
                if difference.is_nan() || difference > golden.tolerance * wanted.abs().max(1.0) {
                    return Err(GoldenError::Differs { row, output, found, wanted });
                }
            }
        }
        Ok(())
    }

    fn run_unchecked(&mut self, sample: &[f32], out: &mut Vec<f32>) -> TractResult<()> {
        if Arc::get_mut(&mut self.input).is_none() {
            // tract still holds the last one: only after an error or a panic.
            self.input = Arc::new(zeros(&self.shape)?);
        }
        if let Some(tensor) = Arc::get_mut(&mut self.input) {
            tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.copy_from_slice(sample);
        }
        let values = self.state.run(tvec!(TValue::from_const(self.input.clone())))?;
        out.clear();
        if let Some(value) = values.first() {
            out.extend_from_slice(value.try_as_plain_ram()?.as_slice::<f32>()?);
        }
        Ok(())
    }
}

/// The texts that the exporter put beside the model: `driftline.features`, `driftline.classes` and the like.
pub fn metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>, ModelError> {
    let proto = parse(bytes)?;
    Ok(proto.metadata_props.into_iter().map(|p| (p.key, p.value)).collect())
}

/// How many inputs the model says it takes; `None` when it leaves that open.
pub fn input_width(bytes: &[u8]) -> Result<Option<usize>, ModelError> {
    Ok(declared_input(&parse(bytes)?)?.1)
}

fn parse(bytes: &[u8]) -> Result<pb::ModelProto, ModelError> {
    let Some(&first) = bytes.first() else { return Err(ModelError::Empty) };
    let damaged = if first == FIRST_BYTE { ModelError::Truncated(bytes.len()) } else { ModelError::NotOnnx };
    let proto = tract_onnx::onnx().proto_model_for_read(&mut &*bytes).map_err(|_| damaged.clone())?;
    // Many short byte strings are valid protobuf; without a graph it is no model.
    match &proto.graph {
        Some(graph) if !graph.output.is_empty() => Ok(proto),
        _ => Err(damaged),
    }
}

fn graph(proto: &pb::ModelProto) -> Result<&pb::GraphProto, ModelError> {
    proto.graph.as_ref().ok_or(ModelError::NotOnnx)
}

/// Rank of the one input, and its width when it is fixed.
fn declared_input(proto: &pb::ModelProto) -> Result<(usize, Option<usize>), ModelError> {
    let graph = graph(proto)?;
    let fixed: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut free = graph.input.iter().filter(|i| !fixed.contains(i.name.as_str()));
    let (Some(input), None) = (free.next(), free.next()) else {
        return Err(ModelError::Inputs(graph.input.iter().filter(|i| !fixed.contains(i.name.as_str())).count()));
    };
    let wrong = || ModelError::InputType { name: input.name.clone() };
    let Some(pb::type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(wrong());
    };
    let dims = tensor.shape.as_ref().map(|s| s.dim.as_slice()).unwrap_or_default();
    if tensor.elem_type != FLOAT32 || !(1..=2).contains(&dims.len()) {
        return Err(wrong());
    }
    let width = match dims.last().and_then(|d| d.value.as_ref()) {
        Some(pb::tensor_shape_proto::dimension::Value::DimValue(n)) => usize::try_from(*n).ok().filter(|&n| n > 0),
        _ => None,
    };
    Ok((dims.len(), width))
}

fn input_shape(proto: &pb::ModelProto, inputs: usize) -> Result<Vec<usize>, ModelError> {
    let (rank, width) = declared_input(proto)?;
    match width {
        Some(found) if found != inputs => Err(ModelError::InputWidth { found, wanted: inputs }),
        _ if rank == 2 => Ok(vec![1, inputs]),
        _ => Ok(vec![inputs]),
    }
}

/// Keeps the output that is read and the nodes that lead to it.
fn keep_one_output(proto: &mut pb::ModelProto) -> Result<(), ModelError> {
    let graph = proto.graph.as_mut().ok_or(ModelError::NotOnnx)?;
    let float = |o: &&pb::ValueInfoProto| {
        let value = o.r#type.as_ref().and_then(|t| t.value.as_ref());
        matches!(value, Some(pb::type_proto::Value::TensorType(t)) if t.elem_type == FLOAT32)
    };
    let preferred = graph.output.iter().filter(float).find(|o| o.name == OUTPUT_PREFERRED);
    let chosen = preferred.or(graph.output.iter().find(float)).ok_or(ModelError::NoOutput)?.clone();
    let mut needed = BTreeSet::from([chosen.name.clone()]);
    // Nodes are sorted topologically (ONNX IR, "Graphs"), so one pass from the end finds all that lead to the output.
    let mut kept = Vec::new();
    while let Some(node) = graph.node.pop() {
        if node.output.iter().any(|o| needed.contains(o)) {
            used_names(&node, &mut needed);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.output = vec![chosen];
    Ok(())
}

/// Every name a node reads, in its bodies too: those see the names around them.
fn used_names(node: &pb::NodeProto, names: &mut BTreeSet<String>) {
    names.extend(node.input.iter().cloned());
    for body in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        names.extend(body.output.iter().map(|o| o.name.clone()));
        body.node.iter().for_each(|inner| used_names(inner, names));
    }
}

fn known_operators(onnx: &tract_onnx::Onnx, proto: &pb::ModelProto) -> Result<(), ModelError> {
    let unknown = graph(proto)?.node.iter().find(|n| !onnx.op_register.0.contains_key(&n.op_type));
    match unknown {
        Some(node) => Err(ModelError::Operator { operator: Text::<64>::cut(&node.op_type).to_string() }),
        None => Ok(()),
    }
}

fn prepare(onnx: &tract_onnx::Onnx, proto: &pb::ModelProto, shape: &[usize]) -> TractResult<TypedSimpleState> {
    let plan = onnx
        .model_for_proto_model(proto)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_typed()?
        .into_optimized()?
        .into_runnable()?;
    plan.spawn()
}

fn zeros(shape: &[usize]) -> TractResult<Tensor> {
    Tensor::zero::<f32>(shape)
}

/// An error and its causes in one line of bounded length.
fn sentence(error: &TractError) -> String {
    let whole = format!("{error:#}").replace(['\n', '\r'], " ");
    Text::<200>::cut(&whole).to_string()
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; a panic inside becomes its message, and nothing is printed.
fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(outer);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Text::<200>::cut(text.unwrap_or("it broke off")).to_string().replace(['\n', '\r'], " ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Proto, classifier, floats, node, softmax_of, tensor_info};

    fn refused(bytes: &[u8], inputs: usize) -> String {
        Model::load(bytes, inputs).expect_err("must not load").to_string()
    }

    fn graph_of(op: &str, elem_type: u64) -> Vec<u8> {
        let graph = Proto::default()
            .message(1, &node(op, &["x"], "y"))
            .text(2, "test")
            .message(11, &tensor_info("x", elem_type, &[None, Some(4)]))
            .message(12, &tensor_info("y", elem_type, &[None, Some(4)]));
        testing::model(&graph)
    }

    #[test]
    fn a_model_gives_what_the_formula_gives() {
        let mut model = Model::load(&classifier(4, 2, 1.5), 4).unwrap();
        assert_eq!((model.inputs(), model.outputs()), (4, 2));
        let mut out = Vec::new();
        for row in [[0.0, 1.0, 2.0, 3.0], [-1.0, 0.5, 0.25, 0.0]] {
            model.run(&row, &mut out).unwrap();
            for (found, wanted) in out.iter().zip(softmax_of(&row, 2, 1.5)) {
                assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
            }
        }
    }

    #[test]
    fn broken_files_give_one_sentence() {
        let whole = classifier(4, 2, 1.0);
        assert_eq!(refused(&[], 4), "the model file is empty: export the model again");
        assert!(refused(b"not a model at all", 4).starts_with("the file is not an ONNX model"));
        assert!(refused(&whole[..whole.len() / 2], 4).contains("cut off or damaged"));
        assert!(refused(&graph_of("NoSuchOp", 1), 4).contains("operator NoSuchOp"));
        assert!(refused(&whole, 5).contains("takes 4 inputs where 5 are expected"));
        assert!(refused(&graph_of("Identity", 11), 4).contains("input x is not float32"));
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_an_error_or_a_model() {
        let whole = classifier(3, 2, 1.0);
        for end in 0..whole.len() {
            let _ = Model::load(&whole[..end], 3);
        }
        // The weights come last but for names; flipping structure bytes must never panic. A few sizes would take memory
        // before they fail, which the child process of a later issue bounds, so only the low bits are flipped.
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let _ = Model::load(&changed, 3);
        }
    }

    #[test]
    fn a_label_branch_that_cannot_run_does_not_matter() {
        let graph = Proto::default()
            .message(1, &node("NoSuchOp", &["x"], "label"))
            .message(1, &node("Softmax", &["x"], "probabilities"))
            .text(2, "test")
            .message(11, &tensor_info("x", 1, &[None, Some(2)]))
            .message(12, &tensor_info("label", 7, &[None]))
            .message(12, &tensor_info("probabilities", 1, &[None, Some(2)]));
        let model = Model::load(&testing::model(&graph), 2).unwrap();
        assert_eq!(model.outputs(), 2);
    }

    #[test]
    fn a_model_without_float_output_is_refused() {
        let graph = Proto::default()
            .message(1, &node("ArgMax", &["x"], "label"))
            .text(2, "test")
            .message(11, &tensor_info("x", 1, &[None, Some(2)]))
            .message(12, &tensor_info("label", 7, &[None]));
        assert!(refused(&testing::model(&graph), 2).contains("no float32 output"));
    }

    #[test]
    fn nan_weights_fail_at_the_sample_and_spare_incomplete_samples() {
        let graph = Proto::default()
            .message(1, &node("MatMul", &["x", "w"], "y"))
            .text(2, "test")
            .message(5, &floats("w", &[2, 1], &[f32::NAN, 1.0]))
            .message(11, &tensor_info("x", 1, &[None, Some(2)]))
            .message(12, &tensor_info("y", 1, &[None, Some(1)]));
        let mut model = Model::load(&testing::model(&graph), 2).unwrap();
        let mut out = Vec::new();
        assert_eq!(model.run(&[1.0, 1.0], &mut out), Err(RunError::NotFinite(0)));
        assert_eq!(model.answer(&[1.0, 1.0], &mut out), Outputs::Failed);
        assert_eq!(model.answer(&[1.0, f32::NAN], &mut out), Outputs::Missing);
        assert_eq!(model.answer(&[1.0], &mut out), Outputs::Failed);
    }

    #[test]
    fn golden_rows_tell_a_wrong_model_from_the_right_one() {
        let bundle = testing::bundle("v1", 4, 2, 1.5);
        let check = |scale| Model::load(&classifier(4, 2, scale), 4).unwrap().check(bundle.golden());
        assert_eq!(check(1.5), Ok(()));
        let wrong = check(1.4).expect_err("other weights").to_string();
        assert!(wrong.starts_with("golden row 1, output 0: the model gives"), "{wrong}");
    }

    #[test]
    fn metadata_and_width_are_read() {
        let bytes = classifier(4, 2, 1.0);
        assert_eq!(metadata(&bytes).unwrap().get("driftline.name").map(String::as_str), Some("test"));
        assert_eq!(input_width(&bytes), Ok(Some(4)));
        assert_eq!(metadata(b""), Err(ModelError::Empty));
    }
}
