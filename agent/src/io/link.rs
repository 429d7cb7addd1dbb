//! What the MQTT link is told of this agent: where to connect, as whom, what to subscribe to, and its last will.

use super::mqtt::{self, LinkConfig, LinkEvent, LinkPublish, Secret, Tls, Will};
use super::report::Counters;
use super::start::StartError;
use super::tls;
use crate::agent::{self, Agent};
use crate::config::{Broker, Config};
use driftline_shared::wire::FRAME_BYTES_MAX;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Starts the link; `first` numbers its first connection. It ends when `publishes` is closed.
pub(crate) fn start(
    config: &Config,
    agent: &Agent,
    first: u64,
    publishes: mpsc::Receiver<LinkPublish>,
    events: mpsc::Sender<LinkEvent>,
    beat: Arc<Counters>,
) -> Result<tokio::task::JoinHandle<()>, StartError> {
    let (fleet, device) = (config.fleet.clone(), config.device.clone());
    let (broker, keep_alive_s) = (config.mqtt.broker.clone(), config.mqtt.keep_alive_s);
    let (password, mut tls) = credentials(&broker)?;
    let subscribe: Vec<String> = agent.subscriptions().map(ToOwned::to_owned).into();
    let link = move |connection| {
        let death = agent::death(&fleet, &device, connection);
        // Renewed certificates count from the next connection on; while they cannot be read, the last ones do.
        match broker.tls.as_ref().map(tls::client) {
            Some(Ok(read)) => tls = Some(Tls(read)),
            Some(Err(error)) => tracing::warn!("the certificates of before are used: {error}"),
            None => {}
        }
        LinkConfig {
            host: broker.host.clone(),
            port: broker.port,
            client_id: device.to_string(),
            username: broker.username.clone(),
            password: password.clone(),
            tls: tls.clone(),
            keep_alive_s,
            payload_bytes_max: FRAME_BYTES_MAX as u32,
            will: Will { topic: death.topic, payload: death.payload },
            subscribe: subscribe.clone(),
        }
    };
    Ok(tokio::spawn(mqtt::run(first, link, publishes, events, beat)))
}

/// Password and certificates, read from their files.
pub(crate) fn credentials(broker: &Broker) -> Result<(Option<Secret>, Option<Tls>), StartError> {
    let password = broker.password_file.as_deref().map(password).transpose()?;
    let tls = broker.tls.as_ref().map(tls::client).transpose()?.map(Tls);
    Ok((password, tls))
}

/// The first line of a password file.
fn password(path: &Path) -> Result<Secret, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::Password { path: path.display().to_string(), source })?;
    Ok(Secret(text.lines().next().unwrap_or_default().to_owned()))
}
