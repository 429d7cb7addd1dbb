//! What of an ONNX file is run: its inputs, the one output that is read, and the nodes that lead to it.
//!
//! The protobuf is rewritten before tract sees it: a ZipMap, which only dresses probabilities up as a dictionary, is dropped and its
//! keys are kept as class names; output shapes and the like, which exporters often get wrong, are ignored.

use super::ModelError;
use driftline_shared::list::Text;
use std::collections::{BTreeMap, BTreeSet};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType as Onnx;
use tract_onnx::prelude::*;

/// The output that is taken when the model has one of this name, as scikit-learn's converter writes it.
pub const OUTPUT_PREFERRED: &str = "probabilities";
/// Every ONNX file written in the wild begins with its IR version, protobuf field 1 as a varint.
const FIRST_BYTE: u8 = 0x08;

/// One input of a model and the shape that one sample has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) kind: DatumType,
    /// The batch is 1; `None` is a dimension that the model leaves open.
    dims: Vec<Option<usize>>,
}

impl Input {
    /// Numbers of one sample; `None` when a dimension is open.
    pub(super) fn width(&self) -> Option<usize> {
        self.dims.iter().try_fold(1usize, |product, dim| product.checked_mul((*dim)?))
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<pb::ModelProto, ModelError> {
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

fn tensor_type(info: &pb::ValueInfoProto) -> Option<&pb::type_proto::Tensor> {
    // tract's protobuf knows no other type, so that maps and sequences have none here.
    let pb::type_proto::Value::TensorType(tensor) = info.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

/// The inputs that a sample fills, in the model's order.
pub(super) fn inputs(proto: &pb::ModelProto) -> Result<Vec<Input>, ModelError> {
    let graph = graph(proto)?;
    let fixed: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let free = graph.input.iter().filter(|i| !fixed.contains(i.name.as_str()));
    let inputs: Vec<Input> = free.map(input).collect::<Result<_, _>>()?;
    if inputs.is_empty() { Err(ModelError::NoInput) } else { Ok(inputs) }
}

fn input(info: &pb::ValueInfoProto) -> Result<Input, ModelError> {
    use pb::tensor_shape_proto::dimension::Value;
    // Whole for clients, cut for sentences.
    let shown = || Text::<64>::cut(&info.name).to_string();
    let tensor = tensor_type(info).ok_or_else(|| ModelError::InputType { name: shown() })?;
    let kind = match Onnx::try_from(tensor.elem_type) {
        Ok(Onnx::Float) => f32::datum_type(),
        Ok(Onnx::Double) => f64::datum_type(),
        Ok(Onnx::Int64) => i64::datum_type(),
        Ok(Onnx::Int32) => i32::datum_type(),
        Ok(Onnx::Uint8) => u8::datum_type(),
        Ok(Onnx::Int8) => i8::datum_type(),
        Ok(Onnx::Bool) => bool::datum_type(),
        Ok(Onnx::String) => return Err(ModelError::InputText { name: shown() }),
        _ => return Err(ModelError::InputType { name: shown() }),
    };
    let dims = tensor.shape.as_ref().map(|s| s.dim.as_slice()).unwrap_or_default();
    let mut dims: Vec<Option<usize>> = dims
        .iter()
        .map(|dim| match dim.value {
            Some(Value::DimValue(n)) => usize::try_from(n).ok().filter(|&n| n > 0),
            _ => None,
        })
        .collect();
    match dims.as_mut_slice() {
        [] => return Err(ModelError::InputType { name: shown() }),
        [_] => {}
        // The batch: one sample at a time.
        [batch, ..] => *batch = batch.or(Some(1)),
    }
    Ok(Input { name: info.name.clone(), kind, dims })
}

/// Shapes that together take `width` numbers.
pub(super) fn shapes(inputs: &[Input], width: usize) -> Result<Vec<Vec<usize>>, ModelError> {
    let mut left = width;
    let known: usize = inputs.iter().filter_map(Input::width).fold(0, usize::saturating_add);
    // What one open dimension has to be is what is left for it.
    let open: Vec<&Input> = inputs.iter().filter(|i| i.width().is_none()).collect();
    let missing = width.checked_sub(known).filter(|&m| open.is_empty() == (m == 0));
    let wrong = || ModelError::InputWidth { found: known, wanted: width };
    let missing = missing.ok_or_else(wrong)?;
    if let [_, _, ..] = open.as_slice() {
        return Err(ModelError::InputOpen { name: Text::<64>::cut(&open[0].name).to_string() });
    }
    let mut shapes = Vec::new();
    for input in inputs {
        let here = input.width().unwrap_or(missing);
        let rest =
            input.dims.iter().flatten().try_fold(1usize, |product, &dim| product.checked_mul(dim)).ok_or_else(wrong)?;
        let open = input.dims.iter().filter(|d| d.is_none()).count();
        if open > 1 {
            return Err(ModelError::InputOpen { name: Text::<64>::cut(&input.name).to_string() });
        }
        if !here.is_multiple_of(rest) {
            return Err(wrong());
        }
        shapes.push(input.dims.iter().map(|dim| dim.unwrap_or(here / rest)).collect());
        left = left.checked_sub(here).ok_or_else(wrong)?;
    }
    if left == 0 { Ok(shapes) } else { Err(wrong()) }
}

/// Class names that the model itself carries: of a ZipMap or a classifier node, where there is one.
pub(super) fn class_names(proto: &pb::ModelProto) -> Vec<String> {
    let Ok(graph) = graph(proto) else { return Vec::new() };
    let labels = |node: &pb::NodeProto| {
        let texts = node.attribute.iter().find(|a| a.name == "classlabels_strings").map(|a| &a.strings);
        let numbers = |a: &&pb::AttributeProto| a.name == "classlabels_int64s" || a.name == "classlabels_ints";
        match (texts, node.attribute.iter().find(numbers)) {
            (Some(texts), _) if !texts.is_empty() => {
                texts.iter().map(|t| String::from_utf8_lossy(t).into_owned()).collect()
            }
            (_, Some(numbers)) => numbers.ints.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    };
    // The ZipMap is what users of the model see; a classifier inside may be one of many.
    let zipmaps = graph.node.iter().filter(|n| n.op_type == "ZipMap");
    let others = graph.node.iter().filter(|n| n.op_type != "ZipMap").rev();
    zipmaps.chain(others).map(labels).find(|names| !names.is_empty()).unwrap_or_default()
}

/// Drops every ZipMap: what reads it reads the probabilities below.
pub(super) fn without_zipmaps(proto: &mut pb::ModelProto) -> Result<(), ModelError> {
    let graph = proto.graph.as_mut().ok_or(ModelError::NotOnnx)?;
    let mut below = BTreeMap::new();
    graph.node.retain(|node| match (node.op_type.as_str(), node.input.first(), node.output.first()) {
        ("ZipMap", Some(input), Some(output)) => {
            below.insert(output.clone(), input.clone());
            false
        }
        _ => true,
    });
    for output in &mut graph.output {
        if let Some(name) = below.get(&output.name) {
            // Of two outputs that are now the same the first is read.
            *output = float_output(if output.name == OUTPUT_PREFERRED { OUTPUT_PREFERRED } else { name });
            if output.name == OUTPUT_PREFERRED && name != OUTPUT_PREFERRED {
                let identity = pb::NodeProto {
                    input: vec![name.clone()],
                    output: vec![OUTPUT_PREFERRED.into()],
                    name: "driftline-zipmap".into(),
                    op_type: "Identity".into(),
                    ..Default::default()
                };
                graph.node.push(identity);
            }
        }
    }
    Ok(())
}

/// Joins every QuantizeLinear with the DequantizeLinear behind it to one operator of ours on numbers with fractions: where tract fuses such
/// pairs into quantised operators, the output of a Softmax comes out as all ones.
pub(super) fn join_quantised(proto: &mut pb::ModelProto) {
    let Some(graph) = proto.graph.as_mut() else { return };
    let quantised: BTreeMap<String, Vec<String>> = graph
        .node
        .iter()
        .filter(|n| n.op_type == "QuantizeLinear" && n.input.len() == 3)
        .filter_map(|n| Some((n.output.first()?.clone(), n.input.clone())))
        .collect();
    for node in graph.node.iter_mut().filter(|n| n.op_type == "DequantizeLinear" && n.input.len() == 3) {
        let Some(above) = quantised.get(&node.input[0]) else { continue };
        if above[1..] == node.input[1..] {
            node.op_type = super::quantised::OPERATOR.into();
            node.input[0] = above[0].clone();
        }
    }
}

fn float_output(name: &str) -> pb::ValueInfoProto {
    let tensor = pb::type_proto::Tensor { elem_type: Onnx::Float as i32, shape: None };
    let kind = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}

/// Keeps the output that is read and the nodes that lead to it: probabilities, else the first with fractions, else whole numbers. And
/// any other tensor that is wanted beside it, which becomes the second output.
pub(super) fn keep_outputs(proto: &mut pb::ModelProto, beside: Option<&str>) -> Result<(), ModelError> {
    let graph = proto.graph.as_mut().ok_or(ModelError::NotOnnx)?;
    let of = |kinds: &[Onnx]| {
        let kinds: Vec<i32> = kinds.iter().map(|&k| k as i32).collect();
        let fits = move |o: &&pb::ValueInfoProto| tensor_type(o).is_some_and(|t| kinds.contains(&t.elem_type));
        let preferred = graph.output.iter().filter(fits.clone()).find(|o| o.name == OUTPUT_PREFERRED);
        preferred.or(graph.output.iter().find(fits)).cloned()
    };
    let fractions = of(&[Onnx::Float, Onnx::Double]);
    let chosen = fractions.or(of(&[Onnx::Int64, Onnx::Int32, Onnx::Uint8, Onnx::Int8])).ok_or(ModelError::NoOutput)?;
    let known = |name: &str| graph.node.iter().any(|node| node.output.iter().any(|o| o == name));
    if let Some(missing) = beside.filter(|name| !known(name)) {
        return Err(ModelError::NoTensor { name: Text::<64>::cut(missing).to_string() });
    }
    let mut outputs = vec![chosen];
    outputs.extend(beside.map(float_output));
    // The embedding may be what is read.
    outputs.dedup_by(|second, first| second.name == first.name);
    let mut needed: BTreeSet<String> = outputs.iter().map(|output| output.name.clone()).collect();
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
    graph.output = outputs;
    Ok(())
}

/// Names of the outputs that hold fractions.
pub(super) fn outputs_of_fractions(proto: &pb::ModelProto) -> Vec<String> {
    let fractions = [Onnx::Float as i32, Onnx::Double as i32];
    let outputs = proto.graph.iter().flat_map(|graph| &graph.output);
    outputs
        .filter(|o| tensor_type(o).is_some_and(|t| fractions.contains(&t.elem_type)))
        .map(|o| o.name.clone())
        .collect()
}

/// Name of the output that is read, of those that [`keep_outputs`] kept.
pub(super) fn output_name(proto: &pb::ModelProto) -> String {
    let output = proto.graph.as_ref().and_then(|graph| graph.output.first());
    output.map_or_else(|| OUTPUT_PREFERRED.into(), |output| output.name.clone())
}

/// Every name a node reads, in its bodies too: those see the names around them.
fn used_names(node: &pb::NodeProto, names: &mut BTreeSet<String>) {
    names.extend(node.input.iter().cloned());
    for body in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        names.extend(body.output.iter().map(|o| o.name.clone()));
        body.node.iter().for_each(|inner| used_names(inner, names));
    }
}

/// Every operator of the graph and its bodies that nobody registered.
pub(super) fn known_operators(onnx: &tract_onnx::Onnx, proto: &pb::ModelProto) -> Result<(), ModelError> {
    fn unknown<'a>(onnx: &tract_onnx::Onnx, nodes: &'a [pb::NodeProto]) -> Option<&'a str> {
        nodes.iter().find_map(|node| {
            let bodies = node.attribute.iter().filter_map(|a| a.g.as_ref());
            let known = onnx.op_register.0.contains_key(&node.op_type);
            (!known).then_some(node.op_type.as_str()).or(bodies.flat_map(|b| unknown(onnx, &b.node)).next())
        })
    }
    match unknown(onnx, &graph(proto)?.node) {
        Some(name) => Err(ModelError::Operator { operator: Text::<64>::cut(name).to_string() }),
        None => Ok(()),
    }
}
