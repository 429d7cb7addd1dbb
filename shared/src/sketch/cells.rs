//! Where a value falls: the cells of a sketch, and the same laid out for counting.

use super::{CELLS_MAX, EDGES_MAX, POSITION_MAX, POSITIONS};
use crate::list::List;
use serde::{Deserialize, Serialize};

/// Most categories with a cell of their own: two more cells count the rarer ones and those never seen.
pub const OWN_MAX: usize = CELLS_MAX - 2;
/// Most categories that are told from those never seen.
pub const KNOWN_MAX: usize = 256;

/// How a value finds its cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "without an allocator there is no box; one per watched feature")]
pub enum Cells {
    /// Ascending edges; cell `k` holds `(edge[k-1], edge[k]]`.
    Edges(List<f32, EDGES_MAX>),
    /// Whole numbers `0..n` are cells of their own; one more cell counts everything else ("never seen").
    Categories(u8),
    /// These numbers are categories.
    Values(Categories),
}

/// Numbers that stand for categories. Each of `own` has a cell; then comes one for the others and one for values never seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Categories {
    /// The most frequent.
    pub own: List<f32, OWN_MAX>,
    /// Those that were seen, too.
    pub others: List<f32, { KNOWN_MAX - OWN_MAX }>,
}

impl Categories {
    fn cell(&self, value: f32) -> usize {
        let own = self.own.iter().position(|&category| category == value);
        own.unwrap_or_else(|| self.own.len() + usize::from(!self.others.contains(&value)))
    }
}

/// What a cell of categories counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Category {
    /// This value.
    One(f32),
    /// Values that were seen in training, each too seldom for a cell of its own.
    Others,
    /// Values that were not.
    NeverSeen,
}

impl Cells {
    /// How many cells there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Edges(edges) => edges.len() + 1,
            Self::Categories(n) => usize::from(*n) + 1,
            Self::Values(categories) => categories.own.len() + 2,
        }
    }

    /// Whether a number is one of the categories.
    pub fn knows(&self, value: f32) -> bool {
        match self {
            Self::Edges(_) => false,
            Self::Categories(n) => (0..*n).any(|k| f32::from(k) == value),
            Self::Values(categories) => categories.cell(value) <= categories.own.len(),
        }
    }

    /// What a cell counts, where these are categories.
    pub fn category(&self, cell: usize) -> Option<Category> {
        match self {
            Self::Edges(_) => None,
            Self::Categories(n) if cell < usize::from(*n) => Some(Category::One(cell as f32)),
            Self::Values(categories) if cell <= categories.own.len() => {
                Some(categories.own.get(cell).map_or(Category::Others, |&value| Category::One(value)))
            }
            Self::Categories(_) | Self::Values(_) => Some(Category::NeverSeen),
        }
    }

    /// Never: there is always at least one cell.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The edge that positions of a cell begin at, and the width they are counted in: the cell's own, and for the outer cells the
    /// range between the outermost edges. `None` for categories and without edges.
    pub fn span(&self, cell: usize) -> Option<(f32, f32)> {
        let Self::Edges(edges) = self else { return None };
        let (&first, &last) = (edges.first()?, edges.last()?);
        let range = if last > first { last - first } else { libm::fabsf(first).max(1.0) };
        let (from, width) = match cell {
            0 => (first, range),
            k if k == edges.len() => (last, range),
            k => (edges[k - 1], edges[k] - edges[k - 1]),
        };
        Some((from, width.min(f32::MAX)))
    }
}

/// Room for [`CELLS_MAX`] cells; a power of two, so that no index needs a check.
const PLACES: usize = CELLS_MAX.next_power_of_two();
/// The same for edges, among which a search may look beyond the last.
const EDGE_PLACES: usize = 2 * PLACES;
/// Equal parts of the range of a grid's edges.
const PARTS: usize = 256;
const TWO_TO_23: f32 = 8_388_608.0;
const TWO_TO_23_BITS: u32 = 1 << 23;

#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "without an allocator there is no box; a grid is there once per feature")]
enum Kinds {
    /// Whole numbers below this.
    Below(f32),
    These(Categories),
}

/// Cells laid out so that a value finds its place without a division or a branch: the range of the edges is cut into equal parts, and a
/// table says which cell each begins in. Where the edges are spread evenly enough to have at most one in a part, there is nothing to search.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    cells: usize,
    /// Instead of edges.
    categories: Option<Kinds>,
    /// Filled up with +inf, which no finite value is above.
    edges: [f32; EDGE_PLACES],
    /// Where the second part begins, and parts per unit.
    start: f32,
    density: f32,
    /// Per part, how many edges lie in the parts below it.
    first: [u8; PARTS],
    /// The first step of a search among the edges of one part: a power of two, and twice it is more than there are in any.
    step: u8,
    /// Per cell, where positions are counted from.
    from: [f32; PLACES],
    /// Per cell, positions per unit; downwards in the bottom cell.
    scale: [f32; PLACES],
}

impl Grid {
    /// The layout of `cells`.
    pub fn new(cells: &Cells) -> Self {
        let mut grid = Self {
            cells: cells.len().min(CELLS_MAX),
            categories: None,
            edges: [f32::INFINITY; EDGE_PLACES],
            start: 0.0,
            density: 1.0,
            first: [0; PARTS],
            step: 1,
            from: [0.0; PLACES],
            scale: [0.0; PLACES],
        };
        match cells {
            Cells::Edges(edges) => grid.cut(edges),
            Cells::Categories(n) => grid.categories = Some(Kinds::Below(f32::from(*n))),
            Cells::Values(categories) => grid.categories = Some(Kinds::These(categories.clone())),
        }
        for cell in 0..grid.cells {
            if let Some((from, width)) = cells.span(cell) {
                grid.from[cell] = from;
                grid.scale[cell] =
                    (if cell == 0 { -POSITIONS / width } else { POSITIONS / width }).clamp(f32::MIN, f32::MAX);
            }
        }
        grid
    }

    /// Lays the parts over the edges. The first and the last part have no end and hold the outermost edges, which the tails of a
    /// feature put far from the others.
    fn cut(&mut self, edges: &[f32]) {
        self.edges.iter_mut().zip(edges).for_each(|(to, &edge)| *to = edge);
        let tails = usize::from(edges.len() > 3);
        let [low, .., high] = edges[tails..edges.len() - tails] else { return };
        let width = (high / (PARTS - 3) as f32 - low / (PARTS - 3) as f32).max(f32::MIN_POSITIVE);
        (self.start, self.density) = (low, 1.0 / width);
        let mut inside = [0; PARTS];
        edges.iter().for_each(|&edge| inside[usize::from(self.part(edge))] += 1);
        let mut below = 0;
        for (first, inside) in self.first.iter_mut().zip(inside) {
            *first = below;
            below += inside;
            while inside >= 2 * self.step {
                self.step *= 2;
            }
        }
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.cells
    }

    /// Never: there is always at least one cell.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether the values are numbers rather than categories.
    pub fn is_numeric(&self) -> bool {
        self.categories.is_none()
    }

    /// The cell of a finite value.
    #[inline]
    pub fn cell(&self, value: f32) -> usize {
        match &self.categories {
            None => self.cell_within(self.part(value), value),
            Some(Kinds::Below(n)) if value >= 0.0 && value < *n && value as u8 as f32 == value => {
                usize::from(value as u8)
            }
            Some(Kinds::Below(n)) => *n as usize,
            Some(Kinds::These(categories)) => categories.cell(value),
        }
    }

    /// The part that a finite number lies in; of a larger number never an earlier one, however this is rounded.
    #[inline]
    pub(super) fn part(&self, value: f32) -> u8 {
        let part = (value - self.start) * self.density + 1.0;
        let part = if part > 0.0 { part } else { 0.0 };
        rounded(if part < (PARTS - 1) as f32 { part } else { (PARTS - 1) as f32 }) as u8
    }

    /// The cell of a finite number in this part.
    #[inline]
    pub(super) fn cell_within(&self, part: u8, value: f32) -> usize {
        let mut cell = usize::from(self.first[usize::from(part)]);
        // Edges of earlier parts lie below the value and those of later ones do not: what is left is a binary search among few.
        let mut step = usize::from(self.step);
        while step > 1 {
            cell += if self.edges[(cell + step - 1) % EDGE_PLACES] < value { step } else { 0 };
            step /= 2;
        }
        cell + usize::from(self.edges[cell % EDGE_PLACES] < value)
    }

    /// Where in its cell a value lies, in 1/256 of the cell's width; in the outer cells how far beyond the edge, in 1/256 of the
    /// range between the outermost edges. Categories have no inside.
    #[inline]
    pub(super) fn position(&self, cell: usize, value: f32) -> u32 {
        let parts = (value - self.from[cell % PLACES]) * self.scale[cell % PLACES];
        rounded(if parts < POSITION_MAX { parts } else { POSITION_MAX })
    }
}

/// The integer nearest to a number of 0 to below 2^23.
#[inline]
fn rounded(number: f32) -> u32 {
    // Adding 2^23 leaves it in the low bits of what is below it.
    (number + TWO_TO_23).to_bits() & (TWO_TO_23_BITS - 1)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn grid(edges: &[f32]) -> Grid {
        Grid::new(&Cells::Edges(edges.iter().copied().collect()))
    }

    #[test]
    fn a_value_on_an_edge_belongs_below_it() {
        let grid = grid(&[1.0, 2.0]);
        let found: Vec<usize> = [0.0, 1.0, 1.5, 2.0, 3.0].iter().map(|&v| grid.cell(v)).collect();
        assert_eq!(found, [0, 0, 1, 1, 2]);
    }

    #[test]
    fn categories_outside_fall_in_the_last_cell() {
        let grid = Grid::new(&Cells::Categories(3));
        let found: Vec<usize> = [0.0, 2.0, 3.0, -1.0, 0.5, 1e30].iter().map(|&v| grid.cell(v)).collect();
        assert_eq!(found, [0, 2, 3, 3, 3, 3]);
        assert_eq!(grid.position(3, 1e30), 0);
    }

    #[test]
    fn a_rare_category_is_not_one_that_was_never_seen() {
        let own = [10.0, -3.0, 0.5].into_iter().collect();
        let cells = Cells::Values(Categories { own, others: [7.0, 99.0].into_iter().collect() });
        let grid = Grid::new(&cells);
        assert_eq!((cells.len(), grid.len(), grid.is_numeric()), (5, 5, false));
        let found: Vec<usize> = [10.0, -3.0, 0.5, 7.0, 99.0, 8.0, f32::MAX].iter().map(|&v| grid.cell(v)).collect();
        assert_eq!(found, [0, 1, 2, 3, 3, 4, 4]);
        assert_eq!(cells.category(1), Some(Category::One(-3.0)));
        assert_eq!((cells.category(3), cells.category(4)), (Some(Category::Others), Some(Category::NeverSeen)));
        assert_eq!(Cells::Categories(2).category(2), Some(Category::NeverSeen));
    }

    #[test]
    fn any_edges_give_a_place_to_any_value() {
        for edges in [&[][..], &[0.0], &[f32::MIN, f32::MAX], &[1.0, 1.0 + f32::EPSILON], &[-1e-40, 1e-40]] {
            let grid = grid(edges);
            for value in [0.0, f32::MIN, f32::MAX, 1.0, -1e-42, f32::MIN_POSITIVE] {
                let cell = grid.cell(value);
                assert!(cell < grid.len());
                assert!(grid.position(cell, value) <= POSITION_MAX as u32);
            }
        }
    }

    proptest! {
        #[test]
        fn the_cell_is_the_one_a_search_finds(mut edges in prop::collection::vec(number(), 0..EDGES_MAX), values in prop::collection::vec(number(), 1..50)) {
            edges.sort_by(f32::total_cmp);
            let grid = grid(&edges);
            for value in values.iter().chain(&edges).flat_map(|v| [v.next_down(), *v, v.next_up()]).filter(|v| v.is_finite()) {
                prop_assert_eq!(grid.cell(value), edges.partition_point(|&edge| edge < value), "{} among {:?}", value, edges);
            }
        }
    }

    /// Near each other and as far apart as numbers are.
    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![4 => -9.0f32..9.0, 1 => prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO]
    }
}
