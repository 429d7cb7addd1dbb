//! Wasserstein-1 distances between two samples that were counted on the same edges.
//!
//! With counts alone, values have to be taken as spread evenly within each cell, which is 9 % off at 16 cells. With the sum of
//! the values in each cell the area under a distribution function over a cell is known exactly, whatever the values are.

use crate::drift::distance::{Count, pairwise};
use libm::fabs;

/// Wasserstein-1 distance in the feature's unit, values taken as spread evenly within each cell; the outer cells end at
/// `low` and `high`, the smallest and largest value of both sides. NaN without edges.
pub fn w1(edges: &[f32], baseline: &[u32], current: &[u32], low: f32, high: f32) -> f64 {
    let (Some(&first), Some(&last)) = (edges.first(), edges.last()) else { return f64::NAN };
    let knots = core::iter::once(low.min(first)).chain(edges.iter().copied()).chain(core::iter::once(high.max(last)));
    let mut gap = 0.0;
    let mut from = f64::NAN;
    let mut cells = shares(baseline).zip(shares(current));
    knots.fold(0.0, |area, to| {
        let to = f64::from(to);
        if from.is_nan() {
            from = to;
            return area;
        }
        let next = gap + cells.next().map_or(0.0, |(p, q)| p - q);
        let width = to - from;
        // The gap runs straight from one knot to the next; where it changes sign the two triangles are added.
        let piece = if gap * next >= 0.0 {
            0.5 * fabs(gap + next)
        } else {
            0.5 * (gap * gap + next * next) / (fabs(gap) + fabs(next))
        };
        (gap, from) = (next, to);
        area + width * piece
    })
}

fn shares(counts: &[u32]) -> impl Iterator<Item = f64> + '_ {
    let n = counts.iter().map(|&c| f64::from(c)).sum::<f64>().max(1.0);
    counts.iter().map(move |&c| f64::from(c) / n)
}

/// Wasserstein-1 distance from counts and sums of values per cell, Σ_k |∫ (F − G) over cell k|, in the feature's unit.
///
/// K ascending edges, K + 1 counts and sums a side; cell k holds the values in (edge k−1, edge k]. Over an inner cell of width w
/// the area under F is F(left)·w + (c·right − s)/n; below the first and above the last edge it is the values' mean distance from
/// that edge. Exact where F − G keeps its sign inside every cell, else a lower bound. NaN where a side is empty or lengths
/// do not fit.
pub fn w1_by_sums<C: Count>(
    edges: &[f32],
    ref_counts: &[C],
    ref_sums: &[f64],
    cur_counts: &[C],
    cur_sums: &[f64],
) -> f64 {
    let cells = edges.len() + 1;
    if [ref_counts.len(), ref_sums.len(), cur_counts.len(), cur_sums.len()] != [cells; 4] {
        return f64::NAN;
    }
    let of = |counts: &[C]| pairwise(cells, &|i| counts[i].number());
    let (n, m) = (of(ref_counts), of(cur_counts));
    let edge = |k: usize| f64::from(edges[k]);
    if edges.is_empty() {
        return fabs(ref_sums[0] / n - cur_sums[0] / m);
    }
    let mut below = (0.0, 0.0);
    (0..cells).fold(0.0, |distance, k| {
        let area = if k == cells - 1 {
            let above = |count: C, sum: f64, n: f64| (sum - count.number() * edge(k - 1)) / n;
            above(cur_counts[k], cur_sums[k], m) - above(ref_counts[k], ref_sums[k], n)
        } else {
            let inside = |count: C, sum: f64, n: f64| (count.number() * edge(k) - sum) / n;
            let width = if k == 0 { 0.0 } else { edge(k) - edge(k - 1) };
            (below.0 / n - below.1 / m) * width + inside(ref_counts[k], ref_sums[k], n)
                - inside(cur_counts[k], cur_sums[k], m)
        };
        below.0 += ref_counts[k].number();
        below.1 += cur_counts[k].number();
        distance + fabs(area)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts and sums of values in (edge k−1, edge k].
    fn cells(edges: &[f32], values: &[f64]) -> ([u64; 4], [f64; 4]) {
        let mut cells = ([0; 4], [0.0; 4]);
        for &v in values {
            let k = edges.iter().take_while(|&&e| f64::from(e) < v).count();
            cells.0[k] += 1;
            cells.1[k] += v;
        }
        cells
    }

    #[test]
    fn spread_evenly_by_hand() {
        // Half the mass difference of a quarter moves: |gap| rises 0 → 1/4 → 0 over two cells of width 1.
        assert!((w1(&[1.0], &[2, 2], &[1, 3], 0.0, 2.0) - 0.25).abs() < 1e-15);
    }

    #[test]
    fn with_sums_a_shift_is_exact_and_edges_do_not_matter() {
        // All values move up by 0.3, so F ≥ G everywhere and W1 is the difference of the means, on any edges.
        let values = [-2.0, -0.4, 0.0, 0.1, 0.7, 0.9, 1.4, 5.0];
        let moved = values.map(|v| v + 0.3);
        for edges in [[-1.0, 0.0, 1.0], [-5.0, 0.5, 0.6], [2.0, 3.0, 9.0]] {
            let ((a, s), (b, t)) = (cells(&edges, &values), cells(&edges, &moved));
            assert!((w1_by_sums(&edges, &a, &s, &b, &t) - 0.3).abs() < 1e-12, "{edges:?}");
        }
        let total: f64 = values.iter().sum();
        assert!((w1_by_sums(&[], &[8_u32], &[total], &[8], &[total + 2.4]) - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_change_of_scale_is_exact_when_the_edge_is_where_the_functions_cross() {
        // ±1 against ±3: two units move on each side.
        let ((a, s), (b, t)) = (cells(&[-2.0, 0.0, 2.0], &[-1.0, 1.0]), cells(&[-2.0, 0.0, 2.0], &[-3.0, 3.0]));
        assert!((w1_by_sums(&[-2.0, 0.0, 2.0], &a, &s, &b, &t) - 2.0).abs() < 1e-15);
        assert!(w1_by_sums(&[0.0_f32], &[1_u32], &[0.0], &[1], &[0.0]).is_nan());
    }
}
