//! How a running agent is: JSON over a Unix socket in its directory, asked by `driftline-agent status`.
//!
//! Whoever connects gets one object and the connection is closed; nothing is read. Only this user may connect.

use super::report::Counters;
use crate::agent::MessagesRefused;
use crate::config::Config;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Clocks that differ by less are called the same: an acknowledgement takes its time.
const CLOCK_SAID_MS: i64 = 10_000;
/// An agent that lives answers within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The device.
    pub device: String,
    /// Its fleet.
    pub fleet: String,
    /// Process id.
    pub pid: u32,
    /// For how long it has run, in seconds.
    pub running_s: u64,
    /// Model, release and short digest of what answers.
    pub release: Option<[String; 3]>,
    /// Where the collector's broker is.
    pub broker: String,
    /// Whether it is connected.
    pub connected: bool,
    /// For how long it has been so, in seconds.
    pub since_s: u64,
    /// Connections since the start.
    pub connections: u64,
    /// Samples by what became of them.
    pub samples: Samples,
    /// Seconds since the last sample; `None` before the first.
    pub last_sample_s: Option<u64>,
    /// Samples that waited too long, or came before there was a model or when it was too far behind; part of those refused.
    pub late: u64,
    /// Answers outside the known range that were flagged or held.
    pub guarded: u64,
    /// Microseconds within which half and 99 % of the samples were answered.
    pub latency_us: Option<[u64; 2]>,
    /// Windows by what became of them.
    pub windows: Windows,
    /// Milliseconds by which the clock is behind the collector's; `None` until that has acknowledged something.
    pub clock_behind_ms: Option<i64>,
    /// Raw samples.
    pub evidence: Evidence,
    /// Messages that were no use, by reason.
    pub messages_refused: MessagesRefused,
    /// What went wrong around the agent since its start, where something did.
    #[serde(default)]
    pub troubles: BTreeMap<String, u64>,
}

/// Samples: `taken = in windows + refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// Handed over by the source.
    pub taken: u64,
    /// Sketched.
    pub in_windows: u64,
    /// Not sketched.
    pub refused: u64,
}

/// Windows: `closed = acknowledged + merged + evicted + waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Handed to the spool.
    pub closed: u64,
    /// With the collector.
    pub acknowledged: u64,
    /// Part of wider ones.
    pub merged: u64,
    /// Given up.
    pub evicted: u64,
    /// On their way.
    pub waiting: u64,
    /// Those on their way that were closed before the clock had been compared with the collector's.
    pub undated: u64,
}

/// Raw samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Kept now.
    pub kept: u64,
    /// Given out since the start.
    pub given: u64,
}

/// Where the socket is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("status.sock")
}

/// Answers until the agent ends. That nothing can be asked is no reason not to run.
pub async fn serve(config: Arc<Config>, counters: Arc<Counters>) {
    let path = path(&config.data_dir);
    // The directory is locked: what is there, an earlier start left behind.
    let _ = std::fs::remove_file(&path);
    let bound = tokio::net::UnixListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map(|()| listener)
    });
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("the status cannot be asked at {}: {error}", path.display());
            return;
        }
    };
    let began = Instant::now();
    while let Ok((mut stream, _)) = listener.accept().await {
        let status = now(&config, &counters, began);
        let answer = serde_json::to_vec(&status).unwrap_or_default();
        // Whoever does not read is left alone.
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(&answer)).await;
    }
}

fn now(config: &Config, counters: &Counters, began: Instant) -> Status {
    let snapshot = counters.snapshot();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let l = &snapshot.ledger;
    let seconds = |at: Instant| at.elapsed().as_secs();
    let latency = |share| counters.latency.quantile_us(share);
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        device: config.device.to_string(),
        fleet: config.fleet.to_string(),
        pid: std::process::id(),
        running_s: began.elapsed().as_secs(),
        release: snapshot.release.map(|(model, release, id)| [model.to_string(), release.to_string(), id.to_string()]),
        broker: format!("{}:{}", config.mqtt.broker.host, config.mqtt.broker.port),
        connected: counters.up.load(Ordering::Relaxed),
        since_s: snapshot.link_changed.map_or(began.elapsed().as_secs(), seconds),
        connections: snapshot.connections,
        samples: Samples { taken: l.samples_taken, in_windows: l.samples_in_windows, refused: l.samples_refused },
        last_sample_s: snapshot.last_sample.map(seconds),
        late: count(&counters.late),
        guarded: count(&counters.guarded),
        latency_us: latency(0.5).zip(latency(0.99)).map(|(half, most)| [half, most]),
        windows: Windows {
            closed: l.windows_closed,
            acknowledged: l.windows_acknowledged,
            merged: l.windows_merged,
            evicted: l.windows_evicted,
            waiting: l.windows_waiting,
            undated: snapshot.windows_undated,
        },
        clock_behind_ms: snapshot.clock_behind_ms,
        evidence: snapshot.evidence,
        messages_refused: snapshot.messages_refused,
        troubles: counters.troubles.counted(),
    }
}

/// Asks a running agent.
pub fn ask(socket: &Path) -> Result<Status, String> {
    let mut stream = UnixStream::connect(socket)
        .map_err(|e| format!("no agent answers at {} ({e}): start it, or run this as its user", socket.display()))?;
    let mut text = String::new();
    let read = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| (&mut stream).take(ANSWER_BYTES_MAX).read_to_string(&mut text).map(drop));
    read.map_err(|e| format!("the agent at {} does not answer ({e}): look at its log", socket.display()))?;
    serde_json::from_str(&text).map_err(|_| "the agent is of another version: use the program that runs".to_owned())
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Samples { taken, in_windows, refused } = self.samples;
        let Windows { closed, acknowledged, merged, evicted, waiting, undated } = self.windows;
        writeln!(
            f,
            "{} of fleet {}, running for {}, version {}",
            self.device,
            self.fleet,
            duration(self.running_s),
            self.version
        )?;
        match (&self.release, self.latency_us) {
            (None, _) => writeln!(f, "Model:    none yet; the collector rolls one out")?,
            (Some([model, release, id]), None) => writeln!(f, "Model:    {model} {release} ({id})")?,
            (Some([model, release, id]), Some([half, most])) => {
                writeln!(
                    f,
                    "Model:    {model} {release} ({id}); half of the answers within {half} µs, 99% within {most} µs"
                )?;
            }
        }
        let last = self.last_sample_s.map_or("none so far".into(), |s| format!("the last {} ago", duration(s)));
        writeln!(
            f,
            "Samples:  {taken} taken: {in_windows} in windows, {refused} refused, {} of them late, {} answers outside the known range; {last}",
            self.late, self.guarded
        )?;
        writeln!(
            f,
            "Windows:  {closed} closed: {acknowledged} with the collector, {merged} merged into wider ones, {evicted} given up, {waiting} waiting"
        )?;
        let Evidence { kept, given } = self.evidence;
        if kept + given > 0 {
            writeln!(f, "Evidence: {kept} raw samples are kept, {given} have left the device")?;
        }
        let clock = match self.clock_behind_ms {
            None => "not yet compared with the collector's".to_owned(),
            Some(ms) if ms.abs() < CLOCK_SAID_MS => "that of the collector".to_owned(),
            Some(ms) => {
                let (apart, way) = (duration(ms.unsigned_abs() / 1_000), if ms > 0 { "behind" } else { "ahead of" });
                format!("{apart} {way} the collector's, which dates the windows; set it, or run a time service")
            }
        };
        let before = if undated > 0 {
            format!("; {undated} windows on their way were closed before it was compared")
        } else {
            String::new()
        };
        writeln!(f, "Clock:    {clock}{before}")?;
        if !self.troubles.is_empty() {
            let troubles: Vec<String> =
                self.troubles.iter().map(|(words, count)| format!("{count} {}", words.replace('_', " "))).collect();
            writeln!(f, "Trouble:  {}", troubles.join(", "))?;
        }
        let link = if self.connected { "connected" } else { "not connected" };
        write!(
            f,
            "Broker:   {link} to {} for {}, {} connections",
            self.broker,
            duration(self.since_s),
            self.connections
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_sentences() {
        let status = Status {
            version: "0.1.0".into(),
            device: "pump-1".into(),
            fleet: "test".into(),
            pid: 7,
            running_s: 7_300,
            release: Some(["pump".into(), "v1".into(), "1f2e".into()]),
            broker: "mqtt.plant:1883".into(),
            connected: true,
            since_s: 300,
            connections: 2,
            samples: Samples { taken: 10, in_windows: 9, refused: 1 },
            last_sample_s: Some(0),
            late: 0,
            guarded: 0,
            latency_us: Some([4, 16]),
            windows: Windows { closed: 3, acknowledged: 2, merged: 0, evicted: 0, waiting: 1, undated: 1 },
            clock_behind_ms: Some(90_000),
            evidence: Evidence::default(),
            messages_refused: MessagesRefused::default(),
            troubles: BTreeMap::from([("readings_missing".to_owned(), 7)]),
        };
        let text = status.to_string();
        assert!(text.starts_with("pump-1 of fleet test, running for 2 h, version 0.1.0\nModel:    pump v1 (1f2e); half of the answers within 4 µs"));
        assert!(text.contains("Clock:    90 s behind the collector's"), "{text}");
        assert!(text.contains("Trouble:  7 readings missing\n"), "{text}");
        assert!(text.ends_with("connected to mqtt.plant:1883 for 5 min, 2 connections"), "{text}");
        let again: Status = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
        assert_eq!(again, status);
    }
}
