//! Where samples come from: the kinds of sources with their keys.

use super::check::{Checker, milliseconds};
use super::raw::{RawBroker, RawSource};
use super::{Broker, ConfigError, RATE_HZ_MAX, quote};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Longest wait for an answer that an application may be given.
const DEADLINE_MS_MAX: u64 = 60_000;
/// Most words of a command.
const COMMAND_WORDS_MAX: usize = 64;
/// Fastest replay.
const SPEED_MAX: f64 = 1e6;

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
    /// Column with the sample's id, by which truth that comes late names it.
    pub id: Option<String>,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// A file of rows.
    File {
        /// The file.
        path: PathBuf,
        /// How rows are written.
        format: Format,
        /// In which order they are played.
        order: Order,
        /// At the pace at which they were taken.
        replay: Option<Replay>,
    },
    /// Rows on standard input.
    Stdin {
        /// How rows are written.
        format: Format,
    },
    /// Rows that a program prints.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// How rows are written.
        format: Format,
    },
    /// Requests of applications on this device.
    Http {
        /// Where they come.
        listen: Listen,
        /// How long one may wait for its answer.
        deadline_ms: u64,
        /// File whose first line applications must know.
        token_file: Option<PathBuf>,
    },
    /// Image files of a folder.
    Images {
        /// The folder.
        path: PathBuf,
    },
    /// JSON messages on a topic of a broker.
    Mqtt {
        /// The topic.
        topic: String,
        /// Whose topic.
        broker: Broker,
    },
    /// What Linux knows of the device: temperatures, voltages, load, memory.
    System,
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

/// A file played at the pace at which its rows were taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Column that says when.
    pub time: String,
    /// So many times as fast.
    pub speed: f64,
}

/// Where applications ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl SourceConfig {
    /// Whether samples are requests, which wait for an answer.
    pub fn is_asked(&self) -> bool {
        matches!(self.kind, SourceKind::Http { .. })
    }

    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let path = |path: &PathBuf| quote(&path.display().to_string());
        let mut lines = Vec::new();
        match &self.kind {
            SourceKind::File { path: file, format, order, replay } => {
                lines.push(("kind", quote(format.name())));
                lines.push(("path", path(file)));
                match order {
                    Order::File => lines.push(("order", quote("file"))),
                    Order::Shuffled(seed) => {
                        lines.push(("order", quote("shuffled")));
                        lines.push(("seed", seed.to_string()));
                    }
                }
                lines.push(("loop", self.repeat.to_string()));
                if let Some(replay) = replay {
                    lines.push(("time", quote(&replay.time)));
                    lines.push(("speed", format!("{:?}", replay.speed)));
                }
            }
            SourceKind::Stdin { format } => {
                lines.push(("kind", quote("stdin")));
                lines.push(("format", quote(format.name())));
            }
            SourceKind::Command { command, format } => {
                lines.push(("kind", quote("command")));
                lines.push(("command", toml::Value::from(command.clone()).to_string()));
                lines.push(("format", quote(format.name())));
            }
            SourceKind::Http { listen, deadline_ms, token_file } => {
                lines.push(("kind", quote("http")));
                lines.push(("listen", quote(&listen.to_string())));
                lines.push(("deadline", quote(&format!("{deadline_ms}ms"))));
                lines.extend(token_file.as_ref().map(|file| ("token_file", path(file))));
            }
            SourceKind::Images { path: folder } => {
                lines.push(("kind", quote("images")));
                lines.push(("path", path(folder)));
            }
            SourceKind::Mqtt { topic, broker } => {
                lines.push(("kind", quote("mqtt")));
                lines.push(("topic", quote(topic)));
                lines.extend(broker.lines());
            }
            SourceKind::System => lines.push(("kind", quote("system"))),
            SourceKind::Pumps { seed, fault_after_ms } => {
                lines.push(("kind", quote("pumps")));
                lines.push(("seed", seed.to_string()));
                lines.extend(fault_after_ms.map(|ms| ("fault_after", quote(&format!("{ms}ms")))));
            }
        }
        lines.extend(self.rate_hz.map(|r| ("rate_hz", format!("{r:?}"))));
        lines.extend(self.label.as_ref().map(|l| ("label", quote(l))));
        lines.extend(self.id.as_ref().map(|id| ("id", quote(id))));
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

impl Checker<'_> {
    pub(super) fn source(&self, raw: RawSource) -> Result<SourceConfig, ConfigError> {
        let timed = matches!(raw.kind.as_str(), "pumps" | "system");
        let rate_hz = raw.rate_hz.or(timed.then_some(1.0));
        if let Some(rate) = rate_hz
            && !(rate > 0.0 && rate <= RATE_HZ_MAX)
        {
            return self.wrong("source.rate_hz", rate, &format!("use a number above 0 and up to {RATE_HZ_MAX}"));
        }
        let named = [("source.label", &raw.label), ("source.id", &raw.id), ("source.time", &raw.time)];
        for (key, name) in named {
            if name.as_ref().is_some_and(String::is_empty) {
                return self.wrong(key, "", "give the column's name or leave the key out");
            }
        }
        self.only_where_used(&raw)?;
        let kind = match raw.kind.as_str() {
            "csv" => self.file(&raw, Format::Csv)?,
            "ndjson" => self.file(&raw, Format::Ndjson)?,
            "stdin" => SourceKind::Stdin { format: self.format(raw.format.as_deref())? },
            "command" => {
                let command = raw.command.unwrap_or_default();
                let empty = command.first().is_none_or(String::is_empty);
                if empty || command.len() > COMMAND_WORDS_MAX {
                    let wanted = format!("give the program and its arguments, 1 to {COMMAND_WORDS_MAX} words");
                    return self.wrong("source.command", command, &wanted);
                }
                SourceKind::Command { command, format: self.format(raw.format.as_deref())? }
            }
            "http" => self.http(&raw)?,
            "mqtt" => self.mqtt_topic(&raw)?,
            "images" => match raw.path.clone().filter(|p| !p.as_os_str().is_empty()) {
                Some(path) => SourceKind::Images { path },
                None => return self.wrong("source.path", "missing", "give the folder of images"),
            },
            "system" => SourceKind::System,
            "pumps" => SourceKind::Pumps { seed: raw.seed.unwrap_or(1), fault_after_ms: self.fault(raw.fault_after)? },
            _ => {
                let kinds = "\"csv\", \"ndjson\", \"stdin\", \"command\", \"http\", \"images\", \"mqtt\", \"system\" or \"pumps\"";
                return self.wrong("source.kind", raw.kind, &format!("use {kinds}"));
            }
        };
        Ok(SourceConfig { kind, rate_hz, repeat: raw.repeat.unwrap_or(false), label: raw.label, id: raw.id })
    }

    /// A key that would silently do nothing is a mistake too.
    fn only_where_used(&self, raw: &RawSource) -> Result<(), ConfigError> {
        let kind = raw.kind.as_str();
        let file = matches!(kind, "csv" | "ndjson");
        let images = kind == "images";
        let (pumps, http, mqtt) = (kind == "pumps", kind == "http", kind == "mqtt");
        let piped = matches!(kind, "stdin" | "command");
        let shuffled = file && raw.order.as_deref() == Some("shuffled");
        let paced = file || piped || pumps || images || kind == "system";
        let rules = [
            (
                "source.path",
                raw.path.is_some(),
                file || images,
                "only kinds \"csv\", \"ndjson\" and \"images\" have a path",
            ),
            ("source.loop", raw.repeat.is_some(), file, "only kinds \"csv\" and \"ndjson\" can loop"),
            ("source.order", raw.order.is_some(), file, "only kinds \"csv\" and \"ndjson\" have an order"),
            (
                "source.seed",
                raw.seed.is_some(),
                pumps || shuffled,
                "only kind \"pumps\" and order \"shuffled\" have a seed",
            ),
            (
                "source.time",
                raw.time.is_some(),
                file && !shuffled && raw.rate_hz.is_none(),
                "only kinds \"csv\" and \"ndjson\" in the file's order and without rate_hz are played by a column's time",
            ),
            ("source.speed", raw.speed.is_some(), raw.time.is_some(), "only a source with a time column has a speed"),
            ("source.format", raw.format.is_some(), piped, "only kinds \"stdin\" and \"command\" have a format"),
            ("source.command", raw.command.is_some(), kind == "command", "only kind \"command\" has a command"),
            ("source.listen", raw.listen.is_some(), http, "only kind \"http\" listens"),
            ("source.deadline", raw.deadline.is_some(), http, "only kind \"http\" has a deadline"),
            ("source.token_file", raw.token_file.is_some(), http, "only kind \"http\" has a token"),
            ("source.topic", raw.topic.is_some(), mqtt, "only kind \"mqtt\" has a topic"),
            ("source.host", raw.host.is_some(), mqtt, "only kind \"mqtt\" has a host"),
            ("source.port", raw.port.is_some(), mqtt, "only kind \"mqtt\" has a port"),
            ("source.username", raw.username.is_some(), mqtt, "only kind \"mqtt\" has a user name"),
            ("source.password_file", raw.password_file.is_some(), mqtt, "only kind \"mqtt\" has a password"),
            ("source.ca_file", raw.ca_file.is_some(), mqtt, "only kind \"mqtt\" has certificates"),
            ("source.cert_file", raw.cert_file.is_some(), mqtt, "only kind \"mqtt\" has certificates"),
            ("source.key_file", raw.key_file.is_some(), mqtt, "only kind \"mqtt\" has certificates"),
            ("source.rate_hz", raw.rate_hz.is_some(), paced, "requests and messages come when they come"),
            (
                "source.id",
                raw.id.is_some(),
                file || piped || mqtt,
                "samples of kind \"http\" are named by the request's id, those of \"system\" and \"pumps\" are numbered",
            ),
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
        let speed = raw.speed.unwrap_or(1.0);
        if !(speed > 0.0 && speed <= SPEED_MAX) {
            return self.wrong("source.speed", speed, &format!("use a number above 0 and up to {SPEED_MAX}"));
        }
        let replay = raw.time.clone().map(|time| Replay { time, speed });
        Ok(SourceKind::File { path, format, order, replay })
    }

    fn format(&self, raw: Option<&str>) -> Result<Format, ConfigError> {
        match raw {
            None | Some("ndjson") => Ok(Format::Ndjson),
            Some("csv") => Ok(Format::Csv),
            Some(other) => self.wrong("source.format", other, "use \"csv\" or \"ndjson\""),
        }
    }

    fn http(&self, raw: &RawSource) -> Result<SourceKind, ConfigError> {
        let text = raw.listen.as_deref().unwrap_or("127.0.0.1:8700");
        let listen = match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Listen::Unix(path.into()),
            _ => match text.parse() {
                Ok(address) => Listen::Tcp(address),
                Err(_) => {
                    let wanted = "use an address with a port such as \"127.0.0.1:8700\", or \"unix:/run/driftline-agent/model.sock\"";
                    return self.wrong("source.listen", text, wanted);
                }
            },
        };
        if let Listen::Tcp(address) = &listen
            && !address.ip().is_loopback()
            && raw.token_file.is_none()
        {
            let wanted = "give source.token_file too, or an address of this device alone such as \"127.0.0.1:8700\"";
            return self.wrong("source.listen", text, wanted);
        }
        let deadline = raw.deadline.as_deref().unwrap_or("1s");
        let Some(deadline_ms) = milliseconds(deadline).filter(|ms| (1..=DEADLINE_MS_MAX).contains(ms)) else {
            return self.wrong("source.deadline", deadline, "use a time from \"1ms\" to \"60s\"");
        };
        Ok(SourceKind::Http { listen, deadline_ms, token_file: raw.token_file.clone() })
    }

    fn mqtt_topic(&self, raw: &RawSource) -> Result<SourceKind, ConfigError> {
        let topic = raw.topic.clone().unwrap_or_default();
        if topic.is_empty() || topic.len() > 512 || topic.contains('\0') || topic.starts_with("dl/") {
            let wanted = "give a topic or a filter with + and #, but none of Driftline's own below dl/";
            return self.wrong("source.topic", topic, wanted);
        }
        let RawSource { host, port, username, password_file, ca_file, cert_file, key_file, .. } = raw.clone();
        let host = host.unwrap_or_else(|| "127.0.0.1".into());
        let broker = RawBroker { host, port, username, password_file, ca_file, cert_file, key_file };
        Ok(SourceKind::Mqtt { topic, broker: self.broker("source", broker)? })
    }

    fn fault(&self, raw: Option<String>) -> Result<Option<u64>, ConfigError> {
        let Some(text) = raw else { return Ok(None) };
        match milliseconds(&text) {
            Some(ms) => Ok(Some(ms)),
            None => self.wrong("source.fault_after", text, "use a time such as \"30s\" or \"5m\""),
        }
    }
}
