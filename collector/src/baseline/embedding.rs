//! The embedding of the training inputs: what its coordinates are, and how they vary when nothing is wrong.

use super::variation::{BLOCKS_FEW, OfBlocks, Order};
use driftline_shared::baseline::FeatureBaseline;
use driftline_shared::drift::scores::Sum;
use driftline_shared::embedding::{COORDINATES, Embedded, Embedding, FREQUENCIES, Frequencies, ONE};
use driftline_shared::joint::Joint;

/// Rows whose distances set the kernel's width, evenly spread over the table.
const PAIRED_ROWS_MAX: usize = 200;

/// The embedding of a table; `None` for a model with too many inputs, or rows that are all alike. `watched` are the inputs, whose
/// spread between devices and dependence in time it shares.
pub fn fit(
    rows: &[Vec<f32>],
    joint: &Joint,
    order: &Order,
    watched: &[FeatureBaseline],
    window: usize,
    independent: bool,
    tolerance: f64,
) -> Option<Embedded> {
    let bandwidth = bandwidth(rows, joint)?;
    let frequencies = Frequencies::new(joint.means.len(), bandwidth)?;
    let one = |row: usize| {
        let mut embedding = Embedding::default();
        embedding.add(&frequencies, joint, &rows[row]);
        embedding
    };
    let mut squares = vec![0.0f64; COORDINATES];
    let mut all = Embedding::default();
    for row in 0..rows.len() {
        let embedding = one(row);
        squares.iter_mut().zip(embedding.sums()).for_each(|(square, sum)| *square += f64::from(*sum).powi(2));
        all.merge(&embedding);
    }
    let n = f64::from(all.n());
    if n < 2.0 {
        return None;
    }
    let mean = |at: usize| f64::from(all.sums()[at]) / n;
    let sd = |at: usize| ((squares[at] / n - mean(at).powi(2)).max(0.0)).sqrt();
    let mut embedded = Embedded {
        bandwidth,
        rows: all.n(),
        tolerance,
        means: (0..COORDINATES).map(|at| (mean(at) / f64::from(ONE)) as f32).collect(),
        sds: (0..COORDINATES).map(|at| (sd(at) / f64::from(ONE)) as f32).collect(),
        phi: (0..COORDINATES).map(|_| 1.0).collect(),
        omega: (0..COORDINATES).map(|at| omega(&frequencies, watched, &mean, &sd, at)).collect(),
    };
    if !independent {
        let blocks = order.blocks(rows.len(), window);
        let embeddings: Vec<(usize, Embedding)> = blocks
            .into_iter()
            .map(|(device, block)| {
                let mut sum = Embedding::default();
                block.iter().for_each(|&row| sum.merge(&one(row)));
                (device, sum)
            })
            .filter(|(_, sum)| sum.n() > 0)
            .collect();
        let known = watched.iter().filter(|f| f.unwatched.is_none()).map(|f| f.phi.location);
        let least = if embeddings.len() < BLOCKS_FEW { known.fold(1.0, f64::max) } else { 1.0 };
        let size = embeddings.iter().map(|(_, e)| f64::from(e.n())).sum::<f64>() / embeddings.len().max(1) as f64;
        embedded.phi = (0..COORDINATES)
            .map(|at| {
                let sums: Vec<(usize, Sum)> = embeddings.iter().map(|(d, e)| (*d, embedded.score(e, at))).collect();
                OfBlocks::new(&sums, size).upper.max(least) as f32
            })
            .collect();
    }
    embedded.is_possible().then_some(embedded)
}

/// How much a coordinate differs between healthy devices: a device whose inputs lie a little off turns every phase a little, and the
/// mean cosine moves by that times the mean sine, and the other way round.
fn omega(
    frequencies: &Frequencies,
    watched: &[FeatureBaseline],
    mean: &impl Fn(usize) -> f64,
    sd: &impl Fn(usize) -> f64,
    at: usize,
) -> f32 {
    let spread = |f: &FeatureBaseline| if f.unwatched.is_none() { f.spread() } else { 0.0 };
    let swing = frequencies.swing(at % FREQUENCIES, watched.iter().map(spread));
    let other = (at + FREQUENCIES) % COORDINATES;
    if sd(at) > 0.0 { (swing * mean(other).abs() / sd(at)) as f32 } else { 0.0 }
}

/// sqrt of half the median squared distance between standardised rows, the width that Evidently's MMD has, too.
fn bandwidth(rows: &[Vec<f32>], joint: &Joint) -> Option<f32> {
    let step = rows.len().div_ceil(PAIRED_ROWS_MAX).max(1);
    let z = |row: &Vec<f32>| -> Vec<f64> {
        let scaled = joint.means.iter().zip(joint.scales.iter());
        row.iter()
            .zip(scaled)
            .map(
                |(&x, (mean, scale))| {
                    if x.is_finite() { (f64::from(x) - f64::from(*mean)) * f64::from(*scale) } else { 0.0 }
                },
            )
            .collect()
    };
    let paired: Vec<Vec<f64>> = rows.iter().step_by(step).map(z).collect();
    let mut squares: Vec<f64> = Vec::with_capacity(paired.len() * paired.len() / 2);
    for (i, a) in paired.iter().enumerate() {
        squares.extend(paired[..i].iter().map(|b| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>()));
    }
    if squares.is_empty() {
        return None;
    }
    let middle = squares.len() / 2;
    let (_, median, _) = squares.select_nth_unstable_by(middle, f64::total_cmp);
    let width = (*median / 2.0).sqrt() as f32;
    (width.is_finite() && width > 0.0).then_some(width)
}
