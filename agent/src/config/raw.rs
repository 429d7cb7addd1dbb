//! The file as it is written, before anything is checked.

use serde::Deserialize;
use std::path::PathBuf;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) agent: RawAgent,
    pub(super) mqtt: RawMqtt,
    #[serde(default)]
    pub(super) model: RawModel,
    pub(super) source: RawSource,
    #[serde(default)]
    pub(super) window: RawWindow,
    #[serde(default)]
    pub(super) trial: RawTrial,
    #[serde(default)]
    pub(super) spool: RawSpool,
    #[serde(default)]
    pub(super) labels: RawLabels,
    #[serde(default)]
    pub(super) evidence: RawEvidence,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvidence {
    pub(super) samples: Option<u32>,
    pub(super) per_day: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    pub(super) device: String,
    pub(super) fleet: Option<String>,
    pub(super) data_dir: PathBuf,
    #[serde(default)]
    pub(super) labels: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMqtt {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) keep_alive: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) bundle: Option<PathBuf>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    pub(super) kind: String,
    pub(super) path: Option<PathBuf>,
    pub(super) format: Option<String>,
    pub(super) rate_hz: Option<f64>,
    #[serde(rename = "loop")]
    pub(super) repeat: Option<bool>,
    pub(super) label: Option<String>,
    pub(super) id: Option<String>,
    pub(super) order: Option<String>,
    pub(super) seed: Option<u64>,
    pub(super) fault_after: Option<String>,
    pub(super) time: Option<String>,
    pub(super) speed: Option<f64>,
    pub(super) command: Option<Vec<String>>,
    pub(super) listen: Option<String>,
    pub(super) deadline: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) topic: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
}

/// The keys of a broker, which several sections have.
pub(super) struct RawBroker {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWindow {
    pub(super) samples_max: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrial {
    pub(super) samples: Option<u32>,
    pub(super) commit_samples: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpool {
    pub(super) frames_max: Option<u32>,
    pub(super) samples_kb: Option<u32>,
    pub(super) truth_kb: Option<u32>,
    pub(super) embeddings_kb: Option<u32>,
    pub(super) commit_ms: Option<u32>,
    pub(super) free_mb: Option<u32>,
    pub(super) drain: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLabels {
    pub(super) samples_max: Option<u32>,
}
