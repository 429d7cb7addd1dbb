//! The collector's configuration: TOML as people write it, checked once. Every default stands here.

use crate::collector::Settings;
use crate::detect::budget::Budget;
use crate::rollout::plan::Policy;
use driftline_shared::units::Name;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a configuration is refused; one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key or a value of another type.
    #[error("{path} line {line}: {message}")]
    Toml {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A value that cannot be.
    #[error("{path}: {key} is {found}; {wanted}")]
    Value {
        /// The file.
        path: String,
        /// Which key.
        key: &'static str,
        /// What it says.
        found: String,
        /// What it may say.
        wanted: &'static str,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    fleet: Option<String>,
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    token_file: Option<PathBuf>,
    cohort_label: Option<String>,
    false_alarms_per_month: Option<f64>,
    grace: Option<String>,
    mqtt: RawMqtt,
    rollout: RawRollout,
    influxdb: Option<Influx>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMqtt {
    embedded: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRollout {
    stages: Option<Vec<u32>>,
    failure_limit_percent: Option<u32>,
    soak: Option<String>,
    timeout: Option<String>,
}

/// Where merged windows are exported to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Influx {
    /// Base URL of a server of the InfluxDB 2 write API.
    pub url: String,
    /// Organisation.
    pub org: String,
    /// Bucket.
    pub bucket: String,
    /// File whose first line is the token.
    pub token_file: Option<PathBuf>,
}

/// Which broker carries the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mqtt {
    /// Our own, at this address.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
        /// Its certificates; without them whoever reaches it can read along.
        tls: Option<BrokerTls>,
    },
    /// Somebody else's.
    External {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// User name.
        username: Option<String>,
        /// File whose first line is the password.
        password_file: Option<PathBuf>,
        /// Certificates, when the broker wants TLS.
        tls: Option<ClientTls>,
    },
}

/// Files for TLS to somebody else's broker, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Certificates of the authority that signed the broker's.
    pub ca_file: PathBuf,
    /// The collector's certificate and private key, when the broker wants one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Files for the TLS of our own broker, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerTls {
    /// Its certificate, with what stands between that and the authority.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Certificates of the authority that devices' certificates must be signed by; without it devices need none.
    pub ca_file: Option<PathBuf>,
}

impl Mqtt {
    fn embedded(listen: SocketAddr) -> Self {
        Self::Embedded { listen, tls: None }
    }
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the state machine is set to.
    pub settings: Settings,
    /// Database and bundle files.
    pub data_dir: PathBuf,
    /// Dashboard and API.
    pub listen: SocketAddr,
    /// File with the token that API clients must show; needed when `listen` is no loopback address.
    pub token_file: Option<PathBuf>,
    /// Broker.
    pub mqtt: Mqtt,
    /// Export.
    pub influxdb: Option<Influx>,
    /// Serve the dashboard from this folder instead of the built-in one.
    pub ui_dir: Option<PathBuf>,
}

impl Config {
    /// Parses a file's text; an empty text gives the defaults.
    pub fn parse(path: &str, text: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            ConfigError::Toml { path: path.into(), line, message: e.message().replace('\n', " ") }
        })?;
        let bad = |key, found: &dyn std::fmt::Display, wanted| ConfigError::Value {
            path: path.into(),
            key,
            found: found.to_string(),
            wanted,
        };
        let fleet = raw.fleet.unwrap_or_else(|| "default".into());
        let fleet = Name::new(&fleet).map_err(|_| bad("fleet", &fleet, "use 1 to 64 of A-Z a-z 0-9 . _ -"))?;
        let mut settings = Settings::new(fleet);
        settings.cohort_label = raw.cohort_label.unwrap_or(settings.cohort_label);
        if let Some(budget) = raw.false_alarms_per_month {
            if !(budget > 0.0 && budget <= 10_000.0) {
                return Err(bad("false_alarms_per_month", &budget, "use a number above 0, such as 1"));
            }
            settings.budget = Budget { false_alarms_per_month: budget };
        }
        let duration = |key, text: &Option<String>| -> Result<Option<u64>, ConfigError> {
            let Some(text) = text else { return Ok(None) };
            duration_ms(text)
                .map(Some)
                .ok_or_else(|| bad(key, text, "write a duration such as 500ms, 90s, 10min, 6h or 2d"))
        };
        settings.grace_ms = duration("grace", &raw.grace)?;
        let policy = &mut settings.rollout;
        policy.soak_ms = duration("rollout.soak", &raw.rollout.soak)?.unwrap_or(policy.soak_ms);
        policy.timeout_ms = duration("rollout.timeout", &raw.rollout.timeout)?.unwrap_or(policy.timeout_ms);
        policy.stages = raw.rollout.stages.unwrap_or_else(|| Policy::default().stages);
        policy.failure_limit_percent = raw.rollout.failure_limit_percent.unwrap_or(policy.failure_limit_percent);
        policy.check().map_err(|why| bad("rollout", &why, "change it under [rollout]"))?;
        let listen = raw.listen.unwrap_or_else(|| "127.0.0.1:8600".into());
        let address = |key, text: &String| {
            text.parse().map_err(|_| bad(key, text, "write an address and port, such as 127.0.0.1:8600"))
        };
        let listen: SocketAddr = address("listen", &listen)?;
        let token_file = raw.token_file;
        let (ca_file, pair) = (raw.mqtt.ca_file, (raw.mqtt.cert_file, raw.mqtt.key_file));
        let own = match pair {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(bad("mqtt.key_file", &"missing", "give the certificate's key too")),
            (None, Some(_)) => return Err(bad("mqtt.cert_file", &"missing", "give the key's certificate too")),
        };
        let mqtt = match (raw.mqtt.embedded, raw.mqtt.host) {
            (Some(embedded), None) => {
                let listen: SocketAddr = address("mqtt.embedded", &embedded)?;
                if own.is_none() && ca_file.is_some() {
                    return Err(bad("mqtt.cert_file", &"missing", "give the broker's own certificate and key too"));
                }
                let tls = own.map(|(cert_file, key_file)| BrokerTls { cert_file, key_file, ca_file });
                Mqtt::Embedded { listen, tls }
            }
            (None, Some(host)) => {
                if own.is_some() && ca_file.is_none() {
                    return Err(bad(
                        "mqtt.ca_file",
                        &"missing",
                        "give the authority that signed the broker's certificate",
                    ));
                }
                let tls = ca_file.map(|ca_file| ClientTls { ca_file, own });
                Mqtt::External {
                    host,
                    port: raw.mqtt.port.unwrap_or(if tls.is_some() { 8883 } else { 1883 }),
                    username: raw.mqtt.username,
                    password_file: raw.mqtt.password_file,
                    tls,
                }
            }
            (None, None) => Mqtt::embedded(SocketAddr::from(([127, 0, 0, 1], 1883))),
            (Some(_), Some(host)) => return Err(bad("mqtt.host", &host, "choose either embedded or host, not both")),
        };
        if raw.influxdb.is_some() && !cfg!(feature = "influxdb") {
            return Err(bad("influxdb", &"set", "this program was built without it: build with --features influxdb"));
        }
        let data_dir = raw.data_dir.unwrap_or_else(|| "driftline-data".into());
        let config = Self { settings, data_dir, listen, token_file, mqtt, influxdb: raw.influxdb, ui_dir: None };
        config.check(path)?;
        Ok(config)
    }

    /// What must hold of the whole, again after an option has changed a part.
    pub fn check(&self, path: &str) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() || self.token_file.is_some() {
            return Ok(());
        }
        let wanted = "others could then control the fleet: name a token_file, or listen on 127.0.0.1";
        Err(ConfigError::Value { path: path.into(), key: "listen", found: self.listen.to_string(), wanted })
    }
}

/// `500ms`, `90s`, `10min`, `6h` or `2d` in milliseconds, at most 400 days.
pub fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale).filter(|ms| *ms <= 400 * 86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse("c.toml", text).expect_err("a mistake").to_string()
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = Config::parse("c.toml", "").expect("defaults");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8600");
        assert_eq!(config.mqtt, Mqtt::embedded("127.0.0.1:1883".parse().expect("an address")));
    }

    #[test]
    fn mistakes_say_what_where_and_what_to_do() {
        assert!(error("fleet = \"f\"\nlisen = \"x\"").starts_with("c.toml line 2: unknown field `lisen`"));
        assert_eq!(
            error("false_alarms_per_month = 0.0"),
            "c.toml: false_alarms_per_month is 0; use a number above 0, such as 1"
        );
        assert!(error("listen = \"0.0.0.0:8600\"").contains("name a token_file"));
        assert!(error("grace = \"soon\"").contains("write a duration such as 500ms"));
        assert!(error("[mqtt]\nembedded = \"127.0.0.1:1\"\nhost = \"b\"").contains("not both"));
        assert!(error("[mqtt]\nembedded = \"127.0.0.1:1\"\nca_file = \"c\"").contains("own certificate and key"));
        assert!(error("[mqtt]\nhost = \"h\"\ncert_file = \"c\"").contains("the certificate's key too"));
        assert!(error("[rollout]\nstages = [50]").contains("the last stage must be 100 percent"));
    }
}
