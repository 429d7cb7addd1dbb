//! What is known of a running agent from outside, and what it says when it has ended.

use super::status::Evidence;
use super::trial::Trial;
use crate::agent::MessagesRefused;
use driftline_shared::units::{Name, ReleaseId};
use driftline_shared::wire::messages::Ledger;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What others see and touch while an agent runs.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Switches the pump simulator's sensor fault on.
    pub fault: Arc<AtomicBool>,
    /// How new releases are tried before they are loaded.
    pub trial: Trial,
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
    /// How long the model takes.
    pub latency: Latency,
    /// Grows while the task of the link lives.
    pub link_beat: AtomicU64,
    snapshot: Mutex<Snapshot>,
    /// Answers outside the known range, flagged or held.
    pub guarded: AtomicU64,
    /// Samples of requests that had waited too long, or came before there was a model.
    pub late: AtomicU64,
    /// What went wrong around the agent.
    pub troubles: Troubles,
}

/// What goes wrong around an agent, and stops nothing else in it.
#[derive(Debug, Clone, Copy)]
pub enum Trouble {
    /// A request that is none of the protocol, or does not fit the model.
    RequestMalformed,
    /// A request without the token.
    RequestDenied,
    /// A request for another model or version.
    RequestUnknown,
    /// A request that has to come again: no room, no model yet, another one by now, or too late for an answer.
    RequestBusy,
    /// A program that prints samples ended, flooded or could not be started.
    ProgramFailed,
    /// A reading of a sensor that was not there.
    ReadingMissing,
    /// The broker of the samples was lost, or refuses.
    SourceLost,
    /// A message of samples that was larger than is taken.
    MessageTooLarge,
    /// A connection to the collector that failed or was lost.
    LinkLost,
    /// A segment of the spool whose end was cut off.
    SpoolTorn,
    /// A record of the spool that was damaged.
    SpoolCorrupt,
    /// Files in the spool that are not its own, of a later version, or cannot be read.
    SpoolForeign,
    /// A write to the spool that the disk refused.
    SpoolRefused,
    /// A slot file that is damaged, or of a later version.
    StateUnread,
}

const TROUBLES: usize = Trouble::StateUnread as usize + 1;
const TROUBLE_WORDS: [&str; TROUBLES] = [
    "requests malformed",
    "requests denied",
    "requests for another model",
    "requests while busy",
    "program failures",
    "readings missing",
    "source connections lost",
    "messages too large",
    "connections lost",
    "segments cut off",
    "records damaged",
    "foreign files",
    "writes refused",
    "state files not understood",
];

/// How often each [`Trouble`] came.
#[derive(Debug, Default)]
pub struct Troubles([AtomicU64; TROUBLES]);

impl Troubles {
    /// Counts one.
    pub fn add(&self, trouble: Trouble) {
        self.add_many(trouble, 1);
    }

    /// Counts several.
    pub fn add_many(&self, trouble: Trouble, many: u64) {
        self.0[trouble as usize].fetch_add(many, Ordering::Relaxed);
    }

    /// Those that came, by name.
    pub fn counted(&self) -> BTreeMap<String, u64> {
        let counts = TROUBLE_WORDS.iter().zip(&self.0).map(|(words, count)| (words, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).map(|(words, count)| (words.replace(' ', "_"), count)).collect()
    }
}

/// What a status tells beside single numbers.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The account.
    pub ledger: Ledger,
    /// Messages from outside that were no use.
    pub messages_refused: MessagesRefused,
    /// Model and release that answer.
    pub release: Option<(Name, Name, ReleaseId)>,
    /// When the connection came or went.
    pub link_changed: Option<Instant>,
    /// Connections since the start.
    pub connections: u64,
    /// When the last sample came.
    pub last_sample: Option<Instant>,
    /// Raw samples kept, and given out.
    pub evidence: Evidence,
    /// Windows on their way that were closed before the clock had been compared.
    pub windows_undated: u64,
    /// By how many milliseconds the clock is behind the collector's, once that has spoken.
    pub clock_behind_ms: Option<i64>,
}

impl Counters {
    /// The latest.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().map(|s| s.clone()).unwrap_or_default()
    }

    /// Changes it; the lock is held for a copy at most.
    pub fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        if let Ok(mut snapshot) = self.snapshot.lock() {
            change(&mut snapshot);
        }
    }
}

/// Samples by how long the model took: below 1 µs, 2 µs, 4 µs and so on; the last holds all that took longer.
#[derive(Debug, Default)]
pub struct Latency([AtomicU64; LATENCY_CELLS]);

/// The last cell begins at about 2 s.
const LATENCY_CELLS: usize = 22;

impl Latency {
    /// Counts one sample.
    pub fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let cell = (u64::BITS - micros.leading_zeros()) as usize;
        self.0[cell.min(LATENCY_CELLS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time in microseconds within which this share of the samples was answered, rounded up to a power of two; `None` without samples.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let counts: Vec<u64> = self.0.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let mut seen = 0;
        let cell = counts.iter().position(|count| {
            seen += count;
            total > 0 && seen as f64 >= share * total as f64
        });
        cell.map(|cell| 1 << cell)
    }
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
            "{} samples taken: {} in windows, {} refused; {} windows closed: {} acknowledged, {} merged into wider ones, {} evicted, {} not delivered",
            l.samples_taken,
            l.samples_in_windows,
            l.samples_refused,
            l.windows_closed,
            l.windows_acknowledged,
            l.windows_merged,
            l.windows_evicted,
            l.windows_waiting
        )
    }
}
