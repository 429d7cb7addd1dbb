//! From the file as it is written to values the rest can trust, or one sentence about the first mistake.

use super::raw::*;
use super::*;
use crate::{evidence, labels};
use driftline_shared::list::Text;

/// toml's message with what to do about it.
pub(super) fn toml_sentence(message: &str) -> String {
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
pub(super) fn milliseconds(text: &str) -> Option<u64> {
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

pub(super) struct Checker<'a> {
    pub(super) path: &'a str,
}

impl Checker<'_> {
    pub(super) fn wrong<T>(&self, key: &str, found: impl std::fmt::Debug, wanted: &str) -> Result<T, ConfigError> {
        Err(ConfigError::Value {
            path: self.path.into(),
            key: key.into(),
            found: format!("{found:?}"),
            wanted: wanted.into(),
        })
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

    pub(super) fn config(&self, raw: RawConfig) -> Result<Config, ConfigError> {
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
            spool: self.spool(raw.spool)?,
            evidence: self.evidence(raw.evidence)?,
            labels_samples_max: self.between(
                "labels.samples_max",
                raw.labels.samples_max.unwrap_or(labels::SAMPLES_DEFAULT),
                1,
                labels::SAMPLES_MAX,
            )?,
        })
    }

    fn evidence(&self, raw: RawEvidence) -> Result<Policy, ConfigError> {
        let default = Policy::default();
        let samples = raw.samples.unwrap_or(default.samples);
        Ok(Policy {
            samples: self.between("evidence.samples", samples, 0, evidence::SAMPLES_MAX)?,
            per_day: self.between(
                "evidence.per_day",
                raw.per_day.unwrap_or(default.per_day),
                1,
                evidence::SAMPLES_MAX,
            )?,
        })
    }

    fn spool(&self, raw: RawSpool) -> Result<SpoolConfig, ConfigError> {
        let default = SpoolConfig::default();
        let bytes = |key, kb: Option<u32>, default: u64| match kb {
            Some(kb) => self.between(key, kb, SPOOL_KB.0, SPOOL_KB.1).map(|kb| u64::from(kb) << 10),
            None => Ok(default),
        };
        let frames = raw.frames_max.unwrap_or(default.room.frames);
        Ok(SpoolConfig {
            room: Room {
                frames: self.between("spool.frames_max", frames, SPOOL_FRAMES_MIN, SPOOL_FRAMES_MAX)?,
                samples: bytes("spool.samples_kb", raw.samples_kb, default.room.samples)?,
                truth: bytes("spool.truth_kb", raw.truth_kb, default.room.truth)?,
                embeddings: bytes("spool.embeddings_kb", raw.embeddings_kb, default.room.embeddings)?,
            },
            commit_ms: self.between(
                "spool.commit_ms",
                raw.commit_ms.unwrap_or(default.commit_ms),
                1,
                SPOOL_COMMIT_MS_MAX,
            )?,
            free_mb: self.between("spool.free_mb", raw.free_mb.unwrap_or(default.free_mb), 0, SPOOL_FREE_MB_MAX)?,
            drain: match raw.drain.as_deref() {
                None | Some("backlog") => Drain::Backlog,
                Some("live") => Drain::Live,
                Some(other) => return self.wrong("spool.drain", other, "use \"backlog\" or \"live\""),
            },
        })
    }

    fn directory(&self, key: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
        if path.as_os_str().is_empty() { self.wrong(key, path, "give a directory") } else { Ok(path) }
    }

    fn labels(&self, raw: &std::collections::BTreeMap<String, String>) -> Result<List<Label, LABELS_MAX>, ConfigError> {
        let mut labels = List::default();
        for (key, value) in raw {
            let name = self.name("agent.labels", key)?;
            let Some(text) = Text::whole(value).filter(|_| !value.is_empty() && !value.contains(char::is_control))
            else {
                return self.wrong("agent.labels", value, "use 1 to 64 bytes of text");
            };
            if labels.push((name, text)).is_err() {
                return self.wrong("agent.labels", raw.len(), &format!("give at most {LABELS_MAX} labels"));
            }
        }
        Ok(labels)
    }

    fn mqtt(&self, raw: RawMqtt) -> Result<MqttConfig, ConfigError> {
        let keep_alive = raw.keep_alive.unwrap_or("30s".into());
        let Some(keep_alive_s) =
            milliseconds(&keep_alive).filter(|ms| (5_000..=3_600_000).contains(ms)).map(|ms| (ms / 1000) as u16)
        else {
            return self.wrong("mqtt.keep_alive", keep_alive, "use a time from \"5s\" to \"1h\"");
        };
        let RawMqtt { host, port, username, password_file, ca_file, cert_file, key_file, .. } = raw;
        let broker = RawBroker { host, port, username, password_file, ca_file, cert_file, key_file };
        Ok(MqttConfig { broker: self.broker("mqtt", broker)?, keep_alive_s })
    }

    /// The broker that a section names.
    pub(super) fn broker(&self, section: &str, raw: RawBroker) -> Result<Broker, ConfigError> {
        let key = |name: &str| format!("{section}.{name}");
        if raw.host.is_empty() || raw.host.contains(|c: char| c.is_whitespace() || c == '/') {
            return self.wrong(&key("host"), raw.host, "give a host name or address, without scheme or path");
        }
        if raw.port == Some(0) {
            return self.wrong(&key("port"), 0, "use a port from 1 to 65535");
        }
        if raw.password_file.is_some() && raw.username.is_none() {
            return self.wrong(&key("password_file"), raw.password_file, &format!("give {section}.username too"));
        }
        let own = match (raw.cert_file, raw.key_file) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return self.wrong(&key("key_file"), "missing", "give the certificate's key too"),
            (None, Some(_)) => return self.wrong(&key("cert_file"), "missing", "give the key's certificate too"),
        };
        let tls = match raw.ca_file {
            Some(ca_file) => Some(TlsConfig { ca_file, own }),
            None if own.is_some() => {
                let wanted = "give the authority that signed the broker's certificate";
                return self.wrong(&key("ca_file"), "missing", wanted);
            }
            None => None,
        };
        let port = raw.port.unwrap_or(if tls.is_some() { 8883 } else { 1883 });
        Ok(Broker { host: raw.host, port, username: raw.username, password_file: raw.password_file, tls })
    }
}
