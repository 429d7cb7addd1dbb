//! How well drift is detected, measured: false alarms when nothing changes, delays when something does, names when one of many
//! is sick; beside the rules of other tools, on the same data.
//!
//! Pure: everything comes from a seed or from a table that the caller read. [`series`] makes readings, [`rules`] judges windows of
//! them, and each table has a file: [`null`], [`delay`], [`attribution`], [`together`], [`fleet`], [`sensors`]. The command is
//! `driftline evaluate`; its output is committed as docs/evaluation.md.

pub mod attribution;
pub mod delay;
pub mod fleet;
pub mod null;
pub mod rules;
pub mod sensors;
pub mod series;
pub mod together;

/// Samples of a window.
pub const WINDOW: usize = 60;
/// Features that share the risk of a bad reference, as in the tables of docs/detection.md.
pub const FEATURES: usize = 20;

/// How much is simulated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// Where all random numbers come from.
    pub seed: u64,
    /// Baselines per scenario.
    pub baselines: usize,
    /// Streams of windows per baseline.
    pub streams: usize,
    /// Windows per stream.
    pub windows: usize,
    /// Runs per delay.
    pub delays: usize,
    /// Runs of whole collectors, and of readings that go together in another way.
    pub runs: usize,
    /// Devices of the simulated month.
    pub fleet: usize,
}

impl Size {
    /// A million null windows per scenario.
    pub const FULL: Self =
        Self { seed: 1, baselines: 20, streams: 50, windows: 1_000, delays: 1_600, runs: 400, fleet: 1_000 };
    /// Enough to see that everything works.
    pub const QUICK: Self = Self { seed: 1, baselines: 4, streams: 5, windows: 200, delays: 60, runs: 60, fleet: 20 };
}

/// A Markdown table.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// What to know before reading it.
    pub about: String,
    /// Column names; the first names the rows.
    pub columns: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
    /// What Driftline promises and these figures do not keep, in words.
    pub missed: Vec<String>,
}

/// A sentence where more alarms were seen than so many windows may have at an expected run of [`null::ARL`]; a single one shows nothing.
fn too_many(what: &str, alarms: u64, windows: u64) -> Option<String> {
    let asked = windows as f64 / null::ARL;
    (alarms as f64 > asked.max(1.0))
        .then(|| format!("{what}: {alarms} false alarms in {windows} windows, where {asked:.1} are asked for"))
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "## {}\n\n{}\n", self.title, self.about)?;
        writeln!(f, "| {} |", self.columns.join(" | "))?;
        writeln!(f, "|{}", " --- |".repeat(self.columns.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

/// Runs `work` for every part on all processors and returns the results in order.
pub fn in_parallel<T: Send>(parts: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parts.max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut found: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let part = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if part >= parts {
                            return mine;
                        }
                        mine.push((part, work(part)));
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker that does not panic")).collect()
    });
    found.sort_by_key(|(part, _)| *part);
    found.into_iter().map(|(_, result)| result).collect()
}

/// The middle of values; of an even number the lower one.
pub fn median<T: Copy + PartialOrd>(values: &mut [T]) -> Option<T> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len().saturating_sub(1) / 2).copied()
}
