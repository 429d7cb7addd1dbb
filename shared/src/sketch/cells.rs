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
        match cell {
            0 => Some((first, range)),
            k if k == edges.len() => Some((last, range)),
            k => Some((edges[k - 1], edges[k] - edges[k - 1])),
        }
    }
}

/// Room for [`CELLS_MAX`] cells; a power of two, so that no index needs a check.
const PLACES: usize = CELLS_MAX.next_power_of_two();
const TWO_TO_23: f32 = 8_388_608.0;
const TWO_TO_23_BITS: u32 = 1 << 23;

#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "without an allocator there is no box; a grid is there once per feature")]
enum Kinds {
    /// Whole numbers below this.
    Below(f32),
    These(Categories),
}

/// Cells laid out so that a value finds its place by comparisons that a compiler makes vectors of, without a search, a
/// division or a branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    cells: usize,
    /// Instead of edges.
    categories: Option<Kinds>,
    /// Filled up with +inf, which no finite value is above.
    edges: [f32; PLACES],
    /// Per cell, where positions are counted from.
    from: [f32; PLACES],
    /// Per cell, parts per unit; downwards in the bottom cell.
    parts: [f32; PLACES],
}

impl Grid {
    /// The layout of `cells`.
    pub fn new(cells: &Cells) -> Self {
        let mut grid = Self {
            cells: cells.len().min(CELLS_MAX),
            categories: None,
            edges: [f32::INFINITY; PLACES],
            from: [0.0; PLACES],
            parts: [0.0; PLACES],
        };
        match cells {
            Cells::Edges(edges) => grid.edges.iter_mut().zip(edges.iter()).for_each(|(to, &edge)| *to = edge),
            Cells::Categories(n) => grid.categories = Some(Kinds::Below(f32::from(*n))),
            Cells::Values(categories) => grid.categories = Some(Kinds::These(categories.clone())),
        }
        for cell in 0..grid.cells {
            if let Some((from, width)) = cells.span(cell) {
                grid.from[cell] = from;
                grid.parts[cell] = if cell == 0 { -POSITIONS / width } else { POSITIONS / width };
            }
        }
        grid
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
            None => {
                // Ascending edges: those below the value come first, and a compiler makes the mask of vectors.
                let mut below = 0u32;
                for (i, &edge) in self.edges[..CELLS_MAX].iter().enumerate() {
                    below |= u32::from(edge < value) << i;
                }
                below.trailing_ones() as usize
            }
            Some(Kinds::Below(n)) if value >= 0.0 && value < *n && value as u8 as f32 == value => {
                usize::from(value as u8)
            }
            Some(Kinds::Below(n)) => *n as usize,
            Some(Kinds::These(categories)) => categories.cell(value),
        }
    }

    /// The cells of finite numbers: first among every fourth edge, then among the three that follow there.
    #[inline]
    pub(super) fn cells<const N: usize>(&self, values: &[f32; N]) -> [u32; N] {
        let mut cells = [0u32; N];
        for pivot in [self.edges[3], self.edges[7], self.edges[11], self.edges[15], self.edges[19]] {
            cells.iter_mut().zip(values).for_each(|(cell, value)| *cell += 4 * u32::from(pivot < *value));
        }
        let first = cells;
        for next in 0..3 {
            let edges = first.map(|cell| self.edges[(cell as usize + next) % PLACES]);
            cells.iter_mut().zip(edges).zip(values).for_each(|((cell, edge), value)| *cell += u32::from(edge < *value));
        }
        cells
    }

    /// Where in its cell a value lies, in 1/256 of the cell's width; in the outer cells how far beyond the edge, in 1/256 of the
    /// range between the outermost edges. Categories have no inside.
    #[inline]
    pub(super) fn position(&self, cell: usize, value: f32) -> u32 {
        whole((value - self.from[cell % PLACES]) * self.parts[cell % PLACES])
    }
}

/// The nearest integer of 0 to [`POSITION_MAX`].
#[inline]
fn whole(parts: f32) -> u32 {
    let parts = if parts > 0.0 { parts } else { 0.0 };
    let parts = if parts < POSITION_MAX { parts } else { POSITION_MAX };
    // Adding 2^23 leaves the nearest integer in the low bits of what is below it.
    (parts + TWO_TO_23).to_bits() & (TWO_TO_23_BITS - 1)
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
        fn the_cell_is_the_one_a_search_finds(mut edges in prop::collection::vec(-9.0f32..9.0, 1..EDGES_MAX), value in -10.0f32..10.0) {
            edges.sort_by(f32::total_cmp);
            prop_assert_eq!(grid(&edges).cell(value), edges.partition_point(|&edge| edge < value));
        }
    }
}
