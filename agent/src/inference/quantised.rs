//! A tensor rounded to eight bits and back: `QuantizeLinear` with the `DequantizeLinear` behind it, computed with fractions.
//!
//! What lies between such pairs is computed in f32, where onnxruntime computes in integers: the rounding at each pair is the same.

use super::ml::Attributes;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// What joined pairs are called.
pub(super) const OPERATOR: &str = "DriftlineRounded";

/// Inputs: numbers, scale, zero point; the last two one for all or one for each place along the axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rounded {
    axis: i64,
}

impl Rounded {
    pub(super) fn of(node: &NodeProto) -> Self {
        Self { axis: node.int("axis", 1) }
    }
}

impl Expansion for Rounded {
    fn name(&self) -> StaticName {
        "driftline.rounded".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 3)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Rounded {
    fn name(&self) -> StaticName {
        "driftline.rounded".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Rounded {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (x, scale, zero) = args_3!(inputs);
        let (low, high) = match zero.datum_type() {
            DatumType::U8 => (0.0, 255.0),
            DatumType::I8 => (-128.0, 127.0),
            other => bail!("rounding to {other:?}, and only to eight bits is known"),
        };
        let (scale, zero) = (scale.cast_to::<f32>()?, zero.cast_to::<f32>()?);
        let (scale, zero) = (scale.try_as_plain_ram()?, zero.try_as_plain_ram()?);
        let (scale, zero) = (scale.as_slice::<f32>()?, zero.as_slice::<f32>()?);
        let rank = x.rank() as i64;
        let axis = usize::try_from(if self.axis < 0 { self.axis + rank } else { self.axis }).unwrap_or(0);
        let inner: usize = x.shape().iter().skip(axis + 1).product();
        let along = if scale.len() > 1 { x.shape().get(axis).copied().unwrap_or(1) } else { 1 };
        ensure!(scale.len() == along && zero.len() == along, "scales and zero points do not fit the tensor");
        let mut x = x.cast_to::<f32>()?.into_owned();
        for (at, x) in x.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.iter_mut().enumerate() {
            let place = at / inner.max(1) % along;
            let whole = ((*x / scale[place]).round_ties_even() + zero[place]).clamp(low, high);
            *x = (whole - zero[place]) * scale[place];
        }
        Ok(tvec!(x.into_tvalue()))
    }
}

impl TypedOp for Rounded {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(inputs[0].shape.clone())))
    }
}
