//! One tumbling window of event time on one device: a sketch per watched feature, and how many samples were not taken.
//!
//! Features are numbered as in the baseline of the release that was running; inputs first, then what is watched of the
//! outputs. When the release changes, the window ends.

use crate::embedding::Embedding;
use crate::performance::Performance;
use crate::sketch::{CellsDiffer, Grid, Sketch};
use crate::units::{ReleaseId, WallMs};

/// Most features, inputs and outputs together, of one model.
pub const FEATURES_MAX: usize = 256;

/// Most window lengths that one window may span: a device without room for its backlog makes wider windows of it.
pub const COARSE_SLOTS_MAX: u32 = 64;

/// Most samples of a [`Block`]: with the most features 64 KiB.
pub const BLOCK_ROWS: usize = 64;

/// Samples that did not reach the sketches, by reason. They travel with the window, so that loss is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct Refused {
    /// Wrong number of columns, text where a number belongs, or unreadable.
    pub malformed: u32,
    /// The event time lies before the open window.
    pub late: u32,
    /// The model gave an error.
    pub inference: u32,
}

impl Refused {
    /// All of them.
    pub fn total(&self) -> u64 {
        u64::from(self.malformed) + u64::from(self.late) + u64::from(self.inference)
    }

    fn merge(&mut self, other: &Self) {
        self.malformed = self.malformed.saturating_add(other.malformed);
        self.late = self.late.saturating_add(other.late);
        self.inference = self.inference.saturating_add(other.inference);
    }
}

/// Samples on their way into a window: counted together, they are counted faster.
#[derive(Debug, Clone)]
pub struct Block<const F: usize = FEATURES_MAX> {
    columns: heapless::Vec<[f32; BLOCK_ROWS], F>,
    rows: usize,
}

impl<const F: usize> Block<F> {
    /// An empty one for so many features (at most `F`).
    pub fn new(features: usize) -> Self {
        Self { columns: core::iter::repeat_n([f32::NAN; BLOCK_ROWS], features.min(F)).collect(), rows: 0 }
    }

    /// Samples in it.
    pub fn rows(&self) -> u32 {
        self.rows as u32
    }

    /// Whether it has room for no more.
    pub fn is_full(&self) -> bool {
        self.rows >= BLOCK_ROWS
    }

    /// Takes a sample: a value for each feature. A full block takes none.
    #[inline]
    pub fn add(&mut self, values: impl Iterator<Item = f32>) {
        let row = self.rows;
        let mut columns = self.columns.iter_mut();
        // The values lead: an iterator made of several is fast only so.
        values.for_each(|value| {
            if let Some(place) = columns.next().and_then(|column| column.get_mut(row)) {
                *place = value;
            }
        });
        columns.filter_map(|column| column.get_mut(row)).for_each(|place| *place = f32::NAN);
        self.rows = (row + 1).min(BLOCK_ROWS);
    }
}

/// A window with room for `F` features.
#[derive(Debug, Clone, PartialEq)]
pub struct Window<const F: usize = FEATURES_MAX> {
    /// Which model, baseline and schema it was counted under.
    pub release: ReleaseId,
    /// First millisecond of the span.
    pub start: WallMs,
    /// Length of the span.
    pub span_ms: u32,
    /// Samples in the sketches.
    pub samples: u32,
    /// Samples that are not.
    pub refused: Refused,
    /// Samples whose true label was known on the device.
    pub labelled: u32,
    /// Those among them that the model got right.
    pub correct: u32,
    /// What the scores say, and where truth is known how the model erred; `None` for models that give no classes.
    pub performance: Option<Performance>,
    /// How the inputs of several windows lay together, once in so many windows ([`crate::embedding::WINDOWS`]).
    pub embedding: Option<Embedding>,
    /// One sketch per feature, in the baseline's order.
    pub sketches: heapless::Vec<Sketch, F>,
}

impl<const F: usize> Window<F> {
    /// An empty window for features with these grids (the first `F` of them).
    pub fn new<'a>(release: ReleaseId, start: WallMs, span_ms: u32, grids: impl Iterator<Item = &'a Grid>) -> Self {
        let sketches = grids.take(F).map(|c| Sketch::new(c.len())).collect();
        Self {
            release,
            start,
            span_ms,
            samples: 0,
            refused: Refused::default(),
            labelled: 0,
            correct: 0,
            performance: None,
            embedding: None,
            sketches,
        }
    }

    /// Counts one sample: `values` in the order of `grids`. Allocates nothing.
    #[inline]
    pub fn add<'a>(&mut self, grids: impl Iterator<Item = &'a Grid>, values: impl Iterator<Item = f32>) {
        for ((sketch, grid), value) in self.sketches.iter_mut().zip(grids).zip(values) {
            sketch.add(grid, value);
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// Counts the samples of a block, and empties it. Allocates nothing.
    pub fn count<'a>(&mut self, grids: impl Iterator<Item = &'a Grid>, block: &mut Block<F>) {
        for ((sketch, grid), column) in self.sketches.iter_mut().zip(grids).zip(&block.columns) {
            sketch.add_all(grid, &column[..block.rows]);
        }
        self.samples = self.samples.saturating_add(block.rows as u32);
        block.rows = 0;
    }

    /// Adds a window of the same release; the span grows to cover both.
    pub fn merge(&mut self, other: &Self) -> Result<(), CellsDiffer> {
        let same_cells = self.sketches.len() == other.sketches.len()
            && self.sketches.iter().zip(&other.sketches).all(|(a, b)| a.counts().len() == b.counts().len());
        let same_counts = match (&self.performance, &other.performance) {
            (Some(mine), Some(theirs)) => mine.fits(theirs),
            _ => true,
        };
        if self.release != other.release || !same_cells || !same_counts {
            return Err(CellsDiffer);
        }
        for (mine, theirs) in self.sketches.iter_mut().zip(&other.sketches) {
            mine.merge(theirs)?;
        }
        let end = (self.start.0 + u64::from(self.span_ms)).max(other.start.0 + u64::from(other.span_ms));
        self.start = self.start.min(other.start);
        self.span_ms = u32::try_from(end - self.start.0).unwrap_or(u32::MAX);
        self.samples = self.samples.saturating_add(other.samples);
        self.refused.merge(&other.refused);
        self.labelled = self.labelled.saturating_add(other.labelled);
        self.correct = self.correct.saturating_add(other.correct);
        match (&mut self.performance, &other.performance) {
            (Some(mine), Some(theirs)) => mine.merge(theirs)?,
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
        if let Some(theirs) = &other.embedding {
            self.embedding.get_or_insert_default().merge(theirs);
        }
        Ok(())
    }

    /// Whether it carries nothing but late truth for samples that another window sketched.
    pub fn is_labels_only(&self) -> bool {
        self.samples == 0 && self.refused.total() == 0 && self.labelled > 0
    }

    /// Whether it carries nothing but an embedding of samples that other windows sketched.
    pub fn is_embedding_only(&self) -> bool {
        self.samples == 0 && self.refused.total() == 0 && self.labelled == 0 && self.embedding.is_some()
    }

    /// Empties the window for the span that begins at `start`, keeping cells and release.
    pub fn restart(&mut self, start: WallMs) {
        self.start = start;
        self.samples = 0;
        self.refused = Refused::default();
        self.labelled = 0;
        self.correct = 0;
        self.performance.iter_mut().for_each(Performance::clear);
        self.embedding.iter_mut().for_each(Embedding::clear);
        self.sketches.iter_mut().for_each(Sketch::clear);
    }
}

/// The start of the tumbling window of `span_ms` that holds `at`.
pub fn slot_start(at: WallMs, span_ms: u32) -> WallMs {
    WallMs(at.0 - at.0 % u64::from(span_ms.max(1)))
}
