//! What is known of a running agent from outside, and what it says when it has ended.

use crate::agent::MessagesRefused;
use driftline_shared::units::{Name, ReleaseId};
use driftline_shared::wire::messages::Ledger;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// What others see and touch while an agent runs.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Switches the pump simulator's sensor fault on.
    pub fault: Arc<AtomicBool>,
    /// Numbers that are kept up to date.
    pub counters: Arc<Counters>,
}

/// Numbers of a running agent.
#[derive(Debug, Default)]
pub struct Counters {
    /// Samples taken.
    pub samples: AtomicU64,
    /// Windows closed.
    pub windows_closed: AtomicU64,
    /// Windows acknowledged.
    pub windows_acknowledged: AtomicU64,
    /// The release that answers, as [`ReleaseId`]; 0 for none.
    pub release: AtomicU64,
    /// Whether the link is up.
    pub up: AtomicBool,
    /// Grows while the thread lives.
    pub heartbeat: AtomicU64,
}

/// How an agent ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its account.
    pub ledger: Ledger,
    /// Messages from outside that were no use.
    pub messages_refused: MessagesRefused,
    /// Model and release that answered last.
    pub release: Option<(Name, Name, ReleaseId)>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let l = &self.ledger;
        write!(
            f,
            "{} samples taken: {} in windows, {} refused; {} windows closed: {} acknowledged, {} evicted, {} not delivered",
            l.samples_taken,
            l.samples_in_windows,
            l.samples_refused,
            l.windows_closed,
            l.windows_acknowledged,
            l.windows_evicted,
            l.windows_waiting
        )
    }
}
