//! The connection to an external broker (Mosquitto, EMQX, HiveMQ, …), on rumqttc.
//!
//! The broker is pure routing: devices keep every frame until the collector acknowledges it on their command topic, so a clean session
//! and a plain subscription are enough. The PUBACK to the broker still waits for the commit, which makes the broker slow down with the
//! collector. A client lives for one connection (see the agent's link for why).

use super::transport::{Incoming, Outgoing};
use crate::config::ClientTls;
use driftline_shared::units::Name;
use driftline_shared::wire::FRAME_BYTES_MAX;
use driftline_shared::wire::topic::{HostTopic, Leaf};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, LastWill, Packet, Publish, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Wait after a failure, before jitter: first and longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Connection, CONNACK and SUBACK must be there within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Keep-alive towards the broker.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests inside rumqttc.
const REQUESTS_MAX: usize = 256;
/// QoS 1 messages from the broker that wait for their commit; the broker holds back the rest.
const RECEIVE_MAX: u16 = 1000;
/// Room for topic and properties beside the largest frame.
const PACKET_OVERHEAD: u32 = 1024;

/// A password: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Which broker, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Client id.
    pub client_id: String,
    /// User name, when the broker wants one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Certificates, when the broker wants TLS.
    pub tls: Option<ClientTls>,
    /// The fleet whose topics are read.
    pub fleet: Name,
    /// What the broker says on the host topic when this connection breaks.
    pub will: Vec<u8>,
}

/// Runs until `shutdown` completes. Connects again for ever; says so in the log.
pub async fn run(
    config: Config,
    incoming: mpsc::Sender<Incoming>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    shutdown: impl Future<Output = ()> + Send,
) {
    tokio::pin!(shutdown);
    let mut failures = 0u32;
    // Retained messages are the collector's state; a broker that lost them gets them again.
    let mut retained: Vec<Outgoing> = Vec::new();
    loop {
        let since = Instant::now();
        let ended = tokio::select! {
            ended = connection(&config, &incoming, &mut outgoing, &mut retained) => ended,
            () = &mut shutdown => return,
        };
        let Err(reason) = ended else { return };
        failures = if since.elapsed() > BACKOFF.1 { 1 } else { failures.saturating_add(1) };
        let ceiling = BACKOFF.0.saturating_mul(1 << failures.min(10)).min(BACKOFF.1);
        let wait = ceiling.mul_f64(getrandom::u32().map_or(0.5, |r| f64::from(r) / f64::from(u32::MAX)));
        tracing::warn!(broker = format!("{}:{}", config.host, config.port), reason, "no MQTT broker; trying again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = &mut shutdown => return,
        }
    }
}

async fn connection(
    config: &Config,
    incoming: &mpsc::Sender<Incoming>,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    retained: &mut Vec<Outgoing>,
) -> Result<(), String> {
    let (client, mut broker) = AsyncClient::new(options(config)?, REQUESTS_MAX);
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, subscribed(config, &client, &mut broker));
    connected.await.map_err(|_| "it does not answer".to_owned())??;
    tracing::info!(broker = format!("{}:{}", config.host, config.port), "connected to the MQTT broker");
    let mut waiting: Option<Outgoing> = None;
    let mut again: Vec<Outgoing> = retained.clone();
    let mut stored = FuturesUnordered::new();
    loop {
        tokio::select! {
            event = broker.poll() => match event.map_err(|e| e.to_string())? {
                Event::Incoming(Packet::Publish(publish)) => {
                    let (done, committed) = oneshot::channel();
                    if let Some(message) = message(&publish, done)
                        && incoming.send(message).await.is_err()
                    {
                        return Ok(());
                    }
                    stored.push(async move { committed.await.ok().map(|()| publish) });
                }
                Event::Incoming(Packet::Disconnect(d)) => return Err(format!("it closed the connection ({:?})", d.reason_code)),
                _ => {}
            },
            // What could not be stored is not acknowledged; the device sends it again anyway.
            Some(publish) = stored.next(), if !stored.is_empty() => {
                if let Some(publish) = publish.filter(|p| p.qos != QoS::AtMostOnce) {
                    // A full queue only delays the acknowledgement until the connection's end.
                    let _ = client.try_ack(&publish);
                }
            }
            message = outgoing.recv(), if waiting.is_none() && again.is_empty() => match message {
                Some(message) => {
                    if message.retain {
                        retained.retain(|r| r.topic != message.topic);
                        retained.push(message.clone());
                    }
                    waiting = try_publish(&client, message);
                }
                None => {
                    if client.try_disconnect().is_ok() {
                        let gone = async { while broker.poll().await.is_ok() {} };
                        let _ = tokio::time::timeout(Duration::from_millis(500), gone).await;
                    }
                    return Ok(());
                }
            },
        }
        if let Some(message) = waiting.take().or_else(|| again.pop()) {
            waiting = try_publish(&client, message);
        }
    }
}

/// A message for the collector; `None` (and its sender dropped) when the topic is no text.
fn message(publish: &Publish, done: oneshot::Sender<()>) -> Option<Incoming> {
    let topic = String::from_utf8(publish.topic.to_vec()).ok()?;
    Some(Incoming { topic, payload: publish.payload.clone(), client: None, done })
}

async fn subscribed(config: &Config, client: &AsyncClient, broker: &mut EventLoop) -> Result<(), String> {
    loop {
        match broker.poll().await.map_err(|e| e.to_string())? {
            Event::Incoming(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => {
                let filter =
                    |leaf: Leaf| Filter::new(format!("dl/1/{}/+/+/{}", config.fleet, leaf.as_str()), QoS::AtLeastOnce);
                client.try_subscribe_many(Leaf::FROM_DEVICE.into_iter().map(filter)).map_err(|e| e.to_string())?;
            }
            Event::Incoming(Packet::ConnAck(ack)) => return Err(format!("it refused: {:?}", ack.code)),
            Event::Incoming(Packet::SubAck(ack)) => {
                let granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                let all = ack.return_codes.iter().all(granted);
                return if all {
                    Ok(())
                } else {
                    Err("it refused a subscription; give this user read rights on dl/1/<fleet>/#".into())
                };
            }
            _ => {}
        }
    }
}

fn try_publish(client: &AsyncClient, message: Outgoing) -> Option<Outgoing> {
    let qos = if message.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let sent = client.try_publish(message.topic.clone(), qos, message.retain, message.payload.clone());
    sent.is_err().then_some(message)
}

/// The certificates as they are now.
pub fn read_tls(files: &ClientTls) -> Result<TlsConfiguration, String> {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|e| e.to_string());
        let pem = bytes.and_then(|b| {
            if String::from_utf8_lossy(&b).contains("-----BEGIN ") { Ok(b) } else { Err("it is no PEM file".into()) }
        });
        pem.map_err(|e| format!("{} cannot be used ({e}): give a PEM file that this user may read", path.display()))
    };
    let client_auth = files.own.as_ref().map(|(cert, key)| Ok::<_, String>((read(cert)?, read(key)?))).transpose()?;
    Ok(TlsConfiguration::Simple { ca: read(&files.ca_file)?, alpn: None, client_auth })
}

fn options(config: &Config) -> Result<MqttOptions, String> {
    let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_clean_start(true);
    options.set_manual_acks(true);
    options.set_receive_maximum(Some(RECEIVE_MAX));
    options.set_max_packet_size(Some(FRAME_BYTES_MAX as u32 + PACKET_OVERHEAD));
    options.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    if let Some(username) = &config.username {
        options.set_credentials(username, config.password.as_ref().map_or("", |p| p.0.as_str()));
    }
    let host = HostTopic(&config.fleet).to_string();
    options.set_last_will(LastWill::new(host, config.will.clone(), QoS::AtLeastOnce, true, None));
    if let Some(tls) = &config.tls {
        options.set_transport(Transport::tls_with_config(read_tls(tls)?));
    }
    Ok(options)
}
