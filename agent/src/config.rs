//! The agent's configuration file: TOML as people write it, checked once into values the rest can trust.
//!
//! Every mistake gives one sentence that says what is wrong, where, and what to do. There is no inheritance and no
//! environment variable: the file is the whole truth, and [`Config::resolved`] prints it with every default filled in.

use driftline_shared::units::Name;
use driftline_shared::wire::messages::{LABELS_MAX, Label};
use driftline_shared::list::{List, Text};
use serde::Deserialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Samples in a window before it is closed early.
pub const SAMPLES_PER_WINDOW_MAX: u32 = 1_000_000;
/// Fastest pace of a source.
pub const RATE_HZ_MAX: f64 = 100_000.0;
/// Fewest frames a spool may be limited to: what is in flight is never evicted.
pub const SPOOL_FRAMES_MIN: u32 = 64;
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
        key: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        wanted: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    agent: RawAgent,
    mqtt: RawMqtt,
    #[serde(default)]
    model: RawModel,
    source: RawSource,
    #[serde(default)]
    window: RawWindow,
    #[serde(default)]
    trial: RawTrial,
    #[serde(default)]
    spool: RawSpool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAgent {
    device: String,
    fleet: Option<String>,
    data_dir: PathBuf,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMqtt {
    host: String,
    port: Option<u16>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    keep_alive: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawModel {
    bundle: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    kind: String,
    path: Option<PathBuf>,
    format: Option<String>,
    rate_hz: Option<f64>,
    #[serde(rename = "loop")]
    repeat: Option<bool>,
    label: Option<String>,
    order: Option<String>,
    seed: Option<u64>,
    fault_after: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    samples_max: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawTrial {
    samples: Option<u32>,
    commit_samples: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawSpool {
    frames_max: Option<u32>,
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
    /// Frames kept while the collector is away.
    pub spool_frames_max: u32,
}

/// How to reach the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name, when the broker wants one.
    pub username: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Keep-alive in seconds.
    pub keep_alive_s: u16,
}

/// Where samples come from and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Which kind.
    pub kind: SourceKind,
    /// Samples per second; `None` is as fast as they come.
    pub rate_hz: Option<f64>,
    /// Start again at the end.
    pub repeat: bool,
    /// Column with the true class, instead of the one the bundle names.
    pub label: Option<String>,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A file of rows.
    File {
        /// The file.
        path: PathBuf,
        /// How rows are written.
        format: Format,
        /// In which order they are played.
        order: Order,
    },
    /// Rows on standard input.
    Stdin {
        /// How rows are written.
        format: Format,
    },
    /// The simulated pump.
    Pumps {
        /// Which pump: same seed, same readings.
        seed: u64,
        /// When its temperature sensor starts to read high, from the start; `None` is never.
        fault_after_ms: Option<u64>,
    },
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated with a header line.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// In which order a file is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As written.
    File,
    /// Shuffled with this seed, anew each time round.
    Shuffled(u64),
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
        let mut mqtt = vec![("host", quote(&self.mqtt.host)), ("port", self.mqtt.port.to_string())];
        mqtt.extend(self.mqtt.username.as_ref().map(|u| ("username", quote(u))));
        mqtt.extend(self.mqtt.password_file.as_ref().map(|p| ("password_file", quote(&p.display().to_string()))));
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
        section("spool", vec![("frames_max", self.spool_frames_max.to_string())]);
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

impl SourceConfig {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        match &self.kind {
            SourceKind::File { path, format, order } => {
                lines.push(("kind", quote(format.name())));
                lines.push(("path", quote(&path.display().to_string())));
                match order {
                    Order::File => lines.push(("order", quote("file"))),
                    Order::Shuffled(seed) => {
                        lines.push(("order", quote("shuffled")));
                        lines.push(("seed", seed.to_string()));
                    }
                }
                lines.push(("loop", self.repeat.to_string()));
            }
            SourceKind::Stdin { format } => {
                lines.push(("kind", quote("stdin")));
                lines.push(("format", quote(format.name())));
            }
            SourceKind::Pumps { seed, fault_after_ms } => {
                lines.push(("kind", quote("pumps")));
                lines.push(("seed", seed.to_string()));
                lines.extend(fault_after_ms.map(|ms| ("fault_after", quote(&format!("{ms}ms")))));
            }
        }
        lines.extend(self.rate_hz.map(|r| ("rate_hz", format!("{r:?}"))));
        lines.extend(self.label.as_ref().map(|l| ("label", quote(l))));
        lines
    }
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

fn quote(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// toml's message with what to do about it.
fn toml_sentence(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    if message.starts_with("unknown field") {
        format!("{message}: remove the key or correct its spelling")
    } else if message.starts_with("missing field") {
        format!("{message}: add the key")
    } else {
        format!("{message}: correct the line")
    }
}

/// Milliseconds of a time such as `250ms`, `60s`, `5m` or `1h`.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

struct Checker<'a> {
    path: &'a str,
}

impl Checker<'_> {
    fn wrong<T>(&self, key: &'static str, found: impl std::fmt::Debug, wanted: &str) -> Result<T, ConfigError> {
        Err(ConfigError::Value { path: self.path.into(), key, found: format!("{found:?}"), wanted: wanted.into() })
    }

    fn name(&self, key: &'static str, text: &str) -> Result<Name, ConfigError> {
        Name::new(text).or_else(|_| self.wrong(key, text, "use 1 to 64 of the characters A-Z a-z 0-9 . _ -"))
    }

    fn between(&self, key: &'static str, value: u32, min: u32, max: u32) -> Result<u32, ConfigError> {
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        self.wrong(key, value, &format!("use a number from {min} to {max}"))
    }

    fn config(&self, raw: RawConfig) -> Result<Config, ConfigError> {
        let trial = TrialConfig::default();
        Ok(Config {
            device: self.name("agent.device", &raw.agent.device)?,
            fleet: self.name("agent.fleet", raw.agent.fleet.as_deref().unwrap_or("default"))?,
            labels: self.labels(&raw.agent.labels)?,
            data_dir: self.directory("agent.data_dir", raw.agent.data_dir)?,
            mqtt: self.mqtt(raw.mqtt)?,
            bundle: raw.model.bundle.map(|b| self.directory("model.bundle", b)).transpose()?,
            source: self.source(raw.source)?,
            window_samples_max: self.between(
                "window.samples_max",
                raw.window.samples_max.unwrap_or(SAMPLES_PER_WINDOW_MAX),
                1,
                SAMPLES_PER_WINDOW_MAX,
            )?,
            trial: TrialConfig {
                samples: self.between("trial.samples", raw.trial.samples.unwrap_or(trial.samples), 1, 1_000_000)?,
                commit_samples: self.between(
                    "trial.commit_samples",
                    raw.trial.commit_samples.unwrap_or(trial.commit_samples),
                    1,
                    1_000_000,
                )?,
            },
            spool_frames_max: self.between(
                "spool.frames_max",
                raw.spool.frames_max.unwrap_or(2_000),
                SPOOL_FRAMES_MIN,
                SPOOL_FRAMES_MAX,
            )?,
        })
    }

    fn directory(&self, key: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
        if path.as_os_str().is_empty() { self.wrong(key, path, "give a directory") } else { Ok(path) }
    }

    fn labels(&self, raw: &std::collections::BTreeMap<String, String>) -> Result<List<Label, LABELS_MAX>, ConfigError> {
        let mut labels = List::default();
        for (key, value) in raw {
            let name = self.name("agent.labels", key)?;
            let Some(text) = Text::whole(value).filter(|_| !value.is_empty() && !value.contains(char::is_control)) else {
                return self.wrong("agent.labels", value, "use 1 to 64 bytes of text");
            };
            if labels.push((name, text)).is_err() {
                return self.wrong("agent.labels", raw.len(), &format!("give at most {LABELS_MAX} labels"));
            }
        }
        Ok(labels)
    }

    fn mqtt(&self, raw: RawMqtt) -> Result<MqttConfig, ConfigError> {
        if raw.host.is_empty() || raw.host.contains(|c: char| c.is_whitespace() || c == '/') {
            return self.wrong("mqtt.host", raw.host, "give a host name or address, without scheme or path");
        }
        if raw.port == Some(0) {
            return self.wrong("mqtt.port", 0, "use a port from 1 to 65535");
        }
        if raw.password_file.is_some() && raw.username.is_none() {
            return self.wrong("mqtt.password_file", raw.password_file, "give mqtt.username too");
        }
        let keep_alive = raw.keep_alive.unwrap_or("30s".into());
        let Some(keep_alive_s) =
            milliseconds(&keep_alive).filter(|ms| (5_000..=3_600_000).contains(ms)).map(|ms| (ms / 1000) as u16)
        else {
            return self.wrong("mqtt.keep_alive", keep_alive, "use a time from \"5s\" to \"1h\"");
        };
        let port = raw.port.unwrap_or(1883);
        Ok(MqttConfig { host: raw.host, port, username: raw.username, password_file: raw.password_file, keep_alive_s })
    }

    fn source(&self, raw: RawSource) -> Result<SourceConfig, ConfigError> {
        let pumps = raw.kind == "pumps";
        let rate_hz = raw.rate_hz.or(pumps.then_some(1.0));
        if let Some(rate) = rate_hz
            && !(rate > 0.0 && rate <= RATE_HZ_MAX)
        {
            return self.wrong("source.rate_hz", rate, &format!("use a number above 0 and up to {RATE_HZ_MAX}"));
        }
        if raw.label.as_ref().is_some_and(String::is_empty) {
            return self.wrong("source.label", "", "give the column's name or leave the key out");
        }
        self.only_where_used(&raw)?;
        let kind = match raw.kind.as_str() {
            "csv" => self.file(&raw, Format::Csv)?,
            "ndjson" => self.file(&raw, Format::Ndjson)?,
            "stdin" => SourceKind::Stdin { format: self.format(raw.format.as_deref())? },
            "pumps" => SourceKind::Pumps { seed: raw.seed.unwrap_or(1), fault_after_ms: self.fault(raw.fault_after)? },
            _ => return self.wrong("source.kind", raw.kind, "use \"csv\", \"ndjson\", \"stdin\" or \"pumps\""),
        };
        Ok(SourceConfig { kind, rate_hz, repeat: raw.repeat.unwrap_or(false), label: raw.label })
    }

    /// A key that would silently do nothing is a mistake too.
    fn only_where_used(&self, raw: &RawSource) -> Result<(), ConfigError> {
        let file = matches!(raw.kind.as_str(), "csv" | "ndjson");
        let (stdin, pumps) = (raw.kind == "stdin", raw.kind == "pumps");
        let shuffled = file && raw.order.as_deref() == Some("shuffled");
        let rules = [
            ("source.path", raw.path.is_some(), file, "only kinds \"csv\" and \"ndjson\" have a path"),
            ("source.loop", raw.repeat.is_some(), file, "only kinds \"csv\" and \"ndjson\" can loop"),
            ("source.order", raw.order.is_some(), file, "only kinds \"csv\" and \"ndjson\" have an order"),
            ("source.seed", raw.seed.is_some(), pumps || shuffled, "only kind \"pumps\" and order \"shuffled\" have a seed"),
            ("source.format", raw.format.is_some(), stdin, "only kind \"stdin\" has a format"),
            ("source.fault_after", raw.fault_after.is_some(), pumps, "only kind \"pumps\" has a fault"),
        ];
        for (key, given, used, wanted) in rules {
            if given && !used {
                return self.wrong(key, "given", &format!("{wanted}, and kind is {:?}: remove the key", raw.kind));
            }
        }
        Ok(())
    }

    fn file(&self, raw: &RawSource, format: Format) -> Result<SourceKind, ConfigError> {
        let Some(path) = raw.path.clone().filter(|p| !p.as_os_str().is_empty()) else {
            return self.wrong("source.path", "missing", "give the file to read");
        };
        let order = match raw.order.as_deref() {
            None | Some("file") => Order::File,
            Some("shuffled") => Order::Shuffled(raw.seed.unwrap_or(1)),
            Some(other) => return self.wrong("source.order", other, "use \"file\" or \"shuffled\""),
        };
        Ok(SourceKind::File { path, format, order })
    }

    fn format(&self, raw: Option<&str>) -> Result<Format, ConfigError> {
        match raw {
            None | Some("ndjson") => Ok(Format::Ndjson),
            Some("csv") => Ok(Format::Csv),
            Some(other) => self.wrong("source.format", other, "use \"csv\" or \"ndjson\""),
        }
    }

    fn fault(&self, raw: Option<String>) -> Result<Option<u64>, ConfigError> {
        let Some(text) = raw else { return Ok(None) };
        match milliseconds(&text) {
            Some(ms) => Ok(Some(ms)),
            None => self.wrong("source.fault_after", text, "use a time such as \"30s\" or \"5m\""),
        }
    }
}
