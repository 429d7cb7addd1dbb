//! Decision trees, forests and boosted trees: `TreeEnsembleClassifier` and `TreeEnsembleRegressor`.
//!
//! A file's ids are checked once: every child exists in its own tree and no path returns to where it was, so that walking needs no
//! checks and always ends. Every comparison is turned into `x ≤ value`, leaves lead to themselves, and a few trees walk side by side as
//! many steps as the deepest of them has, without a branch that could be guessed wrong.

use super::ml::{Attributes, Rows, Transform, largest, logistic};
use std::collections::HashMap;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// Most nodes of all trees together.
const NODES_MAX: usize = 1 << 22;
/// Longest way from a root to a leaf.
const DEPTH_MAX: u32 = 1000;
/// Trees that walk side by side.
const LANES: usize = 8;
/// Set in a node's feature when a missing value goes the way of `x ≤ value`.
const NAN_IS_LESS: u32 = 1 << 31;

/// `next[0]` is where `x ≤ value` leads, `next[1]` the other way.
#[derive(Debug, Clone, Copy)]
struct Node {
    value: f32,
    feature: u32,
    next: [u32; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

#[derive(Debug)]
pub(super) struct Trees {
    nodes: Vec<Node>,
    /// Root and depth of every tree.
    roots: Vec<(u32, u32)>,
    /// Where the weights of each node begin; one more at the end.
    starts: Vec<u32>,
    /// Target and weight.
    weights: Vec<(u32, f32)>,
    columns: usize,
    targets: usize,
    aggregate: Aggregate,
    base: Vec<f32>,
    transform: Transform,
    classes: Option<Classes>,
}

/// What makes a classifier of summed weights.
#[derive(Debug)]
struct Classes {
    labels: Vec<i64>,
    /// Two classes, and weights for one of them only.
    binary: bool,
    all_positive: bool,
    /// Whether the second class has any weight.
    second: bool,
}

pub(super) fn classifier(node: &NodeProto) -> TractResult<Trees> {
    let labels = node.class_labels()?;
    let mut trees = parse(node, "class", labels.len(), Aggregate::Sum)?;
    let mut given: Vec<u32> = trees.weights.iter().map(|(class, _)| *class).collect();
    given.sort_unstable();
    given.dedup();
    trees.classes = Some(Classes {
        binary: labels.len() == 2 && given.len() == 1,
        all_positive: trees.weights.iter().all(|(_, weight)| *weight >= 0.0),
        second: given.contains(&1),
        labels,
    });
    Ok(trees)
}

pub(super) fn regressor(node: &NodeProto) -> TractResult<Trees> {
    let aggregate = match node.text("aggregate_function", "SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => bail!("aggregate_function {other} is unknown"),
    };
    let targets = usize::try_from(node.int("n_targets", 1)).unwrap_or(0);
    parse(node, "target", targets, aggregate)
}

/// Numbers that may be written as a tensor of doubles instead.
fn numbers(node: &NodeProto, name: &str) -> TractResult<Vec<f64>> {
    match node.tensor(&format!("{name}_as_tensor"))? {
        Some(doubles) => Ok(doubles),
        None => Ok(node.floats(name).iter().map(|&v| f64::from(v)).collect()),
    }
}

fn parse(node: &NodeProto, kind: &str, targets: usize, aggregate: Aggregate) -> TractResult<Trees> {
    ensure!((1..=super::OUTPUTS_MAX).contains(&targets), "{targets} targets or classes");
    let ids = node.ints("nodes_nodeids");
    let tree_ids = node.ints("nodes_treeids");
    let (trues, falses) = (node.ints("nodes_truenodeids"), node.ints("nodes_falsenodeids"));
    let features = node.ints("nodes_featureids");
    let modes = node.texts("nodes_modes");
    let values = numbers(node, "nodes_values")?;
    let missing = node.ints("nodes_missing_value_tracks_true");
    let n = ids.len();
    ensure!((1..=NODES_MAX).contains(&n), "trees of {n} nodes");
    let lengths = [tree_ids.len(), trues.len(), falses.len(), features.len(), modes.len(), values.len()];
    ensure!(lengths.iter().all(|&l| l == n), "the lists of its nodes differ in length");
    let mut at = HashMap::with_capacity(n);
    for (i, key) in tree_ids.iter().zip(ids).enumerate() {
        ensure!(at.insert((*key.0, *key.1), i as u32).is_none(), "node {} of tree {} is there twice", key.1, key.0);
    }
    let child =
        |tree: i64, id: i64| at.get(&(tree, id)).copied().with_context(|| format!("tree {tree} has no node {id}"));
    let mut nodes = Vec::with_capacity(n);
    let mut columns = 0;
    // Nodes made here come after all those of the file.
    let mut made = Vec::new();
    for i in 0..n {
        let mode = modes[i].as_slice();
        if mode == b"LEAF" {
            nodes.push(Node { value: f32::INFINITY, feature: NAN_IS_LESS, next: [i as u32; 2] });
            continue;
        }
        let feature = usize::try_from(features[i]).ok().filter(|&f| f < super::ml::WIDTH_MAX);
        let feature = feature.with_context(|| format!("a node looks at column {}", features[i]))?;
        columns = columns.max(feature + 1);
        ensure!(!values[i].is_nan(), "a node compares with NaN");
        let (yes, no) = (child(tree_ids[i], trues[i])?, child(tree_ids[i], falses[i])?);
        let missing_is_true = missing.get(i).is_some_and(|&m| m == 1);
        // The largest number of our precision that is not above, and the one below the value.
        let not_above = not_above(values[i]);
        let below = if f64::from(not_above) == values[i] { not_above.next_down() } else { not_above };
        let split = |value: f32, less: u32, more: u32, nan: u32| Node {
            value,
            feature: feature as u32 | if nan == less { NAN_IS_LESS } else { 0 },
            next: [less, more],
        };
        let nan = if missing_is_true { yes } else { no };
        nodes.push(match mode {
            b"BRANCH_LEQ" => split(not_above, yes, no, nan),
            b"BRANCH_LT" => split(below, yes, no, nan),
            b"BRANCH_GT" => split(not_above, no, yes, nan),
            b"BRANCH_GTE" => split(below, no, yes, nan),
            b"BRANCH_EQ" | b"BRANCH_NEQ" => {
                let (same, other) = if mode == b"BRANCH_EQ" { (yes, no) } else { (no, yes) };
                let second = (n + made.len()) as u32;
                made.push(split(below, other, same, nan));
                // What is missing is settled here where it can be, and else by the second node.
                split(not_above, second, other, if nan == other { other } else { second })
            }
            other => bail!("a node has mode {}", String::from_utf8_lossy(other)),
        });
    }
    nodes.append(&mut made);
    let roots = roots(tree_ids, &nodes)?;
    let (starts, weights) = weights(node, kind, targets, nodes.len(), &child)?;
    let base = match node.tensor("base_values_as_tensor")? {
        Some(base) => base.into_iter().map(|v| v as f32).collect(),
        None => node.floats("base_values").to_vec(),
    };
    ensure!(base.len() <= targets, "{} base values for {targets} targets or classes", base.len());
    let transform = Transform::of(node)?;
    Ok(Trees { nodes, roots, starts, weights, columns, targets, aggregate, base, transform, classes: None })
}

/// The largest f32 that is not above.
fn not_above(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) > value { near.next_down() } else { near }
}

/// The first node of every tree with the depth below it.
fn roots(tree_ids: &[i64], nodes: &[Node]) -> TractResult<Vec<(u32, u32)>> {
    const UNSEEN: u32 = u32::MAX;
    const OPEN: u32 = u32::MAX - 1;
    let mut depth = vec![UNSEEN; nodes.len()];
    let mut roots = Vec::new();
    let mut path = Vec::new();
    for (i, tree) in tree_ids.iter().enumerate() {
        if i > 0 && tree_ids[i - 1] == *tree {
            continue;
        }
        path.push(i as u32);
        while let Some(&at) = path.last() {
            let node = &nodes[at as usize];
            if node.next == [at; 2] {
                depth[at as usize] = 0;
            } else if depth[at as usize] == UNSEEN {
                depth[at as usize] = OPEN;
                for next in node.next {
                    match depth[next as usize] {
                        UNSEEN => path.push(next),
                        OPEN => bail!("a path through tree {tree} returns to where it was"),
                        _ => {}
                    }
                }
                ensure!(path.len() <= 2 * DEPTH_MAX as usize, "a tree is deeper than {DEPTH_MAX}");
                continue;
            } else if depth[at as usize] == OPEN {
                let deepest = node.next.map(|next| depth[next as usize]);
                ensure!(deepest.iter().all(|&d| d < OPEN), "a path through tree {tree} returns to where it was");
                depth[at as usize] = deepest[0].max(deepest[1]) + 1;
            }
            path.pop();
        }
        ensure!(depth[i] <= DEPTH_MAX, "a tree is deeper than {DEPTH_MAX}");
        roots.push((i as u32, depth[i]));
    }
    Ok(roots)
}

type Weights = (Vec<u32>, Vec<(u32, f32)>);

/// Weights by node.
fn weights(
    node: &NodeProto,
    kind: &str,
    targets: usize,
    nodes: usize,
    at: &impl Fn(i64, i64) -> TractResult<u32>,
) -> TractResult<Weights> {
    let trees = node.ints(&format!("{kind}_treeids"));
    let ids = node.ints(&format!("{kind}_nodeids"));
    let to = node.ints(&format!("{kind}_ids"));
    let values = numbers(node, &format!("{kind}_weights"))?;
    ensure!([trees.len(), ids.len(), to.len()] == [values.len(); 3], "the lists of its weights differ in length");
    ensure!(values.len() <= NODES_MAX, "{} weights", values.len());
    let mut of = Vec::with_capacity(values.len());
    for i in 0..values.len() {
        let target = u32::try_from(to[i]).ok().filter(|&t| (t as usize) < targets);
        let target = target.with_context(|| format!("a weight for target or class {}", to[i]))?;
        of.push((at(trees[i], ids[i])?, target, values[i] as f32));
    }
    of.sort_by_key(|(node, ..)| *node);
    let mut starts = vec![0u32; nodes + 1];
    of.iter().for_each(|(node, ..)| starts[*node as usize + 1] += 1);
    (0..nodes).for_each(|i| starts[i + 1] += starts[i]);
    Ok((starts, of.into_iter().map(|(_, target, weight)| (target, weight)).collect()))
}

impl Trees {
    /// Weights of the leaves that a row leads to, summed, or their smallest or largest.
    fn gather(&self, row: &[f32], out: &mut [f32]) {
        let extreme = match self.aggregate {
            Aggregate::Sum | Aggregate::Average => 0.0,
            Aggregate::Min => f32::INFINITY,
            Aggregate::Max => f32::NEG_INFINITY,
        };
        out.fill(extreme);
        let (nodes, row) = (self.nodes.as_slice(), &row[..self.columns.max(1).min(row.len())]);
        for group in self.roots.chunks(LANES) {
            let mut at = [0u32; LANES];
            let mut steps = 0;
            for (at, (root, depth)) in at.iter_mut().zip(group) {
                *at = *root;
                steps = steps.max(*depth);
            }
            for _ in 0..steps {
                for at in &mut at[..group.len()] {
                    let node = &nodes[*at as usize];
                    let x = row[(node.feature & !NAN_IS_LESS) as usize];
                    let less = (x <= node.value) | (x.is_nan() & (node.feature & NAN_IS_LESS != 0));
                    *at = node.next[usize::from(!less)];
                }
            }
            for leaf in &at[..group.len()] {
                let (start, end) = (self.starts[*leaf as usize], self.starts[*leaf as usize + 1]);
                for (target, weight) in &self.weights[start as usize..end as usize] {
                    let sum = &mut out[*target as usize];
                    *sum = match self.aggregate {
                        Aggregate::Sum | Aggregate::Average => *sum + weight,
                        Aggregate::Min => sum.min(*weight),
                        Aggregate::Max => sum.max(*weight),
                    };
                }
            }
        }
        if self.aggregate == Aggregate::Average {
            out.iter_mut().for_each(|sum| *sum /= self.roots.len() as f32);
        }
        // A target without any weight.
        out.iter_mut().filter(|sum| sum.is_infinite() && **sum == extreme).for_each(|sum| *sum = 0.0);
    }
}

impl Rows for Trees {
    fn width(&self, columns: usize) -> TractResult<usize> {
        ensure!(self.columns <= columns, "a tree looks at column {} of {columns}", self.columns);
        Ok(self.targets)
    }

    fn is_classifier(&self) -> bool {
        self.classes.is_some()
    }

    fn row(&self, row: &[f32], out: &mut [f32]) -> i64 {
        self.gather(row, out);
        match &self.classes {
            Some(classes) if self.targets == 2 => classes.two(out, &self.base, self.transform),
            classes => {
                out.iter_mut().zip(&self.base).for_each(|(score, base)| *score += base);
                let class = largest(out);
                self.transform.apply(out);
                classes.as_ref().map_or(0, |c| c.labels[class])
            }
        }
    }
}

impl Classes {
    /// Two classes: exporters write one score or two, and the specification leaves open what follows; this follows onnxruntime.
    fn two(&self, out: &mut [f32], base: &[f32], transform: Transform) -> i64 {
        let [first, second] = out else { return 0 };
        let mut single = !self.second;
        match *base {
            [_, b1] if self.second => {
                *second = b1 + *first;
                *first = -*second;
            }
            [b0, b1] => {
                *first += b0;
                *second += b1;
                single = false;
            }
            [b0] => *first += b0,
            _ => {}
        }
        let weight = if self.second { *second } else { *first };
        let positive = weight > if self.binary && self.all_positive { 0.5 } else { 0.0 };
        if !single {
            transform.apply(out);
        } else if self.binary && self.all_positive {
            (*first, *second) = (1.0 - weight, weight);
        } else if transform == Transform::Logistic {
            (*first, *second) = (logistic(-weight), logistic(weight));
        } else {
            (*first, *second) = (-weight, weight);
        }
        self.labels[usize::from(positive)]
    }
}
