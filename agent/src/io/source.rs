//! Opens sources and plays them at their pace into chunks of samples.
//!
//! Files, pipes and sensors are read by a thread of their own, which may block; the pump simulator, requests and messages are tasks.
//! Chunks travel round a ring of fixed size: when the inference thread falls behind, the source waits, and memory does not grow. What cannot
//! wait, requests and messages, is refused instead.

use super::command::{Command, Leash};
use super::images::Images;
use super::report::Counters;
use super::sensors::Sensors;
use super::serving::{self, Asked};
use super::topic;
use crate::config::{Format, Order, Replay, SourceConfig, SourceKind};
use crate::pumps::Pump;
use crate::serving::Served;
use crate::source::{Chunk, Columns, Known, Row, RowError, Rows, SourceError, Wanted};
use driftline_shared::manifest::Sampled;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Chunks on their way round.
const CHUNKS: usize = 3;
/// Most samples of a chunk.
const CHUNK_ROWS_MAX: usize = 256;
/// How long a paced source collects samples before it hands them over.
const CHUNK_MS: f64 = 50.0;
/// Most values that are shuffled in memory (256 MiB).
pub const SHUFFLE_VALUES_MAX: usize = 64 << 20;
/// Malformed rows that are written to the log with their line, per source; all are counted.
const MALFORMED_LOGGED_MAX: u64 = 10;
/// A source that fell behind by more than this does not catch up: it was suspended.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// What a source gives.
#[derive(Debug)]
pub enum Fed {
    /// Samples.
    Chunk(Chunk),
    /// Samples of an application that waits for the answer.
    Asked(Asked),
    /// There are no more, or an error.
    End(Result<(), SourceError>),
}

/// The reader's end of a source.
#[derive(Debug)]
pub struct Feed {
    full: mpsc::Receiver<Fed>,
    empty: mpsc::Sender<Chunk>,
    /// A program that prints the samples, if that is the source.
    leash: Leash,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.leash.cut();
    }
}

impl Feed {
    /// The next samples; `None` when the source is gone.
    pub async fn next(&mut self) -> Option<Fed> {
        self.full.recv().await
    }

    /// Gives a chunk back to be filled again.
    pub fn give_back(&self, mut chunk: Chunk) {
        chunk.clear();
        // There is room for every chunk; a source that has ended needs none.
        let _ = self.empty.try_send(chunk);
    }
}

struct Ring {
    full: mpsc::Sender<Fed>,
    empty: mpsc::Receiver<Chunk>,
}

/// What a source needs of the agent beside its configuration.
#[derive(Debug)]
pub struct Around {
    /// Switches the pump's sensor fault on.
    pub fault: Arc<AtomicBool>,
    /// What applications can ask.
    pub served: watch::Receiver<Option<Arc<Served>>>,
    /// Where trouble is counted.
    pub counters: Arc<Counters>,
}

/// Starts a source; its tasks run on `runtime`.
pub fn start(
    config: &SourceConfig,
    wanted: Wanted,
    around: Around,
    runtime: &tokio::runtime::Handle,
) -> std::io::Result<Feed> {
    let waiting = match config.kind {
        SourceKind::Http { .. } => serving::REQUESTS_MAX,
        SourceKind::Mqtt { .. } => topic::waiting(&wanted),
        _ => CHUNKS + 1,
    };
    let (full_tx, full) = mpsc::channel(waiting);
    let (empty, empty_rx) = mpsc::channel(CHUNKS);
    for _ in 0..CHUNKS {
        let _ = empty.try_send(Chunk::default());
    }
    let ring = Ring { full: full_tx, empty: empty_rx };
    let ends = |full: mpsc::Sender<Fed>, end| async move {
        let _ = full.send(Fed::End(end)).await;
    };
    let full_too = ring.full.clone();
    let leash = Leash::default();
    match config.kind.clone() {
        SourceKind::Pumps { seed, fault_after_ms } => {
            let rate = config.rate_hz.unwrap_or(1.0);
            runtime.spawn(async move {
                ends(full_too, pumps(ring, wanted, seed, rate, fault_after_ms, around.fault).await).await;
            });
        }
        SourceKind::Http { listen, deadline_ms, token_file } => {
            runtime.spawn(async move {
                let deadline = Duration::from_millis(deadline_ms);
                let served = match token_file.as_deref().map(token).transpose() {
                    Ok(token) => serving::serve(&listen, deadline, token, around, ring.full).await,
                    Err(error) => Err(error),
                };
                ends(full_too, served).await;
            });
        }
        SourceKind::Mqtt { topic, broker } => {
            runtime.spawn(async move {
                topic::listen(&topic, &broker, &wanted, &ring.full, &around.counters.troubles).await;
            });
        }
        _ => {
            let config = config.clone();
            let leash = leash.clone();
            std::thread::Builder::new().name("driftline-source".into()).spawn(move || {
                let end = read(ring, &config, wanted, leash, around.counters);
                let _ = full_too.blocking_send(Fed::End(end));
            })?;
        }
    }
    Ok(Feed { full, empty, leash })
}

/// The first line of a token file.
fn token(path: &Path) -> Result<String, SourceError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SourceError::Token { path: path.display().to_string(), source })?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// When each sample is due.
struct Pace {
    start: Instant,
    every: Option<Duration>,
    samples: u32,
}

impl Pace {
    fn new(rate_hz: Option<f64>) -> Self {
        Self { start: Instant::now(), every: rate_hz.map(|r| Duration::from_secs_f64(1.0 / r)), samples: 0 }
    }

    /// How many samples share a chunk; `trickle` sources hand over each at once.
    fn chunk_rows(&self, trickle: bool) -> usize {
        match self.every {
            Some(every) => ((CHUNK_MS / 1e3 / every.as_secs_f64()) as usize).clamp(1, CHUNK_ROWS_MAX),
            None if trickle => 1,
            None => CHUNK_ROWS_MAX,
        }
    }

    /// When the next `samples` are due; counts them.
    fn due(&mut self, samples: usize) -> Option<Instant> {
        let every = self.every?;
        let now = Instant::now();
        if self.samples > 1 << 20 || now > self.start + every * self.samples + BEHIND_MAX.max(every) {
            let behind = now > self.start + every * self.samples + BEHIND_MAX.max(every);
            self.start = if behind { now } else { self.start + every * self.samples };
            self.samples = 0;
        }
        self.samples += samples as u32;
        Some(self.start + every * self.samples)
    }
}

async fn pumps(
    mut ring: Ring,
    wanted: Wanted,
    seed: u64,
    rate_hz: f64,
    fault_after_ms: Option<u64>,
    fault: Arc<AtomicBool>,
) -> Result<(), SourceError> {
    let header: Vec<String> = crate::pumps::COLUMNS.iter().map(ToString::to_string).collect();
    let columns = Columns::find(&header, &wanted, "the pump simulator")?;
    let classes: Vec<Option<u16>> = crate::pumps::CLASSES.iter().map(|class| wanted.class(class)).collect();
    let mut pump = Pump::new(seed);
    let mut pace = Pace::new(Some(rate_hz));
    let rows = pace.chunk_rows(false);
    let began = Instant::now();
    while let Some(mut chunk) = ring.empty.recv().await {
        if let Some(due) = pace.due(rows) {
            tokio::time::sleep_until(due.into()).await;
        }
        let late = fault_after_ms.is_some_and(|ms| began.elapsed() >= Duration::from_millis(ms));
        let faulty = late || fault.load(Ordering::Relaxed);
        for _ in 0..rows {
            let reading = pump.next(faulty);
            columns.pick(&reading.values, &mut chunk.values);
            let label = classes.get(reading.class).copied().flatten();
            chunk.rows.push(Known { label, ..Known::default() });
        }
        if ring.full.send(Fed::Chunk(chunk)).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn read(
    mut ring: Ring,
    config: &SourceConfig,
    mut wanted: Wanted,
    leash: Leash,
    counters: Arc<Counters>,
) -> Result<(), SourceError> {
    let mut pace = Pace::new(config.rate_hz);
    let mut replay = None;
    let trickle = matches!(config.kind, SourceKind::Stdin { .. } | SourceKind::Command { .. });
    let mut player: Box<dyn Player> = match &config.kind {
        SourceKind::File { path, format, order: Order::Shuffled(seed), .. } => {
            Box::new(Shuffled::load(path, *format, wanted, *seed, config.repeat)?)
        }
        SourceKind::File { path, format, order: Order::File, replay: at } => {
            wanted.time = at.as_ref().map(|replay| replay.time.clone());
            replay = at.as_ref().map(Replayed::new);
            Box::new(InOrder::open(path.clone(), *format, wanted, config.repeat)?)
        }
        SourceKind::Stdin { format } => Box::new(InOrder::stdin(*format, wanted)?),
        SourceKind::Command { command, format } => Box::new(Command::new(leash, command, *format, wanted, counters)),
        SourceKind::Images { path } => Box::new(Images::open(path, wanted.sampled.as_ref())?),
        SourceKind::System => Box::new(Sensors::wanted(Path::new("/"), &wanted, counters)?),
        SourceKind::Pumps { .. } | SourceKind::Http { .. } | SourceKind::Mqtt { .. } => return Ok(()),
    };
    let rows = if replay.is_some() { 1 } else { pace.chunk_rows(trickle) };
    while let Some(mut chunk) = ring.empty.blocking_recv() {
        let more = player.fill(&mut chunk, rows)?;
        // Rows that cannot be read take their time too: a looping file of nothing else must not spin.
        let taken = chunk.rows.len() + chunk.malformed as usize;
        let due = match &mut replay {
            Some(replay) => replay.due(chunk.rows.first().and_then(|row| row.at_ms)),
            None if taken > 0 => pace.due(taken),
            None => None,
        };
        if let Some(due) = due {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if ring.full.blocking_send(Fed::Chunk(chunk)).is_err() || !more {
            break;
        }
    }
    Ok(())
}

/// When rows are due that are played at the pace at which they were taken.
struct Replayed {
    speed: f64,
    /// A row's time and the moment it was played at.
    from: Option<(f64, Instant)>,
}

impl Replayed {
    fn new(replay: &Replay) -> Self {
        Self { speed: replay.speed, from: None }
    }

    /// A row without a time follows the one before; time that goes back, as where a file begins again, starts anew.
    fn due(&mut self, at_ms: Option<f64>) -> Option<Instant> {
        let at = at_ms?;
        let now = Instant::now();
        let (first, began) = *self.from.get_or_insert((at, now));
        let passed = (at - first) / self.speed;
        let behind = now.saturating_duration_since(began).as_secs_f64() * 1e3 - passed;
        if passed < 0.0 || behind > BEHIND_MAX.as_secs_f64() * 1e3 {
            self.from = Some((at, now));
            return None;
        }
        began.checked_add(Duration::try_from_secs_f64(passed / 1e3).ok()?)
    }
}

pub(super) trait Player {
    /// Adds up to `rows` samples; false at the end.
    fn fill(&mut self, chunk: &mut Chunk, rows: usize) -> Result<bool, SourceError>;
}

struct InOrder {
    path: Option<std::path::PathBuf>,
    format: Format,
    wanted: Wanted,
    repeat: bool,
    rows: Rows,
    malformed: u64,
}

impl InOrder {
    fn open(path: std::path::PathBuf, format: Format, wanted: Wanted, repeat: bool) -> Result<Self, SourceError> {
        let rows = open_file(&path, format, wanted.clone())?;
        log_ignored(&rows, &path.display().to_string());
        Ok(Self { path: Some(path), format, wanted, repeat, rows, malformed: 0 })
    }

    fn stdin(format: Format, wanted: Wanted) -> Result<Self, SourceError> {
        let rows = Rows::open(Box::new(std::io::stdin()), format, wanted.clone(), "standard input")?;
        log_ignored(&rows, "standard input");
        Ok(Self { path: None, format, wanted, repeat: false, rows, malformed: 0 })
    }
}

impl Player for InOrder {
    fn fill(&mut self, chunk: &mut Chunk, rows: usize) -> Result<bool, SourceError> {
        for _ in 0..rows {
            match self.rows.next(&mut chunk.values)? {
                Row::Sample(read) => chunk.rows.push(read),
                Row::Malformed { line, error } => {
                    chunk.malformed += 1;
                    chunk.cuts.push(chunk.rows.len());
                    self.malformed += 1;
                    log_malformed(self.malformed, line, &error);
                }
                Row::End => match &self.path {
                    Some(path) if self.repeat => {
                        self.rows = open_file(path, self.format, self.wanted.clone())?;
                        chunk.cuts.push(chunk.rows.len());
                    }
                    _ => return Ok(false),
                },
            }
        }
        Ok(true)
    }
}

/// A whole file in memory, played in another order each time round.
struct Shuffled {
    width: usize,
    all: Chunk,
    order: Vec<u32>,
    at: usize,
    random: crate::pumps::Random,
    repeat: bool,
    /// Malformed rows not yet handed over.
    malformed: u32,
}

impl Shuffled {
    fn load(path: &Path, format: Format, wanted: Wanted, seed: u64, repeat: bool) -> Result<Self, SourceError> {
        if matches!(wanted.sampled, Some(Sampled::Signal { .. })) {
            return Err(SourceError::Shuffled { path: path.display().to_string() });
        }
        let width = wanted.inputs.len();
        let mut rows = open_file(path, format, wanted)?;
        log_ignored(&rows, &path.display().to_string());
        let mut all = Chunk::default();
        loop {
            match rows.next(&mut all.values)? {
                Row::Sample(read) => all.rows.push(read),
                Row::Malformed { line, error } => {
                    all.malformed += 1;
                    log_malformed(u64::from(all.malformed), line, &error);
                }
                Row::End => break,
            }
            if all.values.len() > SHUFFLE_VALUES_MAX {
                return Err(SourceError::TooLarge { path: path.display().to_string(), max: SHUFFLE_VALUES_MAX });
            }
        }
        let malformed = all.malformed;
        let order = (0..all.rows.len() as u32).collect();
        let mut player = Self { width, all, order, at: 0, random: crate::pumps::Random::new(seed), repeat, malformed };
        player.random.shuffle(&mut player.order);
        Ok(player)
    }
}

impl Player for Shuffled {
    fn fill(&mut self, chunk: &mut Chunk, rows: usize) -> Result<bool, SourceError> {
        chunk.malformed = std::mem::take(&mut self.malformed);
        for _ in 0..rows {
            if self.at == self.order.len() {
                if !self.repeat || self.order.is_empty() {
                    return Ok(false);
                }
                self.at = 0;
                self.malformed = self.all.malformed;
                self.random.shuffle(&mut self.order);
            }
            let row = self.order[self.at] as usize;
            chunk.values.extend_from_slice(&self.all.values[row * self.width..(row + 1) * self.width]);
            chunk.rows.push(self.all.rows[row]);
            self.at += 1;
        }
        Ok(true)
    }
}

fn open_file(path: &Path, format: Format, wanted: Wanted) -> Result<Rows, SourceError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|source| SourceError::Read { path: name.clone(), source })?;
    Rows::open(Box::new(file) as Box<dyn Read + Send>, format, wanted, &name)
}

pub(super) fn log_ignored(rows: &Rows, name: &str) {
    if !rows.ignored().is_empty() {
        tracing::info!("{name}: columns that the model does not use are ignored: {}", rows.ignored().join(", "));
    }
}

pub(super) fn log_malformed(count: u64, line: u64, error: &RowError) {
    if count <= MALFORMED_LOGGED_MAX {
        match error {
            // Its sentence names the file, which has no lines.
            RowError::Image { .. } => tracing::warn!("{error}"),
            _ => tracing::warn!("line {line} is not used: {error}"),
        }
    }
    if count == MALFORMED_LOGGED_MAX {
        tracing::warn!("further lines that cannot be used are counted, not logged");
    }
}
