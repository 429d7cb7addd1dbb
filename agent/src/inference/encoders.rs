//! What pipelines do to columns before a model: `Scaler`, `Normalizer`, `Imputer`, `Binarizer`, `LabelEncoder`, `OneHotEncoder`,
//! `ArrayFeatureExtractor`.

use super::ml::{Attributes, Each, Rows};
use std::collections::HashMap;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// A value for every column, or one for all of them.
fn by_column(values: &[f32], columns: usize, what: &str) -> TractResult<()> {
    ensure!(values.len() == 1 || values.len() == columns, "{} numbers of {what} for {columns} columns", values.len());
    Ok(())
}

fn of(values: &[f32], column: usize) -> f32 {
    values.get(column).or(values.first()).copied().unwrap_or(0.0)
}

#[derive(Debug)]
pub(super) struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

pub(super) fn scaler(node: &NodeProto) -> TractResult<Scaler> {
    Ok(Scaler { offset: node.floats("offset").to_vec(), scale: node.floats("scale").to_vec() })
}

impl Rows for Scaler {
    fn width(&self, columns: usize) -> TractResult<usize> {
        by_column(&self.offset, columns, "offset")?;
        by_column(&self.scale, columns, "scale")?;
        Ok(columns)
    }

    fn is_classifier(&self) -> bool {
        false
    }

    fn row(&self, row: &[f32], out: &mut [f32]) -> i64 {
        for (column, (out, x)) in out.iter_mut().zip(row).enumerate() {
            *out = (x - of(&self.offset, column)) * of(&self.scale, column);
        }
        0
    }
}

#[derive(Debug)]
pub(super) struct Imputer {
    instead: Vec<f32>,
    missing: f32,
}

pub(super) fn imputer(node: &NodeProto) -> TractResult<Imputer> {
    let floats = node.floats("imputed_value_floats");
    let ints: Vec<f32> = node.ints("imputed_value_int64s").iter().map(|&v| v as f32).collect();
    Ok(match (floats.is_empty(), ints.is_empty()) {
        (false, _) => Imputer { instead: floats.to_vec(), missing: node.float("replaced_value_float", 0.0) },
        (true, false) => Imputer { instead: ints, missing: node.int("replaced_value_int64", 0) as f32 },
        (true, true) => bail!("an Imputer without values"),
    })
}

impl Rows for Imputer {
    fn width(&self, columns: usize) -> TractResult<usize> {
        by_column(&self.instead, columns, "imputed values")?;
        Ok(columns)
    }

    fn is_classifier(&self) -> bool {
        false
    }

    fn row(&self, row: &[f32], out: &mut [f32]) -> i64 {
        for (column, (out, x)) in out.iter_mut().zip(row).enumerate() {
            let missing = if self.missing.is_nan() { x.is_nan() } else { *x == self.missing };
            *out = if missing { of(&self.instead, column) } else { *x };
        }
        0
    }
}

#[derive(Debug)]
pub(super) struct Binarizer(f32);

pub(super) fn binarizer(node: &NodeProto) -> TractResult<Binarizer> {
    Ok(Binarizer(node.float("threshold", 0.0)))
}

impl Rows for Binarizer {
    fn width(&self, columns: usize) -> TractResult<usize> {
        Ok(columns)
    }

    fn is_classifier(&self) -> bool {
        false
    }

    fn row(&self, row: &[f32], out: &mut [f32]) -> i64 {
        out.iter_mut().zip(row).for_each(|(out, x)| *out = f32::from(u8::from(*x > self.0)));
        0
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Normalizer {
    Max,
    L1,
    L2,
}

pub(super) fn normalizer(node: &NodeProto) -> TractResult<Normalizer> {
    Ok(match node.text("norm", "MAX") {
        "MAX" => Normalizer::Max,
        "L1" => Normalizer::L1,
        "L2" => Normalizer::L2,
        other => bail!("norm {other} is unknown"),
    })
}

impl Rows for Normalizer {
    fn width(&self, columns: usize) -> TractResult<usize> {
        Ok(columns)
    }

    fn is_classifier(&self) -> bool {
        false
    }

    fn row(&self, row: &[f32], out: &mut [f32]) -> i64 {
        let norm = match self {
            // The largest with its sign, as onnxruntime takes it; scikit-learn takes the largest without.
            Self::Max => row.iter().copied().fold(f32::MIN, f32::max),
            Self::L1 => row.iter().map(|x| x.abs()).sum(),
            Self::L2 => row.iter().map(|x| x * x).sum::<f32>().sqrt(),
        };
        out.iter_mut().zip(row).for_each(|(out, x)| *out = if norm == 0.0 { *x } else { x / norm });
        0
    }
}

/// `ArrayFeatureExtractor`: picks columns. tract's own takes the shape of the indices over, where the specification lists them.
#[derive(Debug, Clone)]
pub(super) struct Pick;

impl Expansion for Pick {
    fn name(&self) -> StaticName {
        "driftline.pick".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.given_2(&inputs[0].shape, &inputs[1].shape, move |s, data, indices| {
            let picked: TDim = indices.iter().product();
            let above = data.split_last().map(|(_, above)| above).unwrap_or_default();
            let above = if above.is_empty() { tvec!(1.to_dim()) } else { above.iter().cloned().collect() };
            s.equals(&outputs[0].shape, above.into_iter().chain([picked]).collect::<TVec<TDim>>())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        use tract_onnx::tract_core::ops::array::Gather;
        let shape: TVec<TDim> = model.outlet_fact(inputs[1])?.shape.to_tvec();
        let flat = AxisOp::Reshape(0, shape.clone(), tvec!(shape.iter().product()));
        let indices = model.wire_node(format!("{prefix}.flat"), flat, &[inputs[1]])?[0];
        let rank = model.outlet_fact(inputs[0])?.rank();
        ensure!(rank > 0, "columns of a single number");
        let gather = Gather { axis: rank - 1, output_type: None };
        let picked = model.wire_node(format!("{prefix}.pick"), gather, &[inputs[0], indices])?;
        if rank == 1 { model.wire_node(prefix, AxisOp::Add(0), &picked) } else { Ok(picked) }
    }
}

/// A number as a key; NaN is one too, and so is either zero.
fn key(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() }
}

#[derive(Debug)]
pub(super) struct Labels {
    map: HashMap<u64, f64>,
    default: f64,
    kind: DatumType,
}

pub(super) fn labels(node: &NodeProto) -> TractResult<Labels> {
    let numbers = |name: &str| -> TractResult<Option<(Vec<f64>, DatumType)>> {
        let (floats, ints) = (node.floats(&format!("{name}_floats")), node.ints(&format!("{name}_int64s")));
        ensure!(
            node.texts(&format!("{name}_strings")).is_empty(),
            "a LabelEncoder of text: encode text before the model"
        );
        Ok(match (floats, ints, node.tensor(&format!("{name}_tensor"))?) {
            ([], [], None) => None,
            ([], [], Some(tensor)) => Some((tensor, f64::datum_type())),
            ([], ints, _) => Some((ints.iter().map(|&v| v as f64).collect(), i64::datum_type())),
            (floats, ..) => Some((floats.iter().map(|&v| f64::from(v)).collect(), f32::datum_type())),
        })
    };
    let (keys, _) = numbers("keys")?.context("a LabelEncoder without keys")?;
    let (values, kind) = numbers("values")?.context("a LabelEncoder without values")?;
    ensure!(keys.len() == values.len(), "{} keys for {} values", keys.len(), values.len());
    let default = match node.tensor("default_tensor")? {
        Some(values) => values.first().copied().unwrap_or(0.0),
        None if kind == i64::datum_type() => node.int("default_int64", -1) as f64,
        None => f64::from(node.float("default_float", -0.0)),
    };
    Ok(Labels { map: keys.into_iter().map(key).zip(values).collect(), default, kind })
}

impl Each for Labels {
    fn width(&self) -> Option<usize> {
        None
    }

    fn each(&self, x: f64, out: &mut [f64]) {
        out[0] = self.map.get(&key(x)).copied().unwrap_or(self.default);
    }

    fn kind(&self) -> DatumType {
        self.kind
    }
}

#[derive(Debug)]
pub(super) struct OneHot {
    places: HashMap<i64, usize>,
    width: usize,
}

pub(super) fn one_hot(node: &NodeProto) -> TractResult<OneHot> {
    let categories = node.ints("cats_int64s");
    ensure!(!categories.is_empty(), "a OneHotEncoder of text: encode text before the model");
    ensure!(node.int("zeros", 1) != 0, "a OneHotEncoder that fails for unknown categories");
    Ok(OneHot { places: categories.iter().copied().zip(0..).collect(), width: categories.len() })
}

impl Each for OneHot {
    fn width(&self) -> Option<usize> {
        Some(self.width)
    }

    fn each(&self, x: f64, out: &mut [f64]) {
        // As a cast does it: towards zero.
        if let Some(out) = self.places.get(&(x as i64)).and_then(|&place| out.get_mut(place)) {
            *out = 1.0;
        }
    }

    fn kind(&self) -> DatumType {
        f32::datum_type()
    }
}
