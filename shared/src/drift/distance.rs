//! Distances between two histograms on the same cells, as people know them from other tools. Shown, never alarmed on.
//!
//! Every figure states its convention: natural or base-2 logarithm, what an empty cell counts as.

use libm::{fabs, log, log2, sqrt};

fn total(counts: &[u32]) -> f64 {
    counts.iter().map(|&c| f64::from(c)).sum()
}

fn shares<'a>(counts: &'a [u32]) -> impl Iterator<Item = f64> + 'a {
    let n = total(counts).max(1.0);
    counts.iter().map(move |&c| f64::from(c) / n)
}

/// Population stability index Σ (p-q) ln(p/q), natural logarithm, shares (c+1/2)/(N+K/2) (Jeffreys), so that no cell is empty.
pub fn psi(baseline: &[u32], current: &[u32]) -> f64 {
    let jeffreys = |counts: &[u32], c: u32| (f64::from(c) + 0.5) / (total(counts) + counts.len() as f64 / 2.0);
    let pairs = baseline.iter().zip(current);
    pairs
        .map(|(&b, &c)| {
            let (p, q) = (jeffreys(baseline, b), jeffreys(current, c));
            (p - q) * log(p / q)
        })
        .sum()
}

/// Jensen-Shannon distance, the square root of the divergence in base 2: 0 for equal shares, 1 for disjoint ones.
pub fn js(baseline: &[u32], current: &[u32]) -> f64 {
    let half = |p: f64, m: f64| if p > 0.0 { p * log2(p / m) } else { 0.0 };
    let divergence: f64 = shares(baseline)
        .zip(shares(current))
        .map(|(p, q)| {
            let m = 0.5 * (p + q);
            0.5 * (half(p, m) + half(q, m))
        })
        .sum();
    sqrt(divergence.clamp(0.0, 1.0))
}

/// Kolmogorov-Smirnov D between the cell-wise distribution functions: a lower bound of D on the raw values.
pub fn ks(baseline: &[u32], current: &[u32]) -> f64 {
    let mut gap = 0.0;
    shares(baseline).zip(shares(current)).fold(0.0, |worst, (p, q)| {
        gap += p - q;
        f64::max(worst, fabs(gap))
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // p = (1/2, 1/2), q = (1/4, 3/4).
        let (p, q) = ([2, 2], [1, 3]);
        assert!((ks(&p, &q) - 0.25).abs() < 1e-15);
        // Half the mass difference of a quarter moves: |gap| rises 0 → 1/4 → 0 over two cells of width 1.
        assert!((w1(&[1.0], &p, &q, 0.0, 2.0) - 0.25).abs() < 1e-15);
        // Jeffreys: (2.5/5, 2.5/5) and (1.5/5, 3.5/5): .2 ln(.5/.3) + .2 ln(.7/.5).
        let expected = 0.2 * libm::log(0.5 / 0.3) + 0.2 * libm::log(0.7 / 0.5);
        assert!((psi(&p, &q) - expected).abs() < 1e-15);
        assert_eq!(js(&[1, 0], &[0, 1]), 1.0);
        assert_eq!(js(&p, &p), 0.0);
    }
}
