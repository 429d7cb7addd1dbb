//! What the collector counts of itself.

use crate::ingest::Refusal;
use driftline_shared::units::WallMs;
use driftline_shared::window::{Refused, Window};
use driftline_shared::wire::messages::{self, GapReason};
use std::collections::BTreeMap;

/// Numbers of the collector itself. `frames_received = accepted + duplicate + refused`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Numbered frames that arrived.
    pub frames_received: u64,
    /// Stored for the first time.
    pub frames_accepted: u64,
    /// Stored before.
    pub frames_duplicate: u64,
    /// Refused, each reason below.
    pub frames_refused: u64,
    /// Windows merged.
    pub windows: u64,
    /// Samples in them.
    pub samples: u64,
    /// Samples that devices refused: malformed, late, and those to which the model gave no answer.
    pub samples_refused: [u64; 3],
    /// Numbers devices declared lost: evicted for want of room, or damaged on their disk.
    pub frames_lost: u64,
    /// Those among them that were damaged.
    pub frames_corrupt: u64,
    /// Numbers whose windows devices without room merged into wider ones.
    pub frames_merged: u64,
    /// Everything refused, by reason: frames, windows and other messages.
    pub refused: BTreeMap<Refusal, u64>,
    /// What became of truths that devices were told.
    pub truth: messages::Truth,
    /// When a window last arrived.
    pub last_window: Option<WallMs>,
}

impl Counters {
    /// A window is merged.
    pub(super) fn window(&mut self, window: &Window) {
        self.windows += 1;
        self.samples += u64::from(window.samples);
        let Refused { malformed, late, inference } = window.refused;
        self.samples_refused.iter_mut().zip([malformed, late, inference]).for_each(|(sum, n)| *sum += u64::from(n));
    }

    /// A device has settled `numbers` that never come.
    pub(super) fn gap(&mut self, reason: GapReason, numbers: u64) {
        match reason {
            GapReason::Evicted => self.frames_lost += numbers,
            GapReason::Corrupt => {
                self.frames_lost += numbers;
                self.frames_corrupt += numbers;
            }
            GapReason::Settled => {}
        }
    }
}
