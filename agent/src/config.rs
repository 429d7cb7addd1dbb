//! The agent's configuration file: TOML as people write it, checked once into values the rest can trust.
//!
//! Every mistake gives one sentence that says what is wrong, where, and what to do. There is no inheritance and no
//! environment variable: the file is the whole truth, and [`Config::resolved`] prints it with every default filled in.

mod check;
mod raw;
mod source;

use crate::evidence::Policy;
use crate::spool::{Drain, Room};
use check::{Checker, toml_sentence};
use driftline_shared::list::List;
use driftline_shared::units::Name;
use driftline_shared::wire::messages::{LABELS_MAX, Label};
use raw::RawConfig;
pub use source::{Format, Listen, Order, Replay, SourceConfig, SourceKind};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Samples in a window before it is closed early.
pub const SAMPLES_PER_WINDOW_MAX: u32 = 1_000_000;
/// Fastest pace of a source.
pub const RATE_HZ_MAX: f64 = 100_000.0;
/// Fewest frames a spool may be limited to: what is in flight is never evicted.
pub const SPOOL_FRAMES_MIN: u32 = 64;
/// Windows wait so long for others on their way to the disk when nothing is said, and at most.
const SPOOL_COMMIT_MS: u32 = 5_000;
const SPOOL_COMMIT_MS_MAX: u32 = 3_600_000;
/// Mebibytes that the spool leaves to others when nothing is said, and at most.
const SPOOL_FREE_MB: u32 = 16;
const SPOOL_FREE_MB_MAX: u32 = 1 << 20;
/// Kibibytes that a class of windows may be limited to: a frame, and a gibibyte.
const SPOOL_KB: (u32, u32) = (64, 1 << 20);
/// Most frames a spool in memory may hold.
pub const SPOOL_FRAMES_MAX: u32 = 100_000;
/// Largest configuration file.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path} cannot be read: check that the file exists and that this user may read it")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is far too large to be a configuration.
    #[error("{path} is larger than {CONFIG_BYTES_MAX} bytes: give the agent's own configuration file")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{path} line {line}: {message}")]
    Toml {
        /// The file.
        path: String,
        /// Where, from 1.
        line: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// A value that cannot be.
    #[error("{path}: {key} is {found}; {wanted}")]
    Value {
        /// The file.
        path: String,
        /// Which setting.
        key: String,
        /// What it is.
        found: String,
        /// What it has to be.
        wanted: String,
    },
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// This device's name.
    pub device: Name,
    /// The fleet it belongs to.
    pub fleet: Name,
    /// Where the agent keeps model slots and their state.
    pub data_dir: PathBuf,
    /// What cohorts are made of, such as `site=busan`.
    pub labels: List<Label, LABELS_MAX>,
    /// The way to the collector.
    pub mqtt: MqttConfig,
    /// Directory of the bundle to start with; without one the device waits for the collector.
    pub bundle: Option<PathBuf>,
    /// Where samples come from.
    pub source: SourceConfig,
    /// Samples after which a window closes early.
    pub window_samples_max: u32,
    /// How a new release proves itself.
    pub trial: TrialConfig,
    /// What is kept while the collector is away.
    pub spool: SpoolConfig,
    /// Samples remembered for truth that comes late.
    pub labels_samples_max: u32,
    /// What raw samples may be kept and given out.
    pub evidence: Policy,
}

/// What is kept while the collector is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolConfig {
    /// How much.
    pub room: Room,
    /// Windows wait so long to be put on the disk with others: what a power cut may cost.
    pub commit_ms: u32,
    /// Mebibytes of the disk that the spool leaves to others; 0 takes everything.
    pub free_mb: u32,
    /// What is sent first when a backlog waits.
    pub drain: Drain,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { room: Room::default(), commit_ms: SPOOL_COMMIT_MS, free_mb: SPOOL_FREE_MB, drain: Drain::default() }
    }
}

/// The way to the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttConfig {
    /// Whose broker.
    pub broker: Broker,
    /// Keep-alive in seconds.
    pub keep_alive_s: u16,
}

/// How to reach a broker, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name, when the broker wants one.
    pub username: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Certificates, when the broker wants TLS.
    pub tls: Option<TlsConfig>,
}

impl Broker {
    /// One that asks for nothing.
    pub fn open(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, username: None, password_file: None, tls: None }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Path| quote(&path.display().to_string());
        let mut lines = vec![("host", quote(&self.host)), ("port", self.port.to_string())];
        lines.extend(self.username.as_ref().map(|u| ("username", quote(u))));
        lines.extend(self.password_file.as_ref().map(|p| ("password_file", path(p))));
        if let Some(tls) = &self.tls {
            lines.push(("ca_file", path(&tls.ca_file)));
            if let Some((certificate, key)) = &tls.own {
                lines.push(("cert_file", path(certificate)));
                lines.push(("key_file", path(key)));
            }
        }
        lines
    }
}

/// Files for TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates of the authority that signed the broker's.
    pub ca_file: PathBuf,
    /// This device's certificate and private key, when the broker wants one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// How a new release proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialConfig {
    /// Live samples it must answer in the shadow of the active model.
    pub samples: u32,
    /// Live samples it must then answer before it stays.
    pub commit_samples: u32,
}

impl Default for TrialConfig {
    fn default() -> Self {
        Self { samples: 60, commit_samples: 120 }
    }
}

impl Config {
    /// Reads configuration text; `path` is for messages.
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|e| ConfigError::Toml {
            path: path.into(),
            line: e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1),
            message: toml_sentence(e.message()),
        })?;
        Checker { path }.config(raw)
    }

    /// The configuration as TOML, every default filled in.
    pub fn resolved(&self) -> String {
        let mut out = String::new();
        let mut section = |name: &str, lines: Vec<(&str, String)>| {
            let _ = writeln!(out, "[{name}]");
            for (key, value) in lines {
                let _ = writeln!(out, "{key} = {value}");
            }
            out.push('\n');
        };
        section(
            "agent",
            vec![
                ("device", quote(self.device.as_str())),
                ("fleet", quote(self.fleet.as_str())),
                ("data_dir", quote(&self.data_dir.display().to_string())),
            ],
        );
        section("agent.labels", self.labels.iter().map(|(k, v)| (k.as_str(), quote(v.as_str()))).collect());
        let mut mqtt = self.mqtt.broker.lines();
        mqtt.push(("keep_alive", quote(&format!("{}s", self.mqtt.keep_alive_s))));
        section("mqtt", mqtt);
        section("model", self.bundle.iter().map(|b| ("bundle", quote(&b.display().to_string()))).collect());
        section("source", self.source.lines());
        section("window", vec![("samples_max", self.window_samples_max.to_string())]);
        let trial = self.trial;
        section(
            "trial",
            vec![("samples", trial.samples.to_string()), ("commit_samples", trial.commit_samples.to_string())],
        );
        let spool = self.spool;
        section(
            "spool",
            vec![
                ("frames_max", spool.room.frames.to_string()),
                ("samples_kb", (spool.room.samples >> 10).to_string()),
                ("truth_kb", (spool.room.truth >> 10).to_string()),
                ("embeddings_kb", (spool.room.embeddings >> 10).to_string()),
                ("commit_ms", spool.commit_ms.to_string()),
                ("free_mb", spool.free_mb.to_string()),
                ("drain", quote(if spool.drain == Drain::Live { "live" } else { "backlog" })),
            ],
        );
        section("labels", vec![("samples_max", self.labels_samples_max.to_string())]);
        let evidence = self.evidence;
        section("evidence", vec![("samples", evidence.samples.to_string()), ("per_day", evidence.per_day.to_string())]);
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

fn quote(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}
