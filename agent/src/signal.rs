//! Readings become stretches of a signal: the newest `length` of them, every `hop` readings.
//!
//! A stretch has no holes: after a row that could not be read a new one begins.

use crate::source::{Chunk, Known};
use driftline_shared::manifest::Sampled;
use std::collections::VecDeque;

/// Collects readings until there are enough for a sample.
#[derive(Debug)]
pub struct Stretch {
    channels: usize,
    length: usize,
    hop: usize,
    planar: bool,
    /// The newest readings, one row after the other.
    readings: VecDeque<f32>,
    /// Rows until the next sample.
    missing: usize,
}

impl Stretch {
    /// None for what is no signal.
    pub fn new(sampled: &Sampled) -> Option<Self> {
        let Sampled::Signal { channels, length, hop, planar } = sampled else { return None };
        let (length, hop) = ((*length as usize).max(1), (*hop as usize).max(1));
        let channels = channels.len();
        Some(Self { channels, length, hop, planar: *planar, readings: VecDeque::new(), missing: length })
    }

    /// Numbers in a row of readings.
    pub fn channels(&self) -> usize {
        self.channels.max(1)
    }

    /// Begins anew: something is missing between what was and what comes.
    pub fn cut(&mut self) {
        self.readings.clear();
        self.missing = self.length;
    }

    /// Takes one row of readings; a sample that it completes goes to `out`, with what is known of the row.
    pub fn push(&mut self, row: &[f32], known: Known, out: &mut Chunk) {
        if self.readings.len() >= self.length * self.channels {
            self.readings.drain(..self.channels);
        }
        self.readings.extend(row.iter().take(self.channels));
        self.missing = self.missing.saturating_sub(1);
        if self.missing > 0 {
            return;
        }
        self.missing = self.hop;
        if self.planar {
            for channel in 0..self.channels {
                out.values.extend(self.readings.iter().skip(channel).step_by(self.channels));
            }
        } else {
            out.values.extend(self.readings.iter());
        }
        out.rows.push(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::list::Text;

    fn stretches(length: u32, hop: u32, planar: bool, rows: impl Iterator<Item = Option<f32>>) -> Vec<Vec<f32>> {
        let channels = ["x", "y"].iter().map(|c| Text::cut(c)).collect();
        let mut stretch = Stretch::new(&Sampled::Signal { channels, length, hop, planar }).unwrap();
        let mut chunk = Chunk::default();
        for row in rows {
            match row {
                Some(x) => stretch.push(&[x, -x], Known::default(), &mut chunk),
                None => stretch.cut(),
            }
        }
        assert_eq!(chunk.values.len(), chunk.rows.len() * length as usize * 2);
        chunk.values.chunks(length as usize * 2).map(<[f32]>::to_vec).collect()
    }

    fn count(to: u8) -> impl Iterator<Item = Option<f32>> {
        (1..=to).map(|n| Some(f32::from(n)))
    }

    #[test]
    fn stretches_overlap_by_what_the_hop_leaves() {
        let found = stretches(3, 2, true, count(7));
        assert_eq!(
            found,
            [
                vec![1.0, 2.0, 3.0, -1.0, -2.0, -3.0],
                vec![3.0, 4.0, 5.0, -3.0, -4.0, -5.0],
                vec![5.0, 6.0, 7.0, -5.0, -6.0, -7.0]
            ]
        );
        assert_eq!(stretches(2, 3, false, count(6)), [vec![1.0, -1.0, 2.0, -2.0], vec![4.0, -4.0, 5.0, -5.0]]);
    }

    #[test]
    fn a_stretch_has_no_holes() {
        let rows = [Some(1.0), Some(2.0), None, Some(4.0), Some(5.0), Some(6.0)];
        assert_eq!(stretches(3, 1, false, rows.into_iter()), [vec![4.0, -4.0, 5.0, -5.0, 6.0, -6.0]]);
    }
}
