//! What the MQTT link is told of this agent: where to connect, as whom, what to subscribe to, and its last will.

use super::mqtt::{self, LinkConfig, LinkEvent, LinkPublish, Secret, Will};
use super::start::StartError;
use crate::agent::{self, Agent};
use crate::config::Config;
use driftline_shared::wire::FRAME_BYTES_MAX;
use std::path::Path;
use tokio::sync::mpsc;

/// Starts the link; `first` numbers its first connection. It ends when `publishes` is closed.
pub(crate) fn start(
    config: &Config,
    agent: &Agent,
    first: u64,
    publishes: mpsc::Receiver<LinkPublish>,
    events: mpsc::Sender<LinkEvent>,
) -> Result<tokio::task::JoinHandle<()>, StartError> {
    let (fleet, device) = (config.fleet.clone(), config.device.clone());
    let mqtt = config.mqtt.clone();
    let password = mqtt.password_file.as_deref().map(password).transpose()?;
    let subscribe: Vec<String> = agent.subscriptions().map(ToOwned::to_owned).into();
    let link = move |connection| {
        let death = agent::death(&fleet, &device, connection);
        LinkConfig {
            host: mqtt.host.clone(),
            port: mqtt.port,
            client_id: device.to_string(),
            username: mqtt.username.clone(),
            password: password.clone(),
            keep_alive_s: mqtt.keep_alive_s,
            payload_bytes_max: FRAME_BYTES_MAX as u32,
            will: Will { topic: death.topic, payload: death.payload },
            subscribe: subscribe.clone(),
        }
    };
    Ok(tokio::spawn(mqtt::run(first, link, publishes, events)))
}

/// The first line of a password file.
fn password(path: &Path) -> Result<Secret, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::Password { path: path.display().to_string(), source })?;
    Ok(Secret(text.lines().next().unwrap_or_default().to_owned()))
}
