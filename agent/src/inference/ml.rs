//! Operators of the ONNX domain `ai.onnx.ml` that tract lacks, or runs too slowly or with text it cannot hold, as operators of tract.
//!
//! Two kinds cover them all: [`Rows`] turns a row of numbers into another (trees, support vectors, linear models, scalers), [`Each`]
//! turns every number into one or several (encoders). What they compute is what onnxruntime computes, one sample at a time; the
//! corpus (tests/models/corpus.py) compares the two. Class labels that are text are counted from 0: only scores leave a model.

use super::{encoders, linear, quantised, svm, trees};
use std::sync::Arc;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{self, NodeProto};
use tract_onnx::tract_hir::internal::*;

/// Most numbers that a row may have in or out.
pub(super) const WIDTH_MAX: usize = 1 << 20;

/// What turns one row into another.
pub(super) trait Rows: std::fmt::Debug + Send + Sync {
    /// Numbers that come out of a row of `columns`, or why it cannot be.
    fn width(&self, columns: usize) -> TractResult<usize>;
    /// Fills `out`; the class where this is a classifier.
    fn row(&self, row: &[f32], out: &mut [f32]) -> i64;
    /// Whether the class comes out before the scores.
    fn is_classifier(&self) -> bool;
}

/// What turns every number into `width` others.
pub(super) trait Each: std::fmt::Debug + Send + Sync {
    /// Numbers out of one; `None` for one number in the same place.
    fn width(&self) -> Option<usize>;
    /// Fills `out`.
    fn each(&self, x: f64, out: &mut [f64]);
    /// The type of what comes out.
    fn kind(&self) -> DatumType;
}

/// Adds the operators to tract's.
pub(super) fn register(onnx: &mut tract_onnx::Onnx) {
    let all: [(&'static str, Builder); 13] = [
        ("TreeEnsembleClassifier", |_, node| rows(trees::classifier(node)?)),
        ("TreeEnsembleRegressor", |_, node| rows(trees::regressor(node)?)),
        ("SVMClassifier", |_, node| rows(svm::classifier(node)?)),
        ("SVMRegressor", |_, node| rows(svm::regressor(node)?)),
        ("LinearClassifier", |_, node| rows(linear::classifier(node)?)),
        ("Scaler", |_, node| rows(encoders::scaler(node)?)),
        ("Imputer", |_, node| rows(encoders::imputer(node)?)),
        ("Binarizer", |_, node| rows(encoders::binarizer(node)?)),
        ("Normalizer", |_, node| rows(encoders::normalizer(node)?)),
        ("ArrayFeatureExtractor", |_, _| Ok((expand(encoders::Pick), vec![]))),
        (quantised::OPERATOR, |_, node| Ok((expand(quantised::Rounded::of(node)), vec![]))),
        ("LabelEncoder", |_, node| each(encoders::labels(node)?)),
        ("OneHotEncoder", |_, node| each(encoders::one_hot(node)?)),
    ];
    for (name, builder) in all {
        onnx.op_register.insert(name, builder);
    }
}

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;
type Builder = fn(&ParsingContext, &NodeProto) -> Built;

fn rows(rows: impl Rows + 'static) -> Built {
    Ok((expand(RowsOp(Arc::new(rows))), vec![]))
}

fn each(each: impl Each + 'static) -> Built {
    Ok((expand(EachOp(Arc::new(each))), vec![]))
}

/// Attributes of a node, empty where they are not there.
pub(super) trait Attributes {
    fn find(&self, name: &str) -> Option<&pb::AttributeProto>;

    fn floats(&self, name: &str) -> &[f32] {
        self.find(name).map_or(&[], |a| &a.floats)
    }
    fn ints(&self, name: &str) -> &[i64] {
        self.find(name).map_or(&[], |a| &a.ints)
    }
    fn texts(&self, name: &str) -> &[Vec<u8>] {
        self.find(name).map_or(&[], |a| &a.strings)
    }
    fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |a| a.i)
    }
    fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |a| a.f)
    }
    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.find(name).and_then(|a| std::str::from_utf8(&a.s).ok()).unwrap_or(default)
    }
    /// A tensor attribute as numbers.
    fn tensor(&self, name: &str) -> TractResult<Option<Vec<f64>>> {
        let Some(proto) = self.find(name).and_then(|a| a.t.as_ref()) else { return Ok(None) };
        let tensor = tract_onnx::tensor::load_tensor(&tract_onnx::data_resolver::MmapDataResolver, proto, None)?;
        Ok(Some(tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec()))
    }
    /// Class labels: the numbers, or text counted from 0.
    fn class_labels(&self) -> TractResult<Vec<i64>> {
        let texts = self.texts("classlabels_strings");
        let numbers = [self.ints("classlabels_int64s"), self.ints("classlabels_ints")];
        let numbers = numbers.into_iter().find(|n| !n.is_empty()).unwrap_or_default();
        match (texts.len(), numbers.len()) {
            (0, 0) => bail!("a classifier names no classes"),
            (0, _) => Ok(numbers.to_vec()),
            (n, _) => Ok((0..n as i64).collect()),
        }
    }
}

impl Attributes for NodeProto {
    fn find(&self, name: &str) -> Option<&pb::AttributeProto> {
        self.attribute.iter().find(|a| a.name == name)
    }
}

/// What is done with scores at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

impl Transform {
    pub(super) fn of(node: &NodeProto) -> TractResult<Self> {
        Ok(match node.text("post_transform", "NONE") {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => bail!("post_transform {other} is unknown"),
        })
    }

    pub(super) fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|s| *s = logistic(*s)),
            Self::Probit => scores.iter_mut().for_each(|s| *s = probit(*s)),
            Self::Softmax => softmax(scores, |_| true),
            // Scores of zero stay zero, as onnxruntime does it: nearly, by exp(-max).
            Self::SoftmaxZero => softmax(scores, |s| s.abs() > 1e-7),
        }
    }
}

pub(super) fn logistic(x: f32) -> f32 {
    let v = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - v } else { v }
}

/// √2 · erf⁻¹(2p − 1), the inverse by Winitzki's approximation (a = 0.147), as onnxruntime has it.
fn probit(p: f32) -> f32 {
    let x = 2.0 * p - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (std::f32::consts::PI * 0.147) + 0.5 * log;
    let root = (-v + (v * v - log / 0.147).sqrt()).sqrt();
    std::f32::consts::SQRT_2 * if x < 0.0 { -root } else { root }
}

fn softmax(scores: &mut [f32], counts: impl Fn(f32) -> bool) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if counts(*score) {
            *score = (*score - max).exp();
            sum += *score;
        } else {
            *score *= (-max).exp();
        }
    }
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// The first of the largest.
pub(super) fn largest(scores: &[f32]) -> usize {
    scores.iter().enumerate().fold(0, |best, (at, &s)| if s > scores[best] { at } else { best })
}

#[derive(Debug, Clone)]
struct RowsOp(Arc<dyn Rows>);
#[derive(Debug, Clone)]
struct EachOp(Arc<dyn Each>);

/// tract wants to know when two operators are the same.
macro_rules! same_when_shared {
    ($op:ty, $name:literal) => {
        impl PartialEq for $op {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0)
            }
        }
        impl Eq for $op {}
        impl Op for $op {
            fn name(&self) -> StaticName {
                $name.into()
            }
            op_as_typed_op!();
        }
    };
}
same_when_shared!(RowsOp, "driftline.rows");
same_when_shared!(EachOp, "driftline.each");

/// Rows and columns of a matrix or of one row; what has more dimensions has no rows.
fn matrix(shape: &[usize]) -> TractResult<(usize, usize)> {
    match *shape {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        _ => bail!("{} dimensions where rows of numbers belong", shape.len()),
    }
}

impl RowsOp {
    fn shapes(&self, input: &[usize]) -> TractResult<(usize, usize)> {
        let (rows, columns) = matrix(input)?;
        ensure!((1..=WIDTH_MAX).contains(&columns), "a row of {columns} numbers");
        let width = self.0.width(columns)?;
        ensure!(width <= WIDTH_MAX, "a row of {width} numbers comes out, and at most {WIDTH_MAX} are accepted");
        Ok((rows, width))
    }
}

impl Expansion for RowsOp {
    fn name(&self) -> StaticName {
        "driftline.rows".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(1 + usize::from(self.0.is_classifier()))
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        let scores = outputs.last().context("no output")?;
        s.equals(&scores.datum_type, f32::datum_type())?;
        if self.0.is_classifier() {
            s.equals(&outputs[0].datum_type, i64::datum_type())?;
        }
        s.given(&inputs[0].shape, move |s, shape| {
            let shape = shape.iter().map(|d| Ok(d.to_usize()?)).collect::<TractResult<Vec<usize>>>()?;
            let (rows, width) = self.shapes(&shape)?;
            if self.0.is_classifier() {
                s.equals(&outputs[0].shape, tvec!(rows.to_dim()))?;
            }
            s.equals(&scores.shape, tvec!(rows.to_dim(), width.to_dim()))
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl EvalOp for RowsOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let (rows, width) = self.shapes(input.shape())?;
        let input = input.cast_to::<f32>()?;
        let input = input.try_as_plain_ram()?.as_slice::<f32>()?;
        let mut scores = Tensor::zero::<f32>(&[rows, width])?;
        let mut classes = tvec!();
        let mut plain = scores.try_as_plain_ram_mut()?;
        let out = plain.as_slice_mut::<f32>()?;
        let columns = input.len().checked_div(rows).unwrap_or(0).max(1);
        for (row, out) in input.chunks_exact(columns).zip(out.chunks_exact_mut(width.max(1))) {
            classes.push(self.0.row(row, out));
        }
        Ok(match self.0.is_classifier() {
            true => tvec!(tensor1(&classes).into_tvalue(), scores.into_tvalue()),
            false => tvec!(scores.into_tvalue()),
        })
    }
}

impl TypedOp for RowsOp {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = inputs[0].shape.as_concrete().context("an open dimension")?;
        let (rows, width) = self.shapes(shape)?;
        let scores = f32::fact([rows, width]);
        Ok(if self.0.is_classifier() { tvec!(i64::fact([rows]), scores) } else { tvec!(scores) })
    }
}

impl EachOp {
    fn shape(&self, input: &[usize]) -> TVec<usize> {
        input.iter().copied().chain(self.0.width()).collect()
    }
}

impl Expansion for EachOp {
    fn name(&self) -> StaticName {
        "driftline.each".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, self.0.kind())?;
        s.given(&inputs[0].shape, move |s, shape| {
            let wide = self.0.width().map(|w| w.to_dim());
            s.equals(&outputs[0].shape, shape.iter().cloned().chain(wide).collect::<TVec<TDim>>())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl EvalOp for EachOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let mut output = Tensor::zero::<f64>(&self.shape(input.shape()))?;
        let input = input.cast_to::<f64>()?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let out = plain.as_slice_mut::<f64>()?;
        let width = self.0.width().unwrap_or(1).max(1);
        for (x, out) in input.try_as_plain_ram()?.as_slice::<f64>()?.iter().zip(out.chunks_exact_mut(width)) {
            self.0.each(*x, out);
        }
        Ok(tvec!(output.cast_to_dt(self.0.kind())?.into_owned().into_tvalue()))
    }
}

impl TypedOp for EachOp {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = inputs[0].shape.as_concrete().context("an open dimension")?;
        Ok(tvec!(self.0.kind().fact(self.shape(shape))))
    }
}
