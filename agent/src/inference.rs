//! Runs an ONNX model on tract: one sample in, numbers out, buffers reused.
//!
//! A model is untrusted until it has run: what does not load gives one sentence that says why, and neither loading nor running
//! ever takes the agent down with a panic. [`graph`] says what of the file is run; what scikit-learn, LightGBM and XGBoost
//! export needs operators that tract lacks, and [`ml`] adds them: [`trees`], [`svm`], [`linear`], [`encoders`], [`quantised`]. Models made to exhaust memory or time are
//! caught before, by `io::trial` in a process of its own.

mod encoders;
mod graph;
mod linear;
mod ml;
mod quantised;
mod svm;
mod trees;

use driftline_shared::list::Text;
use driftline_shared::manifest::Golden;
pub use graph::OUTPUT_PREFERRED;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::scan::Scan;

/// Most numbers a model may put out per sample.
pub const OUTPUTS_MAX: usize = 4096;

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
    /// No input.
    #[error("the model has no input: export it with a float32 input of shape [N, features]")]
    NoInput,
    /// An input is text.
    #[error(
        "the model's input {name} is text: encode text as numbers before the model, and export it with number inputs"
    )]
    InputText {
        /// Its name.
        name: String,
    },
    /// An input is nothing that numbers can fill.
    #[error("the model's input {name} is no tensor of numbers: export it with float32 inputs of shape [N, features]")]
    InputType {
        /// Its name.
        name: String,
    },
    /// The shape of an input says too little.
    #[error(
        "the model's input {name} leaves more than one dimension open: export it with fixed dimensions but for the batch"
    )]
    InputOpen {
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
    #[error("the model has no output of numbers: export class probabilities or predicted numbers")]
    NoOutput,
    /// The tensor wanted beside the output does not exist.
    #[error("the model has no tensor {name}: name one that a node of it puts out")]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// The output is larger than is sensible.
    #[error("the model puts out {0} numbers per sample, and at most {OUTPUTS_MAX} are accepted")]
    OutputWidth(usize),
    /// The embedding is larger than is sensible.
    #[error(
        "the model's embedding has {0} numbers, and 1 to {OUTPUTS_MAX} are possible: name another tensor with --embedding, or none"
    )]
    EmbeddingWidth(usize),
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

/// An input tensor of a model, as clients fill it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its type in the words of the Open Inference Protocol.
    pub datatype: &'static str,
    /// Its shape; the batch is -1.
    pub shape: Vec<i64>,
}

/// A model ready to run.
pub struct Model {
    state: TypedSimpleState,
    inputs: Vec<Filled>,
    width: usize,
    output: String,
    outputs: usize,
    beside: Option<Box<Beside>>,
}

/// The model's own embedding of a sample.
struct Beside {
    /// Its place among what the model puts out.
    at: usize,
    /// Of the last sample.
    values: Vec<f32>,
}

/// An input and its part of the sample.
struct Filled {
    name: String,
    tensor: Arc<Tensor>,
    kind: DatumType,
    shape: Vec<usize>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("inputs", &self.width).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Model {
    /// Loads an ONNX model that takes `width` numbers. Runs it once on zeros, so that what only fails at run time fails here.
    pub fn load(bytes: &[u8], width: usize) -> Result<Self, ModelError> {
        Self::with_embedding(bytes, width, None)
    }

    /// The same, which also reads a tensor that is the model's own embedding of a sample.
    pub fn with_embedding(bytes: &[u8], width: usize, tensor: Option<&str>) -> Result<Self, ModelError> {
        let failed = |e: TractError| ModelError::Prepare(sentence(&e));
        quietly(|| {
            let mut proto = graph::parse(bytes)?;
            let inputs = graph::inputs(&proto)?;
            let shapes = graph::shapes(&inputs, width)?;
            graph::without_zipmaps(&mut proto)?;
            graph::join_quantised(&mut proto);
            graph::keep_outputs(&mut proto, tensor)?;
            let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
            ml::register(&mut onnx);
            graph::known_operators(&onnx, &proto)?;
            let inputs =
                inputs.into_iter().zip(shapes).map(|(input, shape)| Filled::new(input.name, input.kind, shape));
            let inputs = inputs.collect::<TractResult<Vec<_>>>().map_err(failed)?;
            let state = prepare(&onnx, &proto, &inputs).map_err(failed)?;
            let output = graph::output_name(&proto);
            let beside =
                tensor.map(|tensor| Box::new(Beside { at: usize::from(tensor != output), values: Vec::new() }));
            let mut model = Self { state, inputs, width, output, outputs: 0, beside };
            let mut out = Vec::new();
            model.run_unchecked(&vec![0.0; width], &mut out).map_err(failed)?;
            model.outputs = out.len();
            if tensor.is_some() && !(1..=OUTPUTS_MAX).contains(&model.embedding().len()) {
                return Err(ModelError::EmbeddingWidth(model.embedding().len()));
            }
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
        self.width
    }

    /// How many numbers it gives.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Name of the output that is read.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// The embedding of the last sample; empty where none is read or the model failed.
    pub fn embedding(&self) -> &[f32] {
        self.beside.as_ref().map(|beside| &*beside.values).unwrap_or_default()
    }

    /// Its inputs as clients fill them.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        let info = |input: &Filled| {
            let datatype = match input.kind {
                DatumType::F64 => "FP64",
                DatumType::I64 => "INT64",
                DatumType::I32 => "INT32",
                DatumType::U8 => "UINT8",
                DatumType::I8 => "INT8",
                DatumType::Bool => "BOOL",
                _ => "FP32",
            };
            // One row without a batch is a batch of rows all the same.
            let inner = if input.shape.len() > 1 { &input.shape[1..] } else { &input.shape[..] };
            let shape = std::iter::once(-1).chain(inner.iter().map(|&n| n as i64)).collect();
            TensorInfo { name: input.name.clone(), datatype, shape }
        };
        self.inputs.iter().map(info).collect()
    }

    /// Runs one sample; `out` then holds the outputs. Allocates nothing of ours once `out` has grown.
    pub fn run(&mut self, sample: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        self.beside.iter_mut().for_each(|beside| beside.values.clear());
        if sample.len() != self.width {
            return Err(RunError::Width { found: sample.len(), wanted: self.width });
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
        let mut rest = sample;
        let mut values = tvec!();
        for input in &mut self.inputs {
            rest = input.fill(rest)?;
            values.push(TValue::from_const(input.tensor.clone()));
        }
        let values = self.state.run(values)?;
        out.clear();
        let read = |at: usize, into: &mut Vec<f32>| -> TractResult<()> {
            if let Some(value) = values.get(at) {
                let value = value.cast_to::<f32>()?;
                into.extend_from_slice(value.try_as_plain_ram()?.as_slice::<f32>()?);
            }
            Ok(())
        };
        read(0, out)?;
        self.beside.as_deref_mut().map_or(Ok(()), |beside| read(beside.at, &mut beside.values))
    }
}

impl Filled {
    fn new(name: String, kind: DatumType, shape: Vec<usize>) -> TractResult<Self> {
        Ok(Self { name, tensor: Arc::new(Tensor::zero_dt(kind, &shape)?), kind, shape })
    }

    /// Takes its numbers from the front of the sample.
    fn fill<'a>(&mut self, sample: &'a [f32]) -> TractResult<&'a [f32]> {
        let width = self.shape.iter().product();
        let (ours, rest) = sample.split_at_checked(width).ok_or_else(|| TractError::msg("the sample is too short"))?;
        if Arc::get_mut(&mut self.tensor).is_none() {
            // tract still holds the last one: only after an error or a panic.
            self.tensor = Arc::new(Tensor::zero_dt(self.kind, &self.shape)?);
        }
        let Some(tensor) = Arc::get_mut(&mut self.tensor) else { return Ok(rest) };
        if self.kind == f32::datum_type() {
            tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.copy_from_slice(ours);
        } else {
            if self.kind != f64::datum_type() && !ours.iter().all(|x| x.is_finite()) {
                return Err(TractError::msg("a reading is missing where the model takes whole numbers"));
            }
            *tensor = tensor1(ours).into_shape(&self.shape)?.cast_to_dt(self.kind)?.into_owned();
        }
        Ok(rest)
    }
}

/// The texts that the exporter put beside the model: `driftline.features`, `driftline.classes` and the like.
pub fn metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>, ModelError> {
    let proto = graph::parse(bytes)?;
    Ok(proto.metadata_props.into_iter().map(|p| (p.key, p.value)).collect())
}

/// How many inputs the model says it takes; `None` when it leaves that open.
pub fn input_width(bytes: &[u8]) -> Result<Option<usize>, ModelError> {
    let inputs = graph::inputs(&graph::parse(bytes)?)?;
    Ok(inputs.iter().try_fold(0usize, |sum, input| sum.checked_add(input.width()?)))
}

/// Names of the inputs where the model takes one number by each, as pipelines over table columns do.
pub fn input_names(bytes: &[u8]) -> Result<Option<Vec<String>>, ModelError> {
    let inputs = graph::inputs(&graph::parse(bytes)?)?;
    let columns = inputs.len() > 1 && inputs.iter().all(|input| input.width() == Some(1));
    Ok(columns.then(|| inputs.into_iter().map(|input| input.name).collect()))
}

/// Class names that the model carries beside its scores, as converters of scikit-learn and LightGBM write them; empty for none.
pub fn class_names(bytes: &[u8]) -> Result<Vec<String>, ModelError> {
    Ok(graph::class_names(&graph::parse(bytes)?))
}

/// The output that is the model's own embedding by its name, where it has one.
pub fn embedding_output(bytes: &[u8]) -> Result<Option<String>, ModelError> {
    let outputs = graph::outputs_of_fractions(&graph::parse(bytes)?);
    Ok(outputs.into_iter().find(|name| name.to_ascii_lowercase().contains("embedding")))
}

fn prepare(
    onnx: &tract_onnx::Onnx,
    proto: &tract_onnx::pb::ModelProto,
    inputs: &[Filled],
) -> TractResult<TypedSimpleState> {
    let mut model = onnx.model_for_proto_model(proto)?;
    for (at, input) in inputs.iter().enumerate() {
        model = model.with_input_fact(at, input.kind.fact(&input.shape).into())?;
    }
    let mut model = model.into_typed()?;
    forgetful(&mut model);
    model.into_optimized()?.into_runnable()?.spawn()
}

/// Makes loops start anew with each sample: a state of tract's would carry what one sample left to the next.
fn forgetful(model: &mut TypedModel) {
    for node in &mut model.nodes {
        if let Some(scan) = node.op_as_mut::<Scan>() {
            scan.reset_every_turn = true;
            forgetful(&mut scan.body);
        }
    }
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
        assert!(refused(&graph_of("Identity", 8), 4).contains("input x is text"));
        assert!(refused(&graph_of("Identity", 10), 4).contains("input x is no tensor of numbers"));
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
    fn an_embedding_is_read_beside_the_scores() {
        let bytes = testing::embedding_classifier(3);
        assert_eq!(embedding_output(&bytes), Ok(Some("the_embedding".into())));
        assert_eq!(embedding_output(&classifier(3, 2, 1.0)), Ok(None));
        let mut out = Vec::new();
        // A declared output, and a tensor that is none.
        for (tensor, scale) in [("the_embedding", 1.0), ("twice", 2.0)] {
            let mut model = Model::with_embedding(&bytes, 3, Some(tensor)).unwrap();
            assert_eq!((model.output(), model.outputs()), ("probabilities", 3));
            model.run(&[1.0, -2.0, 3.0], &mut out).unwrap();
            assert_eq!(model.embedding(), [scale, 0.0, 3.0 * scale]);
            assert_eq!(out.len(), 3);
            assert!(model.run(&[1.0], &mut out).is_err() && model.embedding().is_empty());
        }
        let mut read = Model::with_embedding(&bytes, 3, Some("probabilities")).unwrap();
        read.run(&[1.0, -2.0, 3.0], &mut out).unwrap();
        assert_eq!(read.embedding(), out);
        let error = Model::with_embedding(&bytes, 3, Some("nothing")).unwrap_err().to_string();
        assert_eq!(error, "the model has no tensor nothing: name one that a node of it puts out");
    }

    #[test]
    fn a_model_without_numbers_is_refused() {
        let graph = Proto::default()
            .message(1, &node("ArgMax", &["x"], "label"))
            .text(2, "test")
            .message(11, &tensor_info("x", 1, &[None, Some(2)]))
            .message(12, &tensor_info("label", 8, &[None]));
        assert!(refused(&testing::model(&graph), 2).contains("no output of numbers"));
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
