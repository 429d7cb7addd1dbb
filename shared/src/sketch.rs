//! The mergeable summary of one feature within one window: counts on fixed cells, where in their cells the values lay, what was
//! missing, what repeated, and moments.
//!
//! The cells are fixed by the baseline before anything is counted, so merging is integer addition: exact, in any
//! order. Values outside the baseline's range fall in the two outer cells; positions, `min` and `max` say how far they went.
//! No quantile sketch: with fixed edges every distance of `drift` is a function of the counts and of the sums per cell.

mod cells;

pub use cells::{Categories, Category, Cells, Grid, KNOWN_MAX, OWN_MAX};
use wide::{f32x4, f64x2};

/// Most cells of one sketch. 22 are used for numbers (20 inner, and one of 1 % at either end).
pub const CELLS_MAX: usize = 24;
/// Parts of a cell that a value's position is counted in.
pub const POSITIONS: f32 = 256.0;
/// No value lies further out than this, in parts; such a value is 32,768 times the baseline's range away.
const POSITION_MAX: f32 = 8_388_607.0;
/// Stands for "no value before": these bits are NaN, which is never a value.
const NO_VALUE: u32 = 0x7fc0_0000;
/// Values counted at a time.
const LANES: usize = 32;
/// Most edges between cells.
pub const EDGES_MAX: usize = CELLS_MAX - 1;

/// Count, mean, sum of squared deviations, smallest and largest of the finite values.
///
/// Sums are kept about the first value: without a division per value, and as exact as one would be, since the first value is itself
/// one of those whose deviations are summed (the shifted sums of Chan, Golub and LeVeque, *Algorithms for computing the sample variance*,
/// 1983).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// Finite values counted.
    pub n: u64,
    /// The smallest; +inf when there are none.
    pub min: f32,
    /// The largest; -inf when there are none.
    pub max: f32,
    origin: f64,
    /// Of the values less the origin.
    sum: f64,
    squares: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { n: 0, min: f32::INFINITY, max: f32::NEG_INFINITY, origin: 0.0, sum: 0.0, squares: 0.0 }
    }
}

impl Moments {
    /// Moments that somebody else worked out.
    pub fn new(n: u64, mean: f64, m2: f64, min: f32, max: f32) -> Self {
        Self { n, min, max, origin: mean, sum: 0.0, squares: m2 }
    }

    /// Adds one finite value.
    #[inline]
    pub fn add(&mut self, value: f32) {
        let x = f64::from(value);
        if self.n == 0 {
            self.origin = x;
        }
        self.n += 1;
        let deviation = x - self.origin;
        self.sum += deviation;
        self.squares += deviation * deviation;
        // Rarely true, and then cheaper as a branch than as the arithmetic of `f32::min`.
        if value < self.min {
            self.min = value;
        }
        if value > self.max {
            self.max = value;
        }
    }

    /// With these values too, the same sums in another order; nothing where one of them is not finite.
    fn with_all(mut self, values: &[f32]) -> Option<Self> {
        if self.n == 0 {
            self.origin = f64::from(*values.first()?);
        }
        let (groups, rest) = values.as_chunks::<4>();
        let origin = f64x2::splat(self.origin);
        let (mut sums, mut squares) = ([f64x2::ZERO; 2], [f64x2::ZERO; 2]);
        let (mut min, mut max) = (f32x4::splat(self.min), f32x4::splat(self.max));
        for &[a, b, c, d] in groups {
            let deviations = [[a, b], [c, d]].map(|two| f64x2::new(two.map(f64::from)) - origin);
            sums = [sums[0] + deviations[0], sums[1] + deviations[1]];
            squares = [squares[0] + deviations[0] * deviations[0], squares[1] + deviations[1] * deviations[1]];
            min = f32x4::new([a, b, c, d]).fast_min(min);
            max = f32x4::new([a, b, c, d]).fast_max(max);
        }
        self.n += 4 * groups.len() as u64;
        self.sum += (sums[0] + sums[1]).reduce_add();
        self.squares += (squares[0] + squares[1]).reduce_add();
        self.min = min.to_array().into_iter().fold(self.min, |a, b| if b < a { b } else { a });
        self.max = max.to_array().into_iter().fold(self.max, |a, b| if b > a { b } else { a });
        rest.iter().for_each(|&value| self.add(value));
        // What is not finite leaves no finite sum, and finite values of 32 bits no other.
        self.sum.is_finite().then_some(self)
    }

    /// Adds what `other` summarises (Chan, Golub, LeVeque 1979).
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        let n = self.n + other.n;
        let delta = other.mean() - self.mean();
        let share = other.n as f64 / n as f64;
        let mean = if self.n == 0 { other.mean() } else { self.mean() + delta * share };
        let m2 = self.m2() + other.m2() + delta * delta * self.n as f64 * share;
        *self = Self::new(n, mean, m2, self.min.min(other.min), self.max.max(other.max));
    }

    /// The mean; 0 when there are none.
    pub fn mean(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.origin + self.sum / self.n as f64 }
    }

    /// Summed squared deviation from the mean.
    pub fn m2(&self) -> f64 {
        if self.n == 0 { 0.0 } else { (self.squares - self.sum * (self.sum / self.n as f64)).max(0.0) }
    }

    /// Standard deviation with divisor n; 0 below two values.
    pub fn sd(&self) -> f64 {
        if self.n < 2 { 0.0 } else { libm::sqrt(self.m2() / self.n as f64) }
    }
}

/// The summary of one feature within one window. `K` is the capacity in cells and part of the type, so that
/// sketches of different capacity cannot meet.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch<const K: usize = CELLS_MAX> {
    counts: heapless::Vec<u32, K>,
    positions: heapless::Vec<u64, K>,
    missing: u32,
    non_finite: u32,
    repeats: u32,
    moments: Moments,
    /// Bits of the last finite value; not part of what is merged or sent.
    last: u32,
}

/// What a sketch counted beside its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beside {
    /// Readings that were not there.
    pub missing: u32,
    /// Readings that were ±inf.
    pub non_finite: u32,
    /// Readings equal to the one before.
    pub repeats: u32,
}

impl<const K: usize> Sketch<K> {
    /// An empty sketch of `cells` cells (at most `K`).
    pub fn new(cells: usize) -> Self {
        let (mut counts, mut positions) = (heapless::Vec::new(), heapless::Vec::new());
        counts.resize(cells.min(K), 0).expect("never more than K cells");
        positions.resize(cells.min(K), 0).expect("never more than K cells");
        Self { counts, positions, missing: 0, non_finite: 0, repeats: 0, moments: Moments::default(), last: NO_VALUE }
    }

    /// A sketch from its parts, as they come off the wire; as many positions as counts.
    pub fn from_parts(
        counts: heapless::Vec<u32, K>,
        positions: heapless::Vec<u64, K>,
        beside: Beside,
        moments: Moments,
    ) -> Self {
        let Beside { missing, non_finite, repeats } = beside;
        Self { counts, positions, missing, non_finite, repeats, moments, last: NO_VALUE }
    }

    /// Counts one value. NaN is a missing reading, ±inf a broken one; neither reaches the cells or the moments.
    #[inline]
    pub fn add(&mut self, grid: &Grid, value: f32) {
        if value.is_finite() {
            let cell = grid.cell(value);
            if let (Some(count), Some(position)) = (self.counts.get_mut(cell), self.positions.get_mut(cell)) {
                *count = count.saturating_add(1);
                *position = position.saturating_add(u64::from(grid.position(cell, value)));
            }
            if value.to_bits() == self.last {
                self.repeats = self.repeats.saturating_add(1);
            }
            self.last = value.to_bits();
            if grid.is_numeric() {
                self.moments.add(value);
            }
        } else if value.is_nan() {
            self.missing = self.missing.saturating_add(1);
        } else {
            self.non_finite = self.non_finite.saturating_add(1);
        }
    }

    /// Counts values, as [`Self::add`] does one after the other, but faster.
    pub fn add_all(&mut self, grid: &Grid, values: &[f32]) {
        let few = self.moments.n <= u64::from(u32::MAX).saturating_sub(values.len() as u64);
        let moments = (few && grid.is_numeric()).then(|| self.moments.with_all(values)).flatten();
        let (Some(moments), [first, .., last]) = (moments, values) else {
            return values.iter().for_each(|&value| self.add(grid, value));
        };
        self.moments = moments;
        let (groups, rest) = values.as_chunks::<LANES>();
        groups.iter().for_each(|group| self.place(grid, group));
        rest.iter().for_each(|&value| self.place(grid, &[value]));
        let repeats: u32 = values.iter().zip(&values[1..]).map(|(a, b)| u32::from(a.to_bits() == b.to_bits())).sum();
        self.repeats = self.repeats.saturating_add(repeats + u32::from(first.to_bits() == self.last));
        self.last = last.to_bits();
    }

    /// Counts finite numbers in their cells, where no count can be too large.
    #[inline]
    fn place<const N: usize>(&mut self, grid: &Grid, values: &[f32; N]) {
        let parts = values.map(|value| grid.part(value));
        let len = self.counts.len().min(self.positions.len()).min(CELLS_MAX);
        let (counts, sums) = (&mut self.counts[..len], &mut self.positions[..len]);
        let mut count = |part: u8, value: f32| {
            let cell = grid.cell_within(part, value);
            if cell < len {
                counts[cell] = counts[cell].wrapping_add(1);
                sums[cell] = sums[cell].wrapping_add(grid.position(cell, value).into());
            }
        };
        let ((fours, parts), (values, rest)) = (parts.as_chunks::<4>(), values.as_chunks::<4>());
        // Written out: a compiler left to itself makes shuffles of it.
        fours.iter().zip(values).for_each(|(&[k, l, m, n], &[a, b, c, d])| {
            count(k, a);
            count(l, b);
            count(m, c);
            count(n, d);
        });
        parts.iter().zip(rest).for_each(|(&part, &value)| count(part, value));
    }

    /// Adds what `other` counted. Refused when the cells differ in number: then the baselines differ too.
    pub fn merge(&mut self, other: &Self) -> Result<(), CellsDiffer> {
        if self.counts.len() != other.counts.len() {
            return Err(CellsDiffer);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        for (mine, theirs) in self.positions.iter_mut().zip(&other.positions) {
            *mine = mine.saturating_add(*theirs);
        }
        self.missing = self.missing.saturating_add(other.missing);
        self.non_finite = self.non_finite.saturating_add(other.non_finite);
        self.repeats = self.repeats.saturating_add(other.repeats);
        self.moments.merge(&other.moments);
        Ok(())
    }

    /// Empties the sketch, keeping its cells.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.positions.fill(0);
        (self.missing, self.non_finite, self.repeats) = (0, 0, 0);
        self.moments = Moments::default();
        self.last = NO_VALUE;
    }

    /// Finite values per cell.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Readings that were not there.
    pub fn missing(&self) -> u32 {
        self.missing
    }

    /// Readings that were ±inf.
    pub fn non_finite(&self) -> u32 {
        self.non_finite
    }

    /// Readings equal to the one before: a sensor that is stuck repeats itself.
    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    /// Sums of positions per cell, in 1/256 of the cell (outer cells: of the range between the outermost edges).
    pub fn positions(&self) -> &[u64] {
        &self.positions
    }

    /// Sum of the values in each cell, in the feature's unit, within 1/512 of the cell's width per value. The cells must be those
    /// that were counted on. Nothing for categories.
    pub fn sums(&self, cells: &Cells) -> heapless::Vec<f64, K> {
        let Cells::Edges(edges) = cells else { return heapless::Vec::new() };
        let sum = |(cell, (&count, &position)): (usize, (&u32, &u64))| {
            let (from, width) = cells.span(cell)?;
            let beyond = f64::from(width) / f64::from(POSITIONS) * position as f64;
            Some(f64::from(count) * f64::from(from) + if cell == 0 { -beyond } else { beyond })
        };
        match edges.is_empty() {
            true => core::iter::once(self.moments.mean() * self.moments.n as f64).collect(),
            false => self.counts.iter().zip(&self.positions).enumerate().filter_map(sum).collect(),
        }
    }

    /// Moments of the finite values; none for categories.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Finite values counted.
    pub fn n(&self) -> u64 {
        self.counts.iter().map(|&c| u64::from(c)).sum()
    }
}

/// Two sketches that do not count on the same cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellsDiffer;

impl core::fmt::Display for CellsDiffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the sketches count on different cells, so they come from different baselines")
    }
}

impl core::error::Error for CellsDiffer {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn edges(values: &[f32]) -> Cells {
        Cells::Edges(values.iter().copied().collect())
    }

    #[test]
    fn different_cells_do_not_merge() {
        let mut a = Sketch::<24>::new(3);
        assert_eq!(a.merge(&Sketch::new(4)), Err(CellsDiffer));
    }

    fn sketch_of(cells: &Cells, values: &[f32]) -> Sketch {
        let mut sketch = Sketch::new(cells.len());
        let grid = Grid::new(cells);
        values.iter().for_each(|&v| sketch.add(&grid, v));
        sketch
    }

    proptest! {
        #[test]
        fn merging_equals_counting_everything(a in prop::collection::vec(reading(), 0..60), b in prop::collection::vec(reading(), 0..60)) {
            let codes = |values: &[f32]| values.iter().map(|v| v.round()).collect::<Vec<f32>>();
            let categories = Cells::Values(Categories { own: [0.0, 1.0, -2.0].into_iter().collect(), others: [2.0].into_iter().collect() });
            for (cells, a, b) in [(edges(&[-1.0, -0.5, 0.0, 0.5, 1.0]), a.clone(), b.clone()), (categories, codes(&a), codes(&b))] {
                let mut ab = sketch_of(&cells, &a);
                ab.merge(&sketch_of(&cells, &b)).unwrap();
                let mut ba = sketch_of(&cells, &b);
                ba.merge(&sketch_of(&cells, &a)).unwrap();
                let both: Vec<f32> = a.iter().chain(&b).copied().collect();
                let whole = sketch_of(&cells, &both);
                prop_assert_eq!(ab.counts(), whole.counts());
                prop_assert_eq!(ab.counts(), ba.counts());
                prop_assert_eq!(ab.missing(), whole.missing());
                prop_assert_eq!(ab.non_finite(), whole.non_finite());
                prop_assert_eq!(ab.positions(), whole.positions());
                prop_assert_eq!(ab.positions(), ba.positions());
                // Of two parts, only a repeat across the cut is lost.
                prop_assert!(whole.repeats() - ab.repeats() <= 1);
                prop_assert_eq!(ab.n() + u64::from(ab.missing() + ab.non_finite()), both.len() as u64);
                let scale = whole.moments().sd().max(1.0);
                prop_assert!((ab.moments().mean() - whole.moments().mean()).abs() < 1e-9 * scale);
                prop_assert!((ab.moments().sd() - whole.moments().sd()).abs() < 1e-7 * scale);
            }
        }
    }

    proptest! {
        #[test]
        fn merging_is_associative_to_the_last_bit_of_every_integer(parts in prop::collection::vec(prop::collection::vec(reading(), 0..20), 3)) {
            let cells = edges(&[-1.0, -0.5, 0.0, 0.5, 1.0]);
            let [a, b, c] = [0, 1, 2].map(|i: usize| sketch_of(&cells, &parts[i]));
            let (mut left, mut right, mut bc) = (a.clone(), a, b.clone());
            left.merge(&b).unwrap();
            left.merge(&c).unwrap();
            bc.merge(&c).unwrap();
            right.merge(&bc).unwrap();
            prop_assert_eq!(left.counts(), right.counts());
            prop_assert_eq!(left.positions(), right.positions());
            prop_assert_eq!((left.missing(), left.non_finite(), left.repeats()), (right.missing(), right.non_finite(), right.repeats()));
        }

        #[test]
        fn sums_per_cell_are_those_of_the_values(values in prop::collection::vec(-9.0f32..9.0, 0..200)) {
            let list = [-1.0f32, -0.5, 0.0, 0.5, 1.0];
            let cells = edges(&list);
            let (sketch, grid) = (sketch_of(&cells, &values), Grid::new(&cells));
            for (k, sum) in sketch.sums(&cells).iter().enumerate() {
                let inside: Vec<f64> = values.iter().filter(|v| grid.cell(**v) == k).map(|&v| f64::from(v)).collect();
                // The outer cells count in parts of the whole range of 2, the inner ones in parts of 0.5.
                let part = if k == 0 || k == list.len() { 2.0 } else { 0.5 } / 512.0;
                prop_assert!((sum - inside.iter().sum::<f64>()).abs() <= (part + 1e-6) * inside.len() as f64 + 1e-9);
            }
        }
    }

    proptest! {
        #[test]
        fn counting_together_is_counting_one_by_one(values in prop::collection::vec(reading(), 0..70), parts in 1usize..40, whole in any::<bool>()) {
            let values: Vec<f32> = values.into_iter().filter(|v| v.is_finite() || !whole).collect();
            for cells in [edges(&[-1.0, -0.5, 0.0, 0.5, 1.0]), edges(&[]), Cells::Categories(2), edges(&std::array::from_fn::<f32, EDGES_MAX, _>(|i| i as f32 / 8.0))] {
                let (mut together, grid) = (Sketch::<CELLS_MAX>::new(cells.len()), Grid::new(&cells));
                values.chunks(parts).for_each(|part| together.add_all(&grid, part));
                let alone = sketch_of(&cells, &values);
                prop_assert_eq!((together.counts(), together.positions()), (alone.counts(), alone.positions()));
                prop_assert_eq!((together.missing, together.non_finite, together.repeats, together.last), (alone.missing, alone.non_finite, alone.repeats, alone.last));
                let (a, b) = (together.moments(), alone.moments());
                prop_assert_eq!((a.n, a.min, a.max), (b.n, b.min, b.max));
                prop_assert!((a.mean() - b.mean()).abs() < 1e-12 && (a.m2() - b.m2()).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn repeated_readings_are_counted() {
        let sketch = sketch_of(&edges(&[0.0]), &[1.0, 1.0, 2.0, f32::NAN, 2.0, 1.0, 1.0, 1.0]);
        assert_eq!(sketch.repeats(), 4, "a missing reading between equal ones does not part them");
    }

    fn reading() -> impl Strategy<Value = f32> {
        prop_oneof![8 => -3.0f32..3.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)]
    }
}
